//! What a replay reads: outputs of any format, which any program may have written.

use bitproof_audit::{compare, Comparison, Difference};
use bitproof_scheduler::command::ReplayMode;

/// Two bytes say how long the recorded content is; then both contents. Taken when they are identical or within 1 %.
pub(super) fn comparison(bytes: &[u8]) -> bool {
    let Some((length, contents)) = bytes.split_first_chunk::<2>() else { return false };
    let length = usize::from(u16::from_le_bytes(*length));
    let Some((recorded, replayed)) = contents.split_at_checked(length) else { return false };
    let tolerance = ReplayMode::Tolerance { rtol: 0.01f64.to_bits(), atol: 0 };
    for (a, b) in [(recorded, replayed), (replayed, recorded)] {
        let exact = compare(a, b, &ReplayMode::Bits);
        assert_eq!(exact == Comparison::Identical, a == b);
        assert!(!matches!(exact, Comparison::Within(_)), "bits know no tolerance");
        if let Comparison::Diverged(difference) = exact {
            assert!(!difference.to_string().is_empty());
        }
    }
    match compare(recorded, replayed, &tolerance) {
        Comparison::Identical => recorded == replayed,
        Comparison::Within(within) => {
            assert_ne!(recorded, replayed);
            let largest = within.relative.map_or(0.0, |deviation| deviation.value);
            assert!(largest <= 0.01 * (1.0 + 1e-9), "{largest} is beyond the tolerance");
            true
        }
        Comparison::Diverged(
            Difference::Code { .. } | Difference::Outcome { .. } | Difference::File { .. },
        ) => {
            panic!("two contents have neither code nor files")
        }
        Comparison::Diverged(_) => false,
    }
}

//! What holds for every format, and what the tests of each share.

use proptest::prelude::*;

use super::*;

pub(super) fn tolerance(rtol: f64, atol: f64) -> ReplayMode {
    ReplayMode::Tolerance { rtol: rtol.to_bits(), atol: atol.to_bits() }
}

/// The difference under bits.
pub(super) fn bits(recorded: &[u8], replayed: &[u8]) -> Difference {
    match compare(recorded, replayed, &ReplayMode::Bits) {
        Comparison::Diverged(difference) => difference,
        other => panic!("{other:?}"),
    }
}

pub(super) fn within(recorded: &[u8], replayed: &[u8], rtol: f64, atol: f64) -> Within {
    match compare(recorded, replayed, &tolerance(rtol, atol)) {
        Comparison::Within(found) => found,
        other => panic!("{other:?}"),
    }
}

/// The place of a value that differs.
pub(super) fn value(difference: Difference) -> Place {
    match difference {
        Difference::Value { place, .. } => place,
        other => panic!("{other:?}"),
    }
}

/// Only bytes are known to differ.
pub(super) fn assert_bytes(comparison: Comparison, what: &str) {
    assert!(matches!(comparison, Comparison::Diverged(Difference::Bytes { .. })), "{what}: {comparison:?}");
}

/// A content of each format.
fn contents() -> Vec<(&'static str, Vec<u8>)> {
    let mut metrics = bitproof_experiment_graph::MetricSet::default();
    metrics.push("train/loss", 3, 0.5);
    let raw = [0x3f; 8];
    let tensors: [(&str, &str, &[u64], &[u8]); 2] = [("w", "F32", &[2], &raw), ("n", "I64", &[], &raw)];
    vec![
        ("safetensors", safetensors::tests::file(&[("format", "pt")], &tensors)),
        ("npy", npy::tests::array("<f8", false, "(1,)", &[0x3f; 8])),
        ("metrics", metrics.to_json()),
        ("json", br#"{"epochs":[{"loss":0.5},{"loss":0.25}],"ok":true}"#.to_vec()),
        ("lines", b"{\"loss\":0.5}\n{\"loss\":0.25}\n".to_vec()),
        ("csv", b"step,loss\n1,0.5\n2,0.25\n".to_vec()),
        ("text", "It is a text.\nWith an é.\n".as_bytes().to_vec()),
        ("bytes", vec![0, 255, 7, 3]),
    ]
}

#[test]
fn every_flipped_bit_is_found_from_either_side() {
    let (none, wide) = (tolerance(0.0, 0.0), tolerance(1e300, f64::MAX));
    for (name, content) in contents() {
        for bit in 0..content.len() * 8 {
            let mut other = content.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            for (a, b) in [(&content, &other), (&other, &content)] {
                let (Difference::Bytes { at, .. }
                | Difference::Value { at, .. }
                | Difference::Tensor { at, .. }) = bits(a, b)
                else {
                    panic!("{name}: bit {bit}")
                };
                assert_eq!(at.byte, bit as u64 / 8, "{name}");
            }
            assert_ne!(compare(&content, &other, &wide), Comparison::Identical, "{name}: bit {bit}");
            match compare(&content, &other, &none) {
                Comparison::Identical => panic!("{name}: bit {bit}"),
                Comparison::Within(found) => {
                    assert!(found.absolute.is_none_or(|d| d.value == 0.0), "{name}: bit {bit}");
                }
                Comparison::Diverged(_) => {}
            }
        }
    }
}

#[test]
fn a_flip_in_every_format_but_the_last_two_is_located_by_value() {
    for (name, content) in contents() {
        let located = (0..content.len() * 8).any(|bit| {
            let mut other = content.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            matches!(bits(&content, &other), Difference::Value { .. })
        });
        assert_eq!(located, !matches!(name, "text" | "bytes"), "{name}");
    }
}

proptest! {
    #[test]
    fn anything_is_identical_to_itself_and_to_nothing_else(
        a in prop::collection::vec(any::<u8>(), 0..200),
        b in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for mode in [ReplayMode::Bits, ReplayMode::Record, tolerance(0.1, 0.1)] {
            prop_assert_eq!(compare(&a, &a.clone(), &mode), Comparison::Identical);
            prop_assert_eq!(compare(&a, &b, &mode) == Comparison::Identical, a == b);
        }
    }

    /// Over f64 arrays as JSON and as CSV: the outcome is that of the formula, and both formats agree.
    #[test]
    fn the_outcome_is_that_of_the_formula(
        pairs in prop::collection::vec((-1e3f64..1e3, -1.0f64..1.0), 1..20),
        rtol in 0.0f64..1e-3,
        atol in 0.0f64..1e-1,
    ) {
        let then: Vec<f64> = pairs.iter().map(|(x, _)| *x).collect();
        let now: Vec<f64> = pairs.iter().map(|(x, d)| x + d * 0.05).collect();
        let close = |(x, y): (&f64, &f64)| (y - x).abs() <= atol + rtol * x.abs();
        let expected = then.iter().zip(&now).position(|pair| !close(pair));
        let json = |values: &[f64]| format!("{values:?}").into_bytes();
        let csv = |values: &[f64]| values.iter().map(|x| format!("{x:?},x\n")).collect::<String>().into_bytes();
        let found = [
            compare(&json(&then), &json(&now), &tolerance(rtol, atol)),
            compare(&csv(&then), &csv(&now), &tolerance(rtol, atol)),
        ];
        for found in found {
            let beyond = match found {
                Comparison::Identical => None,
                Comparison::Within(within) => {
                    let differ = then.iter().zip(&now).filter(|(x, y)| x != y).count();
                    prop_assert_eq!(within.numbers, differ as u64);
                    None
                }
                Comparison::Diverged(difference) => match value(difference) {
                    Place::Json { pointer } => Some(pointer[1..].parse::<usize>().unwrap()),
                    Place::Cell { row, .. } => Some(row as usize - 1),
                    other => panic!("{other:?}"),
                },
            };
            prop_assert_eq!(beyond, expected);
        }
    }
}

//! Fused multiply-add: `a·b + c` with one rounding, by instruction or in software.

/// One way of computing `a·b + c` rounded once to nearest even. All ways give the same bits (NaN payloads excepted).
pub(crate) trait Fma {
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// The processor's instruction. Without the target feature this is a call of libm, forty times slower: use it only where
/// the feature is enabled.
#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) struct NativeFma;

#[cfg(any(test, target_arch = "x86_64", target_arch = "aarch64"))]
impl Fma for NativeFma {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// Scalar work whose fused operations are [`Fma`]'s.
pub(crate) trait Fused {
    /// Does it. `#[inline(always)]`.
    fn run<F: Fma>(self);
}

/// Runs scalar work with the processor's instruction where it has one.
pub(crate) fn fused<O: Fused>(op: O) {
    #[cfg(target_arch = "x86_64")]
    if let Err(op) = crate::x86::fma::run_if_available(op) {
        op.run::<SoftFma>();
    }
    #[cfg(target_arch = "aarch64")]
    op.run::<NativeFma>();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    op.run::<SoftFma>();
}

/// Exact in software, for processors without the instruction.
///
/// The product of two f32 is exact in f64 (48 bits, no underflow). [`sum_to_odd`] adds `c` so that the second rounding, to
/// f32, gives what one rounding of the exact value would have given.
pub(crate) struct SoftFma;

impl Fma for SoftFma {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        sum_to_odd(f64::from(a) * f64::from(b), f64::from(c)) as f32
    }
}

/// `x + y` rounded to odd: if the sum is inexact, of its two neighbours the one whose last bit is 1.
///
/// Such a value never lies on a tie of a format with at least two bits less, so rounding it again is innocuous (Boldo and
/// Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008). The error of
/// the sum is Knuth's TwoSum, exact for any order of magnitude.
#[inline(always)]
pub(super) fn sum_to_odd(x: f64, y: f64) -> f64 {
    let sum = x + y;
    let x_part = sum - y;
    let y_part = sum - x_part;
    let error = (x - x_part) + (y - y_part);
    // Infinities and NaN make the error NaN, which is neither above nor below zero: the sum stands.
    let inexact = u64::from((error > 0.0) | (error < 0.0));
    let outward = u64::from((error > 0.0) == (sum > 0.0));
    // Whether the last bit is even is a coin toss that no branch predictor wins, hence arithmetic.
    let bits = sum.to_bits();
    let step = inexact & !bits & 1;
    f64::from_bits(bits.wrapping_add(step & outward).wrapping_sub(step & !outward))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    #[test]
    fn signs_of_zero_infinities_and_edges() {
        let specials = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            f32::MAX,
            f32::MIN,
            f32::MIN_POSITIVE,
            -f32::MIN_POSITIVE,
            f32::from_bits(1),
            f32::from_bits(0x8000_0001),
            f32::from_bits(0x007f_ffff),
            f32::EPSILON,
            1.0 + f32::EPSILON,
            f32::from_bits(0x3f80_0001),
            0.5,
            3.0,
        ];
        for a in specials {
            for b in specials {
                for c in specials {
                    let (soft, native) = (SoftFma::fma(a, b, c), NativeFma::fma(a, b, c));
                    assert!(same(soft, native), "{a:e} * {b:e} + {c:e}: {soft:e} and {native:e}");
                }
            }
        }
    }

    /// Where the f64 sum falls on a tie, adding in f64 and rounding again is wrong: the negative control of this file.
    #[test]
    fn plain_double_rounding_would_fail() {
        let a = (1.0 + f32::EPSILON) * f32::EPSILON / 2.0;
        let (b, c) = (1.0 - f32::EPSILON, 1.0 + f32::EPSILON);
        let plain = (f64::from(a) * f64::from(b) + f64::from(c)) as f32;
        assert_eq!(NativeFma::fma(a, b, c), c);
        assert_eq!(SoftFma::fma(a, b, c), c);
        assert_ne!(plain, c);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 20000,
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn soft_is_native_on_any_bits(a: u32, b: u32, c: u32) {
            let (a, b, c) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
            prop_assert!(same(SoftFma::fma(a, b, c), NativeFma::fma(a, b, c)));
        }

        /// The addend lies near the product, so that cancellation and ties happen often.
        #[test]
        fn soft_is_native_near_cancellation(a: u32, b: u32, ulps in -4i32..4, scale in -30i32..30) {
            let (a, b) = (f32::from_bits(a), f32::from_bits(b));
            let product = (a * b).to_bits() as i32;
            let c = f32::from_bits((product ^ i32::MIN).wrapping_add(ulps).wrapping_add(scale << 23) as u32);
            prop_assert!(same(SoftFma::fma(a, b, c), NativeFma::fma(a, b, c)));
        }
    }
}

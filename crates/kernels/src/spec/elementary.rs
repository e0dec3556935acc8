//! Correctly rounded elementary functions on f32: the f32 nearest to the true value, ties to even, for every one of the
//! 2³² inputs. The definition has one answer, so any right implementation gives these bits.
//!
//! Plain f64 multiplications and additions, no fused ones: baseline processors give the same bits. The argument is reduced
//! as in Tang, "Table-driven implementation of the exponential function in IEEE floating-point arithmetic" (1989) and of the
//! logarithm (1990); the constants come from `scripts/fit_elementary.py`. `cargo run --release --example exhaustive exp`
//! compares all inputs with CORE-MATH (Sibidanov, Zimmermann, Glondu 2022).
//!
//! These functions assume round to nearest with denormals kept; see [`with_float_defaults`](crate::with_float_defaults).

use super::fma::sum_to_odd;
use super::tables::{EXPM1_Q, INV_LN2, LN2_HIGH, LN2_LOW, LOG1P_Q, LOG_HIGH, LOG_INVERSE, LOG_LOW};

/// `eˣ`, correctly rounded. Overflows to `+∞`, underflows through the denormals to `+0`; NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::exp;
/// assert_eq!(exp(1.0), std::f32::consts::E);
/// assert_eq!(exp(-104.0), 0.0);
/// ```
pub fn exp(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    // Beyond these the result is +0 or infinite in f32, while f64 still has room.
    exp64(f64::from(x.clamp(-110.0, 100.0))) as f32
}

/// `ln x`, correctly rounded. `ln ±0 = −∞`, `ln ∞ = ∞`; a negative number or NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::log;
/// assert_eq!(log(1.0).to_bits(), 0);
/// assert!(log(-1.0).is_nan());
/// ```
pub fn log(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x == f32::INFINITY {
        return x;
    }
    // To odd, since for five inputs the f64 sum falls on the middle between two f32.
    let (high, low) = log_parts(f64::from(x));
    sum_to_odd(high, low) as f32
}

/// `tanh x`, correctly rounded. Keeps the sign of zero; NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::tanh;
/// assert_eq!(tanh(-0.0).to_bits(), (-0.0_f32).to_bits());
/// assert_eq!(tanh(10.0), 1.0);
/// ```
pub fn tanh(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    // tanh |x| = e / (e + 2) with e = exp(2 |x|) − 1; from 10 on it is 1 in f32.
    let magnitude = f64::from(x.abs().min(10.0));
    let (scale, p) = exp_parts(magnitude + magnitude);
    let e = scale * p + (scale - 1.0);
    ((e / (e + 2.0)) as f32).copysign(x)
}

/// `eˣ` as this sequence of f64 operations, for `x` in [−700, 700]; not correctly rounded as an f64.
pub(crate) fn exp64(x: f64) -> f64 {
    let (scale, p) = exp_parts(x);
    scale * (1.0 + p)
}

/// `ln x` as this sequence of f64 operations, for positive finite normal `x`; not correctly rounded as an f64.
pub(crate) fn log64(x: f64) -> f64 {
    let (high, low) = log_parts(x);
    high + low
}

/// `(2ᵏ, p)` with `eˣ = 2ᵏ (1 + p)`, `k` the integer next to `x / ln 2`.
fn exp_parts(x: f64) -> (f64, f64) {
    /// 1.5·2⁵²: adding it rounds to an integer, ties to even, by the rounding of the addition itself.
    const TO_INTEGER: f64 = 6_755_399_441_055_744.0;
    let k = (x * INV_LN2 + TO_INTEGER) - TO_INTEGER;
    // For an f32 the first difference is exact.
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let p = r + (r * r) * horner(r, &EXPM1_Q);
    let scale = f64::from_bits(((k as i64 + 1023) as u64) << 52);
    (scale, p)
}

/// `(high, low)` with `ln x = high + low` and `|low|` far below `|high|`.
///
/// `x = 2ᵏ z`, `z` in [0.703125, 1.40625); `c` is near `1/z`; `ln x = k·ln 2 − ln c + log1p(c·z − 1)`. The interval around 1
/// has `c = 1`, so nothing cancels there.
fn log_parts(x: f64) -> (f64, f64) {
    /// Bits of 0.703125, where the first of the sixteen intervals begins.
    const FIRST: u64 = 0x3fe6_8000_0000_0000;
    const FRACTION: u64 = 0x000f_ffff_ffff_ffff;
    let offset = x.to_bits().wrapping_sub(FIRST);
    let k = (offset as i64 >> 52) as f64;
    let interval = (offset >> 48 & 15) as usize;
    let z = f64::from_bits((offset & FRACTION) + FIRST);
    let r = z * LOG_INVERSE[interval] - 1.0; // exact for an f32
    let base = k * LN2_HIGH + LOG_HIGH[interval]; // exact
    let high = base + r;
    let rest = r - (high - base); // exact: base is 0 or larger than r
    let tail = (r * r) * horner(r, &LOG1P_Q) + (k * LN2_LOW + LOG_LOW[interval]);
    (high, rest + tail)
}

/// `q₀ + x (q₁ + x (q₂ + …))`.
pub(super) fn horner<const N: usize>(x: f64, q: &[f64; N]) -> f64 {
    let mut value = q[N - 1];
    for coefficient in q[..N - 1].iter().rev() {
        value = value * x + coefficient;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    type Function = fn(f32) -> f32;

    /// Inputs where the two do not agree to the bit; NaN must be the canonical one.
    fn mismatches(inputs: impl Iterator<Item = u32>, ours: Function, oracle: Function) -> Vec<u32> {
        let differ = |&bits: &u32| {
            let x = f32::from_bits(bits);
            let (got, expected) = (ours(x), crate::canonical_nan(oracle(x)));
            got.to_bits() != expected.to_bits()
        };
        inputs.filter(differ).collect()
    }

    /// Every 4099th bit pattern, a prime stride that meets all exponents, and the neighbourhoods where results turn.
    fn inputs() -> impl Iterator<Item = u32> {
        let edges = [
            0u32,
            0x0080_0000, // smallest normal
            0x3380_0000, // 2^-24, where exp leaves 1
            0x3f80_0000, // 1
            0x42b1_7218, // exp overflows
            0xc2ae_ac50, // exp turns denormal
            0xc2cf_f1b5, // exp underflows
            0x4110_2cb4, // tanh reaches 1
            0x3f34_0000, // 0.703125, the first interval of log
            0x7f80_0000,
        ];
        let around = |bits: u32| (0..2048u32).map(move |i| bits.wrapping_add(i).wrapping_sub(1024));
        let signed = edges.into_iter().flat_map(|bits| [bits, bits ^ 0x8000_0000]);
        (0..=u32::MAX).step_by(4099).chain(signed.flat_map(around))
    }

    #[test]
    fn exp_is_correctly_rounded() {
        assert_eq!(mismatches(inputs(), exp, core_math::expf), []);
    }

    #[test]
    fn log_is_correctly_rounded() {
        assert_eq!(mismatches(inputs(), log, core_math::logf), []);
    }

    #[test]
    fn tanh_is_correctly_rounded() {
        assert_eq!(mismatches(inputs(), tanh, core_math::tanhf), []);
    }

    /// The negative control of the three above: an error of 2^-40 in the result is noticed.
    #[test]
    fn a_small_error_is_found() {
        let off: Function = |x| (exp64(f64::from(x.clamp(-110.0, 100.0))) * (1.0 + 1e-12)) as f32;
        assert!(!mismatches(inputs(), off, core_math::expf).is_empty());
    }
}

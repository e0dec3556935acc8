//! The scalar specification of [`elementary`](crate::elementary).
//!
//! Plain f64 multiplications and additions, no fused ones: baseline processors give the same bits. The argument is reduced
//! as in Tang, "Table-driven implementation of the exponential function in IEEE floating-point arithmetic" (1989) and of the
//! logarithm (1990); the constants come from `scripts/fit_elementary.py`.

mod activation;
mod trigonometric;

pub(crate) use activation::exp16;
pub use activation::{gelu, gelu_grad, sigmoid, sigmoid_grad, silu, silu_grad};
pub use trigonometric::{cos, sin};

use super::fma::sum_to_odd;
use super::tables::{
    ERF, ERF_INVERSE_WIDTH, ERF_WIDTH, EXPM1_Q, INV_LN2, LN2_HIGH, LN2_LOW, LOG1P_Q, LOG_HIGH, LOG_INVERSE,
    LOG_LOW,
};

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

/// `erf x`, correctly rounded. Keeps the sign of zero; NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::erf;
/// assert_eq!(erf(0.5), 0.520_499_9);
/// assert_eq!(erf(-4.0), -1.0);
/// ```
pub fn erf(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    // From 3.92 on it is 1 in f32.
    let magnitude = f64::from(x.abs().min(6.0));
    (piecewise(magnitude, ERF_INVERSE_WIDTH, ERF_WIDTH, &ERF) as f32).copysign(x)
}

/// `1/√x`, correctly rounded. `±0` gives `±∞`, `∞` gives `+0`; a negative number or NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::rsqrt;
/// assert_eq!(rsqrt(4.0), 0.5);
/// assert_eq!(rsqrt(-0.0), f32::NEG_INFINITY);
/// ```
pub fn rsqrt(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return f32::NAN;
    }
    (1.0 / f64::from(x).sqrt()) as f32
}

/// `eˣ` as this sequence of f64 operations, for `x` in [−700, 700]; not correctly rounded as an f64.
fn exp64(x: f64) -> f64 {
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

/// The polynomial of the interval that `x ≥ 0` lies in, where interval `i` of sixteen has its middle at `i · width`.
fn piecewise<const N: usize>(x: f64, inverse_width: f64, width: f64, table: &[[f64; 16]; N]) -> f64 {
    let interval = (x * inverse_width + TO_INTEGER) - TO_INTEGER;
    let t = x - interval * width; // exact for an f32
    let column = interval as usize;
    even_odd(t, &table.map(|coefficients| coefficients[column]))
}

/// 1.5·2⁵²: adding it rounds to an integer, ties to even, by the rounding of the addition itself.
pub(crate) const TO_INTEGER: f64 = 6_755_399_441_055_744.0;

/// `(q₀ + x² (q₂ + x² (…))) + x (q₁ + x² (q₃ + x² (…)))`: two chains of half the length of Horner's, which is what waiting for
/// results makes slow in lanes.
fn even_odd<const N: usize>(x: f64, q: &[f64; N]) -> f64 {
    let square = x * x;
    let (mut odd, mut even) = (q[N - 1], q[N - 2]);
    for coefficient in q[..N - 2].iter().rev() {
        (odd, even) = (even, odd * square + coefficient);
    }
    even + odd * x
}

/// `q₀ + x (q₁ + x (q₂ + …))`.
pub(super) fn horner<const N: usize>(x: f64, q: &[f64; N]) -> f64 {
    let mut value = q[N - 1];
    for coefficient in q[..N - 1].iter().rev() {
        value = value * x + coefficient;
    }
    value
}

//! Activations of neural networks: each the written sequence of f64 operations, rounded once to f32. That sequence is the
//! specification. The results are within 0.501 units in the last place of the true value; next to where a derivative passes
//! through zero, 2⁻⁴³ comes on top.

use super::{even_odd, piecewise, TO_INTEGER};
use crate::spec::tables::{
    EXPM1_SIXTEENTH_SHORT_Q, INV_LN2_SIXTEENTH, INV_SQRT_2PI, LN2_SIXTEENTH, SIXTEENTHS, TAIL,
    TAIL_INVERSE_WIDTH, TAIL_WIDTH,
};

/// `σ(x) = 1 / (1 + e)` with `e = exp16(−x)`, `x` clamped to ±200. NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::sigmoid;
/// assert_eq!(sigmoid(0.0), 0.5);
/// assert_eq!(sigmoid(f32::NEG_INFINITY), 0.0);
/// ```
pub fn sigmoid(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    let e = exp16(-f64::from(x.clamp(-200.0, 200.0)));
    (1.0 / (1.0 + e)) as f32
}

/// `σ′(x) = e / (1 + e)²` with `e = exp16(−|x|)`, `|x|` clamped to 200. NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::sigmoid_grad;
/// assert_eq!(sigmoid_grad(0.0), 0.25);
/// ```
pub fn sigmoid_grad(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    let e = exp16(-f64::from(x.abs().min(200.0)));
    let s = 1.0 + e;
    (e / (s * s)) as f32
}

/// `x · σ(x) = x / (1 + e)` with `e = exp16(−x)`; `x` is clamped from below to −200, and to 200 in `e`. `−∞` gives `−0`, which
/// is the limit; NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::silu;
/// assert_eq!(silu(0.0), 0.0);
/// assert_eq!(silu(f32::INFINITY), f32::INFINITY);
/// ```
pub fn silu(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    let x = x.max(-200.0);
    let e = exp16(-f64::from(x.min(200.0)));
    (f64::from(x) / (1.0 + e)) as f32
}

/// The derivative of [`silu`], `σ(x) (1 + x (1 − σ(x)))`: with `a = |x|` clamped to 200, `e = exp16(−a)` and `s = 1 + e` it is
/// `(s + a·e) / s²` where `x ≥ 0` and `(e·(s − a)) / s²` where `x < 0`. NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::silu_grad;
/// assert_eq!(silu_grad(0.0), 0.5);
/// assert_eq!(silu_grad(f32::INFINITY), 1.0);
/// ```
pub fn silu_grad(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    let a = f64::from(x.abs().min(200.0));
    let e = exp16(-a);
    let s = 1.0 + e;
    let numerator = if x < 0.0 { e * (s - a) } else { s + a * e };
    (numerator / (s * s)) as f32
}

/// `x · Φ(x)`, `Φ` the normal distribution: with `u = |x|` and `Q = Φ(−u) = exp16(−u²/2) · W(u)` it is
/// `x · (x < 0 ? Q : 1 − Q)`, which stays accurate where `Φ` is tiny. `W` is a polynomial in each of sixteen intervals, the table
/// `TAIL`. `x` is clamped from below to −20; `−∞` gives `−0`, NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::gelu;
/// assert_eq!(gelu(1.0), 0.841_344_746);
/// assert_eq!(gelu(-10.0), -7.619_853e-23);
/// ```
pub fn gelu(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    let x = f64::from(x.max(-20.0));
    let (_, e, w) = gauss_tail(x);
    let q = e * w;
    (x * if x < 0.0 { q } else { 1.0 - q }) as f32
}

/// The derivative of [`gelu`], `Φ(x) + x Φ′(x)`: with `u = |x|` clamped to 20, `e = exp16(−u²/2)`, `c = 1/√(2π)` and
/// `t = e · (W(u) − u · c)` it is `t` where `x < 0` and `1 − t` elsewhere. NaN gives the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::gelu_grad;
/// assert_eq!(gelu_grad(0.0), 0.5);
/// assert_eq!(gelu_grad(f32::INFINITY), 1.0);
/// ```
pub fn gelu_grad(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    let (u, e, w) = gauss_tail(f64::from(x));
    let t = e * (w - u * INV_SQRT_2PI);
    (if x < 0.0 { t } else { 1.0 - t }) as f32
}

/// `(u, e, w)` with `u = min(|x|, 20)`, `e = exp16(−u²/2)` and `w = W(min(u, 14.5))`, so that `Φ(−u) = e · w`.
fn gauss_tail(x: f64) -> (f64, f64, f64) {
    let u = x.abs().min(20.0);
    let e = exp16((u * u) * -0.5); // the argument is exact
    let w = piecewise(u.min(14.5), TAIL_INVERSE_WIDTH, TAIL_WIDTH, &TAIL);
    (u, e, w)
}

/// `eˣ` for `x` in [−700, 700], to some 45 bits: `2ᵐ · 2^(j/16) · (1 + p)` with the integer `16 m + j` next to `16 x / ln 2`.
pub(crate) fn exp16(x: f64) -> f64 {
    let k = (x * INV_LN2_SIXTEENTH + TO_INTEGER) - TO_INTEGER;
    let r = x - k * LN2_SIXTEENTH;
    let p = r + (r * r) * even_odd(r, &EXPM1_SIXTEENTH_SHORT_Q);
    let k = k as i64;
    let scale = SIXTEENTHS[(k & 15) as usize].to_bits().wrapping_add(((k >> 4) as u64) << 52);
    let scale = f64::from_bits(scale);
    scale + scale * p
}

//! Elementwise functions of one, two or three f32: one or two IEEE 754 operations for each element, no order to choose.

use super::fma::{Fma, SoftFma};

/// The larger one; `a` where they are equal (so `+0` and `−0` too), and a NaN where there is one.
#[inline(always)]
pub(crate) fn maximum(a: f32, b: f32) -> f32 {
    if a < b || b.is_nan() {
        b
    } else {
        a
    }
}

/// The smaller one; `a` where they are equal (so `+0` and `−0` too), and a NaN where there is one.
#[inline(always)]
pub(crate) fn minimum(a: f32, b: f32) -> f32 {
    if b < a || b.is_nan() {
        b
    } else {
        a
    }
}

/// `x ≤ 0 ? +0 : x`: NaN passes, `−0` becomes `+0`.
#[inline(always)]
pub(crate) fn relu(x: f32) -> f32 {
    relu_grad(x, x)
}

/// `x ≤ 0 ? +0 : dy`.
#[inline(always)]
pub(crate) fn relu_grad(x: f32, dy: f32) -> f32 {
    if x <= 0.0 {
        0.0
    } else {
        dy
    }
}

/// `fma(alpha, x, y)`: one rounding.
#[inline(always)]
pub(crate) fn axpy(alpha: f32, x: f32, y: f32) -> f32 {
    SoftFma::fma(alpha, x, y)
}

//! The error function and GELU, which is built on the tail of the normal distribution, in lanes.

use super::exponential::{absolute, even_odd, exp16, fused_even_odd, keep_nan, with_sign_of};
use crate::simd::F64Lanes;
use crate::spec::elementary::TO_INTEGER;
use crate::spec::tables::{
    ERF, ERF_INVERSE_WIDTH, ERF_WIDTH, INV_SQRT_2PI, TAIL, TAIL_INVERSE_WIDTH, TAIL_WIDTH,
};

static ERF_ROWS: [[f64; 13]; 16] = transposed(&ERF);
static TAIL_ROWS: [[f64; 12]; 16] = transposed(&TAIL);

/// `erf`, correct when rounded to f32.
#[inline(always)]
pub(crate) fn erf<V: F64Lanes>(x: V) -> V {
    let magnitude = absolute(x).min(x.fill(6.0));
    let shifted = magnitude.mul_add(x.fill(ERF_INVERSE_WIDTH), x.fill(TO_INTEGER));
    let t = (shifted - x.fill(TO_INTEGER)).neg_mul_add(x.fill(ERF_WIDTH), magnitude);
    let q = shifted.look_up_rows(&ERF, &ERF_ROWS);
    keep_nan(x, with_sign_of(x, fused_even_odd(t, t * t, &q)))
}

/// The sequence of `spec::elementary::gelu`.
#[inline(always)]
pub(crate) fn gelu<V: F64Lanes>(x: V) -> V {
    gelu_with_grad(x).0
}

/// The sequence of `spec::elementary::gelu_grad`.
#[inline(always)]
pub(crate) fn gelu_grad<V: F64Lanes>(x: V) -> V {
    gelu_with_grad(x).1
}

/// Both. The tail of `x` is that of `x` clamped to −20, since it clamps `|x|` to 20 itself.
#[inline(always)]
pub(crate) fn gelu_with_grad<V: F64Lanes>(x: V) -> (V, V) {
    let bounded = x.max(x.fill(-20.0));
    let (u, e, w) = gauss_tail(x);
    let (q, t) = (e * w, e * (w - u * x.fill(INV_SQRT_2PI)));
    let (negative, one) = (x.lt(x.fill(0.0)), x.fill(1.0));
    let value = bounded * V::select(negative, q, one - q);
    (keep_nan(x, value), keep_nan(x, V::select(negative, t, one - t)))
}

#[inline(always)]
fn gauss_tail<V: F64Lanes>(x: V) -> (V, V, V) {
    let u = absolute(x).min(x.fill(20.0));
    let e = exp16((u * u) * x.fill(-0.5));
    let inside = u.min(x.fill(14.5));
    let shifted = inside * x.fill(TAIL_INVERSE_WIDTH) + x.fill(TO_INTEGER);
    let t = inside - (shifted - x.fill(TO_INTEGER)) * x.fill(TAIL_WIDTH);
    let q = shifted.look_up_rows(&TAIL, &TAIL_ROWS);
    (u, e, even_odd(t, t * t, &q))
}

const fn transposed<const K: usize>(columns: &[[f64; 16]; K]) -> [[f64; K]; 16] {
    let mut rows = [[0.0; K]; 16];
    let mut row = 0;
    while row < 16 {
        let mut k = 0;
        while k < K {
            rows[row][k] = columns[k][row];
            k += 1;
        }
        row += 1;
    }
    rows
}

//! Sine and cosine in lanes.

use super::exponential::{absolute, SIGN};
use crate::simd::F64Lanes;
use crate::spec::elementary::TO_INTEGER;
use crate::spec::tables::{COS_Q, HALF_PI_HIGH, HALF_PI_LOW, SIN_Q, TWO_OVER_PI};

/// `sin`, correct when rounded to f32, and whether that holds in every lane: it does where `|x| < 8192`.
#[inline(always)]
pub(crate) fn sin<V: F64Lanes>(x: V) -> (V, bool) {
    let magnitude = absolute(x);
    let (y, decided) = at_quadrant(magnitude, 0);
    (y.xor(x.and(x.fill_bits(SIGN))), decided)
}

/// `cos`, like [`sin`].
#[inline(always)]
pub(crate) fn cos<V: F64Lanes>(x: V) -> (V, bool) {
    at_quadrant(absolute(x), 1)
}

/// `sin(magnitude + ahead · π/2)`.
#[inline(always)]
fn at_quadrant<V: F64Lanes>(magnitude: V, ahead: u64) -> (V, bool) {
    let fill = |x: f64| magnitude.fill(x);
    let shifted = magnitude.mul_add(fill(TWO_OVER_PI), fill(TO_INTEGER));
    let turns = shifted - fill(TO_INTEGER);
    // Beyond this bound the error of π/2 in two terms can be seen. The comparison fails for NaN too.
    let decided = V::all(magnitude.lt(fill(8192.0)));
    let r = turns.neg_mul_add(fill(HALF_PI_LOW), turns.neg_mul_add(fill(HALF_PI_HIGH), magnitude));
    let z = r * r;
    let sine = (z * r).mul_add(fused_horner(z, &SIN_Q), r);
    let cosine = (z * z).mul_add(fused_horner(z, &COS_Q), z.mul_add(fill(-0.5), fill(1.0)));
    let quadrant = shifted.add_bits(magnitude.fill_bits(ahead));
    let y = V::select(quadrant.is_odd(), cosine, sine);
    (y.xor(quadrant.shift_right::<1>().shift_left::<63>()), decided)
}

/// `q₀ + x (q₁ + x (q₂ + …))`, each multiplication and addition fused.
#[inline(always)]
fn fused_horner<V: F64Lanes, const N: usize>(x: V, q: &[f64; N]) -> V {
    let mut value = x.fill(q[N - 1]);
    for &coefficient in q[..N - 1].iter().rev() {
        value = value.mul_add(x, x.fill(coefficient)).abreast();
    }
    value
}

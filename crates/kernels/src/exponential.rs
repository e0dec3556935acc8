//! The f64 exponential of the specification in lanes: the same operations in the same order, so the same bits.

use crate::simd::{F64Lanes, Pair, Simd};
use crate::spec::tables::{EXPM1_Q, INV_LN2, LN2_HIGH, LN2_LOW};

/// [`exp64`](crate::spec::elementary::exp64) in every lane, for lanes in [−700, 700].
#[inline(always)]
pub(crate) fn exp64<S: Simd>(simd: S, x: Pair<S::F64>) -> Pair<S::F64> {
    /// 1.5·2⁵²: adding it rounds to an integer, which then stands in the lowest bits.
    const TO_INTEGER: f64 = 6_755_399_441_055_744.0;
    let shifted = x * Pair::splat(simd, INV_LN2) + Pair::splat(simd, TO_INTEGER);
    let k = shifted - Pair::splat(simd, TO_INTEGER);
    let r = (x - k * Pair::splat(simd, LN2_HIGH)) - k * Pair::splat(simd, LN2_LOW);
    let mut q = Pair::splat(simd, EXPM1_Q[EXPM1_Q.len() - 1]);
    for &coefficient in EXPM1_Q[..EXPM1_Q.len() - 1].iter().rev() {
        q = q * r + Pair::splat(simd, coefficient);
    }
    let p = r + (r * r) * q;
    // 2ᵏ: the biased exponent moves from the lowest bits to its place, and what stood above it falls out.
    let scale = shifted.add_bits(Pair::splat(simd, f64::from_bits(1023))).shift_left::<52>();
    scale * (Pair::splat(simd, 1.0) + p)
}

//! Exponential, logarithm and what is made of them, in lanes.
//!
//! [`exp16`] is the specification's operation by operation, with the same bits in f64. Where it is the f32 that is specified,
//! correctly rounded, the way to it is free: [`exp`], [`log`] and [`tanh`] take a shorter one with fused multiply-add.

use crate::simd::{F64Lanes, MOST_LANES};
use crate::spec::elementary::TO_INTEGER;
use crate::spec::tables::{
    EXPM1_FUSED_Q, EXPM1_Q, EXPM1_SIXTEENTH_Q, EXPM1_SIXTEENTH_SHORT_Q, INV_LN2, INV_LN2_SIXTEENTH, LN2_HIGH,
    LN2_LOW, LN2_SIXTEENTH, LOG1P_Q, LOG_FUSED_INVERSE, LOG_FUSED_VALUE, SIXTEENTHS,
};

/// `spec::elementary::exp16` in every lane, bit for bit; for `x` in [−700, 700].
#[inline(always)]
pub(crate) fn exp16<V: F64Lanes>(x: V) -> V {
    let shifted = x * x.fill(INV_LN2_SIXTEENTH) + x.fill(TO_INTEGER);
    let k = shifted - x.fill(TO_INTEGER);
    let r = x - k * x.fill(LN2_SIXTEENTH);
    let square = r * r;
    let p = r + square * even_odd(r, square, &filled(r, &EXPM1_SIXTEENTH_SHORT_Q));
    let scale = sixteenths(shifted);
    scale + scale * p
}

/// `exp`, correct when rounded to f32: by a table where enough lanes go side by side to hide the looking up, by a longer
/// polynomial elsewhere. Both round to the same f32.
#[inline(always)]
pub(crate) fn exp<V: F64Lanes>(x: V) -> V {
    let bounded = x.min(x.fill(100.0)).max(x.fill(-110.0));
    let (scale, p) = if V::LANES < MOST_LANES {
        exp_parts(bounded, &EXPM1_Q)
    } else {
        let shifted = bounded.mul_add(x.fill(INV_LN2_SIXTEENTH), x.fill(TO_INTEGER));
        let k = shifted - x.fill(TO_INTEGER);
        let r = k.neg_mul_add(x.fill(LN2_LOW / 16.0), k.neg_mul_add(x.fill(LN2_HIGH / 16.0), bounded));
        (sixteenths(shifted), fused_expm1(r, &EXPM1_SIXTEENTH_Q))
    };
    keep_nan(x, scale.mul_add(p, scale))
}

/// `tanh`, correct when rounded to f32.
#[inline(always)]
pub(crate) fn tanh<V: F64Lanes>(x: V) -> V {
    let magnitude = absolute(x).min(x.fill(10.0));
    let (scale, p) = exp_parts(magnitude + magnitude, &EXPM1_FUSED_Q);
    let e = scale.mul_add(p, scale - x.fill(1.0));
    keep_nan(x, with_sign_of(x, e / (e + x.fill(2.0))))
}

/// `ln`, correct when rounded to f32, and whether that holds in every lane: not for zero, negative, infinite and NaN `x`,
/// and not where the result lies so near the middle between two f32 that its last bit decides.
#[inline(always)]
pub(crate) fn log<V: F64Lanes>(x: V) -> (V, bool) {
    let (k, z, interval) = split(x);
    let r = z.mul_add(interval.look_up(&LOG_FUSED_INVERSE), x.fill(-1.0)); // exact
    let high = k.mul_add(x.fill(LN2_HIGH), interval.look_up(&LOG_FUSED_VALUE)); // exact
    let low = k.mul_add(x.fill(LN2_LOW), r);
    let square = r * r;
    let y = high + square.mul_add(fused_even_odd(r, square, &filled(r, &LOG1P_Q)), low);
    // The 29 bits that an f32 lacks are 0, or 1 and then 0: as a number, what is left of them is ±0.
    let undecided = V::any(y.shift_left::<35>().eq(x.fill(0.0)));
    let inside = V::all(x.fill(0.0).lt(x)) & V::all(x.lt(x.fill(f64::INFINITY)));
    (y, inside & !undecided)
}

/// The bit of the sign.
pub(super) const SIGN: u64 = 1 << 63;

/// `|x|`.
#[inline(always)]
pub(super) fn absolute<V: F64Lanes>(x: V) -> V {
    x.and(x.fill_bits(!SIGN))
}

/// `y ≥ 0` with the sign of `x`.
#[inline(always)]
pub(super) fn with_sign_of<V: F64Lanes>(x: V, y: V) -> V {
    y.or(x.and(x.fill_bits(SIGN)))
}

/// `y`, but the canonical NaN where `x` is NaN.
#[inline(always)]
pub(super) fn keep_nan<V: F64Lanes>(x: V, y: V) -> V {
    V::select(x.eq(x), y, x.fill(f64::NAN))
}

/// `spec::elementary::even_odd` in every lane, bit for bit, given `x²` too.
#[inline(always)]
pub(super) fn even_odd<V: F64Lanes, const N: usize>(x: V, square: V, q: &[V; N]) -> V {
    let (mut odd, mut even) = (q[N - 1], q[N - 2]);
    for &coefficient in q[..N - 2].iter().rev() {
        (odd, even) = (even, odd * square + coefficient);
    }
    even + odd * x
}

/// [`even_odd`], each multiplication and addition fused.
#[inline(always)]
pub(super) fn fused_even_odd<V: F64Lanes, const N: usize>(x: V, square: V, q: &[V; N]) -> V {
    let (mut odd, mut even) = (q[N - 1], q[N - 2]);
    for &coefficient in q[..N - 2].iter().rev() {
        (odd, even) = (even, odd.mul_add(square, coefficient));
    }
    odd.mul_add(x, even)
}

/// Each coefficient in all lanes.
#[inline(always)]
fn filled<V: F64Lanes, const N: usize>(x: V, q: &[f64; N]) -> [V; N] {
    let mut lanes = [x; N];
    for (lanes, &coefficient) in lanes.iter_mut().zip(q) {
        *lanes = x.fill(coefficient);
    }
    lanes
}

/// `r + r² q(r)`, fused.
#[inline(always)]
fn fused_expm1<V: F64Lanes, const N: usize>(r: V, q: &[f64; N]) -> V {
    let square = r * r;
    square.mul_add(fused_even_odd(r, square, &filled(r, q)), r)
}

/// `(2ᵏ, p)` with `eˣ = 2ᵏ (1 + p)` by the polynomial `q`, fused.
#[inline(always)]
fn exp_parts<V: F64Lanes, const N: usize>(x: V, q: &[f64; N]) -> (V, V) {
    let shifted = x.mul_add(x.fill(INV_LN2), x.fill(TO_INTEGER));
    let k = shifted - x.fill(TO_INTEGER);
    let r = k.neg_mul_add(x.fill(LN2_LOW), k.neg_mul_add(x.fill(LN2_HIGH), x));
    (power_of_two(shifted), fused_expm1(r, q))
}

/// `2ᵏ` from `k + TO_INTEGER`, whose lowest bits are those of `k`.
#[inline(always)]
fn power_of_two<V: F64Lanes>(shifted: V) -> V {
    shifted.add_bits(shifted.fill_bits(1023)).shift_left::<52>()
}

/// `2^(k/16)` from `k + TO_INTEGER`.
#[inline(always)]
fn sixteenths<V: F64Lanes>(shifted: V) -> V {
    shifted.look_up(&SIXTEENTHS).add_bits(shifted.shift_right::<4>().shift_left::<52>())
}

/// `(k, z, interval)` of the logarithm: `x = 2ᵏ z` with `z` in [0.703125, 1.40625), the interval in the lowest four bits.
#[inline(always)]
fn split<V: F64Lanes>(x: V) -> (V, V, V) {
    /// Bits of 0.703125 without those of its exponent, −1.
    const FIRST: u64 = 0x0006_8000_0000_0000;
    /// 2⁵², in whose last bits an integer can be put.
    const INTEGER: f64 = 4_503_599_627_370_496.0;
    let offset = x.sub_bits(x.fill_bits(FIRST));
    let k = offset.shift_right::<52>().or(x.fill(INTEGER)) - x.fill(INTEGER + 1022.0);
    let fraction = offset.and(x.fill_bits(0x000f_ffff_ffff_ffff));
    let z = fraction.add_bits(x.fill_bits(FIRST | 1022 << 52));
    (k, z, offset.shift_right::<48>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::simd::{Pair, Simd, Vectorized};
    use crate::spec::elementary as spec;

    /// `exp16` of f64, in pairs of registers.
    struct Exponentials<'a> {
        x: &'a [f64],
        exp: Vec<f64>,
    }

    impl Vectorized for Exponentials<'_> {
        type Output = Vec<f64>;
        #[inline(always)]
        fn run<S: Simd>(mut self, simd: S) -> Self::Output {
            for (i, x) in self.x.chunks_exact(S::LANES).enumerate() {
                let x = Pair(simd.load64(x), simd.load64(&x[S::LANES_64..]));
                let at = i * S::LANES;
                exp16(x).store64(&mut self.exp[at..]);
            }
            self.exp
        }
    }

    /// Not only f32: softmax takes differences and sums of them.
    fn inputs() -> Vec<f64> {
        let mut state = 5u64;
        let random = (0..200_000).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        });
        let spread = random.flat_map(|u| [u * 1400.0 - 700.0, u * 20.0 - 20.0, u * 1e-3, u + 0.5]);
        let edges = [700.0, -700.0, 1.0, 0.703125, 1.40625, f64::MIN_POSITIVE, 1e-300, 0.5, 2.0];
        let around = edges.into_iter().flat_map(|edge: f64| {
            (0..16u64).map(move |i| f64::from_bits((edge.to_bits() - i).max(f64::MIN_POSITIVE.to_bits())))
        });
        spread.chain(around).collect()
    }

    #[test]
    fn lanes_are_the_specification() {
        let x = inputs();
        assert_eq!(x.len() % 16, 0);
        let expected: Vec<u64> = x.iter().map(|&x| spec::exp16(x).to_bits()).collect();
        for isa in Isa::available() {
            let Ok(exp) = isa.vectorize(Exponentials { x: &x, exp: vec![0.0; x.len()] }) else { continue };
            let wrong = exp.iter().zip(&expected).position(|(got, expected)| got.to_bits() != *expected);
            assert_eq!(wrong.map(|i| x[i]), None, "{}", isa.name());
        }
    }

    /// The negative control: one unit in the last place is a difference.
    #[test]
    fn a_last_bit_is_seen() {
        let off = |x: f64| spec::exp16(x) * (1.0 + f64::EPSILON);
        assert!(inputs().iter().all(|&x| off(x).to_bits() != spec::exp16(x).to_bits()));
    }
}

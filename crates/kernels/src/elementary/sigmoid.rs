//! The logistic function, SiLU and their derivatives in lanes: the sequences of the specification.

use super::exponential::{absolute, exp16, keep_nan, SIGN};
use crate::simd::F64Lanes;

/// The sequence of `spec::elementary::sigmoid`.
#[inline(always)]
pub(crate) fn sigmoid<V: F64Lanes>(x: V) -> V {
    let e = exp16(negated(x.min(x.fill(200.0)).max(x.fill(-200.0))));
    keep_nan(x, x.fill(1.0) / (x.fill(1.0) + e))
}

/// The sequence of `spec::elementary::sigmoid_grad`.
#[inline(always)]
pub(crate) fn sigmoid_grad<V: F64Lanes>(x: V) -> V {
    let e = exp16(negated(absolute(x).min(x.fill(200.0))));
    let s = x.fill(1.0) + e;
    keep_nan(x, e / (s * s))
}

/// The sequence of `spec::elementary::silu`.
#[inline(always)]
pub(crate) fn silu<V: F64Lanes>(x: V) -> V {
    let bounded = x.max(x.fill(-200.0));
    let e = exp16(negated(bounded.min(x.fill(200.0))));
    keep_nan(x, bounded / (x.fill(1.0) + e))
}

/// The sequence of `spec::elementary::silu_grad`.
#[inline(always)]
pub(crate) fn silu_grad<V: F64Lanes>(x: V) -> V {
    let a = absolute(x).min(x.fill(200.0));
    let e = exp16(negated(a));
    let s = x.fill(1.0) + e;
    let numerator = V::select(x.lt(x.fill(0.0)), e * (s - a), s + a * e);
    keep_nan(x, numerator / (s * s))
}

#[inline(always)]
fn negated<V: F64Lanes>(x: V) -> V {
    x.xor(x.fill_bits(SIGN))
}

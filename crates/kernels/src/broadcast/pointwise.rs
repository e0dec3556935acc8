//! What is computed for each element, as scalar code and in lanes.

use crate::simd::{F32Lanes, Simd};
use crate::spec::broadcast as spec;

/// A function of an element of the result, as it was, and of the elements of two operands that belong to it.
pub(crate) trait Pointwise: Copy + Send + Sync {
    fn scalar(self, old: f32, a: f32, b: f32) -> f32;
    fn lanes<S: Simd>(self, simd: S, old: S::F32, a: S::F32, b: S::F32) -> S::F32;
}

macro_rules! pointwise {
    ($($(#[$doc:meta])* $name:ident: |$old:pat_param, $a:pat_param, $b:pat_param| $scalar:expr, |$simd:pat_param| $lanes:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name;
        impl Pointwise for $name {
            #[inline(always)]
            fn scalar(self, $old: f32, $a: f32, $b: f32) -> f32 {
                $scalar
            }
            #[inline(always)]
            fn lanes<S: Simd>(self, $simd: S, $old: S::F32, $a: S::F32, $b: S::F32) -> S::F32 {
                $lanes
            }
        }
    )*};
}

pointwise! {
    /// `a + b`.
    Add: |_, a, b| a + b, |_| a + b;
    /// `a − b`.
    Sub: |_, a, b| a - b, |_| a - b;
    /// `a · b`.
    Mul: |_, a, b| a * b, |_| a * b;
    /// `a / b`.
    Div: |_, a, b| a / b, |_| a / b;
    /// The larger one.
    Max: |_, a, b| spec::maximum(a, b), |_| unless_nan::<S>(b, S::F32::select(a.lt(b), b, a));
    /// The smaller one.
    Min: |_, a, b| spec::minimum(a, b), |_| unless_nan::<S>(b, S::F32::select(b.lt(a), b, a));
    /// `relu(a + b)`.
    AddRelu: |_, a, b| spec::relu(a + b), |simd| rectified(simd, a + b, a + b);
    /// `(a + b) + old`.
    AddToSum: |old, a, b| (a + b) + old, |_| (a + b) + old;
    /// `relu(a)`.
    Relu: |_, a, _| spec::relu(a), |simd| rectified(simd, a, a);
    /// `a ≤ 0 ? +0 : b`.
    ReluGrad: |_, a, b| spec::relu_grad(a, b), |simd| rectified(simd, a, b);
}

/// `value`, but `b` where that is NaN.
#[inline(always)]
fn unless_nan<S: Simd>(b: S::F32, value: S::F32) -> S::F32 {
    S::F32::select(b.eq(b), value, b)
}

#[inline(always)]
fn rectified<S: Simd>(simd: S, x: S::F32, value: S::F32) -> S::F32 {
    let zero = simd.splat(0.0);
    S::F32::select(x.le(zero), zero, value)
}

/// `fma(alpha, a, old)`.
#[derive(Clone, Copy)]
pub(crate) struct Axpy(pub(crate) f32);

impl Pointwise for Axpy {
    #[inline(always)]
    fn scalar(self, old: f32, a: f32, _: f32) -> f32 {
        spec::axpy(self.0, a, old)
    }
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, old: S::F32, a: S::F32, _: S::F32) -> S::F32 {
        simd.splat(self.0).mul_add(a, old)
    }
}

/// The function of the result as it was and of the first operand.
#[derive(Clone, Copy)]
pub(crate) struct InPlace<P>(pub(crate) P);

impl<P: Pointwise> Pointwise for InPlace<P> {
    #[inline(always)]
    fn scalar(self, old: f32, a: f32, _: f32) -> f32 {
        self.0.scalar(old, old, a)
    }
    #[inline(always)]
    fn lanes<S: Simd>(self, simd: S, old: S::F32, a: S::F32, _: S::F32) -> S::F32 {
        self.0.lanes(simd, old, old, a)
    }
}

/// Calls `$call` with the function that `$op` names.
macro_rules! with_pointwise {
    ($op:expr, |$f:ident| $call:expr) => {
        match $op {
            Binary::Add => {
                let $f = pointwise::Add;
                $call
            }
            Binary::Sub => {
                let $f = pointwise::Sub;
                $call
            }
            Binary::Mul => {
                let $f = pointwise::Mul;
                $call
            }
            Binary::Div => {
                let $f = pointwise::Div;
                $call
            }
            Binary::Max => {
                let $f = pointwise::Max;
                $call
            }
            Binary::Min => {
                let $f = pointwise::Min;
                $call
            }
        }
    };
}
pub(super) use with_pointwise;

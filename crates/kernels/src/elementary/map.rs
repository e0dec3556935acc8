//! From functions of lanes to functions of slices.

use std::marker::PhantomData;

use super::{exponential, gaussian, sigmoid, trigonometric, Unary};
use crate::isa::Isa;
use crate::simd::{F64Lanes, Pair, Simd, Vectorized};
use crate::spec::elementary as spec;

/// `out[i] = f(x[i])`, for slices of equal length.
pub(crate) fn map(isa: Isa, function: Unary, x: &[f32], out: &mut [f32]) {
    match function {
        Unary::Exp => each::<Exp>(isa, x, out),
        Unary::Log => each::<Log>(isa, x, out),
        Unary::Tanh => each::<Tanh>(isa, x, out),
        Unary::Erf => each::<Erf>(isa, x, out),
        Unary::Sin => each::<Sin>(isa, x, out),
        Unary::Cos => each::<Cos>(isa, x, out),
        Unary::Rsqrt => each::<Rsqrt>(isa, x, out),
        Unary::Sigmoid => each::<Sigmoid>(isa, x, out),
        Unary::SigmoidGrad => each::<SigmoidGrad>(isa, x, out),
        Unary::Silu => each::<Silu>(isa, x, out),
        Unary::SiluGrad => each::<SiluGrad>(isa, x, out),
        Unary::Gelu => each::<Gelu>(isa, x, out),
        Unary::GeluGrad => each::<GeluGrad>(isa, x, out),
    }
}

/// A function on lanes that equals one on numbers.
pub(crate) trait Function {
    /// The specification.
    fn of(x: f32) -> f32;
    /// The f64 to be rounded to f32, and whether it is right in every lane. Where it is not, [`Function::of`] decides.
    fn lanes<V: F64Lanes>(x: V) -> (V, bool);
}

macro_rules! functions {
    ($($name:ident: $of:path, |$x:ident| $lanes:expr;)*) => {$(
        pub(crate) struct $name;
        impl Function for $name {
            #[inline(always)]
            fn of(x: f32) -> f32 {
                $of(x)
            }
            #[inline(always)]
            fn lanes<V: F64Lanes>($x: V) -> (V, bool) {
                $lanes
            }
        }
    )*};
}

functions! {
    Exp: spec::exp, |x| (exponential::exp(x), true);
    Log: spec::log, |x| exponential::log(x);
    Tanh: spec::tanh, |x| (exponential::tanh(x), true);
    Erf: spec::erf, |x| (gaussian::erf(x), true);
    Sin: spec::sin, |x| trigonometric::sin(x);
    Cos: spec::cos, |x| trigonometric::cos(x);
    // A negative number is NaN by the square root, but not the canonical one.
    Rsqrt: spec::rsqrt, |x| {
        let root = x.sqrt();
        (exponential::keep_nan(root, x.fill(1.0) / root), true)
    };
    Sigmoid: spec::sigmoid, |x| (sigmoid::sigmoid(x), true);
    SigmoidGrad: spec::sigmoid_grad, |x| (sigmoid::sigmoid_grad(x), true);
    Silu: spec::silu, |x| (sigmoid::silu(x), true);
    SiluGrad: spec::silu_grad, |x| (sigmoid::silu_grad(x), true);
    Gelu: spec::gelu, |x| (gaussian::gelu(x), true);
    GeluGrad: spec::gelu_grad, |x| (gaussian::gelu_grad(x), true);
}

fn each<F: Function>(isa: Isa, x: &[f32], out: &mut [f32]) {
    let op = Map { x, out, function: PhantomData::<F> };
    if let Err(Map { x, out, .. }) = isa.vectorize(op) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = F::of(x);
        }
    }
}

struct Map<'a, F> {
    x: &'a [f32],
    out: &'a mut [f32],
    function: PhantomData<F>,
}

impl<F: Function> Vectorized for Map<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut x = self.x.chunks_exact(S::LANES);
        let mut out = self.out.chunks_exact_mut(S::LANES);
        for (x, out) in x.by_ref().zip(out.by_ref()) {
            block::<F, S>(simd, x, out);
        }
        let (x, out) = (x.remainder(), out.into_remainder());
        if !x.is_empty() {
            // Two is a number that no function leaves to the specification.
            let (mut from, mut to) = ([2.0; 16], [0.0; 16]);
            from[..x.len()].copy_from_slice(x);
            block::<F, S>(simd, &from[..S::LANES], &mut to[..S::LANES]);
            out.copy_from_slice(&to[..x.len()]);
        }
    }
}

/// [`Simd::LANES`] elements, in two registers of f64 that go side by side.
#[inline(always)]
fn block<F: Function, S: Simd>(simd: S, x: &[f32], out: &mut [f32]) {
    let (low, high) = x.split_at(S::LANES_64);
    let (y, decided) = F::lanes(Pair(simd.widen(low), simd.widen(high)));
    if decided {
        y.narrow(out);
    } else {
        by_specification::<F>(x, out);
    }
}

#[cold]
#[inline(never)]
fn by_specification<F: Function>(x: &[f32], out: &mut [f32]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = F::of(x);
    }
}

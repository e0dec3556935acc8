//! From functions of lanes to functions of slices.

use std::marker::PhantomData;

use super::{exponential, gaussian, sigmoid, trigonometric, Unary};
use crate::isa::Isa;
use crate::simd::{F64Lanes, Pair, Simd, Vectorized, MOST_LANES};
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
        let length = block_length::<S>();
        let mut x = self.x.chunks_exact(length);
        let mut out = self.out.chunks_exact_mut(length);
        for (x, out) in x.by_ref().zip(out.by_ref()) {
            block::<F, S>(simd, x, out);
        }
        let (x, out) = (x.remainder(), out.into_remainder());
        if !x.is_empty() {
            // Two is a number that no function leaves to the specification.
            let (mut from, mut to) = ([2.0; MOST_LANES], [0.0; MOST_LANES]);
            from[..x.len()].copy_from_slice(x);
            block::<F, S>(simd, &from[..length], &mut to[..length]);
            out.copy_from_slice(&to[..x.len()]);
        }
    }
}

/// Elements of a [`block`].
const fn block_length<S: Simd>() -> usize {
    if S::LANES < MOST_LANES {
        2 * S::LANES
    } else {
        S::LANES
    }
}

/// As many registers of f64 side by side as it takes to hide how long each operation lasts: four, but two of the widest.
#[inline(always)]
fn block<F: Function, S: Simd>(simd: S, x: &[f32], out: &mut [f32]) {
    if S::LANES < MOST_LANES {
        let (low, high) = x.split_at(S::LANES);
        lanes::<F, _>(Pair(Pair::widen(simd, low), Pair::widen(simd, high)), x, out);
    } else {
        lanes::<F, _>(Pair::widen(simd, x), x, out);
    }
}

#[inline(always)]
fn lanes<F: Function, V: F64Lanes>(widened: V, x: &[f32], out: &mut [f32]) {
    let (y, decided) = F::lanes(widened);
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

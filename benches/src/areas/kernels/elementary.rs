//! Elementary functions and activations, element by element.

use bitproof_kernels::elementary::{unary_into, Unary};
use ndarray::{Array1, Zip};

use super::case::{pieces, Case};
use super::Emit;
use crate::harness::{Harness, Unrepeatable};
use crate::inputs::{self, FUNCTION_LENGTHS};

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for function in Unary::ALL {
        for length in FUNCTION_LENGTHS {
            one(harness, function, length, emit)?;
        }
    }
    Ok(())
}

fn one(
    harness: &Harness<'_>,
    function: Unary,
    length: usize,
    emit: &mut Emit<'_>,
) -> Result<(), Unrepeatable> {
    let (low, high) = range(function);
    let name = function.name();
    let x = inputs::between(low..high, length, b"argument");
    let mut case = Case::new(format!("{name}/{length}"), length as u64, "element")
        .on_elements(length)
        .asking_function(name, (low, high), length);
    if let Some((peer, map)) = peer(function) {
        let (x, mut y) = (&x, Array1::zeros(length));
        case = case.beside(peer, move || map(x, &mut y));
    }
    let work = |y: &mut Array1<f32>| unary_into(function, x.view(), y.view_mut()).expect("equally long");
    case.measure(harness, Array1::zeros(length), work, |y| pieces(&*y), emit)
}

/// Where the function is neither constant nor infinite: what a training calls it with.
fn range(function: Unary) -> (f32, f32) {
    match function {
        Unary::Log | Unary::Rsqrt => (0.001, 8.0),
        Unary::Tanh | Unary::Gelu | Unary::GeluGrad => (-5.0, 5.0),
        Unary::Erf => (-4.0, 4.0),
        Unary::Sin | Unary::Cos => (-100.0, 100.0),
        _ => (-8.0, 8.0),
    }
}

/// A function of every element.
type Map = fn(&Array1<f32>, &mut Array1<f32>);

/// What the standard library computes: by the system's mathematical library, on Linux glibc, but for the root, which is an
/// instruction.
#[expect(clippy::disallowed_methods, reason = "the peer")]
fn peer(function: Unary) -> Option<(&'static str, Map)> {
    match function {
        Unary::Exp => Some(("glibc", |x, y| each(f32::exp, x, y))),
        Unary::Log => Some(("glibc", |x, y| each(f32::ln, x, y))),
        Unary::Tanh => Some(("glibc", |x, y| each(f32::tanh, x, y))),
        Unary::Sin => Some(("glibc", |x, y| each(f32::sin, x, y))),
        Unary::Cos => Some(("glibc", |x, y| each(f32::cos, x, y))),
        Unary::Rsqrt => Some(("f32", |x, y| each(|x| 1.0 / x.sqrt(), x, y))),
        Unary::Sigmoid => Some(("glibc", |x, y| each(|x| 1.0 / (1.0 + (-x).exp()), x, y))),
        Unary::Silu => Some(("glibc", |x, y| each(|x| x / (1.0 + (-x).exp()), x, y))),
        _ => None,
    }
}

/// Generic, so that what the compiler can inline and vectorise it does.
fn each(function: impl Fn(f32) -> f32, x: &Array1<f32>, y: &mut Array1<f32>) {
    Zip::from(y).and(x).for_each(|y, &x| *y = function(x));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_the_same_function() {
        let mut compared = 0;
        for function in Unary::ALL {
            let Some((_, map)) = peer(function) else { continue };
            let (low, high) = range(function);
            let x = inputs::between(low..high, 100, b"argument");
            let mut theirs = Array1::zeros(100);
            map(&x, &mut theirs);
            for (&x, theirs) in x.iter().zip(theirs) {
                let ours = function.of(x);
                let error = (ours - theirs).abs();
                assert!(error <= 1e-6 * ours.abs().max(1e-3), "{}({x}): {ours}, {theirs}", function.name());
                compared += 1;
            }
        }
        assert_eq!(compared, 800);
        let (_, cosine) = peer(Unary::Cos).unwrap();
        let mut theirs = Array1::zeros(1);
        cosine(&Array1::ones(1), &mut theirs);
        assert!((Unary::Sin.of(1.0) - theirs[0]).abs() > 1e-6, "another function is noticed");
    }
}

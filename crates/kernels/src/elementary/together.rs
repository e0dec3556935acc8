//! A function and its derivative in one pass, where they share what is dear.

use super::gaussian;
use crate::error::{same_shape, KernelError};
use crate::isa::Isa;
use crate::simd::{F64Lanes, Pair, Simd, Vectorized, MOST_LANES};
use crate::spec::elementary as spec;
use crate::threads::{with_float_defaults, worth};

/// `y[i] = gelu(x[i])` and `slopes[i] = gelu_grad(x[i])`, with the bits of [`gelu`](super::gelu) and [`gelu_grad`](super::gelu_grad) but
/// little more work than one of them: both are built on one tail of the normal distribution.
///
/// ```
/// use bitproof_kernels::elementary::{gelu, gelu_grad, gelu_with_grad_into};
/// let (mut y, mut slopes) = ([0.0; 2], [0.0; 2]);
/// gelu_with_grad_into(&[1.0, -0.5], &mut y, &mut slopes)?;
/// assert_eq!((y, slopes), ([1.0, -0.5].map(gelu), [1.0, -0.5].map(gelu_grad)));
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the lengths differ.
pub fn gelu_with_grad_into(x: &[f32], y: &mut [f32], slopes: &mut [f32]) -> Result<(), KernelError> {
    gelu_with_grad_into_with(Isa::get(), x, y, slopes)
}

/// [`gelu_with_grad_into`] on a given instruction set, which changes no bit.
///
/// # Errors
/// As [`gelu_with_grad_into`].
pub fn gelu_with_grad_into_with(
    isa: Isa,
    x: &[f32],
    y: &mut [f32],
    slopes: &mut [f32],
) -> Result<(), KernelError> {
    /// Elements that are worth a thread.
    const LEAST: usize = 1 << 14;
    for (name, length) in [("y", y.len()), ("slopes", slopes.len())] {
        same_shape("gelu_with_grad", ("x", &[x.len()]), (name, &[length]))?;
    }
    divide(isa, GeluWithGrad { x, y, slopes }, worth(x.len(), LEAST));
    Ok(())
}

/// The elements in `parts` bands, over threads.
fn divide(isa: Isa, op: GeluWithGrad<'_>, parts: usize) {
    if parts > 1 {
        let middle = op.x.len() / parts * (parts / 2);
        let (x, y, slopes) =
            (op.x.split_at(middle), op.y.split_at_mut(middle), op.slopes.split_at_mut(middle));
        rayon::join(
            || divide(isa, GeluWithGrad { x: x.0, y: y.0, slopes: slopes.0 }, parts / 2),
            || divide(isa, GeluWithGrad { x: x.1, y: y.1, slopes: slopes.1 }, parts - parts / 2),
        );
        return;
    }
    with_float_defaults(|| {
        if let Err(op) = isa.vectorize(op) {
            for (&x, (y, slope)) in op.x.iter().zip(op.y.iter_mut().zip(op.slopes)) {
                (*y, *slope) = (spec::gelu(x), spec::gelu_grad(x));
            }
        }
    });
}

/// Slices of equal length.
struct GeluWithGrad<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    slopes: &'a mut [f32],
}

impl Vectorized for GeluWithGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut x = self.x.chunks_exact(S::LANES);
        let mut y = self.y.chunks_exact_mut(S::LANES);
        let mut slopes = self.slopes.chunks_exact_mut(S::LANES);
        for ((x, y), slopes) in x.by_ref().zip(y.by_ref()).zip(slopes.by_ref()) {
            register(simd, x, y, slopes);
        }
        let (x, y, slopes) = (x.remainder(), y.into_remainder(), slopes.into_remainder());
        if !x.is_empty() {
            let [mut from, mut values, mut derivatives] = [[0.0; MOST_LANES]; 3];
            from[..x.len()].copy_from_slice(x);
            register(simd, &from[..S::LANES], &mut values, &mut derivatives);
            y.copy_from_slice(&values[..x.len()]);
            slopes.copy_from_slice(&derivatives[..x.len()]);
        }
    }
}

/// One register of f32, two registers of f64 at a time.
#[inline(always)]
fn register<S: Simd>(simd: S, x: &[f32], y: &mut [f32], slopes: &mut [f32]) {
    let (values, derivatives) = gaussian::gelu_with_grad(Pair::widen(simd, x));
    values.narrow(y);
    derivatives.narrow(slopes);
}

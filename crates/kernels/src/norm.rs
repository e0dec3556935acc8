//! Layer normalisation and its gradients.

mod lanes;

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2};
use rayon::prelude::*;

use crate::error::{same_length, same_shape, KernelError};
use crate::isa::Isa;
use crate::scratch::{fill_row_major, row_major, with_scratch};
use crate::softmax::band_length;
use crate::spec::norm as spec;
use crate::threads::{with_float_defaults, worth};
use lanes::{Forward, Gradient, ParameterGradients};

/// What the forward pass of a layer norm found in a row and its backward pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RowMoments {
    /// The mean of the row.
    pub mean: f64,
    /// `1 / √(variance + ε)`, with the variance that divides by the number of elements.
    pub inverse_std: f64,
}

/// `y[r,i] = ((x[r,i] − mean_r) · inverse_std_r) · γ_i + β_i` for each row of an R×C matrix, in f64 with one rounding to f32;
/// the R `moments` are kept for [`layer_norm_grad_into`].
///
/// `mean = Σ x_i / C`, `inverse_std = 1 / √(Σ (x_i − mean)² / C + ε)`, with the sums in the tree of
/// [`sum_f64`](crate::sum_f64). No operation is fused. Large matrices are divided over the current rayon pool by rows. (Ba, Kiros, Hinton, "Layer normalization", 2016.)
///
/// ```
/// use bitproof_kernels::{layer_norm_into, RowMoments};
/// use ndarray::array;
/// let x = array![[1.0, 3.0]];
/// let (mut y, mut moments) = (array![[0.0, 0.0]], [RowMoments::default()]);
/// layer_norm_into(x.view(), array![1.0, 2.0].view(), array![0.0, 0.5].view(), 0.0, y.view_mut(), &mut moments)?;
/// assert_eq!(y, array![[-1.0, 2.5]]);
/// assert_eq!(moments, [RowMoments { mean: 2.0, inverse_std: 1.0 }]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `y` has another shape than `x`, `gamma` or `beta` not C elements, or `moments` not R.
/// Nothing is written then.
pub fn layer_norm_into(
    x: ArrayView2<'_, f32>,
    gamma: ArrayView1<'_, f32>,
    beta: ArrayView1<'_, f32>,
    eps: f32,
    y: ArrayViewMut2<'_, f32>,
    moments: &mut [RowMoments],
) -> Result<(), KernelError> {
    const KERNEL: &str = "layer_norm";
    let (rows, columns) = x.dim();
    same_shape(KERNEL, ("x", x.shape()), ("y", y.shape()))?;
    same_length(KERNEL, ("a row of x", columns), ("gamma", gamma.len()))?;
    same_length(KERNEL, ("a row of x", columns), ("beta", beta.len()))?;
    same_length(KERNEL, ("a column of x", rows), ("moments", moments.len()))?;
    let (isa, eps) = (Isa::get(), with_float_defaults(|| f64::from(eps)));
    if columns == 0 {
        moments.fill(RowMoments { mean: f64::NAN, inverse_std: f64::NAN });
        return Ok(());
    }
    let length = band_length(columns);
    let x = row_major(KERNEL, &x)?;
    fill_row_major(KERNEL, y, |y| {
        with_widened([gamma, beta], |[gamma, beta]| {
            let bands = y.par_chunks_mut(length).zip(x.par_chunks(length));
            bands.zip(moments.par_chunks_mut(length / columns)).for_each(|((y, x), moments)| {
                let band = Forward { x, gamma, beta, eps, y, moments };
                with_float_defaults(|| isa.vectorize(band).unwrap_or_else(Forward::by_definition));
            });
        });
        Ok(())
    })
}

/// The gradients of [`layer_norm_into`] with respect to `x`, `γ` and `β`, from the gradient `dy` of its result.
///
/// With `x̂ = (x − mean) · inverse_std`, `g_i = dy_i · γ_i`, `a = Σ g_i / C` and `b = Σ g_i · x̂_i / C` for each row, sums as in
/// [`layer_norm_into`]: `dx_i = inverse_std · ((g_i − a) − x̂_i · b)`. For each column `dγ_j = Σ_r dy[r,j] · x̂[r,j]`
/// and `dβ_j = Σ_r dy[r,j]`, chains over the rows in rising order from `+0`. All in f64, none fused, each result rounded
/// once to f32. Divided over the current rayon pool by rows, then by columns.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `dy` or `dx` has another shape than `x`, `gamma`, `dgamma` or `dbeta` not C elements, or
/// `moments` not R. Nothing is written then.
pub fn layer_norm_grad_into(
    x: ArrayView2<'_, f32>,
    gamma: ArrayView1<'_, f32>,
    moments: &[RowMoments],
    dy: ArrayView2<'_, f32>,
    dx: ArrayViewMut2<'_, f32>,
    dgamma: ArrayViewMut1<'_, f32>,
    dbeta: ArrayViewMut1<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "layer_norm_grad";
    let (rows, columns) = x.dim();
    same_shape(KERNEL, ("x", x.shape()), ("dy", dy.shape()))?;
    same_shape(KERNEL, ("x", x.shape()), ("dx", dx.shape()))?;
    same_length(KERNEL, ("a row of x", columns), ("gamma", gamma.len()))?;
    same_length(KERNEL, ("a row of x", columns), ("dgamma", dgamma.len()))?;
    same_length(KERNEL, ("a row of x", columns), ("dbeta", dbeta.len()))?;
    same_length(KERNEL, ("a column of x", rows), ("moments", moments.len()))?;
    if columns == 0 {
        return Ok(());
    }
    let isa = Isa::get();
    let (x, dy) = (row_major(KERNEL, &x)?, row_major(KERNEL, &dy)?);
    fill_row_major(KERNEL, dx, |dx| {
        fill_row_major(KERNEL, dgamma, |dgamma| {
            fill_row_major(KERNEL, dbeta, |dbeta| {
                with_widened([gamma], |[gamma]| input_grads(isa, &x, gamma, moments, &dy, dx));
                parameter_grads(isa, &x, moments, &dy, dgamma, dbeta);
                Ok(())
            })
        })
    })
}

fn input_grads(isa: Isa, x: &[f32], gamma: &[f64], moments: &[RowMoments], dy: &[f32], dx: &mut [f32]) {
    let length = band_length(gamma.len());
    let bands = dx.par_chunks_mut(length).zip(x.par_chunks(length)).zip(dy.par_chunks(length));
    let bands = bands.zip(moments.par_chunks(length / gamma.len()));
    bands.for_each(|(((dx, x), dy), moments)| {
        let band = Gradient { x, gamma, moments, dy, dx };
        with_float_defaults(|| isa.vectorize(band).unwrap_or_else(Gradient::by_definition));
    });
}

fn parameter_grads(
    isa: Isa,
    x: &[f32],
    moments: &[RowMoments],
    dy: &[f32],
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    /// Elements of `x` that are worth waking a thread for.
    const WORTH_A_THREAD: usize = 1 << 16;
    /// Threads meet at multiples of this many columns.
    const GRAIN: usize = 64;
    let columns = dgamma.len();
    let width = columns.div_ceil(worth(x.len(), WORTH_A_THREAD)).next_multiple_of(GRAIN);
    let strips = dgamma.par_chunks_mut(width).zip(dbeta.par_chunks_mut(width)).enumerate();
    strips.for_each(|(index, (dgamma, dbeta))| {
        let strip = ParameterGradients { x, moments, dy, columns, first: index * width, dgamma, dbeta };
        with_float_defaults(|| isa.vectorize(strip).unwrap_or_else(ParameterGradients::by_definition));
    });
}

/// Widened once for all rows.
fn with_widened<const N: usize, R>(vectors: [ArrayView1<'_, f32>; N], f: impl FnOnce([&[f64]; N]) -> R) -> R {
    let length = vectors[0].len();
    with_scratch(N * length, |wide: &mut [f64]| {
        for (wide, vector) in wide.chunks_exact_mut(length).zip(vectors) {
            // DAZ would lose denormals here.
            with_float_defaults(|| wide.iter_mut().zip(vector).for_each(|(to, &from)| *to = f64::from(from)));
        }
        let wide = &*wide;
        f(std::array::from_fn(|index| &wide[index * length..][..length]))
    })
}

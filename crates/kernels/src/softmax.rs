//! Softmax, its logarithm and their gradients, row by row in f64 with one rounding to f32 at the end.

pub(crate) mod lanes;

use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

use crate::error::{same_shape, KernelError};
use crate::isa::Isa;
use crate::scratch::{fill_row_major, row_major, with_scratch};
use crate::simd::MOST_LANES;
use crate::spec::softmax as spec;
use crate::threads::with_float_defaults;
use lanes::{LogSoftmax, LogSoftmaxGrad, LogSumExp, Softmax, SoftmaxGrad};

/// `y_j = e_j · (1 / s)` for every row of an R×C matrix, where `m = max_j x_j`, `e_j = exp(x_j − m)` and `s = Σ e_j` in the tree of
/// [`sum_f64`](crate::sum_f64), all in f64 with one rounding to f32.
///
/// `exp` is the f64 sequence `exp16` of `src/spec/elementary/activation.rs`, taken of −700 below that. A NaN or `+∞` in a row makes the
/// whole row NaN, and so does a row of nothing but `−∞`. Large matrices are divided over the current rayon pool by rows.
///
/// ```
/// use bitproof_kernels::softmax_into;
/// let mut y = ndarray::Array2::zeros((1, 4));
/// softmax_into(ndarray::array![[1.0, 1.0, 1.0, 1.0]].view(), y.view_mut())?;
/// assert_eq!(y, ndarray::array![[0.25, 0.25, 0.25, 0.25]]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `y` has another shape than `x`.
pub fn softmax_into(x: ArrayView2<'_, f32>, y: ArrayViewMut2<'_, f32>) -> Result<(), KernelError> {
    same_shape("softmax", ("x", x.shape()), ("y", y.shape()))?;
    let isa = Isa::get();
    let columns = x.ncols();
    from_bands("softmax", x, y, &|x, y| {
        with_exponentials(columns, |e| {
            if let Err(Softmax { x, y, e, .. }) = isa.vectorize(Softmax { x, y, columns, e }) {
                let rows = x.chunks_exact(columns).zip(y.chunks_exact_mut(columns));
                rows.for_each(|(x, y)| spec::softmax(x, y, &mut e[..columns]));
            }
        });
    })
}

/// `y_j = (x_j − m) − ln s` for every row of an R×C matrix, in f64 with one rounding to f32; `m`, `s` and what becomes of
/// infinities and NaN as in [`softmax_into`], and `ln` the f64 sequence of `src/spec/elementary.rs`.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `y` has another shape than `x`.
pub fn log_softmax_into(x: ArrayView2<'_, f32>, y: ArrayViewMut2<'_, f32>) -> Result<(), KernelError> {
    same_shape("log_softmax", ("x", x.shape()), ("y", y.shape()))?;
    let isa = Isa::get();
    let columns = x.ncols();
    from_bands("log_softmax", x, y, &|x, y| {
        with_exponentials(columns, |e| {
            if let Err(LogSoftmax { x, y, e, .. }) = isa.vectorize(LogSoftmax { x, y, columns, e }) {
                let rows = x.chunks_exact(columns).zip(y.chunks_exact_mut(columns));
                rows.for_each(|(x, y)| spec::log_softmax(x, y, &mut e[..columns]));
            }
        });
    })
}

/// [`log_softmax_into`] a new matrix. Rows without columns stay empty.
///
/// # Panics
/// If there is no memory for a copy of logits that are not row-major; [`log_softmax_into`] gives an error then.
pub fn log_softmax(logits: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut y = Array2::zeros(logits.raw_dim());
    log_softmax_into(logits, y.view_mut()).expect("the logits fit into memory");
    y
}

/// The gradient of [`softmax_into`] with respect to `x`: `dx_j = y_j · (dy_j − t)` with `t = Σ y_j · dy_j` in the tree of
/// [`sum_f64`](crate::sum_f64), row by row, all in f64 with one rounding to f32. `y` is what the forward pass gave.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `dy` or `dx` has another shape than `y`.
pub fn softmax_grad_into(
    y: ArrayView2<'_, f32>,
    dy: ArrayView2<'_, f32>,
    dx: ArrayViewMut2<'_, f32>,
) -> Result<(), KernelError> {
    same_shape("softmax_grad", ("y", y.shape()), ("dy", dy.shape()))?;
    same_shape("softmax_grad", ("y", y.shape()), ("dx", dx.shape()))?;
    let isa = Isa::get();
    let columns = y.ncols();
    from_band_pairs("softmax_grad", y, dy, dx, &|y, dy, dx| {
        if let Err(SoftmaxGrad { y, dy, dx, .. }) = isa.vectorize(SoftmaxGrad { y, dy, dx, columns }) {
            with_scratch(columns, |products| {
                each_row(columns, y, dy, dx, |y, dy, dx| spec::softmax_grad(y, dy, dx, products));
            });
        }
    })
}

/// The gradient of [`log_softmax_into`] with respect to `x`: `dx_j = dy_j − exp(y_j) · t` with `t = Σ dy_j` in the tree of
/// [`sum_f64`](crate::sum_f64), row by row, all in f64 with one rounding to f32; `exp` as in [`softmax_into`], taken of at most
/// 700. `y` is what the forward pass gave.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `dy` or `dx` has another shape than `y`.
pub fn log_softmax_grad_into(
    y: ArrayView2<'_, f32>,
    dy: ArrayView2<'_, f32>,
    dx: ArrayViewMut2<'_, f32>,
) -> Result<(), KernelError> {
    same_shape("log_softmax_grad", ("y", y.shape()), ("dy", dy.shape()))?;
    same_shape("log_softmax_grad", ("y", y.shape()), ("dx", dx.shape()))?;
    let isa = Isa::get();
    let columns = y.ncols();
    from_band_pairs("log_softmax_grad", y, dy, dx, &|y, dy, dx| {
        if let Err(LogSoftmaxGrad { y, dy, dx, .. }) = isa.vectorize(LogSoftmaxGrad { y, dy, dx, columns }) {
            each_row(columns, y, dy, dx, spec::log_softmax_grad);
        }
    })
}

/// The rule of [`logsumexp_axis_into`](crate::logsumexp_axis_into) for one row.
pub(crate) fn logsumexp_on(isa: Isa, x: &[f32]) -> f32 {
    if x.is_empty() {
        return spec::logsumexp(x, &mut []);
    }
    with_exponentials(x.len(), |e| {
        isa.vectorize(LogSumExp { x, e })
            .unwrap_or_else(|LogSumExp { x, e }| spec::logsumexp(x, &mut e[..x.len()]))
    })
}

/// Rows whose steps are taken side by side, at the most.
pub(crate) const MOST_ROWS: usize = 16;

/// How many rows to take side by side: not more than stay in the nearest cache with their exponentials.
pub(crate) fn rows_at_once(columns: usize) -> usize {
    const ELEMENTS: usize = 1024;
    (ELEMENTS / columns).clamp(1, MOST_ROWS)
}

/// Elements of the scratch that the exponentials of a row take up: whole registers.
pub(crate) fn exponentials_length(columns: usize) -> usize {
    columns.next_multiple_of(MOST_LANES)
}

/// Calls `f` with scratch for the exponentials of [`rows_at_once`] rows.
pub(crate) fn with_exponentials<R>(columns: usize, f: impl FnOnce(&mut [f64]) -> R) -> R {
    with_scratch(rows_at_once(columns) * exponentials_length(columns), f)
}

/// Calls `band` with some rows of `x` and those of `y`, over threads where that pays.
fn from_bands(
    kernel: &'static str,
    x: ArrayView2<'_, f32>,
    y: ArrayViewMut2<'_, f32>,
    band: &(impl Fn(&[f32], &mut [f32]) + Sync),
) -> Result<(), KernelError> {
    if x.is_empty() {
        return Ok(());
    }
    let length = band_length(x.ncols());
    let x = row_major(kernel, &x)?;
    fill_row_major(kernel, y, |y| {
        let bands = y.par_chunks_mut(length).zip(x.par_chunks(length));
        bands.for_each(|(y, x)| with_float_defaults(|| band(x, y)));
        Ok(())
    })
}

/// [`from_bands`] of two operands.
fn from_band_pairs(
    kernel: &'static str,
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    out: ArrayViewMut2<'_, f32>,
    band: &(impl Fn(&[f32], &[f32], &mut [f32]) + Sync),
) -> Result<(), KernelError> {
    if a.is_empty() {
        return Ok(());
    }
    let length = band_length(a.ncols());
    let (a, b) = (row_major(kernel, &a)?, row_major(kernel, &b)?);
    fill_row_major(kernel, out, |out| {
        let bands = out.par_chunks_mut(length).zip(a.par_chunks(length)).zip(b.par_chunks(length));
        bands.for_each(|((out, a), b)| with_float_defaults(|| band(a, b, out)));
        Ok(())
    })
}

/// Elements of a band of whole rows that is worth a thread.
pub(crate) fn band_length(columns: usize) -> usize {
    /// Elements below which waking a thread costs more than it saves.
    const WORTH_A_THREAD: usize = 1 << 14;
    WORTH_A_THREAD.div_ceil(columns) * columns
}

fn each_row(
    columns: usize,
    a: &[f32],
    b: &[f32],
    out: &mut [f32],
    mut row: impl FnMut(&[f32], &[f32], &mut [f32]),
) {
    let rows = a.chunks_exact(columns).zip(b.chunks_exact(columns)).zip(out.chunks_exact_mut(columns));
    rows.for_each(|((a, b), out)| row(a, b, out));
}

//! Reductions over one axis of an array of any number of dimensions and any strides.

use ndarray::{ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Axis, RemoveAxis};
use rayon::prelude::*;

use super::columns::{ColumnMaxima, ColumnSums, Columns};
use super::{argmax_on, max_on, mean_of, sum_on};
use crate::error::KernelError;
use crate::isa::Isa;
use crate::scratch::{fill_row_major, row_major, with_scratch, Scratch};
use crate::softmax::logsumexp_on;
use crate::spec::reduce::tree_sum;
use crate::threads::{with_float_defaults, worth};

/// `out[…] = Σ_k x[…, k, …]` over `axis`, each by the tree of [`sum`](crate::sum); `+0` where the axis has no elements.
///
/// `out` has the shape of `x` without the axis. Nothing is allocated once a thread has run it (with up to four
/// dimensions), and large arrays are divided over the current rayon pool by elements of `out`.
///
/// ```
/// use bitproof_kernels::sum_axis_into;
/// use ndarray::{array, Array1, Axis};
/// let x = array![[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]];
/// let mut sums = Array1::zeros(2);
/// sum_axis_into(x.view(), Axis(1), sums.view_mut())?;
/// assert_eq!(sums, array![6.0, 60.0]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `out` has another shape.
///
/// # Panics
/// If `x` has no such axis.
pub fn sum_axis_into<D: RemoveAxis>(
    x: ArrayView<'_, f32, D>,
    axis: Axis,
    out: ArrayViewMut<'_, f32, D::Smaller>,
) -> Result<(), KernelError> {
    reduce("sum_axis", x, axis, out, &Sums { isa: Isa::get(), mean: false })
}

/// `out[…] = (Σ_k x[…, k, …]) / n` over an axis of n elements, each by the rule of [`mean`](crate::mean); NaN for n = 0.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `out` has not the shape of `x` without the axis.
///
/// # Panics
/// If `x` has no such axis.
pub fn mean_axis_into<D: RemoveAxis>(
    x: ArrayView<'_, f32, D>,
    axis: Axis,
    out: ArrayViewMut<'_, f32, D::Smaller>,
) -> Result<(), KernelError> {
    reduce("mean_axis", x, axis, out, &Sums { isa: Isa::get(), mean: true })
}

/// `out[…] = max_k x[…, k, …]` over `axis`, each by the rule of [`max`](crate::max): the first of zeros of both signs, the
/// canonical NaN for any NaN, `−∞` where the axis has no elements.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `out` has not the shape of `x` without the axis.
///
/// # Panics
/// If `x` has no such axis.
pub fn max_axis_into<D: RemoveAxis>(
    x: ArrayView<'_, f32, D>,
    axis: Axis,
    out: ArrayViewMut<'_, f32, D::Smaller>,
) -> Result<(), KernelError> {
    reduce("max_axis", x, axis, out, &Maxima { isa: Isa::get() })
}

/// `out[…] = argmax_k x[…, k, …]` over `axis`, each by the rule of [`argmax`](crate::argmax): the first of the largest, or of
/// the NaNs.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `out` has not the shape of `x` without the axis, [`KernelError::NoColumns`] if the axis
/// has no elements but `out` has, [`KernelError::SizeOverflow`] if it has more than 2³² − 1.
///
/// # Panics
/// If `x` has no such axis.
pub fn argmax_axis_into<D: RemoveAxis>(
    x: ArrayView<'_, f32, D>,
    axis: Axis,
    out: ArrayViewMut<'_, u32, D::Smaller>,
) -> Result<(), KernelError> {
    let (rows, columns) = (out.len(), x.len_of(axis));
    if rows > 0 && columns == 0 {
        return Err(KernelError::NoColumns { kernel: "argmax_axis", rows });
    }
    if u32::try_from(columns).is_err() {
        return Err(KernelError::SizeOverflow { kernel: "argmax_axis", rows, columns });
    }
    reduce("argmax_axis", x, axis, out, &Positions { isa: Isa::get() })
}

/// `out[…] = ln Σ_k exp x[…, k, …]` over `axis`, as `m + ln Σ exp(x − m)` with the largest `m`: the sequence of f64 operations
/// of [`log_softmax`](crate::log_softmax), the sum in the tree of [`sum`](crate::sum), rounded once to f32.
///
/// Where the largest element is infinite or NaN (canonical then), it is the result; `−∞` where the axis has no elements.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `out` has not the shape of `x` without the axis.
///
/// # Panics
/// If `x` has no such axis.
pub fn logsumexp_axis_into<D: RemoveAxis>(
    x: ArrayView<'_, f32, D>,
    axis: Axis,
    out: ArrayViewMut<'_, f32, D::Smaller>,
) -> Result<(), KernelError> {
    reduce("logsumexp_axis", x, axis, out, &LogSums { isa: Isa::get() })
}

/// What becomes of the elements along the axis.
trait Reduction<T>: Sync {
    /// Of a row.
    fn row(&self, x: &[f32]) -> T;
    /// Of each of some columns.
    fn columns(&self, of: Columns<'_>, out: &mut [T]);
}

struct Sums {
    isa: Isa,
    mean: bool,
}

impl Sums {
    fn finish(&self, sum: f32, count: usize) -> f32 {
        match (self.mean, count) {
            (false, _) => sum,
            (true, 0) => f32::NAN,
            (true, _) => mean_of(sum, count),
        }
    }
}

impl Reduction<f32> for Sums {
    fn row(&self, x: &[f32]) -> f32 {
        self.finish(sum_on(self.isa, x), x.len())
    }

    fn columns(&self, of: Columns<'_>, out: &mut [f32]) {
        if let Err(ColumnSums { of, sums }) = self.isa.vectorize(ColumnSums { of, sums: &mut *out }) {
            each_column(of, sums, |column| tree_sum(column, |x| x));
        }
        out.iter_mut().for_each(|sum| *sum = self.finish(*sum, of.rows));
    }
}

struct Maxima {
    isa: Isa,
}

impl Reduction<f32> for Maxima {
    fn row(&self, x: &[f32]) -> f32 {
        max_on(self.isa, x)
    }

    fn columns(&self, of: Columns<'_>, out: &mut [f32]) {
        with_scratch(out.len(), |rows: &mut [u32]| {
            let maxima = ColumnMaxima { of, values: out, rows };
            self.isa.vectorize(maxima).unwrap_or_else(ColumnMaxima::find);
        });
        crate::canonicalise(out);
    }
}

struct Positions {
    isa: Isa,
}

impl Reduction<u32> for Positions {
    fn row(&self, x: &[f32]) -> u32 {
        argmax_on(self.isa, x).expect("a row without elements is refused") as u32
    }

    fn columns(&self, of: Columns<'_>, out: &mut [u32]) {
        with_scratch(out.len(), |values: &mut [f32]| {
            let maxima = ColumnMaxima { of, values, rows: out };
            self.isa.vectorize(maxima).unwrap_or_else(ColumnMaxima::find);
        });
    }
}

struct LogSums {
    isa: Isa,
}

impl Reduction<f32> for LogSums {
    fn row(&self, x: &[f32]) -> f32 {
        logsumexp_on(self.isa, x)
    }

    fn columns(&self, of: Columns<'_>, out: &mut [f32]) {
        each_column(of, out, |column| self.row(column));
    }
}

/// Column by column. As many are copied at once as share a cache line, unless they are long.
fn each_column(of: Columns<'_>, out: &mut [f32], reduce: impl Fn(&[f32]) -> f32) {
    const MOST: usize = 1 << 20;
    if of.rows == 0 {
        return out.fill(reduce(&[]));
    }
    let width = (MOST / of.rows).clamp(1, 16);
    // A cache line more than they need, or the same few lines of the cache would have to hold all columns.
    let stride = of.rows.next_multiple_of(16) + 16;
    with_scratch(width * stride, |columns: &mut [f32]| {
        for (block, out) in out.chunks_mut(width).enumerate() {
            of.gather(block * width, out.len(), columns, stride);
            for (out, column) in out.iter_mut().zip(columns.chunks_exact(stride)) {
                *out = reduce(&column[..of.rows]);
            }
        }
    });
}

fn reduce<D: RemoveAxis, T: Scratch + Send>(
    kernel: &'static str,
    x: ArrayView<'_, f32, D>,
    axis: Axis,
    out: ArrayViewMut<'_, T, D::Smaller>,
    reduction: &impl Reduction<T>,
) -> Result<(), KernelError> {
    if x.raw_dim().remove_axis(axis) != out.raw_dim() {
        return Err(KernelError::ShapeMismatch {
            kernel,
            left_name: "x",
            left: x.shape().to_vec(),
            right_name: "out",
            right: out.shape().to_vec(),
            rule: "out needs the shape of x without the axis",
        });
    }
    if out.is_empty() {
        return Ok(());
    }
    let (x, axis, out) = in_memory_order(x.into_dyn(), axis, out.into_dyn());
    let length = x.len_of(axis);
    let inner: usize = x.shape()[axis.index() + 1..].iter().product();
    let x = row_major(kernel, &x)?;
    fill_row_major(kernel, out, |out| {
        if inner == 1 {
            rows(&x, length, out, reduction);
        } else {
            columns(&x, length, inner, out, reduction);
        }
        Ok(())
    })
}

/// The same problem with axes sorted from the widest stride to the narrowest, if the elements then lie without gaps: a
/// transposed array need not be copied.
fn in_memory_order<'a, 'b, T>(
    x: ArrayViewD<'a, f32>,
    axis: Axis,
    out: ArrayViewMutD<'b, T>,
) -> (ArrayViewD<'a, f32>, Axis, ArrayViewMutD<'b, T>) {
    const MOST: usize = 8;
    if x.is_standard_layout() || x.ndim() > MOST {
        return (x, axis, out);
    }
    let mut order: [usize; MOST] = std::array::from_fn(|index| index);
    let order = &mut order[..x.ndim()];
    order.sort_by_key(|&index| std::cmp::Reverse(x.strides()[index].unsigned_abs()));
    let sorted = x.clone().permuted_axes(&*order);
    if !sorted.is_standard_layout() {
        return (x, axis, out);
    }
    let place = order.iter().position(|&index| index == axis.index()).expect("every axis is there");
    order[place..].rotate_left(1);
    let order = &mut order[..x.ndim() - 1];
    // Without the axis those behind it move up by one.
    order.iter_mut().for_each(|index| *index -= usize::from(*index > axis.index()));
    (sorted, Axis(place), out.permuted_axes(&*order))
}

/// Elements of the input below which waking a thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 18;

fn rows<T: Send>(x: &[f32], length: usize, out: &mut [T], reduction: &impl Reduction<T>) {
    let some = |(x, out): (&[f32], &mut [T])| {
        with_float_defaults(|| {
            for (index, out) in out.iter_mut().enumerate() {
                *out = reduction.row(&x[index * length..][..length]);
            }
        });
    };
    let threads = worth(x.len(), WORTH_A_THREAD);
    if threads == 1 {
        return some((x, out));
    }
    let height = out.len().div_ceil(threads);
    x.par_chunks(height * length).zip(out.par_chunks_mut(height)).for_each(some);
}

fn columns<T: Send>(x: &[f32], length: usize, inner: usize, out: &mut [T], reduction: &impl Reduction<T>) {
    /// Threads meet at multiples of this many columns.
    const GRAIN: usize = 64;
    let threads = worth(x.len(), WORTH_A_THREAD);
    let width = inner.div_ceil(threads).next_multiple_of(GRAIN);
    let some = |block: usize, first: usize, out: &mut [T]| {
        let from = block * length * inner + first;
        let x = x.get(from..(block + 1) * length * inner).unwrap_or_default();
        with_float_defaults(|| reduction.columns(Columns { x, stride: inner, rows: length }, out));
    };
    if threads == 1 {
        for (block, out) in out.chunks_mut(inner).enumerate() {
            some(block, 0, out);
        }
    } else {
        out.par_chunks_mut(inner).enumerate().for_each(|(block, out)| {
            out.par_chunks_mut(width).enumerate().for_each(|(strip, out)| some(block, strip * width, out));
        });
    }
}

//! Elementwise operations with the broadcasting rules of NumPy, and what is reduced in their gradients.

mod pointwise;
mod walk;

use ndarray::{
    ArrayView, ArrayView0, ArrayView2, ArrayViewD, ArrayViewMut, ArrayViewMut1, ArrayViewMutD, Axis,
    Dimension, IxDyn,
};

use crate::error::{same_length, KernelError};
use crate::isa::Isa;
use crate::reduce::{sum, sum_axis_into};
use crate::scratch::{fill_row_major, row_major};
use pointwise::{with_pointwise, AddRelu, AddToSum, Axpy, InPlace, Pointwise, Relu, ReluGrad};

/// An operation on two elements: one IEEE 754 operation or one choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a − b`.
    Sub,
    /// `a · b`.
    Mul,
    /// `a / b`.
    Div,
    /// `a < b ? b : a`, but NaN if either is. Of equal ones `a`: `max(−0, +0)` is `−0`.
    Max,
    /// `b < a ? b : a`, but NaN if either is. Of equal ones `a`: `min(+0, −0)` is `+0`.
    Min,
}

/// The shape of an elementwise result: axes are matched from the last one backwards; two lengths are equal, or one of them is 1
/// (or missing) and its elements are repeated.
///
/// ```
/// assert_eq!(bitproof_kernels::broadcast_shape(&[4, 1, 3], &[2, 1])?, [4, 2, 3]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] with both shapes.
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>, KernelError> {
    let rank = a.len().max(b.len());
    (0..rank)
        .map(|axis| common(length(a, rank, axis), length(b, rank, axis)))
        .collect::<Option<_>>()
        .ok_or_else(|| KernelError::ShapeMismatch {
            kernel: "broadcast",
            left_name: "a",
            left: a.to_vec(),
            right_name: "b",
            right: b.to_vec(),
            rule: "from the last axis backwards, lengths must be equal or one of them 1",
        })
}

/// The length of the axis of a shape, seen as one of `rank` axes.
fn length(shape: &[usize], rank: usize, axis: usize) -> usize {
    (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
}

fn common(a: usize, b: usize) -> Option<usize> {
    match (a, b) {
        (a, b) if a == b => Some(a),
        (1, other) | (other, 1) => Some(other),
        _ => None,
    }
}

/// `out[i] = op(a[i], b[i])`, `a` and `b` of any strides and broadcast to the shape of `out`, which has to be
/// [`broadcast_shape`] of theirs. Nothing is allocated for results of up to four axes; large ones are divided over the
/// current rayon pool.
///
/// ```
/// use bitproof_kernels::{binary_into, Binary};
/// use ndarray::array;
/// let (x, row) = (array![[1.0, 2.0], [3.0, 4.0]], array![10.0, 20.0]);
/// let mut out = ndarray::Array2::zeros((2, 2));
/// binary_into(Binary::Add, x.view(), row.view(), out.view_mut())?;
/// assert_eq!(out, array![[11.0, 22.0], [13.0, 24.0]]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes do not fit; `out` is then unchanged.
pub fn binary_into<A: Dimension, B: Dimension, C: Dimension>(
    op: Binary,
    a: ArrayView<'_, f32, A>,
    b: ArrayView<'_, f32, B>,
    out: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    binary_into_with(Isa::get(), op, a, b, out)
}

/// [`binary_into`] on a chosen instruction set. The bits are the same; this is how tests show it.
///
/// # Errors
/// As [`binary_into`].
pub fn binary_into_with<A: Dimension, B: Dimension, C: Dimension>(
    isa: Isa,
    op: Binary,
    a: ArrayView<'_, f32, A>,
    b: ArrayView<'_, f32, B>,
    out: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    with_pointwise!(op, |f| binary(isa, "binary", f, a, b, out))
}

/// `out[i] = op(out[i], b[i])`, `b` broadcast to the shape of `out`.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `b` cannot be broadcast to that shape; `out` is then unchanged.
pub fn binary_in_place<B: Dimension, C: Dimension>(
    op: Binary,
    out: ArrayViewMut<'_, f32, C>,
    b: ArrayView<'_, f32, B>,
) -> Result<(), KernelError> {
    binary_in_place_with(Isa::get(), op, out, b)
}

/// [`binary_in_place`] on a chosen instruction set.
///
/// # Errors
/// As [`binary_in_place`].
pub fn binary_in_place_with<B: Dimension, C: Dimension>(
    isa: Isa,
    op: Binary,
    out: ArrayViewMut<'_, f32, C>,
    b: ArrayView<'_, f32, B>,
) -> Result<(), KernelError> {
    with_pointwise!(op, |f| unary(isa, "binary_in_place", InPlace(f), ("b", b), out))
}

/// `x[i] = x[i] · factor`.
pub fn scale_in_place<D: Dimension>(factor: f32, x: ArrayViewMut<'_, f32, D>) {
    binary_in_place(Binary::Mul, x, only(&factor)).expect("one number fits every shape");
}

/// `y[i] = fma(alpha, x[i], y[i])`, one rounding; `x` is broadcast to the shape of `y`.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if it cannot be; `y` is then unchanged.
pub fn axpy_in_place<A: Dimension, C: Dimension>(
    alpha: f32,
    x: ArrayView<'_, f32, A>,
    y: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    axpy_in_place_with(Isa::get(), alpha, x, y)
}

/// [`axpy_in_place`] on a chosen instruction set.
///
/// # Errors
/// As [`axpy_in_place`].
pub fn axpy_in_place_with<A: Dimension, C: Dimension>(
    isa: Isa,
    alpha: f32,
    x: ArrayView<'_, f32, A>,
    y: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    unary(isa, "axpy", Axpy(alpha), ("x", x), y)
}

/// `out[i] = relu(a[i] + b[i])` in one pass: the bits of [`Binary::Add`] and [`relu_into`](crate::relu_into), broadcast as there.
///
/// # Errors
/// As [`binary_into`].
pub fn add_relu_into<A: Dimension, B: Dimension, C: Dimension>(
    a: ArrayView<'_, f32, A>,
    b: ArrayView<'_, f32, B>,
    out: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    add_relu_into_with(Isa::get(), a, b, out)
}

/// [`add_relu_into`] on a chosen instruction set.
///
/// # Errors
/// As [`add_relu_into`].
pub fn add_relu_into_with<A: Dimension, B: Dimension, C: Dimension>(
    isa: Isa,
    a: ArrayView<'_, f32, A>,
    b: ArrayView<'_, f32, B>,
    out: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    binary(isa, "add_relu", AddRelu, a, b, out)
}

/// `out[i] = (a[i] + b[i]) + out[i]` in one pass: a layer's output and its bias onto the residual. `a` and `b` are broadcast to
/// the shape of `out`, which has to be [`broadcast_shape`] of theirs.
///
/// # Errors
/// As [`binary_into`].
pub fn add_to_residual<A: Dimension, B: Dimension, C: Dimension>(
    a: ArrayView<'_, f32, A>,
    b: ArrayView<'_, f32, B>,
    out: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    add_to_residual_with(Isa::get(), a, b, out)
}

/// [`add_to_residual`] on a chosen instruction set.
///
/// # Errors
/// As [`add_to_residual`].
pub fn add_to_residual_with<A: Dimension, B: Dimension, C: Dimension>(
    isa: Isa,
    a: ArrayView<'_, f32, A>,
    b: ArrayView<'_, f32, B>,
    out: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    binary(isa, "add_to_residual", AddToSum, a, b, out)
}

/// The gradient of broadcasting: `out[j]` is [`sum`] of the elements of `gradient` that `out[j]` was repeated to, in row-major
/// order. `out` has a shape that broadcasts to that of `gradient`.
///
/// ```
/// use ndarray::array;
/// let gradient = array![[1.0, 2.0], [3.0, 4.0]];
/// let mut bias = array![0.0, 0.0];
/// bitproof_kernels::sum_to_shape_into(gradient.view(), bias.view_mut())?;
/// assert_eq!(bias, array![4.0, 6.0]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if it does not; `out` is then unchanged.
pub fn sum_to_shape_into<A: Dimension, C: Dimension>(
    gradient: ArrayView<'_, f32, A>,
    out: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "sum_to_shape";
    let (gradient, out) = (gradient.into_dyn(), out.into_dyn());
    if !broadcasts_to(out.shape(), gradient.shape()) {
        return Err(mismatch(KERNEL, ("out", out.shape()), gradient.shape()));
    }
    if out.is_empty() {
        return Ok(());
    }
    let columns = out.len();
    let rows = gradient.len() / columns;
    let (by_kept, by_summed) = orders(out.shape(), gradient.ndim());
    fill_row_major(KERNEL, out, |out| {
        // Sums along rows where these lie in memory already, sums of columns otherwise.
        let by_kept = gradient.view().permuted_axes(by_kept);
        match by_kept.as_slice() {
            Some(values) if rows > 0 => {
                out.iter_mut().zip(values.chunks_exact(rows)).for_each(|(out, row)| *out = sum(row));
                Ok(())
            }
            _ => {
                let values = row_major(KERNEL, &gradient.permuted_axes(by_summed))?;
                let matrix = ArrayView2::from_shape((rows, columns), &values).expect("the same elements");
                sum_axis_into(matrix, Axis(0), ArrayViewMut1::from(out))
            }
        }
    })
}

/// The axes of an array of `rank` axes that is summed to a shape: those that are kept and then those that are summed, and the
/// other way round.
fn orders(shape: &[usize], rank: usize) -> (IxDyn, IxDyn) {
    let (mut by_kept, mut by_summed) = (IxDyn::zeros(rank), IxDyn::zeros(rank));
    let is_summed = |axis: &usize| length(shape, rank, *axis) == 1;
    let kept = (0..rank).filter(|axis| !is_summed(axis));
    let summed = (0..rank).filter(is_summed);
    kept.clone().chain(summed.clone()).enumerate().for_each(|(place, axis)| by_kept[place] = axis);
    summed.chain(kept).enumerate().for_each(|(place, axis)| by_summed[place] = axis);
    (by_kept, by_summed)
}

/// `out[i] = relu(x[i])` for slices of one length.
pub(crate) fn relu(isa: Isa, x: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    same_length("relu", ("x", x.len()), ("out", out.len()))?;
    unary(isa, "relu", Relu, ("x", ArrayView::from(x)), ArrayViewMut::from(out))
}

/// `dx[i] = x[i] ≤ 0 ? +0 : dy[i]` for slices of one length.
pub(crate) fn relu_grad(isa: Isa, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<(), KernelError> {
    same_length("relu_grad", ("x", x.len()), ("dy", dy.len()))?;
    same_length("relu_grad", ("x", x.len()), ("dx", dx.len()))?;
    binary(isa, "relu_grad", ReluGrad, ArrayView::from(x), ArrayView::from(dy), ArrayViewMut::from(dx))
}

fn binary<P: Pointwise, A: Dimension, B: Dimension, C: Dimension>(
    isa: Isa,
    kernel: &'static str,
    f: P,
    a: ArrayView<'_, f32, A>,
    b: ArrayView<'_, f32, B>,
    mut out: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    let shape = out.shape();
    let has_rank = a.ndim().max(b.ndim()) == shape.len();
    if has_rank && (a.shape() == shape || b.shape() == shape) {
        if let (Some(a), Some(b)) = (walk::repeated(&a, shape), walk::repeated(&b, shape)) {
            if out.as_slice_mut().is_some_and(|out| walk::apply_flat(isa, f, out, a, b)) {
                return Ok(());
            }
        }
    }
    binary_strided(isa, kernel, f, a.into_dyn(), b.into_dyn(), out.into_dyn())
}

fn binary_strided<P: Pointwise>(
    isa: Isa,
    kernel: &'static str,
    f: P,
    a: ArrayViewD<'_, f32>,
    b: ArrayViewD<'_, f32>,
    out: ArrayViewMutD<'_, f32>,
) -> Result<(), KernelError> {
    let rank = a.ndim().max(b.ndim());
    let fits = |axis| common(length(a.shape(), rank, axis), length(b.shape(), rank, axis));
    if !(0..rank).all(|axis| fits(axis).is_some()) {
        return Err(broadcast_shape(a.shape(), b.shape()).expect_err("an axis does not fit"));
    }
    if out.ndim() != rank || !(0..rank).all(|axis| fits(axis) == Some(out.len_of(Axis(axis)))) {
        let shape = broadcast_shape(a.shape(), b.shape())?;
        return Err(KernelError::ShapeMismatch {
            kernel,
            left_name: "the result",
            left: shape,
            right_name: "out",
            right: out.shape().to_vec(),
            rule: "they must be equal",
        });
    }
    let shape = out.raw_dim();
    let repeated = "the shapes were compared";
    let a = a.broadcast(shape.clone()).expect(repeated);
    let b = b.broadcast(shape).expect(repeated);
    walk::apply(isa, f, out, a, b);
    Ok(())
}

fn unary<P: Pointwise, A: Dimension, C: Dimension>(
    isa: Isa,
    kernel: &'static str,
    f: P,
    (name, a): (&'static str, ArrayView<'_, f32, A>),
    mut out: ArrayViewMut<'_, f32, C>,
) -> Result<(), KernelError> {
    let fits = a.ndim() <= out.ndim();
    if let Some(a) = walk::repeated(&a, out.shape()).filter(|_| fits) {
        if out.as_slice_mut().is_some_and(|out| walk::apply_flat(isa, f, out, a, &[0.0])) {
            return Ok(());
        }
    }
    unary_strided(isa, kernel, f, (name, a.into_dyn()), out.into_dyn())
}

fn unary_strided<P: Pointwise>(
    isa: Isa,
    kernel: &'static str,
    f: P,
    (name, a): (&'static str, ArrayViewD<'_, f32>),
    out: ArrayViewMutD<'_, f32>,
) -> Result<(), KernelError> {
    if !broadcasts_to(a.shape(), out.shape()) {
        return Err(mismatch(kernel, (name, a.shape()), out.shape()));
    }
    let shape = out.raw_dim();
    let repeated = "the shapes were compared";
    let a = a.broadcast(shape.clone()).expect(repeated);
    let none = only(&0.0);
    let none = none.broadcast(shape).expect("one number fits every shape");
    walk::apply(isa, f, out, a, none);
    Ok(())
}

/// An array of one number, which allocates nothing.
fn only(number: &f32) -> ArrayView0<'_, f32> {
    ArrayView0::from_shape((), std::slice::from_ref(number)).expect("it has one element")
}

fn broadcasts_to(from: &[usize], to: &[usize]) -> bool {
    let rank = to.len();
    from.len() <= rank && (0..rank).all(|axis| [1, to[axis]].contains(&length(from, rank, axis)))
}

fn mismatch(kernel: &'static str, (name, from): (&'static str, &[usize]), to: &[usize]) -> KernelError {
    KernelError::ShapeMismatch {
        kernel,
        left_name: name,
        left: from.to_vec(),
        right_name: if kernel == "sum_to_shape" { "gradient" } else { "the result" },
        right: to.to_vec(),
        rule: "the first must be broadcastable to the second",
    }
}

//! Many matrix products of one shape.

use ndarray::{ArrayView3, ArrayViewMut3, Axis};

use crate::error::KernelError;
use crate::isa::Isa;
use crate::matmul::{matmul_into_with, Start};
use crate::threads::{with_float_defaults, worth};

/// `c[p] = a[p] · b[p]` for every `p`: [`matmul_into`](crate::matmul_into) for each of P pairs of matrices, bit for bit.
///
/// `a` is P×M×K, `b` is P×K×N and `c` is P×M×N, with any strides: transposed products are views with two axes swapped, and a
/// matrix that all products share is a broadcast view. A bias of N elements is shared by all rows of all products. Divided over
/// the current rayon pool by products, or by rows if there are fewer of them than threads.
///
/// ```
/// use bitproof_kernels::{batched_matmul_into, Start};
/// use ndarray::{array, Array3};
/// let a = array![[[1.0, 2.0]], [[3.0, 4.0]]];
/// let mut c = Array3::zeros((2, 1, 1));
/// batched_matmul_into(a.view(), a.view().permuted_axes([0, 2, 1]), Start::Zero, c.view_mut())?;
/// assert_eq!(c, array![[[5.0]], [[25.0]]]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes do not fit; `c` is then unchanged.
pub fn batched_matmul_into(
    a: ArrayView3<'_, f32>,
    b: ArrayView3<'_, f32>,
    start: Start<'_>,
    c: ArrayViewMut3<'_, f32>,
) -> Result<(), KernelError> {
    batched_matmul_into_with(Isa::get(), a, b, start, c)
}

/// [`batched_matmul_into`] on a chosen instruction set. The bits are the same; this is how tests show it.
///
/// # Errors
/// As [`batched_matmul_into`].
pub fn batched_matmul_into_with(
    isa: Isa,
    a: ArrayView3<'_, f32>,
    b: ArrayView3<'_, f32>,
    start: Start<'_>,
    mut c: ArrayViewMut3<'_, f32>,
) -> Result<(), KernelError> {
    /// Multiply-adds below which waking a thread costs more than it saves.
    const WORTH_A_THREAD: usize = 1 << 19;
    check_shapes(a, b, start, &c)?;
    let (products, rows, depth) = a.dim();
    let work = products.saturating_mul(rows).saturating_mul(depth).saturating_mul(b.dim().2);
    let threads = worth(work, WORTH_A_THREAD);
    if products < threads {
        for ((a, b), c) in a.outer_iter().zip(b.outer_iter()).zip(c.outer_iter_mut()) {
            matmul_into_with(isa, a, b, start, c)?;
        }
        return Ok(());
    }
    divide(isa, a, b, start, c, threads)
}

/// The products in `parts` bands of neighbours, each on a thread.
fn divide(
    isa: Isa,
    a: ArrayView3<'_, f32>,
    b: ArrayView3<'_, f32>,
    start: Start<'_>,
    mut c: ArrayViewMut3<'_, f32>,
    parts: usize,
) -> Result<(), KernelError> {
    if parts <= 1 {
        return with_float_defaults(|| {
            let mut products = a.outer_iter().zip(b.outer_iter()).zip(c.outer_iter_mut());
            products.try_for_each(|((a, b), c)| matmul_into_with(isa, a, b, start, c))
        });
    }
    let middle = a.dim().0 * (parts / 2) / parts;
    let (a_low, a_high) = a.split_at(Axis(0), middle);
    let (b_low, b_high) = b.split_at(Axis(0), middle);
    let (c_low, c_high) = c.split_at(Axis(0), middle);
    let (low, high) = rayon::join(
        || divide(isa, a_low, b_low, start, c_low, parts / 2),
        || divide(isa, a_high, b_high, start, c_high, parts - parts / 2),
    );
    low.and(high)
}

fn check_shapes(
    a: ArrayView3<'_, f32>,
    b: ArrayView3<'_, f32>,
    start: Start<'_>,
    c: &ArrayViewMut3<'_, f32>,
) -> Result<(), KernelError> {
    let mismatch = |left_name, left: &[usize], right_name, right: &[usize], rule| {
        let (left, right) = (left.to_vec(), right.to_vec());
        Err(KernelError::ShapeMismatch { kernel: "batched_matmul", left_name, left, right_name, right, rule })
    };
    let ((products, rows, depth), (b_products, b_depth, columns)) = (a.dim(), b.dim());
    if (products, depth) != (b_products, b_depth) {
        let rule = "there must be one matrix of b for each of a, with as many rows as that has columns";
        return mismatch("a", a.shape(), "b", b.shape(), rule);
    }
    if c.dim() != (products, rows, columns) {
        let rule = "c must have the shape of the products";
        return mismatch("a·b", &[products, rows, columns], "c", c.shape(), rule);
    }
    match start {
        Start::Bias(bias) if bias.len() != columns => {
            let rule = "the bias needs one element for each column of c";
            mismatch("bias", &[bias.len()], "c", c.shape(), rule)
        }
        _ => Ok(()),
    }
}

//! The matrix product: operands brought into row-major order, rows of the result divided over threads.

use std::borrow::Cow;

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

use crate::error::KernelError;
use crate::isa::Isa;
use crate::simd::{Simd, Vectorized};
use crate::spec::fma::{NativeFma, SoftFma};
use crate::spec::matmul::chains;
use crate::threads::with_float_defaults;

/// The value at which the chain of each element of a matrix product begins.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// `+0`.
    Zero,
    /// `bias[j]` in every row: N elements.
    Bias(ArrayView1<'a, f32>),
    /// What `c` holds already.
    Accumulate,
}

/// `c[i,j] = fma(a[i,K−1], b[K−1,j], … fma(a[i,0], b[0,j], start))`: one chain over `k` in rising order.
///
/// `a` is M×K, `b` is K×N and `c` is M×N, with any strides, so that transposed products are `a.t()` or `b.t()`. With K = 0
/// each element is its start. O(M·N·K) operations; copies of operands that are not row-major, and no other memory that
/// grows with them. Large products are divided over the current rayon pool by rows.
///
/// ```
/// use bitproof_kernels::{matmul_into, Start};
/// use ndarray::array;
/// let (x, weight, bias) = (array![[1.0, 2.0]], array![[3.0, 4.0], [5.0, 6.0]], array![0.5, -0.5]);
/// let mut y = ndarray::Array2::zeros((1, 2));
/// matmul_into(x.view(), weight.t(), Start::Bias(bias.view()), y.view_mut())?;
/// assert_eq!(y, array![[11.5, 16.5]]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes do not fit; `c` is then unchanged.
pub fn matmul_into(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    start: Start<'_>,
    c: ArrayViewMut2<'_, f32>,
) -> Result<(), KernelError> {
    matmul_into_with(Isa::get(), a, b, start, c)
}

/// [`matmul_into`] on a chosen instruction set. The bits are the same; this is how tests show it.
///
/// # Errors
/// As [`matmul_into`].
pub fn matmul_into_with(
    isa: Isa,
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    start: Start<'_>,
    mut c: ArrayViewMut2<'_, f32>,
) -> Result<(), KernelError> {
    check_shapes(a, b, start, &c.view())?;
    match start {
        Start::Zero => c.fill(0.0),
        Start::Bias(bias) => c.assign(&bias),
        Start::Accumulate => {}
    }
    let (depth, columns) = (a.ncols(), b.ncols());
    let (a, b) = (row_major(a), row_major(b));
    if let Some(c) = c.as_slice_mut() {
        divide_rows(isa, &a, &b, c, depth, columns);
    } else {
        let mut dense: Vec<f32> = c.iter().copied().collect();
        divide_rows(isa, &a, &b, &mut dense, depth, columns);
        c.iter_mut().zip(dense).for_each(|(to, from)| *to = from);
    }
    Ok(())
}

/// `a · b` from `+0`; see [`matmul_into`].
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `a` has not as many columns as `b` rows, [`KernelError::SizeOverflow`] if the result
/// cannot be addressed.
pub fn matmul(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Result<Array2<f32>, KernelError> {
    let (rows, columns) = (a.nrows(), b.ncols());
    let bytes = rows.checked_mul(columns).and_then(|count| count.checked_mul(size_of::<f32>()));
    if bytes.is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(KernelError::SizeOverflow { kernel: "matmul", rows, columns });
    }
    inner_dimensions(a, b)?;
    let mut c = Array2::zeros((rows, columns));
    matmul_into(a, b, Start::Accumulate, c.view_mut())?;
    Ok(c)
}

fn check_shapes(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    start: Start<'_>,
    c: &ArrayView2<'_, f32>,
) -> Result<(), KernelError> {
    inner_dimensions(a, b)?;
    let mismatch = |left_name, left, rule| {
        Err(KernelError::ShapeMismatch {
            kernel: "matmul",
            left_name,
            left,
            right_name: "c",
            right: c.shape().to_vec(),
            rule,
        })
    };
    if c.shape() != [a.nrows(), b.ncols()] {
        return mismatch("a·b", vec![a.nrows(), b.ncols()], "c must have the shape of the product");
    }
    match start {
        Start::Bias(bias) if bias.len() != c.ncols() => {
            mismatch("bias", vec![bias.len()], "the bias needs one element for each column of c")
        }
        _ => Ok(()),
    }
}

fn inner_dimensions(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Result<(), KernelError> {
    if a.ncols() == b.nrows() {
        return Ok(());
    }
    Err(KernelError::ShapeMismatch {
        kernel: "matmul",
        left_name: "a",
        left: a.shape().to_vec(),
        right_name: "b",
        right: b.shape().to_vec(),
        rule: "a needs as many columns as b has rows",
    })
}

/// The elements row by row: borrowed if they lie so, copied otherwise.
fn row_major(matrix: ArrayView2<'_, f32>) -> Cow<'_, [f32]> {
    if let Some(slice) = matrix.to_slice() {
        return Cow::Borrowed(slice);
    }
    if let Some(columns) = matrix.reversed_axes().to_slice() {
        return Cow::Owned(transposed(columns, matrix.nrows(), matrix.ncols()));
    }
    Cow::Owned(matrix.iter().copied().collect())
}

/// Column-major to row-major, in blocks that stay in the first cache.
fn transposed(columns: &[f32], height: usize, width: usize) -> Vec<f32> {
    const BLOCK: usize = 16;
    let mut out = vec![0.0; columns.len()];
    for first_row in (0..height).step_by(BLOCK) {
        for first_column in (0..width).step_by(BLOCK) {
            for row in first_row..height.min(first_row + BLOCK) {
                for column in first_column..width.min(first_column + BLOCK) {
                    out[row * width + column] = columns[column * height + row];
                }
            }
        }
    }
    out
}

fn divide_rows(isa: Isa, a: &[f32], b: &[f32], c: &mut [f32], depth: usize, columns: usize) {
    /// Multiply-adds below which waking a thread costs more than it saves.
    const WORTH_A_THREAD: usize = 1 << 19;
    /// Bands end on multiples of the rows that the kernel advances together.
    const GRAIN: usize = 4;
    if depth == 0 || c.is_empty() {
        return;
    }
    let rows = c.len() / columns;
    let work = c.len().saturating_mul(depth);
    let bands = rayon::current_num_threads().min(work / WORTH_A_THREAD).max(1);
    if bands == 1 {
        return with_float_defaults(|| continue_chains(isa, a, b, c, depth, columns));
    }
    let height = rows.div_ceil(bands).next_multiple_of(GRAIN);
    c.par_chunks_mut(height * columns)
        .zip(a.par_chunks(height * depth))
        .for_each(|(c, a)| with_float_defaults(|| continue_chains(isa, a, b, c, depth, columns)));
}

fn continue_chains(isa: Isa, a: &[f32], b: &[f32], c: &mut [f32], depth: usize, columns: usize) {
    let product = Product { a, b, c, depth, columns };
    if let Err(Product { a, b, c, depth, columns }) = isa.vectorize(product) {
        #[cfg(target_arch = "x86_64")]
        if crate::x86::fma::chains_if_available(a, b, c, depth, columns) {
            return;
        }
        chains::<SoftFma>(a, b, c, depth, columns);
    }
}

struct Product<'a> {
    a: &'a [f32],
    b: &'a [f32],
    c: &'a mut [f32],
    depth: usize,
    columns: usize,
}

impl Vectorized for Product<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        chains::<NativeFma>(self.a, self.b, self.c, self.depth, self.columns);
    }
}

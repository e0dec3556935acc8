//! The matrix product: operands as they lie in memory, rows or columns of the result divided over threads.

use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, Axis};

use crate::error::KernelError;
use crate::isa::Isa;
use crate::scratch::{row_major, update_row_major, with_scratch, zeros, RowMajor};
use crate::threads::{each_chunk, with_float_defaults, worth};

mod drive;
mod pack;
mod tiles;

use drive::Product;
use pack::Operand;
use tiles::Begin;

const KERNEL: &str = "matmul";

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
/// [`KernelError::ShapeMismatch`] if the shapes do not fit, [`KernelError::OutOfMemory`] if a copy of an operand does not fit into
/// memory; `c` is then unchanged.
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
    if c.is_empty() {
        return Ok(());
    }
    if a.ncols() == 0 {
        match start {
            Start::Zero => c.fill(0.0),
            Start::Bias(bias) => c.assign(&bias),
            Start::Accumulate => {}
        }
        return Ok(());
    }
    let (left, right) = (Dense::of(a)?, Dense::of(b)?);
    let (left, right) = (left.operand(), right.operand());
    let columns = c.ncols();
    let bias = if let Start::Bias(bias) = &start { Some(row_major(KERNEL, bias)?) } else { None };
    let begin = match (start, &bias) {
        (Start::Accumulate, _) => Begin::Given,
        (_, Some(bias)) => Begin::Bias(bias),
        _ => Begin::Zero,
    };
    if let Some(c) = c.as_slice_mut() {
        divide(isa, left, right, begin, c, columns);
        return Ok(());
    }
    let rows = c.nrows();
    if c.view().reversed_axes().is_standard_layout() {
        // The bias lies along the columns of the transposed C, which the chains cannot begin with.
        let begin = match begin {
            Begin::Bias(bias) => {
                c.assign(&ArrayView1::from(bias));
                Begin::Given
            }
            other => other,
        };
        let transposed = c.view_mut().reversed_axes();
        let transposed = transposed.into_slice().expect("standard layout is contiguous");
        divide(isa, right.transposed(), left.transposed(), begin, transposed, rows);
        return Ok(());
    }
    update_row_major(KERNEL, c, |c| {
        divide(isa, left, right, begin, c, columns);
        Ok(())
    })
}

/// `a · b` from `+0`; see [`matmul_into`].
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `a` has not as many columns as `b` rows, [`KernelError::SizeOverflow`] if there is
/// no memory for the result.
pub fn matmul(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Result<Array2<f32>, KernelError> {
    let (rows, columns) = (a.nrows(), b.ncols());
    inner_dimensions(a, b)?;
    let c = zeros(KERNEL, rows, columns)?;
    let mut c = Array2::from_shape_vec((rows, columns), c).expect("as many elements");
    matmul_into(a, b, Start::Zero, c.view_mut())?;
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
            kernel: KERNEL,
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
        kernel: KERNEL,
        left_name: "a",
        left: a.shape().to_vec(),
        right_name: "b",
        right: b.shape().to_vec(),
        rule: "a needs as many columns as b has rows",
    })
}

/// A matrix whose rows or whose columns are contiguous: borrowed if it lies so, copied otherwise.
struct Dense<'a> {
    data: RowMajor<'a, f32>,
    rows: usize,
    columns: usize,
    by_rows: bool,
}

impl<'a> Dense<'a> {
    fn of(matrix: ArrayView2<'a, f32>) -> Result<Self, KernelError> {
        let (rows, columns) = matrix.dim();
        let (data, by_rows) = match matrix.reversed_axes().to_slice() {
            Some(slice) if !matrix.is_standard_layout() => (RowMajor::InPlace(slice), false),
            _ => (row_major(KERNEL, &matrix)?, true),
        };
        Ok(Self { data, rows, columns, by_rows })
    }

    fn operand(&self) -> Operand<'_> {
        let Self { rows, columns, by_rows, .. } = *self;
        let stride = if by_rows { columns } else { rows };
        Operand { data: &self.data, rows, columns, by_rows, stride, first: 0 }
    }
}

/// Divides the rows of a row-major C over threads, or its columns where there are too few rows.
fn divide(isa: Isa, a: Operand<'_>, b: Operand<'_>, begin: Begin<'_>, c: &mut [f32], columns: usize) {
    /// Multiply-adds below which waking a thread costs more than it saves.
    const WORTH_A_THREAD: usize = 1 << 19;
    let parts = worth(c.len().saturating_mul(a.columns), WORTH_A_THREAD);
    let tiles = a.rows.div_ceil(isa.tile_rows());
    if parts == 1 || tiles >= parts {
        let height = tiles.div_ceil(parts) * isa.tile_rows();
        each_chunk(c, height * columns, &|part, c| {
            let a = a.rows_from(part * height, c.len() / columns);
            product(isa, Product { a, b, begin, c, c_stride: columns });
        });
    } else {
        let width = columns.div_ceil(parts).next_multiple_of(48);
        let c = ArrayViewMut2::from_shape((a.rows, columns), c).expect("C has as many elements");
        divide_columns(isa, a, b, begin, c, width);
    }
}

/// Few rows: each thread has columns of its own, in memory of its own.
fn divide_columns(
    isa: Isa,
    a: Operand<'_>,
    b: Operand<'_>,
    begin: Begin<'_>,
    c: ArrayViewMut2<'_, f32>,
    width: usize,
) {
    let columns = c.ncols();
    if columns > width {
        let half = columns.div_ceil(width) / 2 * width;
        let (left, right) = c.split_at(Axis(1), half);
        rayon::join(
            || divide_columns(isa, a, b.columns_from(0, half), begin, left, width),
            || divide_columns(isa, a, b.columns_from(half, columns - half), begin.at(half), right, width),
        );
        return;
    }
    let mut c = c;
    let shape = c.raw_dim();
    with_scratch(c.len(), |own: &mut [f32]| {
        ArrayViewMut2::from_shape(shape, &mut *own).expect("as many elements as C").assign(&c);
        with_float_defaults(|| product(isa, Product { a, b, begin, c: &mut *own, c_stride: columns }));
        c.assign(&ArrayView2::from_shape(shape, &*own).expect("as many elements as C"));
    });
}

fn product(isa: Isa, product: Product<'_>) {
    if let Err(product) = isa.vectorize(product) {
        product.by_definition();
    }
}

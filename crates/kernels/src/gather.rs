use ndarray::{ArrayView2, ArrayViewMut2};

use crate::error::KernelError;

/// `out[i] = source[rows[i]]`: rows of an R×C matrix, copied bit by bit into an N×C one. Both may have any strides; a row may be
/// named more than once. Nothing is allocated.
///
/// ```
/// use ndarray::array;
/// let source = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
/// let mut batch = ndarray::Array2::zeros((2, 2));
/// bitproof_kernels::gather_rows_into(source.view(), &[2, 0], batch.view_mut())?;
/// assert_eq!(batch, array![[5.0, 6.0], [1.0, 2.0]]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `out` is not N×C, [`KernelError::IndexOutOfRange`] for the first row that is not there. `out` is then
/// unchanged.
pub fn gather_rows_into(
    source: ArrayView2<'_, f32>,
    rows: &[u32],
    mut out: ArrayViewMut2<'_, f32>,
) -> Result<(), KernelError> {
    if out.dim() != (rows.len(), source.ncols()) {
        return Err(KernelError::ShapeMismatch {
            kernel: "gather_rows",
            left_name: "the result",
            left: vec![rows.len(), source.ncols()],
            right_name: "out",
            right: out.shape().to_vec(),
            rule: "they must be equal",
        });
    }
    if let Some(at) = rows.iter().position(|&row| row as usize >= source.nrows()) {
        let length = source.nrows();
        return Err(KernelError::IndexOutOfRange { kernel: "gather_rows", at, index: rows[at], length });
    }
    for (mut out, &row) in out.outer_iter_mut().zip(rows) {
        out.assign(&source.row(row as usize));
    }
    Ok(())
}

//! Embedding: rows of a table by index, and its gradient.

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::error::KernelError;
use crate::isa::Isa;
use crate::scratch::{fill_row_major, row_major, update_row_major};
use crate::simd::{F32Lanes, Simd, Vectorized};
use crate::spec::embed::{gather, scatter_add};
use crate::threads::{each_chunk, worth};

/// Elements copied or added below which waking a thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 16;

/// `y[p] = weight[ids[p]]`, bit for bit: an embedding, or the rows of a batch out of a table of samples.
///
/// `weight` is V×W, there are P `ids` and `y` is P×W, with any strides; an id may come more than once. Only the named rows of `weight`
/// are read, where they lie. Divided over the current rayon pool by positions.
///
/// ```
/// use bitproof_kernels::embedding_into;
/// use ndarray::{array, Array2};
/// let weight = array![[1.0, 2.0], [3.0, 4.0]];
/// let mut y = Array2::zeros((3, 2));
/// embedding_into(weight.view(), &[1, 0, 1], y.view_mut())?;
/// assert_eq!(y, array![[3.0, 4.0], [1.0, 2.0], [3.0, 4.0]]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `y` is not P×W, [`KernelError::IndexOutOfRange`] for the first id that is not below V,
/// [`KernelError::OutOfMemory`] if `y` is not row-major and there is no memory for a copy. `y` is then unchanged.
pub fn embedding_into(
    weight: ArrayView2<'_, f32>,
    ids: &[u32],
    y: ArrayViewMut2<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "embedding";
    let (rows, width) = weight.dim();
    check(KERNEL, ids, ("y", y.dim()), (rows, width))?;
    if y.is_empty() {
        return Ok(());
    }
    fill_row_major(KERNEL, y, |y| {
        let band = ids.len().div_ceil(worth(y.len(), WORTH_A_THREAD));
        each_chunk(y, band * width, &|chunk, y: &mut [f32]| gather(weight, &ids[chunk * band..], y));
        Ok(())
    })
}

/// Adds the gradient of [`embedding_into`] to `dw`: `dw[r] ← (dw[r] + dy[p₁]) + dy[p₂] + …` over the positions with `ids[p] = r` in
/// rising order, one chain for each element. Rows that no id names keep their bits.
///
/// `dy` is P×W and `dw` is V×W, with any strides; fill `dw` with `+0` for the gradient alone. Divided over the current rayon pool
/// by rows of `dw`, so that positions of one row never meet on two threads.
///
/// ```
/// use bitproof_kernels::embedding_grad_into;
/// use ndarray::{array, Array2};
/// let mut dw = Array2::zeros((2, 1));
/// embedding_grad_into(array![[1.0], [2.0], [4.0]].view(), &[1, 0, 1], dw.view_mut())?;
/// assert_eq!(dw, array![[2.0], [5.0]]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `dy` is not P×W, [`KernelError::IndexOutOfRange`] for the first id that is not below V. `dw` is
/// then unchanged.
pub fn embedding_grad_into(
    dy: ArrayView2<'_, f32>,
    ids: &[u32],
    dw: ArrayViewMut2<'_, f32>,
) -> Result<(), KernelError> {
    embedding_grad_into_with(Isa::get(), dy, ids, dw)
}

/// [`embedding_grad_into`] on a chosen instruction set. The bits are the same; this is how tests show it.
///
/// # Errors
/// As [`embedding_grad_into`].
pub fn embedding_grad_into_with(
    isa: Isa,
    dy: ArrayView2<'_, f32>,
    ids: &[u32],
    dw: ArrayViewMut2<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "embedding_grad";
    let (rows, width) = dw.dim();
    check(KERNEL, ids, ("dy", dy.dim()), (rows, width))?;
    if dw.is_empty() {
        return Ok(());
    }
    let dy = row_major(KERNEL, &dy)?;
    update_row_major(KERNEL, dw, |dw| {
        let band = rows.div_ceil(worth(dy.len(), WORTH_A_THREAD));
        each_chunk(dw, band * width, &|chunk, dw: &mut [f32]| {
            let sums = ScatterAdd { dy: &dy, ids, width, first: chunk * band, dw };
            if let Err(ScatterAdd { dy, ids, width, first, dw }) = isa.vectorize(sums) {
                scatter_add(dy, ids, width, first, dw);
            }
        });
        Ok(())
    })
}

fn check(
    kernel: &'static str,
    ids: &[u32],
    (name, shape): (&'static str, (usize, usize)),
    (rows, width): (usize, usize),
) -> Result<(), KernelError> {
    if shape != (ids.len(), width) {
        return Err(KernelError::ShapeMismatch {
            kernel,
            left_name: "the embedding of all ids",
            left: vec![ids.len(), width],
            right_name: name,
            right: vec![shape.0, shape.1],
            rule: "there must be one row for each id, as wide as the table",
        });
    }
    match ids.iter().position(|&id| id as usize >= rows) {
        Some(at) => Err(KernelError::IndexOutOfRange { kernel, at, index: ids[at], length: rows }),
        None => Ok(()),
    }
}

/// As [`scatter_add`]. Every thread reads all ids and takes those of its rows: that keeps the order without sorting.
struct ScatterAdd<'a> {
    dy: &'a [f32],
    ids: &'a [u32],
    width: usize,
    first: usize,
    dw: &'a mut [f32],
}

impl Vectorized for ScatterAdd<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let rows = self.dw.len() / self.width;
        for (&id, dy) in self.ids.iter().zip(self.dy.chunks_exact(self.width)) {
            let row = (id as usize).wrapping_sub(self.first);
            if row >= rows {
                continue;
            }
            let mut dw = self.dw[row * self.width..][..self.width].chunks_exact_mut(S::LANES);
            let mut dy = dy.chunks_exact(S::LANES);
            for (dw, dy) in dw.by_ref().zip(dy.by_ref()) {
                (simd.load(dw) + simd.load(dy)).store(dw);
            }
            let (dw, dy) = (dw.into_remainder(), dy.remainder());
            (simd.load_partial(dw) + simd.load_partial(dy)).store_partial(dw);
        }
    }
}

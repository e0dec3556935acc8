use ndarray::{ArrayView, ArrayViewMut, Dimension};
use rayon::prelude::*;

use crate::error::{same_shape, KernelError};
use crate::isa::Isa;
use crate::scratch::{fill_row_major, row_major};
use crate::simd::{Simd, Vectorized};
use crate::spec::dropout::dropout;
use crate::stream::{blocks, Stream, StreamKey};
use crate::threads::{with_float_defaults, worth};

/// Which elements of a tensor dropout sets to zero. The mask is not stored: the backward pass makes it again.
///
/// Element `i`, counted in row-major order whatever the strides, stays if `u ≥ p`, where `u` is
/// [`uniform_f32`](Stream::uniform_f32) of word `i` of the key's [`Stream`].
///
/// ```
/// use bitproof_kernels::{dropout_grad_into, dropout_into, Dropout, StreamKey};
/// let dropout = Dropout::new(StreamKey::from_bytes(*b"dropout7"), 0.5);
/// let (x, mut y, mut dx) = (ndarray::Array1::ones(8), ndarray::Array1::zeros(8), ndarray::Array1::zeros(8));
/// dropout_into(&dropout, x.view(), y.view_mut())?;
/// dropout_grad_into(&dropout, x.view(), dx.view_mut())?;
/// assert!(y.iter().all(|&y| y == 0.0 || y == 2.0));
/// assert_eq!(y, dx);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    key: StreamKey,
    p: f32,
}

impl Dropout {
    /// Zeroes each element with probability `p`.
    ///
    /// # Panics
    /// If `p` is not in `[0, 1)`.
    pub fn new(key: StreamKey, p: f32) -> Dropout {
        assert!((0.0..1.0).contains(&p), "dropout with probability {p}, which is not in [0, 1)");
        Dropout { key, p }
    }
}

/// `y[i] = kept(i) ? x[i] · s : +0` with `s = 1 / (1 − p)`, all in f32.
///
/// Large tensors are divided over the current rayon pool.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `y` has another shape than `x`.
pub fn dropout_into<D: Dimension>(
    dropout: &Dropout,
    x: ArrayView<'_, f32, D>,
    y: ArrayViewMut<'_, f32, D>,
) -> Result<(), KernelError> {
    same_shape("dropout", ("x", x.shape()), ("y", y.shape()))?;
    scale_kept("dropout", dropout, x, y)
}

/// `dx[i] = kept(i) ? dy[i] · s : +0`: the gradient of [`dropout_into`] with the same `dropout`.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `dx` has another shape than `dy`.
pub fn dropout_grad_into<D: Dimension>(
    dropout: &Dropout,
    dy: ArrayView<'_, f32, D>,
    dx: ArrayViewMut<'_, f32, D>,
) -> Result<(), KernelError> {
    same_shape("dropout_grad", ("dy", dy.shape()), ("dx", dx.shape()))?;
    scale_kept("dropout_grad", dropout, dy, dx)
}

fn scale_kept<D: Dimension>(
    kernel: &'static str,
    dropout: &Dropout,
    x: ArrayView<'_, f32, D>,
    y: ArrayViewMut<'_, f32, D>,
) -> Result<(), KernelError> {
    /// Elements that are worth waking a thread for.
    const WORTH_A_THREAD: usize = 1 << 15;
    let isa = Isa::get();
    let length = x.len().div_ceil(worth(x.len(), WORTH_A_THREAD)).next_multiple_of(WORDS).max(WORDS);
    let scale = with_float_defaults(|| 1.0 / (1.0 - dropout.p));
    let x = row_major(kernel, &x)?;
    fill_row_major(kernel, y, |y| {
        let parts = y.par_chunks_mut(length).zip(x.par_chunks(length)).enumerate();
        parts.for_each(|(index, (y, x))| {
            let part = Part { dropout, scale, first: (index * length) as u64, x, y };
            with_float_defaults(|| isa.vectorize(part).unwrap_or_else(Part::by_definition));
        });
        Ok(())
    })
}

/// Elements whose words are made at once: sixteen blocks of the stream.
const WORDS: usize = 64;

struct Part<'a> {
    dropout: &'a Dropout,
    scale: f32,
    /// Index of the first element, a multiple of [`WORDS`].
    first: u64,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Part<'_> {
    fn by_definition(self) {
        let mut stream = Stream::at(self.dropout.key, self.first);
        dropout(&mut stream, self.dropout.p, self.scale, self.x, self.y);
    }
}

impl Vectorized for Part<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        // u ≥ p for the multiple u of 2⁻²⁴; the product is exact.
        let least = (self.dropout.p * 16_777_216.0).ceil() as u32;
        for (index, (x, y)) in self.x.chunks(WORDS).zip(self.y.chunks_mut(WORDS)).enumerate() {
            let words: [[u32; WORDS / 4]; 4] =
                blocks(self.dropout.key, self.first / 4 + (index * WORDS / 4) as u64);
            let mut in_order = [0; WORDS];
            for (block, four) in in_order.chunks_exact_mut(4).enumerate() {
                for (to, word) in four.iter_mut().zip(&words) {
                    *to = word[block];
                }
            }
            for ((y, &x), word) in y.iter_mut().zip(x).zip(in_order) {
                *y = if word >> 8 >= least { x * self.scale } else { 0.0 };
            }
        }
    }
}

//! Operands as they lie in memory, and copies of parts of them in the order in which tiles read.

use crate::scratch::Kept;
use crate::simd::Simd;
use crate::transpose::transpose;

/// A part of a matrix in memory, whose rows or whose columns are contiguous: its lines.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    /// Whole lines of the matrix, beginning with the part's first.
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Whether the lines are rows.
    pub(super) by_rows: bool,
    /// The length of a line.
    pub(super) stride: usize,
    /// Where in each line the part begins.
    pub(super) first: usize,
}

impl<'a> Operand<'a> {
    /// The same elements with rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self { rows: self.columns, columns: self.rows, by_rows: !self.by_rows, ..self }
    }

    /// Some of the rows.
    pub(super) fn rows_from(self, first: usize, rows: usize) -> Self {
        if self.by_rows {
            Self { data: &self.data[first * self.stride..], rows, ..self }
        } else {
            Self { first: self.first + first, rows, ..self }
        }
    }

    /// Some of the columns.
    pub(super) fn columns_from(self, first: usize, columns: usize) -> Self {
        self.transposed().rows_from(first, columns).transposed()
    }

    /// The part of line `i`.
    #[inline(always)]
    pub(super) fn line(self, i: usize) -> &'a [f32] {
        let length = if self.by_rows { self.columns } else { self.rows };
        &self.data[i * self.stride + self.first..][..length]
    }

    /// The elements row by row, copied if they do not lie so.
    pub(super) fn row_major(self, copy: &'a mut Kept<f32>) -> &'a [f32] {
        if self.by_rows && self.stride == self.columns {
            return &self.data[..self.rows * self.columns];
        }
        if self.by_rows {
            return copy.hold((0..self.rows).flat_map(|i| self.line(i)).copied());
        }
        let row = |i| (0..self.columns).map(move |j| self.line(j)[i]);
        copy.hold((0..self.rows).flat_map(row))
    }
}

/// Copies `from` so that the elements of each column lie side by side, `stride` apart from column to column; from `from.rows` up to
/// `stride` they are `+0`. `to` has `from.columns · stride` elements.
#[inline(always)]
pub(super) fn interleave<S: Simd>(simd: S, from: Operand<'_>, stride: usize, to: &mut [f32]) {
    let (height, depth) = (from.rows, from.columns);
    if !from.by_rows {
        for (k, to) in to.chunks_exact_mut(stride).enumerate() {
            to[..height].copy_from_slice(from.line(k));
            to[height..].fill(0.0);
        }
        return;
    }
    transpose(simd, (&from.data[from.first..], from.stride), (height, depth), (&mut *to, stride));
    if height < stride {
        to.chunks_exact_mut(stride).for_each(|to| to[height..].fill(0.0));
    }
}

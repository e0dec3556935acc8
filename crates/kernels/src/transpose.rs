//! Transposition in blocks that stay in registers.

use crate::simd::{Simd, Vectorized};

/// Element (i, j) of `from`, at `i·from_stride + j`, becomes element (j, i) of `to`, for `rows` rows of `columns` columns.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(
    simd: S,
    (from, from_stride): (&[f32], usize),
    (rows, columns): (usize, usize),
    (to, to_stride): (&mut [f32], usize),
) {
    let mut row = 0;
    while row + S::BLOCK <= rows {
        let mut column = 0;
        while column + S::BLOCK <= columns {
            let from = &from[row * from_stride + column..];
            simd.transpose(from, from_stride, &mut to[column * to_stride + row..], to_stride);
            column += S::BLOCK;
        }
        for row in row..row + S::BLOCK {
            let from = &from[row * from_stride..][..columns];
            for column in column..columns {
                to[column * to_stride + row] = from[column];
            }
        }
        row += S::BLOCK;
    }
    for row in row..rows {
        for (column, &x) in from[row * from_stride..][..columns].iter().enumerate() {
            to[column * to_stride + row] = x;
        }
    }
}

/// [`transpose`] as a piece of work of its own, for code that is not in lanes.
pub(crate) struct Transpose<'a> {
    pub(crate) from: &'a [f32],
    pub(crate) from_stride: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) to: &'a mut [f32],
    pub(crate) to_stride: usize,
}

impl Vectorized for Transpose<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { from, from_stride, rows, columns, to, to_stride } = self;
        transpose(simd, (from, from_stride), (rows, columns), (to, to_stride));
    }
}

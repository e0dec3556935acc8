//! Reductions of many columns at once: what happens to one column happens to its neighbours in the other lanes.

use std::ops::Range;

use super::lanes::{fold_chunks, Chunks};
use crate::simd::{F32Lanes, Simd, Vectorized};
use crate::spec::reduce::LANES;

/// Some columns of a row-major matrix.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// The matrix from the first of these columns on.
    pub(super) x: &'a [f32],
    /// Columns of the whole matrix.
    pub(super) stride: usize,
    /// Rows of the matrix.
    pub(super) rows: usize,
}

impl<'a> Columns<'a> {
    /// `width` elements of a row, from column `first` on.
    #[inline(always)]
    fn part(&self, row: usize, first: usize, width: usize) -> &'a [f32] {
        &self.x[row * self.stride + first..][..width]
    }

    /// The elements of `width` columns from `first` on, where column `first + i` begins at `i · to_stride`.
    pub(super) fn gather(&self, first: usize, width: usize, to: &mut [f32], to_stride: usize) {
        for row in 0..self.rows {
            for (column, &x) in self.part(row, first, width).iter().enumerate() {
                to[column * to_stride + row] = x;
            }
        }
    }
}

/// The sum of each column, bit for bit as [`tree_sum`](crate::spec::reduce::tree_sum).
pub(super) struct ColumnSums<'a> {
    pub(super) of: Columns<'a>,
    pub(super) sums: &'a mut [f32],
}

impl Vectorized for ColumnSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let ColumnSums { of, sums } = self;
        let (first, sums) = strips::<S, 16>(simd, of, 0, sums);
        let (first, sums) = strips::<S, 8>(simd, of, first, sums);
        let (mut first, sums) = strips::<S, 4>(simd, of, first, sums);
        for strip in sums.chunks_mut(S::LANES) {
            strip_sums::<S, 1>(simd, of, first, strip);
            first += strip.len();
        }
    }
}

/// The sums of columns from `first` on, as many as fill strips of `W` registers. Returns what is left of them.
///
/// The wider a strip, the longer is what it reads at once of each row.
#[inline(always)]
fn strips<'a, S: Simd, const W: usize>(
    simd: S,
    of: Columns<'_>,
    mut first: usize,
    sums: &'a mut [f32],
) -> (usize, &'a mut [f32]) {
    let mut strips = sums.chunks_exact_mut(W * S::LANES);
    for strip in strips.by_ref() {
        strip_sums::<S, W>(simd, of, first, strip);
        first += strip.len();
    }
    (first, strips.into_remainder())
}

/// `W` registers of columns; fewer than all their lanes only for `W = 1`.
#[inline(always)]
fn strip_sums<S: Simd, const W: usize>(simd: S, of: Columns<'_>, first: usize, sums: &mut [f32]) {
    let total = fold_chunks(&Strip::<S, W> { simd, of, first, width: sums.len() });
    if W == 1 && sums.len() < S::LANES {
        return total[0].store_partial(sums);
    }
    for (register, sums) in total.into_iter().zip(sums.chunks_exact_mut(S::LANES)) {
        register.store(sums);
    }
}

/// f32 in a cache line.
const LINE: usize = 16;
/// How many rows of a lane are on their way while one is added.
const AHEAD: usize = 2;

struct Strip<'a, S, const W: usize> {
    simd: S,
    of: Columns<'a>,
    first: usize,
    width: usize,
}

impl<S: Simd, const W: usize> Strip<'_, S, W> {
    /// Asks for a row, which need not exist, ahead of its use: the processor does not see it coming, so far apart are the rows of
    /// a lane.
    #[inline(always)]
    fn prefetch(&self, row: usize) {
        for at in (0..W * S::LANES).step_by(LINE) {
            self.simd.prefetch(self.of.x, row * self.of.stride + self.first + at);
        }
    }
    /// Continues a lane by one row.
    #[inline(always)]
    fn add_row(&self, mut sum: [S::F32; W], row: usize) -> [S::F32; W] {
        let x = self.of.part(row, self.first, self.width);
        if W == 1 && x.len() < S::LANES {
            sum[0] = sum[0] + self.simd.load_partial(x);
        } else {
            for (sum, x) in sum.iter_mut().zip(x.chunks_exact(S::LANES)) {
                *sum = *sum + self.simd.load(x);
            }
        }
        sum
    }
}

impl<S: Simd, const W: usize> Chunks for Strip<'_, S, W> {
    type Sum = [S::F32; W];
    #[inline(always)]
    fn count(&self) -> usize {
        self.of.rows
    }
    #[inline(always)]
    fn zero(&self) -> [S::F32; W] {
        [self.simd.splat(0.0); W]
    }
    /// Lanes are taken in the order in which they meet in the fold, so that at most seven wait. One without rows is +0, which
    /// added to another lane changes nothing, since no lane is ever −0.
    #[inline(always)]
    fn chunk(&self, rows: Range<usize>) -> [S::F32; W] {
        let mut waiting = [self.zero(); LANES.ilog2() as usize + 1];
        let mut depth = 0;
        let first_row = |index: usize| rows.start + (index.reverse_bits() >> (usize::BITS - LANES.ilog2()));
        for index in 0..LANES {
            let mut sum = self.zero();
            let mut row = first_row(index);
            while row < rows.end {
                if W > 1 {
                    let ahead = row + AHEAD * LANES;
                    self.prefetch(if ahead < rows.end { ahead } else { first_row((index + 1) % LANES) });
                }
                sum = self.add_row(sum, row);
                row += LANES;
            }
            for _ in 0..index.trailing_ones() {
                depth -= 1;
                sum = self.add(waiting[depth], sum);
            }
            waiting[depth] = sum;
            depth += 1;
        }
        waiting[0]
    }
    #[inline(always)]
    fn add(&self, mut a: [S::F32; W], b: [S::F32; W]) -> [S::F32; W] {
        for (a, b) in a.iter_mut().zip(b) {
            *a = *a + b;
        }
        a
    }
}

/// The first row of the largest element, or of the first NaN, and that element, for each column.
pub(super) struct ColumnMaxima<'a> {
    pub(super) of: Columns<'a>,
    pub(super) values: &'a mut [f32],
    pub(super) rows: &'a mut [u32],
}

impl ColumnMaxima<'_> {
    /// Plain comparisons, so this is the code of every instruction set.
    #[inline(always)]
    pub(super) fn find(self) {
        const STRIP: usize = 256;
        let ColumnMaxima { of, values, rows } = self;
        for (strip, (values, rows)) in values.chunks_mut(STRIP).zip(rows.chunks_mut(STRIP)).enumerate() {
            values.fill(f32::NEG_INFINITY);
            rows.fill(0);
            for row in 0..of.rows {
                let x = of.part(row, strip * STRIP, values.len());
                for ((value, at), &x) in values.iter_mut().zip(&mut *rows).zip(x) {
                    let better = ((x > *value) | x.is_nan()) & !value.is_nan();
                    *value = if better { x } else { *value };
                    *at = if better { row as u32 } else { *at };
                }
            }
        }
    }
}

impl Vectorized for ColumnMaxima<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.find();
    }
}

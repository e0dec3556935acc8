//! The loops around the tiles: blocks of `k`, blocks of columns whose part of B stays in the second cache, rows, columns.

use std::ops::Range;

use super::pack::{interleave, Operand};
use super::tiles::{Begin, Columns, Left, Packed, Right, Rows, Tile};
use crate::scratch::Kept;
use crate::simd::{Simd, Tiled, Vectorized};
use crate::spec::fma::fused;
use crate::spec::matmul::MatrixProduct;

/// Steps of `k` that are worked through at once.
const DEPTH: usize = 512;
/// The same for a B that is read where it lies: each step is on another page.
const DEPTH_IN_PLACE: usize = 256;
/// Elements of a cache line, at which each copy begins.
const LINE: usize = 16;
/// Columns of B that are packed at once: with [`DEPTH`] a megabyte.
const WIDTH: usize = 512;

/// A product on one thread. C is row-major, its rows `c_stride` apart.
pub(super) struct Product<'a> {
    pub(super) a: Operand<'a>,
    pub(super) b: Operand<'a>,
    pub(super) begin: Begin<'a>,
    pub(super) c: &'a mut [f32],
    pub(super) c_stride: usize,
}

impl Vectorized for Product<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        simd.tiled(self);
    }
}

/// Even parts of at most `most`, rounded up to a multiple of `grain`.
fn even_part(whole: usize, most: usize, grain: usize) -> usize {
    whole.div_ceil(whole.div_ceil(most).max(1)).next_multiple_of(grain)
}

impl Product<'_> {
    /// The same by the scalar code of the specification, which wants rows without gaps.
    pub(super) fn by_definition(self) {
        let Self { a, b, begin, c, c_stride } = self;
        let (depth, columns) = (a.columns, b.columns);
        assert_eq!(c_stride, columns, "C has no gaps");
        match begin {
            Begin::Zero => c.fill(0.0),
            Begin::Given => {}
            Begin::Bias(bias) => {
                c.chunks_exact_mut(columns).for_each(|row| row.copy_from_slice(&bias[..columns]))
            }
        }
        let (mut left, mut right) = (Kept::take(), Kept::take());
        let (a, b) = (a.row_major(&mut left), b.row_major(&mut right));
        fused(MatrixProduct { a, b, c, depth, columns });
    }
}

impl Tiled for Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize, const V: usize>(self, simd: S) {
        let Self { a, b, begin, c, c_stride } = self;
        let (rows, depth, columns) = (a.rows, a.columns, b.columns);
        let panel = V * S::LANES;
        // Parts of equal depth, so that none is a sliver.
        let pack_b = !b.by_rows || worth_packing_b::<R>(rows, depth, columns);
        let deep = even_part(depth, if pack_b { DEPTH } else { DEPTH_IN_PLACE }, 1);
        let wide = even_part(columns, WIDTH / panel * panel, panel);
        let pack_a = !a.by_rows && columns > 2 * panel;
        let packed_a = if pack_a { (rows * deep).next_multiple_of(LINE) } else { 0 };
        let packed_b = if pack_b { deep * wide } else { 0 };
        let mut copies = (pack_a || pack_b).then(Kept::take);
        let copies = copies.as_mut().map_or(&mut [][..], |copies| copies.sized(packed_a + packed_b));
        let (left, right) = copies.split_at_mut(packed_a);
        for k in (0..depth).step_by(deep) {
            let deep = deep.min(depth - k);
            let begin = if k == 0 { begin } else { Begin::Given };
            let a = a.columns_from(k, deep);
            if pack_a {
                pack_rows::<R>(a, left);
            }
            for j in (0..columns).step_by(wide) {
                let wide = wide.min(columns - j);
                let b = b.rows_from(k, deep).columns_from(j, wide);
                if pack_b {
                    pack_columns(simd, b, panel, right);
                }
                let packed = pack_b.then_some(&*right);
                let block = Block { b, packed, lanes: S::LANES, begin: begin.at(j) };
                let packed_a = pack_a.then_some(&*left);
                let c = &mut c[j..];
                let mut i = 0;
                while i < rows {
                    i += match rows - i {
                        rest if rest >= R => block.rows::<S, R, V>(simd, a, packed_a, i, c, c_stride),
                        4.. => block.rows::<S, 4, V>(simd, a, packed_a, i, c, c_stride),
                        2.. => block.rows::<S, 2, V>(simd, a, packed_a, i, c, c_stride),
                        _ => block.rows::<S, 1, V>(simd, a, packed_a, i, c, c_stride),
                    };
                }
            }
        }
    }
}

/// Whether a row-major B is read often enough for a copy in the order of reading to pay.
fn worth_packing_b<const R: usize>(rows: usize, depth: usize, columns: usize) -> bool {
    let small = depth.min(DEPTH_IN_PLACE) * columns <= 64 << 10 && rows <= 64;
    rows > 2 * R && !small && depth * columns > 40_000
}

/// Rows of a column-major A in groups as the loop over rows takes them: R, then 4, 2, 1; each group column by column. Some columns are
/// read through before the next ones, since parts of many columns would lie on as many pages.
#[inline(always)]
fn pack_rows<const R: usize>(a: Operand<'_>, to: &mut [f32]) {
    const TOGETHER: usize = 8;
    for from in (0..a.columns).step_by(TOGETHER) {
        let columns = from..a.columns.min(from + TOGETHER);
        let mut i = 0;
        while i < a.rows {
            let to = &mut to[i * a.columns..];
            i += match a.rows - i {
                rest if rest >= R => pack_group::<R>(a, i, columns.clone(), to),
                4.. => pack_group::<4>(a, i, columns.clone(), to),
                2.. => pack_group::<2>(a, i, columns.clone(), to),
                _ => pack_group::<1>(a, i, columns.clone(), to),
            };
        }
    }
}

/// Columns of R rows from row `i` on; returns R.
#[inline(always)]
fn pack_group<const R: usize>(a: Operand<'_>, i: usize, columns: Range<usize>, to: &mut [f32]) -> usize {
    let to = to[columns.start * R..].as_chunks_mut().0;
    for (column, to) in columns.zip(to) {
        *to = *a.line(column)[i..].first_chunk::<R>().expect("rows that A has");
    }
    R
}

/// Panels of `panel` columns, each row by row; the last one as wide as whole registers.
#[inline(always)]
fn pack_columns<S: Simd>(simd: S, b: Operand<'_>, panel: usize, to: &mut [f32]) {
    for j in (0..b.columns).step_by(panel) {
        let width = panel.min(b.columns - j);
        let stride = width.next_multiple_of(S::LANES);
        let to = &mut to[j * b.rows..][..stride * b.rows];
        interleave(simd, b.columns_from(j, width).transposed(), stride, to);
    }
}

/// A block of B against all rows of A.
#[derive(Clone, Copy)]
struct Block<'a> {
    b: Operand<'a>,
    packed: Option<&'a [f32]>,
    lanes: usize,
    begin: Begin<'a>,
}

impl Block<'_> {
    /// R rows from row `i` on; returns R.
    #[inline(always)]
    fn rows<S: Simd, const R: usize, const V: usize>(
        self,
        simd: S,
        a: Operand<'_>,
        packed_a: Option<&[f32]>,
        i: usize,
        c: &mut [f32],
        c_stride: usize,
    ) -> usize {
        let c = &mut c[i * c_stride..];
        if let Some(packed) = packed_a {
            let packed = Packed(&packed[i * a.columns..][..R * a.columns]);
            self.panels::<S, Packed<'_>, R, V>(simd, packed, c, c_stride);
        } else if a.by_rows {
            let mut rows = [a.data; R];
            for (r, row) in rows.iter_mut().enumerate() {
                *row = a.line(i + r);
            }
            self.panels::<S, Rows<'_, R>, R, V>(simd, Rows(rows), c, c_stride);
        } else {
            let data = &a.data[..a.columns * a.stride];
            let columns = Columns { data, stride: a.stride, first: a.first + i };
            self.panels::<S, Columns<'_>, R, V>(simd, columns, c, c_stride);
        }
        R
    }

    /// Whole panels of V registers, then what is left a register at a time.
    #[inline(always)]
    fn panels<S: Simd, A: Left<R>, const R: usize, const V: usize>(
        self,
        simd: S,
        a: A,
        c: &mut [f32],
        c_stride: usize,
    ) {
        let columns = self.b.columns;
        let panel = V * S::LANES;
        let mut j = 0;
        while j + panel <= columns {
            let (b, begin, c) = (self.right(panel, j, panel), self.begin.at(j), &mut c[j..]);
            simd.apart(Tile::<A, R, V, false> { a: &a, b, begin, c, c_stride });
            j += panel;
        }
        while j + S::LANES <= columns {
            let (b, begin, c) = (self.right(panel, j, S::LANES), self.begin.at(j), &mut c[j..]);
            simd.apart(Tile::<A, R, 1, false> { a: &a, b, begin, c, c_stride });
            j += S::LANES;
        }
        if j < columns {
            let (b, begin, c) = (self.right(panel, j, columns - j), self.begin.at(j), &mut c[j..]);
            simd.apart(Tile::<A, R, 1, true> { a: &a, b, begin, c, c_stride });
        }
    }

    /// Columns `j` to `j + width` of the block, which lie in one panel.
    #[inline(always)]
    fn right(&self, panel: usize, j: usize, width: usize) -> Right<'_> {
        match self.packed {
            Some(packed) => {
                let (depth, first) = (self.b.rows, j / panel * panel);
                let stride = panel.min((self.b.columns - first).next_multiple_of(self.lanes));
                let data = &packed[first * depth..][..stride * depth];
                Right { data, stride, first: j - first, width }
            }
            None => {
                let Operand { data, rows, stride, first, .. } = self.b;
                Right { data: &data[..rows * stride], stride, first: first + j, width }
            }
        }
    }
}

//! The innermost loop of the matrix product: R rows by V registers of C, held in registers for all of a block of `k`.
#![expect(clippy::needless_range_loop, reason = "rows and registers by their index, as in the mathematics")]

use crate::simd::{F32Lanes, Simd, Vectorized};

/// The value at which the chains of a tile begin.
#[derive(Clone, Copy)]
pub(super) enum Begin<'a> {
    /// `+0`.
    Zero,
    /// What C holds.
    Given,
    /// The elements of the bias that belong to the tile's columns.
    Bias(&'a [f32]),
}

impl Begin<'_> {
    /// For the columns from `column` on.
    #[inline(always)]
    pub(super) fn at(self, column: usize) -> Self {
        match self {
            Self::Bias(bias) => Self::Bias(&bias[column..]),
            other => other,
        }
    }
}

/// R rows of A. Each way of lying in memory has a loop of its own, so that in none of them anything stands between the loads of an
/// element and its use.
pub(super) trait Left<const R: usize>: Copy {
    /// Continues the chains over the rows of `b`.
    fn advance<S: Simd, const V: usize, const PARTIAL: bool>(
        self,
        simd: S,
        b: Right<'_>,
        chain: [[S::F32; V]; R],
    ) -> [[S::F32; V]; R];
}

/// Rows of a row-major A, of the length of the block's depth.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, const R: usize>(pub(super) [&'a [f32]; R]);

impl<const R: usize> Left<R> for Rows<'_, R> {
    #[inline(always)]
    fn advance<S: Simd, const V: usize, const PARTIAL: bool>(
        self,
        simd: S,
        b: Right<'_>,
        mut chain: [[S::F32; V]; R],
    ) -> [[S::F32; V]; R] {
        let depth = self.0[0].len();
        for r in 0..R {
            assert_eq!(self.0[r].len(), depth);
        }
        for (k, row) in (0..depth).zip(b.data.chunks_exact(b.stride)) {
            let right = load::<S, V, PARTIAL>(simd, &row[b.first..][..b.width::<S, V, PARTIAL>()]);
            for r in 0..R {
                step(simd, self.0[r][k], right, &mut chain[r]);
            }
        }
        chain
    }
}

/// Columns of R elements, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Packed<'a>(pub(super) &'a [f32]);

impl<const R: usize> Left<R> for Packed<'_> {
    #[inline(always)]
    fn advance<S: Simd, const V: usize, const PARTIAL: bool>(
        self,
        simd: S,
        b: Right<'_>,
        mut chain: [[S::F32; V]; R],
    ) -> [[S::F32; V]; R] {
        for (column, row) in self.0.as_chunks::<R>().0.iter().zip(b.data.chunks_exact(b.stride)) {
            let right = load::<S, V, PARTIAL>(simd, &row[b.first..][..b.width::<S, V, PARTIAL>()]);
            for r in 0..R {
                step(simd, column[r], right, &mut chain[r]);
            }
        }
        chain
    }
}

/// Part of the columns of a column-major A.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// Whole columns.
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    /// The first row of the tile.
    pub(super) first: usize,
}

impl<const R: usize> Left<R> for Columns<'_> {
    #[inline(always)]
    fn advance<S: Simd, const V: usize, const PARTIAL: bool>(
        self,
        simd: S,
        b: Right<'_>,
        mut chain: [[S::F32; V]; R],
    ) -> [[S::F32; V]; R] {
        for (column, row) in self.data.chunks_exact(self.stride).zip(b.data.chunks_exact(b.stride)) {
            let right = load::<S, V, PARTIAL>(simd, &row[b.first..][..b.width::<S, V, PARTIAL>()]);
            let column = &column[self.first..][..R];
            for r in 0..R {
                step(simd, column[r], right, &mut chain[r]);
            }
        }
        chain
    }
}

/// One step of the chains of a row.
#[inline(always)]
fn step<S: Simd, const V: usize>(simd: S, left: f32, right: [S::F32; V], chain: &mut [S::F32; V]) {
    let left = simd.splat(left);
    for v in 0..V {
        chain[v] = left.mul_add(right[v], chain[v]);
    }
}

/// The columns of B that a tile takes, for as many `k` as there are rows.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    /// Whole rows.
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    /// The first column of the tile.
    pub(super) first: usize,
    /// How many columns the tile has.
    pub(super) width: usize,
}

impl Right<'_> {
    /// The same, known to the compiler where the tile has whole registers.
    #[inline(always)]
    fn width<S: Simd, const V: usize, const PARTIAL: bool>(self) -> usize {
        if PARTIAL {
            self.width
        } else {
            V * S::LANES
        }
    }
}

/// `c[r, j] ← fma(a[r, k], b[k, j], c[r, j])` for `k = 0, 1, …`, for R rows and as many columns as V registers have
/// lanes. With `PARTIAL` there is one register, and only its first `width` lanes are columns.
pub(super) struct Tile<'a, A, const R: usize, const V: usize, const PARTIAL: bool> {
    pub(super) a: &'a A,
    pub(super) b: Right<'a>,
    pub(super) begin: Begin<'a>,
    /// From the tile's first element on.
    pub(super) c: &'a mut [f32],
    pub(super) c_stride: usize,
}

impl<A: Left<R>, const R: usize, const V: usize, const PARTIAL: bool> Vectorized
    for Tile<'_, A, R, V, PARTIAL>
{
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { a, b, begin, c, c_stride } = self;
        let width = b.width::<S, V, PARTIAL>();
        let mut chain = [[simd.splat(0.0); V]; R];
        if !matches!(begin, Begin::Given) {
            // What is written at the end is on its way meanwhile.
            for r in 0..R {
                for v in 0..V {
                    simd.prefetch(&c[r * c_stride..][..width], v * S::LANES);
                }
            }
        }
        match begin {
            Begin::Zero => {}
            Begin::Given => {
                for r in 0..R {
                    chain[r] = load::<S, V, PARTIAL>(simd, &c[r * c_stride..][..width]);
                }
            }
            Begin::Bias(bias) => {
                let bias = load::<S, V, PARTIAL>(simd, &bias[..width]);
                for r in 0..R {
                    chain[r] = bias;
                }
            }
        }
        chain = a.advance::<S, V, PARTIAL>(simd, b, chain);
        for r in 0..R {
            let row = &mut c[r * c_stride..][..width];
            if PARTIAL {
                chain[r][0].store_partial(row);
            } else {
                for v in 0..V {
                    chain[r][v].store(&mut row[v * S::LANES..]);
                }
            }
        }
    }
}

#[inline(always)]
fn load<S: Simd, const V: usize, const PARTIAL: bool>(simd: S, from: &[f32]) -> [S::F32; V] {
    let mut registers = [simd.splat(0.0); V];
    if PARTIAL {
        registers[0] = simd.load_partial(from);
    } else {
        for v in 0..V {
            registers[v] = simd.load(&from[v * S::LANES..]);
        }
    }
    registers
}

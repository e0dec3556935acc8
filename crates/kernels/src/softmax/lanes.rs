//! Rows of softmax in lanes. A band is some rows of a row-major matrix.

use crate::exponential::exp64;
use crate::reduce::lanes::{largest, sum64_of, Given, Products, Widened};
use crate::simd::{F64Lanes, Pair, Simd, Vectorized};
use crate::spec::softmax::Row;

/// Of a band `x` into the band `y`; `e` is as long as [`with_exponentials`](super::with_exponentials) makes it.
pub(super) struct Softmax<'a> {
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) columns: usize,
    pub(super) e: &'a mut [f64],
}

impl Vectorized for Softmax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Softmax { x, y, columns, e } = self;
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            match exponentials(simd, x, e) {
                Some(row) => divide(simd, e, row.sum, y),
                None => y.fill(f32::NAN),
            }
        }
    }
}

pub(super) struct LogSoftmax<'a> {
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) columns: usize,
    pub(super) e: &'a mut [f64],
}

impl Vectorized for LogSoftmax<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let LogSoftmax { x, y, columns, e } = self;
        for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)) {
            let Some(row) = exponentials(simd, x, e) else {
                y.fill(f32::NAN);
                continue;
            };
            let (max, log_sum) = (Pair::splat(simd, row.max), Pair::splat(simd, row.log_sum()));
            for (x, y) in x.chunks(S::LANES).zip(y.chunks_mut(S::LANES)) {
                ((Pair::widen_first(simd, x) - max) - log_sum).narrow_first(y);
            }
        }
    }
}

pub(super) struct LogSumExp<'a> {
    pub(super) x: &'a [f32],
    pub(super) e: &'a mut [f64],
}

impl Vectorized for LogSumExp<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        match exponentials(simd, self.x, self.e) {
            Some(row) => (row.max + row.log_sum()) as f32,
            None => crate::spec::reduce::max(self.x),
        }
    }
}

pub(super) struct SoftmaxGrad<'a> {
    pub(super) y: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: &'a mut [f32],
    pub(super) columns: usize,
}

impl Vectorized for SoftmaxGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let SoftmaxGrad { y, dy, dx, columns } = self;
        let rows = y.chunks_exact(columns).zip(dy.chunks_exact(columns));
        for ((y, dy), dx) in rows.zip(dx.chunks_exact_mut(columns)) {
            let total = Pair::splat(simd, sum64_of(simd, &Products(y, dy)));
            let rows = y.chunks(S::LANES).zip(dy.chunks(S::LANES));
            for ((y, dy), dx) in rows.zip(dx.chunks_mut(S::LANES)) {
                (Pair::widen_first(simd, y) * (Pair::widen_first(simd, dy) - total)).narrow_first(dx);
            }
        }
    }
}

pub(super) struct LogSoftmaxGrad<'a> {
    pub(super) y: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: &'a mut [f32],
    pub(super) columns: usize,
}

impl Vectorized for LogSoftmaxGrad<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let LogSoftmaxGrad { y, dy, dx, columns } = self;
        let highest = Pair::splat(simd, 700.0);
        let rows = y.chunks_exact(columns).zip(dy.chunks_exact(columns));
        for ((y, dy), dx) in rows.zip(dx.chunks_exact_mut(columns)) {
            let total = Pair::splat(simd, sum64_of(simd, &Widened(dy)));
            let rows = y.chunks(S::LANES).zip(dy.chunks(S::LANES));
            for ((y, dy), dx) in rows.zip(dx.chunks_mut(S::LANES)) {
                let y = Pair::widen_first(simd, y);
                let softmax = exp_or_zero(simd, y.min(highest));
                let softmax = Pair::select(y.eq(y), softmax, y);
                (Pair::widen_first(simd, dy) - softmax * total).narrow_first(dx);
            }
        }
    }
}

/// [`Row::of`], with room for whole registers in `e`, where what lies behind the row becomes `+0`.
#[inline(always)]
pub(crate) fn exponentials<S: Simd>(simd: S, x: &[f32], e: &mut [f64]) -> Option<Row> {
    let max = f64::from(largest(simd, x));
    if !max.is_finite() {
        return None;
    }
    let from = Pair::splat(simd, max);
    for (x, e) in x.chunks(S::LANES).zip(e.chunks_exact_mut(S::LANES)) {
        exp_or_zero(simd, Pair::widen_first(simd, x) - from).store64(e);
    }
    Some(Row { max, sum: sum64_of(simd, &Given(&e[..x.len()])) })
}

/// `e / s`, each rounded to f32.
#[inline(always)]
pub(crate) fn divide<S: Simd>(simd: S, e: &[f64], sum: f64, y: &mut [f32]) {
    let sum = Pair::splat(simd, sum);
    for (e, y) in e.chunks_exact(S::LANES).zip(y.chunks_mut(S::LANES)) {
        (Pair::load_first(simd, e) / sum).narrow_first(y);
    }
}

/// `exp64`, and `+0` below its range; not for NaN.
#[inline(always)]
fn exp_or_zero<S: Simd>(simd: S, x: Pair<S::F64>) -> Pair<S::F64> {
    let lowest = Pair::splat(simd, -700.0);
    Pair::select(x.lt(lowest), Pair::splat(simd, 0.0), exp64(simd, x.max(lowest)))
}

//! Rows of softmax in lanes. A band is some rows of a row-major matrix.

use super::{exponentials_length, rows_at_once, MOST_ROWS};
use crate::elementary::exponential::exp16;
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
        let block = rows_at_once(columns) * columns;
        for (x, y) in x.chunks(block).zip(y.chunks_mut(block)) {
            let rows = exponentials(simd, x, columns, e)
                .into_iter()
                .zip(e.chunks_exact(exponentials_length(columns)));
            for (y, (row, e)) in y.chunks_exact_mut(columns).zip(rows) {
                match row {
                    Some(row) => scale(simd, e, 1.0 / row.sum, y),
                    None => y.fill(f32::NAN),
                }
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
        let block = rows_at_once(columns) * columns;
        for (x, y) in x.chunks(block).zip(y.chunks_mut(block)) {
            let rows = exponentials(simd, x, columns, e);
            for ((x, y), row) in x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)).zip(rows) {
                match row {
                    Some(row) => shift(simd, x, row.max, row.log_sum(), y),
                    None => y.fill(f32::NAN),
                }
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
        match exponentials(simd, self.x, self.x.len(), self.e)[0] {
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
            let (mut y, mut dy) = (y.chunks_exact(S::LANES), dy.chunks_exact(S::LANES));
            let mut dx = dx.chunks_exact_mut(S::LANES);
            for ((y, dy), dx) in y.by_ref().zip(dy.by_ref()).zip(dx.by_ref()) {
                (Pair::widen(simd, y) * (Pair::widen(simd, dy) - total)).narrow(dx);
            }
            if let rest @ [_, ..] = dx.into_remainder() {
                let (y, dy) = (Pair::widen_rest(simd, y.remainder()), Pair::widen_rest(simd, dy.remainder()));
                (y * (dy - total)).narrow_partial(rest);
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
        let rows = y.chunks_exact(columns).zip(dy.chunks_exact(columns));
        for ((y, dy), dx) in rows.zip(dx.chunks_exact_mut(columns)) {
            let total = Pair::splat(simd, sum64_of(simd, &Widened(dy)));
            let (mut y, mut dy) = (y.chunks_exact(S::LANES), dy.chunks_exact(S::LANES));
            let mut dx = dx.chunks_exact_mut(S::LANES);
            for ((y, dy), dx) in y.by_ref().zip(dy.by_ref()).zip(dx.by_ref()) {
                let softmax = from_logarithm(simd, Pair::widen(simd, y));
                (Pair::widen(simd, dy) - softmax * total).narrow(dx);
            }
            if let rest @ [_, ..] = dx.into_remainder() {
                let softmax = from_logarithm(simd, Pair::widen_rest(simd, y.remainder()));
                (Pair::widen_rest(simd, dy.remainder()) - softmax * total).narrow_partial(rest);
            }
        }
    }
}

/// [`Row::of`] of at most [`rows_at_once`] rows, whose exponentials lie [`exponentials_length`] apart; what then lies between
/// them means nothing.
///
/// Each step is taken for all rows before the next: what a row has to wait for, its largest element and its sum, comes while
/// other rows are worked on.
#[inline(always)]
pub(crate) fn exponentials<S: Simd>(
    simd: S,
    x: &[f32],
    columns: usize,
    e: &mut [f64],
) -> [Option<Row>; MOST_ROWS] {
    let length = exponentials_length(columns);
    let mut max = [0.0; MOST_ROWS];
    for (max, x) in max.iter_mut().zip(x.chunks_exact(columns)) {
        *max = f64::from(largest(simd, x));
    }
    for ((x, e), &max) in x.chunks_exact(columns).zip(e.chunks_exact_mut(length)).zip(&max) {
        let max = Pair::splat(simd, max);
        let (mut parts, mut places) = (x.chunks_exact(S::LANES), e.chunks_exact_mut(S::LANES));
        for (x, e) in parts.by_ref().zip(places.by_ref()) {
            exp(simd, Pair::widen(simd, x) - max).store64(e);
        }
        if let (rest @ [_, ..], Some(e)) = (parts.remainder(), places.next()) {
            exp(simd, Pair::widen_rest(simd, rest) - max).store64(e);
        }
    }
    let mut rows = [None; MOST_ROWS];
    let count = x.len() / columns;
    for ((row, &max), e) in rows.iter_mut().zip(&max).zip(e.chunks_exact(length)).take(count) {
        if max.is_finite() {
            *row = Some(Row { max, sum: sum64_of(simd, &Given(&e[..columns])) });
        }
    }
    rows
}

/// `(x − m) − ln s`, each rounded to f32.
#[inline(always)]
fn shift<S: Simd>(simd: S, x: &[f32], max: f64, log_sum: f64, y: &mut [f32]) {
    let (max, log_sum) = (Pair::splat(simd, max), Pair::splat(simd, log_sum));
    let (mut x, mut y) = (x.chunks_exact(S::LANES), y.chunks_exact_mut(S::LANES));
    for (x, y) in x.by_ref().zip(y.by_ref()) {
        ((Pair::widen(simd, x) - max) - log_sum).narrow(y);
    }
    if let rest @ [_, ..] = y.into_remainder() {
        ((Pair::widen_rest(simd, x.remainder()) - max) - log_sum).narrow_partial(rest);
    }
}

/// `e · scale`, each rounded to f32.
#[inline(always)]
pub(crate) fn scale<S: Simd>(simd: S, e: &[f64], scale: f64, y: &mut [f32]) {
    let scale = Pair::splat(simd, scale);
    let (mut e, mut y) = (e.chunks_exact(S::LANES), y.chunks_exact_mut(S::LANES));
    for (y, e) in y.by_ref().zip(e.by_ref()) {
        (Pair::load(simd, e) * scale).narrow(y);
    }
    if let (rest @ [_, ..], Some(e)) = (y.into_remainder(), e.next()) {
        (Pair::load(simd, e) * scale).narrow_partial(rest);
    }
}

/// [`exp`] of the result of a log-softmax: of at most 700, NaN for NaN.
#[inline(always)]
fn from_logarithm<S: Simd>(simd: S, y: Pair<S::F64>) -> Pair<S::F64> {
    Pair::select(y.eq(y), exp(simd, y.min(Pair::splat(simd, 700.0))), y)
}

/// `exp16`, below its range that of −700; not for NaN.
#[inline(always)]
fn exp<S: Simd>(simd: S, x: Pair<S::F64>) -> Pair<S::F64> {
    exp16(x.max(Pair::splat(simd, -700.0)))
}

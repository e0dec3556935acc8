//! Rows of softmax in lanes. A band is some rows of a row-major matrix.

use crate::elementary::exponential::exp64;
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
                Some(row) => scale(simd, e, 1.0 / row.sum, y),
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
            let (mut x, mut y) = (x.chunks_exact(S::LANES), y.chunks_exact_mut(S::LANES));
            for (x, y) in x.by_ref().zip(y.by_ref()) {
                ((Pair::widen(simd, x) - max) - log_sum).narrow(y);
            }
            ((Pair::widen_rest(simd, x.remainder()) - max) - log_sum).narrow_partial(y.into_remainder());
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
            let (mut y, mut dy) = (y.chunks_exact(S::LANES), dy.chunks_exact(S::LANES));
            let mut dx = dx.chunks_exact_mut(S::LANES);
            for ((y, dy), dx) in y.by_ref().zip(dy.by_ref()).zip(dx.by_ref()) {
                (Pair::widen(simd, y) * (Pair::widen(simd, dy) - total)).narrow(dx);
            }
            let (y, dy) = (Pair::widen_rest(simd, y.remainder()), Pair::widen_rest(simd, dy.remainder()));
            (y * (dy - total)).narrow_partial(dx.into_remainder());
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
            let softmax = from_logarithm(simd, Pair::widen_rest(simd, y.remainder()));
            (Pair::widen_rest(simd, dy.remainder()) - softmax * total).narrow_partial(dx.into_remainder());
        }
    }
}

/// [`Row::of`], with room for whole registers in `e`; what then lies behind the row means nothing.
#[inline(always)]
pub(crate) fn exponentials<S: Simd>(simd: S, x: &[f32], e: &mut [f64]) -> Option<Row> {
    let max = f64::from(largest(simd, x));
    if !max.is_finite() {
        return None;
    }
    let from = Pair::splat(simd, max);
    let (mut parts, mut places) = (x.chunks_exact(S::LANES), e.chunks_exact_mut(S::LANES));
    for (x, e) in parts.by_ref().zip(places.by_ref()) {
        exp_or_zero(simd, Pair::widen(simd, x) - from).store64(e);
    }
    if let (rest @ [_, ..], Some(e)) = (parts.remainder(), places.next()) {
        exp_or_zero(simd, Pair::widen_rest(simd, rest) - from).store64(e);
    }
    Some(Row { max, sum: sum64_of(simd, &Given(&e[..x.len()])) })
}

/// `e / s`, each rounded to f32.
#[inline(always)]
pub(crate) fn divide<S: Simd>(simd: S, e: &[f64], sum: f64, y: &mut [f32]) {
    let sum = Pair::splat(simd, sum);
    let (mut e, mut y) = (e.chunks_exact(S::LANES), y.chunks_exact_mut(S::LANES));
    for (y, e) in y.by_ref().zip(e.by_ref()) {
        (Pair::load(simd, e) / sum).narrow(y);
    }
    if let (rest @ [_, ..], Some(e)) = (y.into_remainder(), e.next()) {
        (Pair::load(simd, e) / sum).narrow_partial(rest);
    }
}

/// `e · scale`, each rounded to f32.
#[inline(always)]
fn scale<S: Simd>(simd: S, e: &[f64], scale: f64, y: &mut [f32]) {
    let scale = Pair::splat(simd, scale);
    let (mut e, mut y) = (e.chunks_exact(S::LANES), y.chunks_exact_mut(S::LANES));
    for (y, e) in y.by_ref().zip(e.by_ref()) {
        (Pair::load(simd, e) * scale).narrow(y);
    }
    if let (rest @ [_, ..], Some(e)) = (y.into_remainder(), e.next()) {
        (Pair::load(simd, e) * scale).narrow_partial(rest);
    }
}

/// `exp` of the result of a log-softmax: of at most 700, NaN for NaN.
#[inline(always)]
fn from_logarithm<S: Simd>(simd: S, y: Pair<S::F64>) -> Pair<S::F64> {
    Pair::select(y.eq(y), exp_or_zero(simd, y.min(Pair::splat(simd, 700.0))), y)
}

/// `exp64`, and `+0` below its range; not for NaN.
#[inline(always)]
fn exp_or_zero<S: Simd>(simd: S, x: Pair<S::F64>) -> Pair<S::F64> {
    let lowest = Pair::splat(simd, -700.0);
    Pair::select(x.lt(lowest), Pair::splat(simd, 0.0), exp64(x.max(lowest)))
}

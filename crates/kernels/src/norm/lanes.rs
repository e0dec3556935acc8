//! Layer normalisation in lanes: bands of rows, and strips of columns.

use super::{spec, RowMoments};
use crate::simd::{F64Lanes, Pair, Simd, Vectorized};
use crate::spec::norm::{fold, ACCUMULATORS};

pub(super) struct Forward<'a> {
    pub(super) x: &'a [f32],
    pub(super) gamma: &'a [f64],
    pub(super) beta: &'a [f64],
    pub(super) eps: f64,
    pub(super) y: &'a mut [f32],
    pub(super) moments: &'a mut [RowMoments],
}

impl Forward<'_> {
    pub(super) fn by_definition(self) {
        let columns = self.gamma.len();
        let rows = self.x.chunks_exact(columns).zip(self.y.chunks_exact_mut(columns));
        for ((x, y), moments) in rows.zip(self.moments) {
            *moments = spec::moments(x, self.eps);
            spec::layer_norm(x, self.gamma, self.beta, *moments, y);
        }
    }
}

impl Vectorized for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let columns = self.gamma.len();
        let rows = self.x.chunks_exact(columns).zip(self.y.chunks_exact_mut(columns));
        for ((x, y), moments) in rows.zip(self.moments) {
            *moments = row_moments(simd, x, self.eps);
            let normal = Normal::<S>::of(simd, *moments);
            let (mut x, mut y) = (x.chunks_exact(S::LANES), y.chunks_exact_mut(S::LANES));
            let (mut gamma, mut beta) = (self.gamma.chunks_exact(S::LANES), self.beta.chunks_exact(S::LANES));
            let parameters = gamma.by_ref().zip(beta.by_ref());
            for ((x, y), (gamma, beta)) in x.by_ref().zip(y.by_ref()).zip(parameters) {
                let (gamma, beta) = (Pair::load(simd, gamma), Pair::load(simd, beta));
                (normal.of_x(Pair::widen(simd, x)) * gamma + beta).narrow(y);
            }
            let gamma = Pair::load_rest(simd, gamma.remainder());
            let beta = Pair::load_rest(simd, beta.remainder());
            let x = normal.of_x(Pair::widen_rest(simd, x.remainder()));
            (x * gamma + beta).narrow_partial(y.into_remainder());
        }
    }
}

pub(super) struct Gradient<'a> {
    pub(super) x: &'a [f32],
    pub(super) gamma: &'a [f64],
    pub(super) moments: &'a [RowMoments],
    pub(super) dy: &'a [f32],
    pub(super) dx: &'a mut [f32],
}

impl Gradient<'_> {
    pub(super) fn by_definition(self) {
        let columns = self.gamma.len();
        let rows = self.x.chunks_exact(columns).zip(self.dy.chunks_exact(columns));
        let rows = rows.zip(self.dx.chunks_exact_mut(columns));
        for (((x, dy), dx), &of) in rows.zip(self.moments) {
            spec::layer_norm_grad(x, self.gamma, of, dy, dx);
        }
    }
}

impl Vectorized for Gradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let columns = self.gamma.len();
        let count = columns as f64;
        let rows = self.x.chunks_exact(columns).zip(self.dy.chunks_exact(columns));
        let rows = rows.zip(self.dx.chunks_exact_mut(columns));
        for (((x, dy), dx), &moments) in rows.zip(self.moments) {
            let normal = Normal::<S>::of(simd, moments);
            let row = GradientRow { normal, x, gamma: self.gamma, dy };
            let mut a = [Pair::splat(simd, 0.0); MOST_PAIRS];
            let mut b = a;
            let whole = columns - columns % ACCUMULATORS;
            for block in (0..whole).step_by(ACCUMULATORS) {
                for (index, (a, b)) in a.iter_mut().zip(&mut b).take(ACCUMULATORS / S::LANES).enumerate() {
                    let (g, x) = row.operands(simd, block + index * S::LANES);
                    *a = *a + g;
                    *b = *b + g * x;
                }
            }
            let (mut a, mut b) = (stored::<S>(&a), stored::<S>(&b));
            for (at, (a, b)) in (whole..columns).zip(a.iter_mut().zip(&mut b)) {
                let g = f64::from(dy[at]) * self.gamma[at];
                *a += g;
                *b += g * ((f64::from(x[at]) - moments.mean) * moments.inverse_std);
            }
            let (a, b) = (fold(a) / count, fold(b) / count);
            let (a, b) = (Pair::splat(simd, a), Pair::splat(simd, b));
            let mut dx = dx.chunks_exact_mut(S::LANES);
            let mut at = 0;
            for dx in dx.by_ref() {
                let (g, x) = row.operands(simd, at);
                (row.normal.inverse_std * ((g - a) - x * b)).narrow(dx);
                at += S::LANES;
            }
            let (g, x) = row.rest(simd, at);
            (row.normal.inverse_std * ((g - a) - x * b)).narrow_partial(dx.into_remainder());
        }
    }
}

struct GradientRow<'a, S: Simd> {
    normal: Normal<S>,
    x: &'a [f32],
    gamma: &'a [f64],
    dy: &'a [f32],
}

impl<S: Simd> GradientRow<'_, S> {
    /// `g` and `x̂` from one element on.
    #[inline(always)]
    fn operands(&self, simd: S, at: usize) -> (Pair<S::F64>, Pair<S::F64>) {
        let g = Pair::widen(simd, &self.dy[at..]) * Pair::load(simd, &self.gamma[at..]);
        (g, self.normal.of_x(Pair::widen(simd, &self.x[at..])))
    }

    /// The same at the end of the row.
    #[inline(always)]
    fn rest(&self, simd: S, at: usize) -> (Pair<S::F64>, Pair<S::F64>) {
        let g = Pair::widen_rest(simd, &self.dy[at..]) * Pair::load_rest(simd, &self.gamma[at..]);
        (g, self.normal.of_x(Pair::widen_rest(simd, &self.x[at..])))
    }
}

pub(super) struct ParameterGradients<'a> {
    pub(super) x: &'a [f32],
    pub(super) moments: &'a [RowMoments],
    pub(super) dy: &'a [f32],
    pub(super) columns: usize,
    /// The column of the first element of `dgamma`.
    pub(super) first: usize,
    pub(super) dgamma: &'a mut [f32],
    pub(super) dbeta: &'a mut [f32],
}

impl ParameterGradients<'_> {
    pub(super) fn by_definition(self) {
        for (index, (dgamma, dbeta)) in self.dgamma.iter_mut().zip(self.dbeta).enumerate() {
            let column = self.first + index;
            (*dgamma, *dbeta) = spec::parameter_grads(self.x, self.moments, self.dy, self.columns, column);
        }
    }

    /// `P` pairs of columns.
    #[inline(always)]
    fn strip<S: Simd, const P: usize>(&mut self, simd: S, from: usize) {
        let width = P * S::LANES;
        let zero = Pair::splat(simd, 0.0);
        let (mut dgamma, mut dbeta) = ([zero; P], [zero; P]);
        for (row, &moments) in self.moments.iter().enumerate() {
            let normal = Normal::<S>::of(simd, moments);
            let at = row * self.columns + self.first + from;
            let (x, dy) = (&self.x[at..][..width], &self.dy[at..][..width]);
            let parts = x.chunks_exact(S::LANES).zip(dy.chunks_exact(S::LANES));
            for ((x, dy), (dgamma, dbeta)) in parts.zip(dgamma.iter_mut().zip(&mut dbeta)) {
                let (x, dy) = (Pair::widen(simd, x), Pair::widen(simd, dy));
                *dgamma = *dgamma + dy * normal.of_x(x);
                *dbeta = *dbeta + dy;
            }
        }
        let outputs = self.dgamma[from..][..width].chunks_exact_mut(S::LANES);
        let outputs = outputs.zip(self.dbeta[from..][..width].chunks_exact_mut(S::LANES));
        for ((to_dgamma, to_dbeta), (dgamma, dbeta)) in outputs.zip(dgamma.into_iter().zip(dbeta)) {
            dgamma.narrow(to_dgamma);
            dbeta.narrow(to_dbeta);
        }
    }
}

impl Vectorized for ParameterGradients<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let width = self.dgamma.len();
        let mut from = 0;
        while from + 4 * S::LANES <= width {
            self.strip::<S, 4>(simd, from);
            from += 4 * S::LANES;
        }
        while from + S::LANES <= width {
            self.strip::<S, 1>(simd, from);
            from += S::LANES;
        }
        let (dgamma, dbeta) = (&mut self.dgamma[from..], &mut self.dbeta[from..]);
        ParameterGradients { first: self.first + from, dgamma, dbeta, ..self }.by_definition();
    }
}

/// As many pairs as the accumulators of a row fill anywhere.
const MOST_PAIRS: usize = ACCUMULATORS / 4;

#[inline(always)]
fn row_moments<S: Simd>(simd: S, x: &[f32], eps: f64) -> RowMoments {
    let count = x.len() as f64;
    let (blocks, rest) = x.as_chunks::<ACCUMULATORS>();
    let mut sums = [Pair::splat(simd, 0.0); MOST_PAIRS];
    for block in blocks {
        for (sum, x) in sums.iter_mut().zip(block.chunks_exact(S::LANES)) {
            *sum = *sum + Pair::widen(simd, x);
        }
    }
    let mut lanes = stored::<S>(&sums);
    lanes.iter_mut().zip(rest).for_each(|(lane, &x)| *lane += f64::from(x));
    let mean = fold(lanes) / count;
    let means = Pair::splat(simd, mean);
    let mut sums = [Pair::splat(simd, 0.0); MOST_PAIRS];
    for block in blocks {
        for (sum, x) in sums.iter_mut().zip(block.chunks_exact(S::LANES)) {
            let below = Pair::widen(simd, x) - means;
            *sum = *sum + below * below;
        }
    }
    let mut lanes = stored::<S>(&sums);
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        let below = f64::from(x) - mean;
        *lane += below * below;
    }
    let variance = fold(lanes) / count;
    RowMoments { mean, inverse_std: 1.0 / (variance + eps).sqrt() }
}

#[inline(always)]
fn stored<S: Simd>(sums: &[Pair<S::F64>; MOST_PAIRS]) -> [f64; ACCUMULATORS] {
    let mut lanes = [0.0; ACCUMULATORS];
    for (sum, lanes) in sums.iter().zip(lanes.chunks_exact_mut(S::LANES)) {
        sum.store64(lanes);
    }
    lanes
}

struct Normal<S: Simd> {
    mean: Pair<S::F64>,
    inverse_std: Pair<S::F64>,
}

impl<S: Simd> Normal<S> {
    #[inline(always)]
    fn of(simd: S, moments: RowMoments) -> Self {
        Normal { mean: Pair::splat(simd, moments.mean), inverse_std: Pair::splat(simd, moments.inverse_std) }
    }

    /// `x̂`.
    #[inline(always)]
    fn of_x(&self, x: Pair<S::F64>) -> Pair<S::F64> {
        (x - self.mean) * self.inverse_std
    }
}

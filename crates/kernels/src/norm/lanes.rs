//! Layer normalisation in lanes: bands of rows, and strips of columns.

use super::{spec, RowMoments};
use crate::reduce::lanes::{sum64_of, Terms, Widened};
use crate::scratch::with_scratch;
use crate::simd::{F64Lanes, Pair, Simd, Vectorized};

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
        let rows = rows_at_once(columns);
        let blocks = self.x.chunks(rows * columns).zip(self.y.chunks_mut(rows * columns));
        for ((x, y), moments) in blocks.zip(self.moments.chunks_mut(rows)) {
            block_moments(simd, x, self.eps, moments);
            for ((x, y), &mut moments) in
                x.chunks_exact(columns).zip(y.chunks_exact_mut(columns)).zip(moments)
            {
                normalise(simd, x, self.gamma, self.beta, moments, y);
            }
        }
    }
}

/// How many rows to take side by side: not more than stay in the nearest cache.
fn rows_at_once(columns: usize) -> usize {
    const ELEMENTS: usize = 4096;
    (ELEMENTS / columns).max(1)
}

/// The moments of some rows, each step for all rows before the next: what a row has to wait for comes while others are worked on.
#[inline(always)]
fn block_moments<S: Simd>(simd: S, x: &[f32], eps: f64, moments: &mut [RowMoments]) {
    let columns = x.len() / moments.len();
    let count = columns as f64;
    for (x, of) in x.chunks_exact(columns).zip(moments.iter_mut()) {
        of.mean = sum64_of(simd, &Widened(x)) / count;
    }
    for (x, of) in x.chunks_exact(columns).zip(moments.iter_mut()) {
        let variance = sum64_of(simd, &Squares { x, mean: of.mean }) / count;
        of.inverse_std = 1.0 / (variance + eps).sqrt();
    }
}

/// `y_i = ((x_i − mean) · inverse_std) · γ_i + β_i`.
#[inline(always)]
fn normalise<S: Simd>(simd: S, x: &[f32], gamma: &[f64], beta: &[f64], moments: RowMoments, y: &mut [f32]) {
    let (mut x, mut y) = (x.chunks_exact(S::LANES), y.chunks_exact_mut(S::LANES));
    let (mut gamma, mut beta) = (gamma.chunks_exact(S::LANES), beta.chunks_exact(S::LANES));
    let parameters = gamma.by_ref().zip(beta.by_ref());
    for ((x, y), (gamma, beta)) in x.by_ref().zip(y.by_ref()).zip(parameters) {
        let (gamma, beta) = (Pair::load(simd, gamma), Pair::load(simd, beta));
        (normal(Pair::widen(simd, x), moments) * gamma + beta).narrow(y);
    }
    if let rest @ [_, ..] = y.into_remainder() {
        let gamma = Pair::load_rest(simd, gamma.remainder());
        let beta = Pair::load_rest(simd, beta.remainder());
        let x = normal(Pair::widen_rest(simd, x.remainder()), moments);
        (x * gamma + beta).narrow_partial(rest);
    }
}

/// `(x_i − mean)²`.
struct Squares<'a> {
    x: &'a [f32],
    mean: f64,
}

impl Terms for Squares<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.x.len()
    }
    #[inline(always)]
    fn register<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        let below = simd.widen(&self.x[at..]) - simd.splat64(self.mean);
        below * below
    }
    #[inline(always)]
    fn rest<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        let below = simd.widen_partial(&self.x[at..]) - simd.splat64(self.mean);
        below * below
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
        with_scratch(columns, |terms| {
            for (((x, dy), dx), &of) in rows.zip(self.moments) {
                spec::layer_norm_grad(x, self.gamma, of, dy, dx, terms);
            }
        });
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
            let row = GradientRow { x, gamma: self.gamma, dy, moments };
            let a = sum64_of(simd, &Scaled(row)) / count;
            let b = sum64_of(simd, &ScaledNormal(row)) / count;
            row.input_grads(simd, a, b, dx);
        }
    }
}

#[derive(Clone, Copy)]
struct GradientRow<'a> {
    x: &'a [f32],
    gamma: &'a [f64],
    dy: &'a [f32],
    moments: RowMoments,
}

impl GradientRow<'_> {
    /// `g` and `x̂` from one element on.
    #[inline(always)]
    fn operands<S: Simd>(&self, simd: S, at: usize) -> (S::F64, S::F64) {
        let g = simd.widen(&self.dy[at..]) * simd.load64(&self.gamma[at..]);
        (g, normal(simd.widen(&self.x[at..]), self.moments))
    }

    /// The same at the end of the row.
    #[inline(always)]
    fn rest<S: Simd>(&self, simd: S, at: usize) -> (S::F64, S::F64) {
        let g = simd.widen_partial(&self.dy[at..]) * simd.load64_partial(&self.gamma[at..]);
        (g, normal(simd.widen_partial(&self.x[at..]), self.moments))
    }

    /// `dx_i = inverse_std · ((g_i − a) − x̂_i · b)`.
    #[inline(always)]
    fn input_grads<S: Simd>(&self, simd: S, a: f64, b: f64, dx: &mut [f32]) {
        let (a, b) = (simd.splat64(a), simd.splat64(b));
        let inverse_std = simd.splat64(self.moments.inverse_std);
        let mut dx = dx.chunks_exact_mut(S::LANES_64);
        let mut at = 0;
        for dx in dx.by_ref() {
            let (g, x) = self.operands(simd, at);
            (inverse_std * ((g - a) - x * b)).narrow(dx);
            at += S::LANES_64;
        }
        if let rest @ [_, ..] = dx.into_remainder() {
            let (g, x) = self.rest(simd, at);
            (inverse_std * ((g - a) - x * b)).narrow_partial(rest);
        }
    }
}

/// `g_i`.
struct Scaled<'a>(GradientRow<'a>);

impl Terms for Scaled<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.0.x.len()
    }
    #[inline(always)]
    fn register<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        self.0.operands(simd, at).0
    }
    #[inline(always)]
    fn rest<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        self.0.rest(simd, at).0
    }
}

/// `g_i · x̂_i`.
struct ScaledNormal<'a>(GradientRow<'a>);

impl Terms for ScaledNormal<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.0.x.len()
    }
    #[inline(always)]
    fn register<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        let (g, x) = self.0.operands(simd, at);
        g * x
    }
    #[inline(always)]
    fn rest<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        let (g, x) = self.0.rest(simd, at);
        g * x
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
            let at = row * self.columns + self.first + from;
            let (x, dy) = (&self.x[at..][..width], &self.dy[at..][..width]);
            let parts = x.chunks_exact(S::LANES).zip(dy.chunks_exact(S::LANES));
            for ((x, dy), (dgamma, dbeta)) in parts.zip(dgamma.iter_mut().zip(&mut dbeta)) {
                let (x, dy) = (Pair::widen(simd, x), Pair::widen(simd, dy));
                *dgamma = *dgamma + dy * normal(x, moments);
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

/// `x̂`.
#[inline(always)]
fn normal<V: F64Lanes>(x: V, of: RowMoments) -> V {
    (x - x.fill(of.mean)) * x.fill(of.inverse_std)
}

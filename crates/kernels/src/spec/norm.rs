//! Layer normalisation of one row: f64 operations, each result rounded once to f32.

use super::reduce::tree_sum;
use crate::norm::RowMoments;

/// `mean = Σ x_i / n`, `variance = Σ (x_i − mean)² / n`, `inverse_std = 1 / √(variance + ε)`, with the sums in the tree of
/// [`sum_f64`](crate::sum_f64).
pub(crate) fn moments(x: &[f32], eps: f64) -> RowMoments {
    let count = x.len() as f64;
    let mean = tree_sum(x, f64::from) / count;
    let square = |x: f32| {
        let below = f64::from(x) - mean;
        below * below
    };
    let variance = tree_sum(x, square) / count;
    RowMoments { mean, inverse_std: 1.0 / (variance + eps).sqrt() }
}

/// `y_i = ((x_i − mean) · inverse_std) · γ_i + β_i`.
pub(crate) fn layer_norm(x: &[f32], gamma: &[f64], beta: &[f64], of: RowMoments, y: &mut [f32]) {
    for ((y, &x), (gamma, beta)) in y.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
        *y = (normal(x, of) * gamma + beta) as f32;
    }
}

/// `dx_i = inverse_std · ((g_i − a) − x̂_i · b)` with `x̂ = (x − mean) · inverse_std`, `g = dy · γ`, `a = Σ g_i / n` and
/// `b = Σ g_i · x̂_i / n`. `terms` is scratch as long as the row.
pub(crate) fn layer_norm_grad(
    x: &[f32],
    gamma: &[f64],
    of: RowMoments,
    dy: &[f32],
    dx: &mut [f32],
    terms: &mut [f64],
) {
    let count = x.len() as f64;
    let scaled = |i: usize| f64::from(dy[i]) * gamma[i];
    let mut mean = |term: &dyn Fn(usize) -> f64| {
        terms.iter_mut().enumerate().for_each(|(i, to)| *to = term(i));
        tree_sum(terms, |term| term) / count
    };
    let (a, b) = (mean(&scaled), mean(&|i| scaled(i) * normal(x[i], of)));
    for (i, dx) in dx.iter_mut().enumerate() {
        *dx = (of.inverse_std * ((scaled(i) - a) - normal(x[i], of) * b)) as f32;
    }
}

/// `dγ_j = Σ_r dy[r,j] · x̂[r,j]` and `dβ_j = Σ_r dy[r,j]` for column `j` of R×C matrices: chains over the rows from `+0`.
pub(crate) fn parameter_grads(
    x: &[f32],
    of: &[RowMoments],
    dy: &[f32],
    columns: usize,
    column: usize,
) -> (f32, f32) {
    let (mut dgamma, mut dbeta) = (0.0, 0.0);
    for (row, &of) in of.iter().enumerate() {
        let at = row * columns + column;
        dgamma += f64::from(dy[at]) * normal(x[at], of);
        dbeta += f64::from(dy[at]);
    }
    (dgamma as f32, dbeta as f32)
}

fn normal(x: f32, of: RowMoments) -> f64 {
    (f64::from(x) - of.mean) * of.inverse_std
}

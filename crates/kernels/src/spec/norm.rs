//! Layer normalisation of one row: f64 operations, each result rounded once to f32.

use crate::norm::RowMoments;

/// Accumulators of a row's sums: element `i` belongs to accumulator `i mod 16`.
pub(crate) const ACCUMULATORS: usize = 16;

/// `Σ v_i`: accumulators are chains from `+0`, which then fold as `s[l] = s[l] + s[l+h]` for `h = 8, 4, 2, 1`.
pub(crate) fn row_sum(values: impl Iterator<Item = f64>) -> f64 {
    let mut sums = [0.0; ACCUMULATORS];
    for (index, value) in values.enumerate() {
        sums[index % ACCUMULATORS] += value;
    }
    fold(sums)
}

#[inline(always)]
pub(crate) fn fold(mut sums: [f64; ACCUMULATORS]) -> f64 {
    let mut half = ACCUMULATORS / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// `mean = Σ x_i / n`, `variance = Σ (x_i − mean)² / n`, `inverse_std = 1 / √(variance + ε)`.
pub(crate) fn moments(x: &[f32], eps: f64) -> RowMoments {
    let count = x.len() as f64;
    let mean = row_sum(x.iter().map(|&x| f64::from(x))) / count;
    let square = |&x: &f32| {
        let below = f64::from(x) - mean;
        below * below
    };
    let variance = row_sum(x.iter().map(square)) / count;
    RowMoments { mean, inverse_std: 1.0 / (variance + eps).sqrt() }
}

/// `y_i = ((x_i − mean) · inverse_std) · γ_i + β_i`.
pub(crate) fn layer_norm(x: &[f32], gamma: &[f64], beta: &[f64], of: RowMoments, y: &mut [f32]) {
    for ((y, &x), (gamma, beta)) in y.iter_mut().zip(x).zip(gamma.iter().zip(beta)) {
        *y = (normal(x, of) * gamma + beta) as f32;
    }
}

/// `dx_i = inverse_std · ((g_i − a) − x̂_i · b)` with `x̂ = (x − mean) · inverse_std`, `g = dy · γ`, `a = Σ g_i / n` and
/// `b = Σ g_i · x̂_i / n`.
pub(crate) fn layer_norm_grad(x: &[f32], gamma: &[f64], of: RowMoments, dy: &[f32], dx: &mut [f32]) {
    let count = x.len() as f64;
    let scaled = || dy.iter().zip(gamma).map(|(&dy, gamma)| f64::from(dy) * gamma);
    let a = row_sum(scaled()) / count;
    let b = row_sum(scaled().zip(x).map(|(g, &x)| g * normal(x, of))) / count;
    for ((dx, g), &x) in dx.iter_mut().zip(scaled()).zip(x) {
        *dx = (of.inverse_std * ((g - a) - normal(x, of) * b)) as f32;
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

//! Softmax of one row and what is built on it: f64 operations, each result rounded once to f32.

use super::elementary::{exp16, log64};
use super::reduce::{argmax, max, tree_sum};

/// What all of a row's results need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// The largest element `m`.
    pub(crate) max: f64,
    /// `Σ exp(x_j − m)`, at least 1, in the tree of [`sum_f64`](crate::sum_f64).
    pub(crate) sum: f64,
}

impl Row {
    /// Of a row with at least one element; writes `exp(x_j − m)` to `exponentials`. `None`, and nothing is written, if `m` is
    /// infinite or NaN: then differences are NaN where they matter, and one NaN for the whole row is the same anywhere.
    pub(crate) fn of(x: &[f32], exponentials: &mut [f64]) -> Option<Row> {
        let max = argmax(x).map_or(f64::NAN, |index| f64::from(x[index]));
        if !max.is_finite() {
            return None;
        }
        for (e, &x) in exponentials.iter_mut().zip(x) {
            *e = exp(f64::from(x) - max);
        }
        Some(Row { max, sum: tree_sum(exponentials, |e| e) })
    }

    pub(crate) fn log_sum(&self) -> f64 {
        log64(self.sum)
    }

    /// `ln s − (x_label − m)`.
    pub(crate) fn loss(&self, x_label: f32) -> f32 {
        (self.log_sum() - (f64::from(x_label) - self.max)) as f32
    }
}

/// [`exp16`], below its range that of −700: next to the 1 of the largest element, and in f32, both are nothing.
fn exp(x: f64) -> f64 {
    exp16(x.max(-700.0))
}

/// `y_j = e_j · (1 / s)`. `exponentials` is scratch as long as the row, here and below.
pub(crate) fn softmax(x: &[f32], y: &mut [f32], exponentials: &mut [f64]) {
    let Some(row) = Row::of(x, exponentials) else { return y.fill(f32::NAN) };
    let scale = 1.0 / row.sum;
    for (y, e) in y.iter_mut().zip(exponentials) {
        *y = (*e * scale) as f32;
    }
}

/// `y_j = (x_j − m) − ln s`.
pub(crate) fn log_softmax(x: &[f32], y: &mut [f32], exponentials: &mut [f64]) {
    let Some(row) = Row::of(x, exponentials) else { return y.fill(f32::NAN) };
    let log_sum = row.log_sum();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = ((f64::from(x) - row.max) - log_sum) as f32;
    }
}

/// The loss `ln s − (x_label − m)`, and `gradient_j = e_j · (1 / s) − [j = label]`.
pub(crate) fn cross_entropy(x: &[f32], label: usize, gradient: &mut [f32], exponentials: &mut [f64]) -> f32 {
    let Some(row) = Row::of(x, exponentials) else {
        gradient.fill(f32::NAN);
        return f32::NAN;
    };
    let scale = 1.0 / row.sum;
    for (class, (gradient, e)) in gradient.iter_mut().zip(exponentials).enumerate() {
        let target = if class == label { 1.0 } else { 0.0 };
        *gradient = (*e * scale - target) as f32;
    }
    row.loss(x[label])
}

/// `ln Σ exp x_j = m + ln s`; `m` itself where it is infinite or NaN.
pub(crate) fn logsumexp(x: &[f32], exponentials: &mut [f64]) -> f32 {
    match Row::of(x, exponentials) {
        Some(row) => (row.max + row.log_sum()) as f32,
        None => max(x),
    }
}

/// `dx_j = y_j · (dy_j − t)` with `t = Σ y_j · dy_j`, every product exact, in the tree of [`sum_f64`](crate::sum_f64).
pub(crate) fn softmax_grad(y: &[f32], dy: &[f32], dx: &mut [f32], products: &mut [f64]) {
    for (product, (&y, &dy)) in products.iter_mut().zip(y.iter().zip(dy)) {
        *product = f64::from(y) * f64::from(dy);
    }
    let total = tree_sum(products, |product| product);
    for (dx, (&y, &dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
        *dx = (f64::from(y) * (f64::from(dy) - total)) as f32;
    }
}

/// `dx_j = dy_j − exp(y_j) · t` with `t = Σ dy_j` in the tree of [`sum_f64`](crate::sum_f64), for the result `y` of
/// [`log_softmax`]. `exp` is taken of `y_j` clamped to ±700, and is NaN for NaN.
pub(crate) fn log_softmax_grad(y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let total = tree_sum(dy, f64::from);
    for (dx, (&y, &dy)) in dx.iter_mut().zip(y.iter().zip(dy)) {
        let softmax = if y.is_nan() { f64::NAN } else { exp(f64::from(y).min(700.0)) };
        *dx = (f64::from(dy) - softmax * total) as f32;
    }
}

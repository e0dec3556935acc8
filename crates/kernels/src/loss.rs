//! Softmax and what is built on it, row by row in f64 with one rounding to f32 at the end.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::error::KernelError;
use crate::reduce::{argmax, sum_f64};
use crate::spec::elementary::{exp64, log64};
use crate::threads::with_float_defaults;

/// Cross-entropy of softmax for R rows of C logits and R labels: the loss of every row, and the gradient with respect to
/// the logits, both unscaled (divide by R for the mean over a batch).
///
/// With `m = max_j x_j`, `e_j = exp(x_j − m)` and `s = Σ e_j` in the tree of [`sum_f64`](crate::sum_f64), all in f64:
/// `loss = ln s − (x_label − m)` and `gradient_j = e_j / s − [j = label]`, each rounded once to f32. `exp` and `ln` here are
/// the f64 sequences of `src/spec/elementary.rs`, with `exp(d) = +0` for `d < −700`. A NaN or `+∞` in a row makes the whole
/// row NaN, and so does a row of nothing but `−∞`.
///
/// ```
/// use bitproof_kernels::softmax_cross_entropy;
/// let logits = ndarray::array![[0.0, 0.0]];
/// let (losses, gradient) = softmax_cross_entropy(logits.view(), &[1])?;
/// assert_eq!(losses, [std::f32::consts::LN_2]);
/// assert_eq!(gradient, ndarray::array![[0.5, -0.5]]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if there are not as many labels as rows, [`KernelError::LabelOutOfRange`] for the first
/// label that is not below C.
pub fn softmax_cross_entropy(
    logits: ArrayView2<'_, f32>,
    labels: &[u32],
) -> Result<(Vec<f32>, Array2<f32>), KernelError> {
    let (rows, classes) = logits.dim();
    if labels.len() != rows {
        return Err(KernelError::ShapeMismatch {
            kernel: "softmax_cross_entropy",
            left_name: "logits",
            left: vec![rows, classes],
            right_name: "labels",
            right: vec![labels.len()],
            rule: "there must be one label for each row",
        });
    }
    if let Some(row) = labels.iter().position(|&label| label as usize >= classes) {
        return Err(KernelError::LabelOutOfRange { row, label: labels[row], classes });
    }
    let mut losses = vec![0.0; rows];
    let gradient = map_rows(logits, &mut losses, |row, x, gradient, loss| {
        let softmax = Softmax::of(x);
        let label = labels[row] as usize;
        *loss = (softmax.log_sum - (f64::from(x[label]) - softmax.max)) as f32;
        for (class, (gradient, e)) in gradient.iter_mut().zip(&softmax.exponentials).enumerate() {
            let target = if class == label { 1.0 } else { 0.0 };
            *gradient = (e / softmax.sum - target) as f32;
        }
    });
    Ok((losses, gradient))
}

/// `y_j = (x_j − m) − ln s` for every row of an R×C matrix, in f64 with one rounding to f32; `m` and `s` as in
/// [`softmax_cross_entropy`]. Rows without columns stay empty.
pub fn log_softmax(logits: ArrayView2<'_, f32>) -> Array2<f32> {
    let mut unused = vec![(); logits.nrows()];
    map_rows(logits, &mut unused, |_, x, y, ()| {
        let softmax = Softmax::of(x);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = ((f64::from(x) - softmax.max) - softmax.log_sum) as f32;
        }
    })
}

struct Softmax {
    max: f64,
    exponentials: Vec<f64>,
    sum: f64,
    log_sum: f64,
}

impl Softmax {
    /// Of a row with at least one element.
    fn of(x: &[f32]) -> Softmax {
        let max = argmax(x).map_or(f64::NAN, |index| f64::from(x[index]));
        // With an infinite maximum the differences are NaN where they matter; one NaN for the whole row is the same anywhere.
        if !max.is_finite() {
            return Softmax {
                max: f64::NAN,
                exponentials: vec![f64::NAN; x.len()],
                sum: f64::NAN,
                log_sum: f64::NAN,
            };
        }
        let exponential = |&x: &f32| {
            let below = f64::from(x) - max;
            if below < -700.0 {
                0.0
            } else {
                exp64(below)
            }
        };
        let exponentials: Vec<f64> = x.iter().map(exponential).collect();
        let sum = sum_f64(&exponentials);
        Softmax { max, exponentials, sum, log_sum: log64(sum) }
    }
}

/// A matrix like `logits` and one `extra` for each row, computed row by row; over threads where that pays.
fn map_rows<T: Send>(
    logits: ArrayView2<'_, f32>,
    extra: &mut [T],
    row: impl Fn(usize, &[f32], &mut [f32], &mut T) + Sync,
) -> Array2<f32> {
    /// Elements below which waking a thread costs more than it saves.
    const WORTH_A_THREAD: usize = 1 << 14;
    let columns = logits.ncols();
    let mut out = Array2::zeros(logits.raw_dim());
    if logits.is_empty() {
        return out;
    }
    let logits = logits.as_standard_layout();
    let x = logits.as_slice().expect("standard layout is contiguous");
    let y = out.as_slice_mut().expect("a new array is contiguous");
    let rows_at_once = WORTH_A_THREAD.div_ceil(columns);
    y.par_chunks_mut(rows_at_once * columns)
        .zip(x.par_chunks(rows_at_once * columns))
        .zip(extra.par_chunks_mut(rows_at_once))
        .enumerate()
        .for_each(|(block, ((y, x), extra))| {
            with_float_defaults(|| {
                let rows = y.chunks_exact_mut(columns).zip(x.chunks_exact(columns)).zip(extra);
                for (index, ((y, x), extra)) in rows.enumerate() {
                    row(block * rows_at_once + index, x, y, extra);
                }
            });
        });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_threads;
    use ndarray::array;

    fn bits(values: &Array2<f32>) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn known_values() {
        let logits = array![[1.0, 2.0, 3.0], [1000.0, 0.0, -1000.0]];
        let (losses, gradient) = softmax_cross_entropy(logits.view(), &[2, 1]).unwrap();
        // ln(1 + e^-1 + e^-2) = 0.40760596444438
        assert_eq!(losses, [0.407_605_98, 1000.0]);
        let expected = array![[0.090_030_57, 0.244_728_47, -0.334_759_05], [1.0, -1.0, 0.0]];
        assert_eq!(gradient, expected);
        let log = log_softmax(logits.view());
        assert_eq!(log, array![[-2.407_606, -1.407_606, -0.407_605_98], [0.0, -1000.0, -2000.0]]);
    }

    #[test]
    fn losses_and_log_softmax_are_one() {
        let logits =
            Array2::from_shape_fn((3000, 11), |(i, j)| ((i * 37 + j * 101) % 997) as f32 / 50.0 - 9.0);
        let labels: Vec<u32> = (0..3000).map(|row| row % 11).collect();
        let run = || softmax_cross_entropy(logits.view(), &labels).unwrap();
        let (losses, gradient) = with_threads(1, run);
        let log = log_softmax(logits.view());
        for (row, loss) in losses.iter().enumerate() {
            assert!((loss + log[[row, labels[row] as usize]]).abs() <= loss * 1e-6);
            let total: f64 = gradient.row(row).iter().map(|&value| f64::from(value)).sum();
            assert!(total.abs() < 1e-6, "row {row} sums to {total}");
        }
        for threads in [2, 3] {
            let (again, gradient_again) = with_threads(threads, run);
            assert_eq!(bits(&gradient_again), bits(&gradient));
            assert_eq!(again, losses);
        }
        let columns = logits.t().as_standard_layout().into_owned();
        assert_eq!(bits(&log_softmax(columns.t())), bits(&log), "layout is invisible");
    }

    #[test]
    fn infinities_and_nan() {
        let logits = array![
            [f32::NEG_INFINITY, 0.0],
            [f32::NEG_INFINITY, f32::NEG_INFINITY],
            [f32::INFINITY, 0.0],
            [f32::NAN, 0.0]
        ];
        let (losses, gradient) = softmax_cross_entropy(logits.view(), &[1, 0, 0, 1]).unwrap();
        assert_eq!(losses[0].to_bits(), 0);
        assert_eq!(gradient.row(0).to_vec(), [0.0, 0.0]);
        assert!(losses[1..].iter().all(|loss| loss.is_nan()));
        assert!(gradient.iter().skip(2).all(|value| value.is_nan()));
        let (losses, _) = softmax_cross_entropy(logits.view(), &[0, 0, 0, 1]).unwrap();
        assert_eq!(losses[0], f32::INFINITY);
    }

    #[test]
    fn labels_are_checked() {
        let logits = Array2::zeros((2, 3));
        assert_eq!(
            softmax_cross_entropy(logits.view(), &[2, 3]).unwrap_err(),
            KernelError::LabelOutOfRange { row: 1, label: 3, classes: 3 }
        );
        assert!(matches!(
            softmax_cross_entropy(logits.view(), &[0]).unwrap_err(),
            KernelError::ShapeMismatch { left, right, .. } if left == [2, 3] && right == [1]
        ));
        let (losses, gradient) = softmax_cross_entropy(Array2::zeros((0, 3)).view(), &[]).unwrap();
        assert_eq!((losses.len(), gradient.dim()), (0, (0, 3)));
        assert_eq!(log_softmax(Array2::zeros((2, 0)).view()).dim(), (2, 0));
    }
}

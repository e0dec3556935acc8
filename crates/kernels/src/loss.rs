//! Cross-entropy of softmax, row by row in f64 with one rounding to f32 at the end.

use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

use crate::error::{same_length, same_shape, KernelError};
use crate::isa::Isa;
use crate::scratch::{fill_row_major, row_major, zeros};
use crate::simd::{Simd, Vectorized};
use crate::softmax::lanes::{exponentials, scale};
use crate::softmax::{band_length, exponentials_length, rows_at_once, with_exponentials};
use crate::spec::softmax::cross_entropy;
use crate::threads::with_float_defaults;

const KERNEL: &str = "softmax_cross_entropy";

/// Cross-entropy of softmax for R rows of C logits and R labels: the loss of every row, and the gradient with respect to
/// the logits, both unscaled (divide by R for the mean over a batch).
///
/// With `m = max_j x_j`, `e_j = exp(x_j − m)` and `s = Σ e_j` in the tree of [`sum_f64`](crate::sum_f64), all in f64:
/// `loss = ln s − (x_label − m)` and `gradient_j = e_j · (1 / s) − [j = label]`, each rounded once to f32. `exp` is that of
/// [`softmax_into`](crate::softmax_into), `ln` the f64 sequence of `src/spec/elementary.rs`. A NaN or `+∞` in a row makes the whole
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
/// label that is not below C, [`KernelError::SizeOverflow`] if there is no memory for the result.
pub fn softmax_cross_entropy(
    logits: ArrayView2<'_, f32>,
    labels: &[u32],
) -> Result<(Vec<f32>, Array2<f32>), KernelError> {
    check_labels(logits, labels)?;
    let (rows, classes) = logits.dim();
    let mut losses = zeros(KERNEL, rows, 1)?;
    let gradient = zeros(KERNEL, rows, classes)?;
    let mut gradient = Array2::from_shape_vec((rows, classes), gradient).expect("as many elements");
    softmax_cross_entropy_into(logits, labels, &mut losses, gradient.view_mut())?;
    Ok((losses, gradient))
}

/// [`softmax_cross_entropy`] into R losses and an R×C gradient that are there already.
///
/// # Errors
/// As [`softmax_cross_entropy`], and [`KernelError::ShapeMismatch`] if there are not as many losses as rows or the gradient has
/// another shape than the logits. Nothing is written then.
pub fn softmax_cross_entropy_into(
    logits: ArrayView2<'_, f32>,
    labels: &[u32],
    losses: &mut [f32],
    gradient: ArrayViewMut2<'_, f32>,
) -> Result<(), KernelError> {
    check_labels(logits, labels)?;
    same_length(KERNEL, ("labels", labels.len()), ("losses", losses.len()))?;
    same_shape(KERNEL, ("logits", logits.shape()), ("gradient", gradient.shape()))?;
    if logits.is_empty() {
        return Ok(());
    }
    let (isa, columns) = (Isa::get(), logits.ncols());
    let length = band_length(columns);
    let rows = length / columns;
    let x = row_major(KERNEL, &logits)?;
    fill_row_major(KERNEL, gradient, |gradient| {
        let bands = gradient.par_chunks_mut(length).zip(x.par_chunks(length));
        let targets = losses.par_chunks_mut(rows).zip(labels.par_chunks(rows));
        bands.zip(targets).for_each(|((gradient, x), (losses, labels))| {
            let band = Band { x, labels, losses, gradient, columns };
            with_float_defaults(|| with_exponentials(columns, |e| band.compute(isa, e)));
        });
        Ok(())
    })
}

fn check_labels(logits: ArrayView2<'_, f32>, labels: &[u32]) -> Result<(), KernelError> {
    let (rows, classes) = logits.dim();
    if labels.len() != rows {
        return Err(KernelError::ShapeMismatch {
            kernel: KERNEL,
            left_name: "logits",
            left: vec![rows, classes],
            right_name: "labels",
            right: vec![labels.len()],
            rule: "there must be one label for each row",
        });
    }
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(row) => Err(KernelError::LabelOutOfRange { row, label: labels[row], classes }),
        None => Ok(()),
    }
}

/// Some rows.
struct Band<'a> {
    x: &'a [f32],
    labels: &'a [u32],
    losses: &'a mut [f32],
    gradient: &'a mut [f32],
    columns: usize,
}

impl Band<'_> {
    fn compute(self, isa: Isa, e: &mut [f64]) {
        if let Err(InLanes { band, e }) = isa.vectorize(InLanes { band: self, e }) {
            let Band { x, labels, losses, gradient, columns } = band;
            let rows = x.chunks_exact(columns).zip(gradient.chunks_exact_mut(columns));
            for ((x, gradient), (loss, &label)) in rows.zip(losses.iter_mut().zip(labels)) {
                *loss = cross_entropy(x, label as usize, gradient, &mut e[..columns]);
            }
        }
    }
}

struct InLanes<'a, 'b> {
    band: Band<'a>,
    e: &'b mut [f64],
}

impl Vectorized for InLanes<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let InLanes { band: Band { x, labels, losses, gradient, columns }, e } = self;
        let count = rows_at_once(columns);
        let blocks = x.chunks(count * columns).zip(gradient.chunks_mut(count * columns));
        let targets = labels.chunks(count).zip(losses.chunks_mut(count));
        for ((x, gradient), (labels, losses)) in blocks.zip(targets) {
            let rows = exponentials(simd, x, columns, e)
                .into_iter()
                .zip(e.chunks_exact(exponentials_length(columns)));
            let outputs = gradient.chunks_exact_mut(columns).zip(losses);
            for (((x, &label), (gradient, loss)), (row, e)) in
                x.chunks_exact(columns).zip(labels).zip(outputs).zip(rows)
            {
                let Some(row) = row else {
                    gradient.fill(f32::NAN);
                    *loss = f32::NAN;
                    continue;
                };
                let (inverse, label) = (1.0 / row.sum, label as usize);
                // Elsewhere the target is 0, and taking 0 from what is never −0 changes nothing.
                scale(simd, e, inverse, gradient);
                gradient[label] = (e[label] * inverse - 1.0) as f32;
                *loss = row.loss(x[label]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{log_softmax, with_threads};
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

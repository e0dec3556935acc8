//! How good a model is on data it did not learn from.

use bitproof_kernels::elementary::exp;
use bitproof_kernels::sum_f64;
use ndarray::{s, ArrayView2};

use crate::data::Part;
use crate::params::ParamSet;
use crate::trainable::{Batch, BatchTargets, Evaluation, Inputs, Predictions, Trainable, TrainableError};

/// How many examples are evaluated at once.
pub const EXAMPLES_A_BATCH: usize = 256;
/// How many windows of a text are evaluated at once.
pub const WINDOWS_A_BATCH: usize = 16;

/// What a model did on data.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// How many predictions there are.
    pub count: u64,
    /// The mean of their losses: each as f64, summed in one tree over all batches, divided by their number.
    pub loss: f64,
    /// What is said besides.
    pub measures: Measures,
    /// The predictions, in the order of the data.
    pub predictions: Predictions,
}

/// What is said of predictions besides the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measures {
    /// Of classes.
    Classes {
        /// The share that is right.
        accuracy: f64,
    },
    /// Of values: in f64, the sums over all of them in one tree each.
    Values {
        /// The root of the mean squared error.
        rmse: f64,
        /// The mean absolute error.
        mae: f64,
        /// `1 − Σ(t − y)² / Σ(t − mean t)²`; where all targets are equal 1 if every prediction is right, else 0.
        r2: f64,
    },
    /// Of text.
    Text {
        /// The exponential of the loss in nats a character, in f32 by the kernels' correctly rounded function.
        perplexity: f64,
    },
}

impl Measured {
    /// Every number with its name, the loss among them.
    pub fn metrics(&self) -> Vec<(&'static str, f64)> {
        let loss = ("loss", self.loss);
        match self.measures {
            Measures::Classes { accuracy } => vec![("accuracy", accuracy), loss],
            Measures::Values { rmse, mae, r2 } => vec![loss, ("mae", mae), ("r2", r2), ("rmse", rmse)],
            Measures::Text { perplexity } => vec![loss, ("perplexity", perplexity)],
        }
    }
}

/// Examples in batches of [`EXAMPLES_A_BATCH`], the last one as it comes out.
///
/// # Panics
/// When there are not as many targets as rows.
pub fn example_batches<'a>(
    shape: &'a [usize],
    values: ArrayView2<'a, f32>,
    targets: BatchTargets<'a>,
) -> impl Iterator<Item = Batch<'a>> {
    let rows = values.nrows();
    assert_eq!(rows, targets.len(), "each example has a target");
    (0..rows).step_by(EXAMPLES_A_BATCH).map(move |start| {
        let end = rows.min(start + EXAMPLES_A_BATCH);
        let values = values.slice_move(s![start..end, ..]);
        let targets = match targets {
            BatchTargets::Classes(labels) => BatchTargets::Classes(&labels[start..end]),
            BatchTargets::Values(numbers) => BatchTargets::Values(&numbers[start..end]),
        };
        Batch { inputs: Inputs::Examples { shape, values }, targets }
    })
}

/// A text in windows next to each other, [`WINDOWS_A_BATCH`] at once, so that each character but the first is predicted once. What is left at
/// the end is a window of its own, as short as it is.
///
/// # Panics
/// When `window` is 0.
pub fn text_batches(tokens: &[u32], window: usize) -> impl Iterator<Item = Batch<'_>> {
    assert!(window > 0, "a window holds a token");
    let predicted = tokens.len().saturating_sub(1);
    let whole = predicted / window * window;
    let batch = move |start: usize, end: usize, columns: usize| {
        let shape = ((end - start) / columns, columns);
        let ids =
            ArrayView2::from_shape(shape, &tokens[start..end]).expect("as many tokens as the windows hold");
        let targets = BatchTargets::Classes(&tokens[start + 1..end + 1]);
        Batch { inputs: Inputs::Tokens(ids), targets }
    };
    let step = window * WINDOWS_A_BATCH;
    let full = (0..whole).step_by(step).map(move |start| batch(start, whole.min(start + step), window));
    full.chain((whole < predicted).then(|| batch(whole, predicted, predicted - whole)))
}

/// Evaluates a model on batches; `None` when they hold no prediction.
///
/// # Errors
/// [`TrainableError`] when a batch does not fit the model.
pub fn evaluate<'a>(
    model: &dyn Trainable,
    params: &ParamSet,
    batches: impl IntoIterator<Item = Batch<'a>>,
) -> Result<Option<Measured>, TrainableError> {
    let mut losses: Vec<f64> = Vec::new();
    let mut found = Found::default();
    for batch in batches {
        let Evaluation { losses: new, predictions } = model.eval(params, &batch)?;
        losses.extend(new.iter().map(|&loss| f64::from(loss)));
        found.add(&batch, predictions)?;
    }
    if losses.is_empty() {
        return Ok(None);
    }
    let loss = mean(&losses);
    let (measures, predictions) = found.measure(loss);
    Ok(Some(Measured { count: losses.len() as u64, loss, measures, predictions }))
}

/// Evaluates a model on a part of a dataset; `None` when it holds nothing to predict.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_part(
    model: &dyn Trainable,
    params: &ParamSet,
    part: &Part,
) -> Result<Option<Measured>, TrainableError> {
    match part {
        Part::Text(text) => evaluate(model, params, text_batches(&text.tokens, text.window as usize)),
        Part::Examples(examples) => {
            let batches = example_batches(&examples.shape, examples.features.view(), examples.targets.view());
            evaluate(model, params, batches)
        }
    }
}

fn mean(values: &[f64]) -> f64 {
    sum_f64(values) / values.len() as f64
}

/// Predictions with what they should be.
#[derive(Default)]
struct Found {
    text: bool,
    correct: u64,
    classes: Vec<u32>,
    values: Vec<f32>,
    targets: Vec<f32>,
}

impl Found {
    fn add(&mut self, batch: &Batch<'_>, predictions: Predictions) -> Result<(), TrainableError> {
        self.text |= matches!(batch.inputs, Inputs::Tokens(_));
        let kind = |expected, got| Err(TrainableError::Kind { expected, got });
        match (predictions, batch.targets) {
            (Predictions::Classes(classes), BatchTargets::Classes(labels)) => {
                self.correct +=
                    classes.iter().zip(labels).filter(|(found, label)| found == label).count() as u64;
                self.classes.extend(classes);
                Ok(())
            }
            (Predictions::Values(values), BatchTargets::Values(targets)) => {
                self.values.extend(values);
                self.targets.extend_from_slice(targets);
                Ok(())
            }
            (Predictions::Classes(_), BatchTargets::Values(_)) => kind("classes", "values"),
            (Predictions::Values(_), BatchTargets::Classes(_)) => kind("values", "classes"),
        }
    }

    fn measure(self, loss: f64) -> (Measures, Predictions) {
        if !self.targets.is_empty() {
            return (regression(&self.values, &self.targets), Predictions::Values(self.values));
        }
        let measures = if self.text {
            Measures::Text { perplexity: f64::from(exp(loss as f32)) }
        } else {
            Measures::Classes { accuracy: self.correct as f64 / self.classes.len() as f64 }
        };
        (measures, Predictions::Classes(self.classes))
    }
}

fn regression(values: &[f32], targets: &[f32]) -> Measures {
    let targets: Vec<f64> = targets.iter().map(|&t| f64::from(t)).collect();
    let errors: Vec<f64> = values.iter().zip(&targets).map(|(&y, t)| f64::from(y) - t).collect();
    let centre = mean(&targets);
    let squares = |of: &[f64], from: f64| of.iter().map(|x| (x - from) * (x - from)).collect::<Vec<f64>>();
    let (residual, spread) = (squares(&errors, 0.0), sum_f64(&squares(&targets, centre)));
    let r2 = match (sum_f64(&residual), spread) {
        (0.0, 0.0) => 1.0,
        (_, 0.0) => 0.0,
        (residual, spread) => 1.0 - residual / spread,
    };
    let distances: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
    Measures::Values { rmse: mean(&residual).sqrt(), mae: mean(&distances), r2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, Axis};

    #[test]
    fn windows_predict_every_character_but_the_first_once() {
        for (length, window) in [(1000, 3), (385, 2), (10, 3), (4, 8), (2, 1), (1, 4), (0, 4)] {
            let tokens: Vec<u32> = (0..length).collect();
            let mut predicted = Vec::new();
            for batch in text_batches(&tokens, window) {
                let (Inputs::Tokens(ids), BatchTargets::Classes(labels)) = (batch.inputs, batch.targets)
                else {
                    panic!("text")
                };
                assert!(ids.nrows() <= WINDOWS_A_BATCH && ids.ncols() <= window && !ids.is_empty());
                assert!(ids.iter().zip(labels).all(|(id, label)| id + 1 == *label));
                predicted.extend_from_slice(labels);
            }
            assert_eq!(predicted, (1..length.max(1)).collect::<Vec<u32>>(), "{length} {window}");
        }
    }

    #[test]
    fn batches_hold_every_example_once() {
        let values = Array2::from_shape_fn((600, 2), |(i, j)| (2 * i + j) as f32);
        let labels: Vec<u32> = (0..600).collect();
        let mut seen = Vec::new();
        for batch in example_batches(&[2], values.view(), BatchTargets::Classes(&labels)) {
            let Inputs::Examples { values, .. } = batch.inputs else { panic!("examples") };
            assert!(values.len_of(Axis(0)) == batch.targets.len() && batch.targets.len() <= EXAMPLES_A_BATCH);
            seen.extend(values.iter().copied());
        }
        assert_eq!(seen, values.into_raw_vec_and_offset().0);
    }

    /// By hand: errors 1, 0, −2 around targets 1, 2, 3 with mean 2 and spread 2.
    #[test]
    fn regression_is_measured_as_its_definitions_say() {
        let Measures::Values { rmse, mae, r2 } = regression(&[2.0, 2.0, 1.0], &[1.0, 2.0, 3.0]) else {
            panic!("values")
        };
        assert_eq!((rmse, mae, r2), ((5.0f64 / 3.0).sqrt(), 1.0, 1.0 - 5.0 / 2.0));
        let constant = |y: f32| match regression(&[y, 4.0], &[4.0, 4.0]) {
            Measures::Values { r2, .. } => r2,
            other => panic!("{other:?}"),
        };
        assert_eq!((constant(4.0), constant(5.0)), (1.0, 0.0));
    }
}

//! `evaluate`: how good a model is on a part, and its prediction for every row.

use std::fmt::{Display, Write as _};

use bitproof_experiment_graph::MetricSet;
use bitproof_scheduler::TaskSpec;

use super::{outputs, StageError, StageOutputs, METRICS};
use crate::data::Part;
use crate::models;
use crate::trainable::{BatchTargets, Predictions, TrainableError};

pub(super) fn execute(task: &TaskSpec, inputs: &[Vec<u8>]) -> Result<StageOutputs, StageError> {
    let [model, part] = inputs else {
        let expected = "a model and a dataset part";
        return Err(StageError::Inputs { kind: "evaluate", expected, got: inputs.len() });
    };
    let loaded = models::load(model)?;
    let part = Part::decode(part)?;
    let measured = models::evaluate_part(&*loaded.model, &loaded.params, &part)?;
    let measured = measured.ok_or(StageError::NothingToEvaluate)?;
    let mut metrics = MetricSet::default();
    for (key, value) in measured.metrics() {
        metrics.push(&format!("{}/{key}", task.id), 0, value);
    }
    let targets = match &part {
        Part::Examples(examples) => examples.targets.view(),
        // Every character but the first is what follows another.
        Part::Text(text) => BatchTargets::Classes(text.tokens.get(1..).unwrap_or_default()),
    };
    let predictions = predictions_csv(&targets, &measured.predictions)?;
    Ok(outputs([(METRICS, metrics.to_json()), ("predictions", predictions.into_bytes())]))
}

/// A line for each prediction: its row, what it should be, and what it is.
fn predictions_csv(targets: &BatchTargets<'_>, predictions: &Predictions) -> Result<String, TrainableError> {
    fn rows<T: Display>(header: &str, targets: &[T], predictions: &[T]) -> String {
        let mut rows = format!("{header}\n");
        for (row, (target, predicted)) in targets.iter().zip(predictions).enumerate() {
            writeln!(rows, "{row},{target},{predicted}").expect("writing to a string");
        }
        rows
    }
    match (targets, predictions) {
        (BatchTargets::Classes(labels), Predictions::Classes(predicted)) => {
            Ok(rows("row,label,predicted", labels, predicted))
        }
        (BatchTargets::Values(targets), Predictions::Values(predicted)) => {
            Ok(rows("row,target,predicted", targets, predicted))
        }
        (BatchTargets::Classes(_), Predictions::Values(_)) => {
            Err(TrainableError::Kind { expected: "values", got: "classes" })
        }
        (BatchTargets::Values(_), Predictions::Classes(_)) => {
            Err(TrainableError::Kind { expected: "classes", got: "values" })
        }
    }
}

//! `evaluate`: a model's accuracy and loss on a part, and its prediction for every row.

use std::fmt::Write as _;

use bitproof_kernels::argmax_rows;
use bitproof_scheduler::TaskSpec;

use super::rows::Rows;
use super::train::mean_loss;
use super::{metrics, outputs, StageError, StageOutputs, METRICS};
use crate::models::{Mlp, ModelError};
use crate::safetensors;

pub(super) fn execute(task: &TaskSpec, inputs: &[Vec<u8>]) -> Result<StageOutputs, StageError> {
    let [model, part] = inputs else {
        let expected = "a model and a dataset part";
        return Err(StageError::Inputs { kind: "evaluate", expected, got: inputs.len() });
    };
    let model = Mlp::from_tensors(safetensors::decode(model)?)?;
    let part = Rows::decode(part)?;
    let logits = model.forward(part.features.view())?;
    let predicted = argmax_rows(logits.view()).map_err(ModelError::from)?;
    let correct = predicted.iter().zip(&part.labels).filter(|(p, l)| p == l).count();
    let accuracy = correct as f64 / part.labels.len() as f64;
    let mut rows = String::from("row,label,predicted\n");
    for (row, (label, predicted)) in part.labels.iter().zip(&predicted).enumerate() {
        writeln!(rows, "{row},{label},{predicted}").expect("writing to a string");
    }
    let loss = mean_loss(&model, &part)?;
    let measured = metrics(task, 0, [("accuracy", accuracy), ("loss", loss)]);
    Ok(outputs([(METRICS, measured.to_json()), ("predictions", rows.into_bytes())]))
}

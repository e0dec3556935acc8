//! `package`: the model as it is handed out, with its card.

use std::fmt::Write as _;

use bitproof_experiment_graph::MetricSet;
use bitproof_scheduler::TaskSpec;

use super::{outputs, StageError, StageOutputs, MODEL};
use crate::models;
use crate::pipeline::PackageParams;

pub(super) fn execute(task: &TaskSpec, inputs: &[Vec<u8>]) -> Result<StageOutputs, StageError> {
    let Some((model, metrics)) = inputs.split_first() else {
        return Err(StageError::Inputs { kind: "package", expected: "a model and metrics", got: 0 });
    };
    let params = PackageParams::from_canonical(&task.params)?;
    let loaded = models::load(model)?;
    let mut card = String::from("# Model card\n\n");
    let mut line = |text: String| writeln!(card, "{text}").expect("writing to a string");
    if !params.card.is_empty() {
        line(format!("{}\n", params.card.trim_end()));
    }
    line(format!("Model: {}\n\nParameters: {}\n", loaded.spec.kind(), loaded.params.layout().total()));
    line("| tensor | shape |\n|---|---|".to_owned());
    for entry in loaded.params.layout().entries() {
        let shape: Vec<String> = entry.shape.iter().map(usize::to_string).collect();
        line(format!("| `{}` | {} |", entry.name, shape.join(" x ")));
    }
    let mut values = MetricSet::default();
    for set in metrics {
        values.merge(&MetricSet::from_json(set)?);
    }
    line("\n| metric | last value |\n|---|---|".to_owned());
    for (name, value) in values.finals() {
        line(format!("| `{name}` | {value} |"));
    }
    Ok(outputs([(MODEL, model.clone()), ("card", card.into_bytes())]))
}

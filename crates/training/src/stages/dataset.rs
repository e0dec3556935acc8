//! `dataset`: a file becomes train, valid and test parts and a schema.

use bitproof_kernels::permutation;
use bitproof_scheduler::TaskSpec;
use serde_json::json;

use super::{outputs, StageError, StageOutputs};
use crate::data::{read_csv, split, Part, Split, Table};
use crate::pipeline::DatasetParams;
use crate::streams::{stream_key, Purpose};

/// Reads the file as the stage will.
///
/// # Errors
/// [`StageError::Data`] with row and column.
pub fn read(params: &DatasetParams, bytes: &[u8]) -> Result<Table, StageError> {
    Ok(read_csv(bytes, &params.csv_options())?)
}

/// Sees whether the rows suffice for the parts that are asked for.
///
/// # Errors
/// [`StageError::Data`].
pub fn check_split(
    task: &TaskSpec,
    seed: u64,
    params: &DatasetParams,
    table: &Table,
) -> Result<(), StageError> {
    parts(task, seed, params, table).map(drop)
}

fn parts(task: &TaskSpec, seed: u64, params: &DatasetParams, table: &Table) -> Result<Split, StageError> {
    let order = permutation(table.labels.len() as u32, stream_key(seed, &task.stage, Purpose::Split));
    let classes = table.classes.len() as u32;
    let (valid, test) = (params.valid_fraction, params.test_fraction);
    Ok(split(&table.labels, classes, valid, test, params.stratify, &order)?)
}

pub(super) fn execute(task: &TaskSpec, seed: u64, inputs: &[Vec<u8>]) -> Result<StageOutputs, StageError> {
    let [file] = inputs else {
        return Err(StageError::Inputs { kind: "dataset", expected: "one file", got: inputs.len() });
    };
    let params = DatasetParams::from_canonical(&task.params)?;
    let mut table = read(&params, file)?;
    let scale = params.scale as f32;
    table.features.mapv_inplace(|x| x * scale);
    let parts = parts(task, seed, &params, &table)?;
    let part = |rows: &[u32]| Part::select(&table, rows).encode();
    let schema = json!({
        "schema": "bitproof/dataset-schema/v1",
        "columns": table.columns,
        "classes": table.classes,
        "rows": { "train": parts.train.len(), "valid": parts.valid.len(), "test": parts.test.len() },
    });
    Ok(outputs([
        ("train", part(&parts.train)),
        ("valid", part(&parts.valid)),
        ("test", part(&parts.test)),
        ("schema", format!("{schema}\n").into_bytes()),
    ]))
}

//! The native stages: what each takes, makes and computes. Inputs and outputs are bytes, so that a stage is a function.

use std::collections::BTreeMap;

use bitproof_experiment_graph::{MetricError, MetricSet};
use bitproof_scheduler::{Native, TaskSpec};

use crate::data::DataError;
use crate::models::ModelError;
use crate::pipeline::ParamError;
use crate::safetensors::SafetensorsError;

mod dataset;
mod evaluate;
mod package;
mod rows;
mod train;

pub use dataset::{divide, Divided, DividedRows};

/// The kind of the stage that packages.
pub const PACKAGE: &str = "package";
/// The name of an output that holds metrics.
pub use bitproof_scheduler::command::METRICS;
/// The name of an output that holds a model.
pub const MODEL: &str = "model";

/// The version of the numeric specification that the stages compute by.
pub const NUMERICS: u32 = bitproof_kernels::SPEC;

/// The kinds of native stages with their versions. A version moves when a stage's results do.
pub const NATIVE: [(&str, u32); 4] = [("dataset", 2), ("train", 1), ("evaluate", 1), (PACKAGE, 1)];

/// The code that stages of a kind run in this version.
///
/// # Panics
/// When there is no such kind.
pub fn native(kind: &str) -> Native {
    let (kind, version) = NATIVE.into_iter().find(|(k, _)| *k == kind).expect("a kind of the table");
    Native { kind: kind.to_owned(), version }
}

/// A stage that failed by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// The plan names code that this version does not have.
    #[error("this version has no code {code}")]
    UnknownCode {
        /// Its kind and version.
        code: String,
    },
    /// The parameters are not those of the stage.
    #[error(transparent)]
    Params(#[from] ParamError),
    /// The plan gives the stage another number of inputs.
    #[error("{kind} takes {expected}, got {got} inputs")]
    Inputs {
        /// The kind of stage.
        kind: &'static str,
        /// What it takes.
        expected: &'static str,
        /// How many it got.
        got: usize,
    },
    /// One of several files of data cannot be read, or does not fit the others.
    #[error("{name}: {source}")]
    File {
        /// The name of the input.
        name: &'static str,
        /// Which of the inputs it is.
        input: usize,
        /// What is wrong.
        source: DataError,
    },
    /// The part holds something else than rows with classes.
    #[error("an mlp learns classes of rows, and the part holds {holds}")]
    NoClasses {
        /// What it holds.
        holds: &'static str,
    },
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model's file cannot be read.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The model does not fit.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An input's metrics cannot be read.
    #[error(transparent)]
    Metrics(#[from] MetricError),
    /// A loss is not finite: training diverged.
    #[error("the loss is {loss} at epoch {epoch}, step {step}: try a lower learning_rate")]
    NotFinite {
        /// The loss.
        loss: f32,
        /// The epoch, from 1.
        epoch: u64,
        /// The step, from 1.
        step: u64,
    },
}

/// The bytes of each output, by name.
pub type StageOutputs = BTreeMap<String, Vec<u8>>;

/// Executes the code of a task. Its result is a function of the task, the seed and the inputs.
///
/// # Errors
/// [`StageError`].
pub fn execute(task: &TaskSpec, seed: u64, inputs: &[Vec<u8>]) -> Result<StageOutputs, StageError> {
    let unknown = || StageError::UnknownCode { code: task.code.to_string() };
    let Native { kind, version } = task.code.native().ok_or_else(unknown)?;
    match (kind.as_str(), version) {
        ("dataset", 2) => dataset::execute(task, seed, inputs),
        ("train", 1) => train::execute(task, seed, inputs),
        ("evaluate", 1) => evaluate::execute(task, inputs),
        (PACKAGE, 1) => package::execute(task, inputs),
        _ => Err(unknown()),
    }
}

/// The name of the file that a package's output becomes.
pub fn package_file(output: &str) -> &str {
    match output {
        MODEL => "model.safetensors",
        "card" => "card.md",
        other => other,
    }
}

fn outputs<const N: usize>(named: [(&str, Vec<u8>); N]) -> StageOutputs {
    named.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

fn metrics<const N: usize>(task: &TaskSpec, step: u64, values: [(&str, f64); N]) -> MetricSet {
    let mut set = MetricSet::default();
    for (key, value) in values {
        set.push(&format!("{}/{key}", task.id), step, value);
    }
    set
}

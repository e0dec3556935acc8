//! The native stages: what each takes, makes and computes. Inputs and outputs are bytes, so that a stage is a function.

use std::collections::BTreeMap;

use bitproof_experiment_graph::MetricError;
use bitproof_scheduler::{Cancel, Native, TaskSpec};

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::keeper::{CheckpointKeeper, KeepError};
use crate::models::{GenerateError, ModelError};
use crate::pipeline::ParamError;
use crate::steps::MAX_SEGMENTS;
use crate::trainable::TrainableError;
use crate::trainer::TrainError;

mod dataset;
mod evaluate;
mod generate;
mod package;
mod train;

pub use dataset::{divide, Divided, DividedRows};
pub use generate::TextError;
pub use train::{Intervals, Training, CHECKPOINTS, INTERVALS, STEPS};

/// The kind of the stage that trains.
pub const TRAIN: &str = "train";
/// The kind of the stage that packages.
pub const PACKAGE: &str = "package";
/// The name of an output that holds metrics.
pub use bitproof_scheduler::command::METRICS;
/// The name of an output that holds a model.
pub const MODEL: &str = "model";

/// The version of the numeric specification that the stages compute by.
pub const NUMERICS: u32 = bitproof_kernels::SPEC;

/// The kinds of native stages with their versions. A version moves when a stage's results do.
pub const NATIVE: [(&str, u32); 5] =
    [("dataset", 2), (TRAIN, 2), ("evaluate", 2), ("generate", 1), (PACKAGE, 2)];

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
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// There is no such model, or its file cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data does not fit the model.
    #[error(transparent)]
    Trainable(#[from] TrainableError),
    /// The part to evaluate has no rows.
    #[error(
        "the part has no rows to evaluate; give the dataset a share for it, such as test_fraction = 0.2"
    )]
    NothingToEvaluate,
    /// The text does not fit the model.
    #[error(transparent)]
    Text(#[from] TextError),
    /// No text can be generated.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// An input's metrics cannot be read.
    #[error(transparent)]
    Metrics(#[from] MetricError),
    /// A training cannot go on.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A checkpoint cannot be packed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint can be neither kept nor found.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A training would have too many segments.
    #[error("the training would have {segments} segments; the limit is {MAX_SEGMENTS}\n  hint: set leaf_every to {least} or more")]
    TooManySegments {
        /// How many it would have.
        segments: u64,
        /// The interval from which on there are few enough.
        least: u64,
    },
    /// The run was cancelled.
    #[error("stopped after step {step}: the run was cancelled")]
    Cancelled {
        /// The last step that was made.
        step: u64,
    },
}

impl StageError {
    /// Whether another try may succeed: nothing is wrong with the task itself.
    pub fn is_infrastructure(&self) -> bool {
        matches!(self, Self::UnknownCode { .. } | Self::Keep(_) | Self::Cancelled { .. })
    }
}

/// What a stage may use of its surroundings. None of it reaches a result.
#[derive(Clone, Copy)]
pub struct StageContext<'a> {
    /// How many threads it computes with.
    pub threads: usize,
    /// Stops it.
    pub cancel: &'a Cancel,
    /// Where it keeps what it goes on from after a crash.
    pub keeper: &'a dyn CheckpointKeeper,
}

/// The bytes of each output, by name.
pub type StageOutputs = BTreeMap<String, Vec<u8>>;

/// Executes the code of a task. Its result is a function of the task, the seed and the inputs.
///
/// # Errors
/// [`StageError`].
pub fn execute(
    task: &TaskSpec,
    seed: u64,
    inputs: &[Vec<u8>],
    context: &StageContext<'_>,
) -> Result<StageOutputs, StageError> {
    let unknown = || StageError::UnknownCode { code: task.code.to_string() };
    let Native { kind, version } = task.code.native().ok_or_else(unknown)?;
    match (kind.as_str(), version) {
        ("dataset", 2) => dataset::execute(task, seed, inputs),
        (TRAIN, 2) => train::execute(task, seed, inputs, context),
        ("evaluate", 2) => evaluate::execute(task, inputs),
        ("generate", 1) => generate::execute(task, seed, inputs),
        (PACKAGE, 2) => package::execute(task, inputs),
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

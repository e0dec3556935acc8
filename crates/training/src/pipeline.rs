//! The pipeline file: read, checked, and normalised with every default filled in. `docs/reference/pipeline.md` is its reference.

use std::collections::BTreeMap;
use std::fmt;

use bitproof_experiment_graph::Gate;
use bitproof_scheduler::command::CommandInput;

use crate::governance::Control;

mod check;
mod command;
mod dataset;
mod draft;
mod governance;
mod matrix;
mod node;
mod params;
mod parse;
mod stage;
mod train;

pub use command::CommandParams;
pub use dataset::{ColumnRef, Content, DatasetParams, ExamplesParams, Format, LabelColumn, MAX_WINDOW};
pub use draft::{Draft, DraftError};
pub use params::{GenerateParams, PackageParams, ParamError, Params, MAX_CHARACTERS};
pub use parse::{parse, parse_gates, parse_with_overrides};
pub use train::{Length, OptimizerParams, TrainParams, MAX_BATCH, MAX_EPOCHS, MAX_HIDDEN_LAYERS, MAX_SHARDS};

/// The largest pipeline file, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;
/// The most stages.
pub const MAX_STAGES: usize = 10_000;
/// The longest name of a pipeline, stage, lane or data input, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file: line and column, from 1, in characters.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// On the command line, as an override of this key.
    Set {
        /// The dotted key.
        key: String,
    },
}

/// What is wrong with a pipeline, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineError {
    /// The file as the user named it.
    pub source: String,
    /// Where in it.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// `file:line:column`, or `--set key`.
pub fn show_place(source: &str, place: &Place) -> String {
    match place {
        Place::File { line, column } => format!("{source}:{line}:{column}"),
        Place::Set { key } => format!("--set {key}"),
    }
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", show_place(&self.source, &self.place), self.message)?;
        if self.hint.is_empty() {
            Ok(())
        } else {
            write!(f, "\n  hint: {}", self.hint)
        }
    }
}

impl std::error::Error for PipelineError {}

/// What happens when a stage fails by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing past it, in commit order, is kept.
    Stop,
    /// Everything that does not depend on it is run.
    Continue,
}

/// A named data input.
#[derive(Debug, Clone, PartialEq)]
pub struct DataInput {
    /// The path of a file or a folder, relative to the pipeline file, `/`-separated.
    pub path: String,
    /// The digest that it must have, as 64 hex digits, and where that stands.
    pub blake3: Option<(String, Place)>,
    /// Whether it is kept as an object even when it is large.
    pub store: bool,
    /// Where its path stands.
    pub place: Place,
}

/// Where a stage's input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputRef {
    /// A data input.
    Data(String),
    /// An output of another task.
    Output {
        /// The task.
        stage: String,
        /// The output.
        output: String,
    },
}

/// A tool that commands run with.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The path of a virtual environment or a program, relative to the pipeline file.
    pub path: String,
    /// The file that pins what is in it, and where that stands.
    pub lock: Option<(String, Place)>,
    /// Where it stands.
    pub place: Place,
}

/// A task: a stage, or one combination of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name: the stage's, and after `@` its values of the matrix.
    pub name: String,
    /// The stage that it is a task of.
    pub family: String,
    /// Its inputs, in order.
    pub inputs: Vec<InputRef>,
    /// For a command, what each input is to it.
    pub command_inputs: Vec<CommandInput>,
    /// Stages that must end before it, besides those it takes inputs from.
    pub after: Vec<String>,
    /// Its planned duration.
    pub cost: u64,
    /// The lane it is pinned to.
    pub lane: Option<u32>,
    /// How often it is tried again after a failure that is not its own.
    pub retries: u32,
    /// What it runs, with its parameters.
    pub params: Params,
    /// Where it stands.
    pub place: Place,
}

/// A budget, as written.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetSpec {
    /// The metric with its tags.
    pub metric: String,
    /// Limits whose breach fails.
    pub fail: Vec<String>,
    /// Limits whose breach warns.
    pub warn: Vec<String>,
    /// Where it stands.
    pub place: Place,
}

/// A pipeline with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline {
    /// The file as the user named it.
    pub source: String,
    /// Its name.
    pub name: String,
    /// The root of every random stream.
    pub seed: u64,
    /// The names of its lanes; a number of lanes becomes `0`, `1`, …
    pub lanes: Vec<String>,
    /// What happens when a stage fails by itself.
    pub on_failure: OnFailure,
    /// Data inputs by name.
    pub data: BTreeMap<String, DataInput>,
    /// Tools by name.
    pub tools: BTreeMap<String, Tool>,
    /// Tasks in the order of the file.
    pub stages: Vec<Stage>,
    /// Gates in the order of the file.
    pub gates: Vec<Gate>,
    /// Budgets in the order of the file.
    pub budgets: Vec<BudgetSpec>,
    /// The controls that a run must meet, in their order.
    pub governance: Vec<Control>,
}

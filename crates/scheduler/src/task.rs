//! What a task is: a node of the plan.

use std::collections::BTreeMap;
use std::fmt;

use bincode::{Decode, Encode};
use bitproof_core_ledger::digest::{ActionKind, Digest};
use bitproof_core_ledger::objects::ObjectId;

use crate::param::ParamValue;

/// A task's name, unique in its plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct TaskId(pub String);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The code that a task runs: part of this program, with a version of its own that moves with its results.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Native {
    /// Its name.
    pub kind: String,
    /// Its version.
    pub version: u32,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum InputSource {
    /// A named data input of the plan.
    Data(String),
    /// An output of another task.
    Output {
        /// The task.
        task: TaskId,
        /// The output's name.
        output: String,
    },
}

impl fmt::Display for InputSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(name) => write!(f, "data:{name}"),
            Self::Output { task, output } => write!(f, "{task}:{output}"),
        }
    }
}

/// A task as it is handed to the planner.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TaskSpec {
    /// Its name.
    pub id: TaskId,
    /// The stage of the pipeline that it comes from.
    pub stage: String,
    /// What it runs.
    pub native: Native,
    /// Its parameters, every default filled in.
    pub params: BTreeMap<String, ParamValue>,
    /// Its inputs, in the order in which the code takes them.
    pub inputs: Vec<InputSource>,
    /// Tasks that must end before it starts, besides those it takes inputs from.
    pub after: Vec<TaskId>,
    /// The names of its outputs, sorted.
    pub outputs: Vec<String>,
    /// Its planned duration, from 1 to 2³².
    pub cost: u64,
    /// The lane it is pinned to.
    pub lane: Option<u32>,
}

impl TaskSpec {
    /// The tasks that must end before it starts: sources of its inputs and `after`, possibly more than once.
    pub fn dependencies(&self) -> impl Iterator<Item = &TaskId> {
        let sources = self.inputs.iter().filter_map(|input| match input {
            InputSource::Output { task, .. } => Some(task),
            InputSource::Data(_) => None,
        });
        sources.chain(&self.after)
    }
}

/// What the result of a task depends on, digested. No time, host, lane or worker is in it.
pub type ActionDigest = Digest<ActionKind>;

/// The action digest of a task whose inputs are `inputs`, under the plan's `seed` and the version `numerics`
/// of the numeric specification.
pub fn action_digest(task: &TaskSpec, inputs: &[ObjectId], seed: u64, numerics: u32) -> ActionDigest {
    #[derive(Encode)]
    struct Action<'a> {
        task: &'a TaskId,
        native: &'a Native,
        numerics: u32,
        seed: u64,
        params: &'a BTreeMap<String, ParamValue>,
        inputs: &'a [ObjectId],
        outputs: &'a [String],
    }
    let TaskSpec { id, native, params, outputs, .. } = task;
    Digest::of(&Action { task: id, native, numerics, seed, params, inputs, outputs })
}

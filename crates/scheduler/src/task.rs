//! What a task is: a node of the plan.

use std::collections::BTreeMap;
use std::fmt;

use bincode::{Decode, Encode};
use bitproof_core_ledger::digest::{ActionKind, Digest};
use bitproof_core_ledger::objects::ObjectId;

use crate::command::{CodeFile, CommandInput, CommandOutput, CommandSpec, Isolation};
use crate::param::ParamValue;

/// A task's name, unique in its plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct TaskId(pub String);

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Code that is part of this program, with a version of its own that moves with its results.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Native {
    /// Its name.
    pub kind: String,
    /// Its version.
    pub version: u32,
}

impl fmt::Display for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} v{}", self.kind, self.version)
    }
}

/// What a task runs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Code {
    /// A part of this program.
    Native(Native),
    /// A program of its own.
    Command(Box<CommandSpec>),
}

impl Code {
    /// The part of this program that it is.
    pub fn native(&self) -> Option<&Native> {
        match self {
            Self::Native(native) => Some(native),
            Self::Command(_) => None,
        }
    }

    /// The program that it is.
    pub fn command(&self) -> Option<&CommandSpec> {
        match self {
            Self::Command(command) => Some(command),
            Self::Native(_) => None,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(native) => write!(f, "{native}"),
            Self::Command(command) => write!(f, "command {}", command.argv.join(" ")),
        }
    }
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
    pub code: Code,
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
    /// How often it is tried again after a failure that is not its own.
    pub retries: u32,
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
/// of the numeric specification, which no command depends on.
pub fn action_digest(task: &TaskSpec, inputs: &[ObjectId], seed: u64, numerics: u32) -> ActionDigest {
    #[derive(Encode)]
    enum ActionCode<'a> {
        Native {
            native: &'a Native,
            numerics: u32,
        },
        Command {
            argv: &'a [String],
            code: &'a [CodeFile],
            command_inputs: &'a [CommandInput],
            outputs: &'a [CommandOutput],
            metrics: &'a [String],
            env: &'a BTreeMap<String, Option<String>>,
            tools: &'a BTreeMap<String, Option<ObjectId>>,
            threads: u32,
            isolation: Isolation,
        },
    }
    #[derive(Encode)]
    struct Action<'a> {
        task: &'a TaskId,
        code: ActionCode<'a>,
        seed: u64,
        params: &'a BTreeMap<String, ParamValue>,
        inputs: &'a [ObjectId],
        outputs: &'a [String],
    }
    let code = match &task.code {
        Code::Native(native) => ActionCode::Native { native, numerics },
        Code::Command(command) => ActionCode::Command {
            argv: &command.argv,
            code: &command.code,
            command_inputs: &command.inputs,
            outputs: &command.outputs,
            metrics: &command.metrics,
            env: &command.env,
            tools: &command.tools,
            threads: command.threads,
            isolation: command.isolation,
        },
    };
    let TaskSpec { id, params, outputs, .. } = task;
    Digest::of(&Action { task: id, code, seed, params, inputs, outputs })
}

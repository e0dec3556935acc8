//! What a command is in a plan. `docs/formats/plan.md` is normative for its bytes.

use std::collections::BTreeMap;
use std::fmt;

use bincode::{Decode, Encode};
use bitproof_core_ledger::objects::ObjectId;

use crate::task::TaskSpec;

/// The output in which the numbers of a command lie.
pub const METRICS: &str = "metrics";

/// A program with everything that it is declared to depend on and to make.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CommandSpec {
    /// The program and its arguments, with their placeholders.
    pub argv: Vec<String>,
    /// The files that lie in its folder when it starts, besides its inputs; sorted by path.
    pub code: Vec<CodeFile>,
    /// What each of the task's inputs is to it, in their order.
    pub inputs: Vec<CommandInput>,
    /// What it makes, sorted by name.
    pub outputs: Vec<CommandOutput>,
    /// The files in which it leaves numbers, JSON or JSON lines.
    pub metrics: Vec<String>,
    /// The variables of the environment that it is declared to read, with their values; `None` for one that was not set.
    pub env: BTreeMap<String, Option<String>>,
    /// The tools that it runs with; for each the content of its lock file, if it has one.
    pub tools: BTreeMap<String, Option<ObjectId>>,
    /// How many threads it is told to compute with.
    pub threads: u32,
    /// How far it must be kept from what it does not declare.
    pub isolation: Isolation,
    /// What a replay demands of its outputs.
    pub replay: ReplayMode,
    /// Nanoseconds after which it is stopped.
    pub timeout_ns: Option<u64>,
}

impl CommandSpec {
    /// Whether its inputs and outputs are those of `task`. A command with files of metrics has them as an output, too.
    pub(crate) fn fits(&self, task: &TaskSpec) -> bool {
        let measured = (!self.metrics.is_empty()).then_some(METRICS);
        let mut names: Vec<&str> = self.outputs.iter().map(|o| o.name.as_str()).chain(measured).collect();
        names.sort_unstable();
        self.inputs.len() == task.inputs.len() && names.iter().eq(&task.outputs)
    }

    /// The content of its code and of its tools' lock files.
    pub fn contents(&self) -> impl Iterator<Item = ObjectId> + '_ {
        self.code.iter().map(|file| file.content).chain(self.tools.values().copied().flatten())
    }
}

/// A file of code, by content.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct CodeFile {
    /// Its path below the command's folder, with `/` between its parts.
    pub path: String,
    /// Its content.
    pub content: ObjectId,
    /// Whether it may be executed.
    pub executable: bool,
}

/// What an input is to a command.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct CommandInput {
    /// Its name.
    pub name: String,
    /// Where it lies below the command's folder, with `/` between the parts.
    pub path: String,
}

/// Something that a command makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct CommandOutput {
    /// Its name.
    pub name: String,
    /// Its path below the command's folder, with `/` between its parts and none at its end.
    pub path: String,
    /// Whether it is a folder, not a file.
    pub folder: bool,
}

/// How far a command is kept from what it does not declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Isolation {
    /// Not at all.
    None,
    /// As far as the machine can.
    Best,
    /// Landlock: it reads its inputs, its tools and the system, writes in its own folder, and opens no TCP connection.
    Landlock,
    /// Bubblewrap: it sees nothing else, and no network.
    Strict,
}

impl Isolation {
    /// Every one with its name.
    pub const NAMES: [(&'static str, Self); 4] =
        [("strict", Self::Strict), ("landlock", Self::Landlock), ("best", Self::Best), ("none", Self::None)];
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, _) = Self::NAMES.iter().find(|(_, tier)| tier == self).expect("each has a name");
        f.write_str(name)
    }
}

/// What a replay demands of a command's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ReplayMode {
    /// The same bytes.
    Bits,
    /// Numbers within `atol + rtol · |recorded|`, all else equal. Both are the bits of an `f64`.
    Tolerance {
        /// Relative to the recorded number.
        rtol: u64,
        /// Absolute.
        atol: u64,
    },
    /// Nothing: it cannot be repeated, and what was recorded is taken.
    Record,
}

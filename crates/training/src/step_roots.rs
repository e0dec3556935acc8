//! What a run pins of its trainings: the root of each step tree, before anybody says which segments are executed again.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bitproof_core_ledger::merkle::Hash;
use bitproof_core_ledger::objects::{ObjectError, Objects};
use bitproof_core_ledger::store::hex;
use bitproof_scheduler::ledger::Entry;
use bitproof_scheduler::{Plan, TaskSpec};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::stages;
use crate::steps::{StepTree, StepsError};

/// The step tree of each training that was done, by task.
pub type StepRoots = BTreeMap<String, StepRoot>;

/// A step tree in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepRoot {
    /// The root of its tree.
    pub root: TreeRoot,
    /// How many segments there are.
    pub segments: u64,
    /// How many steps there are.
    pub steps: u64,
}

/// The root of an RFC 6962 tree; shown as 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRoot(pub Hash);

/// Trainings whose segments cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepRootsError {
    /// The object cannot be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// It holds something else.
    #[error("the output steps of task {task}: {source}")]
    Steps {
        /// The training.
        task: String,
        /// What is wrong.
        source: StepsError,
    },
}

/// The step trees of what was executed of a plan.
///
/// # Errors
/// [`StepRootsError`].
pub fn step_roots(objects: &Objects, plan: &Plan, entries: &[Entry]) -> Result<StepRoots, StepRootsError> {
    let mut roots = StepRoots::new();
    for (task, entry) in plan.tasks().zip(entries).filter(|(task, entry)| is_training(task.spec, entry)) {
        let Some(id) = entry.output(stages::STEPS) else { continue };
        let task = task.spec.id.to_string();
        let tree = StepTree::decode(&objects.get(&id)?)
            .map_err(|source| StepRootsError::Steps { task: task.clone(), source })?;
        roots.insert(task, StepRoot::of(&tree));
    }
    Ok(roots)
}

/// Whether a task is a training that gave its segments.
pub fn is_training(task: &TaskSpec, entry: &Entry) -> bool {
    let trains = task.code.native().is_some_and(|native| native.kind == stages::TRAIN);
    trains && entry.output(stages::STEPS).is_some()
}

impl StepRoot {
    /// What is pinned of a tree.
    pub fn of(tree: &StepTree) -> Self {
        let segments = tree.segments();
        Self {
            root: TreeRoot(tree.root()),
            segments: segments.len() as u64,
            steps: segments.last().map_or(0, |last| last.end),
        }
    }
}

impl fmt::Display for TreeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A text that is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a root has 64 lower-case hex digits")]
pub struct RootFormat;

impl FromStr for TreeRoot {
    type Err = RootFormat;

    fn from_str(text: &str) -> Result<Self, RootFormat> {
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(RootFormat);
        }
        let mut root = [0; 32];
        for (byte, pair) in root.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| RootFormat)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| RootFormat)?;
        }
        Ok(Self(root))
    }
}

impl Serialize for TreeRoot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TreeRoot {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

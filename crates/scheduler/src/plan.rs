//! The planner: a DAG becomes lanes, ticks and a commit sequence, the same on every machine.
//!
//! List scheduling in the manner of HEFT (Topcuoglu, Hariri, Wu 2002) with integers only. Priority is the upward
//! rank by cost, descending, then the task's id; the lane is the pinned one, else the one where the task can start
//! earliest, then the lowest. The *tick* is the planned start; tasks commit in the order of (tick, lane, id).
//! `docs/formats/plan.md` is normative for its bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon::{self, CanonError};
use bitproof_core_ledger::digest::{Digest, PlanKind};
use bitproof_core_ledger::limits::CANON_BYTES;
use bitproof_core_ledger::objects::ObjectId;

use crate::task::{TaskId, TaskSpec};

mod graph;
mod schedule;

pub(crate) use graph::Graph;
use graph::Links;

/// The digest of a plan's canonical bytes.
pub type PlanDigest = Digest<PlanKind>;

/// The version of the plan's encoding.
const SCHEMA: u32 = 2;
/// The most tasks in a plan.
pub const MAX_TASKS: usize = 1_000_000;
/// The most lanes in a plan.
pub const MAX_LANES: usize = 1024;
/// The highest cost of a task.
pub const MAX_COST: u64 = 1 << 32;

/// What happens when a task fails by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum OnFailure {
    /// Nothing past the first failure, in commit order, is kept.
    Stop,
    /// Everything that does not depend on the failure is run.
    Continue,
}

/// A data input by content.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DataInput {
    /// Its name in the pipeline.
    pub name: String,
    /// Its content; for a folder, its listing.
    pub digest: ObjectId,
    /// Its length in bytes; for a folder, that of all its files.
    pub bytes: u64,
    /// Whether it is a folder, not a file.
    pub folder: bool,
}

/// What is to be planned.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PlanSpec {
    /// The pipeline's name.
    pub pipeline: String,
    /// The root of every random stream.
    pub seed: u64,
    /// The names of the lanes.
    pub lanes: Vec<String>,
    /// What happens when a task fails by itself.
    pub on_failure: OnFailure,
    /// The version of the numeric specification that the tasks compute by.
    pub numerics: u32,
    /// Data inputs, sorted by name.
    pub data: Vec<DataInput>,
    /// The tasks, in any order; a plan holds them in commit order.
    pub tasks: Vec<TaskSpec>,
    /// What else the plan binds, by name, in canonical bytes that this crate does not read.
    pub policy: BTreeMap<String, Vec<u8>>,
}

/// Where a task stands in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Slot {
    /// Its lane.
    pub lane: u32,
    /// Its planned start.
    pub tick: u64,
}

/// A plan: what is run, where, and in which order it is committed.
///
/// Clones share the graph; the digest is computed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    spec: PlanSpec,
    slots: Vec<Slot>,
    graph: Arc<Graph>,
    digest: PlanDigest,
}

/// A plan as it is encoded.
#[derive(Encode)]
struct Encoded<'a> {
    schema: u32,
    spec: &'a PlanSpec,
    slots: &'a [Slot],
}

/// A plan as it is decoded, before its slots were looked at.
#[derive(Encode, Decode)]
struct StoredPlan {
    schema: u32,
    spec: PlanSpec,
    slots: Vec<Slot>,
}

/// A task with its slot and its place in the commit order.
#[derive(Debug, Clone, Copy)]
pub struct PlannedTask<'a> {
    /// The task.
    pub spec: &'a TaskSpec,
    /// Its place in the commit order.
    pub sequence: usize,
    /// Its lane and tick.
    pub slot: Slot,
}

/// A DAG that cannot be planned, or bytes that are not a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A number is outside its range.
    #[error("{what} must be from 1 to {max}, got {got}")]
    Range {
        /// What.
        what: &'static str,
        /// The highest value.
        max: u64,
        /// The value.
        got: u64,
    },
    /// Two tasks have one name.
    #[error("there are two tasks named {task}")]
    Duplicate {
        /// The name.
        task: TaskId,
    },
    /// A task takes something that nothing makes.
    #[error("task {task} takes {input}, which nothing makes")]
    UnknownInput {
        /// The task.
        task: TaskId,
        /// What it takes.
        input: String,
    },
    /// A task's command does not say what each input is to it, or makes other outputs than the task.
    #[error("the command of task {task} has other inputs or outputs than the task")]
    Command {
        /// The task.
        task: TaskId,
    },
    /// A task's outputs are not in order, or one is listed twice.
    #[error("task {task} lists its output {output} out of order or twice")]
    Outputs {
        /// The task.
        task: TaskId,
        /// The output.
        output: String,
    },
    /// A task is pinned to a lane that does not exist.
    #[error("task {task} is pinned to lane {lane}, but there are {lanes}")]
    UnknownLane {
        /// The task.
        task: TaskId,
        /// The lane.
        lane: u32,
        /// How many there are.
        lanes: usize,
    },
    /// Tasks wait for each other.
    #[error("the tasks wait for each other: {}", path.iter().map(|t| t.0.as_str()).collect::<Vec<_>>().join(" -> "))]
    Cycle {
        /// The cycle; its first task is also its last.
        path: Vec<TaskId>,
    },
    /// Its encoding would be above the limit.
    #[error("the plan of {tasks} tasks takes {len} bytes, above the limit of {CANON_BYTES}\n  hint: fewer tasks, or shorter names and parameters")]
    TooLarge {
        /// How many tasks there are.
        tasks: usize,
        /// How many bytes they take.
        len: u64,
    },
    /// The bytes are not canonical.
    #[error(transparent)]
    Encoding(#[from] CanonError),
    /// The plan is of another version.
    #[error("the plan has schema {got}; this version reads {SCHEMA}")]
    Schema {
        /// Its schema.
        got: u32,
    },
    /// The slots are not those that the planner gives these tasks.
    #[error("the plan's lanes, ticks or order are not what its tasks are planned to")]
    NotAsPlanned,
}

impl Plan {
    /// Plans `spec`.
    ///
    /// Takes O((n + edges) log n + n log lanes) time for n tasks.
    ///
    /// # Errors
    /// [`PlanError`] for a graph that has no order, a number outside its range, or a plan above the limit.
    pub fn new(mut spec: PlanSpec) -> Result<Self, PlanError> {
        in_range("the number of lanes", spec.lanes.len() as u64, MAX_LANES as u64)?;
        in_range("the number of tasks", spec.tasks.len() as u64, MAX_TASKS as u64)?;
        spec.data.sort_by(|a, b| a.name.cmp(&b.name));
        let places = sorted_by_id(&spec.tasks);
        let tasks: Vec<&TaskSpec> = places.iter().map(|&place| &spec.tasks[place as usize]).collect();
        let links = Links::resolve(&spec, &tasks)?;
        let slots = schedule::slots(&tasks, spec.lanes.len(), &links)?;
        let mut order: Vec<(Slot, u32)> = slots.into_iter().zip(0..).collect();
        order.sort_unstable_by_key(|&(slot, i)| (slot.tick, slot.lane, i));
        let graph = Graph::new(&spec, &tasks, &links, &order);
        drop(tasks);
        rearrange(&mut spec.tasks, order.iter().map(|&(_, i)| places[i as usize]).collect());
        let slots: Vec<Slot> = order.into_iter().map(|(slot, _)| slot).collect();
        let (digest, len) = Digest::of_long(&Encoded { schema: SCHEMA, spec: &spec, slots: &slots });
        if len > CANON_BYTES as u64 {
            return Err(PlanError::TooLarge { tasks: slots.len(), len });
        }
        Ok(Self { spec, slots, graph: Arc::new(graph), digest })
    }

    /// Reads a plan's canonical bytes and plans its tasks again, so that a slot cannot be made up.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PlanError> {
        let decoded: StoredPlan = canon::decode(bytes)?;
        if decoded.schema != SCHEMA {
            return Err(PlanError::Schema { got: decoded.schema });
        }
        let again = Self::new(decoded.spec)?;
        if again.digest == Digest::of_bytes(bytes) {
            Ok(again)
        } else {
            Err(PlanError::NotAsPlanned)
        }
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        canon::encode(&Encoded { schema: SCHEMA, spec: &self.spec, slots: &self.slots })
    }

    /// The digest of its canonical bytes.
    pub fn digest(&self) -> PlanDigest {
        self.digest
    }

    /// What was planned; its tasks stand in commit order.
    pub fn spec(&self) -> &PlanSpec {
        &self.spec
    }

    /// What was planned, to be changed and planned again.
    pub fn into_spec(self) -> PlanSpec {
        self.spec
    }

    /// The number of tasks.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is nothing to do; never true for a plan that was made by [`Plan::new`].
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The task at a place of the commit order.
    ///
    /// # Panics
    /// When `sequence` is not below [`Plan::len`].
    pub fn task(&self, sequence: usize) -> PlannedTask<'_> {
        PlannedTask { spec: &self.spec.tasks[sequence], sequence, slot: self.slots[sequence] }
    }

    /// Every task, in commit order.
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = PlannedTask<'_>> {
        (0..self.len()).map(|i| self.task(i))
    }

    /// The place of each task in the commit order.
    pub fn sequences(&self) -> BTreeMap<&TaskId, usize> {
        self.tasks().map(|t| (&t.spec.id, t.sequence)).collect()
    }

    /// The tick at which the last task is planned to end.
    pub fn makespan(&self) -> u64 {
        self.tasks().map(|t| t.slot.tick + t.spec.cost).max().unwrap_or(0)
    }

    /// The longest chain of costs through the graph: no number of lanes makes the plan shorter.
    pub fn critical_path(&self) -> u64 {
        self.critical_path_tasks().iter().map(|t| t.spec.cost).sum()
    }

    /// The tasks of the longest chain of costs, from its first to its last. Of several that are as long, the one whose
    /// tasks, from the last to the first, commit earlier.
    pub fn critical_path_tasks(&self) -> Vec<PlannedTask<'_>> {
        let mut ends = vec![0u64; self.len()];
        let latest = |ends: &[u64], tasks: &mut dyn Iterator<Item = usize>| {
            tasks.max_by_key(|&task| (ends[task], std::cmp::Reverse(task)))
        };
        let before = |task: usize| self.graph.dependencies(task).iter().map(|&d| d as usize);
        for task in self.tasks() {
            let start = before(task.sequence).map(|d| ends[d]).max().unwrap_or(0);
            ends[task.sequence] = start + task.spec.cost;
        }
        let last = latest(&ends, &mut (0..self.len()));
        let mut path: Vec<_> = std::iter::successors(last, |&task| latest(&ends, &mut before(task)))
            .map(|task| self.task(task))
            .collect();
        path.reverse();
        path
    }

    /// How long each lane works, in the order of the lanes.
    pub fn lane_use(&self) -> Vec<LaneUse<'_>> {
        let makespan = self.makespan();
        let mut lanes: Vec<_> =
            self.spec.lanes.iter().map(|name| LaneUse { name, busy: 0, makespan }).collect();
        self.tasks().for_each(|task| lanes[task.slot.lane as usize].busy += task.spec.cost);
        lanes
    }

    pub(crate) fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }
}

/// How long a lane works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneUse<'a> {
    /// Its name.
    pub name: &'a str,
    /// The costs of its tasks, in ticks.
    pub busy: u64,
    makespan: u64,
}

impl LaneUse<'_> {
    /// Its share of the plan's length, in thousandths.
    pub fn per_mille(&self) -> u64 {
        // A lane works no longer than the plan is long.
        (u128::from(self.busy) * 1000 / u128::from(self.makespan.max(1))) as u64
    }
}

/// The places of the tasks, sorted by id.
fn sorted_by_id(tasks: &[TaskSpec]) -> Vec<u32> {
    let id = |place: u32| tasks[place as usize].id.0.as_bytes();
    // The beginning of an id lies beside its place; the rest, scattered in memory, is looked at only where that is the same.
    let beginning = |place: u32| {
        let mut bytes = [0u8; 16];
        bytes.iter_mut().zip(id(place)).for_each(|(byte, &b)| *byte = b);
        u128::from_be_bytes(bytes)
    };
    let mut keys: Vec<(u128, u32)> = (0..tasks.len() as u32).map(|place| (beginning(place), place)).collect();
    keys.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| id(a.1).cmp(id(b.1))));
    keys.into_iter().map(|(_, place)| place).collect()
}

/// Puts the item at `places[i]` to place `i`, for each `i`. They are large: none is moved more often than it must.
fn rearrange<T>(items: &mut [T], mut places: Vec<u32>) {
    for start in 0..places.len() {
        let mut at = start;
        loop {
            let from = std::mem::replace(&mut places[at], at as u32) as usize;
            if from == start || from == at {
                break;
            }
            items.swap(at, from);
            at = from;
        }
    }
}

fn in_range(what: &'static str, got: u64, max: u64) -> Result<(), PlanError> {
    if (1..=max).contains(&got) {
        Ok(())
    } else {
        Err(PlanError::Range { what, max, got })
    }
}

#[cfg(test)]
pub(crate) mod tests;

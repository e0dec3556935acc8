//! The planner: a DAG becomes lanes, ticks and a commit sequence, the same on every machine.
//!
//! List scheduling in the manner of HEFT (Topcuoglu, Hariri, Wu 2002) with integers only. Priority is the upward
//! rank by cost, descending, then the task's id; the lane is the pinned one, else the one where the task can start
//! earliest, then the lowest. The *tick* is the planned start; tasks commit in the order of (tick, lane, id).
//! `docs/formats/plan.md` is normative for its bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon::{self, CanonError};
use bitproof_core_ledger::digest::{Digest, PlanKind};
use bitproof_core_ledger::objects::ObjectId;

use crate::task::{InputSource, TaskId, TaskSpec};

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
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Plan {
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
    /// Takes O(n log n + n·lanes + edges) time for n tasks.
    ///
    /// # Errors
    /// [`PlanError`] for a graph that has no order, or a number outside its range.
    pub fn new(mut spec: PlanSpec) -> Result<Self, PlanError> {
        in_range("the number of lanes", spec.lanes.len() as u64, MAX_LANES as u64)?;
        in_range("the number of tasks", spec.tasks.len() as u64, MAX_TASKS as u64)?;
        spec.tasks.sort_by(|a, b| a.id.cmp(&b.id));
        spec.data.sort_by(|a, b| a.name.cmp(&b.name));
        let graph = Graph::new(&spec)?;
        let slots = graph.schedule(&spec.tasks, spec.lanes.len());
        let mut order: Vec<usize> = (0..slots.len()).collect();
        order.sort_by_key(|&i| (slots[i].tick, slots[i].lane, i));
        let slots = order.iter().map(|&i| slots[i]).collect();
        let mut tasks: Vec<Option<TaskSpec>> = spec.tasks.into_iter().map(Some).collect();
        spec.tasks = order.iter().map(|&i| tasks[i].take().expect("an order names each task once")).collect();
        Ok(Self { schema: SCHEMA, spec, slots })
    }

    /// Reads a plan's canonical bytes and plans its tasks again, so that a slot cannot be made up.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, PlanError> {
        let plan: Self = canon::decode(bytes)?;
        if plan.schema != SCHEMA {
            return Err(PlanError::Schema { got: plan.schema });
        }
        let again = Self::new(plan.spec.clone())?;
        if again == plan {
            Ok(plan)
        } else {
            Err(PlanError::NotAsPlanned)
        }
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        canon::encode(self)
    }

    /// The digest of its canonical bytes.
    pub fn digest(&self) -> PlanDigest {
        Digest::of(self)
    }

    /// What was planned; its tasks stand in commit order.
    pub fn spec(&self) -> &PlanSpec {
        &self.spec
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
        let sequences = self.sequences();
        let mut finish = vec![0u64; self.len()];
        for task in self.tasks() {
            let start = task.spec.dependencies().map(|d| finish[sequences[d]]).max().unwrap_or(0);
            finish[task.sequence] = start + task.spec.cost;
        }
        finish.into_iter().max().unwrap_or(0)
    }
}

fn in_range(what: &'static str, got: u64, max: u64) -> Result<(), PlanError> {
    if (1..=max).contains(&got) {
        Ok(())
    } else {
        Err(PlanError::Range { what, max, got })
    }
}

/// Edges by index into the tasks, sorted by id.
struct Graph {
    before: Vec<Vec<usize>>,
    after: Vec<Vec<usize>>,
    /// The cost of the longest chain that starts at each task.
    upward_rank: Vec<u64>,
}

impl Graph {
    fn new(spec: &PlanSpec) -> Result<Self, PlanError> {
        let tasks = &spec.tasks;
        if let Some(pair) = tasks.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(PlanError::Duplicate { task: pair[0].id.clone() });
        }
        let index: BTreeMap<&TaskId, usize> = tasks.iter().enumerate().map(|(i, t)| (&t.id, i)).collect();
        let data: BTreeSet<&str> = spec.data.iter().map(|d| d.name.as_str()).collect();
        let mut before = vec![Vec::new(); tasks.len()];
        let mut after = vec![Vec::new(); tasks.len()];
        for (i, task) in tasks.iter().enumerate() {
            in_range("a task's cost", task.cost, MAX_COST)?;
            if let Some(lane) = task.lane.filter(|&lane| lane as usize >= spec.lanes.len()) {
                return Err(PlanError::UnknownLane { task: task.id.clone(), lane, lanes: spec.lanes.len() });
            }
            let unknown = |input: String| PlanError::UnknownInput { task: task.id.clone(), input };
            for input in &task.inputs {
                let known = match input {
                    InputSource::Data(name) => data.contains(name.as_str()),
                    InputSource::Output { task, output } => {
                        index.get(task).is_some_and(|&t| tasks[t].outputs.contains(output))
                    }
                };
                if !known {
                    return Err(unknown(input.to_string()));
                }
            }
            for dependency in task.dependencies() {
                let &d = index.get(dependency).ok_or_else(|| unknown(dependency.to_string()))?;
                before[i].push(d);
            }
            before[i].sort_unstable();
            before[i].dedup();
            before[i].iter().for_each(|&d| after[d].push(i));
        }
        let upward_rank = upward_ranks(tasks, &before, &after)?;
        Ok(Self { before, after, upward_rank })
    }

    fn schedule(&self, tasks: &[TaskSpec], lanes: usize) -> Vec<Slot> {
        let mut waiting: Vec<usize> = self.before.iter().map(Vec::len).collect();
        let mut ready: BinaryHeap<(u64, Reverse<usize>)> = BinaryHeap::new();
        ready
            .extend((0..tasks.len()).filter(|&i| waiting[i] == 0).map(|i| (self.upward_rank[i], Reverse(i))));
        let mut lane_free = vec![0u64; lanes];
        let mut slots = vec![Slot { lane: 0, tick: 0 }; tasks.len()];
        let finish = |slots: &[Slot], i: usize| slots[i].tick + tasks[i].cost;
        while let Some((_, Reverse(i))) = ready.pop() {
            let earliest = self.before[i].iter().map(|&d| finish(&slots, d)).max().unwrap_or(0);
            let start = |lane: usize| (lane_free[lane].max(earliest), lane);
            let (tick, lane) = match tasks[i].lane {
                Some(pinned) => start(pinned as usize),
                None => (0..lanes).map(start).min().expect("a plan has a lane"),
            };
            slots[i] = Slot { lane: lane as u32, tick };
            lane_free[lane] = tick + tasks[i].cost;
            for &next in &self.after[i] {
                waiting[next] -= 1;
                if waiting[next] == 0 {
                    ready.push((self.upward_rank[next], Reverse(next)));
                }
            }
        }
        slots
    }
}

/// Ranks in reverse topological order. At most [`MAX_TASKS`] costs of [`MAX_COST`] are added, so no sum overflows.
fn upward_ranks(
    tasks: &[TaskSpec],
    before: &[Vec<usize>],
    after: &[Vec<usize>],
) -> Result<Vec<u64>, PlanError> {
    let mut waiting: Vec<usize> = after.iter().map(Vec::len).collect();
    let mut ends: Vec<usize> = (0..tasks.len()).filter(|&i| waiting[i] == 0).collect();
    let mut rank = vec![0u64; tasks.len()];
    let mut done = 0;
    while let Some(i) = ends.pop() {
        done += 1;
        rank[i] = tasks[i].cost + after[i].iter().map(|&s| rank[s]).max().unwrap_or(0);
        for &d in &before[i] {
            waiting[d] -= 1;
            if waiting[d] == 0 {
                ends.push(d);
            }
        }
    }
    if done == tasks.len() {
        return Ok(rank);
    }
    // Every task that is left waits for another that is left: following any of them ends in a cycle.
    let left = |i: usize| waiting[i] > 0;
    let mut path = vec![(0..tasks.len()).find(|&i| left(i)).expect("a task is left")];
    loop {
        let last = path[path.len() - 1];
        let next = after[last]
            .iter()
            .copied()
            .find(|&s| left(s))
            .expect("a task that is left has a follower that is");
        if let Some(start) = path.iter().position(|&p| p == next) {
            path.push(next);
            return Err(PlanError::Cycle {
                path: path[start..].iter().map(|&i| tasks[i].id.clone()).collect(),
            });
        }
        path.push(next);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::task::{Code, Native};
    use proptest::prelude::*;

    pub(crate) fn task(id: &str, cost: u64, deps: &[&str]) -> TaskSpec {
        TaskSpec {
            id: TaskId(id.to_owned()),
            stage: id.to_owned(),
            code: Code::Native(Native { kind: "test".to_owned(), version: 1 }),
            params: BTreeMap::new(),
            inputs: deps
                .iter()
                .map(|d| InputSource::Output { task: TaskId((*d).to_owned()), output: "out".to_owned() })
                .collect(),
            after: Vec::new(),
            outputs: vec!["out".to_owned()],
            cost,
            lane: None,
            retries: 0,
        }
    }

    pub(crate) fn spec(lanes: usize, tasks: Vec<TaskSpec>) -> PlanSpec {
        PlanSpec {
            pipeline: "p".to_owned(),
            seed: 0,
            lanes: (0..lanes).map(|i| i.to_string()).collect(),
            on_failure: OnFailure::Stop,
            numerics: 1,
            data: Vec::new(),
            tasks,
            policy: BTreeMap::new(),
        }
    }

    fn layout(plan: &Plan) -> Vec<(String, u32, u64)> {
        plan.tasks().map(|t| (t.spec.id.0.clone(), t.slot.lane, t.slot.tick)).collect()
    }

    #[test]
    fn a_diamond_on_two_lanes() {
        let tasks =
            vec![task("d", 1, &["b", "c"]), task("b", 2, &["a"]), task("c", 5, &["a"]), task("a", 1, &[])];
        let plan = Plan::new(spec(2, tasks)).unwrap();
        let expected = [("a", 0, 0), ("c", 0, 1), ("b", 1, 1), ("d", 0, 6)];
        assert_eq!(layout(&plan), expected.map(|(id, lane, tick)| (id.to_owned(), lane, tick)));
        assert_eq!((plan.makespan(), plan.critical_path()), (7, 7));
        assert_eq!(Plan::decode(&plan.encode()).unwrap(), plan);
    }

    #[test]
    fn a_pinned_task_keeps_its_lane() {
        let mut tasks = vec![task("a", 1, &[]), task("b", 1, &[])];
        tasks[0].lane = Some(1);
        tasks[1].lane = Some(1);
        let plan = Plan::new(spec(2, tasks.clone())).unwrap();
        assert_eq!(layout(&plan), [("a".to_owned(), 1, 0), ("b".to_owned(), 1, 1)]);
        tasks[0].lane = Some(2);
        assert!(matches!(Plan::new(spec(2, tasks)), Err(PlanError::UnknownLane { lane: 2, lanes: 2, .. })));
    }

    #[test]
    fn bad_graphs_are_refused() {
        let cycle =
            vec![task("a", 1, &["c"]), task("b", 1, &["a"]), task("c", 1, &["b"]), task("x", 1, &["a"])];
        let error = Plan::new(spec(1, cycle)).unwrap_err().to_string();
        assert_eq!(error, "the tasks wait for each other: a -> b -> c -> a");
        let unknown = Plan::new(spec(1, vec![task("a", 1, &["z"])]));
        assert!(matches!(unknown, Err(PlanError::UnknownInput { .. })));
        assert!(matches!(Plan::new(spec(1, vec![task("a", 1, &[]); 2])), Err(PlanError::Duplicate { .. })));
        assert!(matches!(Plan::new(spec(0, vec![task("a", 1, &[])])), Err(PlanError::Range { .. })));
        assert!(matches!(Plan::new(spec(1, vec![task("a", 0, &[])])), Err(PlanError::Range { .. })));
        assert!(matches!(Plan::new(spec(1, vec![])), Err(PlanError::Range { .. })));
    }

    #[test]
    fn a_made_up_slot_is_refused() {
        let mut plan = Plan::new(spec(2, vec![task("a", 1, &[]), task("b", 1, &["a"])])).unwrap();
        plan.slots[1].tick += 1;
        assert_eq!(Plan::decode(&plan.encode()), Err(PlanError::NotAsPlanned));
    }

    proptest! {
        #[test]
        fn plans_respect_the_graph_and_ignore_the_order_of_the_file(
            edges in prop::collection::vec(prop::collection::vec(0usize..40, 0..4), 1..40),
            costs in prop::collection::vec(1u64..9, 40),
            lanes in 1usize..6,
        ) {
            let name = |i: usize| format!("t{i:02}");
            let tasks: Vec<TaskSpec> = edges.iter().enumerate().map(|(i, deps)| {
                let deps: Vec<String> = deps.iter().filter(|&&d| d < i).map(|&d| name(d)).collect();
                task(&name(i), costs[i], &deps.iter().map(String::as_str).collect::<Vec<_>>())
            }).collect();
            let plan = Plan::new(spec(lanes, tasks.clone())).unwrap();
            let reversed = Plan::new(spec(lanes, tasks.into_iter().rev().collect())).unwrap();
            prop_assert_eq!(plan.digest(), reversed.digest());
            let sequences = plan.sequences();
            let mut lane_free = vec![0; lanes];
            for t in plan.tasks() {
                for d in t.spec.dependencies() {
                    let d = plan.task(sequences[d]);
                    prop_assert!(d.sequence < t.sequence && d.slot.tick + d.spec.cost <= t.slot.tick);
                }
                let free = &mut lane_free[t.slot.lane as usize];
                prop_assert!(*free <= t.slot.tick, "a lane runs one task at a time");
                *free = t.slot.tick + t.spec.cost;
            }
            prop_assert!(plan.critical_path() <= plan.makespan());
        }
    }
}

//! The edges of a plan, as numbers: names are resolved once.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{in_range, PlanError, PlanSpec, Slot, MAX_COST};
use crate::task::{InputSource, TaskId, TaskSpec};

/// A plan's edges and lanes, by place in the commit order.
///
/// Contents have numbers, too: first come the data inputs, then the outputs of every task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Graph {
    lane_of: Vec<u32>,
    lanes: Lists,
    dependencies: Lists,
    followers: Lists,
    inputs: Lists,
    /// Where each task's outputs begin among the contents, and where the last one's end.
    outputs: Vec<u32>,
}

impl Graph {
    /// `order` holds for each place in the commit order the slot and the number of the task in `tasks` and `links`.
    pub(super) fn new(spec: &PlanSpec, tasks: &[&TaskSpec], links: &Links, order: &[(Slot, u32)]) -> Self {
        let mut sequences = vec![0u32; order.len()];
        for (sequence, &(_, i)) in (0..).zip(order) {
            sequences[i as usize] = sequence;
        }
        let mut outputs = Vec::with_capacity(order.len() + 1);
        outputs.push(spec.data.len() as u32);
        for &(_, i) in order {
            outputs.push(outputs[outputs.len() - 1] + tasks[i as usize].outputs.len() as u32);
        }
        let content = |source: &Source| match *source {
            Source::Data(data) => data,
            Source::Output { task, output } => outputs[sequences[task as usize] as usize] + output,
        };
        let lane_of: Vec<u32> = order.iter().map(|(slot, _)| slot.lane).collect();
        let dependencies = Lists::collect(order.iter().map(|&(_, i)| {
            let before = links.before.list(i as usize).iter();
            before.map(|&d| sequences[d as usize])
        }));
        let inputs =
            Lists::collect(order.iter().map(|&(_, i)| links.sources(i as usize).iter().map(content)));
        Self {
            lanes: Lists::inverse(spec.lanes.len(), lane_of.iter().map(std::slice::from_ref)),
            followers: Lists::inverse(order.len(), (0..order.len()).map(|i| dependencies.list(i))),
            dependencies,
            inputs,
            outputs,
            lane_of,
        }
    }

    /// How many tasks there are.
    pub(crate) fn len(&self) -> usize {
        self.lane_of.len()
    }

    /// A task's lane.
    pub(crate) fn lane_of(&self, task: usize) -> usize {
        self.lane_of[task] as usize
    }

    /// The tasks of a lane, in order.
    pub(crate) fn lane(&self, lane: usize) -> &[u32] {
        self.lanes.list(lane)
    }

    /// The tasks that must end before a task, each once.
    pub(crate) fn dependencies(&self, task: usize) -> &[u32] {
        self.dependencies.list(task)
    }

    /// The tasks that wait for a task.
    pub(crate) fn followers(&self, task: usize) -> &[u32] {
        self.followers.list(task)
    }

    /// The contents that a task takes, in the order in which its code takes them.
    pub(crate) fn inputs(&self, task: usize) -> &[u32] {
        self.inputs.list(task)
    }

    /// The contents that a task makes, in the order of its outputs.
    pub(crate) fn outputs(&self, task: usize) -> std::ops::Range<usize> {
        self.outputs[task] as usize..self.outputs[task + 1] as usize
    }

    /// How many contents there are.
    pub(crate) fn contents(&self) -> usize {
        self.outputs[self.len()] as usize
    }
}

/// Many lists of small numbers in two allocations. Each number stands for something that takes more than four bytes of
/// memory elsewhere, so 32 bits hold their count.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lists {
    /// Where each list begins, and where the last one ends.
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Lists {
    fn collect<I: Iterator<Item = u32>>(lists: impl ExactSizeIterator<Item = I>) -> Self {
        let mut starts = Vec::with_capacity(lists.len() + 1);
        let mut items = Vec::with_capacity(lists.len());
        starts.push(0);
        for list in lists {
            items.extend(list);
            starts.push(items.len() as u32);
        }
        Self { starts, items }
    }

    /// For each of `len` numbers the lists that it is in, ascending.
    pub(super) fn inverse<'a>(len: usize, lists: impl Iterator<Item = &'a [u32]> + Clone) -> Self {
        let mut starts = vec![0u32; len + 1];
        for &item in lists.clone().flatten() {
            starts[item as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut items = vec![0u32; starts[len] as usize];
        let mut next = starts.clone();
        for (i, list) in (0..).zip(lists) {
            for &item in list {
                let at = &mut next[item as usize];
                items[*at as usize] = i;
                *at += 1;
            }
        }
        Self { starts, items }
    }

    pub(super) fn list(&self, i: usize) -> &[u32] {
        &self.items[self.starts[i] as usize..self.starts[i + 1] as usize]
    }
}

/// Where an input comes from, in numbers.
#[derive(Debug, Clone, Copy)]
enum Source {
    Data(u32),
    Output { task: u32, output: u32 },
}

/// The edges between tasks that are sorted by id, and what their inputs mean.
pub(super) struct Links {
    /// For each task those that must end before it.
    pub(super) before: Lists,
    /// For each task those that wait for it.
    pub(super) after: Lists,
    sources: Vec<Source>,
    /// Where each task's inputs begin among the sources, and where the last one's end.
    first_source: Vec<usize>,
}

impl Links {
    /// Resolves the names in `tasks`, those of `spec` sorted by id; its data is sorted by name.
    pub(super) fn resolve(spec: &PlanSpec, tasks: &[&TaskSpec]) -> Result<Self, PlanError> {
        if let Some(pair) = tasks.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(PlanError::Duplicate { task: pair[0].id.clone() });
        }
        let names = Names::new(tasks);
        let mut before = Lists { starts: vec![0], items: Vec::new() };
        let mut sources = Vec::new();
        let mut first_source = vec![0];
        let mut own: Vec<u32> = Vec::new();
        for &task in tasks {
            check(task, spec.lanes.len())?;
            let unknown = |input: String| PlanError::UnknownInput { task: task.id.clone(), input };
            for input in &task.inputs {
                let source = match input {
                    InputSource::Data(name) => {
                        let found = spec.data.binary_search_by(|data| data.name.as_str().cmp(name));
                        found.ok().map(|data| Source::Data(data as u32))
                    }
                    InputSource::Output { task, output } => names.find(task).and_then(|task| {
                        own.push(task);
                        let output = tasks[task as usize].outputs.binary_search(output).ok()?;
                        Some(Source::Output { task, output: output as u32 })
                    }),
                };
                sources.push(source.ok_or_else(|| unknown(input.to_string()))?);
            }
            first_source.push(sources.len());
            for after in &task.after {
                own.push(names.find(after).ok_or_else(|| unknown(after.to_string()))?);
            }
            own.sort_unstable();
            own.dedup();
            before.items.append(&mut own);
            before.starts.push(before.items.len() as u32);
        }
        let after = Lists::inverse(tasks.len(), (0..tasks.len()).map(|i| before.list(i)));
        Ok(Self { before, after, sources, first_source })
    }

    fn sources(&self, task: usize) -> &[Source] {
        &self.sources[self.first_source[task]..self.first_source[task + 1]]
    }
}

fn check(task: &TaskSpec, lanes: usize) -> Result<(), PlanError> {
    in_range("a task's cost", task.cost, MAX_COST)?;
    if let Some(lane) = task.lane.filter(|&lane| lane as usize >= lanes) {
        return Err(PlanError::UnknownLane { task: task.id.clone(), lane, lanes });
    }
    if task.code.command().is_some_and(|command| !command.fits(task)) {
        return Err(PlanError::Command { task: task.id.clone() });
    }
    match task.outputs.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(PlanError::Outputs { task: task.id.clone(), output: pair[1].clone() }),
        None => Ok(()),
    }
}

/// Finds tasks by name: sorted by a hash of it, which is compared in less time than the name.
struct Names<'a> {
    tasks: &'a [&'a TaskSpec],
    sorted: Vec<(u64, u32)>,
    /// Where the hashes with each leading bits begin.
    buckets: Vec<u32>,
    shift: u32,
}

impl<'a> Names<'a> {
    fn new(tasks: &'a [&'a TaskSpec]) -> Self {
        let mut sorted: Vec<(u64, u32)> = tasks.iter().map(|task| hash(&task.id)).zip(0..).collect();
        sorted.sort_unstable();
        let bits = tasks.len().max(2).ilog2();
        let shift = u64::BITS - bits;
        let mut buckets = vec![0u32; (1 << bits) + 1];
        sorted.iter().for_each(|(hash, _)| buckets[(hash >> shift) as usize + 1] += 1);
        for i in 1..buckets.len() {
            buckets[i] += buckets[i - 1];
        }
        Self { tasks, sorted, buckets, shift }
    }

    fn find(&self, id: &TaskId) -> Option<u32> {
        let hash = hash(id);
        let bucket = (hash >> self.shift) as usize;
        let same_bits = &self.sorted[self.buckets[bucket] as usize..self.buckets[bucket + 1] as usize];
        let same = same_bits.iter().filter(|entry| entry.0 == hash);
        same.map(|&(_, task)| task).find(|&task| self.tasks[task as usize].id == *id)
    }
}

/// It only says where to look: nothing that is kept depends on it.
fn hash(id: &TaskId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.0.hash(&mut hasher);
    hasher.finish()
}

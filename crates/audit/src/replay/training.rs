//! A recorded training, of which any stretch of segments is executed again from the checkpoint before it.

use std::collections::BTreeSet;

use bitproof_core_ledger::objects::{ObjectError, ObjectId};
use bitproof_scheduler::ledger::Outcome;
use bitproof_scheduler::InputSource;
use bitproof_training::checkpoint;
use bitproof_training::shard::Carriers;
use bitproof_training::stages::{self, Training};
use bitproof_training::step_roots::StepRoot;
use bitproof_training::steps::{Segment, SegmentPart, StepTree};
use bitproof_training::trainer::Trainer;
use bitproof_training::workflow::Contents as _;

use super::task::{other_code, Replayer};
use super::{refuse, ReplayError};
use crate::divergence::Difference;
use crate::reach::object_path;
use crate::report::Finding;
use crate::verify::damaged;

/// A stretch of segments that is executed again without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The checkpoint that it starts from; 0 for the initial parameters.
    pub from: u64,
    /// Its first segment, from 0.
    pub first: usize,
    /// Its last segment.
    pub last: usize,
}

/// A stretch that was executed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reexecuted {
    /// What was to be executed.
    pub stretch: Stretch,
    /// How many steps were made.
    pub steps: u64,
    /// How many segments were held against their leaves. It ends with the first that differs.
    pub segments: u64,
    /// The first segment that differs.
    pub difference: Option<SegmentDifference>,
}

/// A segment that is not what the plan computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentDifference {
    /// Which segment, from 0.
    pub segment: u64,
    /// Its first step.
    pub first_step: u64,
    /// Its last step.
    pub last_step: u64,
    /// How it differs.
    pub fault: SegmentFault,
}

/// How a recorded segment differs from what the plan computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentFault {
    /// This is the first part with another digest.
    Part(SegmentPart),
    /// It ends with another step than the plan says.
    End {
        /// The last step of the plan's segment; `None` where it has no more.
        planned: Option<u64>,
    },
    /// The training cannot be executed up to its end.
    Failed(String),
}

impl SegmentDifference {
    /// The very step, where the segment has no other.
    pub fn step(&self) -> Option<u64> {
        (self.first_step == self.last_step).then_some(self.last_step)
    }
}

impl std::fmt::Display for SegmentFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Part(part) => write!(f, "{} gives other bits than were recorded", part.describe()),
            Self::End { planned: Some(end) } => {
                write!(f, "the plan has a segment that ends with step {end} here")
            }
            Self::End { planned: None } => f.write_str("the plan has no such segment"),
            Self::Failed(why) => write!(f, "it cannot be executed again: {why}"),
        }
    }
}

/// What has to be executed again so that each of the segments `wanted`, which ascend, is: from the nearest checkpoint before it. Stretches
/// that overlap are one.
pub fn stretches(
    tree: &StepTree,
    checkpoints: &[u64],
    wanted: impl IntoIterator<Item = usize>,
) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for last in wanted {
        let before = tree.first_step(last);
        let from = checkpoints.iter().copied().filter(|&step| step < before).max().unwrap_or(0);
        match stretches.last_mut() {
            Some(stretch) if stretch.from == from => stretch.last = last,
            _ => {
                let first = tree.segment_of(from + 1).unwrap_or(last);
                stretches.push(Stretch { from, first, last });
            }
        }
    }
    stretches
}

/// A training with all that its steps are held against.
pub(super) struct RecordedTraining {
    pub(super) task: String,
    pub(super) training: Training,
    pub(super) tree: StepTree,
    /// The steps of its checkpoints, ascending.
    pub(super) checkpoints: Vec<u64>,
    packed: Vec<u8>,
    /// Where the checkpoints are, in words.
    place: String,
}

impl Replayer<'_> {
    /// The segments that a training recorded.
    pub(super) fn step_tree(&self, sequence: usize) -> Result<StepTree, ReplayError> {
        let (id, task) = (self.trained(sequence, stages::STEPS)?, self.task_name(sequence));
        let bytes = self.recorded_output(sequence, stages::STEPS, &id)?;
        let tree =
            StepTree::decode(&bytes).map_err(|source| ReplayError::Steps { task: task.clone(), source })?;
        let (told, got) = (self.subject.step_roots.get(&task), StepRoot::of(&tree));
        match told {
            Some(told) if *told != got => {
                let (expected, got) = (format!("the root {}", told.root), format!("the root {}", got.root));
                Err(ReplayError::Damaged {
                    findings: vec![finding("steps", &object_path(&id), expected, got)],
                })
            }
            _ => Ok(tree),
        }
    }

    /// A training of which parts can be executed again.
    pub(super) fn training(&self, sequence: usize) -> Result<RecordedTraining, ReplayError> {
        let (task, tree) = (self.task_name(sequence), self.step_tree(sequence)?);
        let planned = self.subject.plan.task(sequence);
        if let Some(Difference::Code { recorded, replayed: here }) = other_code(planned) {
            return Err(ReplayError::OtherCode { task, recorded, here });
        }
        refuse(self.subject, self.request, &[sequence])?;
        self.make_inputs(sequence)?;
        let inputs = self.inputs(sequence);
        let inputs = inputs.iter().map(|id| self.read(id)).collect::<Result<Vec<_>, _>>()?;
        let training = Training::of(planned.spec, self.subject.plan.spec().seed, &inputs)
            .map_err(|e| ReplayError::Infrastructure { task: task.clone(), message: e.to_string() })?;
        let id = self.trained(sequence, stages::CHECKPOINTS)?;
        // Without them everything is executed from the first step.
        let packed = match self.read(&id) {
            Err(ObjectError::Missing { .. }) => Vec::new(),
            read => read?,
        };
        let malformed = |source| ReplayError::Checkpoint { task: task.clone(), source };
        let checkpoints =
            if packed.is_empty() { Vec::new() } else { checkpoint::steps_in(&packed).map_err(malformed)? };
        Ok(RecordedTraining { task, training, tree, checkpoints, packed, place: object_path(&id) })
    }

    fn task_name(&self, sequence: usize) -> String {
        self.subject.entries[sequence].task.to_string()
    }

    /// The content of an output of a training that came to its end.
    fn trained(&self, sequence: usize, output: &str) -> Result<ObjectId, ReplayError> {
        let found = self.subject.entries[sequence].output(output);
        found.ok_or_else(|| ReplayError::NoSegments {
            run: self.subject.name.clone(),
            task: self.task_name(sequence),
        })
    }

    fn recorded_output(
        &self,
        sequence: usize,
        output: &'static str,
        id: &ObjectId,
    ) -> Result<Vec<u8>, ReplayError> {
        match self.read(id) {
            Err(ObjectError::Missing { .. }) => {
                Err(ReplayError::MissingOutput { task: self.task_name(sequence), output, digest: *id })
            }
            read => Ok(read?),
        }
    }

    /// Executes what makes the inputs of a task that are not here: of a manifest there may be no more than data.
    fn make_inputs(&self, sequence: usize) -> Result<(), ReplayError> {
        let mut wanted = BTreeSet::new();
        let mut left = vec![sequence];
        while let Some(of) = left.pop() {
            for (source, id) in self.subject.plan.task(of).spec.inputs.iter().zip(self.inputs(of)) {
                match source {
                    _ if self.locate(&id).is_ok() => {}
                    InputSource::Data(name) => {
                        return Err(ReplayError::MissingData { name: name.clone(), digest: id })
                    }
                    InputSource::Output { task, .. } => {
                        let maker = self.subject.entries.iter().position(|entry| entry.task == *task);
                        let maker = maker.filter(|&maker| {
                            matches!(self.subject.entries[maker].outcome, Outcome::Done { .. })
                        });
                        let maker = maker.expect("what a task took was made by a task before it");
                        if wanted.insert(maker) {
                            left.push(maker);
                        }
                    }
                }
            }
        }
        let wanted: Vec<usize> = wanted.into_iter().collect();
        refuse(self.subject, self.request, &wanted)?;
        self.all(&wanted)?;
        match self.inputs(sequence).iter().all(|id| self.locate(id).is_ok()) {
            true => Ok(()),
            false => Err(ReplayError::NotJudged { tasks: vec![self.task_name(sequence)] }),
        }
    }
}

impl RecordedTraining {
    /// The first segment that does not end where the plan's does.
    pub(super) fn other_end(&self) -> Option<SegmentDifference> {
        let boundaries = self.training.config().boundaries;
        let (segment, planned) = self.tree.other_end(boundaries)?;
        Some(SegmentDifference {
            segment: segment as u64,
            first_step: self.tree.first_step(segment),
            last_step: self.tree.segments().get(segment).map_or(boundaries.steps, |s| s.end),
            fault: SegmentFault::End { planned },
        })
    }

    pub(super) fn stretches(&self, wanted: impl IntoIterator<Item = usize>) -> Vec<Stretch> {
        stretches(&self.tree, &self.checkpoints, wanted)
    }

    pub(super) fn carriers(&self, threads: usize) -> Carriers {
        Carriers::new(threads, self.training.config().shards)
    }

    /// The training after the step `from`: its checkpoint must be what the leaf of that step says.
    pub(super) fn at(&self, from: u64) -> Result<Trainer<'_>, ReplayError> {
        let refused = |message: String| ReplayError::Infrastructure { task: self.task.clone(), message };
        let mut trainer = self.training.trainer().map_err(|e| refused(e.to_string()))?;
        if from == 0 {
            return Ok(trainer);
        }
        let malformed = |source| ReplayError::Checkpoint { task: self.task.clone(), source };
        let checkpoint = checkpoint::unpack(&self.packed, from).map_err(malformed)?;
        let digests = checkpoint.digests().map_err(malformed)?;
        let leaf = self.tree.segment_of(from).map(|index| &self.tree.segments()[index]);
        let fits = leaf.is_some_and(|leaf| leaf.end == from && (leaf.parameters, leaf.moments) == digests);
        let restored = match fits {
            true => trainer.restore(&checkpoint).map_err(|e| e.to_string()),
            false => Err("another one".to_owned()),
        };
        match restored {
            Ok(()) => Ok(trainer),
            Err(got) => {
                let expected = format!("the checkpoint of the training that has the leaf of step {from}");
                Err(ReplayError::Damaged {
                    findings: vec![finding("checkpoint", &self.place, expected, got)],
                })
            }
        }
    }

    /// Executes a stretch again, and holds each segment against its leaf.
    pub(super) fn execute(
        &self,
        stretch: Stretch,
        carriers: &Carriers,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Reexecuted, ReplayError> {
        let mut trainer = self.at(stretch.from)?;
        let mut done = Reexecuted { stretch, steps: 0, segments: 0, difference: None };
        tracing::info!(task = self.task, from = stretch.from, "executing again");
        carriers.within(|| {
            for index in stretch.first..=stretch.last {
                let recorded = &self.tree.segments()[index];
                let made = self.segment(&mut trainer, recorded.end, carriers, cancelled)?;
                done.steps = trainer.steps_made() - stretch.from;
                done.segments += 1;
                let fault = match made {
                    Ok(made) => recorded.first_difference(&made).map(SegmentFault::Part),
                    Err(why) => Some(SegmentFault::Failed(why)),
                };
                if let Some(fault) = fault {
                    done.difference = Some(SegmentDifference {
                        segment: index as u64,
                        first_step: self.tree.first_step(index),
                        last_step: recorded.end,
                        fault,
                    });
                    break;
                }
            }
            Ok(done)
        })
    }

    /// Goes on to the end of a segment; or why that cannot be done.
    fn segment(
        &self,
        trainer: &mut Trainer<'_>,
        end: u64,
        carriers: &Carriers,
        cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Result<Segment, String>, ReplayError> {
        loop {
            if cancelled() {
                return Err(ReplayError::Cancelled);
            }
            match trainer.step(carriers) {
                Ok(done) if done.step < end => {}
                Ok(done) => {
                    return Ok(done.segment.ok_or_else(|| format!("no segment ends with step {end}")))
                }
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
    }
}

fn finding(check: &'static str, path: &str, expected: String, got: String) -> Finding {
    Finding { check, ..damaged(path, expected, got) }
}

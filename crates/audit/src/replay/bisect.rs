//! Two recorded runs: where their ledgers part, where their trainings do, and which of them is what its plan computes.

use std::collections::BTreeSet;

use bitproof_core_ledger::objects::ObjectId;
use bitproof_core_ledger::Store;
use bitproof_scheduler::ledger::Outcome;
use bitproof_scheduler::{InputSource, TaskSpec};
use bitproof_training::step_roots::{is_training, StepRoot};
use bitproof_training::steps::SegmentPart;

use super::side_by_side::{self, Cause};
use super::subject::Subject;
use super::task::Replayer;
use super::training::{Reexecuted, SegmentDifference};
use super::{ReplayError, ReplayRequest};
use crate::verify;

/// What two runs are to each other.
#[derive(Debug, Clone)]
pub struct BisectReport {
    /// Their names.
    pub runs: [String; 2],
    /// The first task, in commit order, at which their ledgers part; `None` for one and the same ledger.
    pub parting: Option<Parting>,
    /// The first training that is not the same in both, or the one that was asked for.
    pub training: Option<TrainingParting>,
}

/// The first task at which two ledgers part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// The task.
    pub task: String,
    /// What decides its result and differs. Empty when it is the same action with another result: then one of the two records is not what
    /// its plan computes, or the code is not deterministic.
    pub factors: Vec<Factor>,
    /// The outputs that differ.
    pub outputs: Vec<String>,
}

/// Something that decides a task's result and differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Factor {
    /// `task` (only one run has it), `code`, `seed`, `kernels`, `params` or `inputs`.
    pub kind: &'static str,
    /// Which parameter or input; else empty.
    pub name: String,
    /// What the first run has.
    pub first: Option<String>,
    /// What the second run has.
    pub second: Option<String>,
}

/// Where two trainings part.
#[derive(Debug, Clone)]
pub struct TrainingParting {
    /// The task.
    pub task: String,
    /// The step tree of each.
    pub trees: [StepRoot; 2],
    /// How many roots of subtrees were compared.
    pub comparisons: u32,
    /// The first segment that is not the same; `None` for one and the same tree.
    pub segment: Option<SegmentParting>,
    /// Why the segment was not executed again.
    pub not_executed: Option<String>,
    /// That segment of each, executed again from the checkpoint before it.
    pub reexecuted: Option<[Reexecuted; 2]>,
    /// Where two honest runs part; `None` also when one of them is not what its plan computes.
    pub cause: Option<Cause>,
}

/// A segment in which two trainings differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentParting {
    /// Which segment, from 0.
    pub segment: u64,
    /// Its first step.
    pub first_step: u64,
    /// Its last step; of the first run, or of the one that has it.
    pub last_step: u64,
    /// The first part that differs; `None` where they end with other steps, or only one run has it.
    pub part: Option<SegmentPart>,
}

impl BisectReport {
    /// Whether their ledgers are the same.
    pub fn identical(&self) -> bool {
        self.parting.is_none()
    }

    /// The run whose record is not what its plan computes, with the segment in which that shows; the first of the two.
    pub fn false_record(&self) -> Option<(&str, &SegmentDifference)> {
        let reexecuted = self.training.as_ref()?.reexecuted.as_ref()?;
        let found = self.runs.iter().zip(reexecuted);
        found.filter_map(|(run, made)| Some((run.as_str(), made.difference.as_ref()?))).next()
    }
}

/// Compares two runs of the store, or that manifests tell, from the ledger down to the operation.
///
/// The step trees of a training are compared in `O(log n)`; the first segment that differs is executed again in both runs. A run that does not
/// give its own leaf has a false record. Where both do, they are stepped side by side.
///
/// # Errors
/// [`ReplayError`]; in particular when the evidence of either does not verify.
#[tracing::instrument(level = "info", skip_all)]
pub fn bisect(
    store: Option<&Store>,
    first: &ReplayRequest,
    second: &ReplayRequest,
) -> Result<BisectReport, ReplayError> {
    let subjects = [Subject::open(store, first)?, Subject::open(store, second)?];
    let [a, b] = &subjects;
    let mut report =
        BisectReport { runs: [a.name.clone(), b.name.clone()], parting: first_parting(a, b), training: None };
    let sequences = match (&first.stage, &report.parting) {
        (Some(_), _) => Some([a.training(first)?, b.training(second)?]),
        (None, None) => None,
        (None, Some(_)) => first_training(a, b),
    };
    if let Some(sequences) = sequences {
        let replayers = [Replayer::new(store, a, first), Replayer::new(store, b, second)];
        report.training = Some(descend(&replayers, sequences)?);
    }
    Ok(report)
}

/// The first training that both runs have and that is not the same in both.
fn first_training(a: &Subject, b: &Subject) -> Option<[usize; 2]> {
    (0..a.entries.len()).find_map(|first| {
        let entry = &a.entries[first];
        let second = b.entries.iter().position(|other| other.task == entry.task)?;
        let other = &b.entries[second];
        let train =
            is_training(a.plan.task(first).spec, entry) && is_training(b.plan.task(second).spec, other);
        (train && (entry.action != other.action || entry.outcome != other.outcome)).then_some([first, second])
    })
}

fn first_parting(a: &Subject, b: &Subject) -> Option<Parting> {
    for (sequence, entry) in a.entries.iter().enumerate() {
        let task = entry.task.to_string();
        let Some(second) = b.entries.iter().position(|other| other.task == entry.task) else {
            return Some(only_one(task, true));
        };
        let other = &b.entries[second];
        if (entry.action, &entry.outcome) == (other.action, &other.outcome) {
            continue;
        }
        let factors = factors(a, sequence, b, second);
        let outputs = |outcome: &Outcome| match outcome {
            Outcome::Done { outputs } => outputs.clone(),
            _ => Vec::new(),
        };
        let (ours, theirs) = (outputs(&entry.outcome), outputs(&other.outcome));
        let names: BTreeSet<&String> = ours.iter().chain(&theirs).map(|(name, _)| name).collect();
        let content = |list: &[(String, ObjectId)], name: &String| {
            list.iter().find(|(n, _)| n == name).map(|(_, id)| *id)
        };
        let differ = names.into_iter().filter(|name| content(&ours, name) != content(&theirs, name));
        let outputs = differ.cloned().collect();
        return Some(Parting { task, factors, outputs });
    }
    let more = b.entries.iter().find(|other| a.entries.iter().all(|entry| entry.task != other.task));
    more.map(|other| only_one(other.task.to_string(), false))
}

fn only_one(task: String, first: bool) -> Parting {
    let there = |is: bool| is.then(|| "recorded".to_owned());
    let factor = Factor { kind: "task", name: String::new(), first: there(first), second: there(!first) };
    Parting { task, factors: vec![factor], outputs: Vec::new() }
}

/// What decides the result of a task and is not the same in both runs.
fn factors(a: &Subject, first: usize, b: &Subject, second: usize) -> Vec<Factor> {
    let (ours, theirs) = (a.plan.task(first).spec, b.plan.task(second).spec);
    let (here, there) = (a.plan.spec(), b.plan.spec());
    let mut factors = Vec::new();
    let mut note = |kind: &'static str, name: &str, first: Option<String>, second: Option<String>| {
        if first != second {
            factors.push(Factor { kind, name: name.to_owned(), first, second });
        }
    };
    note("seed", "", Some(here.seed.to_string()), Some(there.seed.to_string()));
    if ours.code.native().is_some() {
        note("kernels", "", Some(here.numerics.to_string()), Some(there.numerics.to_string()));
    }
    if ours.code != theirs.code {
        // Commands may differ in what their text does not show.
        let (first, second) = (ours.code.to_string(), theirs.code.to_string());
        let second =
            if first == second { format!("{second}, with other files, tools or variables") } else { second };
        note("code", "", Some(first), Some(second));
    }
    let names: BTreeSet<&String> = ours.params.keys().chain(theirs.params.keys()).collect();
    for name in names {
        let shown = |spec: &TaskSpec| spec.params.get(name).map(ToString::to_string);
        note("params", name, shown(ours), shown(theirs));
    }
    let [ours, theirs] = [(a, ours), (b, theirs)].map(|(subject, spec)| inputs(subject, spec));
    for place in 0..ours.len().max(theirs.len()) {
        let (first, second) = (ours.get(place), theirs.get(place));
        let name = first.or(second).map_or("", |(name, _)| name);
        note("inputs", name, first.map(|(_, id)| id.clone()), second.map(|(_, id)| id.clone()));
    }
    factors
}

/// The inputs of a task: their names in the plan, and their contents.
fn inputs(subject: &Subject, spec: &TaskSpec) -> Vec<(String, String)> {
    let contents = verify::recorded_inputs(&subject.plan, &subject.entries, &spec.inputs);
    let named = |(source, content): (&InputSource, ObjectId)| {
        let name = match source {
            InputSource::Data(name) => format!("data:{name}"),
            InputSource::Output { task, output } => format!("{task}:{output}"),
        };
        (name, content.to_string())
    };
    spec.inputs.iter().zip(contents.unwrap_or_default()).map(named).collect()
}

/// Compares two trainings, from their step trees down.
fn descend(replayers: &[Replayer<'_>; 2], sequences: [usize; 2]) -> Result<TrainingParting, ReplayError> {
    let [first, second] = replayers;
    let trees = [first.step_tree(sequences[0])?, second.step_tree(sequences[1])?];
    let (found, comparisons) = trees[0].first_difference(&trees[1]);
    let mut report = TrainingParting {
        task: first.subject.entries[sequences[0]].task.to_string(),
        trees: [StepRoot::of(&trees[0]), StepRoot::of(&trees[1])],
        comparisons,
        segment: None,
        not_executed: None,
        reexecuted: None,
        cause: None,
    };
    let Some(index) = found else { return Ok(report) };
    let leaves = [trees[0].segments().get(index), trees[1].segments().get(index)];
    let same_end = matches!(leaves, [Some(a), Some(b)] if a.end == b.end);
    let tree = if leaves[0].is_some() { &trees[0] } else { &trees[1] };
    report.segment = Some(SegmentParting {
        segment: index as u64,
        first_step: tree.first_step(index),
        last_step: tree.segments()[index].end,
        part: match leaves {
            [Some(a), Some(b)] if same_end => a.first_difference(b),
            _ => None,
        },
    });
    if !same_end {
        let end = |leaf: Option<&bitproof_training::steps::Segment>| {
            leaf.map_or("it has none".to_owned(), |leaf| format!("it ends with step {}", leaf.end))
        };
        let why = "the segment is not of the same steps in both";
        report.not_executed =
            Some(format!("{why}: in the first {}, in the second {}", end(leaves[0]), end(leaves[1])));
        return Ok(report);
    }
    let opened = first.training(sequences[0]).and_then(|one| Ok([one, second.training(sequences[1])?]));
    let trainings = match opened {
        Ok(trainings) => trainings,
        // That they part is known without.
        Err(
            error @ (ReplayError::Numerics { .. }
            | ReplayError::OtherCode { .. }
            | ReplayError::MissingData { .. }
            | ReplayError::MissingOutput { .. }
            | ReplayError::NotJudged { .. }),
        ) => {
            report.not_executed = Some(error.to_string());
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let mut reexecuted = Vec::new();
    for (training, replayer) in trainings.iter().zip(replayers) {
        let stretch = training.stretches([index])[0];
        let request = replayer.request;
        let made = match training.other_end() {
            // Steps past such an end are not those of the plan.
            Some(difference) if difference.segment <= index as u64 => {
                Reexecuted { stretch, steps: 0, segments: 0, difference: Some(difference) }
            }
            _ => {
                let carriers = training.carriers(request.threads);
                training.execute(stretch, &carriers, &|| request.cancel.is_cancelled())?
            }
        };
        reexecuted.push(made);
    }
    let reproduced = reexecuted.iter().all(|made| made.difference.is_none());
    report.reexecuted = reexecuted.try_into().ok();
    if reproduced {
        report.cause = side_by_side::first_cause([&trainings[0], &trainings[1]], index, first.request)?;
    }
    Ok(report)
}

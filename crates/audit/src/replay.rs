//! Replay: every task of a run is executed again, and its outputs are held against the recorded ones.
//!
//! No cache is read, and nothing is written but in a folder of the replay's own. Each task gets the *recorded* inputs, so that each
//! is judged alone and a divergence does not make the tasks after it diverge too. Where a manifest is all there is, the recorded
//! outputs are not: a task then gets what the replay made, if it is what was recorded.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use bitproof_core_ledger::chain::ChainHead;
use bitproof_core_ledger::files::FileError;
use bitproof_core_ledger::folder::FolderError;
use bitproof_core_ledger::objects::{ObjectError, ObjectId};
use bitproof_core_ledger::Store;
use bitproof_scheduler::board::Misfit;
use bitproof_scheduler::command::{reach, Reached};
use bitproof_scheduler::ledger::{ledger_root, Entry};
use bitproof_scheduler::{Cancel, Code};
use bitproof_training::checkpoint::CheckpointError;
use bitproof_training::data::DataFiles;
use bitproof_training::manifest::ManifestError;
use bitproof_training::run_folder::RunError;
use bitproof_training::stages;
use bitproof_training::steps::StepsError;

use crate::divergence::{Divergence, Within};
use crate::report::Finding;
use crate::verify::VerifyError;

mod bisect;
mod side_by_side;
mod steps;
mod subject;
mod task;
mod training;

pub use bisect::{bisect, BisectReport, Factor, Parting, SegmentParting, TrainingParting};
pub use side_by_side::{Cause, OtherValue};
pub use steps::{replay_steps, Sample, StepsReport, StepsWanted};
pub use training::{stretches, Reexecuted, SegmentDifference, SegmentFault, Stretch};

use subject::Subject;
use task::Replayer;

/// What is to be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayOf {
    /// A run of the store, by any of its names.
    Run(String),
    /// The run that this manifest tells.
    Manifest(PathBuf),
}

/// What is to be replayed, and on what.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// The run.
    pub of: ReplayOf,
    /// The stage, or the task of a matrix, that is wanted; `None` for all.
    pub stage: Option<String>,
    /// How many tasks are executed at once.
    pub workers: NonZeroUsize,
    /// How many threads a built-in stage has.
    pub threads: usize,
    /// Data inputs that the store does not keep, by content.
    pub data: DataFiles,
    /// Where tools lie; one that is not named is looked for where the run's evidence says.
    pub tools: BTreeMap<String, PathBuf>,
    /// Where the code of a manifest's commands may lie, if not in the store.
    pub project: PathBuf,
    /// An empty folder of the replay's own.
    pub scratch: PathBuf,
    /// Stops it.
    pub cancel: Cancel,
}

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplayOutcome {
    /// Every output is the same bytes.
    Identical,
    /// Some numbers are other ones, within the tolerance of their stage.
    WithinTolerance,
    /// An output differs.
    Diverged,
}

impl ReplayOutcome {
    /// `identical`, `within_tolerance` or `diverged`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::WithinTolerance => "within_tolerance",
            Self::Diverged => "diverged",
        }
    }
}

/// An output whose numbers are other ones, within the tolerance of its stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Tolerated {
    /// The task.
    pub task: String,
    /// The output.
    pub output: String,
    /// By how much they differ.
    pub within: Within,
}

/// A finished replay.
#[derive(Debug, Clone)]
pub struct ReplayReport {
    /// The run's name; the pipeline's, of a manifest.
    pub run: String,
    /// How it ended.
    pub outcome: ReplayOutcome,
    /// How many tasks were executed.
    pub tasks: usize,
    /// Tasks that were not executed: what they recorded was taken.
    pub recorded: Vec<String>,
    /// Tasks that were not judged, since an input of theirs is not there.
    pub not_judged: Vec<String>,
    /// The ledger's head as recorded.
    pub ledger_root_recorded: ChainHead,
    /// The head of the ledger that the replay gives.
    pub ledger_root_replayed: ChainHead,
    /// Every output within its tolerance, in commit order.
    pub tolerated: Vec<Tolerated>,
    /// Every task that diverged, in commit order.
    pub divergences: Vec<Divergence>,
}

/// A run that could not be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The run could not be found or read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Verification could not be done.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The manifest cannot be read.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// The recorded evidence is damaged, so there is nothing to hold a replay against.
    #[error("the evidence is damaged: {}", findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("; "))]
    Damaged {
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// The run was computed by another numeric specification.
    #[error("run {run} was computed by version {recorded} of the kernels' specification; this program has version {here}")]
    Numerics {
        /// Its name.
        run: String,
        /// The version in the plan.
        recorded: u32,
        /// This program's version.
        here: u32,
    },
    /// What was recorded cannot be an execution of the plan.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Tasks could not be executed, so there is no answer.
    #[error("there is no answer: {} could not be executed again, since what they take is not here\n  hint: replay without --stage, or supply data with --data NAME=PATH", tasks.join(", "))]
    NotJudged {
        /// The tasks.
        tasks: Vec<String>,
    },
    /// No task was executed.
    #[error(
        "there is no answer: no task of run {run} was executed again; all are skipped, recorded only, or were never begun"
    )]
    Nothing {
        /// Its name.
        run: String,
    },
    /// A stranger's command would run with all that the user may do.
    #[error("task {task} of the manifest demands no isolation that is to be had here: its command would run as you\n  hint: replay the run by its name in its own store, or where the kernel has Landlock")]
    Unisolated {
        /// The task.
        task: String,
    },
    /// The run has no such stage.
    #[error("run {run} has no stage {stage:?}\n  hint: it has {known}")]
    NoStage {
        /// Its name.
        run: String,
        /// The stage.
        stage: String,
        /// The stages that it has.
        known: String,
    },
    /// A data input is not in the store and was not supplied.
    #[error("the data input {name} ({digest}) is not kept in the store: supply it with --data {name}=PATH")]
    MissingData {
        /// Its name.
        name: String,
        /// Its content.
        digest: ObjectId,
    },
    /// A command's code is nowhere.
    #[error("task {task} cannot be executed: its code {path} ({digest}) is neither in the store nor in the project\n  hint: run it in a checkout that has the file")]
    MissingCode {
        /// The task.
        task: String,
        /// The path of the code.
        path: String,
        /// Its content.
        digest: ObjectId,
    },
    /// The task that is asked for is not one training.
    #[error("run {run} has {trainings} trainings{}\n  hint: name one of its tasks with --stage: {known}", among(stage.as_deref()))]
    Trainings {
        /// Its name.
        run: String,
        /// The stage that was asked for.
        stage: Option<String>,
        /// How many trainings there are.
        trainings: usize,
        /// Their tasks.
        known: String,
    },
    /// The task did not come to its end, or with another version that kept no segments.
    #[error("task {task} of run {run} recorded no segments: there is nothing to hold its steps against")]
    NoSegments {
        /// The run.
        run: String,
        /// The task.
        task: String,
    },
    /// There are no such steps.
    #[error("steps {first}..{last} are not steps of task {task}, which has the steps 1..{steps}")]
    StepRange {
        /// The task.
        task: String,
        /// The first that was asked for.
        first: u64,
        /// The last.
        last: u64,
        /// How many there are.
        steps: u64,
    },
    /// There are fewer segments than are to be drawn.
    #[error("{wanted} segments cannot be drawn: task {task} has {segments}")]
    SampleSize {
        /// The task.
        task: String,
        /// How many were asked for.
        wanted: u64,
        /// How many there are.
        segments: u64,
    },
    /// The code of the training is not the one that this program has.
    #[error("task {task} was computed by {recorded}; this program has {here}")]
    OtherCode {
        /// The task.
        task: String,
        /// What was recorded.
        recorded: String,
        /// What this program has.
        here: String,
    },
    /// A recorded output is not in the store and was not supplied.
    #[error(
        "the output {output} of task {task} ({digest}) is not here: supply it with --data {output}=PATH"
    )]
    MissingOutput {
        /// The task.
        task: String,
        /// The output.
        output: &'static str,
        /// Its content.
        digest: ObjectId,
    },
    /// The recorded segments cannot be read.
    #[error("the output steps of task {task}: {source}")]
    Steps {
        /// The task.
        task: String,
        /// What is wrong.
        source: StepsError,
    },
    /// The recorded checkpoints cannot be read.
    #[error("the output checkpoints of task {task}: {source}")]
    Checkpoint {
        /// The task.
        task: String,
        /// What is wrong.
        source: CheckpointError,
    },
    /// A folder could not be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Somebody asked to stop.
    #[error("the replay was stopped before its end")]
    Cancelled,
    /// An object could not be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A task met a failure that is not its own.
    #[error("task {task}: {message}")]
    Infrastructure {
        /// The task.
        task: String,
        /// Why.
        message: String,
    },
}

fn among(stage: Option<&str>) -> String {
    stage.map_or(String::new(), |stage| format!(" in stage {stage:?}"))
}

/// Replays a sealed run of `store`, or what a manifest tells; that needs no store.
///
/// # Errors
/// [`ReplayError`]; in particular when the evidence does not verify, which is not a divergence.
#[tracing::instrument(level = "info", skip_all)]
pub fn replay(store: Option<&Store>, request: &ReplayRequest) -> Result<ReplayReport, ReplayError> {
    let subject = Subject::open(store, request)?;
    let wanted = subject.wanted(request)?;
    refuse(&subject, request, &wanted)?;
    let replayer = Replayer::new(store, &subject, request);
    replayer.check_data(&wanted)?;
    let judged = replayer.all(&wanted)?;
    let mut entries = subject.entries.clone();
    let root = ledger_root(&subject.plan, &entries);
    let mut report = ReplayReport {
        run: subject.name.clone(),
        outcome: ReplayOutcome::Identical,
        tasks: 0,
        recorded: Vec::new(),
        not_judged: Vec::new(),
        ledger_root_recorded: root,
        ledger_root_replayed: root,
        tolerated: Vec::new(),
        divergences: Vec::new(),
    };
    for (sequence, judged) in judged {
        let task = entries[sequence].task.to_string();
        match judged {
            Judged::Recorded => report.recorded.push(task),
            Judged::Skipped => {}
            Judged::Passed => report.not_judged.push(task),
            Judged::Executed(replayed) => {
                let Replayed { entry, tolerated, divergence } = *replayed;
                report.tasks += 1;
                entries[sequence] = entry;
                report.tolerated.extend(tolerated);
                report.divergences.extend(divergence);
            }
        }
    }
    if report.divergences.is_empty() && !report.not_judged.is_empty() {
        return Err(ReplayError::NotJudged { tasks: report.not_judged });
    }
    if report.tasks == 0 {
        return Err(ReplayError::Nothing { run: report.run });
    }
    report.ledger_root_replayed = ledger_root(&subject.plan, &entries);
    report.outcome = match (report.divergences.is_empty(), report.tolerated.is_empty()) {
        (true, true) => ReplayOutcome::Identical,
        (true, false) => ReplayOutcome::WithinTolerance,
        (false, _) => ReplayOutcome::Diverged,
    };
    Ok(report)
}

/// Refuses what this program computes otherwise, and a stranger's commands that nothing would hold.
fn refuse(subject: &Subject, request: &ReplayRequest, wanted: &[usize]) -> Result<(), ReplayError> {
    let (recorded, here) = (subject.plan.spec().numerics, stages::NUMERICS);
    let computes = |sequence: &usize| matches!(subject.plan.task(*sequence).spec.code, Code::Native(_));
    if recorded != here && wanted.iter().any(computes) {
        return Err(ReplayError::Numerics { run: subject.name.clone(), recorded, here });
    }
    if let ReplayOf::Manifest(_) = request.of {
        let open = |sequence: &&usize| {
            let command = subject.plan.task(**sequence).spec.code.command();
            command.is_some_and(|command| matches!(reach(command.isolation), Ok(Reached::None)))
        };
        if let Some(&sequence) = wanted.iter().find(open) {
            return Err(ReplayError::Unisolated { task: subject.entries[sequence].task.to_string() });
        }
    }
    Ok(())
}

/// What became of a task.
enum Judged {
    /// It is not to be executed.
    Recorded,
    /// It was not executed then, since another failed.
    Skipped,
    /// It could not be: an input diverged, and the recorded one is not there.
    Passed,
    Executed(Box<Replayed>),
}

struct Replayed {
    entry: Entry,
    tolerated: Vec<Tolerated>,
    divergence: Option<Divergence>,
}

//! Replay: every task of a run is executed again, and its outputs are held against the recorded ones.
//!
//! No cache is read and nothing is written. Each task gets the *recorded* inputs, so that each is judged alone and a
//! divergence does not make the tasks after it diverge too.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use bitproof_core_ledger::chain::ChainHead;
use bitproof_core_ledger::objects::{ObjectError, ObjectId};
use bitproof_core_ledger::Store;
use bitproof_scheduler::command::ReplayMode;
use bitproof_scheduler::dispatch::TaskError;
use bitproof_scheduler::ledger::{ledger_root, Entry, Failure, LedgerView, Outcome};
use bitproof_scheduler::{action_digest, PlannedTask};
use bitproof_training::data::DataFiles;
use bitproof_training::run_folder::{RunError, RunFolder};
use bitproof_training::stages;
use bitproof_training::workflow::execute_task;

use crate::anchors::Anchors;
use crate::divergence::{compare, Comparison, Difference, Divergence};
use crate::report::{Finding, Scope};
use crate::verify::{self, VerifyError};

/// What is to be replayed, and on what.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// The run.
    pub run: String,
    /// How many tasks are executed at once.
    pub workers: NonZeroUsize,
    /// How many threads a task has.
    pub threads: usize,
    /// Data inputs that the store does not keep, by content.
    pub data: DataFiles,
}

/// How a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// Every output is the same bytes.
    Identical,
    /// An output differs.
    Diverged,
}

impl ReplayOutcome {
    /// `identical` or `diverged`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Diverged => "diverged",
        }
    }
}

/// A finished replay.
#[derive(Debug, Clone)]
pub struct ReplayReport {
    /// The run's name.
    pub run: String,
    /// How it ended.
    pub outcome: ReplayOutcome,
    /// How many tasks were executed.
    pub tasks: usize,
    /// The ledger's head as recorded.
    pub ledger_root_recorded: ChainHead,
    /// The head of the ledger that the replay gives.
    pub ledger_root_replayed: ChainHead,
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
    /// A data input is not in the store and was not supplied.
    #[error("the data input {name} ({digest}) is not kept in the store: supply it with --data {name}=PATH")]
    MissingData {
        /// Its name.
        name: String,
        /// Its content.
        digest: ObjectId,
    },
    /// An object could not be read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A task met a failure that is not its own.
    #[error("task {task}: {message}")]
    Infrastructure {
        /// The task.
        task: String,
        /// Why.
        message: String,
    },
}

/// Replays a sealed run.
///
/// # Errors
/// [`ReplayError`]; in particular when the evidence does not verify, which is not a divergence.
#[tracing::instrument(level = "info", skip_all, fields(run = request.run))]
pub fn replay(store: &Store, request: &ReplayRequest) -> Result<ReplayReport, ReplayError> {
    let report = verify::verify(store, &Scope::Run(request.run.clone()), &Anchors::default())?;
    if !report.ok() {
        return Err(ReplayError::Damaged { findings: report.findings });
    }
    let folder = RunFolder::open(store, &report.runs[0])?;
    let (recorded, here) = (folder.plan.spec().numerics, stages::NUMERICS);
    if recorded != here {
        return Err(ReplayError::Numerics { run: folder.name, recorded, here });
    }
    let ledger = folder.ledger()?;
    let replayer = Replayer { store, folder: &folder, ledger: &ledger, request };
    replayer.check_data()?;
    let replayed = replayer.execute_all()?;
    let entries: Vec<Entry> = replayed.iter().map(|r| r.entry.clone()).collect();
    let divergences: Vec<Divergence> = replayed.into_iter().filter_map(|r| r.divergence).collect();
    let replayed_root = ledger_root(&folder.plan, &entries);
    let identical = divergences.is_empty() && replayed_root == ledger.root;
    Ok(ReplayReport {
        run: folder.name.clone(),
        outcome: if identical { ReplayOutcome::Identical } else { ReplayOutcome::Diverged },
        tasks: entries.len(),
        ledger_root_recorded: ledger.root,
        ledger_root_replayed: replayed_root,
        divergences,
    })
}

struct Replayed {
    entry: Entry,
    divergence: Option<Divergence>,
}

struct Replayer<'a> {
    store: &'a Store,
    folder: &'a RunFolder,
    ledger: &'a LedgerView,
    request: &'a ReplayRequest,
}

impl Replayer<'_> {
    fn check_data(&self) -> Result<(), ReplayError> {
        let objects = self.store.objects();
        let missing = |id: &ObjectId| !objects.contains(id) && !self.request.data.contains(id);
        match self.folder.plan.spec().data.iter().find(|d| missing(&d.digest)) {
            Some(data) => Err(ReplayError::MissingData { name: data.name.clone(), digest: data.digest }),
            None => Ok(()),
        }
    }

    /// Tasks are taken in commit order; with recorded inputs none waits for another.
    fn execute_all(&self) -> Result<Vec<Replayed>, ReplayError> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(BTreeMap::new());
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        let work = || loop {
            let sequence = next.fetch_add(1, Ordering::Relaxed);
            if sequence >= self.ledger.entries.len() {
                break;
            }
            let result = self.execute(sequence);
            results.lock().expect("no thread panics while it holds the results").insert(sequence, result);
        };
        std::thread::scope(|scope| {
            for _ in 0..self.request.workers.get().min(self.ledger.entries.len()) {
                scope.spawn(|| tracing::dispatcher::with_default(&subscriber, work));
            }
        });
        results.into_inner().expect("no thread panicked").into_values().collect()
    }

    fn execute(&self, sequence: usize) -> Result<Replayed, ReplayError> {
        let task = self.folder.plan.task(sequence);
        let recorded = &self.ledger.entries[sequence];
        if let Outcome::Skipped { .. } = recorded.outcome {
            return Ok(Replayed { entry: recorded.clone(), divergence: None });
        }
        let diverged = |output: Option<&str>, difference| Divergence {
            sequence,
            task: recorded.task.to_string(),
            output: output.map(str::to_owned),
            difference,
        };
        if let Some(difference) = other_code(task) {
            let outcome = Outcome::Failed { how: Failure::Refused };
            let entry = Entry { outcome, ..recorded.clone() };
            return Ok(Replayed { entry, divergence: Some(diverged(None, difference)) });
        }
        let ids = self.inputs(task);
        let spec = self.folder.plan.spec();
        let action = Some(action_digest(task.spec, &ids, spec.seed, spec.numerics));
        let inputs = ids.iter().map(|id| self.content(id)).collect::<Result<Vec<_>, _>>()?;
        tracing::info!(task = %task.spec.id, "replaying");
        let made = match execute_task(task, spec.seed, self.request.threads, &inputs) {
            Ok(made) => Ok(made),
            Err(TaskError::Failed { how, message }) => Err((how, message)),
            Err(other) => {
                let (task, message) = (task.spec.id.to_string(), other.to_string());
                return Err(ReplayError::Infrastructure { task, message });
            }
        };
        let outcome = match &made {
            Ok(made) => Outcome::Done {
                outputs: made.iter().map(|(n, b)| (n.clone(), ObjectId::of_bytes(b))).collect(),
            },
            Err((how, _)) => Outcome::Failed { how: *how },
        };
        let divergence = match (&recorded.outcome, &made) {
            _ if outcome == recorded.outcome => None,
            (Outcome::Done { outputs }, Ok(made)) => {
                let other = |(name, id): &&(String, ObjectId)| {
                    made.get(name).is_some_and(|b| ObjectId::of_bytes(b) != *id)
                };
                let bytes = match outputs.iter().find(other) {
                    Some((name, id)) => {
                        match compare(&self.store.objects().get(id)?, &made[name], &ReplayMode::Bits) {
                            Comparison::Diverged(difference) => Some(diverged(Some(name), difference)),
                            Comparison::Identical | Comparison::Within(_) => None,
                        }
                    }
                    None => None,
                };
                Some(bytes.unwrap_or_else(|| {
                    let names = |list: Vec<&str>| format!("outputs [{}]", list.join(", "));
                    let recorded = names(outputs.iter().map(|(name, _)| name.as_str()).collect());
                    let replayed = names(made.keys().map(String::as_str).collect());
                    diverged(None, Difference::Outcome { recorded, replayed })
                }))
            }
            (_, made) => {
                let word = |done: bool| if done { "done" } else { "failed" }.to_owned();
                let recorded = word(matches!(recorded.outcome, Outcome::Done { .. }));
                let replayed = match made {
                    Ok(_) => word(true),
                    Err((_, message)) => format!("failed: {message}"),
                };
                Some(diverged(None, Difference::Outcome { recorded, replayed }))
            }
        };
        Ok(Replayed { entry: Entry { action, outcome, ..recorded.clone() }, divergence })
    }

    fn inputs(&self, task: PlannedTask<'_>) -> Vec<ObjectId> {
        verify::recorded_inputs(&self.folder.plan, &self.ledger.entries, task.spec.inputs.as_slice())
            .expect("verification found every input of every executed task")
    }

    fn content(&self, id: &ObjectId) -> Result<Vec<u8>, ReplayError> {
        Ok(self.request.data.content(id, &self.store.objects())?)
    }
}

/// How the task's code differs from what this program has under its name.
fn other_code(task: PlannedTask<'_>) -> Option<Difference> {
    let native = task.spec.code.native()?;
    let recorded = native.to_string();
    let replayed = match stages::NATIVE.iter().find(|(kind, _)| *kind == native.kind) {
        Some((kind, version)) => format!("{kind} v{version}"),
        None => "none".to_owned(),
    };
    (recorded != replayed).then_some(Difference::Code { recorded, replayed })
}

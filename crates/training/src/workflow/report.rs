//! What a run says of itself when it is done.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bitproof_core_ledger::chain::ChainHead;
use bitproof_core_ledger::digest::{Digest, ResultKind};
use bitproof_core_ledger::note::TreeHead;
use bitproof_experiment_graph::{GateOutcome, MetricSet};
use bitproof_scheduler::dispatch::{End, Execution};
use bitproof_scheduler::ledger::{ledger_root, result_root, Outcome};
use bitproof_scheduler::PlanDigest;
use bitproof_telemetry::{BudgetOutcome, Record};

use super::Judgements;
use crate::governance::{self, Governance};
use crate::judge::{JudgedBudget, JudgedGate};
use crate::observed::ObservedTask;
use crate::run_folder::RunFolder;
use crate::step_roots::StepRoots;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// Every task ended well, and no gate, budget or control failed.
    Passed,
    /// A task, a gate, a budget or a control failed.
    Failed,
    /// It stopped before its end, and can be taken up again.
    Incomplete,
}

impl RunStatus {
    /// `passed`, `failed` or `incomplete`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// How a task came to its end in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskState {
    /// It was executed.
    Executed,
    /// Its result was taken from the run of that name.
    Cached(String),
    /// It failed by itself, with this message where it is known.
    Failed(Option<String>),
    /// That task failed before it.
    Skipped(String),
}

/// A task in the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReport {
    /// Its name.
    pub task: String,
    /// The name of its lane.
    pub lane: String,
    /// Its planned start.
    pub tick: u64,
    /// How it ended.
    pub state: TaskState,
    /// How long it took, in the run that executed it.
    pub wall_ns: Option<i64>,
    /// By how much the process grew, in the run that executed it.
    pub memory_delta_bytes: Option<i64>,
}

/// A run, as far as it came.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// Its name.
    pub run: String,
    /// Its unique id.
    pub uid: String,
    /// How it ended.
    pub status: RunStatus,
    /// Why its execution ended.
    pub end: End,
    /// The head of its ledger.
    pub ledger_root: ChainHead,
    /// The digest of its outcome.
    pub result_root: Digest<ResultKind>,
    /// Its plan.
    pub plan_digest: PlanDigest,
    /// Its tasks in commit order; those that were never committed are absent.
    pub tasks: Vec<TaskReport>,
    /// The last value of each metric.
    pub metrics: BTreeMap<String, f64>,
    /// The step tree of each training that was done, by task; none where the run is incomplete.
    pub step_roots: StepRoots,
    /// Its gates.
    pub gates: Vec<JudgedGate>,
    /// Its budgets.
    pub budgets: Vec<JudgedBudget>,
    /// The names of the lanes of its plan.
    pub lanes: Vec<String>,
    /// What its controls said, in the order of the plan.
    pub controls: Vec<governance::Entry>,
    /// The head of the governance ledger; `None` where the plan demands no control, or the run is incomplete.
    pub governance_root: Option<ChainHead>,
    /// The signed tree head that covers it.
    pub head: Option<TreeHead>,
    /// How many tasks an interrupted process had committed.
    pub resumed_at: Option<usize>,
    /// Key files that were made for it.
    pub new_keys: Vec<PathBuf>,
    /// Whether the store was made for it.
    pub new_store: bool,
    /// The store.
    pub store: PathBuf,
    /// The run's folder.
    pub folder: PathBuf,
    /// How long it took.
    pub wall_ns: u64,
    /// By how much the process grew.
    pub memory_delta_bytes: Option<i64>,
    /// The most memory that the process had.
    pub peak_rss_bytes: Option<u64>,
}

impl RunReport {
    #[expect(clippy::too_many_arguments, reason = "each is a part of what a run ended with")]
    pub(super) fn new(
        folder: &RunFolder,
        execution: &Execution,
        metrics: &MetricSet,
        step_roots: StepRoots,
        Judgements { gates, budgets }: Judgements,
        governance: &Governance,
        records: &[Record],
        observed: &BTreeMap<String, ObservedTask>,
    ) -> Self {
        // Of what was measured twice the first counts.
        let named = |r: &Record| Some(((r.tags.get("task")?.clone(), r.name.clone()), r.value));
        let measured: BTreeMap<(String, String), i64> = records.iter().rev().filter_map(named).collect();
        let measured = |task: &str, name: &str| measured.get(&(task.to_owned(), name.to_owned())).copied();
        let tasks: Vec<TaskReport> = execution
            .entries
            .iter()
            .map(|entry| {
                let task = entry.task.0.clone();
                let seen = observed.get(&task);
                let state = match &entry.outcome {
                    Outcome::Done { .. } => seen
                        .and_then(|seen| seen.cached_from.clone())
                        .map_or(TaskState::Executed, TaskState::Cached),
                    Outcome::Failed { .. } => TaskState::Failed(seen.and_then(|seen| seen.failure.clone())),
                    Outcome::Skipped { cause } => TaskState::Skipped(cause.to_string()),
                };
                TaskReport {
                    lane: folder.plan.spec().lanes[entry.lane as usize].clone(),
                    tick: entry.tick,
                    state,
                    wall_ns: measured(&task, "stage/wall_ns"),
                    memory_delta_bytes: measured(&task, "stage/memory_delta_bytes"),
                    task,
                }
            })
            .collect();
        let ended_well = tasks.iter().all(|t| matches!(t.state, TaskState::Executed | TaskState::Cached(_)));
        let judged_well = gates.iter().all(|g| g.verdict.outcome != GateOutcome::Fail)
            && budgets
                .iter()
                .all(|b| !matches!(b.verdict.outcome, BudgetOutcome::Fail | BudgetOutcome::Missing));
        Self {
            run: folder.name.clone(),
            uid: folder.uid_hex(),
            status: match (&execution.end, ended_well && judged_well && governance.passed()) {
                (End::Complete, true) => RunStatus::Passed,
                (End::Complete, false) => RunStatus::Failed,
                _ => RunStatus::Incomplete,
            },
            end: execution.end.clone(),
            ledger_root: ledger_root(&folder.plan, &execution.entries),
            result_root: result_root(&execution.entries),
            plan_digest: folder.plan.digest(),
            tasks,
            metrics: metrics.finals(),
            step_roots,
            gates,
            budgets,
            lanes: folder.plan.spec().lanes.clone(),
            controls: governance.entries().to_vec(),
            governance_root: None,
            head: None,
            resumed_at: None,
            new_keys: Vec::new(),
            new_store: false,
            store: PathBuf::new(),
            folder: folder.dir().to_owned(),
            wall_ns: 0,
            memory_delta_bytes: None,
            peak_rss_bytes: None,
        }
    }
}

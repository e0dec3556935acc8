//! One run from the pipeline file to the acknowledged seal.
//!
//! [`prepare`] reads and checks everything and writes nothing. [`run`] then makes or takes up a run, executes what its
//! ledger lacks, seals it, judges it, and returns when a signed tree head covers all of it. The order of what becomes
//! durable is: ledger, inventory, leaves, head.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;

use bitproof_core_ledger::canon;
use bitproof_core_ledger::clock::{rfc3339, Clock};
use bitproof_core_ledger::events::EventBody;
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::inventory::Inventory;
use bitproof_core_ledger::keys::KeyFolder;
use bitproof_core_ledger::objects::{ObjectId, Objects};
use bitproof_core_ledger::signature;
use bitproof_core_ledger::store::StoreLock;
use bitproof_core_ledger::Store;
use bitproof_experiment_graph::MetricSet;
use bitproof_scheduler::cache::Cache;
use bitproof_scheduler::dispatch::{execute, End, Execution};
use bitproof_scheduler::ledger::{ledger_root, result_root, Entry, Ledger, Outcome};
use bitproof_scheduler::{Cancel, Plan, PlanDigest, PlannedTask};
use bitproof_telemetry::{Collector, Record};

mod checkout;
mod checkpoints;
mod error;
mod execute;
mod prepare;
mod report;
mod worker;

pub use checkout::check_out;
pub use error::{FailureKind, WorkflowError};
pub use execute::{Contents, ExecuteError, Executed, Executor, Output};
pub use prepare::{prepare, prepare_pipeline, project_tools, Prepared, RunRequest};
pub use report::{RunReport, RunStatus, TaskReport, TaskState};

use crate::checkpoint;
use crate::evidence::{self, Evidence, Host};
use crate::governance::{signed_artifacts, Control, Ended, Governance, Policy, VerdictSeen, GOVERNANCE};
use crate::judge::{self, JudgedBudget, JudgedBy, JudgedGate};
use crate::manifest::Manifest;
use crate::observed::ObservedTask;
use crate::recorder::Recorder;
use crate::run_folder::{
    pretty, RunFolder, RunIndex, ARTIFACTS, CHECKPOINTS, EVIDENCE, INVENTORY, LEDGER, MANIFEST, OBSERVED,
    RESUME, SIGNATURE_SUFFIX, TELEMETRY,
};
use crate::stages;
use crate::step_roots::{step_roots, StepRoots};
use worker::Worker;

/// What a run needs of its surroundings.
pub struct Surroundings<'a> {
    /// Where evidence and derived files are kept.
    pub files: Files,
    /// The store's folder; made when it does not exist.
    pub store_root: PathBuf,
    /// The user's keys; made when they do not exist.
    pub keys: &'a KeyFolder,
    /// The folder of caches, one for each store; `None` runs without.
    pub cache_root: Option<PathBuf>,
    /// Collects telemetry; its layer is part of the current `tracing` subscriber.
    pub collector: &'a Collector,
    /// Stops a run: what runs is ended, and the run can be taken up again.
    pub cancel: Cancel,
    /// Wall-clock time, as a claim.
    pub clock: &'a dyn Clock,
    /// The user's name, as a claim.
    pub user: String,
    /// The instruction set that the kernels use.
    pub isa: &'static str,
}

/// Runs what was prepared; takes up an interrupted run of the same plan.
///
/// # Errors
/// [`WorkflowError`]. What was committed before stays, and the same call goes on from there.
#[tracing::instrument(level = "info", skip_all, fields(pipeline = prepared.plan.spec().pipeline))]
pub fn run(
    around: &Surroundings<'_>,
    prepared: &Prepared,
    request: &RunRequest,
) -> Result<RunReport, WorkflowError> {
    let began = around.collector.now_ns();
    let rss_before = bitproof_telemetry::rss_bytes();
    let started = rfc3339(around.clock.unix_seconds());
    let host = Host::observe(&around.user, around.isa, prepared.hashed());
    let mut recorder = Recorder::open(
        &around.files,
        &around.store_root,
        around.keys,
        around.clock,
        &around.user,
        &host.host,
    )?;
    let threads = NonZeroUsize::new(request.threads).unwrap_or(NonZeroUsize::MIN);
    recorder.store = recorder.store.hashing_on(threads);
    let objects = recorder.store.objects();
    prepared.keep_data(&objects)?;
    prepared.remember_files();
    let Claimed { folder, resumed, _lock } = claim(&recorder, &prepared.plan, request)?;
    tracing::info!(run = folder.name, resumed, tasks = folder.plan.len(), "run begins");
    recorder.record(&[planned_event(&folder)])?;

    let cache = around
        .cache_root
        .as_ref()
        .map(|root| Cache::new(&around.files, &root.join(recorder.store.id()).join("actions")));
    let worker = Worker::new(
        &recorder.store,
        RunIndex::read(&recorder.store)?,
        &folder,
        prepared,
        request,
        cache,
        around.collector,
        &around.cancel,
        &recorder.artifact_key,
    );
    // Opening the ledger makes these names durable with its own.
    around.files.create_dir_all(&folder.path(TELEMETRY))?;
    around.files.create_dir_all(&folder.path(OBSERVED))?;
    let (mut ledger, committed) = Ledger::open(&around.files, &folder.path(LEDGER), &folder.plan)?;
    worker.adopt_committed(&committed)?;
    let resumed_at = committed.len();
    let ask_git = || request.pipeline_path.parent().and_then(|dir| evidence::git_state(&absolute(dir)));
    // A control before the first stage waits for git; else it may take as long as a cached run does.
    let asked = Policy::of(&folder.plan)?.demands(Control::CleanSource).then(ask_git);
    let mut governance = Governance::before(&folder.plan, asked.as_ref().and_then(Option::as_ref))?;
    let (execution, git) = if governance.refused() {
        let (failures, attempts) = (Vec::new(), BTreeMap::new());
        let execution = Execution { entries: committed, failures, attempts, end: End::Complete };
        (Ok(execution), asked.unwrap_or_else(ask_git))
    } else {
        thread::scope(|scope| {
            let git = scope.spawn(|| asked.unwrap_or_else(ask_git));
            let workers = request.workers;
            let execution = execute(&folder.plan, &worker, &mut ledger, committed, workers, &around.cancel);
            (execution, git.join().expect("asking git does not panic"))
        })
    };
    let execution = execution?;
    let observed = worker.into_observed();
    let metrics = judge::collect_metrics(&objects, &execution.entries)?;
    let finish = |mut report: RunReport| {
        report.resumed_at = resumed.then_some(resumed_at);
        report.new_keys.clone_from(&recorder.new_keys);
        report.new_store = recorder.new_store;
        recorder.store.root().clone_into(&mut report.store);
        report.wall_ns = around.collector.now_ns().saturating_sub(began);
        report.peak_rss_bytes = bitproof_telemetry::peak_rss_bytes();
        report.memory_delta_bytes = rss_before
            .zip(bitproof_telemetry::rss_bytes())
            .map(|(before, after)| after as i64 - before as i64);
        report
    };
    if execution.end != End::Complete {
        tracing::info!(run = folder.name, committed = execution.entries.len(), "run is incomplete");
        let records = folder.telemetry()?;
        return Ok(finish(RunReport::new(
            &folder,
            &execution,
            &metrics,
            StepRoots::new(),
            Judgements::default(),
            &governance,
            &records,
            &observed,
        )));
    }

    let evidence = Evidence {
        schema: evidence::SCHEMA.to_owned(),
        run: folder.name.clone(),
        uid: folder.uid_hex(),
        started,
        sealed: rfc3339(around.clock.unix_seconds()),
        host,
        git,
        workers: request.workers,
        threads: request.threads,
        cached_from: told(&observed, |task| &task.cached_from),
        failures: told(&observed, |task| &task.failure),
        attempts: execution.attempts.iter().map(|(task, n)| (task.to_string(), *n)).collect(),
    };
    let records = folder.telemetry()?;
    let judgements = match governance.refused() {
        true => Judgements::default(),
        false => judge_run(&recorder, &folder, &metrics, &records)?,
    };
    let sealed = seal(&recorder, &folder, &execution, &evidence, &mut governance, &judgements)?;
    let mut events = vec![sealed];
    let Judgements { gates, budgets } = &judgements;
    events.extend(judge::verdict_events(folder.uid, JudgedBy::ItsPlan, gates, budgets));
    let head = recorder.record(&events)?;
    tracing::info!(run = folder.name, ledger_root = %ledger.root(), tree_size = head.size, "run sealed");

    let roots = step_roots(&objects, &folder.plan, &execution.entries)?;
    let mut report =
        RunReport::new(&folder, &execution, &metrics, roots, judgements, &governance, &records, &observed);
    report.governance_root = governance.root(&folder);
    report.head = Some(head);
    Ok(finish(report))
}

/// What the gates and budgets of its plan say of a run.
#[derive(Debug, Clone, Default)]
pub struct Judgements {
    /// The gates, in their order.
    pub gates: Vec<JudgedGate>,
    /// The budgets, in their order.
    pub budgets: Vec<JudgedBudget>,
}

fn judge_run(
    recorder: &Recorder<'_>,
    folder: &RunFolder,
    metrics: &MetricSet,
    records: &[Record],
) -> Result<Judgements, WorkflowError> {
    let store = &recorder.store;
    let budgets = judge::judge_budgets(store, folder, records, &judge::plan_budgets(&folder.plan)?)?;
    let (index, facts) = (RunIndex::read(store)?, folder.facts_with(metrics.finals()));
    let gates = judge::judge_gates(store, &index, folder, &facts, &judge::plan_gates(&folder.plan)?, None)?;
    Ok(Judgements { gates, budgets })
}

/// What was observed of tasks, by task, where it was.
fn told(
    observed: &BTreeMap<String, ObservedTask>,
    of: impl Fn(&ObservedTask) -> &Option<String>,
) -> BTreeMap<String, String> {
    observed.iter().filter_map(|(task, seen)| Some((task.clone(), of(seen).clone()?))).collect()
}

/// `git -C ""` is refused; the folder of a bare file name is the current one.
fn absolute(dir: &Path) -> PathBuf {
    if dir.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        dir.to_owned()
    }
}

struct Claimed {
    folder: RunFolder,
    resumed: bool,
    _lock: StoreLock,
}

/// Takes up the oldest run of this plan that is unfinished and that no other process holds, or makes a new one.
fn claim(recorder: &Recorder<'_>, plan: &Plan, request: &RunRequest) -> Result<Claimed, WorkflowError> {
    let store = &recorder.store;
    let base = request.name.as_deref().unwrap_or(&plan.spec().pipeline);
    for name in unfinished(store, plan.digest(), base)? {
        let Some(_lock) = store.try_lock(&format!("run-{name}"))? else { continue };
        // It may have been finished before its lock was free.
        if unfinished(store, plan.digest(), base)?.contains(&name) {
            return Ok(Claimed { folder: RunFolder::open(store, &name)?, resumed: true, _lock });
        }
    }
    loop {
        let folder = RunFolder::create(store, base, plan.clone())?;
        // Between the folder and its lock another process may have taken the folder for an interrupted run.
        let Some(_lock) = store.try_lock(&format!("run-{}", folder.name))? else { continue };
        if unfinished(store, plan.digest(), base)?.contains(&folder.name) {
            return Ok(Claimed { folder, resumed: false, _lock });
        }
    }
}

/// The folders of runs of this plan and base name that are not sealed, oldest number first.
fn unfinished(store: &Store, plan: PlanDigest, base: &str) -> Result<Vec<String>, WorkflowError> {
    let index = RunIndex::read(store)?;
    let sealed: BTreeSet<&str> =
        index.rows.iter().filter(|row| row.seal.is_some()).map(|row| row.run.as_str()).collect();
    let mut found = Vec::new();
    for name in RunFolder::names(store)? {
        if RunFolder::base_of(&name) != base || sealed.contains(name.as_str()) {
            continue;
        }
        match RunFolder::open(store, &name) {
            Ok(folder) if folder.plan.digest() == plan => found.push(name),
            Ok(_) => {}
            // What nobody announced may lie there for any reason; `verify --all` lists it.
            Err(error) => tracing::warn!(run = name, %error, "passed over a folder that is not a run's"),
        }
    }
    found.sort_by_key(|name| (name.len(), name.clone()));
    Ok(found)
}

fn planned_event(folder: &RunFolder) -> EventBody {
    EventBody::RunPlanned { run: folder.name.clone(), uid: folder.uid, plan: folder.plan.digest() }
}

/// Judges the controls after tasks, writes everything that a run's seal covers, and gives the event that seals it. The ledger
/// is complete and durable.
///
/// # Errors
/// [`WorkflowError`] when a file cannot be written or an output is damaged.
pub fn seal(
    recorder: &Recorder<'_>,
    folder: &RunFolder,
    execution: &Execution,
    evidence: &Evidence,
    governance: &mut Governance,
    judgements: &Judgements,
) -> Result<EventBody, WorkflowError> {
    let metrics = judge::collect_metrics(&recorder.store.objects(), &execution.entries)?;
    write_artifacts(recorder, folder, execution)?;
    let keys = [recorder.artifact_key.note_key(signature::ARTIFACT_SIGNER)?];
    governance.after(
        &folder.plan,
        Ended {
            entries: &execution.entries,
            artifacts: &signed_artifacts(&recorder.store, folder, &execution.entries, &keys),
            budgets: &VerdictSeen::of_budgets(&judgements.budgets),
            gates: &VerdictSeen::of_gates(&judgements.gates),
        },
    )?;
    governance.write(&recorder.store, folder)?;
    write_sealed_files(recorder, folder, execution, &metrics, evidence, governance)?;
    sealed_event(recorder, folder, execution, governance)
}

fn sealed_event(
    recorder: &Recorder<'_>,
    folder: &RunFolder,
    execution: &Execution,
    governance: &Governance,
) -> Result<EventBody, WorkflowError> {
    let inventory = recorder
        .store
        .files()
        .read_bounded(&folder.path(INVENTORY), bitproof_core_ledger::limits::CANON_BYTES as u64)?;
    Ok(EventBody::RunSealed {
        run: folder.name.clone(),
        uid: folder.uid,
        plan: folder.plan.digest(),
        ledger_root: ledger_root(&folder.plan, &execution.entries),
        result_root: result_root(&execution.entries),
        inventory: ObjectId::of_bytes(&inventory),
        succeeded: governance.passed()
            && execution.failures.is_empty()
            && execution.entries.iter().all(|e| matches!(e.outcome, Outcome::Done { .. })),
    })
}

fn signature_of(name: &str) -> String {
    format!("{name}{SIGNATURE_SUFFIX}")
}

/// Writes the files of packages, signed. Repeated after a crash it writes the same names again.
fn write_artifacts(
    recorder: &Recorder<'_>,
    folder: &RunFolder,
    execution: &Execution,
) -> Result<(), WorkflowError> {
    let (staging, files) = (recorder.store.staging(), recorder.store.files());
    checkpoints::clear(files, &folder.path(RESUME))?;
    let write = |path: &Path, bytes: &[u8]| files.replace(&staging, path, bytes);
    for (task, entry) in folder.plan.tasks().zip(&execution.entries) {
        sign_checkpoints(recorder, folder, &task, entry)?;
        if task.spec.code.native().is_none_or(|native| native.kind != stages::PACKAGE) {
            continue;
        }
        let Outcome::Done { outputs } = &entry.outcome else { continue };
        let dir = folder.path(ARTIFACTS).join(&task.spec.id.0);
        files.create_dir(&folder.path(ARTIFACTS))?;
        files.create_dir(&dir)?;
        for (output, id) in outputs {
            let bytes = recorder.store.objects().get(id)?;
            let name = stages::package_file(output);
            write(&dir.join(name), &bytes)?;
            if output == stages::MODEL {
                let signature = signature::sign(name, &bytes, &recorder.artifact_key)?;
                write(&dir.join(signature_of(name)), signature.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// Writes everything else that the seal covers. Repeated after a crash it writes the same names again.
fn write_sealed_files(
    recorder: &Recorder<'_>,
    folder: &RunFolder,
    execution: &Execution,
    metrics: &MetricSet,
    evidence: &Evidence,
    governance: &Governance,
) -> Result<(), WorkflowError> {
    let (staging, files) = (recorder.store.staging(), recorder.store.files());
    let roots = step_roots(&recorder.store.objects(), &folder.plan, &execution.entries)?;
    let manifest = Manifest::new(&folder.plan, &execution.entries, metrics, &roots).encode();
    let signature = signature::sign(MANIFEST, &manifest, &recorder.artifact_key)?;
    let evidence = pretty(evidence);
    files.replace_all(
        &staging,
        &[
            (folder.path(MANIFEST), manifest.as_slice()),
            (folder.path(&signature_of(MANIFEST)), signature.as_bytes()),
            (folder.path(EVIDENCE), evidence.as_slice()),
        ],
    )?;
    let mut paths = folder.evidence_files()?;
    let objects = recorder.store.objects();
    paths.extend(closure(folder, &execution.entries, &objects).iter().map(object_path));
    paths.extend(governance.objects().map(object_path));
    let inventory = Inventory::take(files, recorder.store.root(), paths, recorder.store.threads())?;
    Ok(files.replace(&staging, &folder.path(INVENTORY), &inventory.encode())?)
}

/// Signs the state of every checkpoint that a training gave; the state names the other files by content.
fn sign_checkpoints(
    recorder: &Recorder<'_>,
    folder: &RunFolder,
    task: &PlannedTask<'_>,
    entry: &Entry,
) -> Result<(), WorkflowError> {
    let is_training = task.spec.code.native().is_some_and(|native| native.kind == stages::TRAIN);
    let Some(id) = entry.output(stages::CHECKPOINTS).filter(|_| is_training) else { return Ok(()) };
    let packed = recorder.store.objects().get(&id)?;
    let (files, staging) = (recorder.store.files(), recorder.store.staging());
    let dir = folder.path(CHECKPOINTS).join(&task.spec.id.0);
    files.create_dir(&folder.path(CHECKPOINTS))?;
    files.create_dir(&dir)?;
    for (step, state) in checkpoint::states_in(&packed)? {
        let name = checkpoint::state_name(step);
        let signature = signature::sign(&name, &state, &recorder.artifact_key)?;
        files.replace(&staging, &dir.join(format!("{name}{SIGNATURE_SUFFIX}")), signature.as_bytes())?;
    }
    Ok(())
}

fn object_path(id: &ObjectId) -> String {
    format!("objects/{}", Objects::relative_path(id))
}

/// The objects that a run's plan and ledger reach. Data that the store does not keep is not among them.
pub fn closure(folder: &RunFolder, entries: &[Entry], objects: &Objects) -> BTreeSet<ObjectId> {
    let outputs = entries.iter().filter_map(|e| match &e.outcome {
        Outcome::Done { outputs } => Some(outputs.iter().map(|(_, id)| *id)),
        _ => None,
    });
    let spec = folder.plan.spec();
    let commands = spec.tasks.iter().filter_map(|task| task.code.command());
    let named = spec.data.iter().map(|d| d.digest).chain(commands.flat_map(|command| command.contents()));
    outputs.flatten().chain(named.filter(|id| objects.contains(id))).collect()
}

/// The policy that a plan binds besides its tasks, in canonical bytes.
pub(crate) fn policy_of(pipeline: &crate::pipeline::Pipeline) -> BTreeMap<String, Vec<u8>> {
    let budgets: Vec<judge::BudgetPolicy> = pipeline.budgets.iter().map(prepare::budget_policy).collect();
    let pinned = pipeline.data.iter().filter(|(_, data)| data.blake3.is_some()).map(|(name, _)| name.clone());
    let governance = Policy::new(&pipeline.governance, pinned).encode();
    [
        (judge::GATES.to_owned(), canon::encode(&pipeline.gates)),
        (judge::BUDGETS.to_owned(), canon::encode(&budgets)),
    ]
    .into_iter()
    // A plan that demands no control is bound as if there were none.
    .chain(governance.map(|bytes| (GOVERNANCE.to_owned(), bytes)))
    .collect()
}

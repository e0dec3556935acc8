//! The runner of a run: looks in the cache, executes, measures, keeps outputs and makes them durable in groups.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bitproof_core_ledger::digest::{Digest, ToolsKind};
use bitproof_core_ledger::files::FileError;
use bitproof_core_ledger::folder::{Folder, FolderError};
use bitproof_core_ledger::inventory::Inventory;
use bitproof_core_ledger::keys::PrivateKey;
use bitproof_core_ledger::objects::{ObjectError, ObjectId, Objects, StagedObject};
use bitproof_core_ledger::Store;
use bitproof_scheduler::cache::{Cache, CachedAction};
use bitproof_scheduler::command::{self, CommandSpec};
use bitproof_scheduler::dispatch::{Outputs, Runner, SettleError, Settled, TaskError};
use bitproof_scheduler::ledger::{Entry, LedgerView, Outcome};
use bitproof_scheduler::{ActionDigest, Cancel, PlannedTask};
use bitproof_telemetry::{write_jsonl, Collector, Record};

use super::checkpoints::RunCheckpoints;
use super::execute::{Contents, Executor, Output};
use super::{Prepared, RunRequest, WorkflowError};
use crate::observed::{self, ObservedCommand, ObservedTask};
use crate::run_folder::{RunFolder, RunIndex, OBSERVED, RESUME, TELEMETRY};

/// A sealed run whose ledger is the one that the log names, with what was measured of it.
struct Origin {
    ledger: LedgerView,
    /// The place of each action's entry.
    by_action: BTreeMap<ActionDigest, usize>,
    measured: BTreeMap<String, Vec<Record>>,
}

impl Origin {
    fn read(store: &Store, index: &RunIndex, name: &str) -> Option<Self> {
        let row = index.rows.iter().find(|row| row.run == name)?;
        let folder = RunFolder::open_recorded(store, row).ok()?;
        let ledger = folder.sealed_ledger(row).ok()?;
        let inventory = folder.sealed_inventory(row).ok()?;
        let measured = folder.measured(|path, bytes| is_listed(&inventory, path, bytes)).ok()?;
        let by_action = (0..).zip(&ledger.entries).filter_map(|(i, e)| Some((e.action?, i))).collect();
        Some(Self { ledger, by_action, measured })
    }
}

/// Whether a file of the evidence is the one that was sealed.
fn is_listed(inventory: &Inventory, path: &str, bytes: &[u8]) -> bool {
    let entries = inventory.entries();
    let at = entries.binary_search_by(|entry| entry.path.as_str().cmp(path));
    at.is_ok_and(|at| entries[at].digest == Digest::of_bytes(bytes))
}

/// What is known of a task besides its entry, until its group is committed.
#[derive(Default)]
struct Notes {
    measured: Vec<Record>,
    observed: ObservedTask,
    /// What the cache is told when the group is durable.
    executed: Option<(ActionDigest, Option<Digest<ToolsKind>>)>,
}

/// A program and the names of the tools that it runs with.
type Toolset = (String, Vec<String>);

pub(super) struct Worker<'a> {
    store: &'a Store,
    objects: Objects,
    folder: &'a RunFolder,
    prepared: &'a Prepared,
    request: &'a RunRequest,
    cache: Option<Cache>,
    collector: &'a Collector,
    cancel: &'a Cancel,
    artifact_key: &'a PrivateKey,
    index: RunIndex,
    scratch: PathBuf,
    /// What was made and is read from where it was staged. It stays there when it is settled: a task may be about to open it.
    staged: Mutex<BTreeMap<ObjectId, Arc<StagedObject>>>,
    /// What this process has made durable, or found whole in a sealed run; many tasks may make the same.
    kept: Mutex<BTreeSet<ObjectId>>,
    notes: Mutex<BTreeMap<String, Notes>>,
    /// What was observed of every task, also by an interrupted process.
    observed: Mutex<BTreeMap<String, ObservedTask>>,
    origins: Mutex<BTreeMap<String, Option<Arc<Origin>>>>,
    /// What each program is with its tools: those are hashed once.
    tools: Mutex<BTreeMap<Toolset, Digest<ToolsKind>>>,
}

impl<'a> Worker<'a> {
    #[expect(clippy::too_many_arguments, reason = "each is another part of the run's surroundings")]
    pub(super) fn new(
        store: &'a Store,
        index: RunIndex,
        folder: &'a RunFolder,
        prepared: &'a Prepared,
        request: &'a RunRequest,
        cache: Option<Cache>,
        collector: &'a Collector,
        cancel: &'a Cancel,
        artifact_key: &'a PrivateKey,
    ) -> Self {
        Self {
            store,
            objects: store.objects(),
            folder,
            prepared,
            request,
            cache,
            collector,
            cancel,
            artifact_key,
            index,
            scratch: store.staging(),
            staged: Mutex::default(),
            kept: Mutex::default(),
            notes: Mutex::default(),
            observed: Mutex::default(),
            origins: Mutex::default(),
            tools: Mutex::default(),
        }
    }

    /// What was observed of every task.
    pub(super) fn into_observed(self) -> BTreeMap<String, ObservedTask> {
        self.observed.into_inner().expect("no thread panics while it holds the map")
    }

    /// Takes note of what an interrupted process committed: its outputs must still be there.
    pub(super) fn adopt_committed(&self, committed: &[Entry]) -> Result<(), WorkflowError> {
        let mut known = observed::read(self.store.files(), &self.folder.path(OBSERVED))?;
        for entry in committed {
            if let Outcome::Done { outputs } = &entry.outcome {
                for (_, id) in outputs {
                    self.objects.verify(id)?;
                }
            }
            if let Some(observed) = known.remove(&entry.task.0) {
                lock(&self.observed).insert(entry.task.0.clone(), observed);
            }
        }
        Ok(())
    }

    /// A hit is one only if the run that it names was sealed with this action and these outputs, if every output is there and
    /// whole, and if what was measured when they were made is what was sealed.
    fn lookup_cache(
        &self,
        task: PlannedTask<'_>,
        action: &ActionDigest,
        tools: Option<Digest<ToolsKind>>,
    ) -> Option<Outputs> {
        let id = &task.spec.id.0;
        let forced = self.request.forced.contains(id) || self.request.forced.contains(&task.spec.stage);
        let cache = self.cache.as_ref().filter(|_| self.request.read_cache && !forced)?;
        let known = cache.lookup(action, tools)?;
        let origin = self.origin(&known.origin)?;
        let entry = &origin.ledger.entries[*origin.by_action.get(action)?];
        if !matches!(&entry.outcome, Outcome::Done { outputs } if *outputs == known.outputs) {
            return None;
        }
        let measured = origin.measured.get(&entry.task.0)?.clone();
        known.outputs.iter().try_for_each(|(_, id)| self.find_whole(id)).ok()?;
        let observed = ObservedTask { cached_from: Some(known.origin), ..self.of_task(id) };
        lock(&self.notes).insert(id.clone(), Notes { measured, observed, executed: None });
        Some(known.outputs.into_iter().collect())
    }

    fn find_whole(&self, id: &ObjectId) -> Result<(), ObjectError> {
        if !lock(&self.kept).contains(id) {
            self.objects.verify(id)?;
            lock(&self.kept).insert(*id);
        }
        Ok(())
    }

    fn of_task(&self, task: &str) -> ObservedTask {
        ObservedTask { task: task.to_owned(), ..ObservedTask::default() }
    }

    /// A sealed run from which results may be taken, read once.
    fn origin(&self, name: &str) -> Option<Arc<Origin>> {
        let mut origins = lock(&self.origins);
        let read = || Origin::read(self.store, &self.index, name).map(Arc::new);
        origins.entry(name.to_owned()).or_insert_with(read).clone()
    }

    /// What the tools of a command are on this machine: part of what its result is known by.
    fn tools(&self, executor: &Executor<'_>, spec: &CommandSpec) -> Result<Digest<ToolsKind>, TaskError> {
        let key = (spec.argv[0].clone(), spec.tools.keys().cloned().collect::<Vec<_>>());
        if let Some(known) = lock(&self.tools).get(&key) {
            return Ok(*known);
        }
        let seen = self.observe(executor, spec)?;
        lock(&self.tools).insert(key, seen);
        Ok(seen)
    }

    /// Hashes the tools of a command as they are now.
    fn observe(&self, executor: &Executor<'_>, spec: &CommandSpec) -> Result<Digest<ToolsKind>, TaskError> {
        let seen = command::observe(&executor.tools(spec)?, &spec.argv[0]).map_err(infrastructure)?;
        Ok(seen.digest)
    }

    fn stage(&self, output: &Output) -> Result<ObjectId, TaskError> {
        let staged = match output {
            Output::Bytes(bytes) => self.objects.stage(&mut bytes.as_slice()),
            Output::File(path) => {
                let file = File::open(path).map_err(FileError::at("read", path)).map_err(infrastructure)?;
                self.objects.stage(&mut &file)
            }
            Output::Folder(path) => {
                let folder = Folder::open(path).map_err(|error| match error {
                    FolderError::File(_) => infrastructure(error),
                    other => refused(other),
                })?;
                self.objects.stage(&mut folder.reader())
            }
        };
        let staged = staged.map_err(infrastructure)?;
        let id = *staged.id();
        lock(&self.staged).entry(id).or_insert_with(|| Arc::new(staged));
        Ok(id)
    }
}

impl Contents for Worker<'_> {
    fn read(&self, id: &ObjectId) -> Result<Vec<u8>, ObjectError> {
        let staged = lock(&self.staged).get(id).cloned();
        match staged {
            Some(staged) => self.objects.get_staged(&staged),
            None => self.prepared.data_files().content(id, &self.objects),
        }
    }

    fn locate(&self, id: &ObjectId) -> Result<PathBuf, ObjectError> {
        if let Some(staged) = lock(&self.staged).get(id) {
            return Ok(staged.path().to_owned());
        }
        if self.objects.contains(id) {
            return Ok(self.objects.path(id));
        }
        let supplied = self.prepared.data_files().path(id);
        supplied.map(ToOwned::to_owned).ok_or(ObjectError::Missing { id: *id })
    }
}

impl Runner for Worker<'_> {
    fn run(
        &self,
        task: PlannedTask<'_>,
        action: &ActionDigest,
        inputs: &[ObjectId],
    ) -> Result<Outputs, TaskError> {
        let id = &task.spec.id.0;
        let keeper = RunCheckpoints::new(
            self.store.files(),
            self.store.staging(),
            self.folder.path(RESUME).join(id),
            self.artifact_key,
            *action,
        );
        let keeper = keeper.map_err(infrastructure)?;
        let executor = Executor {
            plan: &self.folder.plan,
            threads: self.request.threads,
            tools: self.prepared.tools(),
            scratch: &self.scratch,
            cancel: self.cancel,
            contents: self,
            keeper: &keeper,
        };
        let tools = task.spec.code.command().map(|spec| self.tools(&executor, spec)).transpose()?;
        // Of another attempt nothing is kept.
        lock(&self.notes).remove(id);
        if let Some(outputs) = self.lookup_cache(task, action, tools) {
            tracing::info!(task = %task.spec.id, "taken from the cache");
            return Ok(outputs);
        }
        let paths = || {
            let names = task.spec.code.command().into_iter().flat_map(|spec| spec.tools.keys());
            let at = |name: &String| Some((name.clone(), self.prepared.tools().get(name)?.clone()));
            names.filter_map(at).collect()
        };
        self.collector.take("task", id);
        let executed = executor.execute(task, inputs);
        let measured = self.collector.take("task", id);
        let mut observed = self.of_task(id);
        let executed = match executed {
            Ok(executed) => executed,
            Err(failed) => {
                observed.command = failed.observed.map(|seen| ObservedCommand::of(&seen, tools, paths()));
                observed.failure = Some(failed.error.to_string());
                lock(&self.notes).insert(id.clone(), Notes { measured, observed, executed: None });
                return Err(failed.error);
            }
        };
        observed.command = executed.observed.as_ref().map(|seen| ObservedCommand::of(seen, tools, paths()));
        let outputs = executed.outputs.iter().map(|(name, output)| Ok((name.clone(), self.stage(output)?)));
        let outputs = match outputs.collect::<Result<Outputs, TaskError>>() {
            Ok(outputs) => outputs,
            Err(error) => {
                observed.failure = Some(error.to_string());
                lock(&self.notes).insert(id.clone(), Notes { measured, observed, executed: None });
                return Err(error);
            }
        };
        // Tools that changed while it ran are not those that its result is known by.
        let now = task.spec.code.command().and_then(|spec| self.observe(&executor, spec).ok());
        let executed = (now == tools).then_some((*action, tools));
        lock(&self.notes).insert(id.clone(), Notes { measured, observed, executed });
        Ok(outputs)
    }

    /// Outputs, measurements and observations of the group become durable together.
    fn settle(&self, group: &[Settled<'_>]) -> Result<(), SettleError> {
        let mut made: BTreeSet<ObjectId> =
            group.iter().flat_map(|settled| outputs_of(settled.entry)).collect();
        made.retain(|id| !lock(&self.kept).contains(id));
        let staged: Vec<Arc<StagedObject>> = {
            let staged = lock(&self.staged);
            made.iter().filter_map(|id| staged.get(id).cloned()).collect()
        };
        self.objects.settle(staged.iter().map(Arc::as_ref)).map_err(SettleError::new)?;
        lock(&self.kept).extend(staged.iter().map(|staged| *staged.id()));
        let (mut measured, mut told) = (Pages::default(), Pages::default());
        let mut observed = Vec::new();
        let mut cached = Vec::new();
        for settled in group {
            let id = &settled.task.spec.id.0;
            let notes = lock(&self.notes).remove(id).unwrap_or_default();
            let mut lines = Vec::new();
            write_jsonl(&notes.measured, &mut lines).map_err(SettleError::new)?;
            measured.push(settled.task.sequence, lines);
            let outputs = |entry: &Entry| match &entry.outcome {
                Outcome::Done { outputs } => outputs.clone(),
                _ => Vec::new(),
            };
            cached.extend(notes.executed.map(|(action, tools)| CachedAction {
                action,
                tools,
                outputs: outputs(settled.entry),
                origin: self.folder.name.clone(),
            }));
            let says = &notes.observed;
            if says.cached_from.is_some() || says.failure.is_some() || says.command.is_some() {
                told.push(settled.task.sequence, observed::encode([&notes.observed]));
                observed.push(notes.observed);
            }
        }
        let file = |folder: &'static str| {
            move |(first, bytes): &'_ (usize, Vec<u8>)| {
                (self.folder.path(folder).join(observed::file_name(*first)), bytes.clone())
            }
        };
        let evidence: Vec<(PathBuf, Vec<u8>)> =
            measured.files.iter().map(file(TELEMETRY)).chain(told.files.iter().map(file(OBSERVED))).collect();
        let evidence: Vec<(PathBuf, &[u8])> =
            evidence.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice())).collect();
        let files = self.store.files();
        files.replace_all(&self.store.staging(), &evidence).map_err(SettleError::new)?;
        // What a program printed is on disk now.
        let kept = |task: ObservedTask| (task.task.clone(), ObservedTask { command: None, ..task });
        lock(&self.observed).extend(observed.into_iter().map(kept));
        if let Some(cache) = &self.cache {
            if let Err(error) = cached.iter().try_for_each(|entry| cache.store(entry)) {
                tracing::warn!(%error, "the cache could not be written; the run goes on without it");
            }
        }
        Ok(())
    }
}

/// What is written of the tasks of a group: a file, and another where one would be too large to be read at once.
#[derive(Default)]
struct Pages {
    /// Each with the place of its first task in the commit order.
    files: Vec<(usize, Vec<u8>)>,
}

impl Pages {
    /// The bytes of a file after which another begins.
    const FULL: usize = 64 << 20;

    fn push(&mut self, sequence: usize, bytes: Vec<u8>) {
        match self.files.last_mut() {
            _ if bytes.is_empty() => {}
            Some((_, last)) if last.len() + bytes.len() <= Self::FULL => last.extend(bytes),
            _ => self.files.push((sequence, bytes)),
        }
    }
}

fn outputs_of(entry: &Entry) -> impl Iterator<Item = ObjectId> + '_ {
    let outputs = match &entry.outcome {
        Outcome::Done { outputs } => outputs.as_slice(),
        _ => &[],
    };
    outputs.iter().map(|(_, id)| *id)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panics while it holds what the workers share")
}

fn infrastructure(error: impl std::fmt::Display) -> TaskError {
    TaskError::Infrastructure { message: error.to_string() }
}

fn refused(error: impl std::fmt::Display) -> TaskError {
    TaskError::Failed { how: bitproof_scheduler::ledger::Failure::Refused, message: error.to_string() }
}

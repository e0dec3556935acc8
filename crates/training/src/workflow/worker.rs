//! The runner of native stages: looks in the cache, measures, executes, keeps outputs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bitproof_core_ledger::digest::Digest;
use bitproof_core_ledger::inventory::Inventory;
use bitproof_core_ledger::objects::{ObjectId, Objects};
use bitproof_core_ledger::Store;
use bitproof_kernels::with_threads;
use bitproof_scheduler::cache::{Cache, CachedAction};
use bitproof_scheduler::dispatch::{Outputs, Runner, TaskError};
use bitproof_scheduler::ledger::{Entry, Failure, LedgerView, Outcome};
use bitproof_scheduler::{ActionDigest, PlannedTask};
use bitproof_telemetry::{write_jsonl, Collector};

use super::{RunRequest, WorkflowError};
use crate::data::DataFiles;
use crate::run_folder::{RunFolder, RunIndex, MAX_TELEMETRY_BYTES};
use crate::stages::{self, StageError};

/// A sealed run whose ledger and inventory are those that the log names.
struct Origin {
    folder: RunFolder,
    ledger: LedgerView,
    inventory: Inventory,
}

impl Origin {
    fn read(store: &Store, index: &RunIndex, name: &str) -> Option<Arc<Self>> {
        let row = index.rows.iter().find(|row| row.run == name)?;
        let folder = RunFolder::open_recorded(store, row).ok()?;
        let ledger = folder.sealed_ledger(row).ok()?;
        let inventory = folder.sealed_inventory(row).ok()?;
        Some(Arc::new(Self { folder, ledger, inventory }))
    }
}

pub(super) struct Worker<'a> {
    store: &'a Store,
    objects: Objects,
    folder: &'a RunFolder,
    cache: Option<Cache>,
    collector: &'a Collector,
    data: &'a DataFiles,
    read_cache: bool,
    threads: usize,
    cached_from: Mutex<BTreeMap<String, String>>,
    index: RunIndex,
    origins: Mutex<BTreeMap<String, Option<Arc<Origin>>>>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        store: &'a Store,
        index: RunIndex,
        folder: &'a RunFolder,
        cache: Option<Cache>,
        collector: &'a Collector,
        data: &'a DataFiles,
        request: &RunRequest,
    ) -> Self {
        Self {
            store,
            objects: store.objects(),
            folder,
            cache,
            collector,
            data,
            read_cache: request.read_cache,
            threads: request.threads,
            cached_from: Mutex::default(),
            index,
            origins: Mutex::default(),
        }
    }

    /// For each task that another run executed, that run.
    pub(super) fn cached_from(&self) -> BTreeMap<String, String> {
        self.cached_from.lock().expect("no thread panics while it holds the map").clone()
    }

    /// Takes note of what an interrupted process committed: its outputs must still be there.
    pub(super) fn adopt_committed(&self, committed: &[Entry]) -> Result<(), WorkflowError> {
        for entry in committed {
            let Outcome::Done { outputs } = &entry.outcome else { continue };
            for (_, id) in outputs {
                self.objects.verify(id)?;
            }
            let known =
                self.cache.as_ref().zip(entry.action).and_then(|(cache, action)| cache.lookup(&action));
            if let Some(known) = known.filter(|known| known.origin != self.folder.name) {
                self.note_origin(&entry.task.0, &known.origin);
            }
        }
        Ok(())
    }

    fn note_origin(&self, task: &str, origin: &str) {
        let mut map = self.cached_from.lock().expect("no thread panics while it holds the map");
        map.insert(task.to_owned(), origin.to_owned());
    }

    /// A hit is one only if the run that it names was sealed with this action and these outputs, and if every output, and
    /// what was measured when they were made, is there and whole.
    fn lookup_cache(&self, task: &str, action: &ActionDigest) -> Option<Outputs> {
        let known = self.cache.as_ref().filter(|_| self.read_cache)?.lookup(action)?;
        let origin = self.origin(&known.origin)?;
        let entry = origin.ledger.entries.iter().find(|e| e.action == Some(*action))?;
        if !matches!(&entry.outcome, Outcome::Done { outputs } if *outputs == known.outputs) {
            return None;
        }
        known.outputs.iter().try_for_each(|(_, id)| self.objects.verify(id).map(drop)).ok()?;
        let from = RunFolder::telemetry_path(&entry.task.0);
        let listed = format!("runs/{}/{from}", known.origin);
        let listed = origin.inventory.entries().iter().find(|e| e.path == listed)?;
        let measured =
            self.store.files().read_bounded(&origin.folder.path(&from), MAX_TELEMETRY_BYTES).ok()?;
        if Digest::of_bytes(&measured) != listed.digest {
            return None;
        }
        let here = self.folder.path(&RunFolder::telemetry_path(task));
        self.store.files().replace(&self.store.staging(), &here, &measured).ok()?;
        self.note_origin(task, &known.origin);
        Some(known.outputs.into_iter().collect())
    }

    /// A sealed run from which results may be taken, read once.
    fn origin(&self, name: &str) -> Option<Arc<Origin>> {
        let mut origins = self.origins.lock().expect("no thread panics while it holds the origins");
        origins.entry(name.to_owned()).or_insert_with(|| Origin::read(self.store, &self.index, name)).clone()
    }

    fn input(&self, id: &ObjectId) -> Result<Vec<u8>, TaskError> {
        self.data.content(id, &self.objects).map_err(infrastructure)
    }

    fn execute(&self, task: PlannedTask<'_>, inputs: &[ObjectId]) -> Result<Outputs, TaskError> {
        let inputs = inputs.iter().map(|id| self.input(id)).collect::<Result<Vec<_>, _>>()?;
        let seed = self.folder.plan.spec().seed;
        let made = execute_task(task, seed, self.threads, &inputs)?;
        made.into_iter()
            .map(|(name, bytes)| Ok((name, self.objects.put(&bytes).map_err(infrastructure)?)))
            .collect()
    }

    /// Keeps what was measured with the run, then what is known of the action with the cache.
    fn keep_measurements(
        &self,
        task: PlannedTask<'_>,
        action: &ActionDigest,
        outputs: &Outputs,
    ) -> Result<(), TaskError> {
        let id = &task.spec.id.0;
        let mut measured = Vec::new();
        write_jsonl(&self.collector.take("task", id), &mut measured).map_err(infrastructure)?;
        let path = self.folder.path(&RunFolder::telemetry_path(id));
        self.store.files().replace(&self.store.staging(), &path, &measured).map_err(infrastructure)?;
        let Some(cache) = &self.cache else { return Ok(()) };
        let entry = CachedAction {
            action: *action,
            outputs: outputs.iter().map(|(name, id)| (name.clone(), *id)).collect(),
            origin: self.folder.name.clone(),
        };
        if let Err(error) = cache.store(&entry) {
            tracing::warn!(%error, "the cache could not be written; the run goes on without it");
        }
        Ok(())
    }
}

impl Runner for Worker<'_> {
    fn run(
        &self,
        task: PlannedTask<'_>,
        action: &ActionDigest,
        inputs: &[ObjectId],
    ) -> Result<Outputs, TaskError> {
        if let Some(outputs) = self.lookup_cache(&task.spec.id.0, action) {
            tracing::info!(task = %task.spec.id, "taken from the cache");
            return Ok(outputs);
        }
        let outputs = self.execute(task, inputs)?;
        self.keep_measurements(task, action, &outputs)?;
        Ok(outputs)
    }
}

/// Executes a native stage inside its telemetry span, on as many threads as it may have.
///
/// # Errors
/// [`TaskError::Failed`] when the stage fails by itself.
pub fn execute_task(
    task: PlannedTask<'_>,
    seed: u64,
    threads: usize,
    inputs: &[Vec<u8>],
) -> Result<BTreeMap<String, Vec<u8>>, TaskError> {
    // The pool's threads know neither this thread's subscriber nor its span.
    let subscriber = tracing::dispatcher::get_default(Clone::clone);
    let outcome = with_threads(threads, || {
        tracing::dispatcher::with_default(&subscriber, || {
            let span = tracing::info_span!(
                target: bitproof_telemetry::STAGE,
                "stage",
                task = task.spec.id.0.as_str(),
                stage = task.spec.stage.as_str(),
                lane = task.slot.lane,
                tick = task.slot.tick,
            );
            span.in_scope(|| stages::execute(task.spec, seed, inputs))
        })
    });
    outcome.map_err(|error| match error {
        StageError::UnknownCode { .. } => TaskError::Infrastructure { message: error.to_string() },
        _ => TaskError::Failed { how: Failure::Refused, message: error.to_string() },
    })
}

fn infrastructure(error: impl std::fmt::Display) -> TaskError {
    TaskError::Infrastructure { message: error.to_string() }
}

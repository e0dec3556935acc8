//! What is replayed: a run of a store, or what a manifest tells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::Store;
use bitproof_scheduler::board::Board;
use bitproof_scheduler::ledger::{Entry, Outcome};
use bitproof_scheduler::{action_digest, Plan};
use bitproof_training::manifest::{Manifest, ManifestError};
use bitproof_training::run_folder::RunFolder;
use bitproof_training::stages;
use bitproof_training::step_roots::StepRoots;

use super::{ReplayError, ReplayOf, ReplayRequest};
use crate::anchors::Anchors;
use crate::report::Scope;
use crate::verify::{self, recorded_inputs, VerifyError};

const MANIFEST_BYTES: u64 = 128 << 20;

/// A plan and what was recorded of it.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) plan: Plan,
    pub(super) entries: Vec<Entry>,
    /// Where tools were when the run was made: a place to look, which is no part of what is judged.
    pub(super) tools: BTreeMap<String, PathBuf>,
    /// The step trees that a manifest names; of a run, verification has held them against its objects.
    pub(super) step_roots: StepRoots,
}

impl Subject {
    pub(super) fn open(store: Option<&Store>, request: &ReplayRequest) -> Result<Self, ReplayError> {
        match (&request.of, store) {
            (ReplayOf::Manifest(path), _) => Self::of_manifest(path),
            (ReplayOf::Run(run), Some(store)) => Self::of_run(store, run),
            (ReplayOf::Run(run), None) => {
                let (selector, known) = (run.clone(), "no store".to_owned());
                Err(VerifyError::from(bitproof_training::run_folder::RunError::Unknown { selector, known })
                    .into())
            }
        }
    }

    fn of_run(store: &Store, run: &str) -> Result<Self, ReplayError> {
        let report = verify::verify(store, &Scope::Run(run.to_owned()), &Anchors::default())?;
        if !report.ok() {
            return Err(ReplayError::Damaged { findings: report.findings });
        }
        let folder = RunFolder::open(store, &report.runs[0])?;
        let entries = folder.ledger()?.entries;
        // Verification has seen that they are of the plan.
        Board::new(&folder.plan, &entries)?;
        let mut tools = BTreeMap::new();
        for seen in folder.observed()?.into_values() {
            // What came from the cache was observed by another run.
            let origin = match &seen.cached_from {
                Some(run) => RunFolder::open(store, run).ok().and_then(|origin| origin.observed().ok()),
                None => None,
            };
            let seen = origin.and_then(|mut origin| origin.remove(&seen.task)).unwrap_or(seen);
            tools.extend(seen.command.into_iter().flat_map(|command| command.tool_paths));
        }
        tools.retain(|_, path| path.exists());
        let step_roots = StepRoots::new();
        Ok(Self { name: folder.name, plan: folder.plan, entries, tools, step_roots })
    }

    fn of_manifest(path: &Path) -> Result<Self, ReplayError> {
        let bytes = Files::on_disk().read_bounded(path, MANIFEST_BYTES)?;
        let malformed = |source| ReplayError::Manifest { path: path.to_owned(), source };
        let manifest = Manifest::decode(&bytes).map_err(malformed)?;
        let (plan, entries) = manifest.execution().map_err(malformed)?;
        Board::new(&plan, &entries)?;
        let spec = plan.spec();
        for (task, entry) in plan.tasks().zip(&entries) {
            let inputs = recorded_inputs(&plan, &entries, &task.spec.inputs);
            let action = inputs.map(|inputs| action_digest(task.spec, &inputs, spec.seed, spec.numerics));
            if !matches!(entry.outcome, Outcome::Skipped { .. }) && entry.action != action {
                return Err(malformed(ManifestError::Inconsistent { what: "an action" }));
            }
        }
        let (tools, step_roots) = (BTreeMap::new(), manifest.step_roots);
        Ok(Self { name: manifest.pipeline, plan, entries, tools, step_roots })
    }

    /// The tasks that were committed and are asked for, in commit order.
    pub(super) fn wanted(&self, request: &ReplayRequest) -> Result<Vec<usize>, ReplayError> {
        let committed = 0..self.entries.len();
        let Some(stage) = &request.stage else { return Ok(committed.collect()) };
        let is_wanted = |&sequence: &usize| {
            let spec = self.plan.task(sequence).spec;
            spec.stage == *stage || spec.id.0 == *stage
        };
        let wanted: Vec<usize> = committed.filter(is_wanted).collect();
        if wanted.is_empty() {
            let known: BTreeSet<&str> = self.plan.tasks().map(|t| t.spec.stage.as_str()).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(ReplayError::NoStage { run: self.name.clone(), stage: stage.clone(), known });
        }
        Ok(wanted)
    }

    /// The one training that is asked for.
    pub(super) fn training(&self, request: &ReplayRequest) -> Result<usize, ReplayError> {
        let trains = |sequence: &usize| {
            let native = self.plan.task(*sequence).spec.code.native();
            native.is_some_and(|native| native.kind == stages::TRAIN)
        };
        let wanted: Vec<usize> = self.wanted(request)?.into_iter().filter(trains).collect();
        if let [one] = wanted[..] {
            return Ok(one);
        }
        let all = (0..self.entries.len()).filter(trains);
        let known: Vec<&str> = all.map(|sequence| self.entries[sequence].task.0.as_str()).collect();
        Err(ReplayError::Trainings {
            run: self.name.clone(),
            stage: request.stage.clone(),
            trainings: wanted.len(),
            known: if known.is_empty() { "there is none".to_owned() } else { known.join(", ") },
        })
    }
}

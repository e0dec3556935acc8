//! Verification: every byte of a run's evidence is hashed and held against what the signed audit log says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_core_ledger::events::{AuditError, AuditView, EventBody};
use bitproof_core_ledger::files::FileError;
use bitproof_core_ledger::inventory::{Inventory, InventoryEntry};
use bitproof_core_ledger::keys::KeyRole;
use bitproof_core_ledger::limits::{CANON_BYTES, OBJECT_IN_MEMORY_BYTES};
use bitproof_core_ledger::log::LogError;
use bitproof_core_ledger::note::NoteKey;
use bitproof_core_ledger::objects::{ObjectError, ObjectId, Objects};
use bitproof_core_ledger::signature;
use bitproof_core_ledger::signed_log::SignedLogError;
use bitproof_core_ledger::storage::EntryKind;
use bitproof_core_ledger::store::{Store, StoreError, STORE_FILE};
use bitproof_scheduler::board::Board;
use bitproof_scheduler::ledger::{result_root, Entry, LedgerError, LedgerView, Outcome};
use bitproof_scheduler::{action_digest, InputSource, OnFailure, Plan};
use bitproof_training::judge::{self, collect_metrics};
use bitproof_training::manifest::Manifest;
use bitproof_training::run_folder::{
    RecordedVerdict, RunError, RunFolder, RunIndex, RunRow, Seal, INVENTORY, LEDGER, MANIFEST,
    SIGNATURE_SUFFIX,
};
use bitproof_training::step_roots::step_roots;

mod events;
mod governance;
mod trainings;

use crate::anchors::{Anchors, Judged};
use crate::reach::{object_id, object_path, Reach};
use crate::report::{Finding, Scope, Severity, VerifyReport};
use governance::Controls;

/// A verification that could not be done at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The run does not exist or is incomplete.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing to verify yet.
    #[error("the store at {store} holds no sealed run")]
    Empty {
        /// The store.
        store: String,
    },
}

/// Verifies the audit log and, by scope, a run or everything. Writes nothing.
///
/// What was brought from outside is in `anchors`; without them the key is taken from the store, which the report says.
///
/// # Errors
/// [`VerifyError`] when the run does not exist, is incomplete, or the file system fails. Damage is not an error but
/// a finding.
#[tracing::instrument(level = "info", skip_all)]
pub fn verify(store: &Store, scope: &Scope, anchors: &Anchors) -> Result<VerifyReport, VerifyError> {
    let mut verifier = Verifier::new(store);
    let Some((audit, mut judged)) = verifier.whole_log(anchors) else {
        return Ok(verifier.report);
    };
    let origin = store.origin();
    let index = RunIndex::new(&audit);
    verifier.rows.clone_from(&index.rows);
    let keyring = audit.keyring();
    let sealed: Vec<&RunRow> = match scope {
        Scope::Run(selector) => {
            if index.rows.is_empty() && verifier.report.ok() {
                return Err(VerifyError::Empty { store: store.root().display().to_string() });
            }
            match index.resolve(selector) {
                Ok(row) if row.seal.is_some() => vec![row],
                // What was found already says more than that the run is not there.
                _ if !verifier.report.ok() => Vec::new(),
                Ok(row) => return Err(RunError::Incomplete { run: row.run.clone() }.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Scope::All => index.rows.iter().filter(|row| row.seal.is_some()).collect(),
    };
    verifier.recorded_reports(&audit);
    verifier.statements(&audit);
    let mut sealed_leaves = 0;
    for row in sealed {
        verifier.report.runs.push(row.run.clone());
        // A model is signed before the leaf that seals its run.
        let sealed_at = row.seal.as_ref().map_or(0, |seal| seal.leaf);
        sealed_leaves = sealed_leaves.max(sealed_at + 1);
        let artifact_keys = keyring.in_force(KeyRole::Artifact, sealed_at + 1);
        verifier.run(row, &artifact_keys)?;
    }
    if *scope == Scope::All {
        let reach = Reach::of(store, &audit, &index)?;
        verifier.everything_else(&index, &reach.objects)?;
    }
    anchors.judge_witnesses(&audit, &origin, sealed_leaves, &mut judged);
    let mut report = verifier.report;
    report.findings.append(&mut judged.findings);
    report.not_provable_here = anchors.limits(&audit, &judged);
    tracing::info!(
        ok = report.ok(),
        bytes = report.bytes_hashed,
        findings = report.findings.len(),
        "verified"
    );
    Ok(report)
}

/// Checks the audit log alone, and whether it continues what the auditor brought along; its damage is the inner error.
///
/// # Errors
/// [`VerifyError`] when the file system fails.
pub(crate) fn check_log(
    store: &Store,
    anchors: &Anchors,
) -> Result<Result<AuditView, Vec<Finding>>, VerifyError> {
    let mut verifier = Verifier::new(store);
    let log = verifier.whole_log(anchors);
    Ok(match log {
        Some((audit, _)) if verifier.report.ok() => Ok(audit),
        _ => Err(verifier.report.findings),
    })
}

/// A finding that evidence is not what it was.
pub(crate) fn damaged(path: &str, expected: String, got: String) -> Finding {
    Finding {
        check: "record",
        severity: Severity::Error,
        path: path.to_owned(),
        offset: None,
        expected,
        got,
        hint: RESTORE.to_owned(),
    }
}

const RESTORE: &str = "restore the file from a copy; the runs that reach it prove nothing until then";

/// The content of a task's inputs as a ledger recorded it; `None` when an entry lacks one.
pub(crate) fn recorded_inputs(
    plan: &Plan,
    entries: &[Entry],
    inputs: &[InputSource],
) -> Option<Vec<ObjectId>> {
    let content = |input: &InputSource| match input {
        InputSource::Data(name) => plan.spec().data.iter().find(|d| d.name == *name).map(|d| d.digest),
        InputSource::Output { task, output } => entries.iter().find(|e| e.task == *task)?.output(output),
    };
    inputs.iter().map(content).collect()
}

struct Verifier<'a> {
    store: &'a Store,
    /// Every run that the log holds.
    rows: Vec<RunRow>,
    objects: Objects,
    report: VerifyReport,
    /// Objects that were hashed and found whole.
    whole: BTreeSet<ObjectId>,
}

impl<'a> Verifier<'a> {
    fn new(store: &'a Store) -> Self {
        let report = VerifyReport {
            runs: Vec::new(),
            bytes_hashed: 0,
            files_hashed: 0,
            tree_size: 0,
            tree_root: String::new(),
            signed_by: String::new(),
            findings: Vec::new(),
            unreferenced: Vec::new(),
            not_provable_here: Vec::new(),
        };
        Self { store, rows: Vec::new(), objects: store.objects(), report, whole: BTreeSet::new() }
    }

    fn find(&mut self, check: &'static str, path: &str, offset: Option<u64>, expected: String, got: String) {
        let hint = RESTORE.to_owned();
        let path = path.to_owned();
        // What is said may be recorded, and no path of a machine ever is.
        let root = format!("{}/", self.store.root().display());
        let (expected, got) = (expected.replace(&root, ""), got.replace(&root, ""));
        let finding = Finding { check, severity: Severity::Error, path, offset, expected, got, hint };
        tracing::warn!(%finding, "verification found");
        self.report.findings.push(finding);
    }

    fn has_finding(&self, path: &str) -> bool {
        self.report.findings.iter().any(|f| f.path == path)
    }

    fn relative(&self, path: &Path) -> String {
        let relative = path.strip_prefix(self.store.root()).unwrap_or(path);
        relative.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    }

    /// The audit log with its events, and what the auditor's pins say of it.
    fn whole_log(&mut self, anchors: &Anchors) -> Option<(AuditView, Judged)> {
        let audit = self.audit_log(&anchors.keys)?;
        let mut judged = anchors.judge_pins(&audit, &self.store.origin());
        self.report.findings.append(&mut judged.findings);
        self.repeated_events(&audit);
        self.rejected_keys(&audit, &audit.keyring());
        Some((audit, judged))
    }

    /// The audit log, when it holds as a whole.
    fn audit_log(&mut self, trusted: &[NoteKey]) -> Option<AuditView> {
        let read = self.store.read_audit(trusted).and_then(|view| {
            // A writer may be between its leaves and its head.
            if view.uncovered() == 0 && view.torn_bytes == 0 {
                return Ok(view);
            }
            self.store.await_audit_writer()?;
            self.store.read_audit(trusted)
        });
        let view = match read {
            Ok(view) => view,
            Err(error) => {
                self.audit_finding(&error);
                return None;
            }
        };
        for name in ["events.log", "head"] {
            self.count_file(&self.store.audit_dir().join(name));
        }
        self.count_file(&self.store.root().join(STORE_FILE));
        if let Some(head) = &view.head {
            self.report.tree_size = head.size;
            self.report.tree_root = head.root_base64();
        }
        self.report.signed_by = view.signer.as_ref().map(ToString::to_string).unwrap_or_default();
        if view.uncovered() > 0 || view.torn_bytes > 0 {
            let offset = view.leaves.get(self.report.tree_size as usize).map(|l| l.offset);
            let got = format!("{} leaves and {} bytes past it", view.uncovered(), view.torn_bytes);
            self.find(
                "head-covers-log",
                "audit/events.log",
                offset,
                "every leaf under the signed head".to_owned(),
                got,
            );
            if let Some(finding) = self.report.findings.last_mut() {
                finding.hint =
                    "a run was interrupted: run its pipeline again, which signs a head over them".to_owned();
            }
        }
        let description = EventBody::StoreCreated { store: self.store.description() };
        match view.events().next() {
            Some(first) if *first == description => {}
            Some(EventBody::StoreCreated { store }) => {
                let (expected, got) = (store.to_string(), self.store.description().to_string());
                self.find("store-description", STORE_FILE, Some(0), expected, got);
            }
            _ => {
                let expected = "the store's creation as the first leaf".to_owned();
                self.find(
                    "store-description",
                    "audit/events.log",
                    Some(0),
                    expected,
                    "another event".to_owned(),
                );
            }
        }
        Some(view)
    }

    fn audit_finding(&mut self, error: &AuditError) {
        let (path, offset, expected) = match error {
            AuditError::Event { path, offset, .. } => (path, Some(*offset), "an event"),
            AuditError::EventId { path, offset, .. } => {
                (path, Some(*offset), "the digest of the event's body")
            }
            AuditError::Log(SignedLogError::Log(LogError::Damaged { path, offset, .. })) => {
                (path, Some(*offset), "an undamaged record")
            }
            AuditError::Log(
                SignedLogError::Head { path, .. }
                | SignedLogError::Origin { path, .. }
                | SignedLogError::NoKey { path, .. },
            ) => (path, Some(0), "a signed tree head"),
            AuditError::Log(SignedLogError::Missing { path, .. }) => {
                (path, None, "every leaf under the signed head")
            }
            AuditError::Log(SignedLogError::Root { path, .. }) => (path, None, "the root that was signed"),
            AuditError::Log(SignedLogError::File(e) | SignedLogError::Log(LogError::File(e))) => {
                (&e.path, None, "a readable file")
            }
            _ => (&self.store.audit_dir(), None, "an audit log"),
        };
        let path = self.relative(path);
        self.find("audit-log", &path, offset, expected.to_owned(), error.to_string());
    }

    fn count_file(&mut self, path: &Path) {
        if let Ok(Some(EntryKind::File(bytes))) = self.store.files().entry(path) {
            self.count(bytes);
        }
    }

    fn count(&mut self, bytes: u64) {
        self.report.bytes_hashed += bytes;
        self.report.files_hashed += 1;
    }

    /// Verifies a sealed run.
    fn run(&mut self, row: &RunRow, artifact_keys: &[NoteKey]) -> Result<(), VerifyError> {
        let dir = format!("runs/{}", row.run);
        // What the chain and the plan say is told more exactly than what the inventory says; so it comes first.
        match RunFolder::open_recorded(self.store, row) {
            Ok(folder) => self.chain_and_manifest(&folder, row, artifact_keys)?,
            Err(error) => self.run_error(&dir, &error),
        }
        self.inventory(row, &dir)?;
        for verdict in &row.verdicts {
            if let Some(bytes) = self.object(&verdict.verdict) {
                self.verdict(row, verdict, &bytes);
            }
        }
        Ok(())
    }

    /// A verdict must be what its inputs give, and about this run and its policy.
    fn verdict(&mut self, row: &RunRow, verdict: &RecordedVerdict, bytes: &[u8]) {
        let checked = RunFolder::open_recorded(self.store, row)
            .map_err(|e| e.to_string())
            .and_then(|folder| judge::check_verdict(self.store, &folder, row, &self.rows, verdict, bytes));
        if let Err(got) = checked {
            let expected = "the verdict that this run and its policy give".to_owned();
            self.find("verdict", &object_path(&verdict.verdict), None, expected, got);
        }
    }

    fn run_error(&mut self, dir: &str, error: &RunError) {
        let (path, offset) = match error {
            RunError::Plan { path, .. }
            | RunError::Header { path, .. }
            | RunError::Manifest { path, .. }
            | RunError::NotAsRecorded { path, .. }
            | RunError::Telemetry { path, .. } => (self.relative(path), Some(0)),
            RunError::File(e) => (self.relative(&e.path), None),
            RunError::Ledger(error) => {
                let offset = match error {
                    LedgerError::Log(LogError::Damaged { offset, .. })
                    | LedgerError::Chain { offset, .. }
                    | LedgerError::Encoding { offset, .. }
                    | LedgerError::NotAsPlanned { offset, .. } => Some(*offset),
                    _ => None,
                };
                (format!("{dir}/{LEDGER}"), offset)
            }
            _ => (dir.to_owned(), None),
        };
        self.find("record", &path, offset, "what was sealed".to_owned(), error.to_string());
    }

    fn chain_and_manifest(
        &mut self,
        folder: &RunFolder,
        row: &RunRow,
        artifact_keys: &[NoteKey],
    ) -> Result<(), VerifyError> {
        let dir = format!("runs/{}", row.run);
        let Some(seal) = &row.seal else { return Ok(()) };
        let ledger = match folder.ledger() {
            Ok(ledger) => ledger,
            Err(error) => {
                self.run_error(&dir, &error);
                return Ok(());
            }
        };
        let ledger_path = format!("{dir}/{LEDGER}");
        if ledger.root != seal.ledger_root || ledger.torn_bytes > 0 {
            let got = format!("{} with {} bytes after its last entry", ledger.root, ledger.torn_bytes);
            self.find("ledger-root", &ledger_path, None, seal.ledger_root.to_string(), got);
        }
        let result = result_root(&ledger.entries);
        if result != seal.result_root {
            self.find("result-root", &ledger_path, None, seal.result_root.to_string(), result.to_string());
        }
        let controls = self.governance(folder, row, &ledger, artifact_keys);
        self.entries(folder, seal, &ledger, &ledger_path, controls);
        self.manifest(folder, &ledger, &dir, artifact_keys);
        self.trainings(folder, &ledger, &ledger_path, artifact_keys);
        self.kept_data(folder);
        self.artifacts(folder, &ledger, artifact_keys)?;
        Ok(())
    }

    /// There must be an entry for every task, unless one or a control before one failed, with the outputs that the plan declares
    /// or a cause that failed, and with the action that the plan and the recorded inputs give.
    fn entries(
        &mut self,
        folder: &RunFolder,
        seal: &Seal,
        ledger: &LedgerView,
        path: &str,
        controls: Option<Controls>,
    ) {
        let spec = folder.plan.spec();
        let stopped = spec.on_failure == OnFailure::Stop
            && ledger.entries.last().is_some_and(|e| matches!(e.outcome, Outcome::Failed { .. }));
        // Of what the controls said nothing is known where their ledger is damaged, which is found.
        let refused = controls.is_none_or(|controls| controls.refused);
        if ledger.entries.len() != folder.plan.len() && !stopped && !refused {
            let expected = format!("{} entries", folder.plan.len());
            self.find("complete", path, None, expected, format!("{} entries", ledger.entries.len()));
        }
        let passed = controls.map_or(seal.succeeded, |controls| controls.passed);
        let succeeded = passed && ledger.entries.iter().all(|e| matches!(e.outcome, Outcome::Done { .. }));
        if seal.succeeded != succeeded {
            let got = format!("succeeded: {succeeded}");
            self.find("succeeded", path, None, format!("succeeded: {}", seal.succeeded), got);
        }
        for (task, entry) in folder.plan.tasks().zip(&ledger.entries) {
            let (expected, got) = match &entry.outcome {
                Outcome::Done { outputs } => (
                    task.spec.outputs.join(", "),
                    outputs.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", "),
                ),
                Outcome::Skipped { cause } => {
                    let failed =
                        ledger.entry(cause).is_some_and(|e| matches!(e.outcome, Outcome::Failed { .. }));
                    let got = if failed { "failed" } else { "did not fail" };
                    (format!("{cause} failed"), format!("{cause} {got}"))
                }
                Outcome::Failed { .. } => continue,
            };
            if expected != got {
                let check = "outcome";
                self.find(check, path, None, format!("task {}: {expected}", entry.task), got);
            }
        }
        // What each entry alone does not show: that all of them together are an execution of the plan.
        if let (Err(misfit), true) = (Board::new(&folder.plan, &ledger.entries), self.report.ok()) {
            let expected = "entries that an execution of the plan makes".to_owned();
            self.find("outcome", path, None, expected, misfit.to_string());
        }
        for (task, entry) in folder.plan.tasks().zip(&ledger.entries) {
            let inputs = recorded_inputs(&folder.plan, &ledger.entries, &task.spec.inputs);
            let expected = match (&entry.outcome, inputs) {
                (Outcome::Skipped { .. }, _) => None,
                (_, Some(inputs)) => Some(action_digest(task.spec, &inputs, spec.seed, spec.numerics)),
                (_, None) => None,
            };
            if entry.action != expected {
                let show = |a: &Option<_>| {
                    a.as_ref().map_or("none".to_owned(), |a: &bitproof_scheduler::ActionDigest| a.to_string())
                };
                let check = "action-digest";
                self.find(
                    check,
                    path,
                    None,
                    format!("{} of task {}", show(&expected), entry.task),
                    show(&entry.action),
                );
            }
        }
    }

    /// The manifest must be what plan, ledger and metrics give, and its signature must hold.
    fn manifest(&mut self, folder: &RunFolder, ledger: &LedgerView, dir: &str, keys: &[NoteKey]) {
        let path = format!("{dir}/{MANIFEST}");
        let recorded = match folder.manifest() {
            Ok(manifest) => manifest,
            Err(error) => {
                self.run_error(dir, &error);
                return;
            }
        };
        // Metrics and segments that are damaged are found as objects.
        let metrics = collect_metrics(&self.objects, &ledger.entries);
        let roots = step_roots(&self.objects, &folder.plan, &ledger.entries);
        if let (Ok(metrics), Ok(roots)) = (metrics, roots) {
            let given = Manifest::new(&folder.plan, &ledger.entries, &metrics, &roots);
            if recorded != given {
                let (recorded, given) = (recorded.encode(), given.encode());
                let same = recorded.iter().zip(&given).take_while(|(a, b)| a == b).count();
                let expected = "what the plan, the ledger, the metrics and the segments give".to_owned();
                self.find("manifest", &path, Some(same as u64), expected, "another manifest".to_owned());
            }
        }
        self.signature(folder, MANIFEST, &recorded.encode(), keys);
    }

    fn signature(&mut self, folder: &RunFolder, file: &str, bytes: &[u8], keys: &[NoteKey]) {
        let file_name = file.rsplit('/').next().unwrap_or(file);
        let path = folder.path(&format!("{file}{SIGNATURE_SUFFIX}"));
        let relative = self.relative(&path);
        let checked = self
            .store
            .files()
            .read_bounded(&path, CANON_BYTES as u64)
            .map_err(|e| e.to_string())
            .and_then(|note| signature::verify(&note, file_name, bytes, keys).map_err(|e| e.to_string()));
        if let Err(got) = checked {
            self.find("signature", &relative, None, format!("a signature of {file} by an enrolled key"), got);
        }
    }

    /// The files of a package must be the outputs that the ledger names, with a signature beside the model.
    fn artifacts(
        &mut self,
        folder: &RunFolder,
        ledger: &LedgerView,
        keys: &[NoteKey],
    ) -> Result<(), VerifyError> {
        use bitproof_training::{run_folder::ARTIFACTS, stages};
        for (task, entry) in folder.plan.tasks().zip(&ledger.entries) {
            let Outcome::Done { outputs } = &entry.outcome else { continue };
            if task.spec.code.native().is_none_or(|native| native.kind != stages::PACKAGE) {
                continue;
            }
            for (output, id) in outputs {
                let file = format!("{ARTIFACTS}/{}/{}", task.spec.id, stages::package_file(output));
                let relative = format!("runs/{}/{file}", folder.name);
                // A file that is absent or unreadable is found by the inventory.
                let Ok(bytes) = self.store.files().read_bounded(&folder.path(&file), OBJECT_IN_MEMORY_BYTES)
                else {
                    continue;
                };
                let got = ObjectId::of_bytes(&bytes);
                if got == *id && output == stages::MODEL {
                    self.signature(folder, &file, &bytes, keys);
                } else if got != *id && self.inventory_has(folder, &relative, got) {
                    self.find("artifact", &relative, None, id.to_string(), got.to_string());
                }
            }
        }
        Ok(())
    }

    /// Whether the inventory lists the file with this content: then only the ledger can tell that it is another one.
    fn inventory_has(&self, folder: &RunFolder, path: &str, content: Digest<Content>) -> bool {
        let bytes =
            self.store.files().read_bounded(&folder.path(INVENTORY), CANON_BYTES as u64).unwrap_or_default();
        Inventory::decode(&bytes)
            .is_ok_and(|inventory| inventory.entries().iter().any(|e| e.path == path && e.digest == content))
    }

    fn kept_data(&mut self, folder: &RunFolder) {
        for data in &folder.plan.spec().data {
            if !self.objects.contains(&data.digest) {
                let text = format!(
                    "that the data input {} ({}) still exists: the store keeps its digest, not its bytes",
                    data.name, data.digest
                );
                self.report.not_provable_here.push(text);
            }
        }
    }

    /// Every file that the inventory lists is hashed; every file of the folder must be listed.
    fn inventory(&mut self, row: &RunRow, dir: &str) -> Result<(), VerifyError> {
        let Some(seal) = &row.seal else { return Ok(()) };
        let path = format!("{dir}/{INVENTORY}");
        let bytes = match self.store.files().read_bounded(&self.store.root().join(&path), CANON_BYTES as u64)
        {
            Ok(bytes) => bytes,
            Err(error) => {
                self.find("inventory", &path, None, seal.inventory.to_string(), error.to_string());
                return Ok(());
            }
        };
        self.count(bytes.len() as u64);
        let got = Digest::<Content>::of_bytes(&bytes);
        if got != seal.inventory {
            self.find("inventory", &path, Some(0), seal.inventory.to_string(), got.to_string());
            return Ok(());
        }
        let inventory = match Inventory::decode(&bytes) {
            Ok(inventory) => inventory,
            Err(error) => {
                self.find("inventory", &path, Some(0), "an inventory".to_owned(), error.to_string());
                return Ok(());
            }
        };
        let listed: BTreeSet<&str> = inventory.entries().iter().map(|e| e.path.as_str()).collect();
        for entry in inventory.entries() {
            self.listed_file(entry);
        }
        self.unlisted(row, &listed)
    }

    fn listed_file(&mut self, entry: &InventoryEntry) {
        // A file that is far too long is not read to find out that it is another one.
        let path = self.store.root().join(&entry.path);
        if let Ok(Some(EntryKind::File(size))) = self.store.files().entry(&path) {
            if size > entry.size.saturating_add(1 << 20) {
                let (expected, got) = (format!("{} bytes", entry.size), format!("{size} bytes"));
                self.find("size", &entry.path, Some(entry.size), expected, got);
                return;
            }
        }
        let checked =
            self.store.files().open(&path).and_then(|file| {
                entry.check(&*file, self.store.threads()).map_err(FileError::at("read", &path))
            });
        let held = match checked {
            Ok(held) => held,
            Err(error) => {
                if !self.has_finding(&entry.path) {
                    self.find("content", &entry.path, None, entry.digest.to_string(), error.to_string());
                }
                return;
            }
        };
        match held {
            Ok(bytes) => {
                self.count(bytes);
                if let Some(id) = object_id(&entry.path) {
                    self.whole.insert(id);
                }
            }
            Err(m) => {
                self.count(m.size);
                if self.has_finding(&entry.path) {
                    return;
                }
                let expected = format!("{} ({} bytes)", entry.digest, entry.size);
                let got = format!(
                    "{} ({} bytes; bytes {} to {} differ)",
                    m.got,
                    m.size,
                    m.offset,
                    m.offset + m.len
                );
                self.find("content", &entry.path, Some(m.offset), expected, got);
            }
        }
    }

    fn unlisted(&mut self, row: &RunRow, listed: &BTreeSet<&str>) -> Result<(), VerifyError> {
        let Ok(folder) = RunFolder::open(self.store, &row.run) else { return Ok(()) };
        let files = match folder.evidence_files() {
            Ok(files) => files,
            // Neither a file nor a folder, or unreadable: it is no evidence.
            Err(error) => {
                let path = self.relative(&error.path);
                self.find("unlisted", &path, None, "a file".to_owned(), error.to_string());
                return Ok(());
            }
        };
        for path in files {
            if !listed.contains(path.as_str()) {
                let expected = "no file that the inventory does not list".to_owned();
                self.find("unlisted", &path, None, expected, "a file".to_owned());
            }
        }
        Ok(())
    }

    /// Hashes an object once; its bytes when it is whole.
    fn object(&mut self, id: &ObjectId) -> Option<Vec<u8>> {
        match self.objects.get(id) {
            Ok(bytes) => {
                if self.whole.insert(*id) {
                    self.count(bytes.len() as u64);
                }
                Some(bytes)
            }
            Err(error) => {
                self.object_error(id, &error);
                None
            }
        }
    }

    /// Hashes an object of any size once, in constant memory.
    fn hash_object(&mut self, id: &ObjectId) {
        if self.whole.contains(id) {
            return;
        }
        match self.objects.verify(id) {
            Ok(bytes) => {
                self.whole.insert(*id);
                self.count(bytes);
            }
            Err(error) => self.object_error(id, &error),
        }
    }

    fn object_error(&mut self, id: &ObjectId, error: &ObjectError) {
        let path = object_path(id);
        match error {
            _ if self.has_finding(&path) => {}
            ObjectError::Damaged { got, .. } => {
                self.find("content", &path, Some(0), id.to_string(), got.to_string());
            }
            error => self.find("content", &path, None, id.to_string(), error.to_string()),
        }
    }

    /// Objects that were not reached are hashed too and listed; files that do not belong are listed.
    fn everything_else(&mut self, index: &RunIndex, reached: &BTreeSet<ObjectId>) -> Result<(), VerifyError> {
        let runs: BTreeMap<&str, &RunRow> = index.rows.iter().map(|r| (r.run.as_str(), r)).collect();
        for name in RunFolder::names(self.store)? {
            match runs.get(name.as_str()) {
                None => self.report.unreferenced.push(format!("runs/{name}")),
                Some(row) if row.seal.is_none() => {
                    self.report.unreferenced.push(format!("runs/{name} (incomplete)"))
                }
                Some(_) => {}
            }
        }
        let files = self.store.files();
        for (file, _) in files.files_below(self.objects.dir())? {
            let relative = format!("objects/{file}");
            match object_id(&relative) {
                None => self.report.unreferenced.push(relative),
                Some(id) => {
                    self.hash_object(&id);
                    if !reached.contains(&id) {
                        self.report.unreferenced.push(relative);
                    }
                }
            }
        }
        let leftovers = files.files_below(&self.store.staging())?;
        self.report.unreferenced.extend(leftovers.into_iter().map(|(file, _)| format!("tmp/{file}")));
        Ok(())
    }
}

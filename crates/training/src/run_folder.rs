//! Runs on disk: the folder of one run, and the list of all of them as the audit log tells it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitproof_core_ledger::chain::ChainHead;
use bitproof_core_ledger::digest::{Content, Digest, ResultKind};
use bitproof_core_ledger::events::{AuditError, AuditView, EventBody, VerdictKind};
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::inventory::{Inventory, InventoryError};
use bitproof_core_ledger::limits::CANON_BYTES;
use bitproof_core_ledger::storage::EntryKind;
use bitproof_core_ledger::store::{hex, random_id, Store, StoreError, StoreLock};
use bitproof_experiment_graph::RunFacts;
use bitproof_scheduler::command::CodeFile;
use bitproof_scheduler::ledger::{Entry, LedgerError, LedgerView};
use bitproof_scheduler::{Plan, PlanDigest, PlanError, TaskSpec};
use bitproof_telemetry::{read_jsonl, Record, TelemetryError};
use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::governance::{self, GovernanceError, GovernanceView};
use crate::manifest::{Manifest, ManifestError};
use crate::observed::{self, ObservedTask};

/// The plan's canonical bytes.
pub const PLAN: &str = "plan.bin";
/// The run's name and unique id.
pub const HEADER: &str = "run.json";
/// The ledger.
pub const LEDGER: &str = "ledger.log";
/// The governance ledger; there is none where the plan demands no control.
pub const GOVERNANCE_LEDGER: &str = "governance.log";
/// The manifest.
pub const MANIFEST: &str = "manifest.json";
/// The evidence.
pub const EVIDENCE: &str = "evidence.json";
/// The inventory; the one file of the folder that it does not list.
pub const INVENTORY: &str = "inventory.bin";
/// The folder of telemetry, one file a group of tasks.
pub const TELEMETRY: &str = "telemetry";
/// The folder of what was observed of tasks, one file a group of them.
pub const OBSERVED: &str = "observed";
/// The folder of packaged artifacts, one folder a stage.
pub const ARTIFACTS: &str = "artifacts";
/// The folder of what trainings under way go on from after a crash; nothing is left of it when the run is sealed.
pub const RESUME: &str = "resume";
/// The folder of the signatures of checkpoints, one folder a training.
pub const CHECKPOINTS: &str = "checkpoints";
/// What is appended to a file's name for its detached signature.
pub const SIGNATURE_SUFFIX: &str = ".sig";

const MAX_PLAN_BYTES: u64 = CANON_BYTES as u64;
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// More than a collector holds.
const MAX_TELEMETRY_BYTES: u64 = 1 << 30;
const MAX_RUNS: u64 = 1 << 32;
const MIN_UID_PREFIX: usize = 4;
const HEADER_SCHEMA: &str = "bitproof/run-header/v1";

/// A run that cannot be found or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The plan is damaged.
    #[error("{}: {source}", path.display())]
    Plan {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: PlanError,
    },
    /// The run's header is damaged.
    #[error("{}: {reason}", path.display())]
    Header {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The manifest is damaged.
    #[error("{}: {source}", path.display())]
    Manifest {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: ManifestError,
    },
    /// The inventory is damaged.
    #[error("{}: {source}", path.display())]
    Inventory {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: InventoryError,
    },
    /// Telemetry is damaged.
    #[error("{}: {source}", path.display())]
    Telemetry {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: TelemetryError,
    },
    /// A file is not the one that the audit log names.
    #[error("{} is not what the audit log holds: expected {expected}, got {got}", path.display())]
    NotAsRecorded {
        /// The file.
        path: PathBuf,
        /// What the log holds.
        expected: String,
        /// What the file says.
        got: String,
    },
    /// The ledger is damaged.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The governance ledger is damaged.
    #[error(transparent)]
    Governance(#[from] GovernanceError),
    /// The evidence is damaged.
    #[error("{}: {reason}", path.display())]
    Evidence {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The audit log is damaged.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// No run answers to the selector.
    #[error("no run {selector:?}; there are: {known}")]
    Unknown {
        /// What was asked for.
        selector: String,
        /// The newest runs.
        known: String,
    },
    /// More than one run answers to the prefix of a uid.
    #[error("{selector:?} is the beginning of more than one run's uid: {matches}")]
    Ambiguous {
        /// What was asked for.
        selector: String,
        /// The runs.
        matches: String,
    },
    /// The run was not finished.
    #[error("run {run} is incomplete: running its pipeline again takes it up where it stopped")]
    Incomplete {
        /// Its name.
        run: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    schema: String,
    run: String,
    uid: String,
}

/// The folder of one run.
#[derive(Debug, Clone)]
pub struct RunFolder {
    /// The run's name: the pipeline's (or the given one), a hyphen, a number.
    pub name: String,
    /// The run's unique id.
    pub uid: [u8; 16],
    /// The plan.
    pub plan: Plan,
    files: Files,
    dir: PathBuf,
}

impl RunFolder {
    /// Makes the folder of a new run under the next free number. Its plan and header appear with it, or not at all.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn create(store: &Store, base: &str, plan: Plan) -> Result<Self, RunError> {
        let _numbering: StoreLock = store.lock_exclusive("numbering")?;
        let runs = store.runs_dir();
        let files = store.files().clone();
        let number = Self::names(store)?
            .iter()
            .filter_map(|n| split_name(n))
            .filter(|(b, _)| *b == base)
            .map(|(_, n)| n)
            .max();
        let name = format!("{base}-{}", number.map_or(1, |n| n + 1));
        let uid = random_id()?;
        let staged = store.staging().join(format!("run-{}", hex(&uid)));
        files.create_dir_all(&staged)?;
        let header = Header { schema: HEADER_SCHEMA.to_owned(), run: name.clone(), uid: hex(&uid) };
        let (header, encoded) = (pretty(&header), plan.encode());
        files.write_all_new(&[
            (staged.join(HEADER), header.as_slice()),
            (staged.join(PLAN), encoded.as_slice()),
        ])?;
        files.sync_dir(&staged)?;
        let dir = runs.join(&name);
        files.rename(&staged, &dir)?;
        files.sync_dir(&runs)?;
        Ok(Self { name, uid, plan, files, dir })
    }

    /// Opens the folder of the run with exactly this name.
    ///
    /// # Errors
    /// [`RunError`] with the file that is damaged.
    pub fn open(store: &Store, name: &str) -> Result<Self, RunError> {
        let dir = store.runs_dir().join(name);
        let path = dir.join(HEADER);
        let damaged = |reason: &str| RunError::Header { path: path.clone(), reason: reason.to_owned() };
        let files = store.files().clone();
        let bytes = files.read_bounded(&path, MAX_TEXT_BYTES)?;
        let header: Header = serde_json::from_slice(&bytes).map_err(|e| damaged(&e.to_string()))?;
        if pretty(&header) != bytes || header.schema != HEADER_SCHEMA || header.run != name {
            return Err(damaged("it is not the header of this run"));
        }
        let uid = parse_uid(&header.uid).ok_or_else(|| damaged("its uid is not 32 hex digits"))?;
        let path = dir.join(PLAN);
        let plan = Plan::decode(&files.read_bounded(&path, MAX_PLAN_BYTES)?)
            .map_err(|source| RunError::Plan { path, source })?;
        Ok(Self { name: name.to_owned(), uid, plan, files, dir })
    }

    /// Opens the folder of a run that the audit log holds: its uid and plan must be those of the log.
    ///
    /// # Errors
    /// As [`RunFolder::open`], and [`RunError::NotAsRecorded`].
    pub fn open_recorded(store: &Store, row: &RunRow) -> Result<Self, RunError> {
        let folder = Self::open(store, &row.run)?;
        let differs = |file: &str, expected: String, got: String| RunError::NotAsRecorded {
            path: folder.path(file),
            expected,
            got,
        };
        if folder.uid != row.uid {
            return Err(differs(HEADER, hex(&row.uid), folder.uid_hex()));
        }
        if folder.plan.digest() != row.plan {
            return Err(differs(PLAN, row.plan.to_string(), folder.plan.digest().to_string()));
        }
        Ok(folder)
    }

    /// Reads the ledger of a sealed run, whose root must be the one that was sealed.
    ///
    /// # Errors
    /// [`RunError::Ledger`], [`RunError::NotAsRecorded`], [`RunError::Incomplete`] without a seal.
    pub fn sealed_ledger(&self, row: &RunRow) -> Result<LedgerView, RunError> {
        let seal = row.seal.as_ref().ok_or_else(|| RunError::Incomplete { run: row.run.clone() })?;
        let ledger = self.ledger()?;
        if ledger.root == seal.ledger_root {
            return Ok(ledger);
        }
        Err(RunError::NotAsRecorded {
            path: self.path(LEDGER),
            expected: seal.ledger_root.to_string(),
            got: ledger.root.to_string(),
        })
    }

    /// The entries that a run which is not sealed has committed: what is left of them after a stop.
    ///
    /// # Errors
    /// [`RunError::Ledger`] when what is there is not of this run's plan.
    pub fn committed(&self) -> Result<Vec<Entry>, RunError> {
        let path = self.path(LEDGER);
        // The folder is there before its ledger.
        if self.files.entry(&path)?.is_none() {
            return Ok(Vec::new());
        }
        Ok(LedgerView::read_unsealed(&self.files, &path, &self.plan)?.entries)
    }

    /// Reads the inventory of a sealed run, which must be the one that was sealed.
    ///
    /// # Errors
    /// [`RunError::NotAsRecorded`], [`RunError::Inventory`], [`RunError::Incomplete`] without a seal.
    pub fn sealed_inventory(&self, row: &RunRow) -> Result<Inventory, RunError> {
        let seal = row.seal.as_ref().ok_or_else(|| RunError::Incomplete { run: row.run.clone() })?;
        let path = self.path(INVENTORY);
        let bytes = self.files.read_bounded(&path, CANON_BYTES as u64)?;
        let got = Digest::<Content>::of_bytes(&bytes);
        if got != seal.inventory {
            let (expected, got) = (seal.inventory.to_string(), got.to_string());
            return Err(RunError::NotAsRecorded { path, expected, got });
        }
        Inventory::decode(&bytes).map_err(|source| RunError::Inventory { path, source })
    }

    /// The names of every folder of a run in the store, sorted.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn names(store: &Store) -> Result<Vec<String>, FileError> {
        let entries = store.files().list(&store.runs_dir())?.into_iter();
        Ok(entries.filter(|(_, kind)| *kind == EntryKind::Folder).map(|(name, _)| name).collect())
    }

    /// A run's name without its number.
    pub fn base_of(name: &str) -> &str {
        split_name(name).map_or(name, |(base, _)| base)
    }

    /// The run's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a file of the run.
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// The unique id in hex.
    pub fn uid_hex(&self) -> String {
        hex(&self.uid)
    }

    /// Reads and checks the ledger.
    ///
    /// # Errors
    /// [`RunError::Ledger`].
    pub fn ledger(&self) -> Result<LedgerView, RunError> {
        Ok(LedgerView::read(&self.files, &self.path(LEDGER), &self.plan)?)
    }

    /// Reads and checks the governance ledger; `None` where the plan demands no control.
    ///
    /// # Errors
    /// [`RunError::Governance`].
    pub fn governance(&self) -> Result<Option<GovernanceView>, RunError> {
        if governance::compile(&self.plan)?.is_empty() {
            return Ok(None);
        }
        let path = self.path(GOVERNANCE_LEDGER);
        Ok(Some(GovernanceView::read(&self.files, &path, &self.plan, &self.uid)?))
    }

    /// Reads the evidence.
    ///
    /// # Errors
    /// [`RunError::Evidence`].
    pub fn evidence(&self) -> Result<Evidence, RunError> {
        let path = self.path(EVIDENCE);
        let bytes = self.files.read_bounded(&path, MAX_TEXT_BYTES)?;
        serde_json::from_slice(&bytes).map_err(|e| RunError::Evidence { path, reason: e.to_string() })
    }

    /// Reads the manifest.
    ///
    /// # Errors
    /// [`RunError::Manifest`].
    pub fn manifest(&self) -> Result<Manifest, RunError> {
        let path = self.path(MANIFEST);
        let bytes = self.files.read_bounded(&path, MAX_TEXT_BYTES)?;
        Manifest::decode(&bytes).map_err(|source| RunError::Manifest { path, source })
    }

    /// Reads the telemetry of every task, in the order of the plan.
    ///
    /// # Errors
    /// [`RunError::Telemetry`].
    pub fn telemetry(&self) -> Result<Vec<Record>, RunError> {
        let mut measured = self.measured(|_, _| true)?;
        Ok(self.plan.tasks().filter_map(|task| measured.remove(&task.spec.id.0)).flatten().collect())
    }

    /// The telemetry of each task, from the files that `is_wanted` by their path in the store and their bytes. Of a task that
    /// stands in two files, since a process stopped between them, what stands in the later one counts.
    pub(crate) fn measured(
        &self,
        is_wanted: impl Fn(&str, &[u8]) -> bool,
    ) -> Result<BTreeMap<String, Vec<Record>>, RunError> {
        let dir = self.path(TELEMETRY);
        let mut measured = BTreeMap::new();
        if self.files.entry(&dir)?.is_none() {
            return Ok(measured);
        }
        for (name, _) in self.files.list(&dir)? {
            let path = dir.join(&name);
            let bytes = self.files.read_bounded(&path, MAX_TELEMETRY_BYTES)?;
            if !is_wanted(&format!("runs/{}/{TELEMETRY}/{name}", self.name), &bytes) {
                continue;
            }
            let records = read_jsonl(&bytes).map_err(|source| RunError::Telemetry { path, source })?;
            let mut group: BTreeMap<String, Vec<Record>> = BTreeMap::new();
            for record in records {
                if let Some(task) = record.tags.get("task") {
                    group.entry(task.clone()).or_default().push(record);
                }
            }
            measured.extend(group);
        }
        Ok(measured)
    }

    /// What was observed of each task.
    ///
    /// # Errors
    /// [`RunError::File`].
    pub fn observed(&self) -> Result<BTreeMap<String, ObservedTask>, RunError> {
        Ok(observed::read(&self.files, &self.path(OBSERVED))?)
    }

    /// What a comparison looks at, with the run's metrics.
    pub fn facts_with(&self, metrics: BTreeMap<String, f64>) -> RunFacts {
        let spec = self.plan.spec();
        let params = spec.tasks.iter().flat_map(|task| {
            task.params.iter().map(move |(key, value)| (format!("{}.{key}", task.id), value.to_string()))
        });
        RunFacts {
            run: self.name.clone(),
            uid: self.uid_hex(),
            plan_digest: self.plan.digest().to_string(),
            data: spec.data.iter().map(|d| (d.name.clone(), d.digest.to_string())).collect(),
            params: params.collect(),
            code: spec.tasks.iter().flat_map(code_of).collect(),
            seed: spec.seed,
            kernels_spec: spec.numerics,
            metrics,
        }
    }

    /// Every regular file of the folder except the inventory, relative to the store, sorted.
    ///
    /// # Errors
    /// [`FileError`]; also for anything that is neither a file nor a folder.
    pub fn evidence_files(&self) -> Result<Vec<String>, FileError> {
        let mut evidence = Vec::new();
        for (file, kind) in self.files.files_below(&self.dir)? {
            if kind == EntryKind::Special {
                let source = std::io::Error::other("neither a file nor a folder");
                return Err(FileError { op: "read", path: self.path(&file), source });
            }
            if file != INVENTORY {
                evidence.push(format!("runs/{}/{file}", self.name));
            }
        }
        Ok(evidence)
    }
}

/// What a task runs, by name: the task; and of a command the files of its code, the lock files of its tools, and the variables that
/// it reads, which are the same for every task of a stage.
fn code_of(task: &TaskSpec) -> Vec<(String, String)> {
    let mut code = vec![(task.id.0.clone(), task.code.to_string())];
    if let Some(command) = task.code.command() {
        let stage = &task.stage;
        let mark = |file: &CodeFile| if file.executable { " (executable)" } else { "" };
        code.extend(
            command.code.iter().map(|f| (format!("{stage}/{}", f.path), format!("{}{}", f.content, mark(f)))),
        );
        let locks = command.tools.iter().filter_map(|(tool, lock)| Some((tool, (*lock)?)));
        code.extend(locks.map(|(tool, lock)| (format!("lock of {tool}"), lock.to_string())));
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        code.extend(command.env.iter().map(|(name, v)| (format!("{stage} ${name}"), value(v))));
    }
    code
}

pub(crate) fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("it has only text keys");
    bytes.push(b'\n');
    bytes
}

fn parse_uid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

/// `digits-3` is number 3 of the base name `digits`.
fn split_name(name: &str) -> Option<(&str, u64)> {
    let (base, number) = name.rsplit_once('-')?;
    let parsed: u64 = number.parse().ok().filter(|&n| n < MAX_RUNS)?;
    (parsed.to_string() == number).then_some((base, parsed))
}

/// What the audit log says of a sealed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The head of its ledger.
    pub ledger_root: ChainHead,
    /// The digest of its outcome.
    pub result_root: Digest<ResultKind>,
    /// The digest of its inventory.
    pub inventory: Digest<Content>,
    /// Whether every task ended well.
    pub succeeded: bool,
    /// When, as the host claimed.
    pub claimed_unix_seconds: u64,
    /// The index of its leaf in the log.
    pub leaf: u64,
}

/// A verdict as the audit log holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedVerdict {
    /// What judged.
    pub kind: VerdictKind,
    /// Which gate or budget of the run's own plan; `None` for other judgements.
    pub policy: Option<u32>,
    /// The metric.
    pub metric: String,
    /// The outcome in a word.
    pub outcome: String,
    /// The object that holds the whole verdict.
    pub verdict: Digest<Content>,
}

/// What the audit log says of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Its name.
    pub run: String,
    /// Its unique id.
    pub uid: [u8; 16],
    /// Its plan.
    pub plan: PlanDigest,
    /// Its seal, once it has one.
    pub seal: Option<Seal>,
    /// Its verdicts, in the order of the log.
    pub verdicts: Vec<RecordedVerdict>,
}

impl RunRow {
    /// `passed`, `failed` or `incomplete`.
    pub fn status(&self) -> &'static str {
        match &self.seal {
            None => "incomplete",
            Some(seal) if seal.succeeded && self.own_verdicts().all(|v| v.outcome != "fail") => "passed",
            Some(_) => "failed",
        }
    }

    /// The verdicts by the gates and budgets of its own plan.
    pub fn own_verdicts(&self) -> impl Iterator<Item = &RecordedVerdict> {
        self.verdicts.iter().filter(|v| v.policy.is_some())
    }

    /// The name without its number.
    pub fn base(&self) -> &str {
        RunFolder::base_of(&self.run)
    }
}

/// Every run of a store, in the order of the audit log.
#[derive(Debug, Clone, Default)]
pub struct RunIndex {
    /// The runs, oldest first.
    pub rows: Vec<RunRow>,
}

impl RunIndex {
    /// Reads and folds a store's audit log.
    ///
    /// # Errors
    /// [`RunError::Audit`] when the log is damaged.
    pub fn read(store: &Store) -> Result<Self, RunError> {
        Ok(Self::new(&store.read_audit(&[])?))
    }

    /// Folds an audit log.
    pub fn new(audit: &AuditView) -> Self {
        let mut rows: Vec<RunRow> = Vec::new();
        for (index, leaf) in audit.covered().iter().enumerate() {
            match &leaf.event.body {
                EventBody::RunPlanned { run, uid, plan } => {
                    // What was said first stands; `verify` reports who says it again.
                    if rows.iter().all(|r| r.uid != *uid && r.run != *run) {
                        let (run, seal, verdicts) = (run.clone(), None, Vec::new());
                        rows.push(RunRow { run, uid: *uid, plan: *plan, seal, verdicts });
                    }
                }
                EventBody::RunSealed { uid, ledger_root, result_root, inventory, succeeded, .. } => {
                    if let Some(row) = rows.iter_mut().find(|r| r.uid == *uid && r.seal.is_none()) {
                        row.seal = Some(Seal {
                            ledger_root: *ledger_root,
                            result_root: *result_root,
                            inventory: *inventory,
                            succeeded: *succeeded,
                            claimed_unix_seconds: leaf.event.claimed_unix_seconds,
                            leaf: index as u64,
                        });
                    }
                }
                EventBody::VerdictRecorded { uid, kind, policy, metric, outcome, verdict } => {
                    if let Some(row) = rows.iter_mut().find(|r| r.uid == *uid) {
                        row.verdicts.push(RecordedVerdict {
                            kind: *kind,
                            policy: *policy,
                            metric: metric.clone(),
                            outcome: outcome.clone(),
                            verdict: *verdict,
                        });
                    }
                }
                EventBody::StoreCreated { .. }
                | EventBody::KeyEnrolled { .. }
                | EventBody::VerificationRecorded { .. }
                | EventBody::KeyRotated { .. }
                | EventBody::KeyRevoked { .. }
                | EventBody::ApprovalRecorded { .. }
                | EventBody::WaiverRecorded { .. }
                | EventBody::RunPromoted { .. } => {}
            }
        }
        Self { rows }
    }

    /// The run that a selector names: a name, `latest`, `latest:NAME`, or the beginning of a uid.
    /// `latest` is the newest sealed run.
    ///
    /// # Errors
    /// [`RunError::Unknown`], [`RunError::Ambiguous`].
    pub fn resolve(&self, selector: &str) -> Result<&RunRow, RunError> {
        if let Some(row) = self.latest(selector, |row| row.seal.is_some()) {
            return Ok(row);
        }
        if let Some(row) = self.rows.iter().find(|r| r.run == selector) {
            return Ok(row);
        }
        let by_uid: Vec<&RunRow> = if selector.len() >= MIN_UID_PREFIX {
            self.rows.iter().filter(|r| hex(&r.uid).starts_with(selector)).collect()
        } else {
            Vec::new()
        };
        match by_uid[..] {
            [one] => Ok(one),
            [] => {
                let newest: Vec<&str> = self.rows.iter().rev().take(5).map(|r| r.run.as_str()).collect();
                let known = if newest.is_empty() { "none yet".to_owned() } else { newest.join(", ") };
                Err(RunError::Unknown { selector: selector.to_owned(), known })
            }
            _ => {
                let matches = by_uid.iter().map(|r| r.run.as_str()).collect::<Vec<_>>().join(", ");
                Err(RunError::Ambiguous { selector: selector.to_owned(), matches })
            }
        }
    }

    /// The run that a gate's baseline names, as seen from the run `of`: another run than itself that was sealed; for
    /// `latest` and `latest:NAME` one that passed, so that a bad run does not become the measure of the next.
    pub fn baseline(&self, selector: &str, of: &[u8; 16]) -> Option<&RunRow> {
        let earlier = self.rows.iter().position(|r| r.uid == *of).unwrap_or(self.rows.len());
        let before = Self { rows: self.rows[..earlier].to_vec() };
        let found = match before.latest(selector, |row| row.status() == "passed") {
            Some(row) => row.uid,
            None if selector == "latest" || selector.starts_with("latest:") => return None,
            None => self.resolve(selector).ok().filter(|r| r.seal.is_some() && r.uid != *of)?.uid,
        };
        self.rows.iter().find(|r| r.uid == found)
    }

    fn latest(&self, selector: &str, wanted: impl Fn(&RunRow) -> bool) -> Option<&RunRow> {
        let base = match selector.strip_prefix("latest") {
            Some("") => None,
            Some(rest) => Some(rest.strip_prefix(':')?),
            None => return None,
        };
        self.rows.iter().rev().find(|r| wanted(r) && base.is_none_or(|b| r.base() == b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(run: &str, uid: u8, outcome: Option<&str>) -> RunRow {
        let seal = outcome.map(|_| Seal {
            ledger_root: Digest::from_bytes([0; 32]),
            result_root: Digest::from_bytes([0; 32]),
            inventory: Digest::from_bytes([0; 32]),
            succeeded: true,
            claimed_unix_seconds: 0,
            leaf: 0,
        });
        let verdict = |outcome: &str| RecordedVerdict {
            policy: Some(0),
            kind: VerdictKind::Gate,
            metric: "m".to_owned(),
            outcome: outcome.to_owned(),
            verdict: Digest::from_bytes([0; 32]),
        };
        let verdicts = outcome.map(verdict).into_iter().collect();
        RunRow { run: run.to_owned(), uid: [uid; 16], plan: Digest::from_bytes([0; 32]), seal, verdicts }
    }

    #[test]
    fn selectors_and_baselines() {
        let index = RunIndex {
            rows: vec![
                row("a-1", 0x11, Some("pass")),
                row("b-1", 0x12, Some("pass")),
                row("a-2", 0x22, Some("fail")),
                row("a-3", 0x33, Some("pass")),
                row("a-4", 0x44, None),
            ],
        };
        let resolve = |s: &str| index.resolve(s).map(|r| r.run.clone()).map_err(|e| e.to_string());
        assert_eq!(resolve("latest").unwrap(), "a-3");
        assert_eq!(resolve("latest:b").unwrap(), "b-1");
        assert_eq!(resolve("a-4").unwrap(), "a-4");
        assert_eq!(resolve("2222").unwrap(), "a-2");
        assert_eq!(resolve("c-1").unwrap_err(), "no run \"c-1\"; there are: a-4, a-3, a-2, b-1, a-1");
        let baseline = |s: &str, of: u8| index.baseline(s, &[of; 16]).map(|r| r.run.clone());
        assert_eq!(baseline("latest:a", 0x33).as_deref(), Some("a-1"), "a failed run is no baseline");
        assert_eq!(baseline("latest:a", 0x11), None);
        assert_eq!(baseline("a-2", 0x33).as_deref(), Some("a-2"));
        assert_eq!(baseline("a-3", 0x33), None, "a run is not its own baseline");
        assert_eq!(baseline("a-4", 0x33), None, "an unsealed run is no baseline");
    }
}

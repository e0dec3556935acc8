//! One run's ledger: the hash chain of what was executed, in commit order, bound to the plan.
//! `docs/formats/ledger.md` is normative.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon::{self, CanonError};
use bitproof_core_ledger::chain::{Chain, ChainError, ChainHead};
use bitproof_core_ledger::digest::{Digest, ResultKind};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::limits::GROUP_BYTES;
use bitproof_core_ledger::log::{self, Acknowledged, LogError, LogKind, LogWriter};
use bitproof_core_ledger::objects::ObjectId;

use crate::plan::Plan;
use crate::task::{ActionDigest, TaskId};

/// How a task failed by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Failure {
    /// It said so, or what it made is not what it declares.
    Refused,
    /// Its program ended with this code, not with 0.
    Exited(i32),
    /// Its program was ended by this signal, which it brought about.
    Signalled(i32),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::Exited(code) => write!(f, "exited {code}"),
            Self::Signalled(signal) => write!(f, "signalled {signal}"),
        }
    }
}

/// A text that is not how a task failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected refused, exited CODE or signalled NUMBER")]
pub struct FailureSyntax;

impl FromStr for Failure {
    type Err = FailureSyntax;

    fn from_str(text: &str) -> Result<Self, FailureSyntax> {
        let failure = match text.split_once(' ') {
            None if text == "refused" => Some(Self::Refused),
            Some(("exited", code)) => code.parse().ok().map(Self::Exited),
            Some(("signalled", signal)) => signal.parse().ok().map(Self::Signalled),
            _ => None,
        };
        failure.filter(|failure| failure.to_string() == text).ok_or(FailureSyntax)
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// It made its outputs, sorted by name.
    Done {
        /// Name and content of each.
        outputs: Vec<(String, ObjectId)>,
    },
    /// It failed by itself; the same inputs fail again.
    Failed {
        /// How.
        how: Failure,
    },
    /// A task that it depends on failed.
    Skipped {
        /// The failed task with the lowest place in the commit order.
        cause: TaskId,
    },
}

/// An entry of the ledger. Nothing in it depends on time, host, workers or attempts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// The task.
    pub task: TaskId,
    /// Its lane in the plan.
    pub lane: u32,
    /// Its tick in the plan.
    pub tick: u64,
    /// What its result depends on; `None` for a skipped task, whose inputs do not exist.
    pub action: Option<ActionDigest>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Entry {
    /// The content of an output.
    pub fn output(&self, name: &str) -> Option<ObjectId> {
        match &self.outcome {
            Outcome::Done { outputs } => outputs.iter().find(|(n, _)| n == name).map(|(_, id)| *id),
            _ => None,
        }
    }
}

/// A ledger that cannot be read, written, or does not fit its plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The file is unreadable or damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record does not continue the chain.
    #[error("{} is broken at byte {offset}: {source}", path.display())]
    Chain {
        /// The ledger's file.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// What is wrong.
        source: ChainError,
    },
    /// An entry's body is not canonical.
    #[error("{} holds a bad entry at byte {offset}: {source}", path.display())]
    Encoding {
        /// The ledger's file.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// What is wrong.
        source: CanonError,
    },
    /// An entry is not the one that the plan has at this place.
    #[error("{} holds at byte {offset} an entry for {got}, where the plan has {expected}", path.display())]
    NotAsPlanned {
        /// The ledger's file.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// The plan's task, lane and tick.
        expected: String,
        /// The entry's task, lane and tick.
        got: String,
    },
}

/// The entries of a ledger with its root, as read and checked.
#[derive(Debug, Clone)]
pub struct LedgerView {
    /// The entries, in commit order.
    pub entries: Vec<Entry>,
    /// The head of the chain.
    pub root: ChainHead,
    /// Bytes that a stopped write left after the last entry.
    pub torn_bytes: u64,
}

impl LedgerView {
    /// Reads the ledger at `path` and holds it against its plan.
    ///
    /// # Errors
    /// [`LedgerError`] with the offset of what is wrong.
    pub fn read(files: &Files, path: &Path, plan: &Plan) -> Result<Self, LedgerError> {
        Self::follow(files, path, plan, Acknowledged::Unknown)
    }

    /// Reads the ledger of a run that was not sealed: nothing of it was acknowledged, and what follows the first entry that is
    /// not whole counts as torn, as it does when the run is taken up.
    ///
    /// # Errors
    /// As [`LedgerView::read`].
    pub fn read_unsealed(files: &Files, path: &Path, plan: &Plan) -> Result<Self, LedgerError> {
        Self::follow(files, path, plan, Acknowledged::Records(0))
    }

    fn follow(
        files: &Files,
        path: &Path,
        plan: &Plan,
        acknowledged: Acknowledged,
    ) -> Result<Self, LedgerError> {
        let mut follower = Follower::new(path, plan);
        let end = log::visit(files, path, LogKind::LEDGER, acknowledged, |segment, offset, payload| {
            follower.take(segment, offset, payload);
        })?;
        let (chain, entries) = follower.end()?;
        Ok(Self { entries, root: chain.head(), torn_bytes: end.torn_bytes })
    }

    /// The entry of a task.
    pub fn entry(&self, task: &TaskId) -> Option<&Entry> {
        self.entries.iter().find(|e| e.task == *task)
    }
}

/// Takes record after record until one does not continue the chain or the plan.
struct Follower<'a> {
    path: &'a Path,
    plan: &'a Plan,
    chain: Chain,
    entries: Vec<Entry>,
    failed: Option<LedgerError>,
}

impl<'a> Follower<'a> {
    fn new(path: &'a Path, plan: &'a Plan) -> Self {
        let chain = Chain::bound_to(plan.digest().as_bytes());
        Self { path, plan, chain, entries: Vec::new(), failed: None }
    }

    fn end(self) -> Result<(Chain, Vec<Entry>), LedgerError> {
        self.failed.map_or(Ok((self.chain, self.entries)), Err)
    }

    fn take(&mut self, segment: u32, offset: u64, payload: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        match self.entry(segment, offset, payload) {
            Ok(entry) => self.entries.push(entry),
            Err(error) => self.failed = Some(error),
        }
    }

    fn entry(&mut self, segment: u32, offset: u64, payload: &[u8]) -> Result<Entry, LedgerError> {
        let path = || log::segment_path(self.path, segment);
        let chained = self.chain.accept(payload);
        let body = chained.map_err(|source| LedgerError::Chain { path: path(), offset, source })?;
        let entry: Entry =
            canon::decode(body).map_err(|source| LedgerError::Encoding { path: path(), offset, source })?;
        let n = self.entries.len();
        let planned = (n < self.plan.len()).then(|| self.plan.task(n));
        let as_planned = planned.is_some_and(|planned| {
            (&planned.spec.id, planned.slot.lane, planned.slot.tick) == (&entry.task, entry.lane, entry.tick)
        });
        if as_planned {
            return Ok(entry);
        }
        let place = |task: &TaskId, lane: u32, tick: u64| format!("{task} (lane {lane}, tick {tick})");
        let expected = planned.map_or_else(
            || "no further task".to_owned(),
            |planned| place(&planned.spec.id, planned.slot.lane, planned.slot.tick),
        );
        let got = place(&entry.task, entry.lane, entry.tick);
        Err(LedgerError::NotAsPlanned { path: path(), offset, expected, got })
    }
}

/// A ledger that is open for appending. The caller holds the run's lock.
#[derive(Debug)]
pub struct Ledger {
    writer: LogWriter,
    chain: Chain,
}

impl Ledger {
    /// Opens or makes the ledger at `path`; cuts a torn tail and returns the entries that are durable.
    ///
    /// # Errors
    /// [`LedgerError`] when an entry is damaged or does not fit the plan.
    pub fn open(files: &Files, path: &Path, plan: &Plan) -> Result<(Self, Vec<Entry>), LedgerError> {
        // Nothing of an open ledger was acknowledged, and the tasks of what is cut are executed again to the same bytes.
        let (writer, records) = LogWriter::open(files, path, LogKind::LEDGER, Acknowledged::Records(0))?;
        let mut follower = Follower::new(path, plan);
        records.iter().for_each(|record| follower.take(record.segment, record.offset, &record.payload));
        let (chain, entries) = follower.end()?;
        Ok((Self { writer, chain }, entries))
    }

    /// Appends entries as one durable group, or as several where they are too large for one.
    ///
    /// # Errors
    /// [`LedgerError::Log`]; then none of them is acknowledged.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), LedgerError> {
        let mut chain = self.chain.clone();
        let records: Vec<Vec<u8>> = entries.iter().map(|e| chain.push(&canon::encode(e))).collect();
        // A record and its frame take less than twice the record: half a group holds any record.
        let (mut first, mut bytes) = (0, 0);
        for (i, record) in records.iter().enumerate() {
            if bytes + record.len() > GROUP_BYTES / 2 {
                self.writer.append(&records[first..i])?;
                (first, bytes) = (i, 0);
            }
            bytes += record.len();
        }
        self.writer.append(&records[first..])?;
        self.chain = chain;
        Ok(())
    }

    /// The head of the chain.
    pub fn root(&self) -> ChainHead {
        self.chain.head()
    }
}

/// The head that the chain of `entries` has under `plan`, without a file.
pub fn ledger_root(plan: &Plan, entries: &[Entry]) -> ChainHead {
    let mut chain = Chain::bound_to(plan.digest().as_bytes());
    entries.iter().for_each(|e| drop(chain.push(&canon::encode(e))));
    chain.head()
}

/// The digest of a run's outcome: (task, action, outcome) sorted by task. It survives a change of lanes.
pub fn result_root(entries: &[Entry]) -> Digest<ResultKind> {
    let mut rows: Vec<(&TaskId, &Option<ActionDigest>, &Outcome)> =
        entries.iter().map(|e| (&e.task, &e.action, &e.outcome)).collect();
    rows.sort_by_key(|row| row.0);
    Digest::of_long(&rows).0
}

//! The governance ledger: the chain of what each control said, in the order of the plan, beside the ledger of the run.

use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon::{self, CanonError};
use bitproof_core_ledger::chain::{ChainError, ChainHead};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::limits::GROUP_BYTES;
use bitproof_core_ledger::log::{self, Acknowledged, LogError, LogKind, LogWriter};
use bitproof_core_ledger::objects::{ObjectError, ObjectId};
use bitproof_scheduler::{Plan, TaskId};

use super::controls::{has_passed, is_refused};
use super::{chain, compile, Control, ControlPoint, Position};

/// The longest reason, in bytes.
const REASON_BYTES: usize = 1024;

/// What a control said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// There was nothing to judge: the run was stopped before, or the task did not make what is judged.
    NotReached,
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
}

impl Outcome {
    /// `passed`, `failed` or `not_reached`.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotReached => "not_reached",
            Self::Passed => "passed",
            Self::Failed => "failed",
        }
    }
}

/// An entry of the governance ledger.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Entry {
    /// The control.
    pub control: Control,
    /// On which side of the task it stands.
    pub position: Position,
    /// The task.
    pub task: TaskId,
    /// Its lane in the plan.
    pub lane: u32,
    /// Its tick in the plan.
    pub tick: u64,
    /// The object that holds what was judged; absent exactly where nothing was.
    pub evidence: Option<ObjectId>,
    /// What the control said.
    pub outcome: Outcome,
    /// Why, for people; empty where there is nothing to say.
    pub reason: String,
}

impl Entry {
    pub(super) fn new(
        point: &ControlPoint,
        evidence: Option<ObjectId>,
        outcome: Outcome,
        reason: &str,
    ) -> Self {
        Self {
            control: point.control,
            position: point.position,
            task: point.task.clone(),
            lane: point.lane,
            tick: point.tick,
            evidence,
            outcome,
            reason: reason[..reason.floor_char_boundary(REASON_BYTES)].to_owned(),
        }
    }

    /// Whether it stands where the plan has a control.
    fn stands_at(&self, point: &ControlPoint) -> bool {
        (self.control, self.position, &self.task, self.lane, self.tick)
            == (point.control, point.position, &point.task, point.lane, point.tick)
    }

    /// Whether it says the same of the same evidence. Reasons are for people and may be worded otherwise.
    pub fn agrees_with(&self, other: &Self) -> bool {
        Self { reason: String::new(), ..self.clone() } == Self { reason: String::new(), ..other.clone() }
    }
}

/// A governance plan or ledger that cannot be read, written, or does not fit its plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GovernanceError {
    /// What the plan binds as its governance is not what this version writes.
    #[error("the plan's governance is damaged: {reason}")]
    Policy {
        /// What is wrong.
        reason: String,
    },
    /// The file is unreadable or damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record does not continue the chain.
    #[error("{} is broken at byte {offset}: {source}", path.display())]
    Chain {
        /// The file.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// What is wrong.
        source: Box<ChainError>,
    },
    /// An entry's body is not canonical.
    #[error("{} holds a bad entry at byte {offset}: {source}", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// What is wrong.
        source: CanonError,
    },
    /// An entry is not the one that the plan has at this place.
    #[error("{} holds at byte {offset} an entry for {got}, where the plan has {expected}", path.display())]
    NotAsPlanned {
        /// The file.
        path: PathBuf,
        /// Where the record starts.
        offset: u64,
        /// The control and place that the plan has.
        expected: String,
        /// The entry's.
        got: String,
    },
    /// Evidence could not be kept.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl GovernanceError {
    /// Where in the file.
    pub fn offset(&self) -> Option<u64> {
        match self {
            Self::Log(LogError::Damaged { offset, .. })
            | Self::Chain { offset, .. }
            | Self::Encoding { offset, .. }
            | Self::NotAsPlanned { offset, .. } => Some(*offset),
            _ => None,
        }
    }
}

/// A governance ledger as read and checked.
#[derive(Debug, Clone)]
pub struct GovernanceView {
    /// The entries, in the order of the plan.
    pub entries: Vec<Entry>,
    /// The head of the chain: the governance root.
    pub root: ChainHead,
    /// Bytes that a stopped write left after the last entry.
    pub torn_bytes: u64,
    /// Where each entry starts in its file.
    pub offsets: Vec<u64>,
}

impl GovernanceView {
    /// Whether a control before a task failed: then the run ended with what was committed before.
    pub fn refused(&self) -> bool {
        is_refused(&self.entries)
    }

    /// Whether no control failed.
    pub fn passed(&self) -> bool {
        has_passed(&self.entries)
    }

    /// Reads the ledger at `path` of the run `uid` and holds it against its plan. Whether entries lack at its end, the caller
    /// sees.
    ///
    /// # Errors
    /// [`GovernanceError`] with the offset of what is wrong.
    pub fn read(files: &Files, path: &Path, plan: &Plan, uid: &[u8; 16]) -> Result<Self, GovernanceError> {
        let points = compile(plan)?;
        let contents = log::read(files, path, LogKind::GOVERNANCE, Acknowledged::Unknown)?;
        let mut links = chain(plan, uid);
        let mut entries = Vec::with_capacity(contents.records.len().min(points.len()));
        for (n, record) in contents.records.iter().enumerate() {
            let (path, offset) = (|| log::segment_path(path, record.segment), record.offset);
            let body = links.accept(&record.payload).map_err(|source| GovernanceError::Chain {
                path: path(),
                offset,
                source: Box::new(source),
            })?;
            let entry: Entry = canon::decode(body).map_err(|source| GovernanceError::Encoding {
                path: path(),
                offset,
                source,
            })?;
            if !points.get(n).is_some_and(|point| entry.stands_at(point)) {
                let place = |control: Control, position: Position, task: &TaskId, lane: u32, tick: u64| {
                    format!("{control} {position} {task} (lane {lane}, tick {tick})")
                };
                let expected = points.get(n).map_or_else(
                    || "no further control".to_owned(),
                    |p| place(p.control, p.position, &p.task, p.lane, p.tick),
                );
                let got = place(entry.control, entry.position, &entry.task, entry.lane, entry.tick);
                return Err(GovernanceError::NotAsPlanned { path: path(), offset, expected, got });
            }
            entries.push(entry);
        }
        let offsets = contents.records.iter().map(|record| record.offset).collect();
        Ok(Self { entries, root: links.head(), torn_bytes: contents.torn_bytes, offsets })
    }
}

/// The head that the chain of `entries` has, without a file.
pub fn governance_root(plan: &Plan, uid: &[u8; 16], entries: &[Entry]) -> ChainHead {
    let mut links = chain(plan, uid);
    entries.iter().for_each(|entry| drop(links.push(&canon::encode(entry))));
    links.head()
}

/// Writes the ledger at `path` anew. What a stopped process left of it was never acknowledged, and may say what was seen then.
pub(super) fn write(
    files: &Files,
    path: &Path,
    plan: &Plan,
    uid: &[u8; 16],
    entries: &[Entry],
) -> Result<(), GovernanceError> {
    let (mut writer, old) = LogWriter::open(files, path, LogKind::GOVERNANCE, Acknowledged::Records(0))?;
    writer.cut(&old, 0)?;
    let mut links = chain(plan, uid);
    let mut group: Vec<Vec<u8>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let record = links.push(&canon::encode(entry));
        // A record and its frame take less than twice the record: half a group holds any record.
        if bytes + record.len() > GROUP_BYTES / 2 {
            writer.append(&group)?;
            group.clear();
            bytes = 0;
        }
        bytes += record.len();
        group.push(record);
    }
    Ok(writer.append(&group)?)
}

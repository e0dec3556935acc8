//! Everything that can keep a run from its end, and what kind of answer each is.

use std::path::PathBuf;

use bitproof_core_ledger::events::AuditError;
use bitproof_core_ledger::files::FileError;
use bitproof_core_ledger::inventory::InventoryError;
use bitproof_core_ledger::keys::KeyError;
use bitproof_core_ledger::log::LogError;
use bitproof_core_ledger::note::NoteError;
use bitproof_core_ledger::objects::ObjectError;
use bitproof_core_ledger::signed_log::SignedLogError;
use bitproof_core_ledger::store::StoreError;
use bitproof_scheduler::command::Unmet;
use bitproof_scheduler::dispatch::DispatchError;
use bitproof_scheduler::ledger::LedgerError;
use bitproof_scheduler::PlanError;

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::governance::GovernanceError;
use crate::judge::JudgeError;
use crate::pipeline::PipelineError;
use crate::recorder::RecorderError;
use crate::run_folder::RunError;
use crate::step_roots::StepRootsError;

/// What an error says to whoever called: the exit codes of the command line stand for these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Evidence is damaged, or a check says no.
    No,
    /// The user named something that is not right; nothing was written.
    Usage,
    /// It could not be done here and now.
    CouldNot,
}

/// A run that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkflowError {
    /// The pipeline file is not right.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A training's checkpoints are damaged.
    #[error("the checkpoints of a training: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The segments of a training are damaged.
    #[error(transparent)]
    Steps(#[from] StepRootsError),
    /// The pipeline file, or a data file that it names, cannot be read.
    #[error("{place}cannot read {}: {source}\n  hint: {hint}", path.display())]
    Unreadable {
        /// Where in the pipeline it is named, with a colon and a space at the end; empty for the pipeline itself.
        place: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        hint: String,
    },
    /// A data file is not the one that is pinned.
    #[error("{place}: {} does not have the pinned digest\n  expected {expected}\n  got      {got}\n  hint: restore the file, or pin the new digest if the change is meant", path.display())]
    Pin {
        /// Where the pin stands.
        place: String,
        /// The file.
        path: PathBuf,
        /// The pinned digest.
        expected: String,
        /// The file's digest.
        got: String,
    },
    /// A data file's content is not right.
    #[error("{}: {source}\n  hint: {hint}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong, with row and column.
        source: DataError,
        /// What to do.
        hint: String,
    },
    /// An option names something that the pipeline does not have.
    #[error("{flag} {name}: the pipeline has nothing of that name\n  hint: it has {known}")]
    UnknownName {
        /// The option.
        flag: &'static str,
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The file with this machine's paths is not right.
    #[error("{}: {reason}\n  hint: it may hold the tables [data] and [tools] with NAME = \"PATH\"", path.display())]
    Local {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A stage cannot work with this data.
    #[error("{place}: {reason}\n  hint: {hint}")]
    Stage {
        /// Where the stage stands.
        place: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A command's isolation is not to be had here.
    #[error("{place}: stage {stage:?}: {unmet}")]
    Isolation {
        /// Where the stage stands.
        place: String,
        /// Its name.
        stage: String,
        /// What is missing.
        unmet: Unmet,
    },
    /// Something that is no folder lies where an output is to be written back.
    #[error("the run is recorded, but an output was not written back: {} is a link or no folder\n  hint: move it away, or give the output another path", path.display())]
    InTheWay {
        /// What it is.
        path: PathBuf,
    },
    /// The tasks cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The store, its keys or its audit log failed.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A run could not be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The execution stopped.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// An object failed.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The inventory could not be taken.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// A file could not be signed.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The controls could not be judged or recorded.
    #[error(transparent)]
    Governance(#[from] GovernanceError),
    /// The run could not be judged.
    #[error(transparent)]
    Judge(#[from] JudgeError),
}

impl WorkflowError {
    /// What kind of answer it is.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Pipeline(_)
            | Self::Unreadable { .. }
            | Self::Pin { .. }
            | Self::Data { .. }
            | Self::UnknownName { .. }
            | Self::Local { .. }
            | Self::Isolation { .. }
            | Self::Stage { .. }
            | Self::Plan(_)
            | Self::Judge(JudgeError::Budget { .. }) => FailureKind::Usage,
            Self::Recorder(RecorderError::Key(
                KeyError::TooOpen { .. }
                | KeyError::Malformed { .. }
                | KeyError::MalformedText { .. }
                | KeyError::Given { .. }
                | KeyError::Exists { .. },
            )) => FailureKind::Usage,
            Self::Recorder(error) => match error {
                RecorderError::File(_)
                | RecorderError::Key(_)
                | RecorderError::Note(_)
                | RecorderError::Busy { .. } => FailureKind::CouldNot,
                RecorderError::Store(error) => store_kind(error),
                RecorderError::Audit(error) => audit_kind(error),
                RecorderError::KeyEnded { .. } | RecorderError::NotInForce { .. } => FailureKind::Usage,
                RecorderError::Description { .. }
                | RecorderError::HeadMissing { .. }
                | RecorderError::NotContinued { .. } => FailureKind::No,
            },
            Self::Store(error) | Self::Run(RunError::Store(error)) => store_kind(error),
            Self::Run(error) => run_kind(error),
            Self::Judge(JudgeError::Run(error)) => run_kind(error),
            Self::Dispatch(DispatchError::Misfit(_) | DispatchError::Divergence { .. }) => FailureKind::No,
            Self::Dispatch(_)
            | Self::Ledger(LedgerError::Log(LogError::File(_)))
            | Self::Governance(
                GovernanceError::Log(LogError::File(_)) | GovernanceError::Object(ObjectError::File(_)),
            )
            | Self::InTheWay { .. }
            | Self::File(_)
            | Self::Note(_)
            | Self::Inventory(InventoryError::File(_) | InventoryError::TooMany { .. })
            | Self::Object(ObjectError::File(_))
            | Self::Steps(StepRootsError::Object(ObjectError::File(_)))
            | Self::Judge(JudgeError::Object(ObjectError::File(_))) => FailureKind::CouldNot,
            Self::Ledger(_)
            | Self::Governance(_)
            | Self::Inventory(_)
            | Self::Object(_)
            | Self::Checkpoint(_)
            | Self::Steps(_)
            | Self::Judge(_) => FailureKind::No,
        }
    }
}

fn audit_kind(error: &AuditError) -> FailureKind {
    match error {
        AuditError::Log(SignedLogError::File(error) | SignedLogError::Log(LogError::File(error)))
            if !error.is_not_found() =>
        {
            FailureKind::CouldNot
        }
        _ => FailureKind::No,
    }
}

fn store_kind(error: &StoreError) -> FailureKind {
    match error {
        StoreError::Missing { .. } => FailureKind::Usage,
        StoreError::Malformed { .. } => FailureKind::No,
        _ => FailureKind::CouldNot,
    }
}

/// What kind of answer an error about a run is.
pub(crate) fn run_kind(error: &RunError) -> FailureKind {
    match error {
        RunError::Unknown { .. } | RunError::Ambiguous { .. } => FailureKind::Usage,
        RunError::File(error) if error.is_not_found() => FailureKind::No,
        RunError::File(_) | RunError::Incomplete { .. } => FailureKind::CouldNot,
        RunError::Store(error) => store_kind(error),
        RunError::Audit(error) => audit_kind(error),
        _ => FailureKind::No,
    }
}

impl RunError {
    /// What kind of answer it is.
    pub fn kind(&self) -> FailureKind {
        run_kind(self)
    }
}

//! Exit codes, and errors that know theirs. The codes are part of the contract with scripts.

use std::fmt;
use std::process::ExitCode;

use bitproof_audit::{
    AttestationError, ExportError, GcError, ProveError, ReplayError, VerifyError, WitnessError,
};
use bitproof_training::judge::JudgeError;
use bitproof_training::recorder::RecorderError;
use bitproof_training::run_folder::RunError;
use bitproof_training::workflow::{FailureKind, WorkflowError};

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, and what was checked holds.
    Done,
    /// The answer is no.
    No,
    /// Bad usage, pipeline or user-named file; nothing was written.
    Usage,
    /// It could not be done here and now.
    CouldNot,
    /// The user pressed Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number that scripts see.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::CouldNot => 3,
            Self::Interrupted => 130,
        }
    }

    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self.number())
    }
}

impl From<FailureKind> for Exit {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::No => Self::No,
            FailureKind::Usage => Self::Usage,
            FailureKind::CouldNot => Self::CouldNot,
        }
    }
}

/// An error with the exit code that it stands for.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    /// Bad usage, with a hint.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { exit: Exit::Usage, error: anyhow::anyhow!("{message}") }
    }
}

/// What went wrong outside the libraries, while reading or writing for the user: exit 3.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: Exit::CouldNot, error }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { exit: Exit::CouldNot, error: error.into() }
    }
}

impl From<WorkflowError> for Failure {
    fn from(error: WorkflowError) -> Self {
        Self { exit: error.kind().into(), error: error.into() }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self { exit: error.kind().into(), error: error.into() }
    }
}

impl From<JudgeError> for Failure {
    fn from(error: JudgeError) -> Self {
        WorkflowError::from(error).into()
    }
}

impl From<RecorderError> for Failure {
    fn from(error: RecorderError) -> Self {
        WorkflowError::from(error).into()
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        let exit = match &error {
            VerifyError::Run(error) => error.kind().into(),
            VerifyError::Empty { .. } => Exit::Usage,
            _ => Exit::CouldNot,
        };
        Self { exit, error: error.into() }
    }
}

impl From<GcError> for Failure {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Verify(error) => error.into(),
            GcError::Damaged { .. } => Self { exit: Exit::No, error: error.into() },
            _ => Self { exit: Exit::CouldNot, error: error.into() },
        }
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Run(error) => error.into(),
            ReplayError::Verify(error) => error.into(),
            ReplayError::Object(error) => WorkflowError::from(error).into(),
            ReplayError::Damaged { .. }
            | ReplayError::Misfit(_)
            | ReplayError::Steps { .. }
            | ReplayError::Checkpoint { .. } => Self { exit: Exit::No, error: error.into() },
            ReplayError::Cancelled => Self { exit: Exit::Interrupted, error: error.into() },
            ReplayError::NoStage { .. }
            | ReplayError::Trainings { .. }
            | ReplayError::StepRange { .. }
            | ReplayError::SampleSize { .. } => Self { exit: Exit::Usage, error: error.into() },
            _ => Self { exit: Exit::CouldNot, error: error.into() },
        }
    }
}

impl From<ProveError> for Failure {
    fn from(error: ProveError) -> Self {
        let exit = match &error {
            ProveError::Incomplete { .. } => Exit::CouldNot,
            ProveError::Fork { .. } => Exit::No,
            _ => Exit::Usage,
        };
        Self { exit, error: error.into() }
    }
}

impl From<WitnessError> for Failure {
    fn from(error: WitnessError) -> Self {
        let exit = match &error {
            WitnessError::File(_) | WitnessError::Note(_) => Exit::CouldNot,
            _ => Exit::No,
        };
        Self { exit, error: error.into() }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        let exit = match error {
            ExportError::Verify(error) => return error.into(),
            ExportError::Run(error) => return error.into(),
            ExportError::Audit(_)
            | ExportError::Damaged { .. }
            | ExportError::Changed { .. }
            | ExportError::Unlisted { .. }
            | ExportError::Inventory(_)
            | ExportError::Manifest(_)
            | ExportError::Evidence { .. } => Exit::No,
            ExportError::NoPackage { .. }
            | ExportError::Stage { .. }
            | ExportError::Exists { .. }
            | ExportError::Nowhere { .. }
            | ExportError::Stranger { .. } => Exit::Usage,
            _ => Exit::CouldNot,
        };
        Self { exit, error: error.into() }
    }
}

impl From<AttestationError> for Failure {
    fn from(error: AttestationError) -> Self {
        let exit = match &error {
            AttestationError::File(_) => Exit::CouldNot,
            _ => Exit::No,
        };
        Self { exit, error: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_under_another_specification_could_not_be_done_and_damage_is_a_no() {
        let other = ReplayError::Numerics { run: "small-1".to_owned(), recorded: 1, here: 2 };
        assert_eq!(Failure::from(other).exit.number(), 3);
        let damaged = ReplayError::Damaged { findings: Vec::new() };
        assert_eq!(Failure::from(damaged).exit.number(), 1);
    }
}

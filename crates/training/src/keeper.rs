//! Where a training keeps what a process that comes after a crash goes on from.

use bincode::{Decode, Encode};

use crate::checkpoint::Checkpoint;
use crate::steps::Segment;

/// Keeps checkpoints of trainings that are under way. What it gives was verified; what it cannot verify it does not give.
pub trait CheckpointKeeper: Sync {
    /// The newest that a task kept.
    ///
    /// # Errors
    /// [`KeepError`] when it cannot be looked for.
    fn newest(&self, task: &str) -> Result<Option<SavedTraining>, KeepError>;

    /// The checkpoint of a step that [`CheckpointKeeper::keep`] was told to keep.
    ///
    /// # Errors
    /// [`KeepError`] when it is not there or not whole.
    fn load(&self, task: &str, step: u64) -> Result<Checkpoint, KeepError>;

    /// Makes a checkpoint durable, and then forgets older ones but those of the steps in `also`.
    ///
    /// # Errors
    /// [`KeepError`] when it cannot be written.
    fn keep(&self, task: &str, saved: &SavedTraining, also: &[u64]) -> Result<(), KeepError>;
}

/// A checkpoint with what was noted until then.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedTraining {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// What was noted.
    pub progress: Progress,
}

/// What a training notes on its way, besides its state.
#[derive(Debug, Clone, Default, PartialEq, Encode, Decode)]
pub struct Progress {
    /// The segments that have ended.
    pub segments: Vec<Segment>,
    /// The metrics that were recorded, as their file has them.
    pub metrics: Vec<u8>,
    /// The sum of the losses since they were recorded last.
    pub loss: f64,
    /// How many there were.
    pub count: u64,
}

/// Something could not be kept or found.
#[derive(Debug, thiserror::Error)]
#[error("the checkpoints of {task}: {reason}")]
pub struct KeepError {
    /// The task.
    pub task: String,
    /// Why.
    pub reason: String,
}

/// Keeps nothing: for an execution that nobody goes on with.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepsNothing;

impl CheckpointKeeper for KeepsNothing {
    fn newest(&self, _: &str) -> Result<Option<SavedTraining>, KeepError> {
        Ok(None)
    }
    fn load(&self, task: &str, step: u64) -> Result<Checkpoint, KeepError> {
        Err(KeepError {
            task: task.to_owned(),
            reason: format!("none is kept, not that of step {step} either"),
        })
    }
    fn keep(&self, _: &str, _: &SavedTraining, _: &[u64]) -> Result<(), KeepError> {
        Ok(())
    }
}

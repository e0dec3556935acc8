//! What a training leaves besides its model.

use bitproof_training::checkpoint::{steps_in, unpack, CheckpointState};
use bitproof_training::steps::StepTree;

pub(super) fn steps(bytes: &[u8]) -> bool {
    StepTree::decode(bytes).is_ok_and(|tree| {
        assert_eq!(tree.encode(), bytes);
        assert!(tree.segments().windows(2).all(|w| w[0].end < w[1].end));
        assert_eq!(tree.first_difference(&tree), (None, 1));
        true
    })
}

pub(super) fn checkpoint_state(bytes: &[u8]) -> bool {
    CheckpointState::decode(bytes).is_ok_and(|state| {
        assert_eq!(state.encode(), bytes);
        true
    })
}

/// A packed folder of which every checkpoint is whole.
pub(super) fn checkpoints(bytes: &[u8]) -> bool {
    let Ok(steps) = steps_in(bytes) else { return false };
    !steps.is_empty() && steps.into_iter().all(|step| unpack(bytes, step).is_ok())
}

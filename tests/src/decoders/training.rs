//! What a training leaves besides its model.

use bitproof_training::checkpoint::{each_in, steps_in, unpack, CheckpointError, CheckpointState};
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

/// A packed folder of whole checkpoints, and of nothing else.
pub(super) fn checkpoints(bytes: &[u8]) -> bool {
    let mut read = Vec::new();
    let all = each_in(bytes, |checkpoint| -> Result<(), CheckpointError> {
        let _ = checkpoint.digests();
        read.push(checkpoint);
        Ok(())
    });
    if all.is_err() || read.is_empty() {
        return false;
    }
    let steps: Vec<u64> = read.iter().map(|checkpoint| checkpoint.state.step).collect();
    assert!(steps.is_sorted_by(|a, b| a < b));
    assert_eq!(steps_in(bytes).expect("it is a folder of checkpoints"), steps);
    for checkpoint in read {
        assert_eq!(unpack(bytes, checkpoint.state.step).expect("it was read"), checkpoint);
    }
    true
}

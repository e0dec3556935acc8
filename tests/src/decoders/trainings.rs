//! What a training leaves of its way.

use bitproof_training::checkpoint::{each_in, steps_in, unpack, CheckpointError, CheckpointState};
use bitproof_training::step_roots::StepRoot;
use bitproof_training::steps::StepTree;

pub(super) fn steps(bytes: &[u8]) -> bool {
    StepTree::decode(bytes).is_ok_and(|tree| {
        assert_eq!(tree.encode(), bytes);
        let pinned = StepRoot::of(&tree);
        assert_eq!(
            tree.segment_of(pinned.steps).map(|last| last as u64 + 1),
            (pinned.segments > 0).then_some(pinned.segments)
        );
        assert_eq!(pinned.root.to_string().parse(), Ok(pinned.root));
        true
    })
}

pub(super) fn checkpoint_state(bytes: &[u8]) -> bool {
    CheckpointState::decode(bytes).is_ok_and(|state| {
        assert_eq!(state.encode(), bytes);
        true
    })
}

pub(super) fn checkpoints(bytes: &[u8]) -> bool {
    let mut read = Vec::new();
    let all = each_in(bytes, |checkpoint| -> Result<(), CheckpointError> {
        let _ = checkpoint.digests();
        read.push(checkpoint);
        Ok(())
    });
    all.is_ok_and(|()| {
        let steps: Vec<u64> = read.iter().map(|checkpoint| checkpoint.state.step).collect();
        assert!(steps.is_sorted_by(|a, b| a < b));
        assert_eq!(steps_in(bytes).expect("it is a folder of checkpoints"), steps);
        for checkpoint in read {
            let step = checkpoint.state.step;
            assert_eq!(unpack(bytes, step).expect("it was read"), checkpoint);
        }
        true
    })
}

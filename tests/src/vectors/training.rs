//! The vectors of what a training leaves besides its model.

use bitproof_core_ledger::digest::Digest;
use bitproof_training::checkpoint::{pack, Checkpoint};
use bitproof_training::steps::{Segment, StepTree};

use super::{Book, Chapter};

pub(super) const BOOKS: &[Chapter] =
    &[("steps", steps), ("checkpoint_state", checkpoint_state), ("checkpoints", checkpoints)];

fn segment(end: u64) -> Segment {
    Segment {
        end,
        batches: Digest::of_bytes(b"batches"),
        losses: Digest::of_bytes(b"losses"),
        parameters: Digest::of_bytes(&[end as u8]),
        moments: Digest::of_bytes(b"moments"),
    }
}

fn steps(book: &mut Book<'_>) {
    let tree = StepTree::of(vec![segment(5), segment(8)]).expect("they are in order");
    let bytes = tree.encode();
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        bytes
    };
    book.add("not-version-0", changed(6, b'0'));
    book.add("not-out-of-order", changed(16, 8));
    book.add("not-more-segments-than-there-are", changed(8, 3));
    book.add("none", StepTree::default().encode());
    book.strict("two-segments", bytes);
}

fn checkpoint(step: u64) -> Checkpoint {
    Checkpoint::new(42, "train", step, b"weights".to_vec(), b"moments".to_vec())
}

fn checkpoint_state(book: &mut Book<'_>) {
    let text = String::from_utf8(checkpoint(50).state.encode()).expect("JSON is UTF-8");
    book.add("not-version-2", text.replace("/v1", "/v2").into_bytes());
    book.add("not-another-key", text.replace("seed", "salt").into_bytes());
    book.add("not-another-encoding", text.replace("  ", " ").into_bytes());
    book.add("not-a-short-digest", text.replacen("\"\n}", "", 1).into_bytes());
    book.strict("step-50", text.into_bytes());
}

fn checkpoints(book: &mut Book<'_>) {
    let packed = pack(&[checkpoint(50), checkpoint(100)]).expect("they are in order");
    let at = packed.windows(7).position(|w| w == b"weights").expect("the weights are in it");
    let mut other = packed.clone();
    other[at] ^= 1;
    book.add("not-another-weight", other);
    let replaced = |from: &str, to: &str| {
        let mut bytes = packed.clone();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from.as_bytes()) {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
        bytes
    };
    book.add("not-in-the-folder-of-another-step", replaced("step-000000000100", "step-000000000101"));
    book.add("not-a-step-with-other-digits", replaced("step-000000000100", "step-+00000000100"));
    book.add("not-a-file-that-is-no-part", replaced("100/optimizer", "100/optimisir"));
    book.add("not-without-its-end", packed[..packed.len() - 1].to_vec());
    book.add("two-checkpoints", packed);
}

//! Segments and checkpoints of a training.

use bitproof_core_ledger::digest::Digest;
use bitproof_core_ledger::folder::{self, FolderFile};
use bitproof_training::checkpoint::{pack, Checkpoint};
use bitproof_training::steps::{Segment, StepTree};

use super::{Book, Chapter};

pub(super) const BOOKS: &[Chapter] =
    &[("steps", steps), ("checkpoint_state", checkpoint_state), ("checkpoints", checkpoints)];

fn steps(book: &mut Book<'_>) {
    let segment = |end: u64| Segment {
        end,
        batches: Digest::of_bytes(b"batches"),
        losses: Digest::of_bytes(b"losses"),
        parameters: Digest::of_bytes(b"parameters"),
        moments: Digest::of_bytes(b"moments"),
    };
    let tree = StepTree::of(vec![segment(3), segment(5)]).expect("they ascend");
    let good = tree.encode();
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    // The magic number and the number of segments have eight bytes each, a segment 136.
    book.add("not-another-magic-number", changed(6, b'2'));
    book.add("not-more-segments-than-there-are", changed(8, 3));
    book.add("not-more-segments-than-a-training-has", changed(15, 1));
    book.add("not-a-segment-that-ends-with-no-step", changed(16, 0));
    book.add("not-a-segment-that-ends-where-the-one-before-does", changed(16 + 136, 3));
    book.add("none", StepTree::default().encode());
    book.strict("two-segments", good);
}

fn checkpoint(step: u64) -> Checkpoint {
    Checkpoint::new(7, "train", step, b"weights".to_vec(), b"moments".to_vec())
}

fn checkpoint_state(book: &mut Book<'_>) {
    let good = String::from_utf8(checkpoint(30).state.encode()).expect("JSON is UTF-8");
    book.replaced("another-schema", &good, "checkpoint/v1", "checkpoint/v2");
    book.replaced("an-unknown-field", &good, "\"seed\"", "\"more\": 1,\n  \"seed\"");
    book.replaced("a-field-twice", &good, "\"seed\": 7", "\"seed\": 7,\n  \"seed\": 7");
    book.replaced("a-space-more", &good, "\"step\": 30", "\"step\":  30");
    book.replaced("a-step-below-zero", &good, "\"step\": 30", "\"step\": -30");
    book.strict("after-thirty-steps", good);
}

fn checkpoints(book: &mut Book<'_>) {
    let packed = |checkpoints: &[Checkpoint]| pack(checkpoints).expect("they ascend");
    let good = packed(&[checkpoint(30), checkpoint(60)]);
    let replaced = |from: &str, to: &str| {
        let mut bytes = good.clone();
        while let Some(at) = bytes.windows(from.len()).position(|window| window == from.as_bytes()) {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        }
        bytes
    };
    book.add("not-one-in-the-folder-of-another-step", replaced("step-000000000060", "step-000000000061"));
    book.add("not-a-step-with-other-digits", replaced("step-000000000060", "step-+00000000060"));
    book.add("not-a-file-that-is-no-part", replaced("60/optimizer", "60/optimisir"));
    book.add("not-weights-that-its-state-does-not-name", replaced("weights", "weighty"));
    book.add("not-moments-that-its-state-does-not-name", replaced("moments", "momentz"));
    let file =
        |name: &str| FolderFile { path: format!("step-000000000030/{name}"), executable: false, bytes: 0 };
    let without_state = folder::encode_listing(&[file("model.safetensors"), file("optimizer.safetensors")]);
    book.add("not-one-without-its-state", without_state.expect("they ascend"));
    book.add("none", packed(&[]));
    book.strict("two-steps", good);
}

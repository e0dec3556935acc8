//! The golden vectors are what is made here, and each decoder takes and refuses what it has to.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use bitproof_tests::decoders::{decoder, DECODERS};
use bitproof_tests::vectors::{folder, vectors};

/// The files of a folder of folders.
fn files(root: &Path) -> BTreeSet<PathBuf> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
    };
    entries(root).iter().flat_map(|dir| entries(dir)).collect()
}

/// Whether a decoder takes the bytes; `Err` when it panics.
fn outcome(name: &str, bytes: &[u8]) -> std::thread::Result<bool> {
    catch_unwind(AssertUnwindSafe(|| (decoder(name).takes)(bytes)))
}

#[test]
fn the_files_are_what_is_written_today() {
    let all = vectors();
    for vector in &all {
        let path = vector.path();
        let kept = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(
            kept == vector.bytes,
            "{} is not what this version writes; if the format changed on purpose, with its version and its page: cargo \
             xtask vectors --write",
            path.display()
        );
    }
    let made: BTreeSet<PathBuf> = all.iter().map(|vector| vector.path()).collect();
    assert_eq!(made.len(), all.len(), "two vectors of one name");
    assert_eq!(files(&folder()), made, "files that nobody makes");
}

#[test]
fn every_decoder_takes_and_refuses_what_it_has_to() {
    let wrong: Vec<String> = vectors()
        .iter()
        .filter(
            |vector| !matches!(outcome(vector.decoder, &vector.bytes), Ok(taken) if taken == vector.taken()),
        )
        .map(|vector| format!("{}/{}", vector.decoder, vector.name))
        .collect();
    assert_eq!(wrong, [""; 0]);
    for decoder in DECODERS {
        let own = || vectors().into_iter().filter(|vector| vector.decoder == decoder.name);
        assert!(own().any(|v| v.taken()) && own().any(|v| !v.taken()), "{}", decoder.name);
    }
}

/// What the fuzzers found worth keeping: no decoder panics at it.
#[test]
fn no_decoder_breaks_a_promise_over_the_corpora() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut tried = 0;
    for path in files(&corpus) {
        let name = path.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(outcome(name, &bytes).is_ok(), "{}", path.display());
        tried += 1;
    }
    println!("corpora: {tried} files");
    assert!(tried > DECODERS.len(), "{tried} files");
}

//! Golden vectors: for each decoder bytes that it takes, and bytes that it refuses, named by what was done to them.
//!
//! They lie in `tests/vectors/<decoder>/`, where the names of those that are refused begin with `not-`. A test holds the files
//! against what is made here from fixed keys, and the decoders against the files; the fuzz targets begin with them.

mod datasets;
mod integrity;
mod replay;
mod training;
mod workflow;

use std::path::{Path, PathBuf};

pub use integrity::known_head;
pub use workflow::{governed_plan, plan, UID};

/// The keys of the vectors: secrets that everybody knows.
pub mod keys {
    use bitproof_core_ledger::keys::{KeyRole, ModelSigningKey, PrivateKey, WITNESS_NAME};
    use bitproof_core_ledger::note::NoteKey;
    use bitproof_core_ledger::signature::ARTIFACT_SIGNER;

    /// The log of the vectors.
    pub const ORIGIN: &str = "bitproof.local/00112233445566778899aabbccddeeff";
    /// The name of the witness.
    pub const WITNESS: &str = WITNESS_NAME;

    /// The log's key.
    pub fn log() -> PrivateKey {
        PrivateKey::from_bytes(KeyRole::Log, &[1; 32])
    }
    /// The key that takes its place, and a stranger's as long as it has not.
    pub fn next_log() -> PrivateKey {
        PrivateKey::from_bytes(KeyRole::Log, &[2; 32])
    }
    /// The witness's key.
    pub fn witness() -> PrivateKey {
        PrivateKey::from_bytes(KeyRole::Witness, &[3; 32])
    }
    /// The key of models and manifests.
    pub fn artifact() -> PrivateKey {
        PrivateKey::from_bytes(KeyRole::Artifact, &[4; 32])
    }
    /// The key of models for other people's clients.
    ///
    /// # Panics
    /// Never: the secret is a valid one.
    pub fn model_signing() -> ModelSigningKey {
        ModelSigningKey::from_bytes(&[5; 32]).expect("below the order of the group")
    }
    fn public(key: &PrivateKey, name: &str) -> NoteKey {
        key.note_key(name).expect("the names are valid")
    }
    /// The public half of the log's key.
    pub fn log_vkey() -> NoteKey {
        public(&log(), ORIGIN)
    }
    /// The public half of the witness's key.
    pub fn witness_vkey() -> NoteKey {
        public(&witness(), WITNESS)
    }
    /// The public half of the key of models and manifests.
    pub fn artifact_vkey() -> NoteKey {
        public(&artifact(), ARTIFACT_SIGNER)
    }
}

/// The folder of the vectors' files.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// A vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vector {
    /// The decoder that reads it, and its folder.
    pub decoder: &'static str,
    /// Its file's name: `not-` and the mutation where it is refused.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Vector {
    /// Where its file lies.
    pub fn path(&self) -> PathBuf {
        folder().join(self.decoder).join(&self.name)
    }

    /// Whether the decoder has to take it.
    pub fn taken(&self) -> bool {
        !self.name.starts_with("not-")
    }
}

/// A decoder's name, and what fills its book.
type Chapter = (&'static str, fn(&mut Book<'_>));

/// Collects the vectors of one decoder.
struct Book<'a> {
    decoder: &'static str,
    all: &'a mut Vec<Vector>,
}

impl Book<'_> {
    fn add(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.all.push(Vector { decoder: self.decoder, name: name.to_owned(), bytes: bytes.into() });
    }

    /// A value that is whole and nothing else: without its last byte, and with one more, it is refused.
    fn strict(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.add(&format!("not-{name}-without-its-last-byte"), &bytes[..bytes.len() - 1]);
        self.add(&format!("not-{name}-with-a-trailing-byte"), [&bytes[..], b"\0"].concat());
        self.add(name, bytes);
    }

    /// A text with one part replaced.
    fn replaced(&mut self, mutation: &str, text: &str, from: &str, to: &str) {
        assert!(text.contains(from), "{mutation}: {from:?} is not in {text:?}");
        self.add(&format!("not-{mutation}"), text.replacen(from, to, 1));
    }
}

/// Every vector.
pub fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    for &(decoder, fill) in integrity::BOOKS
        .iter()
        .chain(workflow::BOOKS)
        .chain(training::BOOKS)
        .chain(datasets::BOOKS)
        .chain(replay::BOOKS)
    {
        fill(&mut Book { decoder, all: &mut all });
    }
    all
}

//! Attestations: what others can check about a model with a public key and clients that nobody here wrote.
//!
//! The key that is given decides what is read: a P-256 key reads a bundle of model-signing, an Ed25519 key reads SLSA
//! provenance. Nothing that the file names decides which key or which algorithm. `docs/formats/attestations.md` is normative.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use bitproof_core_ledger::dsse::json::{self, JsonError};
use bitproof_core_ledger::dsse::{Algorithm, DsseError, PublicKey};
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::inventory::is_plain_relative;
use bitproof_core_ledger::limits::ATTESTATION_BYTES;
use bitproof_core_ledger::sha256::{Sha256Digest, Sha256Syntax};
use bitproof_core_ledger::storage::{EntryKind, Reading};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) mod model_signing;
pub(crate) mod slsa;

/// What stands for a folder under version control, at the top of a model's folder. No signature covers it, as in the client.
pub const NOT_COVERED: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

const STATEMENT: &str = "https://in-toto.io/Statement/v1";

/// An attestation that does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttestationError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is larger than any attestation.
    #[error("the attestation is larger than {ATTESTATION_BYTES} bytes")]
    TooLarge,
    /// It is not the JSON that it should be.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Its envelope does not hold.
    #[error(transparent)]
    Envelope(#[from] DsseError),
    /// It is of another type than what the key reads.
    #[error("the {what} is {got:?}, and what is read is {expected:?}")]
    Type {
        /// Of what.
        what: &'static str,
        /// The one that is read.
        expected: &'static str,
        /// Its own.
        got: String,
    },
    /// The bundle says that another key signed it.
    #[error("the bundle's hint names the key {got}, but the key that was given is {expected}")]
    Hint {
        /// What the key that was given is called.
        expected: String,
        /// The hint.
        got: String,
    },
    /// It relies on a transparency log that is not consulted.
    #[error("the bundle has {got} entries of a transparency log, which are not checked here")]
    LogEntries {
        /// How many.
        got: usize,
    },
    /// It names a way of hashing that is not the pinned one.
    #[error("the statement's {what} is {got:?}; {supported:?} is the only one that is accepted")]
    Unsupported {
        /// What is named.
        what: &'static str,
        /// What it is.
        got: String,
        /// The pinned one.
        supported: &'static str,
    },
    /// It has an unexpected number of subjects.
    #[error("the statement has {got} subjects, and {expected}")]
    Subjects {
        /// What is expected.
        expected: &'static str,
        /// How many there are.
        got: usize,
    },
    /// It has a field that means something nobody here knows.
    #[error("the statement's {place} has the unknown field {field:?}")]
    UnknownField {
        /// Where.
        place: &'static str,
        /// The field.
        field: String,
    },
    /// A name could lead out of the folder.
    #[error("the file name {name:?} is not a plain relative path")]
    Name {
        /// The name.
        name: String,
    },
    /// A file is named twice.
    #[error("the file {name:?} is listed twice")]
    Duplicate {
        /// Its name.
        name: String,
    },
    /// The files are not in their one order.
    #[error("the file {name:?} is listed after {previous:?}: the files are not sorted by the parts of their paths")]
    Unsorted {
        /// Its name.
        name: String,
        /// The one before.
        previous: String,
    },
    /// No file is named.
    #[error("the statement lists no file")]
    Empty,
    /// A digest is not one.
    #[error("of {name:?}: {source}")]
    Digest {
        /// Whose it is.
        name: String,
        /// What is wrong.
        source: Sha256Syntax,
    },
    /// A subject has no digest that can be checked.
    #[error("the subject {name:?} has no sha256 digest")]
    NoDigest {
        /// The subject.
        name: String,
    },
    /// The digest over all files is not that of the list.
    #[error("the subject's digest is {expected}, but the listed files give {got}")]
    Root {
        /// What the subject says.
        expected: Sha256Digest,
        /// What the list gives.
        got: Sha256Digest,
    },
    /// The folder holds what is no file.
    #[error("{path} is a link or a special file, which no statement covers")]
    Special {
        /// Where, relative to the folder.
        path: String,
    },
    /// The folder holds a file that the statement does not list.
    #[error("{path} is in the folder, but the statement does not list it")]
    Extra {
        /// Where, relative to the folder.
        path: String,
    },
    /// The folder lacks a file.
    #[error("{path} is listed, but the folder does not have it")]
    Absent {
        /// Where, relative to the folder.
        path: String,
    },
    /// A file has another content.
    #[error("{path} has another content: expected sha256 {expected}, got {got}")]
    Content {
        /// Where, relative to the folder.
        path: String,
        /// What the statement says.
        expected: Sha256Digest,
        /// What the file hashes to.
        got: Sha256Digest,
    },
}

/// What an attestation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttestationKind {
    /// A signature of a model's files.
    ModelSigning,
    /// How a model's files came about.
    Slsa,
}

impl AttestationKind {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ModelSigning => "model-signing",
            Self::Slsa => "slsa",
        }
    }

    /// What a key can have signed.
    pub fn of_key(key: &PublicKey) -> Self {
        match key.algorithm() {
            Algorithm::EcdsaP256 => Self::ModelSigning,
            Algorithm::Ed25519 => Self::Slsa,
        }
    }
}

/// A file by content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedFile {
    /// Its path relative to the model's folder, `/`-separated.
    pub name: String,
    /// Its content.
    pub sha256: Sha256Digest,
}

/// What the signer says of how the files came about. All of it is a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// What kind of build it was.
    pub build_type: String,
    /// Who built.
    pub builder: String,
    /// Which run it was.
    pub invocation_id: Option<String>,
    /// When it began.
    pub started_on: Option<String>,
    /// When it ended.
    pub finished_on: Option<String>,
}

/// An attestation whose signature holds and whose statement says one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attestation {
    /// What it is.
    pub kind: AttestationKind,
    /// The key that signed it, as others call it: [`PublicKey::id`].
    pub key: String,
    /// The name of the model; `None` for provenance, whose subjects are the files.
    pub subject: Option<String>,
    /// The files that it is about.
    pub files: Vec<SignedFile>,
    /// What provenance says; `None` for a mere signature.
    pub claims: Option<Claims>,
}

/// A folder that is what an attestation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderCheck {
    /// How many files were hashed.
    pub files: u64,
    /// How many bytes were hashed.
    pub bytes: u64,
    /// What is in the folder and not covered: of [`NOT_COVERED`] what there is, and the attestation itself.
    pub not_covered: BTreeSet<String>,
}

impl Attestation {
    /// Reads an attestation and checks its signature and its statement.
    ///
    /// # Errors
    /// [`AttestationError`].
    pub fn read(bytes: &[u8], key: &PublicKey) -> Result<Self, AttestationError> {
        if bytes.len() as u64 > ATTESTATION_BYTES {
            return Err(AttestationError::TooLarge);
        }
        match AttestationKind::of_key(key) {
            AttestationKind::ModelSigning => model_signing::open(bytes, key),
            AttestationKind::Slsa => slsa::open(bytes, key),
        }
    }

    /// As [`Attestation::read`], of a file.
    ///
    /// # Errors
    /// [`AttestationError`].
    pub fn read_file(files: &Files, path: &Path, key: &PublicKey) -> Result<Self, AttestationError> {
        match files.read_bounded(path, ATTESTATION_BYTES) {
            Err(e) if e.source.kind() == ErrorKind::FileTooLarge => Err(AttestationError::TooLarge),
            read => Self::read(&read?, key),
        }
    }

    /// Hashes every file below a folder: there must be those that the attestation lists, and no others. `own` is where in the
    /// folder the attestation itself lies, if it does.
    ///
    /// # Errors
    /// [`AttestationError`] with the first path, in the order of the folder, that is not as it should be.
    pub fn check_folder(
        &self,
        files: &Files,
        dir: &Path,
        own: Option<&str>,
    ) -> Result<FolderCheck, AttestationError> {
        let listed: BTreeMap<&str, Sha256Digest> =
            self.files.iter().map(|f| (f.name.as_str(), f.sha256)).collect();
        let mut check = FolderCheck { files: 0, bytes: 0, not_covered: BTreeSet::new() };
        let mut seen = BTreeSet::new();
        for (path, kind) in files.files_below(dir)? {
            let top = path.split('/').next().unwrap_or(&path);
            if NOT_COVERED.contains(&top) || own == Some(&path) {
                check.not_covered.insert(if own == Some(&path) { path } else { top.to_owned() });
                continue;
            }
            if !matches!(kind, EntryKind::File(_)) {
                return Err(AttestationError::Special { path });
            }
            let Some(&expected) = listed.get(path.as_str()) else {
                return Err(AttestationError::Extra { path });
            };
            let (got, bytes) = hash(files, &dir.join(&path))?;
            if got != expected {
                return Err(AttestationError::Content { path, expected, got });
            }
            check.files += 1;
            check.bytes += bytes;
            seen.insert(path);
        }
        match listed.keys().find(|name| !seen.contains(**name)) {
            Some(name) => Err(AttestationError::Absent { path: (*name).to_owned() }),
            None => Ok(check),
        }
    }
}

fn hash(files: &Files, path: &Path) -> Result<(Sha256Digest, u64), FileError> {
    let file = files.open(path)?;
    Sha256Digest::of_reader(&mut Reading::new(&*file)).map_err(FileError::at("read", path))
}

/// An in-toto statement.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement<S, P> {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<S>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: P,
}

/// Reads a statement with a predicate of one type.
fn statement<S: DeserializeOwned, P: DeserializeOwned>(
    payload: &[u8],
    predicate_type: &'static str,
) -> Result<(Vec<S>, P), AttestationError> {
    let statement: Statement<Value, Value> = json::read(payload, "the payload")?;
    expect("statement's type", STATEMENT, &statement.kind)?;
    expect("predicate's type", predicate_type, &statement.predicate_type)?;
    let malformed =
        |e: serde_json::Error| JsonError::Malformed { what: "the payload", reason: e.to_string() };
    let subjects = statement.subject.into_iter().map(serde_json::from_value);
    let subjects = subjects.collect::<Result<_, _>>().map_err(malformed)?;
    Ok((subjects, serde_json::from_value(statement.predicate).map_err(malformed)?))
}

fn expect(what: &'static str, expected: &'static str, got: &str) -> Result<(), AttestationError> {
    if got == expected {
        Ok(())
    } else {
        Err(AttestationError::Type { what, expected, got: got.to_owned() })
    }
}

/// A file that a statement may list, and that it has not listed before.
fn listed(names: &mut BTreeSet<String>, name: String, digest: &str) -> Result<SignedFile, AttestationError> {
    if !is_plain_relative(&name) {
        return Err(AttestationError::Name { name });
    }
    if !names.insert(name.clone()) {
        return Err(AttestationError::Duplicate { name });
    }
    match digest.parse() {
        Ok(sha256) => Ok(SignedFile { name, sha256 }),
        Err(source) => Err(AttestationError::Digest { name, source }),
    }
}

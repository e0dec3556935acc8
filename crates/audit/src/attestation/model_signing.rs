//! Signatures of models as PyPI's `model-signing` 1.1 makes and reads them: a bundle with an envelope that lists every file.

use std::collections::{BTreeMap, BTreeSet};

use bitproof_core_ledger::dsse::json;
use bitproof_core_ledger::dsse::{Envelope, KeyName, PublicKey};
use bitproof_core_ledger::keys::ModelSigningKey;
use bitproof_core_ledger::sha256::Sha256Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    expect, listed, statement, Attestation, AttestationError, AttestationKind, SignedFile, Statement,
    NOT_COVERED, STATEMENT,
};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
const METHOD: &str = "files";
const SHA256: &str = "sha256";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Material {
    public_key: Hint,
    tlog_entries: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubjectDigest {
    sha256: Sha256Digest,
}

/// Its specification asks readers to pass over fields that they do not know.
#[derive(Serialize, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Serialize, Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    /// What the signer left out. It decides nothing: what a reader leaves out is [`NOT_COVERED`].
    #[serde(default)]
    ignore_paths: Vec<String>,
    /// Fields of methods that are not read here.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

/// The bundle over a model's files: a function of name, files and key. The order of `files` does not matter.
pub fn sign_model(model: &str, mut files: Vec<SignedFile>, key: &ModelSigningKey) -> Vec<u8> {
    files.sort_by(|a, b| parts(&a.name).cmp(parts(&b.name)));
    let resource = |f: &SignedFile| Resource {
        name: f.name.clone(),
        algorithm: SHA256.to_owned(),
        digest: f.sha256.to_string(),
    };
    let statement = Statement {
        kind: STATEMENT.to_owned(),
        subject: vec![Subject { name: model.to_owned(), digest: SubjectDigest { sha256: root(&files) } }],
        predicate_type: PREDICATE.to_owned(),
        predicate: Predicate {
            serialization: Serialization {
                method: METHOD.to_owned(),
                hash_type: SHA256.to_owned(),
                allow_symlinks: false,
                ignore_paths: NOT_COVERED.map(str::to_owned).to_vec(),
                others: BTreeMap::new(),
            },
            resources: files.iter().map(resource).collect(),
        },
    };
    let payload = serde_json::to_vec(&statement).expect("it has only text keys");
    let bundle = Bundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: Material {
            public_key: Hint { hint: key.public_key().id() },
            tlog_entries: Vec::new(),
        },
        dsse_envelope: Envelope::by_model_signing_key(&payload, key),
    };
    serde_json::to_vec(&bundle).expect("it has only text keys")
}

/// Reads a bundle that `key` must have signed.
pub(crate) fn open(bytes: &[u8], key: &PublicKey) -> Result<Attestation, AttestationError> {
    let bundle: Bundle = json::read(bytes, "the bundle")?;
    expect("bundle's media type", MEDIA_TYPE, &bundle.media_type)?;
    let Material { public_key: Hint { hint }, tlog_entries } = bundle.verification_material;
    let id = key.id();
    if hint != id {
        return Err(AttestationError::Hint { expected: id, got: hint });
    }
    if !tlog_entries.is_empty() {
        return Err(AttestationError::LogEntries { got: tlog_entries.len() });
    }
    let payload = bundle.dsse_envelope.open(key, KeyName::Empty)?;
    let (subjects, predicate): (Vec<Subject>, Predicate) = statement(&payload, PREDICATE)?;
    let [subject] = &subjects[..] else {
        return Err(AttestationError::Subjects { expected: "one model is expected", got: subjects.len() });
    };
    check_method(&predicate.serialization)?;
    let files = files(predicate.resources)?;
    let got = root(&files);
    if got != subject.digest.sha256 {
        return Err(AttestationError::Root { expected: subject.digest.sha256, got });
    }
    let subject = Some(subject.name.clone());
    Ok(Attestation { kind: AttestationKind::ModelSigning, key: id, subject, files, claims: None })
}

fn check_method(serialization: &Serialization) -> Result<(), AttestationError> {
    let symlinks = serialization.allow_symlinks.to_string();
    for (what, got, supported) in [
        ("serialization method", serialization.method.as_str(), METHOD),
        ("hash type", &serialization.hash_type, SHA256),
        ("allow_symlinks", &symlinks, "false"),
    ] {
        if got != supported {
            return Err(AttestationError::Unsupported { what, got: got.to_owned(), supported });
        }
    }
    match serialization.others.keys().next() {
        Some(field) => Err(AttestationError::UnknownField { place: "serialization", field: field.clone() }),
        None => Ok(()),
    }
}

fn files(resources: Vec<Resource>) -> Result<Vec<SignedFile>, AttestationError> {
    let (mut names, mut files) = (BTreeSet::new(), Vec::<SignedFile>::new());
    for Resource { name, algorithm, digest } in resources {
        if algorithm != SHA256 {
            let what = "algorithm of a file";
            return Err(AttestationError::Unsupported { what, got: algorithm, supported: SHA256 });
        }
        let file = listed(&mut names, name, &digest)?;
        if let Some(previous) = files.last().filter(|p| parts(&p.name).ge(parts(&file.name))) {
            return Err(AttestationError::Unsorted { name: file.name, previous: previous.name.clone() });
        }
        files.push(file);
    }
    if files.is_empty() {
        return Err(AttestationError::Empty);
    }
    Ok(files)
}

/// The order of files: part by part, so that `a/b` stands before `a-b`.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('/')
}

/// The digest over the digests of the files, in their order.
fn root(files: &[SignedFile]) -> Sha256Digest {
    let digests: Vec<u8> = files.iter().flat_map(|f| *f.sha256.as_bytes()).collect();
    Sha256Digest::of_bytes(&digests)
}

#[cfg(test)]
mod tests;

//! Export: a run's package with what others need to check it. It writes nothing into the store.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_core_ledger::dsse::{DsseError, PublicKey};
use bitproof_core_ledger::events::AuditError;
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::inventory::{Inventory, InventoryEntry, InventoryError};
use bitproof_core_ledger::keys::{KeyRole, ModelSigningKey, PrivateKey, MODEL_SIGNING};
use bitproof_core_ledger::limits::CANON_BYTES;
use bitproof_core_ledger::note::{NoteError, NoteKey};
use bitproof_core_ledger::sha256::ContentDigests;
use bitproof_core_ledger::signature::ARTIFACT_SIGNER;
use bitproof_core_ledger::storage::{EntryKind, Reading};
use bitproof_core_ledger::store::{hex, random_id, Store, StoreError};
use bitproof_training::evidence::Evidence;
use bitproof_training::manifest::{Manifest, ManifestError};
use bitproof_training::run_folder::{
    RunError, RunFolder, RunIndex, ARTIFACTS, EVIDENCE, INVENTORY, MANIFEST,
};

use crate::attestation::model_signing::sign_model;
use crate::attestation::slsa::Provenance;
use crate::attestation::{Attestation, AttestationError, AttestationKind, SignedFile};
use crate::{verify, Anchors, Scope, VerifyError};

/// The folder of the model in an export; also the model's name in its signature.
pub const MODEL_DIR: &str = "model";
const MODEL_SIGNATURE: &str = "model.sig";
const PROVENANCE: &str = "provenance.dsse.json";
/// More than any manifest or evidence has.
const TEXT_BYTES: u64 = 64 << 20;

/// What is exported, and the key that signs it.
#[derive(Debug, Clone, Copy)]
pub enum ExportAs<'a> {
    /// The files of the package and a signature over them.
    ModelSigning(&'a ModelSigningKey),
    /// How the files came about.
    Slsa(&'a PrivateKey),
}

/// What to export.
#[derive(Debug, Clone, Copy)]
pub struct ExportRequest<'a> {
    /// The run: a name or selector.
    pub run: &'a str,
    /// The stage whose package it is; needed when a run has more than one.
    pub stage: Option<&'a str>,
    /// The folder that is made. It must not exist.
    pub out: &'a Path,
    /// As what.
    pub how: ExportAs<'a>,
}

/// A file of the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedFile {
    /// Its path relative to the package.
    pub name: String,
    /// Its content.
    pub digests: ContentDigests,
}

/// What was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportReport {
    /// The run's name.
    pub run: String,
    /// The stage whose package it is.
    pub stage: String,
    /// As what.
    pub kind: AttestationKind,
    /// The attestation's file in the folder that was made.
    pub attestation: &'static str,
    /// The public key's file in it.
    pub public_key: String,
    /// What others call the key.
    pub key: String,
    /// What the attestation is about.
    pub files: Vec<ExportedFile>,
}

/// What could not be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The run could not be verified.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The run could not be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The audit log could not be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The run is not what was sealed.
    #[error("run {run} is damaged and is not exported: {finding} ({findings} findings)")]
    Damaged {
        /// The run, as it was asked for.
        run: String,
        /// The first finding.
        finding: String,
        /// How many there are.
        findings: usize,
    },
    /// A file changed after it had been verified.
    #[error("{path} changed while it was exported: expected {expected}, got {got}")]
    Changed {
        /// Relative to the store.
        path: String,
        /// What was sealed.
        expected: String,
        /// What was read.
        got: String,
    },
    /// The inventory does not list a file that every run has.
    #[error("the inventory of run {run} does not list {path}")]
    Unlisted {
        /// The run.
        run: String,
        /// Relative to the store.
        path: String,
    },
    /// The inventory is not one.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The manifest is not one.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The evidence is not of this version.
    #[error("the evidence of run {run} is malformed: {reason}")]
    Evidence {
        /// The run.
        run: String,
        /// What is wrong.
        reason: String,
    },
    /// The run has no package.
    #[error("run {run} has no package\n  hint: add a stage that uses package")]
    NoPackage {
        /// The run.
        run: String,
    },
    /// The stage cannot be told.
    #[error("run {run} has packages of {stages}\n  hint: name one of them with --stage")]
    Stage {
        /// The run.
        run: String,
        /// The stages.
        stages: String,
    },
    /// Nothing is overwritten.
    #[error("{} exists already\n  hint: name another folder with -o", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// There is nowhere to put it.
    #[error("there is no folder {}\n  hint: make it, or name another place with -o", path.display())]
    Nowhere {
        /// The folder above the one that was to be made.
        path: PathBuf,
    },
    /// The store's log does not let the key in.
    #[error(
        "the audit log does not let the artifact key {key} in\n  hint: record into this store with it first"
    )]
    Stranger {
        /// The key in its text form.
        key: String,
    },
    /// The statement could not be signed.
    #[error(transparent)]
    Envelope(#[from] DsseError),
    /// What was made is not what can be read: there are too many files, or their names are too long.
    #[error("the attestation that was made would be refused: {0}")]
    Attestation(#[from] AttestationError),
    /// The key has no name.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// There are no random bytes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Exports a run's package. The folder appears with all that belongs into it, or not at all.
///
/// # Errors
/// [`ExportError`]; [`ExportError::Damaged`] when the run does not verify.
pub fn export(store: &Store, request: &ExportRequest<'_>) -> Result<ExportReport, ExportError> {
    let files = store.files();
    if files.entry(request.out)?.is_some() {
        return Err(ExportError::Exists { path: request.out.to_owned() });
    }
    let sealed = Sealed::open(store, request.run)?;
    let stage = sealed.stage(request.stage)?;
    let out = Staged::new(files, request.out)?;
    let report = match request.how {
        ExportAs::ModelSigning(key) => sealed.model_signing(&out, stage, key)?,
        ExportAs::Slsa(key) => sealed.slsa(&out, stage, key)?,
    };
    out.publish(request.out)?;
    Ok(report)
}

/// A run that was verified, with what its seal says of every file.
struct Sealed<'a> {
    store: &'a Store,
    folder: RunFolder,
    inventory: Inventory,
    /// The signed tree head.
    head: String,
    artifact_keys: Vec<NoteKey>,
}

impl<'a> Sealed<'a> {
    fn open(store: &'a Store, run: &str) -> Result<Self, ExportError> {
        let verified = verify(store, &Scope::Run(run.to_owned()), &Anchors::default())?;
        let damaged = |finding: String| ExportError::Damaged {
            run: run.to_owned(),
            finding,
            findings: verified.findings.len(),
        };
        let [name] = &verified.runs[..] else {
            return Err(damaged(verified.findings.first().map_or_else(String::new, ToString::to_string)));
        };
        if let Some(finding) = verified.findings.first().filter(|_| !verified.ok()) {
            return Err(damaged(finding.to_string()));
        }
        // What follows is held against this one reading of the log, whatever happened to the store since.
        let audit = store.read_audit(&[])?;
        let index = RunIndex::new(&audit);
        let row = index.resolve(name)?;
        let incomplete = || RunError::Incomplete { run: name.clone() };
        let seal = row.seal.as_ref().ok_or_else(incomplete)?;
        let (Some(head), Some(note)) = (&audit.head, &audit.note) else { return Err(incomplete().into()) };
        let folder = RunFolder::open_recorded(store, row)?;
        let bytes = store.files().read_bounded(&folder.path(INVENTORY), CANON_BYTES as u64)?;
        let got = Digest::<Content>::of_bytes(&bytes);
        if got != seal.inventory {
            let path = format!("runs/{name}/{INVENTORY}");
            let (expected, got) = (seal.inventory.to_string(), got.to_string());
            return Err(ExportError::Changed { path, expected, got });
        }
        Ok(Self {
            store,
            inventory: Inventory::decode(&bytes)?,
            head: note.clone(),
            artifact_keys: audit.keyring().in_force(KeyRole::Artifact, head.size),
            folder,
        })
    }

    /// The stage whose package is meant.
    fn stage(&self, wanted: Option<&str>) -> Result<&str, ExportError> {
        let packages = self.relative(&format!("{ARTIFACTS}/"));
        let entries = self.inventory.entries().iter();
        let stages: BTreeSet<&str> =
            entries.filter_map(|e| Some(e.path.strip_prefix(&packages)?.split_once('/')?.0)).collect();
        let run = self.folder.name.clone();
        let mut fitting = stages.iter().filter(|stage| wanted.is_none_or(|wanted| wanted == **stage));
        match (fitting.next(), fitting.next()) {
            (Some(stage), None) => Ok(stage),
            _ if stages.is_empty() => Err(ExportError::NoPackage { run }),
            _ => Err(ExportError::Stage { run, stages: stages.into_iter().collect::<Vec<_>>().join(", ") }),
        }
    }

    fn relative(&self, file: &str) -> String {
        format!("runs/{}/{file}", self.folder.name)
    }

    /// Reads a file of the store in one pass that also hashes it; `sink` sees what was hashed. What it saw is as sealed when
    /// this returns no error.
    fn read(
        &self,
        entry: &InventoryEntry,
        sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<ContentDigests, ExportError> {
        let path = self.store.root().join(&entry.path);
        let file = self.store.files().open(&path)?;
        let mut bytes = Reading::new(&*file).take(entry.size.saturating_add(1));
        let digests = ContentDigests::of_reader(&mut bytes, sink).map_err(FileError::at("export", &path))?;
        if digests.blake3 == entry.digest && digests.bytes == entry.size {
            return Ok(digests);
        }
        let (expected, got) = (entry.digest.to_string(), digests.blake3.to_string());
        Err(ExportError::Changed { path: entry.path.clone(), expected, got })
    }

    /// A file of the run that is held in memory.
    fn text(&self, file: &str) -> Result<(Vec<u8>, ContentDigests), ExportError> {
        let path = self.relative(file);
        let entry = self.inventory.entries().iter().find(|e| e.path == path && e.size <= TEXT_BYTES);
        let run = &self.folder.name;
        let entry = entry.ok_or_else(|| ExportError::Unlisted { run: run.clone(), path: path.clone() })?;
        let mut text = Vec::new();
        let digests = self.read(entry, |piece| {
            text.extend_from_slice(piece);
            Ok(())
        })?;
        Ok((text, digests))
    }

    /// Every file of a package with its path relative to it.
    fn package(&self, stage: &str) -> impl Iterator<Item = (&str, &InventoryEntry)> {
        let prefix = self.relative(&format!("{ARTIFACTS}/{stage}/"));
        self.inventory.entries().iter().filter_map(move |e| Some((e.path.strip_prefix(&prefix)?, e)))
    }

    fn report(
        &self,
        stage: &str,
        kind: AttestationKind,
        key: &PublicKey,
        files: Vec<ExportedFile>,
    ) -> ExportReport {
        let (attestation, role) = match kind {
            AttestationKind::ModelSigning => (MODEL_SIGNATURE, MODEL_SIGNING),
            AttestationKind::Slsa => (PROVENANCE, KeyRole::Artifact.name()),
        };
        ExportReport {
            run: self.folder.name.clone(),
            stage: stage.to_owned(),
            kind,
            attestation,
            public_key: format!("{role}.pub.pem"),
            key: key.id(),
            files,
        }
    }

    fn model_signing(
        &self,
        out: &Staged<'_>,
        stage: &str,
        key: &ModelSigningKey,
    ) -> Result<ExportReport, ExportError> {
        let mut files = Vec::new();
        for (name, entry) in self.package(stage) {
            let digests = out.file(&format!("{MODEL_DIR}/{name}"), |sink| self.read(entry, sink))?;
            files.push(ExportedFile { name: name.to_owned(), digests });
        }
        let signed = files.iter().map(|f| SignedFile { name: f.name.clone(), sha256: f.digests.sha256 });
        let bundle = sign_model(MODEL_DIR, signed.collect(), key);
        let public = key.public_key();
        Attestation::read(&bundle, &public)?;
        let report = self.report(stage, AttestationKind::ModelSigning, &public, files);
        out.write(report.attestation, &bundle)?;
        out.write(&report.public_key, public.to_pem().as_bytes())?;
        Ok(report)
    }

    fn slsa(&self, out: &Staged<'_>, stage: &str, key: &PrivateKey) -> Result<ExportReport, ExportError> {
        let known = key.note_key(ARTIFACT_SIGNER)?;
        if !self.artifact_keys.contains(&known) {
            return Err(ExportError::Stranger { key: known.to_string() });
        }
        let mut files = Vec::new();
        for (name, entry) in self.package(stage) {
            files.push((name.to_owned(), self.read(entry, |_| Ok(()))?));
        }
        let (manifest, manifest_digests) = self.text(MANIFEST)?;
        let (evidence, _) = self.text(EVIDENCE)?;
        let malformed = |e: serde_json::Error| ExportError::Evidence {
            run: self.folder.name.clone(),
            reason: e.to_string(),
        };
        let provenance = Provenance {
            files: &files,
            manifest: &Manifest::decode(&manifest)?,
            manifest_digests,
            evidence: &serde_json::from_slice::<Evidence>(&evidence).map_err(malformed)?,
            config: &self.folder.facts_with(Default::default()).params,
            origin: &self.store.origin(),
            head: &self.head,
        };
        let envelope = provenance.sign(key)?;
        let public = key.public_key();
        Attestation::read(&envelope, &public)?;
        let files = files.into_iter().map(|(name, digests)| ExportedFile { name, digests }).collect();
        let report = self.report(stage, AttestationKind::Slsa, &public, files);
        out.write(report.attestation, &envelope)?;
        out.write(&report.public_key, public.to_pem().as_bytes())?;
        Ok(report)
    }
}

/// A folder on its way to its name, removed when it does not get there.
struct Staged<'a> {
    files: &'a Files,
    dir: PathBuf,
    published: bool,
}

impl<'a> Staged<'a> {
    /// Beside its later name, so that it is on the same file system.
    fn new(files: &'a Files, out: &Path) -> Result<Self, ExportError> {
        let name = format!(".bitproof-export-{}", hex(&random_id()?));
        let above = out.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if files.entry(above)? != Some(EntryKind::Folder) {
            return Err(ExportError::Nowhere { path: above.to_owned() });
        }
        let dir = above.join(name);
        files.create_dir(&dir)?;
        Ok(Self { files, dir, published: false })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        self.files.write_new(&self.dir.join(name), bytes)
    }

    /// Writes a file piece by piece.
    fn file<T>(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<T, ExportError>,
    ) -> Result<T, ExportError> {
        let path = self.dir.join(name);
        if let Some(above) = path.parent() {
            self.files.create_dirs(above)?;
        }
        let mut file = self.files.open_or_create(&path)?;
        let written = write(&mut |piece| file.append(piece))?;
        file.sync().map_err(FileError::at("sync", &path))?;
        self.files.sync_parent(&path)?;
        Ok(written)
    }

    /// Gives the folder its name. A folder that is not empty is never replaced.
    fn publish(mut self, out: &Path) -> Result<(), ExportError> {
        self.files.sync_dir(&self.dir)?;
        if self.files.entry(out)?.is_some() {
            return Err(ExportError::Exists { path: out.to_owned() });
        }
        self.files.rename(&self.dir, out)?;
        self.published = true;
        Ok(self.files.sync_parent(out)?)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if !self.published {
            // What is left is a hidden folder that nobody takes for an export.
            let _ = self.files.remove(&self.dir);
        }
    }
}

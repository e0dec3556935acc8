//! The store: the folder `.bitproof` that holds evidence and nothing else. `docs/formats/store.md` is normative.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::{Content, Digest};
use crate::events::{AuditError, AuditLog, AuditView};
use crate::files::{FileError, Files};
use crate::limits::STORE_TOML_BYTES;
use crate::note::NoteKey;
use crate::objects::Objects;
use crate::storage::{Held, LockMode};

/// The name of a store's folder.
pub const STORE_DIR: &str = ".bitproof";
/// The name of the file that makes a folder a store.
pub const STORE_FILE: &str = "store.toml";
const SCHEMA: u32 = 1;

/// A store that cannot be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no store at the path.
    #[error("there is no store at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Its description is not readable.
    #[error("{} is damaged: {reason}", path.display())]
    Malformed {
        /// The description's path.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    schema: u32,
    id: String,
}

/// An open store.
#[derive(Debug, Clone)]
pub struct Store {
    files: Files,
    root: PathBuf,
    id: String,
    description: Digest<Content>,
    threads: NonZeroUsize,
}

impl Store {
    /// The nearest store in `start` or a folder above it.
    pub fn find_upwards(start: &Path) -> Option<PathBuf> {
        start.ancestors().map(|dir| dir.join(STORE_DIR)).find(|root| root.join(STORE_FILE).is_file())
    }

    /// Opens the store at `root` (the `.bitproof` folder itself).
    ///
    /// # Errors
    /// [`StoreError::Missing`] when there is none, [`StoreError::Malformed`] when its description is damaged.
    pub fn open(files: &Files, root: &Path) -> Result<Self, StoreError> {
        let path = root.join(STORE_FILE);
        let bytes = match files.read_bounded(&path, STORE_TOML_BYTES) {
            Err(e) if e.is_not_found() => return Err(StoreError::Missing { path: root.to_owned() }),
            read => read?,
        };
        let malformed = |reason: String| StoreError::Malformed { path: path.clone(), reason };
        let text = std::str::from_utf8(&bytes).map_err(|e| malformed(e.to_string()))?;
        let parsed: Description = toml::from_str(text).map_err(|e| malformed(e.message().to_owned()))?;
        if parsed.schema != SCHEMA {
            return Err(malformed(format!("schema {} is not {SCHEMA}", parsed.schema)));
        }
        if parsed.id.len() != 32 || !parsed.id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(malformed("its id is not 32 hex digits".to_owned()));
        }
        let description = Digest::of_bytes(&bytes);
        let threads = NonZeroUsize::MIN;
        Ok(Self { files: files.clone(), root: root.to_owned(), id: parsed.id, description, threads })
    }

    /// Opens the store at `root`, or makes one with a new random id; says whether it was made.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open_or_create(files: &Files, root: &Path) -> Result<(Self, bool), StoreError> {
        match Self::open(files, root) {
            Err(StoreError::Missing { .. }) => {}
            opened => return opened.map(|store| (store, false)),
        }
        files.create_dir_all(root)?;
        files.sync_parent(root)?;
        for folder in ["objects", "runs", "audit", "lock", "tmp"] {
            files.create_dir(&root.join(folder))?;
        }
        // Whoever begins to write next would else take the staged file for a leftover.
        let _writer = files.lock(&root.join("lock/writers"), LockMode::Shared, true)?;
        let id = hex(&random_id()?);
        let text =
            format!("# A Bitproof store: evidence only. Do not edit.\nschema = {SCHEMA}\nid = \"{id}\"\n");
        // Published last and never replaced: of two processes that make a store, both open the same one.
        let made = files.publish_new(&root.join("tmp"), &root.join(STORE_FILE), text.as_bytes())?;
        Self::open(files, root).map(|store| (store, made))
    }

    /// The same store, whose large files are hashed on so many threads. They change no digest.
    #[must_use]
    pub fn hashing_on(self, threads: NonZeroUsize) -> Self {
        Self { threads, ..self }
    }

    /// On how many threads its large files are hashed.
    pub fn threads(&self) -> NonZeroUsize {
        self.threads
    }

    /// Where its files are kept.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its id: 32 hex digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The digest of its description: what the audit log's first leaf holds.
    pub fn description(&self) -> Digest<Content> {
        self.description
    }

    /// The name of its audit log.
    pub fn origin(&self) -> String {
        format!("bitproof.local/{}", self.id)
    }

    /// Its objects.
    pub fn objects(&self) -> Objects {
        Objects::new(self.files.clone(), self.root.join("objects"), self.staging(), self.threads)
    }

    /// Where files are prepared before they are published.
    pub fn staging(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// The folder of runs.
    pub fn runs_dir(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The folder of the audit log.
    pub fn audit_dir(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// Reads and checks the audit log; `trusted` as in [`AuditView::read`].
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn read_audit(&self, trusted: &[NoteKey]) -> Result<AuditView, AuditError> {
        AuditView::read(&self.files, &self.audit_dir(), &self.origin(), trusted)
    }

    /// Opens the audit log for appending, while the returned lock is held. Waits for other writers.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open_audit(&self) -> Result<(AuditLog, StoreLock), AuditError> {
        let lock = self.lock_exclusive("audit")?;
        Ok((AuditLog::open(&self.files, &self.audit_dir(), &self.staging(), &self.origin())?, lock))
    }

    /// Returns when nobody is writing to the audit log. Writes nothing.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn await_audit_writer(&self) -> Result<(), FileError> {
        let path = self.lock_path("audit");
        if self.files.exists(&path) {
            drop(self.files.lock(&path, LockMode::Shared, true)?);
        }
        Ok(())
    }

    /// Announces a writer. When no other writer lives, what killed ones left in the staging folder is removed.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn join_writers(&self) -> Result<StoreLock, FileError> {
        let path = self.lock_path("writers");
        if let Some(alone) = self.files.lock(&path, LockMode::Exclusive, false)? {
            let staging = self.staging();
            for (name, _) in self.files.list(&staging)? {
                self.files.remove(&staging.join(name))?;
            }
            drop(alone);
        }
        Ok(StoreLock { _held: self.files.lock(&path, LockMode::Shared, true)? })
    }

    /// Announces the only writer; `None` while another lives.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn only_writer(&self) -> Result<Option<StoreLock>, FileError> {
        let held = self.files.lock(&self.lock_path("writers"), LockMode::Exclusive, false)?;
        Ok(held.map(|held| StoreLock { _held: Some(held) }))
    }

    /// Takes a named lock, waiting for whoever holds it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn lock_exclusive(&self, name: &str) -> Result<StoreLock, FileError> {
        Ok(StoreLock { _held: self.files.lock(&self.lock_path(name), LockMode::Exclusive, true)? })
    }

    /// Takes a named lock if nobody holds it.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be asked for.
    pub fn try_lock(&self, name: &str) -> Result<Option<StoreLock>, FileError> {
        let held = self.files.lock(&self.lock_path(name), LockMode::Exclusive, false)?;
        Ok(held.map(|held| StoreLock { _held: Some(held) }))
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.root.join("lock").join(name)
    }
}

/// A lock that is held until it is dropped, or its process ends.
pub struct StoreLock {
    _held: Option<Held>,
}

/// Sixteen random bytes: ids of stores and runs. They reach no ledger.
///
/// # Errors
/// [`StoreError::Random`].
pub fn random_id() -> Result<[u8; 16], StoreError> {
    let mut id = [0u8; 16];
    getrandom::fill(&mut id).map_err(|e| StoreError::Random(e.to_string()))?;
    Ok(id)
}

/// Lower-case hex digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_store_is_made_once_found_from_below_and_checked() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(STORE_DIR);
        assert!(matches!(Store::open(&Files::on_disk(), &root), Err(StoreError::Missing { .. })));
        let (store, made) = Store::open_or_create(&Files::on_disk(), &root).unwrap();
        assert!(made);
        let (again, made) = Store::open_or_create(&Files::on_disk(), &root).unwrap();
        assert!(!made && again.id() == store.id());
        let below = dir.path().join("a/b");
        fs::create_dir_all(&below).unwrap();
        assert_eq!(Store::find_upwards(&below).unwrap(), root);
        fs::write(root.join(STORE_FILE), "schema = 2\nid = \"\"\n").unwrap();
        assert!(matches!(Store::open(&Files::on_disk(), &root), Err(StoreError::Malformed { .. })));
    }

    #[test]
    fn leftovers_are_removed_only_when_no_writer_lives() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_or_create(&Files::on_disk(), &dir.path().join(STORE_DIR)).unwrap();
        let leftover = store.staging().join("leftover");
        let writer = store.join_writers().unwrap();
        fs::write(&leftover, "x").unwrap();
        drop(store.join_writers().unwrap());
        assert!(leftover.exists());
        drop(writer);
        drop(store.join_writers().unwrap());
        assert!(!leftover.exists());
    }

    #[test]
    fn a_held_lock_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_or_create(&Files::on_disk(), &dir.path().join(STORE_DIR)).unwrap();
        let held = store.try_lock("x").unwrap();
        assert!(held.is_some() && store.try_lock("x").unwrap().is_none());
        drop(held);
        assert!(store.try_lock("x").unwrap().is_some());
    }
}

//! Writing to a store's audit log: the store, its keys and the actor, opened together.

use std::path::{Path, PathBuf};

use bitproof_core_ledger::clock::Clock;
use bitproof_core_ledger::events::{Actor, AuditError, EventBody, HEAD};
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::keys::{KeyError, KeyFolder, KeyRole, PrivateKey};
use bitproof_core_ledger::note::{NoteError, TreeHead};
use bitproof_core_ledger::signature::ARTIFACT_SIGNER;
use bitproof_core_ledger::store::{Store, StoreError, StoreLock};

/// A store that cannot be written to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecorderError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A note could not be signed.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The audit log is damaged or cannot be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// There are runs, but no signed head.
    #[error("{} is missing, but the store holds runs\n  hint: restore the audit folder from a copy", path.display())]
    HeadMissing {
        /// Where the head should be.
        path: PathBuf,
    },
    /// The log does not continue what these keys published before.
    #[error("the audit log of {} does not continue the head of {size} leaves that was published last: it was rewritten, or an older copy was put back\n  hint: restore it; if that was meant to be, remove {}", store.display(), memory.display())]
    NotContinued {
        /// The store.
        store: PathBuf,
        /// The size of the remembered head.
        size: u64,
        /// Where it is remembered.
        memory: PathBuf,
    },
    /// The store's description is not the one its log began with.
    #[error("{} is not the description that the audit log began with", path.display())]
    Description {
        /// The description's path.
        path: PathBuf,
    },
}

/// A store that is open for recording.
pub struct Recorder<'a> {
    keys: &'a KeyFolder,
    /// The store.
    pub store: Store,
    /// Signs models and manifests.
    pub artifact_key: PrivateKey,
    /// Key files that were made just now.
    pub new_keys: Vec<PathBuf>,
    /// Whether the store was made just now.
    pub new_store: bool,
    log_key: PrivateKey,
    actor: Actor,
    clock: &'a dyn Clock,
    _writer: StoreLock,
}

impl<'a> Recorder<'a> {
    /// Opens the store at `root`, or makes it; loads the user's keys, or makes them; enrols them in the audit log.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub fn open(
        files: &Files,
        root: &Path,
        keys: &'a KeyFolder,
        clock: &'a dyn Clock,
        user: &str,
        host: &str,
    ) -> Result<Self, RecorderError> {
        let mut new_keys = Vec::new();
        let mut key = |role| -> Result<PrivateKey, RecorderError> {
            let (key, made) = keys.load_or_create(role)?;
            if made {
                new_keys.push(keys.path(role));
            }
            Ok(key)
        };
        let (log_key, artifact_key) = (key(KeyRole::Log)?, key(KeyRole::Artifact)?);
        let (store, new_store) = Store::open_or_create(files, root)?;
        let writer = store.join_writers()?;
        let log_vkey = log_key.note_key(&store.origin())?;
        let actor = Actor { key_id: log_vkey.id_hex(), user: user.to_owned(), host: host.to_owned() };
        let enrolled = |role: KeyRole, vkey: String| EventBody::KeyEnrolled { role: role.to_string(), vkey };
        let opening = [
            EventBody::StoreCreated { store: store.description() },
            enrolled(KeyRole::Log, log_vkey.to_string()),
            enrolled(KeyRole::Artifact, artifact_key.note_key(ARTIFACT_SIGNER)?.to_string()),
        ];
        let recorder =
            Self { keys, store, artifact_key, new_keys, new_store, log_key, actor, clock, _writer: writer };
        recorder.check_log()?;
        recorder.record(&opening)?;
        Ok(recorder)
    }

    /// The owner's key must not sign a log that somebody else rewrote, or began anew in the files of another.
    fn check_log(&self) -> Result<(), RecorderError> {
        // The memory comes first: what another process publishes meanwhile, the log has too.
        let remembered = self.keys.remembered_head(self.store.id());
        let view = self.store.read_audit(&[])?;
        if view.head.is_none() && !self.store.files().list(&self.store.runs_dir())?.is_empty() {
            return Err(RecorderError::HeadMissing { path: self.store.audit_dir().join(HEAD) });
        }
        if let Some(last) = remembered {
            if last.size > 0 && view.root_at(last.size) != Some(last.root) {
                let memory = self.keys.head_path(self.store.id());
                let store = self.store.root().to_owned();
                return Err(RecorderError::NotContinued { store, size: last.size, memory });
            }
        }
        let first = view.events().next();
        let expected = EventBody::StoreCreated { store: self.store.description() };
        match first {
            Some(first) if *first != expected => {
                Err(RecorderError::Description { path: self.store.root().join("store.toml") })
            }
            _ => Ok(()),
        }
    }

    /// Appends the events that are not in the log yet and publishes a signed head over all of them.
    ///
    /// # Errors
    /// [`RecorderError::Audit`]; then nothing is acknowledged.
    pub fn record(&self, events: &[EventBody]) -> Result<TreeHead, RecorderError> {
        let (mut log, _lock) = self.store.open_audit()?;
        log.append(events, &self.actor, self.clock.unix_seconds())?;
        let head = log.publish(&self.log_key)?;
        self.keys.remember_head(self.store.id(), &head)?;
        Ok(head)
    }
}

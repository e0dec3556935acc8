//! Writing to a store's audit log: the store, its keys and the actor, opened together.

use std::path::{Path, PathBuf};

use bitproof_core_ledger::clock::Clock;
use bitproof_core_ledger::events::{Actor, AuditError, AuditView, EventBody};
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::keyring::{self, Keyring};
use bitproof_core_ledger::keys::{KeyError, KeyFolder, KeyRole, PrivateKey};
use bitproof_core_ledger::note::{NoteError, NoteKey, TreeHead};
use bitproof_core_ledger::signature::ARTIFACT_SIGNER;
use bitproof_core_ledger::signed_log::{SignedLogError, HEAD};
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
    /// The user's key was rotated elsewhere or revoked in this store.
    #[error("the {role} key {} no longer signs for this store: it was replaced or revoked\n  hint: use the key that took its place, or move this one away to make a new one", path.display())]
    KeyEnded {
        /// Its role.
        role: KeyRole,
        /// Its file.
        path: PathBuf,
    },
    /// Keys are replaced while nobody else records.
    #[error("somebody is recording into {}: its runs sign with the key that is to be replaced\n  hint: try again when they are done", store.display())]
    Busy {
        /// The store.
        store: PathBuf,
    },
    /// A key that cannot be revoked.
    #[error("{vkey} is not a key in force other than your own\n  hint: `bitproof audit log` shows the keys; rotate your own key first")]
    NotInForce {
        /// The key.
        vkey: String,
    },
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
    writer: Option<StoreLock>,
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
        let mut key = |role| -> Result<(), RecorderError> {
            if keys.load_or_create(role)?.1 {
                new_keys.push(keys.path(role));
            }
            Ok(())
        };
        key(KeyRole::Log)?;
        key(KeyRole::Artifact)?;
        let (store, new_store) = Store::open_or_create(files, root)?;
        let writer = store.join_writers()?;
        // Somebody may have replaced them while the lock was waited for.
        let (log_key, artifact_key) = (keys.load(KeyRole::Log)?, keys.load(KeyRole::Artifact)?);
        let key_id = log_key.note_key(&store.origin())?.id_hex();
        let actor = Actor { key_id, user: user.to_owned(), host: host.to_owned() };
        let mut recorder = Self {
            keys,
            store,
            artifact_key,
            new_keys,
            new_store,
            log_key,
            actor,
            clock,
            writer: Some(writer),
        };
        let view = recorder.checked_log()?;
        let keyring = view.keyring();
        let mut opening = vec![EventBody::StoreCreated { store: recorder.store.description() }];
        for role in [KeyRole::Log, KeyRole::Artifact] {
            recorder.end_rotation(role, &keyring)?;
            let key = recorder.public(role)?;
            match keyring.spans().iter().find(|span| span.role == role && span.key == key) {
                None => opening.push(recorder.let_in(role, &key, &keyring)?),
                Some(span) if span.until.is_some() => {
                    return Err(RecorderError::KeyEnded { role, path: keys.path(role) })
                }
                Some(_) => {}
            }
        }
        match &view.head {
            // The log begins with the store, as was checked, and has these keys.
            Some(head) if opening.len() == 1 => keys.remember_head(recorder.store.id(), head)?,
            _ => drop(recorder.record(&opening)?),
        }
        Ok(recorder)
    }

    /// The name under which a role's key signs for this store.
    fn key_name(&self, role: KeyRole) -> String {
        match role {
            KeyRole::Log => self.store.origin(),
            KeyRole::Artifact | KeyRole::Witness => ARTIFACT_SIGNER.to_owned(),
        }
    }

    fn own(&self, role: KeyRole) -> &PrivateKey {
        match role {
            KeyRole::Log => &self.log_key,
            KeyRole::Artifact | KeyRole::Witness => &self.artifact_key,
        }
    }

    fn public(&self, role: KeyRole) -> Result<NoteKey, NoteError> {
        self.own(role).note_key(&self.key_name(role))
    }

    fn take(&mut self, role: KeyRole, key: PrivateKey) -> Result<(), RecorderError> {
        match role {
            KeyRole::Log => {
                self.actor.key_id = key.note_key(&self.store.origin())?.id_hex();
                self.log_key = key;
            }
            KeyRole::Artifact | KeyRole::Witness => self.artifact_key = key,
        }
        Ok(())
    }

    /// A rotation that the log has, but whose process was stopped before the new key took the old one's name.
    fn end_rotation(&mut self, role: KeyRole, keyring: &Keyring) -> Result<(), RecorderError> {
        let Some(next) = self.keys.begun(role)? else { return Ok(()) };
        let public = next.note_key(&self.key_name(role))?;
        if keyring.in_force(role, u64::MAX).contains(&public) {
            self.keys.adopt_next(role)?;
            self.take(role, next)?;
        }
        Ok(())
    }

    /// The event by which the user's key begins to sign here: as a stranger's, or in the place of one that was rotated while
    /// another store was at hand.
    fn let_in(&self, role: KeyRole, key: &NoteKey, keyring: &Keyring) -> Result<EventBody, RecorderError> {
        let in_force = keyring.in_force(role, u64::MAX);
        for old in self.keys.retired(role)? {
            if in_force.contains(&old.note_key(&self.key_name(role))?) {
                return Ok(keyring::rotation(&old, self.own(role), &self.key_name(role))?);
            }
        }
        Ok(EventBody::KeyEnrolled { role: role.to_string(), vkey: key.to_string() })
    }

    /// Replaces a role's key by a new one: an event that both have signed, then the files. Returns the public halves of the
    /// old and the new key.
    ///
    /// # Errors
    /// [`RecorderError`]; calling it again goes on.
    pub fn rotate(&mut self, role: KeyRole) -> Result<(NoteKey, NoteKey), RecorderError> {
        // Another process that signs with the old key would sign for what the new one has begun.
        self.writer = None;
        self.writer = self.store.only_writer()?;
        if self.writer.is_none() {
            return Err(RecorderError::Busy { store: self.store.root().to_owned() });
        }
        let old = self.public(role)?;
        if !self.checked_log()?.keyring().in_force(role, u64::MAX).contains(&old) {
            return Err(RecorderError::KeyEnded { role, path: self.keys.path(role) });
        }
        let next = self.keys.next(role)?;
        let event = keyring::rotation(self.own(role), &next, &self.key_name(role))?;
        let public = next.note_key(&self.key_name(role))?;
        if role == KeyRole::Log {
            // The head that covers the rotation is signed by the new key.
            self.take(role, next)?;
            self.record(&[event])?;
        } else {
            self.record(&[event])?;
            self.take(role, next)?;
        }
        self.keys.adopt_next(role)?;
        Ok((old, public))
    }

    /// Declares that what a key signed for a log of more than `from_size` leaves counts for nothing; without a size, of more
    /// leaves than there are. Returns the size. The key in use is rotated first.
    ///
    /// # Errors
    /// [`RecorderError::NotInForce`] for a key that is not in force, or is the one in use.
    pub fn revoke(&self, key: &NoteKey, from_size: Option<u64>) -> Result<u64, RecorderError> {
        let view = self.store.read_audit(&[])?;
        let keyring = view.keyring();
        let span = keyring.spans().iter().find(|span| span.key == *key);
        let role = match span {
            Some(span) if self.public(span.role)? != *key => span.role,
            _ => return Err(RecorderError::NotInForce { vkey: key.to_string() }),
        };
        let from_size = from_size.unwrap_or(view.covered().len() as u64);
        self.record(&[EventBody::KeyRevoked { role: role.to_string(), vkey: key.to_string(), from_size }])?;
        Ok(from_size)
    }

    /// The owner's key must not sign a log that somebody else rewrote, or began anew in the files of another.
    fn checked_log(&self) -> Result<AuditView, RecorderError> {
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
        let expected = EventBody::StoreCreated { store: self.store.description() };
        if view.events().next().is_some_and(|first| *first != expected) {
            return Err(RecorderError::Description { path: self.store.root().join("store.toml") });
        }
        Ok(view)
    }

    /// Appends the events that are not in the log yet and publishes a signed head over all of them.
    ///
    /// # Errors
    /// [`RecorderError::Audit`]; then nothing is acknowledged.
    pub fn record(&self, events: &[EventBody]) -> Result<TreeHead, RecorderError> {
        let (mut log, _lock) = self.store.open_audit()?;
        let ended = |error| match error {
            AuditError::Log(SignedLogError::NoKey { .. }) => {
                RecorderError::KeyEnded { role: KeyRole::Log, path: self.keys.path(KeyRole::Log) }
            }
            other => other.into(),
        };
        log.append(events, &self.actor, self.clock.unix_seconds(), &self.log_key).map_err(ended)?;
        let head = log.publish(&self.log_key)?;
        self.keys.remember_head(self.store.id(), &head)?;
        Ok(head)
    }
}

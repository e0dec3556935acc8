//! Keys of a user, as PKCS#8 PEM files outside every store, one for each role: Ed25519, and P-256 for models.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

use crate::dsse::PublicKey;
use crate::files::{FileError, Files};
use crate::limits::KEY_FILE_BYTES;
use crate::note::{self, NoteAlgorithm, NoteError, NoteKey, TreeHead};

mod model_signing;

pub use model_signing::{ModelSigningKey, MODEL_SIGNING};

/// What an Ed25519 key may sign. A key has one role, and a role one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRole {
    /// Tree heads of audit logs.
    Log,
    /// Models and manifests.
    Artifact,
    /// Tree heads of other people's logs.
    Witness,
}

impl KeyRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Log, Self::Artifact, Self::Witness];

    /// Its name, which is also the name of the key's file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Artifact => "artifact",
            Self::Witness => "witness",
        }
    }
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyRole {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| KeyError::UnknownRole { got: text.to_owned() })
    }
}

/// The name under which witnesses' keys sign.
pub const WITNESS_NAME: &str = "bitproof.local/witness";

/// A key that cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(String),
    /// There is a key already; it is not overwritten.
    #[error("{} exists already", path.display())]
    Exists {
        /// Its file.
        path: PathBuf,
    },
    /// There is no such key.
    #[error("there is no {role} key at {}", path.display())]
    Missing {
        /// Its role.
        role: &'static str,
        /// Where it would be.
        path: PathBuf,
    },
    /// Others than the owner can read it.
    #[error("{} can be read by others (mode {mode:03o}); make it 600", path.display())]
    TooOpen {
        /// Its file.
        path: PathBuf,
        /// The permission bits.
        mode: u32,
    },
    /// It is not a PKCS#8 PEM file of such a key.
    #[error("{} is not {expected} in PKCS#8 PEM", path.display())]
    Malformed {
        /// Its file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// The text that was given is not a key.
    #[error("the text that was given as the {role} key is not {expected} in PKCS#8 PEM")]
    MalformedText {
        /// Its role.
        role: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A key that was given as a text is not made or replaced.
    #[error("the {role} key was given from outside: make and replace it there")]
    Given {
        /// Its role.
        role: &'static str,
    },
    /// A role that does not exist.
    #[error("{got:?} is not a role of a key; there are log, artifact, witness and model-signing")]
    UnknownRole {
        /// What was asked for.
        got: String,
    },
    /// A note could not be signed.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// What the keys of a [`KeyRole`] are.
const ED25519: &str = "an Ed25519 key";

/// A private key in memory; wiped when dropped.
pub struct PrivateKey {
    role: KeyRole,
    key: SigningKey,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.role)
    }
}

impl PrivateKey {
    /// A key from its 32 secret bytes, for tests and for keys that live elsewhere.
    pub fn from_bytes(role: KeyRole, secret: &[u8; 32]) -> Self {
        Self { role, key: SigningKey::from_bytes(secret) }
    }

    /// What it may sign.
    pub fn role(&self) -> KeyRole {
        self.role
    }

    /// Its public half under a name. A witness's key is one for cosignatures.
    ///
    /// # Errors
    /// [`NoteError::KeyName`].
    pub fn note_key(&self, name: &str) -> Result<NoteKey, NoteError> {
        let algorithm = match self.role {
            KeyRole::Witness => NoteAlgorithm::Cosignature,
            KeyRole::Log | KeyRole::Artifact => NoteAlgorithm::Ed25519,
        };
        NoteKey::new(name, algorithm, self.key.verifying_key())
    }

    /// The line by which a witness of this name says that it saw a tree head.
    ///
    /// # Errors
    /// As [`note::cosignature`]; [`NoteError::KeyName`] also for a key of another role.
    pub fn cosign(&self, body: &str, name: &str, unix_seconds: u64) -> Result<String, NoteError> {
        if self.role != KeyRole::Witness {
            return Err(NoteError::KeyName { name: name.to_owned() });
        }
        note::cosignature(body, name, &self.key, unix_seconds)
    }

    /// Its public half, as those know it who read no notes.
    pub fn public_key(&self) -> PublicKey {
        self.key.verifying_key().into()
    }

    /// The signature over the bytes that an envelope signs. `None` for a key that is not for artifacts.
    pub(crate) fn sign_envelope(&self, message: &[u8]) -> Option<[u8; 64]> {
        (self.role == KeyRole::Artifact).then(|| self.key.sign(message).to_bytes())
    }

    /// Signs a note under a name.
    ///
    /// # Errors
    /// As [`note::sign`].
    pub fn sign_note(&self, body: &str, name: &str) -> Result<String, NoteError> {
        note::sign(body, name, &self.key)
    }
}

/// After the role in the name of a file with a key that was replaced; its key id follows.
const RETIRED: &str = "retired-";

/// The folder of a user's keys.
#[derive(Clone)]
pub struct KeyFolder {
    dir: PathBuf,
    /// Keys that were given as PEM texts instead of files.
    given: BTreeMap<&'static str, Zeroizing<String>>,
}

impl fmt::Debug for KeyFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given: Vec<_> = self.given.keys().collect();
        f.debug_struct("KeyFolder").field("dir", &self.dir).field("given", &given).finish()
    }
}

impl KeyFolder {
    /// The folder `dir`, which is made with the first key.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, given: BTreeMap::new() }
    }

    /// The same folder with a role's key given as a PKCS#8 PEM text, as a machine without files of its own has it.
    #[must_use]
    pub fn with_pem(mut self, role: KeyRole, pem: String) -> Self {
        self.given.insert(role.name(), Zeroizing::new(pem));
        self
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a role's key is.
    pub fn path(&self, role: KeyRole) -> PathBuf {
        self.dir.join(format!("{role}.pem"))
    }

    /// Makes a new key from the system's random bytes.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when the role has one.
    pub fn create(&self, role: KeyRole) -> Result<PrivateKey, KeyError> {
        self.create_at(role, self.path(role))
    }

    fn create_at(&self, role: KeyRole, path: PathBuf) -> Result<PrivateKey, KeyError> {
        if self.given.contains_key(role.name()) {
            return Err(KeyError::Given { role: role.name() });
        }
        let mut secret = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *secret).map_err(|e| KeyError::Random(e.to_string()))?;
        let key = PrivateKey::from_bytes(role, &secret);
        let malformed = |_| KeyError::Malformed { path: path.clone(), expected: ED25519 };
        // Without the public half beside it, which OpenSSL and what is built on it do not read.
        let alone = KeypairBytes { secret_key: *secret, public_key: None };
        let pem = alone.to_pkcs8_pem(LineEnding::LF).map_err(malformed)?;
        self.publish(path, &pem)?;
        Ok(key)
    }

    /// Keeps the text of a new key under a name that is free.
    fn publish(&self, path: PathBuf, pem: &str) -> Result<(), KeyError> {
        make_private_dir(&self.dir)?;
        // Written beside and linked into place: a killed process leaves no half key under the key's name.
        let mut name = [0u8; 8];
        getrandom::fill(&mut name).map_err(|e| KeyError::Random(e.to_string()))?;
        let staging = self.dir.join(format!(".new-{}", crate::store::hex(&name)));
        write_private(&staging, pem.as_bytes())?;
        let linked = fs::hard_link(&staging, &path);
        fs::remove_file(&staging).map_err(FileError::at("remove", &staging))?;
        match linked {
            Ok(()) => Ok(Files::on_disk().sync_dir(&self.dir)?),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(KeyError::Exists { path }),
            Err(e) => Err(FileError::at("create", &path)(e).into()),
        }
    }

    fn next_path(&self, role: KeyRole) -> PathBuf {
        self.dir.join(format!("{role}.next.pem"))
    }

    /// The key that is to take the place of a role's key, made when there is none.
    ///
    /// # Errors
    /// As [`KeyFolder::create`].
    pub fn next(&self, role: KeyRole) -> Result<PrivateKey, KeyError> {
        match self.create_at(role, self.next_path(role)) {
            Err(KeyError::Exists { path }) => self.load_at(role, path),
            made => made,
        }
    }

    /// The key that is to take the place of a role's key, if a rotation has begun.
    ///
    /// # Errors
    /// As [`KeyFolder::load`].
    pub fn begun(&self, role: KeyRole) -> Result<Option<PrivateKey>, KeyError> {
        match self.load_at(role, self.next_path(role)) {
            Err(KeyError::Missing { .. }) => Ok(None),
            loaded => loaded.map(Some),
        }
    }

    /// The keys of a role whose place others took.
    ///
    /// # Errors
    /// As [`KeyFolder::load`].
    pub fn retired(&self, role: KeyRole) -> Result<Vec<PrivateKey>, KeyError> {
        let prefix = format!("{role}.{RETIRED}");
        let names = match Files::on_disk().list(&self.dir) {
            Err(e) if e.is_not_found() => Vec::new(),
            listed => listed?,
        };
        let names = names.iter().filter(|(name, _)| name.starts_with(&prefix));
        names.map(|(name, _)| self.load_at(role, self.dir.join(name))).collect()
    }

    /// Makes the next key the role's key and keeps the old one under its key id.
    ///
    /// # Errors
    /// [`KeyError`] when a file cannot be renamed; calling it again goes on.
    pub fn adopt_next(&self, role: KeyRole) -> Result<(), KeyError> {
        let (current, next) = (self.path(role), self.next_path(role));
        if !next.exists() {
            // A rotation in another store has done it.
            return Ok(());
        }
        let id = self.load(role)?.note_key("retired")?.id_hex();
        let retired = self.dir.join(format!("{role}.{RETIRED}{id}.pem"));
        match fs::hard_link(&current, &retired) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(FileError::at("create", &retired)(e).into())
            }
            _ => {}
        }
        fs::rename(&next, &current).map_err(FileError::at("publish", &current))?;
        Ok(Files::on_disk().sync_dir(&self.dir)?)
    }

    /// Where the head is remembered that was published last for a store.
    pub fn head_path(&self, store_id: &str) -> PathBuf {
        self.dir.with_file_name("heads").join(store_id)
    }

    /// The size and root that were published last for a store; `None` before the first time, or when a crash of the
    /// machine has lost it.
    pub fn remembered_head(&self, store_id: &str) -> Option<TreeHead> {
        let bytes = Files::on_disk().read_bounded(&self.head_path(store_id), KEY_FILE_BYTES).ok()?;
        TreeHead::parse(std::str::from_utf8(&bytes).ok()?).ok()
    }

    /// Remembers the head that was published last for a store, outside the store: whoever rewrites the store is found
    /// out by the next one who records into it with these keys. It is not synced: what a crash of the machine loses here
    /// is the memory, and nothing that was recorded.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn remember_head(&self, store_id: &str, head: &TreeHead) -> Result<(), FileError> {
        let path = self.head_path(store_id);
        let heads = self.dir.with_file_name("heads");
        make_private_dir(&heads)?;
        let staging = path.with_extension(format!("new-{}-{}", std::process::id(), head.size));
        fs::write(&staging, head.body()).map_err(FileError::at("write", &staging))?;
        fs::rename(&staging, &path).map_err(FileError::at("publish", &path))
    }

    /// Loads a role's key.
    ///
    /// # Errors
    /// [`KeyError::Missing`], [`KeyError::TooOpen`] when group or world have any permission, [`KeyError::Malformed`].
    pub fn load(&self, role: KeyRole) -> Result<PrivateKey, KeyError> {
        match self.given.get(role.name()) {
            Some(pem) => {
                let malformed = |_| KeyError::MalformedText { role: role.name(), expected: ED25519 };
                let key = SigningKey::from_pkcs8_pem(pem).map_err(malformed)?;
                Ok(PrivateKey { role, key })
            }
            None => self.load_at(role, self.path(role)),
        }
    }

    fn load_at(&self, role: KeyRole, path: PathBuf) -> Result<PrivateKey, KeyError> {
        let pem = read_private(role.name(), &path, ED25519)?;
        match SigningKey::from_pkcs8_pem(&pem) {
            Ok(key) => Ok(PrivateKey { role, key }),
            Err(_) => Err(KeyError::Malformed { path, expected: ED25519 }),
        }
    }

    /// Loads a role's key, or makes it; says whether it was made.
    ///
    /// # Errors
    /// As [`KeyFolder::load`] and [`KeyFolder::create`].
    pub fn load_or_create(&self, role: KeyRole) -> Result<(PrivateKey, bool), KeyError> {
        match self.load(role) {
            Err(KeyError::Missing { .. }) => match self.create(role) {
                // Another process was faster.
                Err(KeyError::Exists { .. }) => self.load(role).map(|key| (key, false)),
                made => made.map(|key| (key, true)),
            },
            loaded => loaded.map(|key| (key, false)),
        }
    }
}

/// The text of a key's file that nobody else can read.
fn read_private(
    role: &'static str,
    path: &Path,
    expected: &'static str,
) -> Result<Zeroizing<String>, KeyError> {
    let bytes = match Files::on_disk().read_bounded(path, KEY_FILE_BYTES) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(e) if e.is_not_found() => return Err(KeyError::Missing { role, path: path.to_owned() }),
        Err(e) => return Err(e.into()),
    };
    refuse_open_permissions(path)?;
    match std::str::from_utf8(&bytes) {
        Ok(pem) => Ok(Zeroizing::new(pem.to_owned())),
        Err(_) => Err(KeyError::Malformed { path: path.to_owned(), expected }),
    }
}

#[cfg(unix)]
fn make_private_dir(dir: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(FileError::at("create", dir))
}

#[cfg(unix)]
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(FileError::at("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(FileError::at("write", path))
}

#[cfg(unix)]
fn refuse_open_permissions(path: &Path) -> Result<(), KeyError> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).map_err(FileError::at("read", path))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(KeyError::TooOpen { path: path.to_owned(), mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_is_made_once_loaded_again_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = KeyFolder::new(dir.path().join("keys"));
        assert!(matches!(folder.load(KeyRole::Log), Err(KeyError::Missing { .. })));
        let made = folder.create(KeyRole::Log).unwrap();
        assert!(matches!(folder.create(KeyRole::Log), Err(KeyError::Exists { .. })));
        let loaded = folder.load(KeyRole::Log).unwrap();
        assert_eq!(made.note_key("k").unwrap(), loaded.note_key("k").unwrap());
        let path = folder.path(KeyRole::Log);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(folder.load(KeyRole::Log), Err(KeyError::TooOpen { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(folder.load(KeyRole::Log), Err(KeyError::Malformed { .. })));
    }
}

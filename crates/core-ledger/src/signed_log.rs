//! A log of byte records under a Merkle tree and a signed head: nothing that was published changes or goes unnoticed.
//!
//! `events.log` holds the records, which are the leaves of an RFC 6962 tree; `head` is the newest signed tree head. The order of
//! a write is: leaves synced, head signed and published. A leaf under a published head is never cut; leaves past it
//! were not acknowledged. `docs/formats/audit-log.md` and `docs/formats/log-file.md` are normative.
//!
//! ```
//! use bitproof_core_ledger::keys::{KeyRole, PrivateKey};
//! use bitproof_core_ledger::signed_log::{SignedLog, SignedView};
//! use bitproof_core_ledger::files::Files;
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("log");
//! let key = PrivateKey::from_bytes(KeyRole::Log, &[7; 32]);
//! let public = key.note_key("example.org/log")?;
//! let mut log = SignedLog::open(&Files::on_disk(), &dir, "example.org/log", &[public.clone()])?;
//! log.append(&[b"first", b"other"])?;
//! log.publish(&key)?;
//!
//! let view = SignedView::read(&Files::on_disk(), &dir, "example.org/log", &[public.clone()])?;
//! let proof = view.prove(1).expect("there are two leaves");
//! assert_eq!((proof.check(&public)?.size, proof.leaf.as_slice()), (2, b"other".as_slice()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::{Path, PathBuf};

use crate::files::{FileError, Files};
use crate::keys::PrivateKey;
use crate::limits::{LEAF_BYTES, NOTE_BYTES};
use crate::log::{self, Acknowledged, LogError, LogKind, LogWriter, Record};
use crate::merkle::{FullTree, Tree};
use crate::note::{self, NoteError, NoteKey, TreeHead};
use crate::storage::{Held, LockMode};
use crate::tlog_proof::TlogProof;

/// The name of the file of leaves.
pub const LEAVES: &str = "events.log";
/// The name of the file of the newest signed head.
pub const HEAD: &str = "head";
/// The name of the file that is locked by whoever writes.
const LOCK: &str = "lock";

/// A signed log that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignedLogError {
    /// The file of leaves is unreadable or damaged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The head is malformed or its signature does not hold.
    #[error("{}: {source}", path.display())]
    Head {
        /// The head's file.
        path: PathBuf,
        /// What is wrong.
        source: NoteError,
    },
    /// No key that was asked for may sign a head of this size.
    #[error("{} covers {size} leaves, and no key that may sign for them {}", path.display(), if given.is_empty() { "is in the log".to_owned() } else { format!("is {given} or took its place") })]
    NoKey {
        /// The head's file.
        path: PathBuf,
        /// The size that it claims.
        size: u64,
        /// The keys that were given, in their text form.
        given: String,
    },
    /// There are fewer leaves than the head covers.
    #[error("{} has {leaves} leaves, but its signed head covers {size}", path.display())]
    Missing {
        /// The file of leaves.
        path: PathBuf,
        /// How many there are.
        leaves: u64,
        /// How many the head covers.
        size: u64,
    },
    /// The leaves do not have the root that was signed.
    #[error("the {size} leaves of {} have the root {got}, but the signed head says {expected}", path.display())]
    Root {
        /// The file of leaves.
        path: PathBuf,
        /// How many leaves the head covers.
        size: u64,
        /// The root that was signed, in base64.
        expected: String,
        /// The root of the leaves, in base64.
        got: String,
    },
    /// The head is of another log.
    #[error("{} is a head of {got}, not of {expected}", path.display())]
    Origin {
        /// The head's file.
        path: PathBuf,
        /// This log's origin.
        expected: String,
        /// The origin in the head.
        got: String,
    },
    /// A leaf is larger than a leaf may be.
    #[error("a leaf of {len} bytes is above the limit of {LEAF_BYTES}")]
    LeafTooLarge {
        /// Its length.
        len: usize,
    },
    /// Somebody else writes to the log.
    #[error("{} is held by another writer", path.display())]
    Busy {
        /// The lock's file.
        path: PathBuf,
    },
}

/// The keys that may sign a head, of which those under the log's origin count.
pub(crate) struct Signers {
    pub(crate) keys: Vec<NoteKey>,
    /// The keys that a reader asked for, to say so.
    pub(crate) given: Vec<NoteKey>,
}

/// What a signed log holds, as read from its files and held against its head.
#[derive(Debug, Clone)]
pub struct SignedView {
    /// Every leaf, also those past the head.
    pub records: Vec<Record>,
    /// The newest signed head; `None` in a log that has acknowledged nothing.
    pub head: Option<TreeHead>,
    /// The key that signed it.
    pub signer: Option<NoteKey>,
    /// The head with its signatures, as text.
    pub note: Option<String>,
    /// Bytes after the last complete leaf.
    pub torn_bytes: u64,
}

impl SignedView {
    /// Reads the log in `dir` and checks every frame, the tree and the head's signature, which must be by one of `keys`
    /// under the name `origin`.
    ///
    /// # Errors
    /// [`SignedLogError`] with the file and, where there is one, the offset.
    pub fn read(files: &Files, dir: &Path, origin: &str, keys: &[NoteKey]) -> Result<Self, SignedLogError> {
        Self::read_with(files, dir, origin, |_, _| Ok(Signers { keys: keys.to_vec(), given: keys.to_vec() }))
    }

    /// Reads a log whose leaves say which keys sign it: `signers` is told them and the size that the head claims.
    pub(crate) fn read_with<E: From<SignedLogError>>(
        files: &Files,
        dir: &Path,
        origin: &str,
        signers: impl FnOnce(&[Record], u64) -> Result<Signers, E>,
    ) -> Result<Self, E> {
        let leaves_path = dir.join(LEAVES);
        if !files.exists(&leaves_path) && !files.exists(&dir.join(HEAD)) {
            return Ok(Self { records: Vec::new(), head: None, signer: None, note: None, torn_bytes: 0 });
        }
        // The head comes first: whatever a writer appends meanwhile, the leaves that are read then are at least those it covers.
        let note = read_head(files, dir)?;
        // What it says is believed only after its signature was checked; until then it says how much may not be cut.
        let claimed = note.as_deref().map_or(0, claimed_size);
        let contents = log::read(files, &leaves_path, LogKind::AUDIT, Acknowledged::Records(claimed))
            .map_err(SignedLogError::from)?;
        let Signers { mut keys, given } = signers(&contents.records, claimed)?;
        keys.retain(|key| key.name() == origin);
        if keys.is_empty() && note.is_some() {
            return Err(no_key(dir, claimed, &given).into());
        }
        let signed = note.as_deref().map(|note| open_head(note, dir, origin, &keys)).transpose()?;
        if let Some((head, _)) = &signed {
            check_root(&leaves_path, &contents.records, head)?;
        }
        let (head, signer) = signed.unzip();
        let note = note.map(|note| String::from_utf8_lossy(&note).into_owned());
        Ok(Self { records: contents.records, head, signer, note, torn_bytes: contents.torn_bytes })
    }

    /// The leaves under the signed head: what was acknowledged. The others count for nothing until a head covers them.
    pub fn covered(&self) -> &[Record] {
        &self.records[..self.head.as_ref().map_or(0, |head| head.size as usize)]
    }

    /// Proves that a leaf is under the head; `None` when it is not. Takes time and memory in the number of leaves.
    pub fn prove(&self, index: u64) -> Option<TlogProof> {
        let (head, note) = (self.head.as_ref()?, self.note.clone()?);
        let leaf = self.covered().get(usize::try_from(index).ok()?)?.payload.clone();
        let mut tree = FullTree::default();
        self.covered().iter().for_each(|record| tree.push(&record.payload));
        Some(TlogProof { leaf, index, hashes: tree.inclusion_proof(index, head.size)?, head: note })
    }
}

/// The size that a head claims, before anything of it was checked; all there is when it claims none.
fn claimed_size(note: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(note);
    text.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(u64::MAX)
}

fn read_head(files: &Files, dir: &Path) -> Result<Option<Vec<u8>>, SignedLogError> {
    match files.read_bounded(&dir.join(HEAD), NOTE_BYTES as u64) {
        Err(e) if e.is_not_found() => Ok(None),
        read => Ok(Some(read?)),
    }
}

fn open_head(
    note: &[u8],
    dir: &Path,
    origin: &str,
    keys: &[NoteKey],
) -> Result<(TreeHead, NoteKey), SignedLogError> {
    let path = dir.join(HEAD);
    let at_head = |source| SignedLogError::Head { path: path.clone(), source };
    let (body, signer) = note::open(note, keys).map_err(at_head)?;
    let head = TreeHead::parse(body).map_err(at_head)?;
    if head.origin != origin {
        return Err(SignedLogError::Origin { path, expected: origin.to_owned(), got: head.origin });
    }
    Ok((head, signer.clone()))
}

fn check_root(path: &Path, records: &[Record], head: &TreeHead) -> Result<(), SignedLogError> {
    let leaves = records.len() as u64;
    if leaves < head.size {
        return Err(SignedLogError::Missing { path: path.to_owned(), leaves, size: head.size });
    }
    let mut tree = Tree::default();
    records[..head.size as usize].iter().for_each(|r| tree.push(&r.payload));
    if tree.root() == head.root {
        return Ok(());
    }
    let got = TreeHead { root: tree.root(), ..head.clone() }.root_base64();
    Err(SignedLogError::Root { path: path.to_owned(), size: head.size, expected: head.root_base64(), got })
}

fn no_key(dir: &Path, size: u64, given: &[NoteKey]) -> SignedLogError {
    let given = given.iter().map(NoteKey::to_string).collect::<Vec<_>>().join(" or ");
    SignedLogError::NoKey { path: dir.join(HEAD), size, given }
}

/// A signed log that is open for appending.
pub struct SignedLog {
    files: Files,
    dir: PathBuf,
    staging: PathBuf,
    origin: String,
    writer: LogWriter,
    tree: Tree,
    published: u64,
    /// The keys that may sign; `None` where the leaves say so, and the caller asks them.
    keys: Option<Vec<NoteKey>>,
    _lock: Option<Held>,
}

impl std::fmt::Debug for SignedLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { dir, origin, published, .. } = self;
        write!(f, "SignedLog {{ dir: {dir:?}, origin: {origin:?}, published: {published} }}")
    }
}

impl SignedLog {
    /// Opens the log in `dir`, or makes it; checks it against its newest head, which must be signed by one of `keys`, and
    /// cuts what a stopped write left past it. Until it is dropped nobody else writes to it.
    ///
    /// # Errors
    /// [`SignedLogError`]; a log that does not match its signed head is not written to.
    pub fn open(files: &Files, dir: &Path, origin: &str, keys: &[NoteKey]) -> Result<Self, SignedLogError> {
        files.create_dirs(dir)?;
        let path = dir.join(LOCK);
        let lock = files.lock(&path, LockMode::Exclusive, false)?.ok_or(SignedLogError::Busy { path })?;
        let view = SignedView::read(files, dir, origin, keys)?;
        let published = view.head.map_or(0, |head| head.size);
        let log = Self::go_on(files, dir, dir, origin, published)?;
        Ok(Self { keys: Some(keys.to_vec()), _lock: Some(lock), ..log })
    }

    /// Goes on with a log that was checked, of which `published` leaves are under a head. The caller holds a lock.
    pub(crate) fn go_on(
        files: &Files,
        dir: &Path,
        staging: &Path,
        origin: &str,
        published: u64,
    ) -> Result<Self, SignedLogError> {
        let (mut writer, records) =
            LogWriter::open(files, &dir.join(LEAVES), LogKind::AUDIT, Acknowledged::Records(published))?;
        // Leaves past the head were not acknowledged. Who wrote them is unknown: the key signs only what this process
        // appends, and whoever was interrupted appends again.
        writer.cut(&records, published)?;
        let mut tree = Tree::default();
        records[..published as usize].iter().for_each(|r| tree.push(&r.payload));
        Ok(Self {
            files: files.clone(),
            dir: dir.to_owned(),
            staging: staging.to_owned(),
            origin: origin.to_owned(),
            writer,
            tree,
            published,
            keys: None,
            _lock: None,
        })
    }

    /// Appends leaves as one durable group. They are acknowledged by the next head.
    ///
    /// # Errors
    /// [`SignedLogError::LeafTooLarge`] before anything is written; else what the file says, and none of them counts.
    pub fn append<L: AsRef<[u8]>>(&mut self, leaves: &[L]) -> Result<(), SignedLogError> {
        if let Some(len) = leaves.iter().map(|leaf| leaf.as_ref().len()).find(|&len| len > LEAF_BYTES) {
            return Err(SignedLogError::LeafTooLarge { len });
        }
        if !leaves.is_empty() {
            self.writer.append(leaves)?;
            leaves.iter().for_each(|leaf| self.tree.push(leaf.as_ref()));
        }
        Ok(())
    }

    /// Signs and publishes a head over every leaf, if the newest head does not cover them already. Once it is back, they are
    /// acknowledged.
    ///
    /// # Errors
    /// [`SignedLogError`]; then the old head stands. A key that a reader would refuse is refused.
    pub fn publish(&mut self, key: &PrivateKey) -> Result<TreeHead, SignedLogError> {
        let head = TreeHead { origin: self.origin.clone(), size: self.tree.size(), root: self.tree.root() };
        if head.size > self.published {
            let public = key.note_key(&self.origin).map_err(|source| self.at_head(source))?;
            if self.keys.as_ref().is_some_and(|keys| !keys.contains(&public)) {
                return Err(self.no_key(head.size, &[public]));
            }
            let note = key.sign_note(&head.body(), &self.origin).map_err(|source| self.at_head(source))?;
            self.files.replace(&self.staging, &self.dir.join(HEAD), note.as_bytes())?;
            self.published = head.size;
        } else {
            // Whoever published it may have been stopped before its name was durable.
            self.files.sync_dir(&self.dir)?;
        }
        Ok(head)
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// How many of them are under the newest head.
    pub fn published(&self) -> u64 {
        self.published
    }

    pub(crate) fn at_head(&self, source: NoteError) -> SignedLogError {
        SignedLogError::Head { path: self.dir.join(HEAD), source }
    }

    pub(crate) fn no_key(&self, size: u64, given: &[NoteKey]) -> SignedLogError {
        no_key(&self.dir, size, given)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::keys::KeyRole;

    const ORIGIN: &str = "example.org/log";

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_bytes(KeyRole::Log, &[seed; 32])
    }
    fn public(seed: u8) -> NoteKey {
        key(seed).note_key(ORIGIN).unwrap()
    }
    fn open(dir: &Path) -> Result<SignedLog, SignedLogError> {
        SignedLog::open(&Files::on_disk(), dir, ORIGIN, &[public(1)])
    }
    fn read(dir: &Path, keys: &[NoteKey]) -> Result<SignedView, SignedLogError> {
        SignedView::read(&Files::on_disk(), dir, ORIGIN, keys)
    }

    #[test]
    fn what_no_head_covers_is_cut_and_what_one_covers_is_proved() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a/log");
        let mut log = open(&dir).unwrap();
        assert!(matches!(open(&dir), Err(SignedLogError::Busy { .. })));
        log.append(&[b"a", b"b", b"c"]).unwrap();
        assert_eq!((log.publish(&key(1)).unwrap().size, log.published()), (3, 3));
        log.append(&[b"d"]).unwrap();
        drop(log);
        let view = read(&dir, &[public(1)]).unwrap();
        assert_eq!((view.records.len(), view.covered().len()), (4, 3));
        assert!(view.prove(3).is_none());
        let mut log = open(&dir).unwrap();
        assert_eq!((log.size(), log.published()), (3, 3));
        log.append(&[b"e"]).unwrap();
        log.publish(&key(1)).unwrap();
        let view = read(&dir, &[public(2), public(1)]).unwrap();
        for (index, leaf) in [b"a", b"b", b"c", b"e"].iter().enumerate() {
            let proof = view.prove(index as u64).unwrap();
            assert_eq!((proof.check(&public(1)).unwrap().size, proof.leaf.as_slice()), (4, leaf.as_slice()));
            assert!(proof.check(&public(2)).is_err());
        }
    }

    #[test]
    fn another_key_and_another_byte_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut log = open(dir).unwrap();
        log.append(&[b"a", b"b"]).unwrap();
        assert!(matches!(log.publish(&key(2)), Err(SignedLogError::NoKey { size: 2, .. })));
        assert!(matches!(log.append(&[vec![0; LEAF_BYTES + 1]]), Err(SignedLogError::LeafTooLarge { .. })));
        log.publish(&key(1)).unwrap();
        drop(log);
        assert!(matches!(read(dir, &[public(2)]), Err(SignedLogError::Head { .. })));
        assert!(matches!(read(dir, &[]), Err(SignedLogError::NoKey { .. })));
        for name in [LEAVES, HEAD] {
            let path = dir.join(name);
            let good = fs::read(&path).unwrap();
            for i in 0..good.len() {
                let mut bad = good.clone();
                bad[i] ^= 0x10;
                fs::write(&path, &bad).unwrap();
                assert!(read(dir, &[public(1)]).is_err() && open(dir).is_err(), "{name} byte {i} flipped");
            }
            fs::write(&path, &good).unwrap();
        }
        read(dir, &[public(1)]).unwrap();
    }
}

//! The audit log: one store's Merkle log of typed events under signed tree heads.
//!
//! What it is as a log of bytes says [`crate::signed_log`]; here are the events and the keys that they let in.
//! `docs/formats/audit-log.md` is normative.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};

use crate::canon::{self, CanonError};
use crate::chain::ChainHead;
use crate::digest::{Content, Digest, EventKind, PlanKind, ResultKind};
use crate::files::{FileError, Files};
use crate::keyring::Keyring;
use crate::keys::{KeyRole, PrivateKey};
use crate::log;
use crate::merkle::{self, FullTree, Tree};
use crate::note::{NoteKey, TreeHead};
use crate::signed_log::{SignedLog, SignedLogError, SignedView, Signers, LEAVES};

/// The identity of an event: the digest of its body, so that saying a thing twice appends it once.
pub type EventId = Digest<EventKind>;

/// Who says that something happened. User and host are claims.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Actor {
    /// The id of the key that signs the tree head, in hex.
    pub key_id: String,
    /// The user's name.
    pub user: String,
    /// The host's name.
    pub host: String,
}

/// What a verdict judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum VerdictKind {
    /// A comparison with a baseline.
    Gate,
    /// A limit on telemetry.
    Budget,
}

impl VerdictKind {
    /// `gate` or `budget`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Budget => "budget",
        }
    }
}

/// What happened. Bodies hold digests, not contents.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum EventBody {
    /// The store was made: the first leaf.
    StoreCreated {
        /// The digest of `store.toml`.
        store: Digest<Content>,
    },
    /// A key may sign for this store from here on.
    KeyEnrolled {
        /// `log` or `artifact`.
        role: String,
        /// The key in its text form.
        vkey: String,
    },
    /// A run of a plan began.
    RunPlanned {
        /// The run's name in the store.
        run: String,
        /// The run's unique id.
        uid: [u8; 16],
        /// Its plan.
        plan: Digest<PlanKind>,
    },
    /// A run ended and its folder is complete.
    RunSealed {
        /// The run's name in the store.
        run: String,
        /// The run's unique id.
        uid: [u8; 16],
        /// Its plan.
        plan: Digest<PlanKind>,
        /// The head of its ledger.
        ledger_root: ChainHead,
        /// The digest of its outcome.
        result_root: Digest<ResultKind>,
        /// The digest of its inventory.
        inventory: Digest<Content>,
        /// Whether every task ended well.
        succeeded: bool,
    },
    /// A gate or budget was judged.
    VerdictRecorded {
        /// The run's unique id.
        uid: [u8; 16],
        /// What judged.
        kind: VerdictKind,
        /// Which gate or budget of the run's own plan, from 0; `None` when it was judged by another policy or again later.
        policy: Option<u32>,
        /// The metric.
        metric: String,
        /// The outcome in a word: `pass`, `warn`, `fail`, …
        outcome: String,
        /// The object that holds the whole verdict.
        verdict: Digest<Content>,
    },
    /// Somebody verified the store and recorded what came of it.
    VerificationRecorded {
        /// Whether everything that was checked held.
        ok: bool,
        /// The size of the log that was verified.
        tree_size: u64,
        /// The object that holds the whole report.
        report: Digest<Content>,
    },
    /// A key takes the place of another of its role; both have signed that it does.
    KeyRotated {
        /// `log` or `artifact`.
        role: String,
        /// The old key in its text form.
        old: String,
        /// The new key in its text form.
        new: String,
        /// The signed note about it, by the old key and the new.
        note: String,
    },
    /// What a key signed for a larger log than some counts for nothing.
    KeyRevoked {
        /// `log` or `artifact`.
        role: String,
        /// The key in its text form.
        vkey: String,
        /// The largest log for which its signatures count.
        from_size: u64,
    },
    /// Somebody lets a step of a run be taken.
    ApprovalRecorded {
        /// The run's unique id.
        uid: [u8; 16],
        /// The stage before which it is given, or `promote`.
        before: String,
        /// Whose approval, as a key in its text form.
        vkey: String,
        /// The object that holds the signed [`Statement`](crate::statement::Statement).
        statement: Digest<Content>,
    },
    /// Somebody accepts a finding until a time.
    WaiverRecorded {
        /// The run's unique id.
        uid: [u8; 16],
        /// The finding.
        finding: String,
        /// Until when, in seconds since 1970.
        expires_unix_seconds: u64,
        /// Whose waiver, as a key in its text form.
        vkey: String,
        /// The object that holds the signed statement.
        statement: Digest<Content>,
    },
    /// A ref names a run from here on.
    RunPromoted {
        /// The run's unique id.
        uid: [u8; 16],
        /// The ref: `production`, …
        reference: String,
        /// Who promoted it, as a key in its text form.
        vkey: String,
        /// The object that holds the signed statement.
        statement: Digest<Content>,
    },
}

impl EventBody {
    /// The kind of event in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::StoreCreated { .. } => "store-created",
            Self::KeyEnrolled { .. } => "key-enrolled",
            Self::RunPlanned { .. } => "run-planned",
            Self::RunSealed { .. } => "run-sealed",
            Self::VerdictRecorded { .. } => "verdict-recorded",
            Self::VerificationRecorded { .. } => "verification-recorded",
            Self::KeyRotated { .. } => "key-rotated",
            Self::KeyRevoked { .. } => "key-revoked",
            Self::ApprovalRecorded { .. } => "approval-recorded",
            Self::WaiverRecorded { .. } => "waiver-recorded",
            Self::RunPromoted { .. } => "run-promoted",
        }
    }

    /// The object that it is about, where it names one: what `gc` keeps and a proof can be asked for.
    pub fn object(&self) -> Option<Digest<Content>> {
        match self {
            Self::VerdictRecorded { verdict: object, .. }
            | Self::VerificationRecorded { report: object, .. }
            | Self::ApprovalRecorded { statement: object, .. }
            | Self::WaiverRecorded { statement: object, .. }
            | Self::RunPromoted { statement: object, .. } => Some(*object),
            // What a run reaches is read from its folder.
            Self::RunPlanned { .. } | Self::RunSealed { .. } => None,
            Self::StoreCreated { .. }
            | Self::KeyEnrolled { .. }
            | Self::KeyRotated { .. }
            | Self::KeyRevoked { .. } => None,
        }
    }

    /// Its identity.
    pub fn id(&self) -> EventId {
        EventId::of(self)
    }
}

/// A leaf of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// The digest of the body.
    pub id: EventId,
    /// When, in seconds since 1970, as the host claimed.
    pub claimed_unix_seconds: u64,
    /// Who.
    pub actor: Actor,
    /// What.
    pub body: EventBody,
}

/// An audit log that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The log below the events is unreadable, damaged, or not what its head says.
    #[error(transparent)]
    Log(#[from] SignedLogError),
    /// A leaf is not an event.
    #[error("{} holds a bad event at byte {offset}: {source}", path.display())]
    Event {
        /// The file of leaves.
        path: PathBuf,
        /// Where its record starts.
        offset: u64,
        /// What is wrong.
        source: CanonError,
    },
    /// A leaf's id is not the digest of its body.
    #[error("{} holds an event at byte {offset} whose id is {got}, but whose body hashes to {expected}", path.display())]
    EventId {
        /// The file of leaves.
        path: PathBuf,
        /// Where its record starts.
        offset: u64,
        /// The digest of the body.
        expected: EventId,
        /// What the event carries.
        got: EventId,
    },
}

impl From<FileError> for AuditError {
    fn from(error: FileError) -> Self {
        Self::Log(error.into())
    }
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Where its record starts in `events.log`.
    pub offset: u64,
    /// The event.
    pub event: Event,
}

impl Leaf {
    /// The bytes that the tree hashes.
    pub fn bytes(&self) -> Vec<u8> {
        canon::encode(&self.event)
    }
}

/// What an audit log holds, as read from its files and held against its signed head.
#[derive(Debug, Clone)]
pub struct AuditView {
    /// Every leaf, also those past the head.
    pub leaves: Vec<Leaf>,
    /// The newest signed head; `None` in a store that has acknowledged nothing.
    pub head: Option<TreeHead>,
    /// The key that signed it.
    pub signer: Option<NoteKey>,
    /// The head with its signatures, as text.
    pub note: Option<String>,
    /// Bytes after the last complete leaf.
    pub torn_bytes: u64,
}

impl AuditView {
    /// Reads the log in `dir` and checks every leaf, the tree and the head's signature.
    ///
    /// The head must be signed by a key that the log lets in: with `trusted` keys by one of them, or one that took its place
    /// by rotations; without, by any, which proves nothing against somebody who owns the store.
    ///
    /// # Errors
    /// [`AuditError`] with the file and, where there is one, the offset.
    pub fn read(files: &Files, dir: &Path, origin: &str, trusted: &[NoteKey]) -> Result<Self, AuditError> {
        let mut leaves = Vec::new();
        let view = SignedView::read_with(files, dir, origin, |records, claimed| {
            leaves = decode_leaves(&dir.join(LEAVES), records)?;
            // Only what the head covers may say which keys sign it.
            let ring = Keyring::of(leaves.iter().take(usize::try_from(claimed).unwrap_or(usize::MAX)));
            let mut keys = ring.in_force(KeyRole::Log, claimed);
            keys.retain(|key| trusted.is_empty() || ring.descends(key, trusted));
            Ok::<_, AuditError>(Signers { keys, given: trusted.to_vec() })
        })?;
        let SignedView { head, signer, note, torn_bytes, .. } = view;
        Ok(Self { leaves, head, signer, note, torn_bytes })
    }

    /// The leaves under the signed head: what was acknowledged. The others count for nothing until a head covers them.
    pub fn covered(&self) -> &[Leaf] {
        &self.leaves[..self.head.as_ref().map_or(0, |head| head.size as usize)]
    }

    /// The events under the signed head, in order.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &EventBody> {
        self.covered().iter().map(|leaf| &leaf.event.body)
    }

    /// The root of the tree over the first `size` leaves, when the head covers that many.
    pub fn root_at(&self, size: u64) -> Option<merkle::Hash> {
        let leaves = self.covered().get(..usize::try_from(size).ok()?)?;
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(&leaf.bytes()));
        Some(tree.root())
    }

    /// The keys that may sign for the store.
    pub fn keyring(&self) -> Keyring {
        Keyring::of(self.covered())
    }

    /// The tree under the head with every node, to prove from.
    pub fn tree(&self) -> FullTree {
        let mut tree = FullTree::default();
        self.covered().iter().for_each(|leaf| tree.push(&leaf.bytes()));
        tree
    }

    /// How many leaves no signed head covers yet.
    pub fn uncovered(&self) -> u64 {
        self.leaves.len() as u64 - self.head.as_ref().map_or(0, |h| h.size)
    }
}

fn decode_leaves(path: &Path, records: &[log::Record]) -> Result<Vec<Leaf>, AuditError> {
    let decode = |record: &log::Record| {
        let offset = record.offset;
        let event: Event = canon::decode(&record.payload).map_err(|source| AuditError::Event {
            path: path.to_owned(),
            offset,
            source,
        })?;
        let expected = event.body.id();
        if event.id == expected {
            Ok(Leaf { offset, event })
        } else {
            Err(AuditError::EventId { path: path.to_owned(), offset, expected, got: event.id })
        }
    };
    records.iter().map(decode).collect()
}

/// An audit log that is open for appending. The caller holds the store's audit lock.
#[derive(Debug)]
pub struct AuditLog {
    log: SignedLog,
    origin: String,
    ids: BTreeSet<EventId>,
    keyring: Keyring,
}

impl AuditLog {
    /// Opens the log in `dir`, checks it against its newest head, and cuts what a stopped write left past it.
    ///
    /// # Errors
    /// [`AuditError`]; a log that does not match its signed head is not written to.
    pub fn open(files: &Files, dir: &Path, staging: &Path, origin: &str) -> Result<Self, AuditError> {
        // Everything is checked before anything is cut.
        let view = AuditView::read(files, dir, origin, &[])?;
        if view.head.is_none() {
            // A head is published into a folder whose name is durable.
            files.create_dir(dir)?;
        }
        let published = view.head.as_ref().map_or(0, |head| head.size);
        Ok(Self {
            log: SignedLog::go_on(files, dir, staging, origin, published)?,
            origin: origin.to_owned(),
            ids: view.covered().iter().map(|leaf| leaf.event.id).collect(),
            keyring: view.keyring(),
        })
    }

    /// Appends those events that are not in the log yet, as one durable group over which `signer` is to sign the next head; says
    /// how many were new.
    ///
    /// # Errors
    /// [`SignedLogError::NoKey`] when the signer may not sign that head, and then nothing was written; else [`AuditError`],
    /// and none of them is acknowledged.
    pub fn append(
        &mut self,
        bodies: &[EventBody],
        actor: &Actor,
        unix_seconds: u64,
        signer: &PrivateKey,
    ) -> Result<usize, AuditError> {
        let mut keyring = self.keyring.clone();
        let mut size = self.log.size();
        for body in bodies.iter().filter(|body| !self.ids.contains(&body.id())) {
            keyring.push(size, body);
            size += 1;
        }
        self.check_signer(&keyring, size, signer)?;
        let (mut leaves, mut new) = (Vec::new(), BTreeSet::new());
        for body in bodies {
            let id = body.id();
            if !self.ids.contains(&id) && new.insert(id) {
                let actor = actor.clone();
                let event = Event { id, claimed_unix_seconds: unix_seconds, actor, body: body.clone() };
                leaves.push(canon::encode(&event));
            }
        }
        self.log.append(&leaves)?;
        self.ids.append(&mut new);
        self.keyring = keyring;
        Ok(leaves.len())
    }

    fn check_signer(&self, keyring: &Keyring, size: u64, signer: &PrivateKey) -> Result<(), AuditError> {
        let key = signer.note_key(&self.origin).map_err(|source| self.log.at_head(source))?;
        if keyring.in_force(KeyRole::Log, size).contains(&key) {
            return Ok(());
        }
        Err(self.log.no_key(size, &[key]).into())
    }

    /// Signs and publishes a head over every leaf, if the newest head does not cover them already.
    ///
    /// # Errors
    /// [`AuditError`]; then the old head stands.
    pub fn publish(&mut self, key: &PrivateKey) -> Result<TreeHead, AuditError> {
        if self.log.size() > self.log.published() {
            self.check_signer(&self.keyring, self.log.size(), key)?;
        }
        Ok(self.log.publish(key)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::signed_log::HEAD;

    const ORIGIN: &str = "bitproof.local/test";

    fn actor() -> Actor {
        Actor { key_id: "0".to_owned(), user: "u".to_owned(), host: "h".to_owned() }
    }
    fn planned(n: u8) -> EventBody {
        EventBody::RunPlanned { run: format!("r-{n}"), uid: [n; 16], plan: Digest::from_bytes([n; 32]) }
    }
    fn filled(dir: &Path) -> (PrivateKey, AuditLog) {
        let key = PrivateKey::from_bytes(KeyRole::Log, &[3; 32]);
        let mut log = AuditLog::open(&Files::on_disk(), &dir.join("audit"), dir, ORIGIN).unwrap();
        let enrol = EventBody::KeyEnrolled {
            role: "log".to_owned(),
            vkey: key.note_key(ORIGIN).unwrap().to_string(),
        };
        log.append(&[enrol, planned(1), planned(2)], &actor(), 7, &key).unwrap();
        log.publish(&key).unwrap();
        (key, log)
    }
    fn read(dir: &Path) -> Result<AuditView, AuditError> {
        AuditView::read(&Files::on_disk(), &dir.join("audit"), ORIGIN, &[])
    }

    #[test]
    fn an_event_is_appended_once_and_a_head_covers_it() {
        let dir = tempfile::tempdir().unwrap();
        let (key, mut log) = filled(dir.path());
        assert_eq!(log.append(&[planned(2), planned(3)], &actor(), 8, &key).unwrap(), 1);
        let view = read(dir.path()).unwrap();
        assert_eq!((view.uncovered(), view.covered().len()), (1, 3));
        drop(log);
        // What no head covers is cut, and appended again by whoever was interrupted.
        let mut log =
            AuditLog::open(&Files::on_disk(), &dir.path().join("audit"), dir.path(), ORIGIN).unwrap();
        assert_eq!(read(dir.path()).unwrap().uncovered(), 0);
        assert_eq!(log.append(&[planned(3)], &actor(), 9, &key).unwrap(), 1);
        assert_eq!(log.publish(&key).unwrap().size, 4);
        // A head by a key that the log does not let sign would make the store unreadable.
        let other = PrivateKey::from_bytes(KeyRole::Log, &[4; 32]);
        let refused = log.append(&[planned(4)], &actor(), 9, &other);
        assert!(matches!(refused, Err(AuditError::Log(SignedLogError::NoKey { size: 5, .. }))));
        let view = read(dir.path()).unwrap();
        assert_eq!((view.leaves.len(), view.uncovered()), (4, 0));
        let stranger = PrivateKey::from_bytes(KeyRole::Log, &[4; 32]).note_key(ORIGIN).unwrap();
        assert!(matches!(
            AuditView::read(&Files::on_disk(), &dir.path().join("audit"), ORIGIN, &[stranger]),
            Err(AuditError::Log(SignedLogError::NoKey { size: 4, .. }))
        ));
    }

    #[test]
    fn an_event_that_is_too_large_is_refused_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let (key, mut log) = filled(dir.path());
        let run = "r".repeat(crate::limits::LEAF_BYTES);
        let huge = EventBody::RunPlanned { run, uid: [9; 16], plan: Digest::from_bytes([9; 32]) };
        for _ in 0..2 {
            let refused = log.append(&[planned(3), huge.clone()], &actor(), 8, &key);
            assert!(matches!(refused, Err(AuditError::Log(SignedLogError::LeafTooLarge { .. }))));
        }
        // What was refused beside it is not taken for recorded.
        assert_eq!(log.append(&[planned(3)], &actor(), 8, &key).unwrap(), 1);
        assert_eq!(log.publish(&key).unwrap().size, 4);
        assert_eq!(read(dir.path()).unwrap().covered().len(), 4);
    }

    #[test]
    fn any_flipped_byte_and_any_cut_is_found() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path());
        for name in [LEAVES, HEAD] {
            let path = dir.path().join("audit").join(name);
            let good = fs::read(&path).unwrap();
            for i in 0..good.len() {
                let mut bad = good.clone();
                bad[i] ^= 0x10;
                fs::write(&path, &bad).unwrap();
                assert!(read(dir.path()).is_err(), "{name} byte {i} flipped");
                assert!(
                    AuditLog::open(&Files::on_disk(), &dir.path().join("audit"), dir.path(), ORIGIN).is_err()
                );
                if name == LEAVES {
                    fs::write(&path, &good[..i]).unwrap();
                    assert!(read(dir.path()).is_err(), "{name} cut to {i} bytes");
                }
            }
            fs::write(&path, &good).unwrap();
        }
        read(dir.path()).unwrap();
    }
}

//! What files hash to, as long as the file system says that they did not change: as git's index, a derived file outside
//! the store.
//!
//! It is for finding out quickly what there is to do. Whoever verifies or replays reads every byte.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::digest::{Content, Digest, StatKind};
use bitproof_core_ledger::file_stat::FileStat;
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::folder::{Folder, FolderError};
use bitproof_core_ledger::objects::ObjectId;
use bitproof_core_ledger::tree_hash;

use moment::{DiskClock, Moment};

mod moment;

const SCHEMA: u32 = 1;
const MAX_ENTRIES: usize = 1 << 16;
const ENTRY_BYTES: usize = 32 + 32 + 8 + 8;
/// Schema, generation and number of entries.
const HEAD_BYTES: usize = 4 + 8 + 8;
const DIGEST_BYTES: usize = 32;
/// How often something is read that changes meanwhile.
const ATTEMPTS: usize = 3;

type Fingerprint = Digest<StatKind>;

/// Digests of files and folders by what the file system says of them. Several threads may ask at once.
///
/// A file is believed to be the one that was hashed when device, inode, length and both times are the same. That is sound when
/// the clock had gone on between the last change and the hashing, since every later change gets a later time then; a file that
/// is too new for that is hashed again next time. What it cannot see: a clock that was set back by the right number of
/// nanoseconds, and a process that goes on writing to a page that it has mapped.
#[derive(Debug)]
pub struct StatCache {
    /// `None` keeps nothing.
    kept: Option<Kept>,
    threads: NonZeroUsize,
    state: Mutex<State>,
}

/// How often a digest was known, and how often something was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatCounts {
    /// Digests that were known.
    pub known: u64,
    /// Files and folders that were read.
    pub hashed: u64,
}

#[derive(Debug)]
struct Kept {
    files: Files,
    path: PathBuf,
    clock: DiskClock,
}

#[derive(Debug, Default)]
struct State {
    saved: Saved,
    /// Whether something is known that is not in the file.
    grown: bool,
    moment: Option<Moment>,
    counts: StatCounts,
}

/// What lies in the file, after the BLAKE3 of its bytes.
#[derive(Debug, Default, Encode, Decode)]
struct Saved {
    schema: u32,
    /// How often it was saved.
    generation: u64,
    entries: BTreeMap<Fingerprint, Entry>,
}

#[derive(Debug, Clone, Encode, Decode)]
struct Entry {
    digest: ObjectId,
    bytes: u64,
    /// The generation that used it last.
    used: u64,
}

impl StatCache {
    /// The cache in the file at `path`, and beside it what it needs to work; large files are hashed on so many threads. An
    /// absent, damaged or foreign file is an empty cache.
    pub fn open(files: &Files, path: &Path, threads: NonZeroUsize) -> Self {
        let saved = read(files, path).unwrap_or_default();
        tracing::debug!(entries = saved.entries.len(), "stat cache opened");
        let clock = DiskClock::at(path.with_added_extension("clock"));
        let kept = Some(Kept { files: files.clone(), path: path.to_owned(), clock });
        Self { kept, threads, state: Mutex::new(State { saved, ..State::default() }) }
    }

    /// A cache that knows nothing and keeps nothing.
    pub fn disabled(threads: NonZeroUsize) -> Self {
        Self { kept: None, threads, state: Mutex::default() }
    }

    /// The digest of a regular file, with its length. A link is not followed.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be read, or changes each time that it is.
    pub fn digest_file(&self, path: &Path) -> Result<(ObjectId, u64), FileError> {
        let hash = |_: &FileStat| {
            let file = Files::on_disk().open(path)?;
            tree_hash::of_file(&*file, self.threads).map_err(FileError::at("read", path))
        };
        let unstable = || FileError::at("read", path)(io::Error::other("it changes while it is read"));
        self.digest(|| FileStat::of(path), hash, unstable)
    }

    /// The digest of the object that a folder is packed into, with the object's length.
    ///
    /// # Errors
    /// [`FolderError`] when it cannot be packed, or changes each time that it is read.
    pub fn digest_folder(&self, dir: &Path) -> Result<(ObjectId, u64), FolderError> {
        let hash = |folder: &Folder| folder.digest(self.threads);
        self.digest(|| Folder::open(dir), hash, || FolderError::Changed { path: dir.to_owned() })
    }

    /// What was asked for so far.
    pub fn counts(&self) -> StatCounts {
        self.lock().counts
    }

    /// Keeps what has been learned, in place of what is in the file: of several processes the last one wins. What was used
    /// least recently goes when there is too much.
    ///
    /// # Errors
    /// [`FileError`]; a caller may go on.
    pub fn save(&self) -> Result<(), FileError> {
        let Some(Kept { files, path, .. }) = &self.kept else { return Ok(()) };
        let mut state = self.lock();
        if !state.grown {
            return Ok(());
        }
        drop_oldest(&mut state.saved.entries, MAX_ENTRIES);
        state.saved.schema = SCHEMA;
        state.saved.generation += 1;
        let body = canon::encode(&state.saved);
        let staging = path.with_file_name("tmp");
        files.create_dir_all(&staging)?;
        let digest = Digest::<Content>::of_bytes(&body);
        files.replace_derived(&staging, path, &[digest.as_bytes(), &body[..]].concat())?;
        state.grown = false;
        Ok(())
    }

    /// What `hash` says of what `look` finds: known, or found out while it stayed the same.
    fn digest<S: Stats, E>(
        &self,
        look: impl Fn() -> Result<S, E>,
        hash: impl Fn(&S) -> Result<(ObjectId, u64), E>,
        unstable: impl FnOnce() -> E,
    ) -> Result<(ObjectId, u64), E> {
        let mut before = look()?;
        for _ in 0..ATTEMPTS {
            let fingerprint = before.fingerprint();
            if let Some(known) = self.known(&fingerprint) {
                return Ok(known);
            }
            // The moment comes before the first byte is read: a later change is later than it.
            let lasts = self.has_settled(before.stats());
            let hashed = hash(&before);
            let after = look()?;
            // An error may come from the change.
            if after.fingerprint() == fingerprint {
                let (digest, bytes) = hashed?;
                self.learn(fingerprint, digest, bytes, lasts);
                return Ok((digest, bytes));
            }
            before = after;
        }
        Err(unstable())
    }

    fn known(&self, fingerprint: &Fingerprint) -> Option<(ObjectId, u64)> {
        let mut state = self.lock();
        let State { saved, counts, .. } = &mut *state;
        let entry = saved.entries.get_mut(fingerprint)?;
        entry.used = saved.generation + 1;
        counts.known += 1;
        Some((entry.digest, entry.bytes))
    }

    fn learn(&self, fingerprint: Fingerprint, digest: ObjectId, bytes: u64, lasts: bool) {
        let mut state = self.lock();
        state.counts.hashed += 1;
        if lasts {
            let used = state.saved.generation + 1;
            state.saved.entries.insert(fingerprint, Entry { digest, bytes, used });
            state.grown = true;
        }
    }

    /// Whether every further change of these files will be seen in their times.
    fn has_settled(&self, stats: &[FileStat]) -> bool {
        let Some(kept) = &self.kept else { return false };
        let mut state = self.lock();
        let all = |moment: &Moment| stats.iter().all(|stat| moment.is_after(stat));
        if !state.moment.as_ref().is_some_and(all) {
            state.moment = kept.clock.now();
        }
        state.moment.as_ref().is_some_and(all)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of files without reading them.
trait Stats {
    fn stats(&self) -> &[FileStat];
    fn fingerprint(&self) -> Fingerprint;
}

impl Stats for FileStat {
    fn stats(&self) -> &[FileStat] {
        std::slice::from_ref(self)
    }
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint()
    }
}

impl Stats for Folder {
    fn stats(&self) -> &[FileStat] {
        self.stats()
    }
    fn fingerprint(&self) -> Fingerprint {
        self.fingerprint()
    }
}

fn read(files: &Files, path: &Path) -> Option<Saved> {
    let limit = DIGEST_BYTES + HEAD_BYTES + MAX_ENTRIES * ENTRY_BYTES;
    let bytes = files.read_bounded(path, limit as u64).ok()?;
    let (digest, body) = bytes.split_first_chunk::<DIGEST_BYTES>()?;
    if Digest::<Content>::of_bytes(body).as_bytes() != digest {
        return None;
    }
    canon::decode::<Saved>(body).ok().filter(|saved| saved.schema == SCHEMA)
}

fn drop_oldest(entries: &mut BTreeMap<Fingerprint, Entry>, most: usize) {
    let mut by_use: Vec<(u64, Fingerprint)> = entries.iter().map(|(key, entry)| (entry.used, *key)).collect();
    by_use.sort_unstable();
    for (_, key) in by_use.iter().take(entries.len().saturating_sub(most)) {
        entries.remove(key);
    }
}

#[cfg(test)]
mod tests;

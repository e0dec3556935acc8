//! The cache of actions: derived files outside the store, looked up by what a result depends on.

use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::objects::ObjectId;

use crate::task::ActionDigest;

const ENTRY_BYTES: u64 = 1 << 20;

/// What is known of an action that was executed before.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CachedAction {
    /// The action.
    pub action: ActionDigest,
    /// Its outputs, sorted by name.
    pub outputs: Vec<(String, ObjectId)>,
    /// The run that executed it.
    pub origin: String,
}

/// A folder of cached actions. Nothing in it is trusted: whoever takes a hit holds it against the sealed ledger of the
/// run that it names, and verifies the outputs by content.
#[derive(Debug, Clone)]
pub struct Cache {
    files: Files,
    dir: PathBuf,
}

impl Cache {
    /// The cache in `dir`, which is made when something is stored.
    pub fn new(files: &Files, dir: &Path) -> Self {
        Self { files: files.clone(), dir: dir.to_owned() }
    }

    fn path(&self, action: &ActionDigest) -> PathBuf {
        self.dir.join(action.to_string())
    }

    /// What is known of `action`. A damaged or foreign entry is none.
    pub fn lookup(&self, action: &ActionDigest) -> Option<CachedAction> {
        let bytes = self.files.read_bounded(&self.path(action), ENTRY_BYTES).ok()?;
        canon::decode::<CachedAction>(&bytes).ok().filter(|entry| entry.action == *action)
    }

    /// Keeps what is known of an action, in place of what was known before.
    ///
    /// # Errors
    /// [`FileError`]; a caller may go on without a cache.
    pub fn store(&self, entry: &CachedAction) -> Result<(), FileError> {
        let staging = self.dir.join("tmp");
        self.files.create_dir_all(&staging)?;
        self.files.replace(&staging, &self.path(&entry.action), &canon::encode(entry))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bitproof_core_ledger::digest::Digest;

    use super::*;

    #[test]
    fn a_damaged_or_foreign_entry_is_no_hit() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(&Files::on_disk(), dir.path());
        let entry = CachedAction {
            action: Digest::from_bytes([1; 32]),
            outputs: vec![("out".to_owned(), Digest::of_bytes(b"x"))],
            origin: "r-1".to_owned(),
        };
        assert_eq!(cache.lookup(&entry.action), None);
        cache.store(&entry).unwrap();
        assert_eq!(cache.lookup(&entry.action), Some(entry.clone()));
        let other = Digest::from_bytes([2; 32]);
        fs::copy(cache.path(&entry.action), cache.path(&other)).unwrap();
        assert_eq!(cache.lookup(&other), None);
        fs::write(cache.path(&entry.action), b"junk").unwrap();
        assert_eq!(cache.lookup(&entry.action), None);
    }
}

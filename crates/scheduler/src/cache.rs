//! The cache of actions: derived files outside the store, looked up by what a result depends on, and for a command also by
//! what its tools are on this machine.

use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::digest::{Digest, ToolsKind};
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::objects::ObjectId;

use crate::task::ActionDigest;

const ENTRY_BYTES: u64 = 1 << 20;

/// What is known of an action that was executed before.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct CachedAction {
    /// The action.
    pub action: ActionDigest,
    /// What the tools of a command were.
    pub tools: Option<Digest<ToolsKind>>,
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

    fn path(&self, action: &ActionDigest, tools: Option<Digest<ToolsKind>>) -> PathBuf {
        let with = tools.map_or(String::new(), |tools| format!("-{tools}"));
        self.dir.join(format!("{action}{with}"))
    }

    /// What is known of `action` with these tools. A damaged or foreign entry is none.
    pub fn lookup(&self, action: &ActionDigest, tools: Option<Digest<ToolsKind>>) -> Option<CachedAction> {
        let bytes = self.files.read_bounded(&self.path(action, tools), ENTRY_BYTES).ok()?;
        let entry = canon::decode::<CachedAction>(&bytes).ok()?;
        (entry.action == *action && entry.tools == tools).then_some(entry)
    }

    /// Keeps what is known of an action, in place of what was known before. It may be lost with the power: then the action is
    /// executed again.
    ///
    /// # Errors
    /// [`FileError`]; a caller may go on without a cache.
    pub fn store(&self, entry: &CachedAction) -> Result<(), FileError> {
        let staging = self.dir.join("tmp");
        self.files.create_dir_all(&staging)?;
        self.files.replace_derived(&staging, &self.path(&entry.action, entry.tools), &canon::encode(entry))
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
            tools: Some(Digest::from_bytes([7; 32])),
            outputs: vec![("out".to_owned(), Digest::of_bytes(b"x"))],
            origin: "r-1".to_owned(),
        };
        let CachedAction { action, tools, .. } = entry;
        assert_eq!(cache.lookup(&action, tools), None);
        cache.store(&entry).unwrap();
        assert_eq!(cache.lookup(&action, tools), Some(entry.clone()));
        let other = Digest::from_bytes([2; 32]);
        for (action, tools) in [(other, tools), (action, Some(Digest::from_bytes([8; 32]))), (action, None)] {
            assert_eq!(cache.lookup(&action, tools), None);
            fs::copy(cache.path(&entry.action, entry.tools), cache.path(&action, tools)).unwrap();
            assert_eq!(cache.lookup(&action, tools), None);
        }
        fs::write(cache.path(&action, tools), b"junk").unwrap();
        assert_eq!(cache.lookup(&action, tools), None);
    }
}

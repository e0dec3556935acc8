//! A witness: remembers the newest head of a log that it has seen, and cosigns only what continues it.

use std::path::{Path, PathBuf};

use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::growth_proof::{GrowthError, GrowthProof};
use bitproof_core_ledger::keys::PrivateKey;
use bitproof_core_ledger::limits::NOTE_BYTES;
use bitproof_core_ledger::note::{NoteError, NoteKey, TreeHead};
use bitproof_core_ledger::storage::LockMode;

/// A head that a witness does not cosign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The file system failed; nothing was cosigned.
    #[error(transparent)]
    File(#[from] FileError),
    /// The witness's memory is not a tree head.
    #[error("{} is not the memory of a witness", path.display())]
    Memory {
        /// Its file.
        path: PathBuf,
    },
    /// The proof does not hold.
    #[error(transparent)]
    Growth(#[from] GrowthError),
    /// The key cannot cosign.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// What a witness remembers of one log.
#[derive(Debug, Clone)]
pub struct Witness {
    files: Files,
    memory: PathBuf,
}

impl Witness {
    /// The witness that keeps its memory of one log in this file.
    pub fn new(files: &Files, memory: &Path) -> Self {
        Self { files: files.clone(), memory: memory.to_owned() }
    }

    /// The newest head that was cosigned; `None` before the first.
    ///
    /// # Errors
    /// [`WitnessError::Memory`], [`WitnessError::File`].
    pub fn seen(&self) -> Result<Option<TreeHead>, WitnessError> {
        let bytes = match self.files.read_bounded(&self.memory, NOTE_BYTES as u64) {
            Err(e) if e.is_not_found() => return Ok(None),
            read => read?,
        };
        let head = std::str::from_utf8(&bytes).ok().and_then(|text| TreeHead::parse(text).ok());
        head.map(Some).ok_or_else(|| WitnessError::Memory { path: self.memory.clone() })
    }

    /// Checks that a head continues the one that was seen last, remembers it durably, and only then cosigns it: the note
    /// with the witness's line.
    ///
    /// # Errors
    /// [`WitnessError`]; then nothing was cosigned, and unless the file system failed nothing is remembered.
    pub fn cosign(
        &self,
        proof: &GrowthProof,
        log: &NoteKey,
        key: &PrivateKey,
        name: &str,
        unix_seconds: u64,
    ) -> Result<String, WitnessError> {
        let folder = self.memory.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.files.create_dirs(folder)?;
        // Two at once could each continue the same head in another way.
        let _alone = self.files.lock(&self.memory.with_extension("lock"), LockMode::Exclusive, true)?;
        let head = proof.check(self.seen()?.as_ref(), log)?;
        self.files.replace(folder, &self.memory, head.body().as_bytes())?;
        tracing::info!(origin = head.origin, size = head.size, "cosigned");
        Ok(format!("{}{}", proof.head, key.cosign(&head.body(), name, unix_seconds)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_core_ledger::keys::KeyRole;
    use bitproof_core_ledger::merkle::FullTree;
    use bitproof_core_ledger::note;
    use bitproof_core_ledger::storage::sim::{Fault, SimDisk};

    const ORIGIN: &str = "bitproof.local/test";

    fn tree(size: u64, salt: u64) -> FullTree {
        let mut tree = FullTree::default();
        (0..size).for_each(|i| tree.push(&(i + salt).to_le_bytes()));
        tree
    }

    fn proof(tree: &FullTree, old: u64, key: &PrivateKey) -> GrowthProof {
        let size = tree.size();
        let head = TreeHead { origin: ORIGIN.to_owned(), size, root: tree.root_at(size).unwrap() };
        let hashes = if old == 0 { vec![] } else { tree.consistency_proof(old, size).unwrap() };
        GrowthProof { old, hashes, head: key.sign_note(&head.body(), ORIGIN).unwrap() }
    }

    fn keys() -> (PrivateKey, PrivateKey) {
        (PrivateKey::from_bytes(KeyRole::Log, &[1; 32]), PrivateKey::from_bytes(KeyRole::Witness, &[2; 32]))
    }

    #[test]
    fn it_cosigns_what_continues_and_nothing_else() {
        let (log, own) = keys();
        let (vkey, public) = (log.note_key(ORIGIN).unwrap(), own.note_key("w").unwrap());
        let witness = Witness::new(&Files::on(SimDisk::new()), Path::new("/w/seen"));
        let cosign = |proof: &GrowthProof| witness.cosign(proof, &vkey, &own, "w", 7);
        let cosigned = cosign(&proof(&tree(5, 0), 0, &log)).unwrap();
        let keys = [vkey.clone(), public];
        let (_, signed) = note::signatures(cosigned.as_bytes(), &keys).unwrap();
        assert_eq!((signed.len(), signed[1].unix_seconds), (2, Some(7)));
        cosign(&proof(&tree(9, 0), 5, &log)).unwrap();
        for (what, proof) in [
            ("an older head", proof(&tree(5, 0), 5, &log)),
            ("a rewritten log", proof(&tree(12, 1), 9, &log)),
            ("a log begun anew", proof(&tree(12, 1), 0, &log)),
            ("another key", proof(&tree(12, 0), 9, &PrivateKey::from_bytes(KeyRole::Log, &[3; 32]))),
        ] {
            assert!(cosign(&proof).is_err(), "{what}");
        }
        assert_eq!(witness.seen().unwrap().unwrap().size, 9);
        cosign(&proof(&tree(12, 0), 9, &log)).unwrap();
    }

    #[test]
    fn what_was_cosigned_is_remembered_whatever_stops_it() {
        let (log, own) = keys();
        let vkey = log.note_key(ORIGIN).unwrap();
        let (first, second) = (proof(&tree(5, 0), 0, &log), proof(&tree(9, 0), 5, &log));
        for operation in 0..24 {
            let disk = SimDisk::new().failing(operation, Fault::PowerOff);
            let witness = Witness::new(&Files::on(disk.clone()), Path::new("/w/seen"));
            let cosigned = [&first, &second].map(|p| witness.cosign(p, &vkey, &own, "w", 7).is_ok());
            for left in disk.crashes() {
                let after = Witness::new(&Files::on(disk.after(left)), Path::new("/w/seen"));
                let seen = after.seen().unwrap().map_or(0, |head| head.size);
                let least = if cosigned[1] {
                    9
                } else if cosigned[0] {
                    5
                } else {
                    0
                };
                assert!(seen >= least, "operation {operation}, {left:?}: {seen} of {least}");
            }
        }
    }
}

//! Data files outside the store, known by their content: a path is only where to look.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bitproof_core_ledger::files::FileError;
use bitproof_core_ledger::folder::Folder;
use bitproof_core_ledger::limits::OBJECT_IN_MEMORY_BYTES;
use bitproof_core_ledger::objects::{ObjectError, ObjectId, Objects};

/// Where the content of data inputs lies that the store may not keep. None is held in memory, and what is read later is
/// hashed again.
#[derive(Debug, Clone, Default)]
pub struct DataFiles {
    paths: BTreeMap<ObjectId, PathBuf>,
}

impl DataFiles {
    /// Takes note of a file whose content was hashed.
    pub fn insert(&mut self, id: ObjectId, path: PathBuf) {
        self.paths.insert(id, path);
    }

    /// Hashes a file or a folder in constant memory and takes note of it.
    ///
    /// # Errors
    /// What the system says.
    pub fn add(&mut self, path: &Path) -> io::Result<ObjectId> {
        let (id, _) = match path.is_dir() {
            true => Folder::open(path)?.digest(NonZeroUsize::MIN)?,
            false => ObjectId::of_reader(&mut File::open(path)?)?,
        };
        self.insert(id, path.to_owned());
        Ok(id)
    }

    /// Where something of this content lies, if that is known.
    pub fn path(&self, id: &ObjectId) -> Option<&Path> {
        self.paths.get(id).map(PathBuf::as_path)
    }

    /// The content of an object, or of the file that is known for it when the store does not have it.
    ///
    /// # Errors
    /// [`ObjectError`] when there is neither, or it cannot be read, or has another content by now.
    pub fn content(&self, id: &ObjectId, objects: &Objects) -> Result<Vec<u8>, ObjectError> {
        match objects.get(id) {
            Err(ObjectError::Missing { .. }) => self.read(id),
            read => read,
        }
    }

    /// The content of the file that is known for it.
    ///
    /// # Errors
    /// [`ObjectError`] when there is none, or it cannot be read, or has another content by now.
    pub fn read(&self, id: &ObjectId) -> Result<Vec<u8>, ObjectError> {
        let Some(path) = self.paths.get(id) else { return Err(ObjectError::Missing { id: *id }) };
        let mut bytes = Vec::new();
        let read =
            File::open(path).and_then(|file| file.take(OBJECT_IN_MEMORY_BYTES).read_to_end(&mut bytes));
        read.map_err(FileError::at("read", path))?;
        let got = ObjectId::of_bytes(&bytes);
        if got == *id {
            Ok(bytes)
        } else {
            Err(changed(path, id, &got).into())
        }
    }

    /// Copies a file that is known into the store, in constant memory.
    ///
    /// # Errors
    /// [`ObjectError`] when it cannot be read or kept, or has another content by now.
    pub fn keep(&self, id: &ObjectId, objects: &Objects) -> Result<(), ObjectError> {
        let Some(path) = self.paths.get(id) else { return Err(ObjectError::Missing { id: *id }) };
        let kept = if path.is_dir() {
            let folder = Folder::open(path).map_err(|e| FileError::at("read", path)(e.into()))?;
            objects.put_reader(id, &mut folder.reader())
        } else {
            let mut file = File::open(path).map_err(FileError::at("read", path))?;
            objects.put_reader(id, &mut file)
        };
        match kept {
            Err(ObjectError::NotThat { id, got, .. }) => Err(changed(path, &id, &got).into()),
            kept => kept,
        }
    }
}

fn changed(path: &Path, id: &ObjectId, got: &ObjectId) -> FileError {
    let text = format!("it changed after it was checked: expected the content {id}, got {got}");
    FileError { op: "use", path: path.to_owned(), source: io::Error::other(text) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroUsize;

    use super::*;
    use bitproof_core_ledger::files::Files;

    #[test]
    fn a_file_that_changes_after_it_was_checked_is_neither_used_nor_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, staging) = (dir.path().join("objects"), dir.path().join("tmp"));
        [&folder, &staging].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let objects = Objects::new(Files::on_disk(), folder, staging.clone(), NonZeroUsize::MIN);
        let path = dir.path().join("rows.csv");
        fs::write(&path, "1,2").unwrap();
        let mut data = DataFiles::default();
        let id = data.add(&path).unwrap();
        assert_eq!(id, ObjectId::of_bytes(b"1,2"));
        assert_eq!(data.content(&id, &objects).unwrap(), b"1,2");

        fs::write(&path, "1,3").unwrap();
        for error in [data.content(&id, &objects).unwrap_err(), data.keep(&id, &objects).unwrap_err()] {
            let error = error.to_string();
            assert!(error.contains("rows.csv: it changed after it was checked"), "{error}");
        }
        assert!(!objects.contains(&id));
        assert_eq!(fs::read_dir(staging).unwrap().count(), 0);

        fs::write(&path, "1,2").unwrap();
        data.keep(&id, &objects).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(data.content(&id, &objects).unwrap(), b"1,2", "the store has it");
        let other = ObjectId::of_bytes(b"other");
        assert!(matches!(data.content(&other, &objects), Err(ObjectError::Missing { .. })));
        assert!(matches!(data.keep(&other, &objects), Err(ObjectError::Missing { .. })));
    }
}

//! Content-addressed objects: a file's name is the BLAKE3 of its bytes.

use std::path::{Path, PathBuf};

use crate::digest::{Content, Digest};
use crate::files::{FileError, Files};
use crate::limits::OBJECT_IN_MEMORY_BYTES;
use crate::storage::Reading;

/// The name of an object: plain BLAKE3 of its bytes.
pub type ObjectId = Digest<Content>;

/// An object that cannot be stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no such object.
    #[error("object {id} is missing")]
    Missing {
        /// Its name.
        id: ObjectId,
    },
    /// Its bytes are not those it is named for.
    #[error("object {id} is damaged: its {len} bytes hash to {got}")]
    Damaged {
        /// Its name.
        id: ObjectId,
        /// What its bytes hash to.
        got: ObjectId,
        /// How many bytes it has.
        len: u64,
    },
}

/// A folder of objects, two levels deep (`ab/cdef…`).
#[derive(Debug, Clone)]
pub struct Objects {
    files: Files,
    dir: PathBuf,
    staging: PathBuf,
}

impl Objects {
    /// The objects under `dir`; files are prepared in `staging`, which is on the same file system.
    pub fn new(files: Files, dir: PathBuf, staging: PathBuf) -> Self {
        Self { files, dir, staging }
    }

    /// Where an object is, relative to the folder: `ab/cdef…`.
    pub fn relative_path(id: &ObjectId) -> String {
        let hex = id.to_string();
        format!("{}/{}", &hex[..2], &hex[2..])
    }

    /// Where an object is.
    pub fn path(&self, id: &ObjectId) -> PathBuf {
        self.dir.join(Self::relative_path(id))
    }

    /// Stores bytes and returns their name when they are durable. An object that is there already is
    /// verified instead of written.
    ///
    /// # Errors
    /// [`ObjectError`] when writing fails, or when the object is there and damaged.
    pub fn put(&self, bytes: &[u8]) -> Result<ObjectId, ObjectError> {
        let id = ObjectId::of_bytes(bytes);
        let path = self.path(&id);
        let folder = path.parent().unwrap_or(&self.dir);
        self.files.create_dir(folder)?;
        if self.files.exists(&path) || !self.files.publish_new(&self.staging, &path, bytes)? {
            self.verify(&id)?;
            // Whoever published it may not have synced its name yet.
            self.files.sync_dir(folder)?;
        }
        Ok(id)
    }

    /// The bytes of an object, hashed as they are read.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::Damaged`], or what the file system says.
    pub fn get(&self, id: &ObjectId) -> Result<Vec<u8>, ObjectError> {
        let bytes = match self.files.read_bounded(&self.path(id), OBJECT_IN_MEMORY_BYTES) {
            Err(e) if e.is_not_found() => return Err(ObjectError::Missing { id: *id }),
            read => read?,
        };
        let got = ObjectId::of_bytes(&bytes);
        if got == *id {
            Ok(bytes)
        } else {
            Err(ObjectError::Damaged { id: *id, got, len: bytes.len() as u64 })
        }
    }

    /// Hashes an object in constant memory and returns its length.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn verify(&self, id: &ObjectId) -> Result<u64, ObjectError> {
        let path = self.path(id);
        let file = match self.files.open(&path) {
            Err(e) if e.is_not_found() => return Err(ObjectError::Missing { id: *id }),
            opened => opened?,
        };
        let (got, len) =
            ObjectId::of_reader(&mut Reading::new(&*file)).map_err(FileError::at("read", &path))?;
        if got == *id {
            Ok(len)
        } else {
            Err(ObjectError::Damaged { id: *id, got, len })
        }
    }

    /// Whether there is a file of that name (its content is not looked at).
    pub fn contains(&self, id: &ObjectId) -> bool {
        self.files.is_file(&self.path(id))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_put_is_got_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let staging = dir.path().join("tmp");
        fs::create_dir(&staging).unwrap();
        let objects = Objects::new(Files::on_disk(), dir.path().join("objects"), staging.clone());
        fs::create_dir(objects.dir()).unwrap();
        let id = objects.put(b"hello").unwrap();
        assert_eq!(objects.put(b"hello").unwrap(), id);
        assert_eq!(objects.get(&id).unwrap(), b"hello");
        assert_eq!(fs::read_dir(&staging).unwrap().count(), 0);

        let absent = ObjectId::of_bytes(b"absent");
        assert!(matches!(objects.get(&absent), Err(ObjectError::Missing { .. })));
        fs::write(objects.path(&id), b"hellp").unwrap();
        assert!(matches!(objects.get(&id), Err(ObjectError::Damaged { len: 5, .. })));
        assert!(matches!(objects.put(b"hello"), Err(ObjectError::Damaged { .. })));
    }
}

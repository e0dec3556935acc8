//! Content-addressed objects: a file's name is the BLAKE3 of its bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::digest::{Content, Digest, HashingReader};
use crate::files::{FileError, Files};
use crate::folder::{self, FolderError, FolderFile};
use crate::limits::OBJECT_IN_MEMORY_BYTES;
use crate::storage::{ReadAt, Reading, StoredFile};
use crate::tree_hash;

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
    /// It is no packed folder, or cannot be unpacked.
    #[error("object {id}: {source}")]
    Folder {
        /// Its name.
        id: ObjectId,
        /// What is wrong.
        source: FolderError,
    },
    /// What was to be stored is not what it was said to be; nothing was stored.
    #[error("what was to be stored as object {id} has {len} bytes that hash to {got}")]
    NotThat {
        /// What it was said to be.
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
    threads: NonZeroUsize,
}

impl Objects {
    /// The objects under `dir`; files are prepared in `staging`, which is on the same file system. Large objects are hashed on
    /// so many threads, which changes no digest.
    pub fn new(files: Files, dir: PathBuf, staging: PathBuf, threads: NonZeroUsize) -> Self {
        Self { files, dir, staging, threads }
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
        self.put_reader(&id, &mut { bytes })?;
        Ok(id)
    }

    /// Stores what `source` yields, which is the object `id`, in constant memory; returns when it is durable. An object that
    /// is there already is verified instead of written, and `source` is not read.
    ///
    /// What is published is hashed as it lies in the file: a source that changes while it is read stores nothing.
    ///
    /// # Errors
    /// [`ObjectError::NotThat`] when `source` yields something else; else as [`Objects::put`].
    pub fn put_reader(&self, id: &ObjectId, source: &mut impl Read) -> Result<(), ObjectError> {
        if self.files.exists(&self.path(id)) {
            return self.settle_known(&[*id]);
        }
        let staged = self.stage(source)?;
        if staged.id != *id {
            return Err(ObjectError::NotThat { id: *id, got: staged.id, len: staged.len });
        }
        self.settle([&staged])
    }

    /// Stores what `source` yields, in constant memory, and returns its name and length when it is durable.
    ///
    /// # Errors
    /// As [`Objects::put`].
    pub fn put_stream(&self, source: &mut impl Read) -> Result<(ObjectId, u64), ObjectError> {
        let staged = self.stage(source)?;
        let (id, len) = (staged.id, staged.len);
        self.settle([&staged])?;
        Ok((id, len))
    }

    /// Writes what `source` yields, in constant memory, and hashes it as it lies in the file. It can be read, but it is neither
    /// durable nor an object until it is settled.
    ///
    /// # Errors
    /// [`ObjectError::File`].
    pub fn stage(&self, source: &mut impl Read) -> Result<StagedObject, ObjectError> {
        let staged = self.files.stage(&self.staging, source)?;
        let path = TemporaryName { files: self.files.clone(), path: staged.path };
        let hashed = tree_hash::of_file(&*staged.file, self.threads);
        let (id, len) = hashed.map_err(FileError::at("read", &path.path))?;
        Ok(StagedObject { id, len, path })
    }

    /// Makes a group of staged objects durable, with syncs that share what they wait for, and publishes them. One that is
    /// there already is verified as [`Objects::put`] does.
    ///
    /// Contents are durable before they get their names: whatever stops this, each object is whole or absent. All are durable
    /// when it returns.
    ///
    /// # Errors
    /// [`ObjectError`] when writing fails, or when an object is there and damaged. Others of the group may be stored then.
    pub fn settle<'a>(&self, group: impl IntoIterator<Item = &'a StagedObject>) -> Result<(), ObjectError> {
        let group: BTreeMap<ObjectId, &StagedObject> = group.into_iter().map(|s| (s.id, s)).collect();
        let (mut known, mut new) = (Vec::new(), Vec::new());
        for &staged in group.values() {
            match self.files.exists(&self.path(&staged.id)) {
                true => known.push(staged.id),
                false => new.push(staged),
            }
        }
        self.files.sync_files(&new.iter().map(|staged| staged.path()).collect::<Vec<_>>())?;
        for folder in self.folders(new.iter().map(|staged| &staged.id)) {
            if !self.files.exists(&folder) {
                self.files.create_dir_all(&folder)?;
            }
        }
        for staged in &new {
            if !self.files.link_new(staged.path(), &self.path(&staged.id))? {
                known.push(staged.id);
            }
        }
        tracing::debug!(new = new.len(), known = known.len(), "objects settled");
        let published = self.folders(new.iter().map(|staged| &staged.id));
        self.sync_names(published)?;
        self.settle_known(&known)
    }

    /// Verifies objects that somebody else published, and makes their names durable: they may not be yet.
    fn settle_known(&self, ids: &[ObjectId]) -> Result<(), ObjectError> {
        for id in ids {
            self.verify(id)?;
        }
        self.sync_names(self.folders(ids))
    }

    fn sync_names(&self, mut folders: BTreeSet<PathBuf>) -> Result<(), ObjectError> {
        if !folders.is_empty() {
            // It holds the names of the folders.
            folders.insert(self.dir.clone());
        }
        Ok(self.files.sync_dirs(&folders.iter().map(PathBuf::as_path).collect::<Vec<_>>())?)
    }

    fn folders<'a>(&self, ids: impl IntoIterator<Item = &'a ObjectId>) -> BTreeSet<PathBuf> {
        ids.into_iter().map(|id| self.dir.join(&id.to_string()[..2])).collect()
    }

    /// The bytes of an object, hashed as they are read.
    ///
    /// # Errors
    /// [`ObjectError::Missing`], [`ObjectError::Damaged`], or what the file system says.
    pub fn get(&self, id: &ObjectId) -> Result<Vec<u8>, ObjectError> {
        self.bytes(id, &self.path(id))
    }

    fn bytes(&self, id: &ObjectId, path: &Path) -> Result<Vec<u8>, ObjectError> {
        let bytes = match self.files.read_bounded(path, OBJECT_IN_MEMORY_BYTES) {
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

    /// The bytes of what was staged, hashed as they are read.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn get_staged(&self, staged: &StagedObject) -> Result<Vec<u8>, ObjectError> {
        self.bytes(&staged.id, staged.path())
    }

    /// Hashes an object in constant memory, a large one on several threads, and returns its length.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn verify(&self, id: &ObjectId) -> Result<u64, ObjectError> {
        self.hashes_to(id, &*self.open(id)?, &self.path(id))
    }

    /// Copies an object to `copy`, which must not exist, and returns its length. The copy shares the object's blocks where the
    /// file system can, and never its inode. It is hashed as it lies there, and is not synced.
    ///
    /// # Errors
    /// As [`Objects::verify`], and when `copy` exists or cannot be written. Nothing is left at `copy` then that was not there.
    pub fn copy_to(&self, id: &ObjectId, copy: &Path) -> Result<u64, ObjectError> {
        let object = self.open(id)?;
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(copy);
        let file = file.map_err(FileError::at("create", copy))?;
        let copied = self.copied(id, &*object, &file, copy);
        if copied.is_err() {
            let _ = fs::remove_file(copy);
        }
        copied
    }

    /// Makes the folder `dir`, which must not exist, with the files of the packed folder that an object is. What is written is
    /// hashed as it is read, and is not synced.
    ///
    /// # Errors
    /// As [`Objects::verify`], and [`ObjectError::Folder`]. Nothing is left at `dir` then that was not there.
    pub fn unpack_to(&self, id: &ObjectId, dir: &Path) -> Result<Vec<FolderFile>, ObjectError> {
        let object = self.open(id)?;
        let mut source = HashingReader::new(Reading::new(&*object));
        let unpacked = folder::unpack(&mut source, dir);
        if let Err(source @ FolderError::File(_)) = unpacked {
            return Err(ObjectError::Folder { id: *id, source });
        }
        // A damaged object is told as that, whatever is wrong with its listing.
        let rest = std::io::copy(&mut source, &mut std::io::sink());
        rest.map_err(FileError::at("read", &self.path(id)))?;
        let (got, len) = source.finish();
        if got != *id {
            if unpacked.is_ok() {
                fs::remove_dir_all(dir).map_err(FileError::at("remove", dir))?;
            }
            return Err(ObjectError::Damaged { id: *id, got, len });
        }
        unpacked.map_err(|source| ObjectError::Folder { id: *id, source })
    }

    fn copied(
        &self,
        id: &ObjectId,
        object: &dyn StoredFile,
        file: &File,
        at: &Path,
    ) -> Result<u64, ObjectError> {
        object.copy_to(file).map_err(FileError::at("write", at))?;
        self.hashes_to(id, file, at)
    }

    fn open(&self, id: &ObjectId) -> Result<Box<dyn StoredFile>, ObjectError> {
        match self.files.open(&self.path(id)) {
            Err(e) if e.is_not_found() => Err(ObjectError::Missing { id: *id }),
            opened => Ok(opened?),
        }
    }

    fn hashes_to(&self, id: &ObjectId, file: &dyn ReadAt, at: &Path) -> Result<u64, ObjectError> {
        let (got, len) = tree_hash::of_file(file, self.threads).map_err(FileError::at("read", at))?;
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

/// What will be an object when it is settled. Its name in the staging folder goes when this is dropped.
#[derive(Debug)]
pub struct StagedObject {
    id: ObjectId,
    len: u64,
    path: TemporaryName,
}

impl StagedObject {
    /// Its name, once it is settled.
    pub fn id(&self) -> &ObjectId {
        &self.id
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies for as long as this lives, settled or not.
    pub fn path(&self) -> &Path {
        &self.path.path
    }
}

/// A name in the staging folder, taken away when this is dropped.
#[derive(Debug)]
struct TemporaryName {
    files: Files,
    path: PathBuf,
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        // Where it fails, whoever writes next and alone removes it.
        let _ = self.files.remove(&self.path);
    }
}

#[cfg(test)]
mod tests;

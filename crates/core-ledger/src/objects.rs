//! Content-addressed objects: a file's name is the BLAKE3 of its bytes.

use std::io::Read;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::digest::{Content, Digest};
use crate::files::{FileError, Files};
use crate::limits::OBJECT_IN_MEMORY_BYTES;
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
        let path = self.path(id);
        let folder = path.parent().unwrap_or(&self.dir);
        self.files.create_dir(folder)?;
        if self.files.exists(&path) || !self.publish(id, &path, source)? {
            self.verify(id)?;
            // Whoever published it may not have synced its name yet.
            self.files.sync_dir(folder)?;
        }
        Ok(())
    }

    /// Whether the name was free.
    fn publish(&self, id: &ObjectId, path: &Path, source: &mut impl Read) -> Result<bool, ObjectError> {
        let staged = self.files.stage(&self.staging, source)?;
        let (got, len) =
            tree_hash::of_file(&*staged.file, self.threads).map_err(FileError::at("read", path))?;
        if got != *id {
            self.files.discard(staged)?;
            return Err(ObjectError::NotThat { id: *id, got, len });
        }
        Ok(self.files.publish(staged, path)?)
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

    /// Hashes an object in constant memory, a large one on several threads, and returns its length.
    ///
    /// # Errors
    /// As [`Objects::get`].
    pub fn verify(&self, id: &ObjectId) -> Result<u64, ObjectError> {
        let path = self.path(id);
        let file = match self.files.open(&path) {
            Err(e) if e.is_not_found() => return Err(ObjectError::Missing { id: *id }),
            opened => opened?,
        };
        let (got, len) = tree_hash::of_file(&*file, self.threads).map_err(FileError::at("read", &path))?;
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
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::storage::sim::{Fault, Left, SimDisk};

    fn on_disk(dir: &Path) -> Objects {
        let staging = dir.join("tmp");
        fs::create_dir(&staging).unwrap();
        fs::create_dir(dir.join("objects")).unwrap();
        Objects::new(Files::on_disk(), dir.join("objects"), staging, NonZeroUsize::MIN)
    }

    #[test]
    fn what_was_put_is_got_and_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let objects = on_disk(dir.path());
        let id = objects.put(b"hello").unwrap();
        assert_eq!(objects.put(b"hello").unwrap(), id);
        assert_eq!(objects.get(&id).unwrap(), b"hello");
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);

        let absent = ObjectId::of_bytes(b"absent");
        assert!(matches!(objects.get(&absent), Err(ObjectError::Missing { .. })));
        fs::write(objects.path(&id), b"hellp").unwrap();
        assert!(matches!(objects.get(&id), Err(ObjectError::Damaged { len: 5, .. })));
        assert!(matches!(objects.put(b"hello"), Err(ObjectError::Damaged { .. })));
    }

    #[test]
    fn a_stream_is_stored_as_what_it_is_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let objects = on_disk(dir.path());
        let objects = Objects { threads: NonZeroUsize::new(3).unwrap(), ..objects };
        let bytes: Vec<u8> = (0..5_000_001u32).map(|i| (i >> 3) as u8).collect();
        let id = ObjectId::of_bytes(&bytes);
        let other = ObjectId::of_bytes(b"other");
        let refused = objects.put_reader(&other, &mut bytes.as_slice());
        assert!(matches!(refused, Err(ObjectError::NotThat { len: 5_000_001, .. })), "{refused:?}");
        assert!(!objects.contains(&other) && !objects.contains(&id));
        objects.put_reader(&id, &mut bytes.as_slice()).unwrap();
        assert_eq!(objects.verify(&id).unwrap(), 5_000_001);
        assert_eq!(objects.get(&id).unwrap(), bytes);
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0, "nothing is left over");
        // What is there already is verified, and the source is not asked.
        objects.put_reader(&id, &mut Failing).unwrap();
        fs::write(objects.path(&id), &bytes[1..]).unwrap();
        assert!(matches!(objects.put_reader(&id, &mut Failing), Err(ObjectError::Damaged { .. })));
    }

    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the source fails"))
        }
    }

    #[test]
    fn a_source_that_fails_stores_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let objects = on_disk(dir.path());
        let id = ObjectId::of_bytes(b"x");
        let error = objects.put_reader(&id, &mut b"x".chain(Failing)).unwrap_err();
        assert!(error.to_string().contains("the source fails"), "{error}");
        assert!(!objects.contains(&id));
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn links_and_folders_are_no_objects() {
        let dir = tempfile::tempdir().unwrap();
        let objects = on_disk(dir.path());
        let id = objects.put(b"hello").unwrap();
        let path = objects.path(&id);
        let elsewhere = dir.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        let refused = |objects: &Objects| {
            assert!(objects.get(&id).is_err() && objects.verify(&id).is_err() && !objects.contains(&id));
            assert!(objects.put(b"hello").is_err());
        };
        refused(&objects);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused(&objects);
        fs::remove_dir(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        assert_eq!(objects.get(&id).unwrap(), b"hello");
    }

    /// Whatever the disk holds after a stop: an object is whole or absent, and whole when that was said.
    #[test]
    fn a_stop_at_any_operation_of_a_put_leaves_it_whole_or_absent() {
        let root = Path::new("/store");
        let objects_on = |disk: &SimDisk| {
            let files = Files::on(disk.clone());
            Objects::new(files, root.join("objects"), root.join("tmp"), NonZeroUsize::MIN)
        };
        let empty = || {
            let disk = SimDisk::new();
            let files = Files::on(disk.clone());
            files.create_dirs(root).unwrap();
            files.create_dir(&root.join("objects")).unwrap();
            files.create_dir(&root.join("tmp")).unwrap();
            disk
        };
        // More than is written at once.
        let bytes: Vec<u8> = (0..1_050_000u32).map(|i| (i % 251) as u8 + 1).collect();
        let id = ObjectId::of_bytes(&bytes);
        let whole = empty();
        let first = whole.operations();
        objects_on(&whole).put_reader(&id, &mut bytes.as_slice()).unwrap();
        let mut disks = 0;
        for operation in first..=whole.operations() {
            for fault in [Fault::PowerOff, Fault::Error, Fault::DiskFull] {
                let disk = empty().failing(operation, fault);
                let done = objects_on(&disk).put_reader(&id, &mut bytes.as_slice()).is_ok();
                let crashes = if fault == Fault::PowerOff { disk.crashes() } else { vec![Left::Kept] };
                // Every sector of a megabyte is more than a test needs: the first, the last and some between.
                let last = crashes.len() - 1;
                let chosen =
                    crashes.iter().enumerate().filter(|(i, _)| i % 601 == 0 || *i < 9 || *i + 3 > last);
                for (_, left) in chosen {
                    let disk = disk.after(*left);
                    let objects = objects_on(&disk);
                    let what = format!("{fault:?} at operation {operation}, {left:?}");
                    match objects.verify(&id) {
                        Ok(len) => assert_eq!(len, bytes.len() as u64, "{what}"),
                        Err(ObjectError::Missing { .. }) => assert!(!done, "{what}: it was acknowledged"),
                        Err(error) => panic!("{what}: {error}"),
                    }
                    objects.put_reader(&id, &mut bytes.as_slice()).unwrap_or_else(|e| panic!("{what}: {e}"));
                    disks += 1;
                }
            }
        }
        assert!(disks > 40, "{disks} disks");
        let lying = empty().failing(first, Fault::Lies);
        objects_on(&lying).put_reader(&id, &mut bytes.as_slice()).unwrap();
        let after = objects_on(&lying.after(Left::Dropped)).verify(&id);
        assert!(matches!(after, Err(ObjectError::Missing { .. })), "a disk that lies is seen to lose it");
    }
}

//! What the file system says of a file without reading it: enough to tell that it was changed, as in git's index.

use std::fs::File;
use std::io;
use std::path::Path;

use bincode::{Decode, Encode};
use rustix::fs::{fstat, lstat, FileType, Stat};

use crate::digest::{Digest, StatKind};
use crate::files::FileError;

/// A file's identity, size and times. Two files, or a file before and after a change, differ in one of them; a change within
/// the granule of the file system's clock may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct FileStat {
    /// The file system.
    pub device: u64,
    /// The file's number in it.
    pub inode: u64,
    /// Its length.
    pub bytes: u64,
    /// When its contents changed, as it says; anybody may set that.
    pub modified_ns: i128,
    /// When it or what is known of it changed, which only the system sets.
    pub changed_ns: i128,
}

impl FileStat {
    /// Of a regular file. A link is not followed.
    ///
    /// # Errors
    /// [`FileError`] when there is no regular file.
    pub fn of(path: &Path) -> Result<Self, FileError> {
        let stat = lstat(path).map_err(|e| FileError::at("read", path)(e.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Self::from(&stat)),
            _ => Err(FileError::at("read", path)(crate::storage::not_regular())),
        }
    }

    /// Of a file that is open.
    ///
    /// # Errors
    /// What the system says.
    pub fn of_open(file: &File) -> io::Result<Self> {
        Ok(Self::from(&fstat(file)?))
    }

    /// What is another one when the file is.
    pub fn fingerprint(&self) -> Digest<StatKind> {
        Digest::of(&("file", self))
    }

    /// The newer of its two times.
    pub fn newest_ns(&self) -> i128 {
        self.modified_ns.max(self.changed_ns)
    }
}

impl From<&Stat> for FileStat {
    #[allow(clippy::unnecessary_cast, reason = "the fields have other types on other systems")]
    fn from(stat: &Stat) -> Self {
        let ns = |seconds: i128, ns: i128| seconds * 1_000_000_000 + ns;
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            bytes: stat.st_size as u64,
            modified_ns: ns(stat.st_mtime as i128, stat.st_mtime_nsec as i128),
            changed_ns: ns(stat.st_ctime as i128, stat.st_ctime_nsec as i128),
        }
    }
}

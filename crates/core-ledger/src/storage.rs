//! The seam between what is recorded and where: real files, and a simulation that loses power.
//!
//! Whatever is written as evidence goes through [`Storage`], so that a test can stop it after any write or sync and look
//! at what a disk may hold then.

use std::any::Any;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt as _};
use std::path::Path;

pub mod sim;

/// What a name in a folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of that many bytes.
    File(u64),
    /// A folder.
    Folder,
    /// A link, a pipe, a socket, a device.
    Special,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// By one alone.
    Exclusive,
    /// Beside others that share it.
    Shared,
}

/// A lock that is held until it is dropped, or its process ends.
pub type Held = Box<dyn Any + Send>;

/// Files and folders. A path's last component is never followed when it is a link.
pub trait Storage: fmt::Debug + Send + Sync {
    /// Opens a regular file to read.
    ///
    /// # Errors
    /// `NotFound`, `InvalidInput` for what is no regular file, and what the system says.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;
    /// Makes a new file.
    ///
    /// # Errors
    /// `AlreadyExists`, and what the system says.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;
    /// Opens a regular file to append to, and makes it when it is absent.
    ///
    /// # Errors
    /// What the system says.
    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>>;
    /// What a path stands for.
    ///
    /// # Errors
    /// `NotFound`, and what the system says.
    fn entry(&self, path: &Path) -> io::Result<EntryKind>;
    /// The names in a folder, sorted, each with what it stands for. A name that is not UTF-8 is shown with replacements.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<(String, EntryKind)>>;
    /// Makes a folder, and those above it, where they are absent.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must be free.
    ///
    /// # Errors
    /// `AlreadyExists`, and what the system says.
    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames a file or folder; a file that has the new name is replaced.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, or a folder with all that is in it.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// How many syncs of different files and folders are worth asking for at once.
    fn syncs_at_once(&self) -> usize {
        1
    }
    /// Takes the lock of a file, which is made when it is absent; with `wait` false, `None` when it is held.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self, path: &Path, mode: LockMode, wait: bool) -> io::Result<Option<Held>>;
}

/// Bytes that are read from any place. Several threads may do so at once.
pub trait ReadAt: fmt::Debug + Send + Sync {
    /// Their number.
    ///
    /// # Errors
    /// What the system says.
    fn size(&self) -> io::Result<u64>;
    /// Reads into `buffer` from a place and says how many bytes there were; 0 at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// An open file.
pub trait StoredFile: ReadAt {
    /// Writes at the end.
    ///
    /// # Errors
    /// What the system says; how much was written is unknown then.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to a length.
    ///
    /// # Errors
    /// What the system says.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the system says; what was not durable before may be lost for good then.
    fn sync(&mut self) -> io::Result<()>;
    /// Copies all of it to the beginning of a new file outside. The copy shares its blocks where the file system can, and
    /// never its inode: whoever writes to the copy does not change the original.
    ///
    /// # Errors
    /// What the system says; how much was written is unknown then.
    fn copy_to(&self, copy: &File) -> io::Result<()> {
        copy_from(self, 0, copy)
    }
}

/// What is copied at once.
const PIECE_BYTES: usize = 1 << 17;

/// Copies what lies at and after `at` to the same place of another file.
fn copy_from(original: &(impl ReadAt + ?Sized), mut at: u64, copy: &File) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match original.read_at(&mut piece, at)? {
            0 => return Ok(()),
            n => {
                copy.write_all_at(&piece[..n], at)?;
                at += n as u64;
            }
        }
    }
}

/// The real file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

/// A link is not followed, and a pipe does not block.
const SAFELY: i32 = (rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK)).bits() as i32;

fn regular(file: File) -> io::Result<Box<dyn StoredFile>> {
    if file.metadata()?.is_file() {
        Ok(Box::new(DiskFile { file }))
    } else {
        Err(not_regular())
    }
}

pub(crate) fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// What the system says of a link that is not to be followed is told as what it is.
fn told(error: io::Error) -> io::Error {
    let link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    if link {
        not_regular()
    } else {
        error
    }
}

fn kind_of(meta: &fs::Metadata) -> EntryKind {
    let kind = meta.file_type();
    if kind.is_file() {
        EntryKind::File(meta.len())
    } else if kind.is_dir() {
        EntryKind::Folder
    } else {
        EntryKind::Special
    }
}

impl Storage for Disk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        regular(OpenOptions::new().read(true).custom_flags(SAFELY).open(path).map_err(told)?)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        regular(OpenOptions::new().read(true).append(true).create_new(true).open(path)?)
    }

    fn open_or_create(&self, path: &Path) -> io::Result<Box<dyn StoredFile>> {
        let mut options = OpenOptions::new();
        regular(options.read(true).append(true).create(true).custom_flags(SAFELY).open(path).map_err(told)?)
    }

    fn entry(&self, path: &Path) -> io::Result<EntryKind> {
        fs::symlink_metadata(path).map(|meta| kind_of(&meta))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, EntryKind)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let kind = match entry.metadata() {
                // Another process took it away between the two calls.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                meta => kind_of(&meta?),
            };
            found.push((entry.file_name().to_string_lossy().into_owned(), kind));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn link_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if fs::symlink_metadata(path)?.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    /// A journal takes all that wait for it with one write, and a device one flush for all: 100 small objects are durable in
    /// 22 ms instead of 530. `syncfs` takes 16, but it waits for what everybody else has written to the file system as well
    /// (450 ms beside 512 MiB of another's), and before Linux 5.8 it does not tell of a write that failed.
    fn syncs_at_once(&self) -> usize {
        32
    }

    fn lock(&self, path: &Path, mode: LockMode, wait: bool) -> io::Result<Option<Held>> {
        // Opened to read where it is there, so that a store that cannot be written to can be locked.
        let file = match OpenOptions::new().read(true).custom_flags(SAFELY).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                OpenOptions::new().create(true).truncate(false).write(true).custom_flags(SAFELY).open(path)
            }
            opened => opened,
        };
        let file = file.map_err(told)?;
        match (mode, wait) {
            (LockMode::Exclusive, true) => file.lock()?,
            (LockMode::Shared, true) => file.lock_shared()?,
            (_, false) => {
                let tried = match mode {
                    LockMode::Exclusive => file.try_lock(),
                    LockMode::Shared => file.try_lock_shared(),
                };
                match tried {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => return Ok(None),
                    Err(TryLockError::Error(e)) => return Err(e),
                }
            }
        }
        Ok(Some(Box::new(file)))
    }
}

#[derive(Debug)]
struct DiskFile {
    file: File,
}

impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match FileExt::read_at(self, buffer, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

impl ReadAt for DiskFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        ReadAt::read_at(&self.file, buffer, offset)
    }
}

impl StoredFile for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut self.file, bytes)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn copy_to(&self, copy: &File) -> io::Result<()> {
        copy_from(&self.file, copied_by_system(&self.file, copy)?, copy)
    }
}

/// Lets the system share or copy what it can, and says how many bytes it did.
#[cfg(target_os = "linux")]
fn copied_by_system(original: &File, copy: &File) -> io::Result<u64> {
    // Btrfs and XFS share the blocks of the two until one of them is written to.
    if rustix::fs::ioctl_ficlone(copy, original).is_ok() {
        return original.size();
    }
    let (mut from, mut to) = (0, 0);
    loop {
        match rustix::fs::copy_file_range(original, Some(&mut from), copy, Some(&mut to), 1 << 30) {
            Ok(0) => return Ok(to),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Between some file systems it cannot; whatever else is wrong, a plain write says so too.
            Err(_) => return Ok(to),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn copied_by_system(_: &File, _: &File) -> io::Result<u64> {
    Ok(0)
}

/// Reads a file from its beginning to its end.
#[derive(Debug)]
pub struct Reading<'a> {
    file: &'a dyn ReadAt,
    at: u64,
}

impl<'a> Reading<'a> {
    /// From the first byte.
    pub fn new(file: &'a dyn ReadAt) -> Self {
        Self { file, at: 0 }
    }

    /// All of it, when it has at most `limit` bytes; else `FileTooLarge`.
    ///
    /// # Errors
    /// What the file says.
    pub fn to_end(self, limit: u64) -> io::Result<Vec<u8>> {
        // A size is what somebody may have set without a byte behind it.
        let expected = self.file.size()?.min(limit).min(1 << 24);
        let mut bytes = Vec::with_capacity(expected as usize);
        self.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            let text = format!("larger than the limit of {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        Ok(bytes)
    }
}

impl io::Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

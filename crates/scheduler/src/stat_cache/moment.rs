//! What time it is for a file system: the time that it gives to a file that is written now.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bitproof_core_ledger::file_stat::FileStat;

/// How much older a file of another file system has to be. Its clock may be another, and the coarsest time stamps in use, those
/// of FAT, go on every two seconds.
pub(super) const FOREIGN_NS: i128 = 3_000_000_000;

/// A moment on a file system's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) device: u64,
    pub(super) ns: i128,
}

impl Moment {
    /// Whether whatever changes the file from this moment on gives it another time than it has.
    pub(super) fn is_after(&self, stat: &FileStat) -> bool {
        let margin = if stat.device == self.device { 0 } else { FOREIGN_NS };
        stat.newest_ns() + margin < self.ns
    }
}

/// A file that is written to learn the time.
#[derive(Debug)]
pub(super) struct DiskClock {
    path: PathBuf,
}

impl DiskClock {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// A moment that has come, and that is not long ago; `None` where nothing can be written.
    pub(super) fn now(&self) -> Option<Moment> {
        let asked = self.open().and_then(|file| {
            // Another process may write too: its moment has come as well.
            file.write_all_at(b".", 0)?;
            FileStat::of_open(&file)
        });
        match asked {
            Ok(stat) => Some(Moment { device: stat.device, ns: stat.modified_ns }),
            Err(error) => {
                tracing::debug!(%error, path = %self.path.display(), "no time stamp from the cache folder");
                None
            }
        }
    }

    fn open(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        File::options().create(true).truncate(false).write(true).open(&self.path)
    }
}

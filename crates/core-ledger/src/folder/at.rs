//! Folders that are walked name by name from one that is open, so that a link that is put in the way leads nowhere else.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{mkdirat, openat, Mode, OFlags};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A pipe does not block.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const NEW: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);

/// Opens a folder, which is no link.
pub(super) fn open_folder(
    below: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
) -> Result<OwnedFd, rustix::io::Errno> {
    openat(below, name, FOLDER, Mode::empty())
}

/// The folders between an open one and the file that was opened last: files that lie side by side share them.
#[derive(Debug, Default)]
pub(super) struct Above {
    open: Vec<(String, OwnedFd)>,
}

impl Above {
    /// Opens a regular file to read.
    pub(super) fn open_file(&mut self, root: BorrowedFd<'_>, path: &str) -> Result<File, Errno> {
        let (folder, name) = self.descend(root, path, |_, _| Ok(()))?;
        Ok(openat(folder, name, READ, Mode::empty())?.into())
    }

    /// Makes a new file, and the folders above it.
    pub(super) fn create_file(
        &mut self,
        root: BorrowedFd<'_>,
        path: &str,
        executable: bool,
    ) -> Result<File, Errno> {
        let (folder, name) =
            self.descend(root, path, |folder, name| mkdirat(folder, name, Mode::from_raw_mode(0o777)))?;
        let mode = Mode::from_raw_mode(if executable { 0o777 } else { 0o666 });
        Ok(openat(folder, name, NEW, mode)?.into())
    }

    /// The folder that a file lies in, and the file's name in it. `enter` comes before a folder is opened.
    fn descend<'a>(
        &'a mut self,
        root: BorrowedFd<'a>,
        path: &'a str,
        enter: impl Fn(BorrowedFd<'_>, &str) -> Result<(), Errno>,
    ) -> Result<(BorrowedFd<'a>, &'a str), Errno> {
        let (folders, name) = path.rsplit_once('/').map_or((None, path), |(f, name)| (Some(f), name));
        let mut depth = 0;
        for part in folders.into_iter().flat_map(|folders| folders.split('/')) {
            if self.open.get(depth).is_none_or(|(open, _)| open != part) {
                self.open.truncate(depth);
                let below = self.open.last().map_or(root, |(_, fd)| fd.as_fd());
                enter(below, part)?;
                let opened = open_folder(below, part)?;
                self.open.push((part.to_owned(), opened));
            }
            depth += 1;
        }
        self.open.truncate(depth);
        Ok((self.open.last().map_or(root, |(_, fd)| fd.as_fd()), name))
    }
}

//! What lies below a folder, looked at without ever going through a link: a command may leave one anywhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, CWD};

/// What is found at a path.
#[derive(Debug)]
pub(super) enum Found {
    Missing,
    File(File),
    Folder(OwnedFd),
    /// Neither, told as what it is.
    Other(&'static str),
}

impl Found {
    /// What it is, for a message.
    pub(super) fn told(&self) -> &'static str {
        match self {
            Self::Missing => "nothing",
            Self::File(_) => "a file",
            Self::Folder(_) => "a folder",
            Self::Other(what) => what,
        }
    }
}

/// Opens the folder at `path`, which is ours.
pub(super) fn folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, path, FOLDER, Mode::empty())?)
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// What is at `path` below `folder`, or the first on the way to it that is no folder; with the part of the path that leads there.
pub(super) fn look<'p>(folder: BorrowedFd<'_>, path: &'p str) -> io::Result<(&'p str, Found)> {
    let mut inner: Option<OwnedFd> = None;
    let mut end = 0;
    loop {
        let name_end = path[end..].find('/').map_or(path.len(), |len| end + len);
        let here = inner.as_ref().map_or(folder, AsFd::as_fd);
        match entry(here, &path[end..name_end])? {
            Found::Folder(next) if name_end < path.len() => inner = Some(next),
            found => return Ok((&path[..name_end], found)),
        }
        end = name_end + 1;
    }
}

fn entry(folder: BorrowedFd<'_>, name: &str) -> io::Result<Found> {
    let kind = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        Err(rustix::io::Errno::NOENT) => return Ok(Found::Missing),
        Err(error) => return Err(error.into()),
    };
    match kind {
        FileType::RegularFile => {
            let file = File::from(rustix::fs::openat(folder, name, FILE, Mode::empty())?);
            Ok(if file.metadata()?.is_file() { Found::File(file) } else { Found::Other("something else") })
        }
        FileType::Directory => Ok(Found::Folder(rustix::fs::openat(folder, name, FOLDER, Mode::empty())?)),
        kind => Ok(Found::Other(told(kind))),
    }
}

fn told(kind: FileType) -> &'static str {
    match kind {
        FileType::Symlink => "a link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }
}

/// The names in a folder with their kinds, in no order.
pub(super) fn list(folder: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if [&b"."[..], b".."].contains(&name.to_bytes()) {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            kind => kind,
        };
        names.push((name.to_bytes().to_vec(), kind));
    }
    Ok(names)
}

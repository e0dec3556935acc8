//! A packed folder as a folder of the file system again.

use std::fs;
use std::io::{BufRead, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;

use super::at::{open_folder, Above};
use super::{read, FolderError, FolderFile};
use crate::files::FileError;

/// Makes the folder `dir`, which must not exist, with the files of a packed folder, and returns what they are. What is read is
/// not verified: [`Objects::unpack_to`](crate::objects::Objects::unpack_to) does that. Nothing is synced.
///
/// # Errors
/// [`FolderError`] when the bytes are not a packed folder, or cannot be written. What was made so far is removed then.
pub fn unpack(source: &mut impl Read, dir: &Path) -> Result<Vec<FolderFile>, FolderError> {
    fs::create_dir(dir).map_err(FileError::at("create", dir))?;
    let unpacked = fill(source, dir);
    if unpacked.is_err() {
        // What is left then is in nobody's way: it is what the error is about.
        let _ = fs::remove_dir_all(dir);
    }
    unpacked
}

fn fill(source: &mut impl Read, dir: &Path) -> Result<Vec<FolderFile>, FolderError> {
    let root = open_folder(CWD, dir).map_err(|e| FileError::at("create", dir)(e.into()))?;
    let mut above = Above::default();
    read(source, |file, contents| write(&root, &mut above, file, contents, dir))
}

fn write(
    root: &OwnedFd,
    above: &mut Above,
    file: &FolderFile,
    contents: &mut dyn BufRead,
    dir: &Path,
) -> Result<(), FolderError> {
    let at = || dir.join(&file.path);
    let created = above.create_file(root.as_fd(), &file.path, file.executable);
    let mut written = created.map_err(|e| FileError::at("create", &at())(e.into()))?;
    loop {
        let piece = contents.fill_buf().map_err(FolderError::of)?;
        let n = piece.len();
        if n == 0 {
            return Ok(());
        }
        written.write_all(piece).map_err(FileError::at("write", &at()))?;
        contents.consume(n);
    }
}

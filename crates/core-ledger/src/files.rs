//! Durable files: written whole, synced, published by name without replacing anything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// An I/O error with the operation and the path it happened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried: `read`, `write`, `sync`, …
    pub op: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    /// Wraps what the system said about `path`; for `map_err`.
    pub fn at<'a>(op: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self { op, path: path.to_owned(), source }
    }

    /// Whether the file is absent, rather than unreadable.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// Writes `bytes` to a new file in `staging`, syncs it, and publishes it as `target`, which must not exist.
/// Returns whether it was published; `false` means that `target` was there already and is untouched.
///
/// # Errors
/// [`FileError`] when any step fails; then `target` was not made.
pub fn publish_new(staging: &Path, target: &Path, bytes: &[u8]) -> Result<bool, FileError> {
    let temporary = stage(staging, bytes)?;
    let linked = match fs::hard_link(&temporary, target) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(FileError::at("publish", target)(e)),
    };
    fs::remove_file(&temporary).map_err(FileError::at("remove", &temporary))?;
    let published = linked?;
    if published {
        sync_parent(target)?;
    }
    Ok(published)
}

/// Writes `bytes` to a new file in `staging`, syncs it, and renames it over `target`.
///
/// # Errors
/// [`FileError`] when any step fails; then `target` is what it was.
pub fn replace(staging: &Path, target: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = stage(staging, bytes)?;
    fs::rename(&temporary, target).map_err(FileError::at("publish", target))?;
    sync_parent(target)
}

/// Writes a new file in place and syncs it (not its folder).
///
/// # Errors
/// [`FileError`] when the file exists or a step fails.
pub fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).open(path).map_err(FileError::at("create", path))?;
    file.write_all(bytes).map_err(FileError::at("write", path))?;
    file.sync_all().map_err(FileError::at("sync", path))
}

fn stage(staging: &Path, bytes: &[u8]) -> Result<PathBuf, FileError> {
    let n = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
    let path = staging.join(format!("{}-{n}", std::process::id()));
    // A leftover of a killed process that had the same id is nobody's.
    let _ = fs::remove_file(&path);
    write_new(&path, bytes)?;
    Ok(path)
}

/// Syncs a folder, so that the names in it are durable.
///
/// # Errors
/// [`FileError`] when it cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> Result<(), FileError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(FileError::at("sync", dir))
}

fn sync_parent(path: &Path) -> Result<(), FileError> {
    path.parent().map_or(Ok(()), sync_dir)
}

/// Reads a regular file of at most `limit` bytes. A link is not followed, anything else is refused.
///
/// # Errors
/// [`FileError`] when it is absent, not a regular file, too large, or unreadable.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let fail = |kind, text: String| FileError {
        op: "read",
        path: path.to_owned(),
        source: io::Error::new(kind, text),
    };
    let meta = fs::symlink_metadata(path).map_err(FileError::at("read", path))?;
    if !meta.is_file() {
        return Err(fail(io::ErrorKind::InvalidInput, "not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(FileError::at("read", path))?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(FileError::at("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(fail(io::ErrorKind::FileTooLarge, format!("larger than the limit of {limit} bytes")));
    }
    Ok(bytes)
}

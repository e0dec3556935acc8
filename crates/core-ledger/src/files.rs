//! Durable files: written whole, synced, published by name without replacing anything.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::storage::{Disk, EntryKind, Held, LockMode, Reading, Storage, StoredFile};

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

/// What is written to a new file at once.
const PIECE_BYTES: u64 = 1 << 20;

/// A new file that is whole, but is not durable yet and has no name that lasts.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) path: PathBuf,
    /// It, open.
    pub(crate) file: Box<dyn StoredFile>,
}

/// Files on some storage. Cloning shares the storage.
#[derive(Debug, Clone)]
pub struct Files {
    storage: Arc<dyn Storage>,
}

impl Files {
    /// Files on the real file system.
    pub fn on_disk() -> Self {
        Self::on(Disk)
    }

    /// Files on a given storage.
    pub fn on(storage: impl Storage + 'static) -> Self {
        Self { storage: Arc::new(storage) }
    }

    /// Writes `bytes` to a new file in `staging`, syncs it, and publishes it as `target`, which must not exist.
    /// Returns whether it was published; `false` means that `target` was there already and is untouched.
    ///
    /// # Errors
    /// [`FileError`] when any step fails; then `target` was not made, or is whole.
    pub fn publish_new(&self, staging: &Path, target: &Path, bytes: &[u8]) -> Result<bool, FileError> {
        let staged = self.stage_durably(staging, bytes)?;
        let linked = self.link_new(&staged.path, target);
        self.remove(&staged.path)?;
        let published = linked?;
        if published {
            self.sync_parent(target)?;
        }
        Ok(published)
    }

    /// Gives a file a second name. Returns whether the name was free.
    ///
    /// # Errors
    /// [`FileError`].
    pub(crate) fn link_new(&self, from: &Path, to: &Path) -> Result<bool, FileError> {
        match self.storage.link_new(from, to) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(FileError::at("publish", to)(e)),
        }
    }

    /// Writes `bytes` to a new file in `staging`, syncs it, and renames it over `target`.
    ///
    /// # Errors
    /// [`FileError`] when any step fails; then `target` is what it was, or is whole.
    pub fn replace(&self, staging: &Path, target: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let staged = self.stage_durably(staging, bytes)?;
        self.rename(&staged.path, target)?;
        self.sync_parent(target)
    }

    /// As [`Files::replace`] of each of `group`, with syncs that share what they wait for. All are durable when it returns; a
    /// stop before that leaves of each what it was, or the whole of it.
    ///
    /// # Errors
    /// [`FileError`]; some may be replaced then, each as a whole.
    pub fn replace_all(&self, staging: &Path, group: &[(PathBuf, &[u8])]) -> Result<(), FileError> {
        let mut staged = Vec::new();
        let replaced = self.replace_group(staging, group, &mut staged);
        if replaced.is_err() {
            // Those that have their name already are not there any more.
            staged.iter().for_each(|path| drop(self.storage.remove(path)));
        }
        replaced
    }

    fn replace_group(
        &self,
        staging: &Path,
        group: &[(PathBuf, &[u8])],
        staged: &mut Vec<PathBuf>,
    ) -> Result<(), FileError> {
        for (_, bytes) in group {
            staged.push(self.stage(staging, &mut { *bytes })?.path);
        }
        self.sync_files(&staged.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
        for (from, (target, _)) in staged.iter().zip(group) {
            self.rename(from, target)?;
        }
        let folders: BTreeSet<&Path> = group.iter().filter_map(|(target, _)| target.parent()).collect();
        self.sync_dirs(&folders.into_iter().collect::<Vec<_>>())
    }

    /// As [`Files::replace`], but nothing is synced: for what is derived, whose reader takes a damaged file for none.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn replace_derived(&self, staging: &Path, target: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let staged = self.stage(staging, &mut { bytes })?;
        self.rename(&staged.path, target).inspect_err(|_| drop(self.remove(&staged.path)))
    }

    /// Writes a new file in place and syncs it (not its folder).
    ///
    /// # Errors
    /// [`FileError`] when the file exists or a step fails.
    pub fn write_new(&self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        let mut file = self.copy_new(path, &mut { bytes })?;
        file.sync().map_err(FileError::at("sync", path))
    }

    /// As [`Files::write_new`] of each of `group`, with syncs that share what they wait for.
    ///
    /// # Errors
    /// [`FileError`] when one exists or a step fails; some may have been written then.
    pub fn write_all_new(&self, group: &[(PathBuf, &[u8])]) -> Result<(), FileError> {
        for (path, bytes) in group {
            drop(self.copy_new(path, &mut { *bytes })?);
        }
        self.sync_files(&group.iter().map(|(path, _)| path.as_path()).collect::<Vec<_>>())
    }

    fn stage_durably(&self, staging: &Path, bytes: &[u8]) -> Result<Staged, FileError> {
        let mut staged = self.stage(staging, &mut { bytes })?;
        if let Err(error) = staged.file.sync() {
            let _ = self.storage.remove(&staged.path);
            return Err(FileError::at("sync", &staged.path)(error));
        }
        Ok(staged)
    }

    /// Writes everything that `source` yields to a new file in `staging`, in constant memory. It is not synced.
    ///
    /// # Errors
    /// [`FileError`]; what was written so far is removed when that can be done.
    pub(crate) fn stage(&self, staging: &Path, source: &mut impl Read) -> Result<Staged, FileError> {
        // Random, since process ids repeat: in two containers that share a store both are 1.
        let mut name = [0u8; 16];
        getrandom::fill(&mut name)
            .map_err(|e| FileError::at("name a file in", staging)(io::Error::other(e)))?;
        let path = staging.join(crate::store::hex(&name));
        match self.copy_new(&path, source) {
            Ok(file) => Ok(Staged { path, file }),
            Err(error) => {
                // It fails again where the disk does; then whoever writes next removes it.
                let _ = self.storage.remove(&path);
                Err(error)
            }
        }
    }

    fn copy_new(&self, path: &Path, source: &mut impl Read) -> Result<Box<dyn StoredFile>, FileError> {
        let mut file = self.storage.create_new(path).map_err(FileError::at("create", path))?;
        let mut piece = Vec::new();
        loop {
            piece.clear();
            let read = source.by_ref().take(PIECE_BYTES).read_to_end(&mut piece);
            let n = read.map_err(FileError::at("copy into", path))?;
            // An empty file is written once, too.
            file.append(&piece).map_err(FileError::at("write", path))?;
            if (n as u64) < PIECE_BYTES {
                break;
            }
        }
        Ok(file)
    }

    /// Reads a regular file of at most `limit` bytes. A link is not followed, anything else is refused.
    ///
    /// # Errors
    /// [`FileError`] when it is absent, not a regular file, too large, or unreadable.
    pub fn read_bounded(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
        let file = self.open(path)?;
        Reading::new(&*file).to_end(limit).map_err(FileError::at("read", path))
    }

    /// Opens a regular file to read. A link is not followed.
    ///
    /// # Errors
    /// [`FileError`] when it is absent, not a regular file, or unreadable.
    pub fn open(&self, path: &Path) -> Result<Box<dyn StoredFile>, FileError> {
        self.storage.open(path).map_err(FileError::at("read", path))
    }

    /// Opens a regular file to append to, and makes it when it is absent.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn open_or_create(&self, path: &Path) -> Result<Box<dyn StoredFile>, FileError> {
        self.storage.open_or_create(path).map_err(FileError::at("open", path))
    }

    /// What a path stands for; `None` when there is nothing.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be told.
    pub fn entry(&self, path: &Path) -> Result<Option<EntryKind>, FileError> {
        match self.storage.entry(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            entry => entry.map(Some).map_err(FileError::at("read", path)),
        }
    }

    /// Whether a path is known to stand for something.
    pub fn exists(&self, path: &Path) -> bool {
        self.storage.entry(path).is_ok()
    }

    /// Whether a path is known to be a regular file.
    pub fn is_file(&self, path: &Path) -> bool {
        matches!(self.storage.entry(path), Ok(EntryKind::File(_)))
    }

    /// The names in a folder with what they stand for, sorted.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn list(&self, dir: &Path) -> Result<Vec<(String, EntryKind)>, FileError> {
        self.storage.list(dir).map_err(FileError::at("read", dir))
    }

    /// Everything below a folder that is no folder itself, by its path relative to it with `/` between its parts, sorted.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn files_below(&self, dir: &Path) -> Result<Vec<(String, EntryKind)>, FileError> {
        let mut found = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let at = dir.join(&folder);
            for (name, kind) in self.list(&at)? {
                let relative = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                match kind {
                    EntryKind::Folder => folders.push(relative),
                    EntryKind::File(_) | EntryKind::Special => found.push((relative, kind)),
                }
            }
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Makes a folder where it is absent, and makes its name durable. The folder above it must exist.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn create_dir(&self, dir: &Path) -> Result<(), FileError> {
        if !self.exists(dir) {
            self.storage.create_dir_all(dir).map_err(FileError::at("create", dir))?;
        }
        // Another process may have made it and not have synced it yet.
        self.sync_parent(dir)
    }

    /// Makes a folder with those above it, and makes the names of those that were absent durable.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn create_dirs(&self, dir: &Path) -> Result<(), FileError> {
        match dir.parent() {
            Some(above) if !above.as_os_str().is_empty() && !self.exists(above) => self.create_dirs(above)?,
            _ => {}
        }
        self.create_dir(dir)
    }

    /// Makes a folder with those above it. Not durable: for what is derived, and for folders outside the store.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn create_dir_all(&self, dir: &Path) -> Result<(), FileError> {
        self.storage.create_dir_all(dir).map_err(FileError::at("create", dir))
    }

    /// Renames a file or folder.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), FileError> {
        self.storage.rename(from, to).map_err(FileError::at("publish", to))
    }

    /// Removes a file, or a folder with all that is in it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.storage.remove(path).map_err(FileError::at("remove", path))
    }

    /// Syncs a folder, so that the names in it are durable.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be opened or synced.
    pub fn sync_dir(&self, dir: &Path) -> Result<(), FileError> {
        self.storage.sync_dir(dir).map_err(FileError::at("sync", dir))
    }

    /// Syncs the folder that a path lies in.
    ///
    /// # Errors
    /// As [`Files::sync_dir`].
    pub fn sync_parent(&self, path: &Path) -> Result<(), FileError> {
        match path.parent() {
            Some(dir) if dir.as_os_str().is_empty() => self.sync_dir(Path::new(".")),
            Some(dir) => self.sync_dir(dir),
            None => Ok(()),
        }
    }

    /// Syncs files that were written and closed, as many at once as is quickest.
    ///
    /// # Errors
    /// [`FileError`] for one that cannot be opened or synced.
    pub(crate) fn sync_files(&self, paths: &[&Path]) -> Result<(), FileError> {
        self.sync_each(paths, |path| self.open(path)?.sync().map_err(FileError::at("sync", path)))
    }

    /// Syncs folders, as many at once as is quickest.
    ///
    /// # Errors
    /// [`FileError`] for one that cannot be opened or synced.
    pub(crate) fn sync_dirs(&self, dirs: &[&Path]) -> Result<(), FileError> {
        self.sync_each(dirs, |dir| self.sync_dir(dir))
    }

    fn sync_each(
        &self,
        paths: &[&Path],
        sync: impl Fn(&Path) -> Result<(), FileError> + Sync,
    ) -> Result<(), FileError> {
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        let work = || {
            while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = sync(path) {
                    next.store(paths.len(), Ordering::Relaxed);
                    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            let helpers = self.storage.syncs_at_once().min(paths.len()).saturating_sub(1);
            (0..helpers).for_each(|_| drop(scope.spawn(work)));
            work();
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Takes the lock of a file; with `wait` false, `None` when somebody holds it.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn lock(&self, path: &Path, mode: LockMode, wait: bool) -> Result<Option<Held>, FileError> {
        self.storage.lock(path, mode, wait).map_err(FileError::at("lock", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim::{Fault, Left, SimDisk};

    const FILES: [&str; 3] = ["/s/a/one", "/s/a/two", "/s/b/three"];

    fn replace(disk: &SimDisk) -> Result<(), FileError> {
        let bytes = [7; 1200];
        let group = FILES.map(|path| (PathBuf::from(path), bytes.as_slice()));
        Files::on(disk.clone()).replace_all(Path::new("/s/tmp"), &group)
    }

    /// The first file is there already.
    fn before() -> SimDisk {
        let disk = SimDisk::new();
        let files = Files::on(disk.clone());
        ["/s/tmp", "/s/a", "/s/b"].iter().for_each(|dir| files.create_dirs(Path::new(dir)).unwrap());
        files.replace(Path::new("/s/tmp"), Path::new(FILES[0]), b"old").unwrap();
        disk
    }

    #[test]
    fn a_stop_while_a_group_is_replaced_leaves_of_each_the_old_or_the_whole() {
        let whole = before();
        let first = whole.operations();
        replace(&whole).unwrap();
        // Written, synced and renamed; then each folder is synced once.
        assert_eq!(whole.operations() - first, 4 * 3 + 2);
        for operation in first..=whole.operations() {
            for fault in [Fault::PowerOff, Fault::Error, Fault::DiskFull] {
                let disk = before().failing(operation, fault);
                let done = replace(&disk).is_ok();
                let crashes = if fault == Fault::PowerOff { disk.crashes() } else { vec![Left::Kept] };
                for left in crashes {
                    let files = Files::on(disk.after(left));
                    for (i, path) in FILES.iter().enumerate() {
                        let what = format!("{path}: {fault:?} at operation {operation}, {left:?}");
                        match files.read_bounded(Path::new(path), 1 << 20) {
                            Ok(bytes) if bytes == [7; 1200] => (),
                            Ok(bytes) => assert!(i == 0 && bytes == b"old" && !done, "{what}"),
                            Err(_) => assert!(i > 0 && !done, "{what}"),
                        }
                    }
                    if fault == Fault::Error {
                        assert!(
                            files.list(Path::new("/s/tmp")).unwrap().is_empty(),
                            "{fault:?} at {operation}"
                        );
                    }
                }
            }
        }
        let lying = before().failing(first, Fault::Lies);
        replace(&lying).unwrap();
        let lost = Files::on(lying.after(Left::Dropped)).read_bounded(Path::new(FILES[2]), 1 << 20);
        assert!(lost.is_err(), "a disk that lies is seen to lose it");
    }
}

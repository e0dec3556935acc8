//! A folder of the file system as the bytes that it is packed into.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{fstat, statat, AtFlags, Dir, FileType, Mode, CWD};
use rustix::io::Errno;

use super::at::{open_folder, Above};
use super::{encode_listing, FolderError, FolderFile};
use crate::digest::{Digest, StatKind};
use crate::file_stat::FileStat;
use crate::files::FileError;
use crate::limits::{FOLDER_DEPTH, FOLDER_FILES};
use crate::objects::ObjectId;
use crate::storage::ReadAt;
use crate::tree_hash;

/// A folder of the file system that was listed: its bytes are those of the packed folder, and are read from any place.
///
/// A file that is no longer the one that was listed, by its times too, is an error when it is read. Links are not followed,
/// also when they come between the listing and the reading.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    root: OwnedFd,
    files: Vec<FolderFile>,
    stats: Vec<FileStat>,
    /// Where each file's contents begin.
    starts: Vec<u64>,
    listing: Vec<u8>,
    len: u64,
}

impl Folder {
    /// Lists the folder at `dir`, which is no link itself.
    ///
    /// # Errors
    /// [`FolderError`] for what cannot be recorded: links, what is neither file nor folder, names, too much of something.
    pub fn open(dir: &Path) -> Result<Self, FolderError> {
        // With a slash at its end a link would be followed.
        let dir: &Path = &dir.components().collect::<PathBuf>();
        let root = open_folder(CWD, dir).map_err(|e| failed("read", dir, e))?;
        let mut found = Found { dir: dir.to_owned(), files: Vec::new() };
        found.list(root.try_clone().map_err(FileError::at("read", dir))?, "", 0)?;
        found.files.sort_unstable_by(|a, b| a.0.path.cmp(&b.0.path));
        let (files, stats): (Vec<_>, Vec<_>) = found.files.into_iter().unzip();
        let listing = encode_listing(&files)?;
        let mut len = listing.len() as u64;
        let mut starts = Vec::with_capacity(files.len());
        for file in &files {
            starts.push(len);
            len += file.bytes;
        }
        Ok(Self { dir: dir.to_owned(), root, files, stats, starts, listing, len })
    }

    /// The files, by path.
    pub fn files(&self) -> &[FolderFile] {
        &self.files
    }

    /// What tells a change of each file.
    pub fn stats(&self) -> &[FileStat] {
        &self.stats
    }

    /// What is another one when a file came, went or changed as far as the file system says.
    pub fn fingerprint(&self) -> Digest<StatKind> {
        let listing: Digest<StatKind> = Digest::of_bytes(&self.listing);
        self.stats.chunks(4096).fold(Digest::of(&("folder", listing)), |all, stats| Digest::of(&(all, stats)))
    }

    /// The name and the length of the object that the folder is packed into; hashed on so many threads.
    ///
    /// # Errors
    /// [`FolderError::Changed`], or what the file system says.
    pub fn digest(&self, threads: NonZeroUsize) -> Result<(ObjectId, u64), FolderError> {
        tree_hash::of_file(self, threads).map_err(FolderError::of)
    }

    /// The packed folder from its beginning to its end. Its errors hold a [`FolderError`].
    pub fn reader(&self) -> FolderReader<'_> {
        FolderReader { folder: self, at: 0, place: Place::default() }
    }

    fn read_from(&self, place: &mut Place, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some(listing) = usize::try_from(offset).ok().and_then(|at| self.listing.get(at..)) {
            if !listing.is_empty() {
                let n = listing.len().min(buffer.len());
                buffer[..n].copy_from_slice(&listing[..n]);
                return Ok(n);
            }
        }
        // The last that begins here or before: those without contents come before the one that has some.
        let mut index = self.starts.partition_point(|start| *start <= offset).saturating_sub(1);
        let mut filled = 0;
        while filled < buffer.len() && index < self.files.len() {
            let within = offset + filled as u64 - self.starts[index];
            let left = self.files[index].bytes.saturating_sub(within);
            let wanted = left.min((buffer.len() - filled) as u64) as usize;
            if wanted == 0 {
                index += 1;
                continue;
            }
            let file = place.file(self, index)?;
            match ReadAt::read_at(file, &mut buffer[filled..filled + wanted], within)? {
                0 => return Err(self.changed(index).into()),
                n => filled += n,
            }
        }
        Ok(filled)
    }

    fn changed(&self, index: usize) -> FolderError {
        FolderError::Changed { path: self.dir.join(&self.files[index].path) }
    }
}

impl ReadAt for Folder {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_from(&mut Place::default(), buffer, offset)
    }
}

/// Reads a packed folder from its beginning to its end.
#[derive(Debug)]
pub struct FolderReader<'a> {
    folder: &'a Folder,
    at: u64,
    place: Place,
}

impl Read for FolderReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.folder.read_from(&mut self.place, buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// The file that was read last, with the folders above it.
#[derive(Debug, Default)]
struct Place {
    above: Above,
    open: Option<(usize, File)>,
}

impl Place {
    fn file(&mut self, folder: &Folder, index: usize) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
            let path = &folder.files[index].path;
            let file = match self.above.open_file(folder.root.as_fd(), path) {
                // It was a file below folders when it was listed.
                Err(Errno::LOOP | Errno::NOTDIR | Errno::NOENT) => Err(folder.changed(index)),
                opened => opened.map_err(|e| failed("read", &folder.dir.join(path), e)),
            }?;
            let stat = fstat(&file)?;
            let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if !regular || FileStat::from(&stat) != folder.stats[index] {
                return Err(folder.changed(index).into());
            }
            self.open = Some((index, file));
        }
        match &self.open {
            Some((_, file)) => Ok(file),
            None => unreachable!("it was opened above"),
        }
    }
}

/// What has been found below a folder so far.
struct Found {
    dir: PathBuf,
    files: Vec<(FolderFile, FileStat)>,
}

impl Found {
    /// Lists what is in `folder`, whose path is `prefix`, and in the folders below it.
    fn list(&mut self, folder: OwnedFd, prefix: &str, depth: usize) -> Result<(), FolderError> {
        let at = self.dir.join(prefix);
        let mut entries = Dir::new(folder).map_err(|e| failed("read", &at, e))?;
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(|e| failed("read", &at, e))?;
            let name = match entry.file_name().to_str() {
                Ok("." | "..") => continue,
                Ok(name) if !name.chars().any(|c| c.is_control() || c == '\\') => name,
                _ => {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    return Err(FolderError::Name { path: at.join(name) });
                }
            };
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let within = entries.fd().map_err(|e| failed("read", &at, e))?;
            let stat = statat(within, name, AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(|e| failed("read", &at.join(name), e))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => self.add(path, &stat)?,
                FileType::Directory if depth == FOLDER_DEPTH => {
                    let (what, limit) = ("folders within each other", FOLDER_DEPTH as u64);
                    return Err(FolderError::Limit { what, limit, path });
                }
                FileType::Directory => {
                    let below = open_folder(within, name).map_err(|e| failed("read", &at.join(name), e))?;
                    self.list(below, &path, depth + 1)?;
                }
                other => {
                    return Err(FolderError::NotPlain { path: self.dir.join(path), kind: kind(other) });
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, stat: &rustix::fs::Stat) -> Result<(), FolderError> {
        if self.files.len() >= FOLDER_FILES as usize {
            return Err(FolderError::Limit { what: "files", limit: FOLDER_FILES.into(), path });
        }
        let executable = Mode::from_raw_mode(stat.st_mode).contains(Mode::XUSR);
        let stat = FileStat::from(stat);
        self.files.push((FolderFile { path, executable, bytes: stat.bytes }, stat));
        Ok(())
    }
}

fn kind(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Symlink => "a link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "neither a file nor a folder",
    }
}

/// What the system says of a link that is not to be followed, or of a file in a folder's place, is told as what it is.
fn failed(op: &'static str, path: &Path, error: Errno) -> FolderError {
    let kind = match error {
        Errno::LOOP => "a link",
        Errno::NOTDIR => "not a folder",
        _ => return FolderError::File(FileError::at(op, path)(error.into())),
    };
    FolderError::NotPlain { path: path.to_owned(), kind }
}

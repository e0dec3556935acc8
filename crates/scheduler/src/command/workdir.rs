//! A command's own folder: made from what is declared, and held against it when the command has ended.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write as _};
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bitproof_core_ledger::digest::HashingReader;
use bitproof_core_ledger::folder::{self, Folder, FolderError};
use bitproof_core_ledger::limits::FOLDER_DEPTH;
use bitproof_core_ledger::objects::ObjectId;

use super::below::{self, Found};
use super::error::Cause;
use super::outputs::OutputError;
use super::{CommandInput, Job, Source};

/// The folder that a job has for itself, removed when this is dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.path).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                let folder = below::folder(&self.path)?;
                make_removable(&folder, FOLDER_DEPTH);
                fs::remove_dir_all(&self.path)
            }
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        if let Err(error) = removed {
            tracing::warn!(path = %self.path.display(), %error, "the folder of a command was not removed");
        }
    }
}

/// Takes back what keeps a folder from being emptied: many programs make folders that nobody may write to.
fn make_removable(folder: &OwnedFd, depth: usize) {
    use rustix::fs::{AtFlags, FileType, Mode};
    for (name, kind) in below::list(folder.as_fd()).unwrap_or_default() {
        if kind == FileType::Directory && depth > 0 {
            let _ = rustix::fs::chmodat(folder, name.as_slice(), Mode::RWXU, AtFlags::empty());
            if let Ok((_, Found::Folder(inner))) = std::str::from_utf8(&name)
                .map_or(Ok(("", Found::Missing)), |name| below::look(folder.as_fd(), name))
            {
                make_removable(&inner, depth - 1);
            }
        }
    }
}

/// The working folder of a command, filled.
#[derive(Debug)]
pub(super) struct Workdir {
    pub(super) work: PathBuf,
    pub(super) tmp: PathBuf,
    /// Opened before the command ran, so that it stays this one.
    pub(super) folder: OwnedFd,
    placed: Vec<Placed>,
}

/// Something that was put there.
#[derive(Debug)]
struct Placed {
    /// The input's name, or the path of the code.
    name: String,
    path: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    File(ObjectId),
    Folder(ObjectId),
}

impl Workdir {
    /// Copies code and inputs; nothing is shared with where they come from. Each must be what the plan names as it is copied.
    pub(super) fn new(job: &Job<'_>) -> Result<Self, Cause> {
        // The command is told of it, and stands in another folder.
        let scratch = fs::canonicalize(job.scratch).map_err(io_error("open", job.scratch))?;
        let (work, tmp) = (scratch.join("work"), scratch.join("tmp"));
        create_dir(&work)?;
        create_dir(&tmp)?;
        let folder = below::folder(&work).map_err(io_error("open", &work))?;
        let mut workdir = Self { work, tmp, folder, placed: Vec::new() };
        for (file, source) in job.spec.code.iter().zip(job.code) {
            workdir.place_file(&file.path, &file.path, source, &file.content, file.executable)?;
        }
        for (CommandInput { name, path }, source) in job.spec.inputs.iter().zip(job.inputs) {
            match source {
                Source::File { path: source, content } => {
                    workdir.place_file(name, path, source, content, false)?;
                }
                Source::Folder { path: source, content } => {
                    workdir.place_folder(name, path, source, content)?
                }
            }
        }
        let outputs = job.spec.outputs.iter().map(|output| &output.path).chain(&job.spec.metrics);
        for path in outputs {
            workdir.create_parents(path)?;
        }
        Ok(workdir)
    }

    fn create_parents(&self, path: &str) -> Result<(), Cause> {
        let Some((parent, _)) = path.rsplit_once('/') else { return Ok(()) };
        let parent = self.work.join(parent);
        fs::create_dir_all(&parent).map_err(io_error("create", &parent))
    }

    fn place_file(
        &mut self,
        name: &str,
        path: &str,
        source: &Path,
        expected: &ObjectId,
        executable: bool,
    ) -> Result<(), Cause> {
        self.create_parents(path)?;
        copy(open(source)?, &self.work.join(path), source, name, expected, executable)?;
        self.placed(name, path, Content::File(*expected));
        Ok(())
    }

    fn place_folder(
        &mut self,
        name: &str,
        path: &str,
        source: &Path,
        expected: &ObjectId,
    ) -> Result<(), Cause> {
        self.create_parents(path)?;
        // As with files, it is the content that counts.
        let source = fs::canonicalize(source).map_err(io_error("open", source))?;
        let cannot = |source| Cause::Folder { name: name.to_owned(), source };
        let target = self.work.join(path);
        let got = if source.is_dir() {
            unpacked(Folder::open(&source).map_err(cannot)?.reader(), &target)
        } else {
            unpacked(open(&source)?, &target)
        };
        let got = got.map_err(cannot)?;
        if got != *expected {
            return Err(Cause::NotThat { name: name.to_owned(), expected: *expected, got });
        }
        self.placed(name, path, Content::Folder(*expected));
        Ok(())
    }

    fn placed(&mut self, name: &str, path: &str, content: Content) {
        self.placed.push(Placed { name: name.to_owned(), path: path.to_owned(), content });
    }

    /// Holds code and inputs against what they were when the command began.
    pub(super) fn check_unchanged(&self) -> Result<(), Cause> {
        for placed in &self.placed {
            let path = self.work.join(&placed.path);
            let failed = io_error("read", &path);
            let (_, found) = below::look(self.folder.as_fd(), &placed.path).map_err(&failed)?;
            let same = match (&placed.content, found) {
                (Content::File(content), Found::File(mut file)) => {
                    ObjectId::of_reader(&mut file).map_err(&failed)?.0 == *content
                }
                // Whatever cannot be packed was put there by the command.
                (Content::Folder(content), Found::Folder(_)) => {
                    let packed = Folder::open(&path).and_then(|folder| folder.digest(NonZeroUsize::MIN));
                    packed.is_ok_and(|(got, _)| got == *content)
                }
                _ => false,
            };
            if !same {
                return Err(OutputError::ChangedInput { name: placed.name.clone() }.into());
            }
        }
        Ok(())
    }
}

/// Makes the folder that `source` is packed into, and names the object that it is.
fn unpacked(source: impl Read, target: &Path) -> Result<ObjectId, FolderError> {
    let mut source = HashingReader::new(source);
    folder::unpack(&mut source, target)?;
    Ok(source.finish().0)
}

/// Opens a file to read. A link that a user put there is followed: it is the content that counts. A pipe does not block.
fn open(path: &Path) -> Result<File, Cause> {
    let failed = io_error("open", path);
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
    let file = options.open(path).map_err(&failed)?;
    if !file.metadata().map_err(&failed)?.is_file() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    Ok(file)
}

/// Copies `from`, and refuses it when what lies there then is not `expected`.
fn copy(
    mut from: File,
    target: &Path,
    source: &Path,
    name: &str,
    expected: &ObjectId,
    executable: bool,
) -> Result<(), Cause> {
    let failed = io_error("copy", source);
    let mut options = OpenOptions::new();
    let created = options.read(true).write(true).create_new(true).open(target);
    let mut to = created.map_err(io_error("create", target))?;
    let got = if clone(&from, &to) {
        ObjectId::of_reader(&mut to)
    } else {
        ObjectId::of_reader(&mut Tee { from: &mut from, to: &mut to })
    };
    let (got, _) = got.map_err(&failed)?;
    if got != *expected {
        return Err(Cause::NotThat { name: name.to_owned(), expected: *expected, got });
    }
    let mode = if executable { 0o755 } else { 0o644 };
    to.set_permissions(Permissions::from_mode(mode)).map_err(io_error("set the mode of", target))
}

/// Whether the file system could share the blocks until one of the files is written to.
#[cfg(target_os = "linux")]
fn clone(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn clone(_: &File, _: &File) -> bool {
    false
}

/// Writes what is read, so that exactly this is hashed.
struct Tee<'a> {
    from: &'a mut File,
    to: &'a mut File,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.to.write_all(&buffer[..n])?;
        Ok(n)
    }
}

fn create_dir(path: &Path) -> Result<(), Cause> {
    fs::create_dir(path).map_err(io_error("create", path))
}

pub(super) fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Cause + use<> {
    let path = path.to_owned();
    move |source| Cause::Io { what, path: path.clone(), source }
}

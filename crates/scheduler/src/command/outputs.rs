//! What a command left: its outputs, and nothing that it does not declare.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use bitproof_core_ledger::folder::{Folder, FolderError};
use rustix::fs::FileType;

use super::below::{self, Found};
use super::error::Cause;
use super::layout::{Layout, Role};
use super::workdir::{io_error, Workdir};
use super::CommandSpec;

/// How many undeclared paths a message names.
const NAMED: usize = 5;

/// An output, as it lies in the command's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// A regular file.
    File(PathBuf),
    /// A folder of nothing but regular files and folders, which can be packed.
    Folder(PathBuf),
}

impl Made {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Folder(path) => path,
        }
    }
}

/// What a command left that is not what it declares.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// There is nothing at the path of an output or of metrics.
    #[error("{what} {name} is missing: nothing was written to {path}\n  hint: write it there, or correct its path in the pipeline file")]
    Missing {
        /// Whether it is an output, or metrics.
        what: &'static str,
        /// Its name.
        name: String,
        /// Its path.
        path: String,
    },
    /// There is something else at its path, or on the way to it.
    #[error("{what} {name}: {path} is {found}, not {expected}\n  hint: {}", kind_hint(found, expected))]
    Kind {
        /// Whether it is an output, or metrics.
        what: &'static str,
        /// Its name.
        name: String,
        /// Its path, or the part of it that leads to what is found.
        path: String,
        /// What is there.
        found: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// A folder holds something that cannot be kept.
    #[error(
        "output {name}: {problem}\n  hint: leave only files and folders there, under names of plain text"
    )]
    Folder {
        /// Its name.
        name: String,
        /// What it holds.
        problem: String,
    },
    /// It left files that it does not declare.
    #[error(
        "it left {count} undeclared {}: {}{}\n  hint: declare them as outputs, write to $TMPDIR, or remove them",
        if *count == 1 { "file or folder" } else { "files or folders" },
        first.join(", "),
        if *count as usize > first.len() { ", …" } else { "" }
    )]
    Undeclared {
        /// The first of them, with characters that a terminal would obey escaped.
        first: Vec<String>,
        /// How many; a folder counts as one.
        count: u64,
    },
    /// Its own code or input is not what it was.
    #[error("it changed {name}, which it was given\n  hint: write to a copy, or to an output")]
    ChangedInput {
        /// The input's name, or the path of the code.
        name: String,
    },
}

fn kind_hint(found: &str, expected: &str) -> &'static str {
    match (found, expected) {
        ("a link", _) => "put the content itself there; a link is never followed",
        ("a folder", "a file") => "end its path with / in the pipeline file if it is meant as a folder",
        _ => "make it what the pipeline file declares",
    }
}

/// The outputs and the files of metrics.
pub(super) type Collected = (BTreeMap<String, Made>, Vec<PathBuf>);

/// Takes what is declared, and refuses what is not.
pub(super) fn collect(spec: &CommandSpec, layout: &Layout, workdir: &Workdir) -> Result<Collected, Cause> {
    let mut outputs = BTreeMap::new();
    for output in &spec.outputs {
        let expected = if output.folder { "a folder" } else { "a file" };
        let found = declared(workdir, "output", &output.name, &output.path, expected)?;
        let path = workdir.work.join(&output.path);
        let made = if let Found::Folder(_) = found {
            check_folder(workdir, &output.name, &path)?;
            Made::Folder(path)
        } else {
            Made::File(path)
        };
        outputs.insert(output.name.clone(), made);
    }
    let mut metrics = Vec::new();
    for path in &spec.metrics {
        declared(workdir, "metrics", path, path, "a file")?;
        metrics.push(workdir.work.join(path));
    }
    let mut undeclared = Undeclared { layout, first: BTreeSet::new(), count: 0 };
    undeclared.look_into(workdir, workdir.folder.as_fd(), "")?;
    if undeclared.count > 0 {
        let first = undeclared.first.into_iter().collect();
        return Err(OutputError::Undeclared { first, count: undeclared.count }.into());
    }
    Ok((outputs, metrics))
}

fn declared(
    workdir: &Workdir,
    what: &'static str,
    name: &str,
    path: &str,
    expected: &'static str,
) -> Result<Found, Cause> {
    let looked = below::look(workdir.folder.as_fd(), path);
    let (at, found) = looked.map_err(io_error("read", &workdir.work.join(path)))?;
    let name = name.to_owned();
    if at == path && found.told() == expected {
        return Ok(found);
    }
    Err(match found {
        Found::Missing => OutputError::Missing { what, name, path: path.to_owned() }.into(),
        found => {
            let expected = if at == path { expected } else { "a folder" };
            OutputError::Kind { what, name, path: at.to_owned(), found: found.told(), expected }.into()
        }
    })
}

/// Whether a folder can be packed.
fn check_folder(workdir: &Workdir, name: &str, path: &Path) -> Result<(), Cause> {
    match Folder::open(path) {
        Ok(_) => Ok(()),
        Err(source @ FolderError::File(_)) => Err(Cause::Folder { name: name.to_owned(), source }),
        Err(error) => {
            // Where the folder lies now tells nobody anything.
            let here = format!("{}/", workdir.work.display());
            let problem = harmless(&error.to_string().replace(&here, ""));
            Err(OutputError::Folder { name: name.to_owned(), problem }.into())
        }
    }
}

/// What is there and not declared. A folder of it is not looked into: it may hold anything.
struct Undeclared<'a> {
    layout: &'a Layout,
    first: BTreeSet<String>,
    count: u64,
}

impl Undeclared<'_> {
    fn look_into(&mut self, workdir: &Workdir, folder: BorrowedFd<'_>, prefix: &str) -> Result<(), Cause> {
        let failed = |path: &str| io_error("read", &workdir.work.join(path));
        for (name, kind) in below::list(folder).map_err(failed(prefix))? {
            let path = format!("{prefix}{}", String::from_utf8_lossy(&name));
            let role = std::str::from_utf8(&name).ok().and_then(|_| self.layout.role(&path));
            match role {
                None => self.add(&path, kind),
                // Held against their declaration already.
                Some(Role::File | Role::Folder) => (),
                Some(Role::Parent) => match below::look(folder, &path[prefix.len()..])
                    .map_err(failed(&path))?
                    .1
                {
                    Found::Folder(inner) => self.look_into(workdir, inner.as_fd(), &format!("{path}/"))?,
                    _ => self.add(&path, kind),
                },
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, kind: FileType) {
        self.count += 1;
        let slash = if kind == FileType::Directory { "/" } else { "" };
        self.first.insert(format!("{}{slash}", harmless(path)));
        if self.first.len() > NAMED {
            self.first.pop_last();
        }
    }
}

fn harmless(text: &str) -> String {
    let escaped =
        text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() });
    escaped.collect()
}

//! What lies where below a command's working folder, by its declaration.

use std::collections::btree_map::Entry;
use std::collections::BTreeMap;

use bitproof_core_ledger::inventory::is_plain_relative;
use bitproof_core_ledger::limits::FOLDER_DEPTH;

use super::error::Cause;
use super::{CommandInput, CommandSpec, Job, Source};

/// What a declared path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A folder on the way to something that is declared.
    Parent,
    /// A file.
    File,
    /// A folder with whatever it holds.
    Folder,
}

/// Every declared path.
#[derive(Debug)]
pub(super) struct Layout {
    roles: BTreeMap<String, Role>,
}

impl Layout {
    /// Checks what is declared: a plan may come from anywhere.
    pub(super) fn new(job: &Job<'_>) -> Result<Self, Cause> {
        let spec = job.spec;
        assert_eq!(spec.code.len(), job.code.len(), "each file of code has its source");
        assert_eq!(spec.inputs.len(), job.inputs.len(), "each input has its source");
        check_environment(spec)?;
        let mut layout = Self { roles: BTreeMap::new() };
        for file in &spec.code {
            layout.claim("code", &file.path, Role::File)?;
        }
        for (CommandInput { path, .. }, source) in spec.inputs.iter().zip(job.inputs) {
            let role = if matches!(source, Source::Folder { .. }) { Role::Folder } else { Role::File };
            layout.claim("input", path, role)?;
        }
        for output in &spec.outputs {
            layout.claim("output", &output.path, if output.folder { Role::Folder } else { Role::File })?;
        }
        for path in &spec.metrics {
            layout.claim("metrics", path, Role::File)?;
        }
        Ok(layout)
    }

    pub(super) fn role(&self, path: &str) -> Option<Role> {
        self.roles.get(path).copied()
    }

    fn claim(&mut self, what: &'static str, path: &str, role: Role) -> Result<(), Cause> {
        if !is_plain(path) {
            return refuse(what, path, "is not a path below the working folder, with / between plain names");
        }
        for (at, _) in path.match_indices('/') {
            if *self.roles.entry(path[..at].to_owned()).or_insert(Role::Parent) != Role::Parent {
                return refuse(what, path, "lies in something else that is declared");
            }
        }
        match self.roles.entry(path.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(role);
                Ok(())
            }
            Entry::Occupied(_) => {
                refuse(what, path, "is declared twice, or holds something else that is declared")
            }
        }
    }
}

fn is_plain(path: &str) -> bool {
    path.split('/').count() <= FOLDER_DEPTH && is_plain_relative(path)
}

fn check_environment(spec: &CommandSpec) -> Result<(), Cause> {
    for (name, value) in &spec.env {
        let bad_value = value.as_ref().is_some_and(|value| value.contains('\0'));
        if name.is_empty() || name.contains(['=', '\0']) || bad_value {
            return refuse("variable", name, "is not one that an environment can hold");
        }
    }
    match spec.argv.first() {
        None => refuse("command", "", "has no program"),
        Some(program) if program.is_empty() => refuse("program", program, "has no name"),
        Some(_) if spec.argv.iter().any(|argument| argument.contains('\0')) => {
            refuse("command", &spec.argv[0], "has a zero byte in an argument")
        }
        Some(_) => Ok(()),
    }
}

fn refuse<T>(what: &'static str, name: &str, problem: &'static str) -> Result<T, Cause> {
    Err(Cause::Declaration { what, name: name.to_owned(), problem })
}

//! What was observed of a run's tasks: evidence, written beside the ledger a group of tasks at a time.
//!
//! A file holds a JSON object a line, and is named by the place of its first task in the commit order. Of a task that stands in two
//! files, since a process stopped between them, the one in the later file counts. `docs/formats/manifest.md` is normative.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use bitproof_core_ledger::digest::{Digest, ToolsKind};
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_scheduler::command::{Captured, Exit, Observed, Reached};
use serde::{Deserialize, Serialize};

/// The most bytes of one file.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// What was observed of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedTask {
    /// The task.
    pub task: String,
    /// The run that executed it, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_from: Option<String>,
    /// Why it failed by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// What was observed of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<ObservedCommand>,
}

/// What was observed of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservedCommand {
    /// How far it was kept from what it does not declare: `strict`, `landlock` with its version, or `none`.
    pub isolation: String,
    /// Where it was found.
    pub program: Option<String>,
    /// The digest of the program and the tools as they were.
    pub tools: Option<Digest<ToolsKind>>,
    /// Where each tool was.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tool_paths: BTreeMap<String, PathBuf>,
    /// `code 0`, `signal 9`.
    pub exit: String,
    /// What it printed on standard output.
    pub stdout: Printed,
    /// What it printed on standard error.
    pub stderr: Printed,
}

/// What a program printed, without the middle of what is long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Printed {
    /// Its beginning.
    pub head: Text,
    /// How many bytes are left out after it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
    /// Its end, where something is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Text>,
}

/// Bytes: as text where they are UTF-8, else in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Text {
    /// UTF-8.
    Text(String),
    /// Base64.
    Base64(String),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Base64(STANDARD.encode(bytes)),
        }
    }
}

impl Printed {
    fn of(captured: &Captured) -> Self {
        let dropped = captured.dropped();
        let tail = (!captured.tail().is_empty()).then(|| Text::of(captured.tail()));
        Self { head: Text::of(captured.head()), dropped, tail }
    }
}

impl ObservedCommand {
    /// What was observed of a command, and of its tools before it ran and where they were.
    pub fn of(
        observed: &Observed,
        tools: Option<Digest<ToolsKind>>,
        tool_paths: BTreeMap<String, PathBuf>,
    ) -> Self {
        let isolation = match &observed.isolation {
            Reached::None => "none".to_owned(),
            Reached::Landlock { abi } => format!("landlock {abi}"),
            Reached::Bubblewrap { .. } => "strict".to_owned(),
        };
        let exit = match observed.exit {
            Exit::Code(code) => format!("code {code}"),
            Exit::Signal(signal) => format!("signal {signal}"),
        };
        Self {
            isolation,
            program: observed.program.as_ref().map(|path| path.display().to_string()),
            tools,
            tool_paths,
            exit,
            stdout: Printed::of(&observed.stdout),
            stderr: Printed::of(&observed.stderr),
        }
    }
}

/// The lines of a group of tasks.
pub fn encode<'a>(tasks: impl IntoIterator<Item = &'a ObservedTask>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for task in tasks {
        serde_json::to_writer(&mut bytes, task).expect("it has only text keys");
        bytes.push(b'\n');
    }
    bytes
}

/// Reads what was observed from the files of a folder, by task; nothing where there is no folder. A line that is none is passed
/// over: evidence is what was said, and a changed byte of it is found by its inventory.
///
/// # Errors
/// [`FileError`].
pub fn read(files: &Files, dir: &Path) -> Result<BTreeMap<String, ObservedTask>, FileError> {
    let mut found = BTreeMap::new();
    if files.entry(dir)?.is_none() {
        return Ok(found);
    }
    for (name, _) in files.list(dir)? {
        let bytes = files.read_bounded(&dir.join(name), MAX_FILE_BYTES)?;
        let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        let tasks = lines.filter_map(|line| serde_json::from_slice::<ObservedTask>(line).ok());
        found.extend(tasks.map(|task| (task.task.clone(), task)));
    }
    Ok(found)
}

/// The name of the file of a group of tasks whose first has this place in the commit order: names sort as places do.
pub fn file_name(first: usize) -> String {
    format!("{first:07}.jsonl")
}

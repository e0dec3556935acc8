//! Why a command did not make its outputs.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bitproof_core_ledger::folder::FolderError;
use bitproof_core_ledger::objects::ObjectId;

use super::capture::Captured;
use super::isolation::{Reached, Unmet};
use super::outputs::OutputError;
use super::placeholders::PlaceholderError;
use super::tools::ToolError;
use super::Observed;
use crate::dispatch::TaskError;
use crate::ledger::Failure;

/// A command that did not make its outputs.
#[derive(Debug, thiserror::Error)]
#[error("{cause}{}", said(observed.as_deref(), cause))]
pub struct CommandError {
    /// Why.
    pub cause: Cause,
    /// What was observed, if the command was started.
    pub observed: Option<Box<Observed>>,
}

/// Why a command did not make its outputs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// It ended with another code than 0. A failure by itself.
    #[error("{program} ended with exit code {code}")]
    Exited {
        /// Its first argument.
        program: String,
        /// The code.
        code: i32,
    },
    /// It ended by a signal that it brought about. A failure by itself.
    #[error("{program} ended by {}", signal_name(*signal))]
    Crashed {
        /// Its first argument.
        program: String,
        /// The signal.
        signal: i32,
    },
    /// What it left is not what it declares. A failure by itself.
    #[error(transparent)]
    Outputs(#[from] OutputError),
    /// It is declared in a way that cannot be run. A failure by itself.
    #[error("{what} {name:?} {problem}")]
    Declaration {
        /// What of it.
        what: &'static str,
        /// Its name or path.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A placeholder in its arguments means nothing. A failure by itself.
    #[error(transparent)]
    Placeholder(#[from] PlaceholderError),
    /// An input or a file of code is not what the plan names.
    #[error("{name} is not what the plan names: expected {expected}, got {got}\n  hint: it changed since the run was planned; run it again")]
    NotThat {
        /// The input, or the path of the code.
        name: String,
        /// Its content in the plan.
        expected: ObjectId,
        /// Its content now.
        got: ObjectId,
    },
    /// A folder that is an input cannot be copied.
    #[error("{name} cannot be copied: {source}")]
    Folder {
        /// The input.
        name: String,
        /// Why not.
        source: FolderError,
    },
    /// It took longer than it may.
    #[error("{program} was stopped after its timeout of {after:?}\n  hint: give the stage a longer timeout")]
    TimedOut {
        /// Its first argument.
        program: String,
        /// The timeout.
        after: Duration,
    },
    /// The run was cancelled.
    #[error("{program} was stopped: the run was cancelled")]
    Cancelled {
        /// Its first argument.
        program: String,
    },
    /// Something else ended it.
    #[error("{program} was ended by {} from outside\n  hint: the system ends programs when its memory is short", signal_name(*signal))]
    Killed {
        /// Its first argument.
        program: String,
        /// The signal.
        signal: i32,
    },
    /// There is no such program.
    #[error("{program} was not found in {search_path}\n  hint: install it, or declare where it is: [tools.NAME] path = …, tools = [\"NAME\"]")]
    NotFound {
        /// Its first argument.
        program: String,
        /// Where it was looked for.
        search_path: String,
    },
    /// It could not be started.
    #[error("{program} cannot be started: {source}{}", start_hint(source))]
    Start {
        /// Its first argument.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The sandbox could not be set up.
    #[error("the sandbox cannot be set up: {message}")]
    Sandbox {
        /// What it says.
        message: String,
    },
    /// The isolation that is demanded is not to be had here.
    #[error(transparent)]
    Unmet(#[from] Unmet),
    /// A tool cannot be used.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The file system failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something that could not be ended holds what it prints to.
    #[error("{program} ended, but something holds its output open")]
    HeldOpen {
        /// Its first argument.
        program: String,
    },
}

impl Cause {
    /// What is recorded of it; `None` where the same inputs may do better another time.
    fn failure(&self) -> Option<Failure> {
        match self {
            Self::Exited { code, .. } => Some(Failure::Exited(*code)),
            Self::Crashed { signal, .. } => Some(Failure::Signalled(*signal)),
            Self::Outputs(_) | Self::Declaration { .. } | Self::Placeholder(_) => Some(Failure::Refused),
            _ => None,
        }
    }
}

impl CommandError {
    /// How it failed by itself, which is recorded; `None` for a failure of what is around it, which is worth another try.
    pub fn failure(&self) -> Option<Failure> {
        self.cause.failure()
    }
}

impl From<CommandError> for TaskError {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error.failure() {
            Some(how) => Self::Failed { how, message },
            None => Self::Infrastructure { message },
        }
    }
}

/// What the program itself said, where that explains its end, and what may be behind it.
fn said(observed: Option<&Observed>, cause: &Cause) -> String {
    let Some(observed) = observed else { return String::new() };
    let mut text = String::new();
    let ended_badly = matches!(cause, Cause::Exited { .. } | Cause::Crashed { .. } | Cause::Killed { .. });
    if ended_badly {
        let lines = observed.stderr.last_lines().to_string();
        if lines.is_empty() {
            text.push_str("; it printed nothing on standard error");
        } else {
            text.push('\n');
            text.push_str(&lines);
        }
    }
    let confined = confinement_hint(&observed.isolation, &observed.stderr);
    text.push_str(match cause {
        Cause::Exited { .. } if !confined.is_empty() => confined,
        Cause::Exited { .. } | Cause::Crashed { .. } => {
            "\n  hint: more of what it printed is in observed/ of the run's folder"
        }
        _ => "",
    });
    text
}

fn confinement_hint(isolation: &Reached, stderr: &Captured) -> &'static str {
    let says = |texts: &[&str]| texts.iter().any(|text| stderr.contains(text));
    let denied = || says(&["Permission denied", "Errno 13", "EACCES"]);
    match isolation {
        Reached::Landlock { .. } if denied() => {
            "\n  hint: it may read only what it declares: add the file to code or inputs, or the program's folder as a tool; \
             it may write only in its folder and in $TMPDIR; it has no network; shared memory (multiprocessing) needs isolation = \"strict\""
        }
        Reached::Bubblewrap { .. } if says(&["Network is unreachable", "Connection refused", "name resolution"]) => {
            "\n  hint: it has no network: declare what it fetches as data, or demand less with isolation"
        }
        Reached::Bubblewrap { .. } if denied() || says(&["No such file", "nonexistent", "Read-only file system"]) => {
            "\n  hint: it sees only what it declares: add the file to code or inputs, or the program's folder as a tool; \
             it may write only in its folder and in $TMPDIR"
        }
        _ => "",
    }
}

fn start_hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "\n  hint: make it executable (chmod +x), or name its interpreter first"
        }
        io::ErrorKind::NotFound => {
            "\n  hint: declare it in code, by its path from the pipeline file; what its first line names must be there too"
        }
        _ => "",
    }
}

fn signal_name(signal: i32) -> String {
    use rustix::process::Signal;
    let named = [
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::HUP, "SIGHUP"),
        (Signal::ILL, "SIGILL"),
        (Signal::INT, "SIGINT"),
        (Signal::KILL, "SIGKILL"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::SYS, "SIGSYS"),
        (Signal::TERM, "SIGTERM"),
        (Signal::TRAP, "SIGTRAP"),
    ];
    let name = named.iter().find(|(known, _)| known.as_raw() == signal).map(|(_, name)| *name);
    name.map_or_else(|| format!("signal {signal}"), str::to_owned)
}

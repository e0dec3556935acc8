//! A task that is a command: a program that is run with what it declares, and kept from what it does not.
//!
//! [`run`] makes an empty folder, copies declared code and inputs into it, starts the program in a scrubbed
//! [`environment`] and in the [`isolation`] that is demanded, waits for it and for whatever it left running, and takes
//! its outputs. What a command depends on is therefore what it declares, as far as the tier that was reached goes.
//!
//! Code and inputs, files and folders alike, lie at their declared paths below the working folder, and the folders of outputs
//! are there.
//!
//! Absent: the command's outputs are not stored here, and its metrics not parsed. Nothing that was observed reaches a ledger, but
//! how it failed by itself.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bitproof_core_ledger::objects::ObjectId;

use crate::cancel::Cancel;
use crate::param::ParamValue;

mod below;
mod capture;
pub mod environment;
mod error;
pub mod isolation;
mod layout;
mod outputs;
pub mod placeholders;
mod process;
#[cfg(target_os = "linux")]
mod spawn;
mod spec;
mod tools;
mod workdir;

pub use capture::{Captured, LastLines, KEPT_BYTES};
pub use error::{Cause, CommandError};
pub use isolation::{reach, Reached, Unmet};
pub use outputs::{Made, OutputError};
pub use process::{wait_for_all, Exit, GRACE};
pub use spec::{CodeFile, CommandInput, CommandOutput, CommandSpec, Isolation, ReplayMode, METRICS};
pub use tools::{observe, Observation, Tool, ToolError, SYSTEM_PATH};

use layout::Layout;
use outputs::Collected;
use process::{Ended, Stopped};
use tools::Toolbox;
use workdir::{Scratch, Workdir};

/// One execution of a command.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The task's name.
    pub task: &'a str,
    /// The command.
    pub spec: &'a CommandSpec,
    /// The task's parameters.
    pub params: &'a BTreeMap<String, ParamValue>,
    /// The run's seed.
    pub seed: u64,
    /// Where each file of the command's code lies on this machine, in the order of `spec.code`.
    pub code: &'a [PathBuf],
    /// Each input, in the order of `spec.inputs`.
    pub inputs: &'a [Source],
    /// The command's tools on this machine, first come first on its search path.
    pub tools: &'a [Tool],
    /// An empty folder of this job's own. It is removed, with the outputs in it, when what [`run`] returned is dropped.
    pub scratch: &'a Path,
    /// Stops the command.
    pub cancel: &'a Cancel,
}

/// An input as it lies on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A regular file.
    File {
        /// Where it is.
        path: PathBuf,
        /// What it must hold.
        content: ObjectId,
    },
    /// A folder of regular files; empty folders in it are left out.
    Folder {
        /// Where it is: the folder itself, or the object that it is packed into.
        path: PathBuf,
        /// The object that it is packed into.
        content: ObjectId,
    },
}

/// A command that made its outputs. They are gone when this is dropped.
#[derive(Debug)]
pub struct Finished {
    /// Each output, by name.
    pub outputs: BTreeMap<String, Made>,
    /// The files of metrics, in the order of their declaration.
    pub metrics: Vec<PathBuf>,
    /// What was observed.
    pub observed: Observed,
    _scratch: Scratch,
}

/// What was observed of a command: evidence, which no ledger covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// How far it was kept from what it does not declare.
    pub isolation: Reached,
    /// Where its program was found; `None` for one that was named by its path.
    pub program: Option<PathBuf>,
    /// How it ended.
    pub exit: Exit,
    /// What it printed on standard output.
    pub stdout: Captured,
    /// What it printed on standard error.
    pub stderr: Captured,
}

/// Runs a command.
///
/// # Errors
/// [`CommandError`]; [`CommandError::failure`] tells a failure by itself from one around it.
///
/// # Panics
/// When the job has not one source for each file of code and each input.
pub fn run(job: &Job<'_>) -> Result<Finished, CommandError> {
    let scratch = Scratch::new(job.scratch);
    let mut observed = None;
    match attempt(job, &mut observed) {
        Ok((outputs, metrics)) => {
            let observed = observed.expect("a command that made its outputs was observed");
            Ok(Finished { outputs, metrics, observed, _scratch: scratch })
        }
        Err(cause) => {
            tracing::debug!(task = job.task, %cause, "command failed");
            Err(CommandError { cause, observed: observed.map(Box::new) })
        }
    }
}

fn attempt(job: &Job<'_>, observed: &mut Option<Observed>) -> Result<Collected, Cause> {
    let layout = Layout::new(job)?;
    let argv = placeholders::expand(job.spec, job.params, job.seed)?;
    let isolation = reach(job.spec.isolation)?;
    let toolbox = Toolbox::new(job.tools)?;
    let program = toolbox.find(&argv[0]);
    if program.is_none() && !argv[0].contains('/') {
        let search_path = toolbox.search_path().to_string_lossy().into_owned();
        return Err(Cause::NotFound { program: argv[0].clone(), search_path });
    }
    let workdir = Workdir::new(job)?;
    if isolation == Reached::None {
        tracing::warn!(task = job.task, "the command runs without isolation: what it reads is not checked");
    }
    tracing::debug!(task = job.task, ?isolation, ?program, "command starts");
    let started =
        Started { job, argv: &argv, program: program.as_deref(), toolbox: &toolbox, workdir: &workdir };
    let Ended { exit, stopped, stdout, stderr, read_to_end } = started.run(&isolation)?;
    tracing::debug!(task = job.task, ?exit, ?stopped, "command ended");
    *observed = Some(Observed { isolation, program, exit, stdout, stderr });
    judge(job, &argv[0], exit, stopped, read_to_end)?;
    workdir.check_unchanged()?;
    outputs::collect(job.spec, &layout, &workdir)
}

fn timeout(spec: &CommandSpec) -> Option<Duration> {
    spec.timeout_ns.map(Duration::from_nanos)
}

/// How it ended, held against how it should.
fn judge(
    job: &Job<'_>,
    program: &str,
    exit: Exit,
    stopped: Option<Stopped>,
    read_to_end: bool,
) -> Result<(), Cause> {
    use rustix::process::Signal;
    let own = [Signal::ABORT, Signal::BUS, Signal::FPE, Signal::ILL, Signal::SEGV];
    let program = program.to_owned();
    match (stopped, exit) {
        (Some(Stopped::Cancelled), _) => Err(Cause::Cancelled { program }),
        (Some(Stopped::TimedOut), _) => {
            Err(Cause::TimedOut { program, after: timeout(job.spec).unwrap_or_default() })
        }
        (None, Exit::Signal(signal)) if own.iter().any(|own| own.as_raw() == signal) => {
            Err(Cause::Crashed { program, signal })
        }
        (None, Exit::Signal(signal)) => Err(Cause::Killed { program, signal }),
        (None, Exit::Code(code)) if code != 0 => Err(Cause::Exited { program, code }),
        (None, Exit::Code(_)) if !read_to_end => Err(Cause::HeldOpen { program }),
        (None, Exit::Code(_)) => Ok(()),
    }
}

/// A command that is ready to start.
struct Started<'a> {
    job: &'a Job<'a>,
    argv: &'a [String],
    program: Option<&'a Path>,
    toolbox: &'a Toolbox,
    workdir: &'a Workdir,
}

impl Started<'_> {
    /// In the folder itself, under this machine's paths.
    fn in_place(&self) -> Command {
        let mut command = Command::new(self.program.unwrap_or(Path::new(&self.argv[0])));
        command.arg0(&self.argv[0]).args(&self.argv[1..]).current_dir(&self.workdir.work);
        command.env_clear().envs(environment::of(self.job, self.toolbox, &self.workdir.tmp));
        command
    }

    fn wait(&self, command: Command) -> Result<Ended, Cause> {
        let ended = process::run(command, timeout(self.job.spec), self.job.cancel);
        ended.map_err(|source| self.cannot_start(source))
    }

    fn cannot_start(&self, source: io::Error) -> Cause {
        Cause::Start { program: self.argv[0].clone(), source }
    }

    #[cfg(target_os = "linux")]
    fn run(&self, isolation: &Reached) -> Result<Ended, Cause> {
        use isolation::{bubblewrap, landlock};
        use spawn::Entry;

        let (work, tmp) = (self.workdir.work.as_path(), self.workdir.tmp.as_path());
        let mut entry = Entry::default();
        match isolation {
            Reached::None => (),
            Reached::Landlock { .. } => {
                let ruleset = landlock::ruleset(self.toolbox.reads(), [work, tmp]);
                entry.ruleset = ruleset.map_err(|e| Cause::Sandbox { message: e.to_string() })?;
            }
            Reached::Bubblewrap { .. } => {
                let environment = environment::of(self.job, self.toolbox, Path::new(bubblewrap::TMP));
                let sandboxed =
                    bubblewrap::Sandboxed::new(self.argv, &environment, self.toolbox.reads(), work, tmp);
                let (command, report) = sandboxed.map_err(|e| self.cannot_start(e))?.into_parts();
                let ended = self.wait(command)?;
                return bubblewrap::told(ended, report).map_err(|message| Cause::Sandbox { message });
            }
        }
        let mut command = self.in_place();
        spawn::supervise(&mut command, entry);
        self.wait(command)
    }

    #[cfg(not(target_os = "linux"))]
    fn run(&self, _: &Reached) -> Result<Ended, Cause> {
        let mut command = self.in_place();
        command.process_group(0);
        self.wait(command)
    }
}

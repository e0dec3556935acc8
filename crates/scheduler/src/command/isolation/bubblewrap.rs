//! The sandbox of the tier `strict`: namespaces of its own, in which only what is declared is mounted.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{accelerators, SYSTEM};
use crate::cancel::Cancel;
use crate::command::process::{self, Ended, Exit};
use crate::command::spawn::{self, Entry};

/// Where a command's folder is in every sandbox. No tool lies there, so nothing but its own is ever in it.
pub(in crate::command) const WORK: &str = "/bitproof";
/// Where its folder for temporary files is.
pub(in crate::command) const TMP: &str = "/tmp";
/// Where bubblewrap itself is looked for: what a user has on a search path is not asked.
const PLACES: [&str; 3] = ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap"];
/// Bytes that it says of its sandbox.
const STATUS_BYTES: u64 = 1 << 16;

/// A command in its sandbox, and the report of whether it was started there.
pub(in crate::command) struct Sandboxed {
    command: Command,
    report: PipeReader,
}

impl Sandboxed {
    /// `argv` with nothing mounted but the system, `tools`, and the command's own folders `work` and `tmp`.
    pub(in crate::command) fn new(
        argv: &[String],
        environment: &BTreeMap<String, OsString>,
        tools: &BTreeSet<PathBuf>,
        work: &Path,
        tmp: &Path,
    ) -> io::Result<Self> {
        let program = installed().ok_or(io::ErrorKind::NotFound)?;
        let (report, status) = io::pipe()?;
        let status = OwnedFd::from(status);
        let mut command = Command::new(program);
        command.args(["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
        command.args(["--hostname", "bitproof"]);
        for path in SYSTEM.map(Path::new) {
            mount(&mut command, path);
        }
        command.args(["--proc", "/proc", "--dev", "/dev"]);
        for device in accelerators() {
            command.arg("--dev-bind-try").arg(&device).arg(&device);
        }
        command.arg("--bind").arg(tmp).arg(TMP);
        // A tool may lie below /tmp, which must be there first.
        // What lies in something that is mounted is there already; links in it lead where they lead.
        let mounted =
            |path: &Path| tools.contains(path) || path.to_str().is_some_and(|path| SYSTEM.contains(&path));
        for tool in tools.iter().filter(|tool| !tool.ancestors().skip(1).any(mounted)) {
            mount(&mut command, tool);
        }
        command.arg("--bind").arg(work).arg(WORK).args(["--chdir", WORK]);
        command.arg("--json-status-fd").arg(status.as_raw_fd().to_string());
        command.arg("--").args(argv);
        command.env_clear().envs(environment);
        spawn::supervise(&mut command, Entry { ruleset: None, inherited: Some(status) });
        Ok(Self { command, report })
    }

    /// The command, and what [`told`] reads when it has ended.
    pub(in crate::command) fn into_parts(self) -> (Command, PipeReader) {
        (self.command, self.report)
    }
}

/// How the program in the sandbox ended, or why the sandbox did not start it.
///
/// Bubblewrap tells a signal as a code, as a shell does; so a program that itself ends with such a code is taken for one that the
/// signal ended.
pub(in crate::command) fn told(mut ended: Ended, report: PipeReader) -> Result<Ended, String> {
    use rustix::process::Signal;
    let signals =
        [Signal::ABORT, Signal::BUS, Signal::FPE, Signal::ILL, Signal::KILL, Signal::SEGV, Signal::TERM];
    let Exit::Code(code) = ended.exit else { return Ok(ended) };
    if ended.stopped.is_none() && ended.read_to_end && !was_started(report) {
        return Err(format!("bubblewrap ended with exit code {code}\n{}", ended.stderr.last_lines()));
    }
    if let Some(signal) = signals.iter().map(|signal| signal.as_raw()).find(|signal| 128 + signal == code) {
        ended.exit = Exit::Signal(signal);
    }
    Ok(ended)
}

/// The exit code is reported only of a program that was started.
fn was_started(report: PipeReader) -> bool {
    let mut text = String::new();
    report.take(STATUS_BYTES).read_to_string(&mut text).is_ok() && text.contains("\"exit-code\"")
}

/// Makes a path of the machine be there, as a link if it is one.
fn mount(command: &mut Command, path: &Path) {
    match fs::read_link(path) {
        Ok(target) if path.parent() == Some(Path::new("/")) => command.arg("--symlink").arg(target).arg(path),
        _ => command.arg("--ro-bind-try").arg(path).arg(path),
    };
}

fn installed() -> Option<&'static Path> {
    PLACES.iter().map(Path::new).find(|path| path.is_file())
}

/// The version of bubblewrap, if it can make a sandbox here; else why not, and what to do.
pub(super) fn probe() -> Result<String, (String, &'static str)> {
    const INSTALL: &str = "install bubblewrap: apt-get install bubblewrap, or dnf install bubblewrap";
    const ALLOW: &str = "let it make namespaces (sysctl kernel.unprivileged_userns_clone=1, or \
                         kernel.apparmor_restrict_unprivileged_userns=0), or use isolation = \"landlock\"";
    let Some(program) = installed() else {
        return Err((format!("bubblewrap is in none of {}", PLACES.join(", ")), INSTALL));
    };
    let mut version = Command::new(program);
    version.arg("--version").env_clear();
    let mut sandbox = Command::new(program);
    sandbox.args(["--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]);
    sandbox
        .args(["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--"])
        .arg("/bin/true")
        .env_clear();
    let run = |mut command: Command| {
        spawn::supervise(&mut command, Entry::default());
        let ended = process::run(command, None, &Cancel::new()).map_err(|e| (e.to_string(), ALLOW))?;
        if ended.exit == Exit::Code(0) {
            Ok(ended.stdout)
        } else {
            Err((format!("{} says:\n{}", program.display(), ended.stderr.last_lines()), ALLOW))
        }
    };
    run(sandbox)?;
    let said = run(version)?;
    let version = String::from_utf8_lossy(said.head());
    Ok(version.trim().trim_start_matches("bubblewrap ").chars().take(40).collect())
}

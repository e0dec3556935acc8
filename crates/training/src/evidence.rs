//! Evidence: what was observed about the machine and the circumstances of a run. It never flows back into a result.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use bincode::{Decode, Encode};
use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_scheduler::stat_cache::StatCache;
use serde::{Deserialize, Serialize};

/// The schema that this version writes.
pub const SCHEMA: &str = "bitproof/evidence/v2";

/// The state of the git work tree that held the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct GitState {
    /// The commit that was checked out.
    pub commit: String,
    /// Whether tracked files differed from it.
    pub dirty: bool,
}

/// What was observed of the machine and the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The version of this program.
    pub bitproof_version: String,
    /// The digest of its binary, where it can be read.
    pub binary_blake3: Option<Digest<Content>>,
    /// The operating system.
    pub os: String,
    /// The architecture.
    pub arch: String,
    /// The processor's name, where it is known.
    pub cpu: Option<String>,
    /// The instruction set that the kernels used.
    pub isa: String,
    /// The host's name.
    pub host: String,
    /// The user's name.
    pub user: String,
}

impl Host {
    /// Observes this machine. `user` comes from whoever may read the environment, `hashed` tells what the binary hashes to.
    pub fn observe(user: &str, isa: &str, hashed: &StatCache) -> Self {
        let binary = std::env::current_exe().ok().and_then(|path| hashed.digest_file(&path).ok());
        let binary_blake3 = binary.map(|(digest, _)| digest);
        Self {
            bitproof_version: env!("CARGO_PKG_VERSION").to_owned(),
            binary_blake3,
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: cpu_name(),
            isa: isa.to_owned(),
            host: host_name(),
            user: user.to_owned(),
        }
    }
}

/// The host's name, as a claim.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

/// Asks git about the work tree that holds `dir`; `None` where there is no git or no work tree.
pub fn git_state(dir: &Path) -> Option<GitState> {
    let status = git(dir, &["status", "--porcelain=v2", "--branch", "--untracked-files=no"])?;
    git_status(&status)
}

/// What `git status` says; `None` where nothing was committed yet.
fn git_status(status: &str) -> Option<GitState> {
    let commit = status.lines().find_map(|line| line.strip_prefix("# branch.oid "))?;
    let dirty = status.lines().any(|line| !line.starts_with('#'));
    (commit != "(initial)").then(|| GitState { commit: commit.to_owned(), dirty })
}

/// The files below `dir` that git tracks, relative to it and sorted; `None` where there is no git or no work tree. A file whose
/// name is not UTF-8 makes it `None`, too.
pub fn tracked_files(dir: &Path) -> Option<Vec<String>> {
    let listed = git(dir, &["ls-files", "-z"])?;
    let mut files: Vec<String> = listed.split_terminator('\0').map(str::to_owned).collect();
    files.sort();
    files.dedup();
    Some(files)
}

fn git(dir: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// The evidence of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// [`SCHEMA`].
    pub schema: String,
    /// The run's name in its store.
    pub run: String,
    /// The run's unique id.
    pub uid: String,
    /// When this process began the run or took it up again, as the host claims.
    pub started: String,
    /// When the run was sealed, as the host claims.
    pub sealed: String,
    /// The machine.
    pub host: Host,
    /// The state of the work tree.
    pub git: Option<GitState>,
    /// How many workers carried the lanes.
    pub workers: usize,
    /// How many threads a task had.
    pub threads: usize,
    /// For each task that was not executed in this run, the run that executed it.
    pub cached_from: BTreeMap<String, String>,
    /// Why tasks failed by themselves.
    pub failures: BTreeMap<String, String>,
    /// How often a task was begun that was begun more than once by the process that sealed the run.
    pub attempts: BTreeMap<String, u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_dirty_when_something_tracked_differs() {
        let clean = "# branch.oid 0123abcd\n# branch.head main\n";
        let state = |dirty| Some(GitState { commit: "0123abcd".to_owned(), dirty });
        assert_eq!(git_status(clean), state(false));
        assert_eq!(git_status(&format!("{clean}1 .M N... 100644 100644 100644 a b file\n")), state(true));
        assert_eq!(git_status("# branch.oid (initial)\n# branch.head main\n"), None);
        assert_eq!(git_status(""), None);
    }
}

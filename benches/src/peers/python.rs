//! Libraries and programs of Python, each in a process that waits while we measure, and that we let do one repetition at a time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use bitproof_telemetry::Monotonic;

use crate::harness::Contender;

/// A library.
#[derive(Clone)]
pub struct Python {
    name: &'static str,
    process: Arc<Mutex<Process>>,
}

struct Process {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// A line there, a line back; `None` when the process has ended.
    fn ask(&mut self, request: &str) -> Option<String> {
        writeln!(self.requests, "{request}").ok()?;
        self.requests.flush().ok()?;
        let mut answer = String::new();
        let read = self.answers.read_line(&mut answer).ok()?;
        (read > 0).then(|| answer.trim_end().to_owned())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What can be measured here, each with its script.
const LIBRARIES: [(&str, &str); 3] = [("numpy", "peers.py"), ("torch", "peers.py"), ("dvc", "dvc.py")];

impl Python {
    /// Starts a process for each library that the interpreter of `scripts/peers/setup`, or else the system's, has; the others are
    /// returned by name.
    pub fn start() -> (Vec<Self>, Vec<&'static str>) {
        let (mut found, mut absent) = (Vec::new(), Vec::new());
        for (name, script) in LIBRARIES {
            match interpreter().and_then(|python| Self::of(name, script, Command::new(python))) {
                Some(python) => found.push(python),
                None => absent.push(name),
            }
        }
        (found, absent)
    }

    fn of(name: &'static str, script: &str, mut python: Command) -> Option<Self> {
        let mut child = python
            .arg(root()?.join("scripts/peers").join(script))
            .arg(name)
            // Where these are set to work round faults of old versions they slow a new one.
            .env_remove("OPENBLAS_CORETYPE")
            .env_remove("OPENBLAS_L2_SIZE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (requests, answers) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        let mut process = Process { child, requests, answers };
        process.ask("ready").filter(|answer| answer == "ready")?;
        Some(Self { name, process: Arc::new(Mutex::new(process)) })
    }

    /// A contender for what a request describes; `None` where the library does not do it.
    pub fn contender(&self, request: &str) -> Option<Box<dyn Contender>> {
        let answer = lock(&self.process).ask(request)?;
        (answer == "prepared").then(|| {
            let (name, process) = (self.name, Arc::clone(&self.process));
            Box::new(Once { name, process, request: request.to_owned() }) as Box<dyn Contender>
        })
    }
}

fn root() -> Option<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent()
}

/// That of `scripts/peers/setup`, or else the system's.
fn interpreter() -> Option<PathBuf> {
    let own = root()?.join("target/peers/bin/python");
    Some(if own.is_file() { own } else { "python3".into() })
}

fn lock(process: &Mutex<Process>) -> std::sync::MutexGuard<'_, Process> {
    process.lock().expect("nobody panics while asking")
}

struct Once {
    name: &'static str,
    process: Arc<Mutex<Process>>,
    request: String,
}

impl Contender for Once {
    fn name(&self) -> &'static str {
        self.name
    }
    /// As the library's own process measured it.
    fn wall_ns(&mut self, calls: usize, _: &dyn Monotonic) -> u64 {
        let answer = lock(&self.process).ask(&format!("run {calls}"));
        answer
            .and_then(|ns| ns.parse().ok())
            .unwrap_or_else(|| panic!("{} ended in {:?}", self.name, self.request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_telemetry::ManualClock;

    /// As much of numpy as the script asks for before there is work, and for one piece of work.
    const STUB: &str = "\
float32 = float
class Numbers:
    def random(self, shape, dtype): return self
    def __sub__(self, half): return self
    def sum(self): return 0
class random:
    def default_rng(seed): return Numbers()
";

    /// Without the packages of the machine, and with those in `folder`.
    fn bare(folder: &Path) -> Command {
        let mut python = Command::new("python3");
        python.arg("-S").env("PYTHONPATH", folder);
        python
    }

    #[test]
    fn a_library_that_is_not_installed_is_absent_and_one_that_is_answers() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Python::of("numpy", "peers.py", bare(folder.path())).is_none());
        if Command::new("python3").arg("--version").output().is_err() {
            // Where there is no Python everything is absent, and that is all there is to see.
            return;
        }
        std::fs::write(folder.path().join("numpy.py"), STUB).unwrap();
        let python = Python::of("numpy", "peers.py", bare(folder.path())).expect("the stub is found");
        assert!(python.contender("chain 1 100 1000 first").is_none(), "it is no program");
        assert!(python.contender("attention 1 1 4 64 64").is_none(), "numpy has none");
        assert!(python.contender("sum 2 100").is_none(), "it has one thread here");
        let mut sum = python.contender("sum 1 100").expect("it has sums");
        let quick = sum.wall_ns(3, &ManualClock::default());
        assert!(quick < 1_000_000_000, "{quick} ns");
    }
}

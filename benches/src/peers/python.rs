//! Libraries of Python, each in a process that waits while we measure, and that we let do one repetition at a time.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use bitproof_telemetry::Monotonic;

use crate::harness::Contender;

/// A library.
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

/// The libraries that can be measured here.
const LIBRARIES: [&str; 2] = ["numpy", "torch"];

impl Python {
    /// Starts a process for each library that the interpreter of `scripts/peers/setup`, or else the system's, has; the others are
    /// returned by name.
    pub fn start() -> (Vec<Self>, Vec<&'static str>) {
        let (mut found, mut absent) = (Vec::new(), Vec::new());
        for name in LIBRARIES {
            match Self::of(name) {
                Some(python) => found.push(python),
                None => absent.push(name),
            }
        }
        (found, absent)
    }

    fn of(name: &'static str) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?;
        let own = root.join("target/peers/bin/python");
        let python = if own.is_file() { own } else { "python3".into() };
        let mut child = Command::new(python)
            .arg(root.join("scripts/peers/peers.py"))
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
    fn wall_ns(&mut self, _: &dyn Monotonic) -> u64 {
        let answer = lock(&self.process).ask("run");
        answer
            .and_then(|ns| ns.parse().ok())
            .unwrap_or_else(|| panic!("{} ended in {:?}", self.name, self.request))
    }
}

//! A chain of small commands, run and run again: what a stage costs besides its program.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;

use bitproof_core_ledger::clock::SystemClock;
use bitproof_core_ledger::digest::{Digest, ResultKind};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::keys::KeyFolder;
use bitproof_scheduler::command::{reach, Isolation};
use bitproof_scheduler::Cancel;
use bitproof_telemetry::Collector;
use bitproof_training::workflow::{self, prepare, RunReport, RunRequest, RunStatus, Surroundings, TaskState};
use tempfile::TempDir;
use tracing_subscriber::layer::SubscriberExt as _;

use super::ledger::scratch;
use super::Emit;
use crate::harness::{Budget, Contender, Harness, InProcess, Items, Unrepeatable};

const STAGES: usize = 100;
const ITEMS: Items = Items { count: STAGES as u64, of: "stage" };
/// What is copied.
const BYTES: usize = 1000;

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    if let Err(unmet) = reach(Isolation::Landlock) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(io::stderr(), "SKIPPED: chain/{STAGES}: {unmet}");
        return Ok(());
    }
    // DVC takes many seconds.
    let least = if harness.peers().is_some() { 3 } else { 10 };
    let harness = harness.within(Budget { repetitions: least..=50, wall_ns: 2_000_000_000, calls: 1 });
    first(&harness, emit)?;
    again(&harness, emit)
}

/// Everything is executed, in a store and with keys that are made for it.
fn first(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let work = || {
        let project = Project::new();
        let report = project.run();
        assert!(report.tasks.iter().all(|task| task.state == TaskState::Executed));
        (project, report.result_root)
    };
    let folder = scratch();
    let bare: Box<dyn Contender + '_> =
        Box::new(InProcess { name: "fork+exec", work: || copied(folder.path()).expect("cp is there") });
    let mut peers: Vec<_> = std::iter::once(bare).chain(elsewhere(harness, "first")).collect();
    let name = format!("chain/{STAGES}/landlock");
    let root = |(_, root): &(Project, Digest<ResultKind>)| root.as_bytes().to_vec();
    let measured = harness.measure_against_all((&name, 1, ITEMS), work, root, &mut peers)?;
    measured.into_iter().for_each(emit);
    Ok(())
}

/// Everything is taken from the cache.
fn again(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let project = Project::new();
    project.run();
    let work = || {
        let report = project.run();
        assert!(report.tasks.iter().all(|task| matches!(task.state, TaskState::Cached(_))));
        report.result_root
    };
    let name = format!("chain/{STAGES}/cached");
    let mut peers: Vec<_> = elsewhere(harness, "cached").collect();
    let root = |root: &Digest<ResultKind>| root.as_bytes().to_vec();
    let measured = harness.measure_against_all((&name, 1, ITEMS), work, root, &mut peers)?;
    measured.into_iter().for_each(emit);
    Ok(())
}

/// The same chain by other people's programs.
fn elsewhere<'a>(harness: &'a Harness<'_>, state: &str) -> impl Iterator<Item = Box<dyn Contender + 'a>> {
    let request = format!("chain 1 {STAGES} {BYTES} {state}");
    let pythons = harness.peers().unwrap_or_default().iter();
    pythons.filter_map(move |python| python.contender(&request)).map(|peer| peer as Box<dyn Contender + 'a>)
}

/// The same commands, one after the other.
fn copied(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("0"), [b'x'; BYTES])?;
    for stage in 0..STAGES {
        let (from, to) = (stage.to_string(), (stage + 1).to_string());
        let status = Command::new("cp").args([from, to]).current_dir(folder).status()?;
        assert!(status.success(), "a file can be copied");
    }
    Ok(())
}

/// A pipeline of its own with its store, its keys and its caches.
struct Project {
    folder: TempDir,
    keys: KeyFolder,
    request: RunRequest,
}

impl Project {
    fn new() -> Self {
        let folder = scratch();
        let path = folder.path();
        let write = |name: &str, bytes: &[u8]| fs::write(path.join(name), bytes);
        write("seed.txt", &[b'x'; BYTES])
            .and_then(|()| write("bitproof.toml", pipeline().as_bytes()))
            .expect("the target folder is writable");
        let request = RunRequest {
            stat_cache: Some(path.join("cache/stat")),
            ..RunRequest::new(path.join("bitproof.toml"))
        };
        Self { keys: KeyFolder::new(path.join("keys")), request, folder }
    }

    fn run(&self) -> RunReport {
        let collector = Collector::system();
        let around = Surroundings {
            files: Files::on_disk(),
            store_root: self.folder.path().join("store"),
            keys: &self.keys,
            cache_root: Some(self.folder.path().join("cache")),
            collector: &collector,
            cancel: Cancel::new(),
            clock: &SystemClock,
            user: "bench".to_owned(),
            isa: "none",
        };
        let subscriber = tracing_subscriber::registry().with(collector.layer());
        let report = tracing::subscriber::with_default(subscriber, || {
            let prepared = prepare(&self.request)?;
            workflow::run(&around, &prepared, &self.request)
        });
        let report = report.expect("copying cannot fail");
        assert_eq!(report.status, RunStatus::Passed);
        report
    }
}

fn pipeline() -> String {
    let mut text = "[pipeline]\nname = \"chain\"\n\n[data.seed]\npath = \"seed.txt\"\n".to_owned();
    let mut from = "data:seed".to_owned();
    for stage in 0..STAGES {
        let _ = write!(
            text,
            "\n[[stage]]\nname = \"copy{stage}\"\ncommand = [\"cp\", \"{{in:from}}\", \"{{out:to}}\"]\n\
             inputs = {{ from = \"{from}\" }}\noutputs = {{ to = \"to.txt\" }}\nisolation = \"landlock\"\n"
        );
        from = format!("copy{stage}:to");
    }
    text
}

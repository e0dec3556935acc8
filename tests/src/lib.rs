//! Fixtures of the integration tests: a small project in a temporary folder, run in-process.

pub mod decoders;
pub mod vectors;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bitproof_audit::{ReplayOf, ReplayRequest};
use bitproof_core_ledger::clock::FixedClock;
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::keys::KeyFolder;
use bitproof_core_ledger::Store;
use bitproof_scheduler::dispatch::End;
use bitproof_scheduler::Cancel;
use bitproof_telemetry::Collector;
use bitproof_training::data::DataFiles;
use bitproof_training::recorder::{Recorder, RecorderError};
use bitproof_training::workflow::{self, prepare, RunReport, RunRequest, Surroundings, WorkflowError};
use tempfile::TempDir;
use tracing_subscriber::layer::SubscriberExt as _;

/// A pipeline of four stages that runs in milliseconds.
pub const PIPELINE: &str = r#"
[pipeline]
name = "small"
seed = 7
lanes = 2

[data.rows]
path = "rows.csv"

[[stage]]
name = "split"
uses = "dataset"
inputs = ["data:rows"]
with = { format = "csv", label = "last", valid_fraction = 0.2, test_fraction = 0.2 }

[[stage]]
name = "train"
uses = "train"
inputs = ["split:train", "split:valid"]
with = { model = "mlp", hidden = [6], epochs = 4, batch = 8, learning_rate = 0.05 }

[[stage]]
name = "evaluate"
uses = "evaluate"
inputs = ["train:model", "split:test"]

[[stage]]
name = "package"
uses = "package"
inputs = ["train:model", "train:metrics"]

[[gate]]
metric = "evaluate/accuracy"
better = "higher"
baseline = "latest:small"
fail = ["value >= 0.6", "regress <= 0.2"]

[[budget]]
metric = "train/step_wall_ns"
fail = ["max <= 1h"]

[governance]
run = ["artifacts-signed", "budgets", "gates"]
"#;

/// Eighty rows of two classes that a line separates.
pub fn rows() -> String {
    let mut text = String::new();
    for i in 0..80u32 {
        let (x, y) = (f64::from(i * 37 % 80) / 80.0, f64::from(i * 53 % 80) / 80.0);
        writeln!(text, "{x},{y},{}", u32::from(x + y > 1.0)).expect("writing to a string");
    }
    text
}

/// A project with its own store, keys and cache.
#[derive(Debug)]
pub struct Project {
    dir: TempDir,
    files: Files,
    keys: KeyFolder,
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

impl Project {
    /// A project that has run nothing yet.
    ///
    /// # Panics
    /// When the temporary folder cannot be written.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("bitproof.toml"), PIPELINE).expect("the temporary folder is writable");
        fs::write(dir.path().join("rows.csv"), rows()).expect("the temporary folder is writable");
        let keys = KeyFolder::new(dir.path().join("keys"));
        Self { dir, files: Files::on_disk(), keys }
    }

    /// The same project with its store and cache on another storage.
    #[must_use]
    pub fn on(self, files: Files) -> Self {
        Self { files, ..self }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Its keys.
    pub fn keys(&self) -> &KeyFolder {
        &self.keys
    }

    /// Where its store is.
    pub fn store_root(&self) -> PathBuf {
        self.path().join(".bitproof")
    }

    /// Its store.
    ///
    /// # Panics
    /// When nothing was run yet.
    pub fn store(&self) -> Store {
        Store::open(&self.files, &self.store_root()).expect("something was run")
    }

    /// The files of its store that are evidence, sorted.
    ///
    /// # Panics
    /// When the store cannot be listed.
    pub fn evidence(&self) -> Vec<PathBuf> {
        let files = self.files.files_below(&self.store_root()).expect("the store can be listed");
        // Locks are empty, and the staging folder holds no evidence.
        let names = files.into_iter().map(|(name, _)| name);
        let evidence = names.filter(|name| !name.starts_with("lock/") && !name.starts_with("tmp/"));
        evidence.map(|name| self.store_root().join(name)).collect()
    }

    /// A request for its pipeline, with keys changed.
    pub fn request(&self, overrides: &[(&str, &str)]) -> RunRequest {
        RunRequest {
            overrides: overrides.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            workers: 2,
            ..RunRequest::new(self.path().join("bitproof.toml"))
        }
    }

    /// Runs the pipeline.
    ///
    /// # Errors
    /// What the workflow says.
    pub fn run(&self, request: &RunRequest) -> Result<RunReport, WorkflowError> {
        let collector = Collector::system();
        let subscriber = tracing_subscriber::registry().with(collector.layer());
        let around = Surroundings {
            files: self.files.clone(),
            store_root: self.store_root(),
            keys: &self.keys,
            cache_root: Some(self.path().join("cache")),
            collector: &collector,
            cancel: Cancel::new(),
            clock: &FixedClock(1_700_000_000),
            user: "tester".to_owned(),
            isa: "test",
        };
        tracing::subscriber::with_default(subscriber, || workflow::run(&around, &prepare(request)?, request))
    }

    /// Runs the pipeline to its end: an incomplete run is an error.
    ///
    /// # Errors
    /// What the workflow says, or why the run is incomplete.
    pub fn run_to_end(&self, request: &RunRequest) -> Result<RunReport, String> {
        match self.run(request) {
            Ok(report) if report.end == End::Complete => Ok(report),
            Ok(report) => Err(format!("{:?}", report.end)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A request to replay one of its runs, with a scratch folder below it.
    ///
    /// # Panics
    /// When the temporary folder cannot be written.
    pub fn replay_request(&self, run: &str) -> ReplayRequest {
        let scratch = self.path().join("replay");
        fs::create_dir_all(&scratch).expect("the temporary folder is writable");
        ReplayRequest {
            of: ReplayOf::Run(run.to_owned()),
            stage: None,
            workers: NonZeroUsize::MIN.saturating_add(1),
            threads: 1,
            data: DataFiles::default(),
            tools: BTreeMap::new(),
            project: self.path().to_owned(),
            scratch,
            cancel: Cancel::new(),
        }
    }

    /// Opens its store for recording, with its own keys.
    ///
    /// # Panics
    /// When the store is damaged.
    pub fn recorder(&self) -> Recorder<'_> {
        self.recorder_on(&self.files).expect("the store is whole")
    }

    /// The store on another storage, open for recording with the project's keys.
    ///
    /// # Errors
    /// [`RecorderError`].
    pub fn recorder_on(&self, files: &Files) -> Result<Recorder<'_>, RecorderError> {
        Recorder::open(files, &self.store_root(), &self.keys, &FixedClock(1_700_000_000), "tester", "host")
    }
}

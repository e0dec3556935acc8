//! What every command shares: where things are, what is logged, how answers are printed.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitproof_core_ledger::clock::SystemClock;
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::keys::{KeyFolder, KeyRole};
use bitproof_core_ledger::store::{Store, STORE_DIR};
use bitproof_kernels::Isa;
use bitproof_scheduler::{command, Cancel};
use bitproof_telemetry::Collector;
use bitproof_training::recorder::Recorder;
use bitproof_training::workflow::Surroundings;
use clap::error::ErrorKind;
use clap::Parser as _;
use serde_json::{json, Value};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::args::{Cli, Global, LogFormat};
use crate::commands;
use crate::exit::{Exit, Failure};
use crate::output::{self, Paint};
use crate::progress::{Lines, Progress};

/// Reads the command line, runs the command, prints its error.
pub(crate) fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; clap prints them on standard output.
            let answered = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            return if answered { Exit::Done } else { Exit::Usage };
        }
    };
    let json = cli.global.json;
    let outcome = App::new(cli.global).and_then(|app| {
        let outcome = commands::dispatch(&app, cli.command);
        app.progress.clear();
        // What a command says of its end then is that it was ended.
        let interrupted = |failure| match app.cancel.is_cancelled() {
            true => Failure { exit: Exit::Interrupted, ..failure },
            false => failure,
        };
        outcome.map_err(interrupted)
    });
    match outcome {
        Ok(exit) => exit,
        Err(failure) => {
            report(&failure, json);
            failure.exit
        }
    }
}

#[expect(clippy::print_stderr, reason = "what is no result goes to standard error")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn report(failure: &Failure, json: bool) {
    let message = failure.error.to_string();
    if json {
        let object = json!({
            "schema": "bitproof/error/v1",
            "exit": failure.exit.number(),
            "message": message,
        });
        let _ = output::print(&format!("{object}\n"));
    }
    say(&format!("error: {message}"));
}

/// A folder that is gone when this is dropped.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Result<Self, Failure> {
        let made = tempfile::Builder::new().prefix("bitproof-").tempdir();
        Ok(Self(made.map_err(|e| anyhow::anyhow!("cannot make a temporary folder: {e}"))?))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// One invocation.
pub(crate) struct App {
    pub(crate) global: Global,
    pub(crate) paint: Paint,
    pub(crate) progress: Progress,
    /// Set by Ctrl-C.
    pub(crate) cancel: Cancel,
    collector: Collector,
    isa: Isa,
}

/// The environment is read here and nowhere else.
#[expect(clippy::disallowed_methods, reason = "the one place where the command reads its environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Every variable whose name and value are UTF-8: commands may be declared to read some.
#[expect(clippy::disallowed_methods, reason = "the one place where the command reads its environment")]
pub(crate) fn variables() -> BTreeMap<String, String> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

fn cache_dir() -> Option<PathBuf> {
    environment("BITPROOF_CACHE_DIR").map(PathBuf::from).or_else(|| user_dir("XDG_CACHE_HOME", ".cache"))
}

impl App {
    fn new(global: Global) -> Result<Self, Failure> {
        let isa = Isa::from_env().map_err(|e| Failure::usage(format!("BITPROOF_ISA: {e}")))?;
        if let Some(dir) = &global.directory {
            std::env::set_current_dir(dir).map_err(|e| {
                Failure::usage(format!("-C {}: {e}\n  hint: name a folder that exists", dir.display()))
            })?;
        }
        let paint = Paint::new(global.color, environment("NO_COLOR").is_some());
        let collector = Collector::system();
        let progress = Progress::default();
        let cancel = Cancel::new();
        let app = Self { global, paint, progress, cancel, collector, isa };
        app.start_logging()?;
        app.watch_interrupts()?;
        Ok(app)
    }

    /// Ctrl-C asks commands to end, and ends this process when they have had their time: at once when there are none, or when it
    /// comes a second time. That is as a crash would: what was acknowledged is durable, and the same command goes on.
    fn watch_interrupts(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let (progress, cancel) = (self.progress.clone(), self.cancel.clone());
        std::thread::spawn(move || {
            let mut signals = signals.forever();
            let end = || std::process::exit(Exit::Interrupted.number().into());
            if signals.next().is_some() {
                progress.clear();
                say("interrupted: nothing acknowledged is lost, and the same command goes on");
                std::thread::spawn(move || {
                    cancel.cancel();
                    command::wait_for_all(command::GRACE + Duration::from_secs(1));
                    // Time for the main thread to answer and to clear up, which ends the process first.
                    std::thread::sleep(Duration::from_millis(500));
                    end();
                });
            }
            if signals.next().is_some() {
                end();
            }
        });
        Ok(())
    }

    fn start_logging(&self) -> Result<(), Failure> {
        let default = match self.global.verbose {
            0 => "error",
            1 => "info",
            _ => "trace",
        };
        let filter = match environment("BITPROOF_LOG") {
            Some(text) => EnvFilter::try_new(&text).map_err(|e| {
                Failure::usage(format!("BITPROOF_LOG={text}: {e}\n  hint: for example BITPROOF_LOG=info"))
            })?,
            None => EnvFilter::new(default),
        };
        let lines =
            tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
        let lines = match self.global.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        let watched = !self.global.no_progress && !self.global.quiet;
        let terminal = io::stderr().is_terminal();
        let bar = (watched && terminal).then(|| self.progress.clone().with_filter(LevelFilter::DEBUG));
        let plain = (watched && !terminal).then(|| Lines::new().with_filter(LevelFilter::DEBUG));
        tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .with(self.collector.layer().with_filter(LevelFilter::INFO))
            .with(bar)
            .with(plain)
            .try_init()
            .map_err(|e| Failure::from(anyhow::Error::from(e)))
    }

    /// Prints the one JSON object, or the text unless it is not wanted.
    pub(crate) fn answer(
        &self,
        json: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.global.json {
            output::print(&format!("{}\n", json()))?;
        } else if !self.global.quiet {
            output::print(&text())?;
        }
        Ok(())
    }

    /// The user's keys.
    pub(crate) fn keys(&self) -> Result<KeyFolder, Failure> {
        let dir = environment("BITPROOF_CONFIG_DIR")
            .map(PathBuf::from)
            .or_else(|| user_dir("XDG_CONFIG_HOME", ".config"));
        let dir = dir.ok_or_else(|| {
            Failure::usage("there is no place for keys\n  hint: set HOME or BITPROOF_CONFIG_DIR")
        })?;
        let mut keys = KeyFolder::new(dir.join("keys"));
        for role in KeyRole::ALL {
            if let Some(pem) = environment(&format!("BITPROOF_{}_KEY", role.name().to_uppercase())) {
                keys = keys.with_pem(role, pem);
            }
        }
        if let Some(pem) = environment("BITPROOF_MODEL_SIGNING_KEY") {
            keys = keys.with_model_signing_pem(pem);
        }
        Ok(keys)
    }

    /// Where it is kept which files were hashed.
    pub(crate) fn stat_cache(&self) -> Option<PathBuf> {
        Some(cache_dir()?.join("files"))
    }

    /// The store at hand, open for recording with the user's keys.
    pub(crate) fn recorder<'k>(&self, store: &Store, keys: &'k KeyFolder) -> Result<Recorder<'k>, Failure> {
        let host = bitproof_training::evidence::host_name();
        Ok(Recorder::open(store.files(), store.root(), keys, &SystemClock, &user(), &host)?)
    }

    /// What a run needs of its surroundings, with the store at `store_root`.
    pub(crate) fn surroundings<'a>(&'a self, store_root: PathBuf, keys: &'a KeyFolder) -> Surroundings<'a> {
        Surroundings {
            files: Files::on_disk(),
            store_root,
            keys,
            cache_root: cache_dir(),
            collector: &self.collector,
            cancel: self.cancel.clone(),
            clock: &SystemClock,
            user: user(),
            isa: self.isa.name(),
        }
    }

    /// Where the store of a pipeline is or will be: the nearest above it; else beside the enclosing `.git`, so that
    /// every command finds it from anywhere in the project; else beside the pipeline.
    pub(crate) fn store_for(&self, pipeline: &Path) -> Result<PathBuf, Failure> {
        if let Some(store) = &self.global.store {
            return Ok(store.clone());
        }
        let folder = pipeline.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().map_err(|e| {
            Failure::usage(format!("cannot read {}: {e}\n  hint: name the pipeline file", pipeline.display()))
        })?;
        if let Some(found) = Store::find_upwards(&folder) {
            return Ok(found);
        }
        let project = folder.ancestors().find(|dir| dir.join(".git").exists()).unwrap_or(&folder);
        Ok(project.join(STORE_DIR))
    }

    /// The store that the other commands work on.
    pub(crate) fn store(&self) -> Result<Store, Failure> {
        let root = match &self.global.store {
            Some(store) => store.clone(),
            None => {
                let here = Path::new(".").canonicalize()?;
                Store::find_upwards(&here).ok_or_else(|| {
                    Failure::usage(format!(
                        "there is no store in {} or above it\n  hint: run a pipeline first, or name the project with -C DIR or the store with --store DIR",
                        here.display()
                    ))
                })?
            }
        };
        self.store_at(&root)
    }

    /// The store in a folder.
    pub(crate) fn store_at(&self, root: &Path) -> Result<Store, Failure> {
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Store::open(&Files::on_disk(), root)
            .map(|store| store.hashing_on(processors))
            .map_err(|e| bitproof_training::workflow::WorkflowError::from(e).into())
    }
}

fn user_dir(xdg: &str, below_home: &str) -> Option<PathBuf> {
    let base = environment(xdg).map(PathBuf::from).filter(|p| p.is_absolute());
    base.or_else(|| environment("HOME").map(|home| Path::new(&home).join(below_home)))
        .map(|dir| dir.join("bitproof"))
}

fn user() -> String {
    environment("USER").or_else(|| environment("LOGNAME")).unwrap_or_else(|| "unknown".to_owned())
}

//! One sealed place for one run: its own copy of the example, store, keys, cache, home and environment.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{anyhow, ensure, Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;

/// A place in which the binary runs. Nothing of the caller's environment but `PATH` reaches it.
#[derive(Debug)]
pub(super) struct Scene {
    root: TempDir,
    binary: PathBuf,
    /// What stands before the binary on the command line, such as `taskset -c 0`.
    prefix: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    project: &'static str,
}

/// How a scene differs from the plain one.
#[derive(Debug, Default)]
pub(super) struct Setting {
    pub(super) prefix: Vec<String>,
    pub(super) environment: Vec<(&'static str, &'static str)>,
    /// Another place for the example, and another working directory than the scene's root.
    pub(super) elsewhere: bool,
}

/// What a command left.
#[derive(Debug)]
pub(super) struct Answer {
    /// `None` when a signal ended it.
    pub(super) exit: Option<i32>,
    /// The object that it printed; null when it printed something else.
    pub(super) object: Value,
    /// Its standard error.
    pub(super) said: String,
}

impl Answer {
    pub(super) fn ending(&self) -> String {
        self.exit.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit {code}"))
    }
}

/// A run that left nothing to compare.
#[derive(Debug)]
pub(super) enum RunError {
    /// By its own fault.
    Failed(String),
    /// By the machine's.
    CouldNot(anyhow::Error),
}

impl From<anyhow::Error> for RunError {
    fn from(error: anyhow::Error) -> RunError {
        RunError::CouldNot(error)
    }
}

/// What must be equal whenever the plan is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Traces {
    pub(super) plan_digest: String,
    pub(super) ledger_root: String,
    pub(super) result_root: String,
    pub(super) metrics: Value,
    pub(super) manifest: Vec<u8>,
    pub(super) model: Vec<u8>,
}

impl Traces {
    /// What differs, by name, in a fixed order.
    pub(super) fn differences(&self, other: &Traces) -> Vec<&'static str> {
        let equal = [
            ("plan digest", self.plan_digest == other.plan_digest),
            ("ledger root", self.ledger_root == other.ledger_root),
            ("result root", self.result_root == other.result_root),
            ("metrics", self.metrics == other.metrics),
            ("manifest.json", self.manifest == other.manifest),
            ("model.safetensors", self.model == other.model),
        ];
        equal.into_iter().filter(|(_, equal)| !equal).map(|(name, _)| name).collect()
    }
}

impl Scene {
    pub(super) fn new(binary: &Path, example: &Path, setting: Setting) -> Result<Scene> {
        let root = tempfile::Builder::new().prefix("bitproof-gate-").tempdir()?;
        let project = if setting.elsewhere { "anders wo/übung" } else { "project" };
        copy(example, &root.path().join(project))?;
        for folder in ["config", "cache", "home"] {
            fs::create_dir(root.path().join(folder))?;
        }
        let Setting { prefix, environment, .. } = setting;
        Ok(Scene { root, binary: binary.to_owned(), prefix, environment, project })
    }

    /// Runs the pipeline and reads what it left. A run whose own gates say no (exit 1) has left it all the same.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<Traces, RunError> {
        let pipeline = self.root.path().join(self.project).join("bitproof.toml");
        let fixed = [OsStr::new("run"), pipeline.as_os_str(), OsStr::new("--no-cache")];
        let answer = self.command(fixed.into_iter().chain(arguments.iter().map(OsStr::new)))?;
        let Answer { exit, object, said } = &answer;
        if *exit == Some(3) {
            return Err(RunError::CouldNot(anyhow!("the binary could not run the pipeline: {object}{said}")));
        }
        let tasks = &object["tasks"];
        if !matches!(exit, Some(0 | 1)) || tasks["failed"] != 0 || tasks["skipped"] != 0 {
            return Err(RunError::Failed(format!("{}: {object}{said}", answer.ending())));
        }
        self.traces(object).map_err(|error| RunError::Failed(format!("{error:#}")))
    }

    fn traces(&self, object: &Value) -> Result<Traces> {
        let of = |name: &str| {
            let text = object[name].as_str().map(str::to_owned);
            text.with_context(|| format!("`run --json` has no {name}: {object}"))
        };
        let folder = self.root.path().join("store/runs").join(of("run")?);
        Ok(Traces {
            plan_digest: of("plan_digest")?,
            ledger_root: of("ledger_root")?,
            result_root: of("result_root")?,
            metrics: object["metrics"].clone(),
            manifest: read(&folder.join("manifest.json"))?,
            model: read(&the_one(&folder, "model.safetensors")?)?,
        })
    }

    pub(super) fn replay(&self) -> Result<Answer> {
        self.command(["replay", "latest"].map(OsStr::new))
    }

    pub(super) fn verify(&self) -> Result<Answer> {
        self.command(["verify", "latest"].map(OsStr::new))
    }

    /// Changes one bit in the middle of the ledger of the store's only run, and says where.
    pub(super) fn damage_ledger(&self) -> Result<String> {
        let runs = self.root.path().join("store/runs");
        let ledger = the_one(&runs, "ledger.log")?;
        let mut bytes = read(&ledger)?;
        let middle = bytes.len() / 2;
        *bytes.get_mut(middle).with_context(|| format!("{} is empty", ledger.display()))? ^= 1;
        // A reader must not be stopped by the file's mode: only its bytes are in question.
        fs::remove_file(&ledger)?;
        fs::write(&ledger, &bytes)?;
        Ok(format!("byte {middle} of {}", ledger.strip_prefix(&runs).unwrap_or(&ledger).display()))
    }

    fn command<'a>(&self, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<Answer> {
        let at = |name: &str| self.root.path().join(name);
        let mut words: Vec<OsString> = self.prefix.iter().map(OsString::from).collect();
        words.push(self.binary.clone().into());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(arguments)
            .arg("--json")
            .arg("--store")
            .arg(at("store"))
            .current_dir(if self.project == "project" { self.root.path() } else { Path::new("/") })
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", at("home"))
            .env("BITPROOF_CONFIG_DIR", at("config"))
            .env("BITPROOF_CACHE_DIR", at("cache"))
            .envs(self.environment.iter().copied())
            .stdin(Stdio::null());
        let output = command.output().with_context(|| format!("starting {}", words[0].to_string_lossy()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let printed = String::from_utf8_lossy(&output.stdout);
        let object = serde_json::from_str(printed.trim()).unwrap_or(Value::Null);
        Ok(Answer { exit: output.status.code(), object, said })
    }
}

/// Copies a folder, without the store that an earlier run may have left in it.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading the example {}", from.display()))? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() && entry.file_name() != ".bitproof" {
            copy(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The only file of this name in the folder or below it.
fn the_one(folder: &Path, name: &str) -> Result<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == name {
                found.push(entry.path());
            }
        }
    }
    ensure!(
        found.len() == 1,
        "{} holds {} files named {name}, and one was expected",
        folder.display(),
        found.len()
    );
    Ok(found.remove(0))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

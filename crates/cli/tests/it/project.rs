//! A small project in a temporary folder, and the binary in a sealed environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const PIPELINE: &str = r#"[pipeline]
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
with = { model = "mlp", hidden = [8], epochs = 20, batch = 4, learning_rate = 0.05 }

[[stage]]
name = "evaluate"
uses = "evaluate"
inputs = ["train:model", "split:test"]

[[stage]]
name = "package"
uses = "package"
inputs = ["train:model", "train:metrics", "evaluate:metrics"]

[[gate]]
metric = "evaluate/accuracy"
better = "higher"
baseline = "latest:small"
fail = ["value >= 0.8", "regress <= 0.01"]

[[budget]]
metric = "train/step_wall_ns"
fail = ["max <= 1h", "volume <= 100000"]

[governance]
run = ["artifacts-signed", "budgets", "gates"]
"#;

/// A project in a temporary folder, and the binary in a sealed environment.
pub(crate) struct Project {
    dir: TempDir,
}

impl Project {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let project = Self { dir };
        project.write("bitproof.toml", PIPELINE);
        let rows: String = (0..80u32)
            .map(|i| {
                let (x, y) = (i * 37 % 80, i * 53 % 80);
                format!("{x},{y},{}\n", u32::from(x + y > 80))
            })
            .collect();
        project.write("rows.csv", &rows);
        project
    }

    /// Another pipeline in its place.
    pub(crate) fn with(pipeline: &str) -> Self {
        let project = Self::new();
        project.write("bitproof.toml", pipeline);
        project
    }

    /// A copy of a folder with a pipeline; what lies in a store or a cache of Python is left out.
    pub(crate) fn copied_from(folder: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut open = vec![(folder.to_owned(), dir.path().to_owned())];
        while let Some((from, to)) = open.pop() {
            fs::create_dir_all(&to).unwrap();
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                let target = to.join(entry.file_name());
                if entry.file_name() == ".bitproof" || entry.file_name() == "__pycache__" {
                    continue;
                }
                if entry.path().is_dir() {
                    open.push((entry.path(), target));
                } else {
                    fs::copy(entry.path(), target).unwrap();
                }
            }
        }
        Self { dir }
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitproof"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("BITPROOF_CONFIG_DIR", self.path().join("config"))
            .env("BITPROOF_CACHE_DIR", self.path().join("cache"))
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The exit code, and both outputs as one text.
    pub(crate) fn answer(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(arguments);
        let text = [output.stdout, output.stderr].map(|b| String::from_utf8(b).unwrap()).concat();
        (output.status.code().unwrap(), text)
    }

    pub(crate) fn json(&self, arguments: &[&str], expected_exit: i32) -> Value {
        let arguments = [arguments, &["--json"]].concat();
        let output = self.run(&arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected_exit), "{arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join(".bitproof")
    }

    /// The object that a task's output is, by the manifest of a run.
    pub(crate) fn output(&self, run: &str, task: &str, output: &str) -> PathBuf {
        let manifest = fs::read(self.store().join("runs").join(run).join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let tasks = manifest["tasks"].as_array().unwrap();
        let entry = tasks.iter().find(|entry| entry["task"] == task).unwrap();
        let digest = entry["outputs"][output].as_str().unwrap();
        self.store().join("objects").join(&digest[..2]).join(&digest[2..])
    }

    /// The ids of the processes that have this project in their arguments or environment: the binary, and whatever it started.
    pub(crate) fn alive(&self) -> Vec<u32> {
        let name = self.path().as_os_str().as_encoded_bytes();
        let names_it = |file: PathBuf| {
            fs::read(file).is_ok_and(|bytes| bytes.windows(name.len()).any(|window| window == name))
        };
        let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            ["environ", "cmdline"].iter().any(|file| names_it(entry.path().join(file))).then_some(id)
        });
        processes.collect()
    }

    /// Waits until nothing of it is alive: what was told to die takes its time.
    pub(crate) fn assert_nothing_is_left(&self, after: &str) {
        for _ in 0..1_000 {
            if self.alive().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let left = self.alive();
        let arguments: Vec<_> = left
            .iter()
            .map(|id| fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default())
            .collect();
        panic!("{after}: {left:?} are still there: {arguments:?}");
    }
}

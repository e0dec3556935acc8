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

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
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
}

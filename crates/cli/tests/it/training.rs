//! Trainings as processes: threads, workers, instruction sets, telemetry, kills and numbers that are not finite change no bit of what is
//! recorded, or are told.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bitproof_kernels::Isa;
use serde_json::Value;

use crate::project::Project;

/// A transformer, small enough for scalar code, on a text of its own.
const TEXT_PIPELINE: &str = r#"[pipeline]
name = "t"
seed = 5

[data.text]
path = "text.txt"

[[stage]]
name = "split"
uses = "dataset"
inputs = ["data:text"]
with = { format = "text", window = 8, valid_fraction = 0.2 }

[[stage]]
name = "train"
uses = "train"
inputs = ["split:train", "split:valid"]
[stage.with]
model = "gpt"
layers = 2
heads = 2
width = 16
dropout = 0.1
steps = 60
batch = 12
shards = 5
learning_rate = 0.01
schedule = "cosine"
warmup_steps = 5
clip_norm = 1.0
checkpoint_every = 10
leaf_every = 5
eval_every = 20

[[stage]]
name = "generate"
uses = "generate"
inputs = ["train:model", "split:schema"]
with = { prompt = "the ", characters = 40 }
"#;

fn text_project() -> Project {
    let project = Project::with(TEXT_PIPELINE);
    project.write("text.txt", &"the quick brown fox jumps over the lazy dog. ".repeat(40));
    project
}

/// What every machine must agree on.
fn roots(report: &Value) -> (String, String) {
    let root = |key: &str| report[key].as_str().unwrap().to_owned();
    (root("ledger_root"), root("result_root"))
}

#[test]
fn threads_workers_and_instruction_sets_change_no_byte() {
    let expected = roots(&text_project().json(&["run", "--threads", "1"], 0));
    for arguments in [["--threads", "2"], ["--threads", "4"], ["--threads", "8"], ["-j", "2"], ["-j", "8"]] {
        let report = text_project().json(&[&["run"][..], &arguments].concat(), 0);
        assert_eq!(roots(&report), expected, "{arguments:?}");
    }
    for isa in Isa::available() {
        let project = text_project();
        let output = project.command(&["run", "--json"]).env("BITPROOF_ISA", isa.name()).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(roots(&report), expected, "{}", isa.name());
    }
    let other = text_project().json(&["run", "--set", "train.shards=4"], 0);
    assert_ne!(roots(&other), expected, "the control: other shards are another training");
}

#[test]
fn logs_progress_and_telemetry_change_no_byte() {
    let quiet = text_project();
    let expected = roots(&quiet.json(&["run", "--no-progress"], 0));
    let loud = text_project();
    let output = loud.command(&["run", "--json", "-vv"]).stderr(Stdio::piped()).output().unwrap();
    assert!(output.stderr.len() > 10_000, "everything was said");
    assert_eq!(roots(&serde_json::from_slice(&output.stdout).unwrap()), expected);
    let curve = |project: &Project| {
        let folder = project.store().join("runs/t-1/telemetry");
        let lines =
            fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let lines: String = lines.collect();
        let losses = lines.lines().filter(|line| line.contains("train/loss_millionths"));
        losses
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["value"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    let seen = curve(&quiet);
    assert_eq!((seen.len(), &seen), (3, &curve(&loud)), "a loss each 20 steps");
    assert!(seen[2] < seen[0], "it learned: {seen:?}");
}

/// The names of the signed checkpoints of the training that is under way.
fn checkpoints(project: &Project) -> BTreeSet<PathBuf> {
    let Ok(files) = fs::read_dir(project.store().join("runs/t-1/resume/train")) else {
        return BTreeSet::new();
    };
    files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sig"))
        .collect()
}

/// Starts a run and kills it when there are checkpoints that `enough` says so of.
fn killed_when(project: &Project, enough: impl Fn(&BTreeSet<PathBuf>) -> bool) {
    let mut child = project.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !enough(&checkpoints(project)) {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The steps that the last process made, as its telemetry tells.
fn steps_made(project: &Project) -> BTreeSet<u64> {
    let folder = project.store().join("runs/t-1/telemetry");
    let mut steps = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        for line in fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            if record["name"] == "train/step_wall_ns" {
                steps.insert(record["tags"]["step"].as_str().unwrap().parse().unwrap());
            }
        }
    }
    steps
}

#[test]
fn a_killed_training_goes_on_from_its_newest_checkpoint_to_the_same_bits() {
    // Long enough that a checkpoint is not the end.
    let longer = TEXT_PIPELINE.replace("steps = 60", "steps = 600");
    let project = || {
        let project = text_project();
        project.write("bitproof.toml", &longer);
        project
    };
    let expected = roots(&project().json(&["run"], 0));

    let killed = project();
    killed_when(&killed, |found| found.iter().any(|path| name(path) > "step-000000000100"));
    let report = killed.json(&["run"], 0);
    assert_eq!((roots(&report), report["run"].as_str()), (expected.clone(), Some("t-1")));
    let steps = steps_made(&killed);
    assert!(*steps.first().unwrap() > 100 && *steps.last().unwrap() == 600, "{:?}", steps.first());
    assert!(checkpoints(&killed).is_empty(), "nothing is left of them when the run is sealed");
    assert_eq!(killed.answer(&["verify", "--all"]).0, 0);

    // A weight of the newest checkpoint was changed meanwhile: the one before is taken, or the training begins anew.
    let damaged = project();
    killed_when(&damaged, |found| found.iter().any(|path| name(path) > "step-000000000100"));
    let newest = checkpoints(&damaged).into_iter().next_back().unwrap();
    let weights = newest.to_str().unwrap().replace("resume.json.sig", "model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let stopped_at: u64 = name(&newest)[5..17].parse().unwrap();
    let output = damaged.command(&["run", "--json"]).env("BITPROOF_LOG", "warn").output().unwrap();
    assert_eq!(roots(&serde_json::from_slice(&output.stdout).unwrap()), expected);
    assert!(String::from_utf8_lossy(&output.stderr).contains("passed over a checkpoint"));
    assert!(*steps_made(&damaged).first().unwrap() <= stopped_at);
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn what_is_not_finite_ends_the_run_with_step_shard_and_operation() {
    let project = text_project();
    let (exit, text) = project.answer(&[
        "run",
        "--set",
        "train.optimizer=sgd",
        "--set",
        "train.learning_rate=10",
        "--set",
        "train.clip_norm=1e30",
    ]);
    assert_eq!(exit, 1, "{text}");
    let told = text.lines().find(|line| line.contains("is not finite")).unwrap_or_else(|| panic!("{text}"));
    for wanted in ["step ", "shard ", "operation ", "try a lower learning_rate"] {
        assert!(told.contains(wanted), "{wanted:?} in {told:?}");
    }
    let shown = project.json(&["show"], 0);
    assert_eq!(shown["status"], "failed");
    let verified = project.json(&["verify", "--all"], 0);
    assert_eq!(verified["ok"], true);
    assert_eq!(
        project.json(&["replay", "latest"], 0)["outcome"],
        "identical",
        "it fails again in the same way"
    );
}

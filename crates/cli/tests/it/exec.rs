//! `bitproof exec`: one command of an existing project.

use std::fs;
use std::process::Command;

use serde_json::{json, Value};

use crate::project::Project;

const TRAIN: &str = r#"import json, os, sys
os.makedirs("model" if len(sys.argv) > 1 else "data", exist_ok=True)
rows = open("data/rows.txt").read().split()
json.dump({"rows": len(rows)}, open("metrics.json", "w"))
open("model/weights.txt" if len(sys.argv) > 1 else "model.txt", "w").write(" ".join(sorted(rows)))
"#;

/// A repository with a script, its data, and no pipeline.
fn repository() -> Project {
    let project = folder();
    git(&project, &["init", "-q"]);
    git(&project, &["add", "train.py", "README", "data/rows.txt"]);
    project
}

fn folder() -> Project {
    let project = Project::new();
    fs::remove_file(project.path().join("bitproof.toml")).unwrap();
    fs::remove_file(project.path().join("rows.csv")).unwrap();
    project.write("train.py", TRAIN);
    project.write("README", "what this is\n");
    project.write("data/rows.txt", "3 1 2\n");
    project
}

fn git(project: &Project, arguments: &[&str]) {
    let mut git = Command::new("git");
    git.args(arguments).current_dir(project.path()).env("GIT_CONFIG_GLOBAL", "/dev/null");
    assert!(git.status().unwrap().success(), "git {arguments:?}");
}

const EXEC: [&str; 7] =
    ["exec", "--in", "rows=data/rows.txt", "--out", "model=model.txt", "--metrics", "metrics.json"];
const TRAINING: [&str; 3] = ["--", "python3", "train.py"];

fn exec(project: &Project, options: &[&str], exit: i32) -> Value {
    // Options stand before what ends them.
    let output = project.run(&[&EXEC, options, &["--json"], &TRAINING].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{options:?}: {stderr}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_command_is_recorded_and_its_outputs_lie_where_it_makes_them() {
    let project = repository();
    let report = exec(&project, &[], 0);
    assert_eq!((&report["run"], &report["status"]), (&json!("train-1"), &json!("passed")));
    assert_eq!(report["metrics"], json!({ "train/rows": 3.0 }));
    assert_eq!(fs::read_to_string(project.path().join("model.txt")).unwrap(), "1 2 3");
    assert!(!project.path().join("bitproof.toml").exists(), "nothing was asked to be written");
    let shown = project.json(&["show", "train-1"], 0);
    assert_eq!(shown["data"].as_object().unwrap().len(), 1, "{shown}");
    assert_eq!(project.json(&["verify", "--all"], 0)["ok"], Value::Bool(true));
    assert_eq!(project.json(&["replay", "train-1"], 0)["outcome"], "identical");

    fs::write(project.path().join("model.txt"), "mine").unwrap();
    let again = exec(&project, &[], 0);
    assert_eq!(again["tasks"]["cached"], 1);
    assert_eq!(fs::read_to_string(project.path().join("model.txt")).unwrap(), "1 2 3", "written back");
    assert_eq!(exec(&project, &["--no-cache"], 0)["tasks"]["executed"], 1);
    // All that git tracks is code.
    project.write("README", "what it was\n");
    assert_eq!(exec(&project, &[], 0)["tasks"]["executed"], 1);
    assert_eq!(exec(&project, &["--code", "train.py"], 0)["tasks"]["executed"], 1);
    project.write("README", "what it will be\n");
    assert_eq!(exec(&project, &["--code", "train.py"], 0)["tasks"]["cached"], 1);
}

#[test]
fn what_is_written_is_a_stage_that_a_run_knows() {
    let project = repository();
    let recorded = exec(&project, &["--write"], 0);
    let text = fs::read_to_string(project.path().join("bitproof.toml")).unwrap();
    assert!(text.contains("[[stage]]\nname    = \"train\"\n"), "{text}");
    let run = project.json(&["run"], 0);
    assert_eq!(run["tasks"]["cached"], 1, "{text}");
    assert_eq!(run["ledger_root"], recorded["ledger_root"]);

    // A second one stands below it; a name that is taken is told before anything runs.
    let named = exec(&project, &["--write", "--name", "again", "--code", "train.py"], 0);
    assert_eq!(named["run"], "again-1");
    let both = project.json(&["run"], 0);
    assert_eq!(both["tasks"]["cached"], 2);
    let text = fs::read_to_string(project.path().join("bitproof.toml")).unwrap();
    fs::remove_file(project.path().join("model.txt")).unwrap();
    let taken = exec(&project, &["--write", "--no-cache"], 2);
    assert!(
        taken["message"].as_str().unwrap().contains("has a stage \"train\" already\n  hint: "),
        "{taken}"
    );
    assert_eq!(project.json(&["runs"], 0)["runs"].as_array().unwrap().len(), 4);
    assert!(!project.path().join("model.txt").exists(), "nothing ran");
    assert_eq!(fs::read_to_string(project.path().join("bitproof.toml")).unwrap(), text);
}

#[test]
fn a_command_that_fails_is_recorded_and_not_written() {
    let project = repository();
    project.write("train.py", "import sys\nsys.exit(\"no rows\")\n");
    let failed = exec(&project, &["--write"], 1);
    let why = failed["stages"][0]["failure"].as_str().unwrap();
    assert!(why.contains("no rows"), "{why}");
    assert!(!project.path().join("bitproof.toml").exists());
    project.write("train.py", TRAIN);
    exec(&project, &["--write"], 0);
    assert!(project.path().join("bitproof.toml").exists());
}

#[test]
fn without_git_the_script_is_the_code_or_it_is_asked_for() {
    let project = folder();
    // The script is an argument: it is known.
    assert_eq!(exec(&project, &[], 0)["status"], "passed");
    project.write("README", "no code\n");
    assert_eq!(exec(&project, &[], 0)["tasks"]["cached"], 1);
    let module = ["exec", "--out", "model=model.txt", "--", "python3", "-m", "train"];
    let (exit, text) = project.answer(&module);
    assert!(
        exit == 2 && text.contains("hint: name files, folders or patterns with --code"),
        "{exit}: {text}"
    );
    let (exit, text) =
        project.answer(&["exec", "--in", "rows=absent", "--out", "m=m", "--", "python3", "train.py"]);
    assert!(
        exit == 2 && text.contains("the input rows is not there") && text.contains("hint: "),
        "{exit}: {text}"
    );
    let (exit, text) = project.answer(&["exec", "--out", "m=../m", "--", "python3", "train.py"]);
    assert!(exit == 2 && text.contains("\"../m\" is not below the project's folder"), "{exit}: {text}");
}

#[test]
fn folders_are_written_back_beside_what_is_there() {
    let project = repository();
    project.write("model/kept.txt", "mine");
    let arguments = [
        "exec",
        "--in",
        "rows=data/rows.txt",
        "--out",
        "model=model/",
        "--metrics",
        "metrics.json",
        "--",
        "python3",
        "train.py",
        "folder",
    ];
    let (exit, text) = project.answer(&arguments);
    assert_eq!(exit, 0, "{text}");
    let read = |path: &str| fs::read_to_string(project.path().join(path)).unwrap();
    assert_eq!((read("model/weights.txt").as_str(), read("model/kept.txt").as_str()), ("1 2 3", "mine"));
}

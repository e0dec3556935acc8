//! A project with NumPy in a virtual environment: in each tier of isolation, and what another environment does to the cache.

#![expect(clippy::print_stdout, reason = "a test that skips says so")]

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::project::Project;

const PIPELINE: &str = r#"[pipeline]
name = "numpy"

[data.points]
path = "points.csv"

[tools.python]
path = ".venv"
lock = "requirements.txt"

[[stage]]
name = "train"
command = ["python", "train.py", "{in:points}", "{out:weights}"]
code = ["train.py"]
tools = ["python"]
inputs = { points = "data:points" }
outputs = { weights = "weights.npy" }
metrics = ["metrics.json"]
isolation = "best"
"#;

const TRAIN: &str = r#"
import json, sys
import numpy as np

points, weights = sys.argv[1:]
rows = np.loadtxt(points, delimiter=",")
x, y = rows[:, :-1], rows[:, -1]
w = np.random.default_rng(0).normal(size=x.shape[1])
for _ in range(50):
    w -= 0.05 * x.T @ (x @ w - y) / len(y)
np.save(weights, w)
json.dump({"loss": float(np.mean((x @ w - y) ** 2))}, open("metrics.json", "w"))
"#;

#[test]
fn a_numpy_project_runs_and_replays_in_each_tier() {
    let Some(project) = numpy_project() else { return };
    let secret = project.path().join("secret.txt");
    fs::write(&secret, "undeclared").unwrap();
    let mut outputs = Vec::new();
    for tier in ["landlock", "strict"] {
        project.write("bitproof.toml", &PIPELINE.replace("best", tier));
        project.write("train.py", TRAIN);
        let (exit, text) = project.answer(&["run"]);
        if exit == 2 && text.contains("cannot be reached here") {
            println!("SKIPPED: {tier}: {text}");
            continue;
        }
        assert_eq!(exit, 0, "{text}");
        assert_eq!(project.json(&["replay", "latest"], 0)["outcome"], "identical", "{tier}");
        let shown = project.json(&["show", "latest"], 0);
        outputs.push(shown["tasks"][0]["outputs"].clone());
        project.write("train.py", &format!("open({:?}).read()\n{TRAIN}", secret.to_str().unwrap()));
        let (exit, text) = project.answer(&["run"]);
        assert_eq!(exit, 1, "what is not declared is not to be had: {text}");
        assert!(text.contains("only what it declares"), "{text}");
    }
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]), "{outputs:?}");
}

#[test]
fn another_environment_is_not_taken_from_the_cache() {
    let Some(project) = numpy_project() else { return };
    let first = project.json(&["run"], 0);
    let supplied = ["replay", "latest", "--tool", "python=.venv"];
    assert_eq!(
        project.json(&supplied, 0)["outcome"],
        "identical",
        "a relative path is one of the current folder"
    );
    let ran = |what: &str, executed: u64| -> Value {
        let report = project.json(&["run"], 0);
        assert_eq!(report["tasks"]["executed"], executed, "{what}");
        report
    };
    ran("nothing changed", 0);

    // The lock file is part of what a result is known by.
    let action = |run: &Value| -> Value {
        project.json(&["show", run["run"].as_str().unwrap()], 0)["tasks"][0]["action"].clone()
    };
    let lock = fs::read_to_string(project.path().join("requirements.txt")).unwrap();
    project.write("requirements.txt", &lock.replace("numpy==", "numpy==9"));
    let other = ran("another version in the lock file", 1);
    assert_ne!(other["plan_digest"], first["plan_digest"]);
    assert_ne!(action(&other), action(&first));
    project.write("requirements.txt", &lock);
    ran("the lock file as it was", 0);

    // What is really there is observed: the same plan, and yet nothing from the cache.
    let venv = project.path().join(".venv");
    let same_plan = |what: &str| {
        let report = ran(what, 1);
        assert_eq!(report["plan_digest"], first["plan_digest"], "{what}");
        assert_eq!(report["ledger_root"], first["ledger_root"], "{what}");
    };
    let config = venv.join("pyvenv.cfg");
    let before = fs::read_to_string(&config).unwrap();
    fs::write(&config, before.replace("version = 3.", "version = 3.9")).unwrap();
    same_plan("an upgraded interpreter, by its configuration");
    fs::write(&config, before).unwrap();
    ran("the configuration as it was", 0);

    let links = interpreters(&venv);
    for (link, _) in &links {
        let mut program = fs::read(link).unwrap();
        program.push(0);
        fs::remove_file(link).unwrap();
        fs::write(link, program).unwrap();
        fs::set_permissions(link, fs::Permissions::from_mode(0o755)).unwrap();
    }
    same_plan("an upgraded interpreter, by its bytes");
    for (link, target) in &links {
        fs::remove_file(link).unwrap();
        symlink(target, link).unwrap();
    }
    ran("the interpreter as it was", 0);

    let record = site_packages(&venv).join(dist_info(&site_packages(&venv))).join("RECORD");
    let before = fs::read_to_string(&record).unwrap();
    fs::write(&record, format!("{before}numpy/patched.py,,\n")).unwrap();
    same_plan("a package that was installed anew");
}

/// A project with its own virtual environment, NumPy in it; `None` where there is no NumPy to copy.
fn numpy_project() -> Option<Project> {
    let oracles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/oracles");
    let python = oracles.join("bin/python");
    if !python.exists() || !site_packages(&oracles).join("numpy").is_dir() {
        println!("SKIPPED: no NumPy in target/oracles; scripts/oracles/setup installs it");
        return None;
    }
    let project = Project::new();
    let venv = project.path().join(".venv");
    let made = Command::new(python).args(["-m", "venv", "--without-pip"]).arg(&venv).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (from, to) = (site_packages(&oracles), site_packages(&venv));
    let dist_info = dist_info(&from);
    for package in ["numpy", "numpy.libs", &dist_info] {
        if from.join(package).is_dir() {
            copy(&from.join(package), &to.join(package));
        }
    }
    project.write("bitproof.toml", PIPELINE);
    project.write("train.py", TRAIN);
    let version = dist_info.trim_start_matches("numpy-").trim_end_matches(".dist-info");
    project.write("requirements.txt", &format!("numpy=={version}\n"));
    let rows: String = (0..60).map(|i| format!("{},{},{}\n", i % 7, i % 11, 3 * (i % 7) - i % 11)).collect();
    project.write("points.csv", &rows);
    Some(project)
}

/// The links to interpreters in a virtual environment, with what they name.
fn interpreters(venv: &Path) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(venv.join("bin")).unwrap().map(|entry| entry.unwrap().path());
    let pythons = entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("python"));
    let links: Vec<_> = pythons.filter_map(|path| Some((path.clone(), fs::read_link(path).ok()?))).collect();
    assert!(!links.is_empty(), "{} has no links to an interpreter", venv.display());
    links
}

fn site_packages(venv: &Path) -> PathBuf {
    let versions = fs::read_dir(venv.join("lib")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let version = versions.max().unwrap_or_else(|| venv.join("lib/python3"));
    version.join("site-packages")
}

/// The name of the folder that says what is installed of NumPy.
fn dist_info(site_packages: &Path) -> String {
    let names =
        fs::read_dir(site_packages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.into_iter().find(|name| name.starts_with("numpy-") && name.ends_with(".dist-info")).unwrap()
}

/// Of a package what is needed to import it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if !path.is_dir() {
            fs::copy(&path, to.join(name)).unwrap();
        } else if name != "tests" && name != "__pycache__" {
            copy(&path, &to.join(name));
        }
    }
}

//! The pipelines of `examples/`, and what their READMEs and `init` promise of them.

#![expect(clippy::print_stdout, reason = "a test that skips says so")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::project::Project;

/// Those with commands, and how many tasks each has.
const WITH_COMMANDS: [(&str, u64); 2] = [("command", 5), ("sweep", 27)];

#[test]
fn each_example_has_the_roots_of_its_readme_with_any_number_of_workers() {
    if !python3() {
        return;
    }
    for (name, tasks) in WITH_COMMANDS {
        let example = Project::copied_from(&folder("examples").join(name));
        let page = fs::read_to_string(example.path().join("README.md")).unwrap();
        let promised =
            ["ledger root  ", "result root  ", "ledger root replayed  "].map(|label| after(&page, label));
        for workers in ["1", "4"] {
            let ran = example.json(&["run", "--no-cache", "-j", workers], 0);
            assert_eq!(ran["tasks"]["executed"], tasks, "{name}");
            assert_eq!(ran["ledger_root"], promised[0], "{name} with {workers} workers");
            assert_eq!(ran["result_root"], promised[1], "{name} with {workers} workers");
        }
        let replayed = example.json(&["replay", "latest"], 0);
        assert_eq!(replayed["outcome"], "identical", "{name}");
        assert_eq!(replayed["ledger_root_replayed"], promised[2], "{name}");
        assert_ne!(
            example.json(&["plan", "--set", "pipeline.seed=43"], 0)["plan_digest"],
            replayed["plan_digest"]
        );
        let other = example.run(&["run", "--json", "--set", "pipeline.seed=43"]);
        let other: serde_json::Value = serde_json::from_slice(&other.stdout).unwrap();
        assert_ne!(other["ledger_root"], promised[0], "another seed must give {name} another root");
    }
}

#[test]
fn the_readme_of_the_repository_has_the_roots_of_the_digits() {
    let example = Project::copied_from(&folder("examples/digits"));
    let page = fs::read_to_string(folder("README.md")).unwrap();
    let ran = example.json(&["run", "-j", "4"], 0);
    assert_eq!(ran["ledger_root"], after(&page, "ledger root  "));
    assert_eq!(ran["result_root"], after(&page, "result root  "));
}

/// Trainings that are too long for a test in full, with what makes them short.
#[test]
fn the_long_trainings_run_in_a_small_form_with_the_same_roots_for_any_number_of_threads() {
    let shakespeare: &[&str] = &[
        "--set",
        "train.steps=12",
        "--set",
        "train.checkpoint_every=4",
        "--set",
        "train.width=32",
        "--set",
        "train.layers=2",
        "--set",
        "train.warmup_steps=2",
        "--set",
        "generate.characters=60",
    ];
    // No gate is judged of a model that has hardly learned.
    let lenet: &[&str] = &["--set", "train.epochs=1", "--stage", "train"];
    for (name, file, short) in
        [("shakespeare", "bitproof.toml", shakespeare), ("digits", "lenet.toml", lenet)]
    {
        let ran = ["1", "3"].map(|threads| {
            let example = Project::copied_from(&folder("examples").join(name));
            let report = example.json(&[&["run", file, "--threads", threads], short].concat(), 0);
            assert_eq!(report["status"], "passed");
            (example, report)
        });
        let [(example, one), (_, three)] = &ran;
        assert_eq!(one["ledger_root"], three["ledger_root"], "{name}");
        if name == "shakespeare" {
            let text = fs::read_to_string(example.output("shakespeare-1", "generate", "text")).unwrap();
            assert!(text.starts_with("ROSALIND\t") && text.chars().count() == 69, "{text:?}");
        }
    }
}

#[test]
fn the_readme_of_breast_cancer_has_its_roots() {
    let example = Project::copied_from(&folder("examples/breast-cancer"));
    let page = fs::read_to_string(example.path().join("README.md")).unwrap();
    let ran = example.json(&["run"], 0);
    assert_eq!(ran["ledger_root"], after(&page, "ledger root  "));
    assert_eq!(ran["result_root"], after(&page, "result root  "));
    assert!(ran["controls"].as_array().unwrap().iter().all(|control| control["outcome"] == "passed"));
}

#[test]
fn the_readme_of_the_command_example_shows_the_gate_and_the_report() {
    if !python3() {
        return;
    }
    let example = Project::copied_from(&folder("examples/command"));
    let page = fs::read_to_string(example.path().join("README.md")).unwrap();
    example.json(&["run"], 0);
    let shown = example.json(&["show", "rents-1"], 0);
    let tasks = shown["tasks"].as_array().unwrap();
    let report =
        tasks.iter().find(|task| task["task"] == "report").unwrap()["outputs"]["report"].as_str().unwrap();
    let (shard, rest) = report.split_at(2);
    let object = format!("objects/{shard}/{rest}");
    let text = fs::read_to_string(example.store().join(&object)).unwrap();
    for wanted in [report, &object, &text] {
        assert!(page.contains(wanted), "{wanted:?} is not in the README");
    }
    let (exit, said) = example.answer(&["run", "--set", "fit.steps=10"]);
    assert_eq!(exit, 1, "{said}");
    let judged = said.lines().find(|line| line.contains("evaluate/r2 fell from")).unwrap();
    assert!(page.contains(judged), "{judged:?} is not in the README");
}

#[test]
fn a_comparison_names_the_file_of_code_that_changed() {
    if !python3() {
        return;
    }
    let example = Project::copied_from(&folder("examples/command"));
    let factors = || example.json(&["compare", "rents-1", "latest"], 0)["factors"].clone();
    example.json(&["run"], 0);
    example.json(&["run"], 0);
    assert_eq!(factors().as_array().unwrap().len(), 0);
    let fit = fs::read_to_string(example.path().join("fit.py")).unwrap();
    example.write("fit.py", &fit.replace("* 2 * slope", "* slope"));
    example.json(&["run"], 0);
    let factors = factors();
    assert_eq!(factors.as_array().unwrap().len(), 1, "{factors}");
    assert_eq!((&factors[0]["kind"], &factors[0]["name"]), (&"code".into(), &"fit/fit.py".into()));
}

#[test]
fn a_template_is_the_example_and_init_writes_all_of_it() {
    let project = Project::new();
    for template in ["digits", "command"] {
        let example = files_of(&folder("examples").join(template));
        assert_eq!(files_of(&folder("crates/cli/templates").join(template)), example, "{template}");
        let made = project.json(&["init", template, "--template", template], 0);
        assert_eq!(made["schema"], "bitproof/init/v1");
        assert_eq!(project.answer(&["init", template]).0, 2, "nothing is overwritten");
        let mut written = files_of(&project.path().join(template));
        assert!(written.remove(Path::new(".bitproof/store.toml")).is_some());
        written.retain(|path, _| !path.starts_with(".bitproof"));
        assert_eq!(written, example, "{template}");
    }
    assert_eq!(project.answer(&["init", "other", "--template", "other"]).0, 2);
}

#[test]
fn a_project_that_init_made_runs_at_once() {
    if !python3() {
        return;
    }
    let project = Project::new();
    project.json(&["init", "rents", "--template", "command"], 0);
    let report = project.json(&["-C", "rents", "run"], 0);
    assert_eq!(report["tasks"]["executed"], 5);
    assert!(project.path().join("rents/.bitproof/runs/rents-1").is_dir());
}

fn folder(below_the_repository: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(below_the_repository)
}

/// Commands find the system's Python alone.
fn python3() -> bool {
    let there =
        ["/usr/local/bin", "/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join("python3").exists());
    if !there {
        println!("SKIPPED: no python3 among the system's programs");
    }
    there
}

/// The word that follows a label in a page.
fn after<'a>(page: &'a str, label: &str) -> &'a str {
    let (_, rest) = page.split_once(label).unwrap_or_else(|| panic!("the README shows no {label:?}"));
    rest.split_whitespace().next().unwrap()
}

/// What a folder holds, by path.
fn files_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

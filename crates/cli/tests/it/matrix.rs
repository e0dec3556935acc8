//! Commands over a matrix.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::project::Project;

const PIPELINE: &str = r#"[pipeline]
name = "sweep"
seed = 7
lanes = 4

[[stage]]
name = "fit"
command = ["sh", "-c", "echo {with:rate} {with:width} {seed} > model.txt"]
outputs = { model = "model.txt" }
matrix = { width = [16, 32], rate = [0.1, 0.01] }

[[stage]]
name = "score"
command = ["sh", "-c", '''read rate width seed < {in:model}; echo "{{\"width\": $width, \"rate\": $rate}}" > metrics.json''']
inputs = { model = "fit:model" }
metrics = ["metrics.json"]

[[stage]]
name = "gather"
command = ["sh", "-c", "cd inputs/models; for f in *; do echo $f $(cat $f); done > ../../all.txt"]
inputs = { models = "fit[*]:model" }
outputs = { all = "all.txt" }
"#;

#[test]
fn a_task_for_each_combination_and_a_folder_of_all() {
    let project = Project::with(PIPELINE);
    let report = project.json(&["run"], 0);
    let tasks = names(&report);
    let wanted = [
        "fit@rate=0.01,width=16",
        "fit@rate=0.01,width=32",
        "fit@rate=0.1,width=16",
        "fit@rate=0.1,width=32",
        "gather",
        "score@rate=0.01,width=16",
        "score@rate=0.01,width=32",
        "score@rate=0.1,width=16",
        "score@rate=0.1,width=32",
    ];
    assert_eq!(tasks, wanted);
    assert_eq!(report["metrics"]["score@rate=0.1,width=32/width"], 32.0);
    assert_eq!(report["metrics"]["score@rate=0.01,width=16/rate"], 0.01);
    let lines = gathered(&project, "sweep-1");
    let entries: Vec<Vec<&str>> = lines.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(entries.len(), 4, "{lines}");
    for entry in &entries {
        assert_eq!(entry[0], format!("rate={},width={}", entry[1], entry[2]), "{lines}");
        assert_eq!(entry[3], entries[0][3], "one seed for all: {lines}");
    }
    assert_eq!(project.json(&["replay", "latest"], 0)["outcome"], "identical");
}

#[test]
fn set_takes_the_place_of_an_axis_and_the_cache_knows_the_rest() {
    let project = Project::with(PIPELINE);
    project.json(&["run"], 0);
    let set = project.json(&["run", "--set", "fit.rate=0.1"], 0);
    let wanted = ["fit@width=16", "fit@width=32", "gather", "score@width=16", "score@width=32"];
    assert_eq!(names(&set), wanted);
    assert!(
        gathered(&project, "sweep-2").starts_with("width=16 0.1 16 "),
        "{}",
        gathered(&project, "sweep-2")
    );
    let both = project.json(&["run", "--set", "fit.rate=0.5", "--set", "fit.width=8"], 0);
    assert_eq!(names(&both), ["fit", "gather", "score"]);
    let one = project.json(&["run", "--stage", "score@rate=0.1,width=32"], 0);
    assert_eq!(names(&one), ["fit@rate=0.1,width=32", "score@rate=0.1,width=32"]);
    assert_eq!(one["tasks"]["cached"], 2);
    let (exit, text) = project.answer(&["run", "--stage", "score@rate=0.2,width=32"]);
    assert!(exit == 2 && text.contains("hint: "), "{text}");
}

fn names(report: &Value) -> Vec<&str> {
    let stages = report["stages"].as_array().unwrap();
    let mut names: Vec<&str> = stages.iter().map(|stage| stage["task"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

/// What the stage `gather` of a run saw.
fn gathered(project: &Project, run: &str) -> String {
    fs::read_to_string(project.output(run, "gather", "all")).unwrap()
}

#[test]
fn workers_change_no_root() {
    let roots: BTreeMap<String, Vec<&str>> =
        ["1", "2", "8"].into_iter().fold(BTreeMap::new(), |mut roots: BTreeMap<_, Vec<_>>, workers| {
            let project = Project::with(PIPELINE);
            let report = project.json(&["run", "-j", workers], 0);
            assert_eq!(report["tasks"]["executed"], 9);
            roots.entry(report["ledger_root"].as_str().unwrap().to_owned()).or_default().push(workers);
            roots
        });
    assert_eq!(roots.len(), 1, "{roots:?}");
    let other = Project::with(&PIPELINE.replace("seed = 7", "seed = 8")).json(&["run"], 0);
    assert!(!roots.contains_key(other["ledger_root"].as_str().unwrap()), "another seed is another root");
}

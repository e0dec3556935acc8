//! What the result of a command is known by: code, data, tools and their locks; and how a run is held to more or less than the cache.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::project::Project;

const PIPELINE: &str = r#"[pipeline]
name = "p"

[tools.prog]
path = "env"
lock = "prog.lock"

[data.rows]
path = "rows"

[[stage]]
name = "use"
command = ["prog", "{in:rows}", "{out:out}"]
inputs = { rows = "data:rows" }
outputs = { out = "out.txt" }
tools = ["prog"]

[[stage]]
name = "twice"
command = ["sh", "-c", "cat {in:out} {in:out} > {out:out}"]
inputs = { out = "use:out" }
outputs = { out = "out.txt" }
"#;

/// A tool that writes the names in its first argument to the second, with a comment that changes nothing.
fn install(project: &Project, folder: &str, comment: &str) {
    let program = format!("{folder}/bin/prog");
    project.write(&program, &format!("#!/bin/sh\n# {comment}\nls \"$1\" > \"$2\"\n"));
    fs::set_permissions(project.path().join(program), fs::Permissions::from_mode(0o755)).unwrap();
}

fn project() -> Project {
    let project = Project::with(PIPELINE);
    project.write("rows/a", "1");
    project.write("prog.lock", "prog==1\n");
    install(&project, "env", "first");
    project
}

/// How often tasks were executed and taken from the cache.
fn counts(report: &Value) -> (u64, u64) {
    let count = |key: &str| report["tasks"][key].as_u64().unwrap();
    (count("executed"), count("cached"))
}

#[test]
fn another_lock_is_another_action() {
    let project = project();
    let first = project.json(&["run"], 0);
    assert_eq!(counts(&first), (2, 0));
    let again = project.json(&["run"], 0);
    assert_eq!((counts(&again), &again["plan_digest"]), ((0, 2), &first["plan_digest"]));
    project.write("prog.lock", "prog==2\n");
    let other = project.json(&["run"], 0);
    // What it made is the same, so that what comes after is known.
    assert_eq!(counts(&other), (1, 1));
    assert_ne!(other["plan_digest"], first["plan_digest"]);
    assert_ne!(other["ledger_root"], first["ledger_root"]);
    assert_eq!(other["stages"][0]["state"], "executed");
    project.write("prog.lock", "prog==1\n");
    assert_eq!(counts(&project.json(&["run"], 0)), (0, 2));
    fs::remove_file(project.path().join("prog.lock")).unwrap();
    let (exit, text) = project.answer(&["run"]);
    assert!(exit == 2 && text.contains("prog.lock") && text.contains("hint: "), "{exit}: {text}");
}

#[test]
fn another_program_misses_the_cache_and_keeps_the_root() {
    let project = project();
    let first = project.json(&["run"], 0);
    install(&project, "other", "second");
    let other = ["run", "--tool", "prog=other"];
    let upgraded = project.json(&other, 0);
    assert_eq!((counts(&upgraded), &upgraded["ledger_root"]), ((1, 1), &first["ledger_root"]));
    assert_eq!(counts(&project.json(&other, 0)), (0, 2), "now it is known with this one, too");
    assert_eq!(counts(&project.json(&["run"], 0)), (0, 2), "as it is with the first");
    install(&project, "env", "third");
    assert_eq!(counts(&project.json(&["run"], 0)), (1, 1), "changed where it lies");
    // A copy elsewhere is the same program.
    install(&project, "copy", "third");
    assert_eq!(counts(&project.json(&["run", "--tool", "prog=copy"], 0)), (0, 2));
}

#[test]
fn the_local_file_says_where_things_are_here() {
    let project = project();
    let first = project.json(&["run"], 0);
    fs::rename(project.path().join("env"), project.path().join("moved")).unwrap();
    fs::rename(project.path().join("rows"), project.path().join("elsewhere")).unwrap();
    let (exit, text) = project.answer(&["run"]);
    assert!(exit == 2 && text.contains("hint: "), "{exit}: {text}");
    project.write("bitproof.local.toml", "[data]\nrows = \"elsewhere\"\n\n[tools]\nprog = \"moved\"\n");
    let moved = project.json(&["run"], 0);
    assert_eq!((counts(&moved), &moved["plan_digest"]), ((0, 2), &first["plan_digest"]));
    assert_eq!(project.json(&["replay", "latest"], 0)["outcome"], "identical");
    for (wrong, says) in
        [("[tool]\nprog = \"moved\"\n", "tool"), ("[data\n", "line 1"), ("[data]\nrow = \"x\"\n", "row")]
    {
        project.write("bitproof.local.toml", wrong);
        let (exit, text) = project.answer(&["run"]);
        assert!(exit == 2 && text.contains(says) && text.contains("hint: "), "{wrong:?}: {exit}: {text}");
    }
}

#[test]
fn a_folder_of_data_is_known_by_its_files() {
    let project = project();
    let first = project.json(&["run"], 0);
    let made = |run: &str| fs::read_to_string(project.output(run, "twice", "out")).unwrap();
    assert_eq!(made("p-1"), "a\na\n");
    project.write("rows/b", "2");
    let grown = project.json(&["run"], 0);
    assert_eq!((counts(&grown), made("p-2").as_str()), ((2, 0), "a\nb\na\nb\n"));
    assert_ne!(grown["plan_digest"], first["plan_digest"]);
    project.write("same/a", "1");
    fs::create_dir(project.path().join("same/empty")).unwrap();
    let supplied = project.json(&["run", "--data", "rows=same"], 0);
    assert_eq!((counts(&supplied), &supplied["plan_digest"]), ((0, 2), &first["plan_digest"]));
    // The length stays the same, and so may the time.
    project.write("same/a", "2");
    assert_eq!(counts(&project.json(&["run", "--data", "rows=same"], 0)), (1, 1));
    std::os::unix::fs::symlink("a", project.path().join("same/link")).unwrap();
    let (exit, text) = project.answer(&["run", "--data", "rows=same"]);
    assert!(exit == 2 && text.contains("link"), "{exit}: {text}");
    for run in ["p-1", "p-2"] {
        assert_eq!(project.json(&["replay", run], 0)["outcome"], "identical", "{run}");
    }
}

#[test]
fn a_run_is_held_to_more_or_less_than_the_cache() {
    let project = project();
    let first = project.json(&["run"], 0);
    let forced = project.json(&["run", "--force", "twice"], 0);
    assert_eq!((counts(&forced), &forced["stages"][1]["state"]), ((1, 1), &"executed".into()));
    let all = project.json(&["run", "--no-cache"], 0);
    assert_eq!(counts(&all), (2, 0));
    assert_eq!([&forced["ledger_root"], &all["ledger_root"]], [&first["ledger_root"]; 2]);
    let one = project.json(&["run", "--stage", "use"], 0);
    assert_eq!(counts(&one), (0, 1));
    assert_eq!(counts(&project.json(&["run", "--paranoid"], 0)), (0, 2));
    let (exit, text) = project.answer(&["run", "--stage", "absent"]);
    assert!(exit == 2 && text.contains("absent") && text.contains("hint: "), "{exit}: {text}");
    let (exit, text) = project.answer(&["run", "--force", "absent"]);
    assert!(exit == 2 && text.contains("absent") && text.contains("hint: "), "{exit}: {text}");
}

#[test]
fn a_damaged_result_is_no_hit() {
    let project = project();
    let first = project.json(&["run"], 0);
    let object = project.output("p-1", "use", "out");
    fs::remove_file(&object).unwrap();
    let again = project.json(&["run"], 0);
    assert_eq!((counts(&again), &again["ledger_root"]), ((1, 1), &first["ledger_root"]));
    assert!(object.exists());
}

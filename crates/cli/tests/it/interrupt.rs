//! Commands whose run is interrupted or killed: nothing of them stays, and the same command goes on to the same root.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::process::files_below;
use crate::project::Project;

/// Twelve tasks on three lanes.
const PIPELINE: &str = r#"[pipeline]
name = "p"
seed = 3
lanes = 3

[data.rows]
path = "rows.csv"

[[stage]]
name = "sort"
command = ["sh", "-c", "sort {in:rows} > {out:rows}"]
inputs = { rows = "data:rows" }
outputs = { rows = "rows.csv" }

[[stage]]
name = "fit"
command = ["sh", "-c", "sleep 0.02; head -n {with:n} {in:rows} > {out:rows}"]
inputs = { rows = "sort:rows" }
outputs = { rows = "rows.csv" }
matrix = { n = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] }

[[stage]]
name = "join"
command = ["sh", "-c", "cat {in:rows}/* > {out:rows}"]
inputs = { rows = "fit[*]:rows" }
outputs = { rows = "rows.csv" }
"#;

/// Two tasks, of which the second waits, with a daemon beside it, while the file `wait` says so.
const WAITING: &str = r#"[pipeline]
name = "p"

[data.rows]
path = "rows.csv"

[[stage]]
name = "sort"
command = ["sh", "-c", "sort {in:rows} > {out:rows}"]
inputs = { rows = "data:rows" }
outputs = { rows = "rows.csv" }

[[stage]]
name = "wait"
command = ["sh", "-c", "[ -e WAIT ] && {{ setsid sleep 1000 & trap '' TERM; while :; do sleep 1000; done; }}; cp {in:rows} {out:rows}"]
inputs = { rows = "sort:rows" }
outputs = { rows = "rows.csv" }
isolation = "none"
"#;

/// Starts the pipeline that waits, and returns once the first task is committed, and the second and its daemon are at work.
fn waiting() -> (Project, Child) {
    let project = Project::new();
    let marker = project.path().join("wait");
    project.write("bitproof.toml", &WAITING.replace("WAIT", marker.to_str().unwrap()));
    project.write("wait", "");
    let mut child = project.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let sleeping = |id: u32| {
        fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|arguments| arguments == b"sleep\x001000\x00")
    };
    let ledger = project.store().join("runs/p-1/ledger.log");
    let committed = || fs::metadata(&ledger).is_ok_and(|file| file.len() > 32);
    while !committed() || project.alive().into_iter().filter(|&id| sleeping(id)).count() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be stopped");
        std::thread::yield_now();
    }
    (project, child)
}

/// The same command goes on where the first was stopped, to the root of a run that nothing stopped.
fn goes_on(project: &Project) {
    fs::remove_file(project.path().join("wait")).unwrap();
    let finished = project.json(&["run"], 0);
    assert_eq!((&finished["run"], &finished["resumed_at"]), (&"p-1".into(), &1.into()), "{finished}");
    let undisturbed = project.json(&["run", "--no-cache"], 0);
    assert_eq!((&undisturbed["run"], &undisturbed["resumed_at"]), (&"p-2".into(), &Value::Null));
    for field in ["ledger_root", "result_root"] {
        assert_eq!(finished[field], undisturbed[field], "{field}");
    }
    assert_eq!(project.json(&["verify", "--all"], 0)["ok"], Value::Bool(true));
}

#[test]
fn an_interrupt_stops_what_ignores_it_and_the_run_goes_on() {
    let (project, child) = waiting();
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(project.alive(), [0u32; 0], "all are dead before it ends");
    let status = &project.json(&["runs"], 0)["runs"][0]["status"];
    assert_eq!(status, "incomplete");
    goes_on(&project);
}

#[test]
fn a_kill_takes_commands_and_daemons_along() {
    let (project, mut child) = waiting();
    child.kill().unwrap();
    child.wait().unwrap();
    project.assert_nothing_is_left("after SIGKILL");
    goes_on(&project);
}

/// Kills as many runs, each as soon as its store holds a number of files that grows from the first to the last.
fn killed_and_taken_up(kills: usize) {
    let reference = Project::with(PIPELINE);
    let root = reference.json(&["run"], 0);
    assert_eq!(root["tasks"]["executed"], 12);
    let last = files_below(&reference.store());
    let mut taken_up = 0;
    for kill in 0..kills {
        let files = 1 + kill * last / kills;
        let project = Project::with(PIPELINE);
        let mut child =
            project.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while files_below(&project.store()) < files && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        project.assert_nothing_is_left(&format!("after kill {kill} at {files} files"));
        let finished = project.json(&["run"], 0);
        taken_up += usize::from(finished["resumed_at"].as_u64().is_some_and(|tasks| tasks > 0));
        for field in ["ledger_root", "result_root", "plan_digest"] {
            assert_eq!(finished[field], root[field], "{field} after kill {kill} at {files} files");
        }
        let verified = project.json(&["verify", "--all"], 0);
        assert_eq!(verified["ok"], Value::Bool(true), "after kill {kill} at {files} files: {verified}");
    }
    assert!(taken_up * 4 >= kills, "only {taken_up} of {kills} kills met a run with committed tasks");
}

#[test]
fn killed_commands_are_taken_up_with_one_root() {
    killed_and_taken_up(15);
}

#[test]
#[ignore = "two minutes: cargo test -p bitproof --test it -- --ignored killed_commands"]
fn killed_commands_are_taken_up_with_one_root_a_hundred_times() {
    killed_and_taken_up(100);
}

#[test]
fn workers_change_no_root() {
    let roots: Vec<Value> = ["1", "2", "8"]
        .map(|workers| Project::with(PIPELINE).json(&["run", "-j", workers], 0)["ledger_root"].clone())
        .into();
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
    let other = Project::with(&PIPELINE.replace("seed = 3", "seed = 4")).json(&["run"], 0);
    assert_ne!(other["ledger_root"], roots[0], "another seed is another root");
}

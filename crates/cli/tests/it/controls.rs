//! Controls as the user sees them: in the plan, in the summary, in JSON, and in the exit code.

use serde_json::Value;

use crate::project::{Project, PIPELINE};

fn with_controls(controls: &str) -> Project {
    let text = PIPELINE.replace("[\"artifacts-signed\", \"budgets\", \"gates\"]", controls);
    assert_ne!(text, PIPELINE);
    Project::with(&text)
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_plan_and_the_summary_show_the_controls() {
    let project = Project::new();
    let (exit, plan) = project.answer(&["plan"]);
    let lines: Vec<String> = plan.lines().map(words).collect();
    assert_eq!(exit, 0);
    for line in [
        "control task lane tick evidence needed",
        "artifacts-signed after package 0 3 signature and digest of each artifact",
        "budgets after package 0 3 verdict of each budget",
        "gates after package 0 3 verdict of each gate",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line:?} is not in\n{plan}");
    }
    let (exit, text) = project.answer(&["run"]);
    assert_eq!(exit, 0, "{text}");
    let lines: Vec<String> = text.lines().map(words).collect();
    let gates = "passed gates after package lane 0, tick 3 no baseline: evaluate/accuracy";
    for line in ["controls", "passed artifacts-signed after package lane 0, tick 3", gates] {
        assert!(lines.iter().any(|l| l == line), "{line:?} is not in\n{text}");
    }
    let shown = project.json(&["show"], 0);
    let root = shown["governance_root"].as_str().unwrap();
    assert!(lines.contains(&format!("governance root {root}")), "{text}");
    assert!(project.answer(&["show"]).1.lines().map(words).any(|l| l == gates));
}

#[test]
fn a_control_that_fails_ends_with_1_and_says_where_why_and_what_to_do() {
    let project = with_controls("[\"inputs-pinned\", \"budgets\"]");
    let (exit, text) = project.answer(&["run"]);
    assert_eq!(exit, 1, "{text}");
    let lines: Vec<String> = text.lines().map(words).collect();
    let digest = project.json(&["show", "small-1"], 0)["data"]["rows"].as_str().unwrap().to_owned();
    let why = format!("the data input rows has no pin; it is {digest}");
    for line in [
        "no stage was run: a control before one failed",
        &format!("failed inputs-pinned before split lane 0, tick 0 {why}"),
        "hint: write the digest as blake3 of the [data] table, if it is the file that is meant",
        "not_reached budgets after package lane 0, tick 3 a control before a task failed",
    ] {
        assert!(lines.iter().any(|l| l == line), "{line:?} is not in\n{text}");
    }
    let run = project.json(&["run"], 1);
    assert_eq!((&run["status"], &run["tasks"]["executed"]), (&Value::from("failed"), &Value::from(0)));
    let control = &run["controls"][0];
    assert_eq!((&control["outcome"], &control["reason"]), (&Value::from("failed"), &Value::from(why)));
    assert_eq!(run["controls"][1]["evidence"], Value::Null);
    assert_eq!(project.json(&["verify", "--all"], 0)["ok"], true);
    assert_eq!(project.answer(&["replay", "small-1"]).0, 3, "there is nothing to replay");
    // With the pin that the hint asks for, it runs.
    let pin = format!("path = \"rows.csv\"\nblake3 = \"{digest}\"");
    let pinned = PIPELINE.replace("[\"artifacts-signed\", \"budgets\", \"gates\"]", "[\"inputs-pinned\"]");
    project.write("bitproof.toml", &pinned.replace("path = \"rows.csv\"", &pin));
    let run = project.json(&["run"], 0);
    assert_eq!((&run["status"], &run["tasks"]["executed"]), (&Value::from("passed"), &Value::from(4)));
}

#[test]
fn a_stage_alone_keeps_the_controls_that_still_have_something_to_judge() {
    let project = Project::new();
    let run = project.json(&["run", "--stage", "train"], 0);
    let said = |control: &Value| format!("{}: {}", control["control"], control["reason"]).replace('"', "");
    let controls: Vec<String> = run["controls"].as_array().unwrap().iter().map(said).collect();
    assert_eq!(controls, ["budgets: the plan has no budget", "gates: the plan has no gate"]);
    assert_eq!(project.json(&["verify", "--all"], 0)["ok"], true);
}

//! Parts of a training executed again, and two runs held side by side, as a user asks for them.

use serde_json::{json, Value};

use crate::project::Project;

const NONCE: &str = "000102030405060708090a0b0c0d0e0f";

/// A project with a run of 240 steps in 24 segments.
fn ran() -> Project {
    let project = Project::new();
    assert_ne!(
        project.answer(&["run", "--set", "train.leaf_every=10", "--set", "train.checkpoint_every=40"]).0,
        2
    );
    project
}

#[test]
fn steps_are_executed_from_the_checkpoint_before_them() {
    let project = ran();
    let report = project.json(&["replay", "latest", "--steps", "95..101"], 0);
    assert_eq!((&report["identical"], &report["task"]), (&json!(true), &json!("train")));
    // The four checkpoints that are kept of six are those of the steps 80, 120, 200 and 240.
    assert_eq!(report["stretches"][0]["checkpoint"], json!(80));
    assert_eq!((&report["steps"], &report["segments"]), (&json!(30), &json!(3)));
    assert_eq!(report["first_difference"], Value::Null);
    let shown = project.json(&["show"], 0);
    assert_eq!(shown["step_roots"]["train"], report["step_root"]);
    let root = shown["step_roots"]["train"]["root"].as_str().unwrap();
    let (_, text) = project.answer(&["show"]);
    assert!(text.contains(&format!("train {root} (24 segments)")), "{text}");
    let (exit, text) = project.answer(&["replay", "latest", "--steps", "95..101"]);
    let wanted = format!(
        "small-1 identical: 30 steps of task train executed again\n  step root  {root} (240 steps in 24 segments)\n  from the checkpoint of step 80: 30 steps, segments 8 to 10\n"
    );
    assert_eq!((exit, text), (0, wanted));
}

#[test]
fn a_sample_says_how_likely_a_forged_segment_escapes() {
    let project = ran();
    let report = project.json(&["replay", "latest", "--sample", "6", "--nonce", NONCE], 0);
    let sample = &report["sample"];
    assert_eq!(sample["escape_at_most"], json!({ "numerator": 18, "denominator": 24, "value": 0.75 }));
    assert_eq!((&sample["nonce"], &sample["short_nonce"]), (&json!(NONCE), &json!(false)));
    assert_eq!(sample["drawn"].as_array().unwrap().len(), 6);
    let (_, text) = project.answer(&["replay", "latest", "--sample", "6", "--nonce", "07"]);
    assert!(text.contains("with a probability of at most 18/24 = 0.7500"), "{text}");
    assert!(text.contains("warning: a nonce of fewer than 16 bytes can be guessed"), "{text}");
}

#[test]
fn what_is_no_range_and_no_nonce_is_usage() {
    let project = ran();
    let refused = |arguments: &[&str], wanted: &str| {
        let (exit, text) = project.answer(&[&["replay", "latest"], arguments].concat());
        assert!(exit == 2 && text.contains(wanted), "{arguments:?}: {exit}: {text}");
    };
    refused(&["--steps", "9..3"], "step 9 comes after step 3");
    refused(&["--steps", "0..3"], "steps are counted from 1");
    refused(&["--steps", "7"], "expected A..B");
    refused(&["--steps", "7..x"], "\"x\" is not the number of a step");
    refused(&["--steps", "230..241"], "which has the steps 1..240");
    refused(&["--steps", "1..3", "--sample", "3", "--nonce", NONCE], "cannot be used with");
    refused(&["--sample", "3"], "--nonce");
    refused(&["--nonce", NONCE], "--sample");
    refused(&["--sample", "0", "--nonce", NONCE], "0 is not in 1..");
    refused(&["--sample", "25", "--nonce", NONCE], "task train has 24");
    refused(&["--sample", "3", "--nonce", "abc"], "3 digits are an odd number");
    refused(&["--sample", "3", "--nonce", "zz"], "'z', which is no hex digit");
    refused(&["--steps", "1..3", "--stage", "split"], "0 trainings in stage \"split\"");
}

#[test]
fn bisection_is_told_in_words() {
    let project = ran();
    project.answer(&["run", "--set", "train.leaf_every=10", "--set", "train.checkpoint_every=40"]);
    let (exit, text) = project.answer(&["bisect", "small-1", "small-2"]);
    assert_eq!((exit, text.lines().next()), (0, Some("small-1 and small-2: identical")), "{text}");
    let other = ["train.leaf_every=10", "train.checkpoint_every=40", "train.learning_rate=0.04"];
    project.answer(&[&["run"][..], &other.map(|set| ["--set", set]).concat()].concat());
    let (exit, text) = project.answer(&["bisect", "small-1", "small-3"]);
    assert_eq!(exit, 1, "{text}");
    for wanted in [
        "small-1 and small-3: differs",
        "their ledgers part at task train",
        "params learning_rate: 0.05 and 0.04",
        "parts in segment 0 (steps 1 to 10), first in the forward or backward pass",
        "small-3: executed again from the initial parameters, it gives what it recorded",
        "both are what their plans compute; they part here: step 1: the update of the parameters, 0.bias, element 0",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    assert_eq!(project.answer(&["bisect", "small-1", "absent"]).0, 2);
}

//! Replays of commands: what diverges is named, what is tolerated is not called identical.

use std::fs;

use serde_json::{json, Value};

use crate::project::{Project, PIPELINE as NATIVE};

/// A stage `draw`, which writes `out` by the Python expression `drawn`, and a stage `after` that takes it.
fn pipeline(out: &str, drawn: &str, keys: &str) -> String {
    format!(
        r#"[pipeline]
name = "p"

[[stage]]
name = "draw"
command = ["python3", "-c", '''
import json, os, random, time
out = {drawn}
open("{out}", "wb").write(out if isinstance(out, bytes) else json.dumps(out).encode())
''']
outputs = {{ out = "{out}" }}
{keys}

[[stage]]
name = "after"
command = ["sh", "-c", "cat {{in:out}} {{in:out}} > twice"]
inputs = {{ out = "draw:out" }}
outputs = {{ twice = "twice" }}
"#
    )
}

fn replayed(pipeline: &str, arguments: &[&str], exit: i32) -> Value {
    let project = Project::with(pipeline);
    project.json(&["run"], 0);
    let report = project.json(&[&["replay", "latest"], arguments].concat(), exit);
    assert_eq!(project.json(&["verify", "--all"], 0)["ok"], Value::Bool(true));
    report
}

#[test]
fn what_does_not_repeat_is_named_down_to_the_byte_and_the_value() {
    let stamp = r#"dict(rows=3, at=time.time_ns())"#;
    let report = replayed(&pipeline("out.json", stamp, ""), &[], 1);
    let first = &report["first_divergence"];
    assert_eq!((&report["outcome"], &report["identical"]), (&json!("diverged"), &json!(false)));
    assert_eq!(
        (&first["task"], &first["output"], &first["pointer"]),
        (&json!("draw"), &json!("out"), &json!("/at"))
    );
    let byte = first["byte"].as_u64().unwrap() as usize;
    assert!(
        (r#"{"rows": 3, "at": "#.len()..r#"{"rows": 3, "at": 1234567890123456789"#.len()).contains(&byte),
        "{first}"
    );
    assert_ne!(first["recorded"]["text"], first["replayed"]["text"]);
    // What comes after is judged by what was recorded.
    assert_eq!(report["diverged_tasks"], json!(["draw"]));
    assert_eq!((&report["tasks"], &report["not_judged_tasks"]), (&json!(2), &json!([])));
    assert_ne!(report["ledger_root_recorded"], report["ledger_root_replayed"]);

    let bytes = pipeline("out.bin", r#"b"same" + time.time_ns().to_bytes(8, "little")"#, "");
    let first = &replayed(&bytes, &[], 1)["first_divergence"];
    assert!((4..12).contains(&first["byte"].as_u64().unwrap()), "{first}");
    assert_eq!((&first["recorded_bytes"], &first["replayed_bytes"]), (&json!(12), &json!(12)));

    let report = replayed(&pipeline("out.json", "dict(rows=3, at=4)", ""), &[], 0);
    assert_eq!((&report["outcome"], &report["first_divergence"]), (&json!("identical"), &Value::Null));
}

#[test]
fn a_divergence_is_told_in_words() {
    let project = Project::with(&pipeline("out.json", "dict(at=time.time_ns())", ""));
    project.json(&["run"], 0);
    let (exit, text) = project.answer(&["replay", "latest"]);
    assert_eq!(exit, 1, "{text}");
    for wanted in ["p-1 diverged", "first divergence: task draw, output out", "/at"] {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
}

#[test]
fn within_tolerance_is_not_identical() {
    let noisy = "dict(loss=0.5 + random.random() * 1e-6)";
    let tolerant = pipeline("out.json", noisy, "replay = { rtol = 1e-5, atol = 0.0 }");
    let report = replayed(&tolerant, &[], 0);
    assert_eq!((&report["outcome"], &report["identical"]), (&json!("within_tolerance"), &json!(false)));
    let tolerated = &report["within_tolerance"][0];
    assert_eq!(
        (&tolerated["task"], &tolerated["output"], &tolerated["numbers"]),
        (&json!("draw"), &json!("out"), &json!(1))
    );
    assert!(tolerated["absolute"]["value"].as_f64().unwrap() <= 1e-6, "{tolerated}");
    assert_eq!((&report["diverged_tasks"], &report["tasks"]), (&json!([]), &json!(2)));

    let strict = pipeline("out.json", noisy, "replay = { rtol = 1e-15, atol = 0.0 }");
    assert_eq!(replayed(&strict, &[], 1)["outcome"], "diverged");
    let steady = pipeline("out.json", "dict(loss=0.5)", "replay = { rtol = 1e-5, atol = 0.0 }");
    assert_eq!(replayed(&steady, &[], 0)["outcome"], "identical");
    // Only numbers are tolerated.
    let text =
        pipeline("out.json", r#"dict(loss=str(time.time_ns()))"#, "replay = { rtol = 1.0, atol = 1.0 }");
    assert_eq!(replayed(&text, &[], 1)["first_divergence"]["pointer"], "/loss");
}

#[test]
fn what_is_recorded_only_is_not_executed() {
    let stamp = "dict(at=time.time_ns())";
    let report = replayed(&pipeline("out.json", stamp, "replay = \"record\""), &[], 0);
    assert_eq!((&report["outcome"], &report["recorded_tasks"]), (&json!("identical"), &json!(["draw"])));
    assert_eq!((&report["tasks"], &report["diverged_tasks"]), (&json!(1), &json!([])));
    assert_eq!(replayed(&pipeline("out.json", stamp, ""), &[], 1)["recorded_tasks"], json!([]));
}

#[test]
fn one_stage_is_replayed_alone() {
    let stamp = pipeline("out.json", "dict(at=time.time_ns())", "");
    let report = replayed(&stamp, &["--stage", "after"], 0);
    assert_eq!((&report["outcome"], &report["tasks"]), (&json!("identical"), &json!(1)));
    let report = replayed(&stamp, &["--stage", "draw"], 1);
    assert_eq!((&report["diverged_tasks"], &report["tasks"]), (&json!(["draw"]), &json!(1)));
    let refused = replayed(&stamp, &["--stage", "absent"], 2);
    assert!(refused["message"].as_str().unwrap().contains("absent"), "{refused}");
}

#[test]
fn a_recorded_byte_that_was_changed_is_damage_and_no_divergence() {
    let project = Project::with(&pipeline("out.json", "dict(at=4)", ""));
    project.json(&["run"], 0);
    let object = project.output("p-1", "draw", "out");
    let mut permissions = fs::metadata(&object).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "the folder is this test's alone")]
    permissions.set_readonly(false);
    fs::set_permissions(&object, permissions).unwrap();
    fs::write(&object, "{\"at\": 5}").unwrap();
    let (exit, text) = project.answer(&["replay", "latest"]);
    let name = object.file_name().unwrap().to_str().unwrap();
    assert!(exit == 1 && text.contains(name) && !text.contains("diverge"), "{exit}: {text}");
}

#[test]
fn a_manifest_is_replayed_on_another_store() {
    let project = Project::with(NATIVE);
    project.json(&["run"], 0);
    let manifest = project.store().join("runs/small-1/manifest.json");
    let manifest = manifest.to_str().unwrap();
    let other = Project::new();
    fs::remove_file(other.path().join("rows.csv")).unwrap();
    fs::remove_file(other.path().join("bitproof.toml")).unwrap();
    let rows = format!("rows={}", project.path().join("rows.csv").display());
    let elsewhere = ["-C", other.path().to_str().unwrap()];
    let replay = |rest: &[&str], exit| project.json(&[&elsewhere, rest].concat(), exit);
    let report = replay(&["replay", manifest, "--data", &rows], 0);
    assert_eq!((&report["outcome"], &report["tasks"]), (&json!("identical"), &json!(4)));
    let without = replay(&["replay", manifest], 3);
    assert!(without["message"].as_str().unwrap().contains("--data rows=PATH"), "{without}");
    other.write("rows.csv", "1,2,0\n");
    let changed = format!("rows={}", other.path().join("rows.csv").display());
    let changed = replay(&["replay", manifest, "--data", &changed], 3);
    assert!(changed["message"].as_str().unwrap().contains("rows"), "{changed}");
}

#[test]
fn a_manifest_of_commands_is_replayed_from_a_checkout() {
    const PIPELINE: &str = r#"[pipeline]
name = "p"
[data.rows]
path = "rows.csv"
[[stage]]
name = "sum"
command = ["python3", "src/sum.py", "{in:rows}", "{out:sum}"]
code = ["**/*.py"]
inputs = { rows = "data:rows" }
outputs = { sum = "sum.txt" }
"#;
    const CODE: &str = "import sys\nrows = open(sys.argv[1]).read().split()\nopen(sys.argv[2], \"w\").write(str(len(rows)))\n";
    let project = Project::with(PIPELINE);
    project.write("src/sum.py", CODE);
    project.json(&["run"], 0);
    assert_eq!(fs::read_to_string(project.output("p-1", "sum", "sum")).unwrap(), "80");
    let manifest = project.store().join("runs/p-1/manifest.json");
    let manifest = manifest.to_str().unwrap();
    let checkout = Project::with(PIPELINE);
    checkout.write("src/sum.py", CODE);
    let rows = ["--data", "rows=rows.csv"];
    let replay = |exit| checkout.json(&[&["replay", manifest], &rows[..]].concat(), exit);
    assert_eq!(replay(0)["outcome"], "identical");
    checkout.write("src/sum.py", &CODE.replace("len(rows)", "len(rows) + 1"));
    let other = replay(3);
    assert!(other["message"].as_str().unwrap().contains("src/sum.py"), "{other}");
}

//! What a command leaves, and what is said when it is not what it declares.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bitproof_scheduler::command::Made;
use bitproof_scheduler::ledger::Failure;

use crate::stage::{every_tier, Stage};

/// What is said of a stage that is refused.
fn refused(stage: &Stage) -> String {
    let (how, message) = stage.failure();
    assert_eq!(how, Failure::Refused, "{message}");
    message
}

#[test]
fn files_folders_and_metrics_are_taken() {
    for tier in every_tier() {
        let mut stage = Stage::sh(
            "echo 1 > made/a; mkdir -p model/deep; echo 2 > model/deep/b; echo 3 > made/m.json; echo 4 > metrics.jsonl",
        )
        .isolated(tier)
        .output("a", "made/a")
        .output("model", "model/");
        stage.spec.metrics = ["metrics.jsonl", "made/m.json"].map(str::to_owned).to_vec();
        let finished = stage.run().unwrap();
        let read = |path: &std::path::Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(finished.outputs["a"].path()), "1\n");
        assert!(matches!(finished.outputs["a"], Made::File(_)));
        assert!(matches!(finished.outputs["model"], Made::Folder(_)));
        assert_eq!(read(&finished.outputs["model"].path().join("deep/b")), "2\n");
        let metrics: Vec<_> = finished.metrics.iter().map(|path| read(path)).collect();
        assert_eq!(metrics, ["4\n", "3\n"]);
        let kept = finished.outputs["a"].path().to_owned();
        drop(finished);
        assert!(!kept.exists() && !stage.dir.path().join("scratch").exists());
    }
}

#[test]
fn what_is_missing_or_of_another_kind_is_named() {
    let cases = [
        ("true", "output x is missing: nothing was written to d/x"),
        ("rmdir d", "output x is missing"),
        ("mkdir d/x", "output x: d/x is a folder, not a file\n  hint: end its path with /"),
        (
            "ln -s /etc/passwd d/x",
            "output x: d/x is a link, not a file\n  hint: put the content itself there",
        ),
        ("rmdir d; ln -s /etc d", "output x: d is a link, not a folder"),
        ("rmdir d; echo > d", "output x: d is a file, not a folder"),
        ("mkfifo d/x", "output x: d/x is a pipe, not a file"),
    ];
    for (script, expected) in cases {
        let message = refused(&Stage::sh(script).output("x", "d/x"));
        assert!(message.starts_with(expected), "{script}: {message}");
    }
    let message = refused(&Stage::sh("echo > x").output("x", "x/"));
    assert!(message.starts_with("output x: x is a file, not a folder"), "{message}");
    let mut stage = Stage::sh("true");
    stage.spec.metrics.push("m.json".into());
    assert!(refused(&stage).starts_with("metrics m.json is missing"));
}

#[test]
fn a_folder_holds_plain_files_and_folders_only() {
    let cases = [
        ("ln -s /etc/passwd m/a/link", "output m: m/a/link is a"),
        ("ln -s .. m/a/up", "output m: m/a/up is a"),
        ("mkfifo m/pipe", "output m: m/pipe is a"),
        ("touch \"$(printf 'm/a\\377')\"", "output m: the name \"m/a\u{fffd}\" is not UTF-8"),
        ("touch \"$(printf 'm/a\\033[2J')\"", "output m: the name \"m/a\\u{1b}[2J\" is not"),
        ("i=0; while [ $i -lt 140 ]; do mkdir d; cd d; i=$((i+1)); done; cd /; true", "output m is missing"),
        (
            "cd m; i=0; while [ $i -lt 140 ]; do mkdir d; cd d; i=$((i+1)); done",
            "output m: a folder that is recorded has at most 128 ",
        ),
    ];
    for (script, expected) in cases {
        let script =
            if expected.contains("missing") { script.to_owned() } else { format!("mkdir -p m/a; {script}") };
        let message = refused(&Stage::sh(&script).output("m", "m/"));
        assert!(message.contains(expected), "{script}: {message}");
    }
    let fine = Stage::sh("mkdir -p m/a/b; echo > 'm/a/ä b'").output("m", "m/");
    fine.run().unwrap();
}

#[test]
fn what_is_undeclared_is_counted_and_named() {
    let message = refused(&Stage::sh("echo > {out:x}; echo > b; mkdir a; echo > a/inner").output("x", "x"));
    let expected = "it left 2 undeclared files or folders: a/, b\n  hint: declare them";
    assert!(message.starts_with(expected), "{message}");
    let message = refused(
        &Stage::sh("echo > d/x; ln -s /etc d/y; echo > inputs/extra").input("i", "").output("x", "d/x"),
    );
    assert!(message.starts_with("it left 2 undeclared files or folders: d/y, inputs/extra\n"), "{message}");
    let message = refused(&Stage::sh("touch \"$(printf 'a\\033\\377')\""));
    assert!(message.starts_with("it left 1 undeclared file or folder: a\\u{1b}\u{fffd}\n"), "{message}");
    Stage::sh("echo > $TMPDIR/x; mkdir $HOME/y").run().expect("that is what these are for");
}

#[test]
fn a_hundred_thousand_undeclared_files_are_counted() {
    let message = refused(&Stage::sh("seq 100000 | xargs touch"));
    let expected = "it left 100000 undeclared files or folders: 1, 10, 100, 1000, 10000, …\n";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_command_that_changes_what_it_was_given_fails() {
    for tier in every_tier() {
        let cases = [
            ("echo y > inputs/data", "it changed data,"),
            ("rm inputs/data", "it changed data,"),
            ("rm inputs/data; ln -s /etc/passwd inputs/data", "it changed data,"),
            ("mv inputs/data d; mkdir inputs/data", "it changed data,"),
            ("echo 2 > src/a.py", "it changed src/a.py,"),
            ("rm -r src; ln -s /usr src", "it changed src/a.py,"),
            ("echo > inputs/images/extra", "it changed images,"),
            ("rm inputs/images/b/c", "it changed images,"),
            ("chmod +x inputs/images/a", "it changed images,"),
            ("echo 3 > inputs/images/b/c", "it changed images,"),
        ];
        for (script, expected) in cases {
            let stage = Stage::sh(script)
                .isolated(tier)
                .code("src/a.py", "1")
                .input("data", "x")
                .folder("images", &[("a", "1"), ("b/c", "2")]);
            let message = refused(&stage);
            assert!(message.starts_with(expected), "{tier}: {script}: {message}");
            // What it changed is its own copy.
            assert_eq!(fs::read_to_string(stage.dir.path().join("data")).unwrap(), "x");
            assert_eq!(fs::read_to_string(stage.dir.path().join("images/b/c")).unwrap(), "2");
        }
        let stage =
            Stage::sh("cat inputs/data > $TMPDIR/copy; touch inputs/data").isolated(tier).input("data", "x");
        stage.run().expect("a date is no content");
    }
}

#[test]
fn an_output_that_is_the_same_file_as_an_input_is_that_content() {
    let stage = Stage::sh("ln inputs/data {out:x}").input("data", "data").output("x", "x");
    assert_eq!(stage.text(), "data");
}

#[test]
fn folders_that_nobody_may_write_to_are_removed() {
    let stage = Stage::sh("mkdir -p {out:m}/a/b; echo > {out:m}/a/b/c; chmod 555 {out:m}/a/b {out:m}/a")
        .output("m", "m/");
    let finished = stage.run().unwrap();
    let inner = finished.outputs["m"].path().join("a/b");
    assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o555);
    drop(finished);
    assert!(!stage.dir.path().join("scratch").exists());
}

//! Commands that misbehave: how the run ends, what it says, that nothing is left running, and that the store verifies.

use std::fs;
use std::net::TcpListener;

use serde_json::Value;

use crate::process::files_below;
use crate::project::Project;

/// A pipeline with one command `bad`, of which `keys` are the rest.
fn pipeline(keys: &str) -> String {
    let inputs = if keys.contains("inputs =") { "" } else { "inputs = { rows = \"data:rows\" }\n" };
    let outputs = if keys.contains("outputs =") { "" } else { "outputs = { out = \"out.txt\" }\n" };
    format!(
        "[pipeline]\nname = \"p\"\n\n[data.rows]\npath = \"rows.csv\"\n\n[[stage]]\nname = \"bad\"\n{inputs}{outputs}{keys}\n"
    )
}

fn sh(script: &str) -> String {
    format!("command = [\"sh\", \"-c\", '''{script}''']\n")
}

fn python(script: &str) -> String {
    format!("command = [\"python3\", \"-c\", '''\n{script}\n''']\n")
}

/// What a stage with these keys ends with, `verify --all` holding afterwards and nothing left running.
fn end_of(keys: &str) -> (i32, String, Project) {
    let project = Project::with(&pipeline(keys));
    let (exit, text) = project.answer(&["run"]);
    project.assert_nothing_is_left(keys);
    if project.store().exists() {
        let verified = project.json(&["verify", "--all"], 0);
        assert_eq!(verified["ok"], Value::Bool(true), "{keys}: {verified}");
    }
    (exit, text, project)
}

/// The stage ends with `exit` and all of `says`; changed by `control`, it passes.
fn misbehaves(keys: &str, exit: i32, says: &[&str], control: (&str, &str)) {
    let (got, text, project) = end_of(keys);
    assert_eq!(got, exit, "{keys}: {text}");
    for wanted in says.iter().chain(&["bad"]) {
        assert!(text.contains(wanted), "{keys}: {wanted:?} is not in\n{text}");
    }
    let status = if exit == 3 { "incomplete" } else { "failed" };
    assert_eq!(project.json(&["runs"], 0)["runs"][0]["status"], status, "{keys}");
    let well = keys.replacen(control.0, control.1, 1);
    assert_ne!(well, keys, "{:?} is not in it", control.0);
    let (got, text, _) = end_of(&well);
    assert_eq!(got, 0, "the control of {keys}: {text}");
}

/// Whether this machine has a tier. CI, which has them all, fails when one is skipped.
fn has(tier: &str) -> bool {
    let project = Project::with(&pipeline(&format!("{}isolation = \"{tier}\"", sh("echo > out.txt"))));
    let (exit, text) = project.answer(&["run"]);
    if exit == 2 && text.contains("cannot be reached here") {
        println!("SKIPPED: {text}");
        return false;
    }
    assert_eq!(exit, 0, "{text}");
    true
}

fn confined() -> impl Iterator<Item = &'static str> {
    ["landlock", "strict"].into_iter().filter(|tier| has(tier))
}

#[test]
fn what_is_not_declared_is_neither_read_nor_written() {
    let elsewhere = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let secret = elsewhere.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    let secret = secret.to_str().unwrap();
    for tier in confined() {
        let isolation = format!("isolation = \"{tier}\"");
        let open = (isolation.as_str(), "isolation = \"none\"");
        let keys = format!("{}{isolation}", sh(&format!("cat {secret} > out.txt")));
        let says = ["failed: sh ended with exit code 1", "cat: ", "hint: ", "add the file to code or inputs"];
        misbehaves(&keys, 1, &says, open);

        let keys = format!("{}{isolation}", sh(&format!("echo more >> {secret} && echo > out.txt")));
        let before = fs::read(secret).unwrap();
        let (exit, text, _) = end_of(&keys);
        assert_eq!((exit, fs::read(secret).unwrap()), (1, before), "{text}");
        misbehaves(&keys, 1, &["failed: sh ended with exit code 2", "hint: "], open);
        assert!(fs::read_to_string(secret).unwrap().ends_with("more\n"), "the control wrote there");
    }
}

#[test]
fn the_network_is_not_open() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for tier in confined() {
        let isolation = format!("isolation = \"{tier}\"");
        let connect = format!(
            "import socket; socket.create_connection((\"127.0.0.1\", {port})); open(\"out.txt\", \"w\")"
        );
        let keys = format!("{}{isolation}", python(&connect));
        let says = ["failed: python3 ended with exit code 1", "Error: [Errno", "hint: ", "it has no network"];
        misbehaves(&keys, 1, &says, (&isolation, "isolation = \"none\""));
    }
}

#[test]
fn a_daemon_ends_with_its_stage() {
    // Twice forked and in a session of its own; the stage ends once it is up.
    let script = r#"
import os, time
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(writer, b"up")
        os.close(writer)
        time.sleep(1000)
    os._exit(0)
open("out.txt", "wb").write(os.read(reader, 2))
"#;
    for tier in ["none"].into_iter().chain(confined()) {
        let (exit, text, project) = end_of(&format!("{}isolation = \"{tier}\"", python(script)));
        assert_eq!(exit, 0, "{tier}: {text}");
        assert_eq!(
            fs::read(project.output("p-1", "bad", "out")).unwrap(),
            b"up",
            "{tier}: there was a daemon"
        );
    }
}

#[test]
fn a_timeout_ends_what_ignores_being_told() {
    let script = sh("trap '' TERM; while :; do sleep 1; done; echo > out.txt");
    let says = ["was stopped after its timeout of 1s", "hint: give the stage a longer timeout", "tried once"];
    misbehaves(&format!("{script}timeout = \"1s\""), 3, &says, ("while :;", "while false;"));
}

#[test]
fn of_much_that_is_printed_little_is_kept() {
    let print = "head -c 33554432 /dev/zero | tr '\\0' x; head -c 33554432 /dev/zero | tr '\\0' y >&2; echo > out.txt";
    let (exit, text, project) = end_of(&sh(print));
    assert_eq!(exit, 0, "{text}");
    let kept = fs::metadata(project.store().join("runs/p-1/observed/0000000.jsonl")).unwrap().len();
    assert!((2 << 20..16 << 20).contains(&kept), "{kept} bytes");
}

#[test]
fn a_command_leaves_what_it_declares_and_nothing_else() {
    let many = python("for i in range(20000): open(\"f%05d\" % i, \"w\")\nopen(\"out.txt\", \"w\")");
    let says = ["it left 20000 undeclared files or folders: f00000", "hint: declare them as outputs"];
    misbehaves(&many, 1, &says, ("20000", "0"));
    let extra = sh("echo > out.txt; echo > extra.txt");
    let says = ["it left 1 undeclared file or folder: extra.txt", "hint: declare them as outputs"];
    misbehaves(&extra, 1, &says, ("; echo > extra.txt", ""));
    let says = ["output out is missing: nothing was written to out.txt", "hint: write it there"];
    misbehaves(&sh("echo > ../out.txt || true"), 1, &says, ("../", ""));
    let says = ["output out: out.txt is a link, not a file", "hint: "];
    misbehaves(&sh("ln -s inputs/rows out.txt"), 1, &says, ("ln -s", "cp"));
    let says = ["output out: out.txt is a folder, not a file", "hint: "];
    misbehaves(&sh("mkdir out.txt"), 1, &says, ("mkdir", "touch"));
    let says = ["it changed rows, which it was given", "hint: write to a copy"];
    let change = sh("chmod u+w inputs/rows; echo 1 >> inputs/rows; echo > out.txt");
    misbehaves(&change, 1, &says, ("echo 1 >>", "cat"));
}

#[test]
fn how_a_command_ends_decides_whose_failure_it_is() {
    let fail = "echo the reason >&2; exit 7; echo > out.txt";
    misbehaves(
        &sh(fail),
        1,
        &["failed: sh ended with exit code 7", "  | the reason", "hint: "],
        ("exit 7;", "true;"),
    );
    let crash = sh("echo > out.txt; kill -SEGV $$");
    misbehaves(&crash, 1, &["failed: sh ended by SIGSEGV", "hint: "], ("; kill -SEGV $$", ""));
    let killed = sh("echo > out.txt; kill -KILL $$") + "retries = 2";
    let says = ["sh was ended by SIGKILL from outside", "hint: ", "tried 3 times"];
    misbehaves(&killed, 3, &says, ("; kill -KILL $$", ""));
    let absent = "command = [\"no-such-program\", \"-c\", \"echo > out.txt\"]\n";
    let says = ["no-such-program was not found in ", "hint: install it"];
    misbehaves(absent, 3, &says, ("no-such-program", "sh"));
}

#[test]
fn the_failure_is_in_the_json_too() {
    let project = Project::with(&pipeline(&sh("exit 7")));
    let report = project.json(&["run"], 1);
    let failure = report["stages"][0]["failure"].as_str().unwrap();
    assert!(failure.starts_with("sh ended with exit code 7"), "{failure}");
    project.write("bitproof.toml", &pipeline(&sh("echo > out.txt")));
    assert_eq!(project.json(&["run"], 0)["stages"][0]["failure"], Value::Null);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let good = sh("echo > out.txt");
    for (keys, says) in [
        ("command = [\"cp\", \"{in:row}\", \"{out:out}\"]\n".to_owned(), &["row", "hint: "][..]),
        (
            "command = [\"cp\", \"{in:rows}\", \"{put:out}\"]\n".to_owned(),
            &["is not a placeholder", "hint: "],
        ),
        (format!("{good}tools = [\"gpu\"]"), &["gpu", "hint: "]),
        (format!("{good}isolation = \"best-effort\""), &["best-effort", "hint: "]),
        (format!("{good}timeout = \"1 fortnight\""), &["1 fortnight", "hint: "]),
        (format!("{good}code = [\"absent.py\"]"), &["absent.py", "hint: "]),
        (format!("{good}outputs = {{ out = \"../out.txt\" }}"), &["../out.txt", "hint: "]),
        (format!("{good}outputs = {{ out = \"/tmp/out.txt\" }}"), &["/tmp/out.txt", "hint: "]),
    ] {
        let (exit, text, project) = end_of(&keys);
        assert_eq!(exit, 2, "{keys}: {text}");
        for wanted in says.iter().chain(&["bitproof.toml:"]) {
            assert!(text.contains(wanted), "{keys}: {wanted:?} is not in\n{text}");
        }
        assert_eq!(files_below(&project.store()), 0, "{keys}");
    }
    assert_eq!(end_of(&good).0, 0);
    let project =
        Project::with(&(pipeline(&format!("{good}tools = [\"gpu\"]")) + "[tools.gpu]\npath = \"gpu\""));
    let (exit, text) = project.answer(&["run"]);
    assert_eq!((exit, files_below(&project.store())), (2, 0), "{text}");
    assert!(text.contains("gpu") && text.contains("--tool gpu=PATH"), "{text}");
}

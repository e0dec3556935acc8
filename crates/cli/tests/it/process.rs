//! Exit codes, messages, JSON, kills.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::project::{Project, PIPELINE};

#[test]
fn the_main_job_end_to_end() {
    let project = Project::new();
    let (exit, text) = project.answer(&["run"]);
    assert_eq!(exit, 0, "{text}");
    for wanted in
        ["made a key: ", "made a store: ", "no baseline yet", "ledger root", "next: bitproof replay small-1"]
    {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    let first = project.json(&["show", "small-1"], 0);

    let again = project.json(&["run"], 0);
    assert_eq!(again["tasks"]["cached"], 4);
    assert_eq!(again["ledger_root"], first["ledger_root"]);
    assert_eq!(again["gates"][0]["outcome"], "pass", "the first run is the second's baseline");
    let anew = project.json(&["run", "--no-cache", "-j", "8", "--threads", "3"], 0);
    assert_eq!((anew["tasks"]["executed"].as_u64(), &anew["ledger_root"]), (Some(4), &first["ledger_root"]));

    let replayed = project.json(&["replay", "latest"], 0);
    assert_eq!(replayed["outcome"], "identical");
    assert_eq!(replayed["ledger_root_replayed"], first["ledger_root"]);
    let verified = project.json(&["verify", "--all"], 0);
    assert_eq!((&verified["ok"], verified["findings"].as_array().unwrap().len()), (&Value::Bool(true), 0));
    assert_eq!(verified["unreferenced"].as_array().unwrap().len(), 0, "{verified}");
    let vkey = verified["signed_by"].as_str().unwrap();
    project.json(&["verify", "--vkey", vkey], 0);
    assert_eq!(project.json(&["runs"], 0)["runs"].as_array().unwrap().len(), 3);
}

#[test]
fn another_key_is_refused_by_vkey() {
    let project = Project::new();
    assert_eq!(project.answer(&["run"]).0, 0);
    let shown = |arguments: &[&str]| project.json(arguments, 0)["vkey"].as_str().unwrap().to_owned();
    let mut own = shown(&["key", "show", "log"]);
    assert_eq!(project.answer(&["verify", "--vkey", &own]).0, 0);
    // The same key under another name is another signer.
    let nowhere = project.path().join("nowhere");
    let other = shown(&["key", "show", "log", "--store", nowhere.to_str().unwrap()]);
    let (exit, text) = project.answer(&["verify", "--vkey", &other]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("no key that may sign for them is bitproof.local/log"), "{text}");
    own.truncate(20);
    assert_eq!(project.answer(&["verify", "--vkey", &own]).0, 2);
}

#[test]
fn a_worse_run_fails_the_gate_and_says_why() {
    let project = Project::new();
    assert_eq!(project.answer(&["run"]).0, 0);
    let (exit, text) = project.answer(&["run", "--set", "train.epochs=1"]);
    assert_eq!(exit, 1, "{text}");
    for wanted in
        ["evaluate/accuracy fell from", "(small-1) to", "regress 0.", "params train.epochs: 20 -> 1"]
    {
        assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
    }
    let gate = project.json(&["gate", "small-2", "--baseline", "small-1"], 1);
    assert_eq!(gate["verdict"], "fail");
    let compared = project.json(&["compare", "small-1", "small-2"], 0);
    let pair = &compared["candidates"][0];
    assert_eq!(
        (&pair["like_for_like"], &pair["factors"][0]["name"]),
        (&Value::Bool(true), &Value::from("train.epochs"))
    );
    let third = project.json(&["run"], 0);
    assert_eq!(third["gates"][0]["outcome"], "pass", "a failed run is no baseline");
    let (_, shown) = project.answer(&["gate", "small-2", "--format", "junit"]);
    assert!(shown.contains("failures=\"1\""), "{shown}");
    assert_eq!(project.answer(&["verify"]).0, 0);
}

#[test]
fn tight_budgets_and_missing_metrics_fail() {
    let project = Project::new();
    project.write("tight.toml", &PIPELINE.replace("volume <= 100000", "volume <= 3"));
    let (exit, text) = project.answer(&["run", "tight.toml"]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("fail: volume <= 3 does not hold: measured 240 counts, bound 3 counts"), "{text}");
    project.write(
        "absent.toml",
        &PIPELINE.replace("metric = \"evaluate/accuracy\"", "metric = \"evaluate/recall\""),
    );
    let (exit, text) = project.answer(&["run", "absent.toml"]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("evaluate/recall is missing in small-2"), "{text}");
    project.write(
        "policy.toml",
        "[[gate]]\nmetric = \"evaluate/loss\"\nbetter = \"lower\"\nfail = [\"value <= 100\"]\n",
    );
    assert_eq!(project.json(&["gate", "small-1", "--policy", "policy.toml"], 0)["verdict"], "pass");
}

#[test]
fn a_tampered_ledger_is_named_and_not_called_a_divergence() {
    let project = Project::new();
    assert_eq!(project.answer(&["run"]).0, 0);
    let path = project.store().join("runs/small-1/ledger.log");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    for command in ["verify", "replay"] {
        let (exit, text) = project.answer(&[command, "latest"]);
        assert_eq!(exit, 1, "{text}");
        assert!(text.contains("runs/small-1/ledger.log at byte "), "{text}");
        assert!(!text.contains("diverge"), "{text}");
    }
}

#[test]
fn the_environment_the_folder_and_the_user_change_nothing() {
    let (here, there) = (Project::new(), Project::new());
    let first = here.json(&["run", "-j", "1"], 0);
    let elsewhere = tempfile::tempdir().unwrap();
    let pipeline = there.path().join("bitproof.toml");
    let output = there
        .command(&["run", pipeline.to_str().unwrap(), "--json", "-j", "8"])
        .current_dir(elsewhere.path())
        .env("TZ", "Asia/Kathmandu")
        .env("LANG", "tr_TR.UTF-8")
        .env("LC_ALL", "tr_TR.UTF-8")
        .env("HOME", elsewhere.path())
        .env("USER", "somebody")
        .env("BITPROOF_ISA", "scalar")
        .output()
        .unwrap();
    let second: Value = serde_json::from_slice(&output.stdout).unwrap();
    for field in ["plan_digest", "ledger_root", "result_root", "metrics"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    for file in ["manifest.json", "artifacts/package/model.safetensors", "plan.bin", "ledger.log"] {
        let read = |p: &Project| fs::read(p.store().join("runs/small-1").join(file)).unwrap();
        assert_eq!(read(&here), read(&there), "{file}");
    }
}

#[test]
fn bad_input_ends_with_2_a_place_and_a_hint_and_writes_nothing() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("epochs = 20", "epoch = 20", ":19:39: unknown key \"epoch\" in the `with` of a train stage", "did you mean \"epochs\"?"),
        ("epochs = 20", "epochs = \"many\"", "epochs must be a whole number from 1 to 100000, got a text", "write epochs as"),
        ("epochs = 20", "epochs = 0", "epochs must be from 1 to 100000, got 0", "within its bounds"),
        ("epochs = 20", "epochs = 100001", "got 100001", "within its bounds"),
        ("epochs = 20", "epochs = 99999999999999999999", "got a whole number beyond 64 bits", "write epochs"),
        ("batch = 4", "batch = 0", "batch must be from 1 to 65536", "bounds"),
        ("hidden = [8]", "hidden = [0]", "each of hidden must be from 1 to 65536", "bounds"),
        ("hidden = [8]", "hidden = [65536, 65536]", "the model would have 4295360514 parameters", "a smaller one"),
        ("lanes = 2", "lanes = 0", ":4:9: lanes must be from 1 to 1024, got 0", "bounds"),
        ("seed = 7", "sede = 7", ":3:1: unknown key \"sede\" in [pipeline]", "did you mean \"seed\"?"),
        ("seed = 7", "seed = 7.5", "seed must be a whole number", "write seed"),
        ("seed = 7", "seed = ", ":3:", "hint: see docs/reference/pipeline.md"),
        ("name = \"evaluate\"", "name = \"train\"", "there are two stages named \"train\"", "its own name"),
        ("\"train:model\", \"split:test\"", "\"trian:model\", \"split:test\"", "takes trian:model, which does not exist", "did you mean \"train\"?"),
        ("\"train:model\", \"split:test\"", "\"train:modle\", \"split:test\"", "but train has no such output", "did you mean \"model\"?"),
        ("\"train:model\", \"split:test\"", "\"split:test\", \"train:model\"", "cannot work with these inputs", "it takes a model and a dataset part"),
        ("inputs = [\"data:rows\"]", "inputs = [\"data:row\"]", "takes data:row, which does not exist", "did you mean \"rows\"?"),
        ("inputs = [\"data:rows\"]", "inputs = [\"data:rows\"]\nafter = [\"evaluate\"]", "the stages wait for each other: split -> evaluate -> split", "circle"),
        ("uses = \"evaluate\"", "uses = \"evalute\"", "no built-in stage \"evalute\"", "did you mean \"evaluate\"?"),
        ("path = \"rows.csv\"", "path = \"../rows.csv\"", "does not stay inside", "--data NAME=PATH"),
        ("path = \"rows.csv\"", "path = \"absent.csv\"", ":7:8: cannot read absent.csv", "put the file there"),
        ("path = \"rows.csv\"", "path = \"empty.csv\"", "empty.csv: the file is empty", "correct the file"),
        ("path = \"rows.csv\"", "path = \"ragged.csv\"", "ragged.csv: line 2, column 3: the row has 2 columns, the first has 3", "correct the file"),
        ("path = \"rows.csv\"", "path = \"word.csv\"", "word.csv: line 2, column 1: \"two\" is not a number", "correct the file"),
        ("path = \"rows.csv\"", "path = \"nan.csv\"", "nan.csv: line 2, column 2: \"nan\" is not a finite number", "correct the file"),
        ("path = \"rows.csv\"", "path = \"label.csv\"", "label.csv: line 2, column 3: \"-1\" cannot be a label", "correct the file"),
        ("path = \"rows.csv\"", "path = \"rows.csv\"\nblake3 = \"0000000000000000000000000000000000000000000000000000000000000000\"", ":8:10: rows.csv does not have the pinned digest", "pin the new digest"),
        ("label = \"last\"", "label = 3", "rows.csv: there is no label column 3; the file has 3 columns", "correct the file"),
        ("label = \"last\"", "label = \"kind\"", "label names a column, but the data has no header", "header = true"),
        ("fail = [\"max <= 1h\"", "fail = [\"max <= 1 parsec\"", "has the unit \"parsec\"", "for example"),
        ("fail = [\"value >= 0.8\"", "fail = [\"value = 0.8\"", "\"value = 0.8\" is not a rule", "for example"),
        ("\"budgets\", \"gates\"", "\"budgets\", \"gate\"", ":42:39: unknown control \"gate\"", "did you mean \"gates\"?"),
        ("\"budgets\", \"gates\"", "\"approval\"", "unknown control \"approval\"", "there are: inputs-pinned, clean-source, artifacts-signed, budgets, gates"),
        ("\"budgets\", \"gates\"", "\"budgets\", \"budgets\"", "the control budgets is listed twice", "once"),
        ("run = [\"artifacts", "promote = [\"gates\"]\nrun = [\"artifacts", ":42:1: unknown key \"promote\" in [governance]", "there are: run"),
        ("run = [\"artifacts-signed\", \"budgets\", \"gates\"]", "", "[governance] has no run", "add run"),
        ("run = [\"artifacts-signed\", \"budgets\", \"gates\"]", "run = \"gates\"", "run must be a list in brackets, got a text", "write run"),
        ("[[budget]]\nmetric = \"train/step_wall_ns\"\nfail = [\"max <= 1h\", \"volume <= 100000\"]", "", "the control budgets has nothing to judge: there is no [[budget]]", "leave it out"),
        ("metric = \"evaluate/accuracy\"", "metric = \"evalute/accuracy\"", "is of no stage of this pipeline", "did you mean \"evaluate\"?"),
    ];
    let project = Project::new();
    for (name, text) in [
        ("empty.csv", ""),
        ("ragged.csv", "1,2,0\n1,1\n"),
        ("word.csv", "1,2,0\ntwo,2,1\n"),
        ("nan.csv", "1,2,0\n1,nan,1\n"),
        ("label.csv", "1,2,0\n1,2,-1\n"),
    ] {
        project.write(name, text);
    }
    for (from, to, message, hint) in cases {
        let text = PIPELINE.replacen(from, to, 1);
        assert_ne!(text, PIPELINE, "{from:?} is not in the pipeline");
        project.write("bad.toml", &text);
        let (exit, said) = project.answer(&["run", "bad.toml"]);
        assert_eq!(exit, 2, "{to}: {said}");
        assert!(said.contains(message) && said.contains("hint: ") && said.contains(hint), "{to}:\n{said}");
    }
    for (arguments, message) in [
        (&["run", "--set", "train.epoch=1"][..], "--set train.epoch: unknown key \"epoch\""),
        (&["run", "--set", "tran.epochs=1"], "there is no stage \"tran\""),
        (&["run", "--set", "epochs"], "expected NAME=VALUE"),
        (&["run", "absent.toml"], "cannot read absent.toml"),
        (&["run", "--data", "x=rows.csv"], "--data x: the pipeline has nothing of that name"),
        (&["run", "--name", "A b"], "cannot name a run"),
        (&["verify"], "there is no store"),
        (&["-C", "absent", "runs"], "-C absent"),
        (&["explode"], "unrecognized subcommand"),
    ] {
        let (exit, said) = project.answer(arguments);
        assert_eq!(exit, 2, "{arguments:?}: {said}");
        assert!(said.contains(message), "{arguments:?}:\n{said}");
    }
    assert!(!project.store().exists() && !project.path().join("config").exists(), "nothing was written");
    let error = project.json(&["run", "bad.toml"], 2);
    assert_eq!((&error["schema"], &error["exit"]), (&Value::from("bitproof/error/v1"), &Value::from(2)));
    let forced = project.command(&["plan"]).env("BITPROOF_ISA", "quantum").output().unwrap();
    assert_eq!(forced.status.code(), Some(2));
}

#[test]
fn a_stage_that_fails_by_itself_is_recorded_and_the_store_verifies() {
    let project = Project::new();
    // Each step multiplies the weights by 1 - 10: they overflow.
    let sets = ["optimizer=sgd", "learning_rate=10", "weight_decay=1"].map(|set| format!("train.{set}"));
    let [a, b, c] = &sets;
    let (exit, text) = project.answer(&["run", "--set", a, "--set", b, "--set", c]);
    assert_eq!(exit, 1, "{text}");
    assert!(text.contains("the loss is") && text.contains("try a lower learning_rate"), "{text}");
    assert_eq!(project.json(&["runs"], 0)["runs"][0]["status"], "failed");
    assert_eq!(project.answer(&["verify", "--all"]).0, 0);
    assert_eq!(
        project.json(&["replay", "latest"], 0)["outcome"],
        "identical",
        "it fails again in the same way"
    );
}

/// How many files there are below a folder; 0 where there is none.
pub(crate) fn files_below(dir: &Path) -> usize {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let count = |path: PathBuf| if path.is_dir() { files_below(&path) } else { 1 };
    entries.filter_map(Result::ok).map(|entry| count(entry.path())).sum()
}

#[test]
fn a_killed_run_is_taken_up_with_the_same_roots_and_each_event_once() {
    const KILLS: usize = 40;
    let reference = Project::new().json(&["run", "--set", "train.epochs=60"], 0);
    let mut taken_up = 0;
    for kill in 0..KILLS {
        let project = Project::new();
        let arguments = ["run", "--set", "train.epochs=60"];
        let mut child =
            project.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Killed as soon as the store holds one more file than the time before: from the first to the last.
        while files_below(&project.store()) < kill && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let finished = project.json(&arguments, 0);
        taken_up += u32::from(!finished["resumed_at"].is_null());
        for field in ["ledger_root", "result_root", "plan_digest"] {
            assert_eq!(finished[field], reference[field], "{field} after kill {kill}");
        }
        let verified = project.json(&["verify", "--all"], 0);
        assert_eq!(verified["ok"], Value::Bool(true), "after kill {kill}: {verified}");
        // store, two keys, planned, sealed, gate, budget; as many again when the killed process had finished.
        let runs = project.json(&["runs"], 0)["runs"].as_array().unwrap().len() as u64;
        assert_eq!(verified["tree_size"].as_u64().unwrap(), 3 + 4 * runs, "after kill {kill}");
        assert!(runs <= 2, "after kill {kill}");
    }
    assert!(taken_up >= 5, "only {taken_up} kills met a run that had begun");
}

#[test]
fn an_interrupt_ends_with_130_and_the_same_command_goes_on() {
    let project = Project::new();
    let arguments = ["run", "--set", "train.epochs=20000"];
    let mut child = project.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    // The run is on its way when its ledger holds the first stage: then it trains for seconds.
    let ledger = project.store().join("runs/small-1/ledger.log");
    while fs::metadata(&ledger).map_or(0, |m| m.len()) <= 32 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("interrupted: "));
    let (exit, text) = project.answer(&["replay", "small-1"]);
    assert!(exit == 3 && text.contains("small-1 is incomplete"), "{exit}: {text}");
}

#[test]
fn collection_answers_with_what_goes_and_its_exit_codes() {
    let project = Project::new();
    assert_eq!(project.answer(&["init", "fresh"]).0, 0);
    let fresh = project.json(&["-C", "fresh", "gc"], 0);
    assert_eq!((&fresh["unreached_bytes"], &fresh["kept_objects"]), (&0.into(), &0.into()));
    assert_eq!(project.answer(&["run"]).0, 0);
    let stray = project.store().join("objects/00").join("0".repeat(62));
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(&stray, "12345").unwrap();
    let (exit, text) = project.answer(&["gc", "--dry-run"]);
    assert!(exit == 0 && text.contains("1 files would be removed, 5 B") && stray.exists(), "{text}");

    // A live writer holds the lock.
    let lock = fs::File::open(project.store().join("lock/writers")).unwrap();
    lock.lock_shared().unwrap();
    let (exit, text) = project.answer(&["gc"]);
    assert!(exit == 3 && text.contains("another process is writing") && stray.exists(), "{text}");
    drop(lock);

    // An older copy of the audit log does not know what the newer one named.
    let audit = project.store().join("audit");
    let older: Vec<(&str, Vec<u8>)> =
        ["events.log", "head"].map(|name| (name, fs::read(audit.join(name)).unwrap())).into();
    assert_eq!(project.answer(&["run"]).0, 0);
    let newer: Vec<(&str, Vec<u8>)> =
        ["events.log", "head"].map(|name| (name, fs::read(audit.join(name)).unwrap())).into();
    let put = |files: &[(&str, Vec<u8>)]| {
        files.iter().for_each(|(name, bytes)| fs::write(audit.join(name), bytes).unwrap());
    };
    put(&older);
    let (exit, text) = project.answer(&["gc"]);
    assert!(exit == 1 && text.contains("nothing was removed") && stray.exists(), "{text}");
    put(&newer);

    let removed = project.json(&["gc"], 0);
    assert_eq!((&removed["unreached_bytes"], stray.exists()), (&5.into(), false));
    let verified = project.json(&["verify", "--all"], 0);
    assert_eq!(verified["unreferenced"].as_array().unwrap().len(), 0, "{verified}");
    assert_eq!(project.json(&["replay", "latest"], 0)["outcome"], "identical");
}

#[test]
fn init_makes_a_project_that_runs_at_once() {
    let project = Project::new();
    let made = project.json(&["init", "digits"], 0);
    assert_eq!(made["schema"], "bitproof/init/v1");
    assert_eq!(project.answer(&["init", "digits"]).0, 2, "nothing is overwritten");
    let report = project.json(&["-C", "digits", "run", "--set", "train.epochs=2"], 1);
    assert_eq!(report["tasks"]["executed"], 4);
    assert!(project.path().join("digits/.bitproof/store.toml").is_file());
}

#[test]
fn keys_are_made_listed_and_never_overwritten() {
    let project = Project::new();
    assert_eq!(project.json(&["key", "list"], 0)["keys"].as_array().unwrap().len(), 0);
    let made = project.json(&["key", "new", "log"], 0);
    assert_eq!(project.json(&["key", "show", "log"], 0)["vkey"], made["vkey"]);
    assert_eq!(project.answer(&["key", "new", "log"]).0, 2);
    assert_eq!(project.answer(&["key", "new", "approver"]).0, 2);
    assert_eq!(project.answer(&["key", "show", "artifact"]).0, 2);
    use std::os::unix::fs::PermissionsExt as _;
    let path = made["path"].as_str().unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let (exit, text) = project.answer(&["run"]);
    assert_eq!(exit, 2, "{text}");
    assert!(text.contains("can be read by others (mode 644)"), "{text}");
}

#[test]
fn plans_and_completions_are_printed() {
    let project = Project::new();
    let (exit, text) = project.answer(&["plan"]);
    assert!(exit == 0 && text.contains("lane 0  |"), "{text}");
    let (_, mermaid) = project.answer(&["plan", "--format", "mermaid"]);
    assert!(mermaid.starts_with("flowchart LR\n"), "{mermaid}");
    let plan = project.json(&["plan"], 0);
    assert_eq!(plan["tasks"].as_array().unwrap().len(), 4);
    assert!(!project.store().exists());
    let (_, script) = project.answer(&["completions", "bash"]);
    assert!(script.contains("_bitproof()"), "{script}");
}

#[test]
fn what_is_exported_is_verified_without_the_store_and_refusals_end_with_1() {
    let project = Project::new();
    assert_eq!(project.answer(&["run"]).0, 0);
    let model = ["export", "small-1", "--as", "model-signing"];
    let (exit, text) = project.answer(&model);
    assert!(exit == 2 && text.contains("bitproof key new"), "{text}");
    let made = project.json(&["key", "new", "model-signing"], 0);
    assert_eq!(project.answer(&["key", "rotate", "model-signing"]).0, 2, "it is in no log");
    assert_eq!(project.json(&["key", "show", "model-signing"], 0)["key_id"], made["key_id"]);
    assert_eq!(project.answer(&["key", "new", "model-signing"]).0, 2);
    assert_eq!(project.json(&model, 0)["key_id"], made["key_id"]);
    assert_eq!(project.answer(&model).0, 2, "nothing is overwritten");
    let pem = fs::read_to_string(made["path"].as_str().unwrap()).unwrap();
    fs::remove_file(made["path"].as_str().unwrap()).unwrap();
    let again = [&model[..], &["-o", "again"]].concat();
    let given = project.command(&again).env("BITPROOF_MODEL_SIGNING_KEY", pem).output().unwrap();
    let bundle = |dir: &str| fs::read(project.path().join(dir).join("model.sig")).unwrap();
    assert!(given.status.success() && bundle("again") == bundle("small-1-model-signing"));
    assert_eq!(project.answer(&["export", "small-1", "--as", "slsa", "-o", "slsa"]).0, 0);
    fs::rename(project.store(), project.path().join("gone")).unwrap();

    let out = project.path().join("small-1-model-signing");
    let verify = |attestation: &str, key: &str, files: &str| {
        let named = ["verify", "--attestation", attestation, "--public-key", key, "--files", files];
        project.answer(&named)
    };
    let (signature, key, files) = (
        "small-1-model-signing/model.sig",
        "small-1-model-signing/model-signing.pub.pem",
        "small-1-model-signing/model",
    );
    let (exit, text) = verify(signature, key, files);
    assert!(exit == 0 && text.contains("model ok: model-signing signature over 3 files"), "{text}");
    let (exit, text) = verify("slsa/provenance.dsse.json", "slsa/artifact.pub.pem", files);
    assert!(exit == 0 && text.contains("claims builder: https://bitproof.local/"), "{text}");
    for (attestation, key) in [(signature, "slsa/artifact.pub.pem"), ("slsa/provenance.dsse.json", key)] {
        let (exit, text) = verify(attestation, key, files);
        assert!(exit == 1 && text.contains("unknown field"), "the key decides what is read: {text}");
    }
    assert_eq!(verify("absent", key, files).0, 2);
    assert_eq!(verify(signature, "bitproof.toml", files).0, 2, "a key that is none");
    assert_eq!(verify(signature, key, "absent").0, 2);
    assert_eq!(verify(signature, key, key).0, 2, "a folder that is none");
    fs::write(out.join("model/added"), "x").unwrap();
    let (exit, text) = verify(signature, key, files);
    assert!(exit == 1 && text.contains("added is in the folder"), "{text}");
    project.write("huge", &" ".repeat((16 << 20) + 1));
    let (exit, text) = verify("huge", key, files);
    assert!(exit == 1 && text.contains("larger than 16777216 bytes"), "{text}");
    let bundle = fs::read_to_string(out.join("model.sig")).unwrap();
    project.write("cut", &bundle[..bundle.len() - 1]);
    let refused = project.json(&["verify", "--attestation", "cut", "--public-key", key], 1);
    assert!(refused["message"].as_str().unwrap().starts_with("the bundle is truncated"), "{refused}");
}

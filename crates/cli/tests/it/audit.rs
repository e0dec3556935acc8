//! What outsiders do with the audit log: proofs, pins, witnesses, and keys that come and go.

use std::fs;
use std::path::Path;

use crate::project::Project;

fn vkey(project: &Project, role: &str) -> String {
    project.json(&["key", "show", role], 0)["vkey"].as_str().unwrap().to_owned()
}

fn ran(epochs: u32) -> Project {
    let project = Project::new();
    again(&project, epochs);
    project
}

fn again(project: &Project, epochs: u32) {
    let epochs = format!("train.epochs={epochs}");
    assert!(project.answer(&["run", "--set", &epochs]).0 < 2);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_proof_is_checked_where_there_is_no_store() {
    let project = ran(20);
    let key = vkey(&project, "log");
    let log = project.json(&["audit", "log"], 0);
    let verdict =
        log["events"].as_array().unwrap().iter().find(|e| e["event"] == "verdict-recorded").unwrap();
    let event = log["events"][3]["id"].as_str().unwrap();
    let finding = verdict["body"]["verdict"].as_str().unwrap();
    let elsewhere = Project::new();
    for (what, leaf) in [("latest", 4), (&event[..12], 3), (finding, verdict["leaf"].as_u64().unwrap())] {
        let proof = project.json(&["audit", "prove", what], 0);
        elsewhere.write("the.proof", proof["proof"].as_str().unwrap());
        let checked = elsewhere.json(&["audit", "check", "the.proof", "--vkey", &key], 0);
        assert_eq!(checked["event"], log["events"][leaf as usize], "{what}");
    }
    assert!(!elsewhere.store().exists());
    for (what, exit) in [("absent-9", 2), ("0000000000", 2), (&event[..1], 2)] {
        assert_eq!(project.answer(&["audit", "prove", what]).0, exit, "{what}");
    }
    assert_eq!(project.answer(&["audit", "prove", "latest", "-o", "run.proof"]).0, 0);
    let (exit, text) = project.answer(&["audit", "prove", "latest", "-o", "run.proof"]);
    assert!(exit == 2 && text.contains("run.proof exists already"), "{text}");
}

#[test]
fn hostile_proofs_and_heads_are_told_apart() {
    let project = ran(20);
    let key = vkey(&project, "log");
    let stranger = vkey(&ran(20), "log");
    let good = project.json(&["audit", "prove", "latest"], 0)["proof"].as_str().unwrap().to_owned();
    let growth = project.json(&["audit", "consistency", "5"], 0)["proof"].as_str().unwrap().to_owned();
    let newest = project.json(&["audit", "head"], 0)["note"].as_str().unwrap().to_owned();
    let check = |proof: &str, key: &str, pin: Option<&str>| {
        project.write("hostile", proof);
        let mut arguments = vec!["audit", "check", "hostile", "--vkey", key];
        if let Some(pin) = pin {
            project.write("pin", pin);
            arguments.extend(["--pin", "pin"]);
        }
        project.answer(&arguments)
    };
    assert_eq!(check(&good, &key, None).0, 0);
    let lines: Vec<&str> = good.lines().collect();
    let leaf = lines[1].strip_prefix("extra ").unwrap();
    let origin = lines[lines.len() - 5];
    let wide = "\u{2014} ".to_owned() + &"x".repeat(1 << 21);
    for (mutation, proof, key, message) in [
        ("truncated", good[..good.len() / 2].to_owned(), &key, "proof"),
        ("truncated-head", good[..good.len() - 9].to_owned(), &key, "does not end in a line feed"),
        ("oversized", good.clone() + &wide, &key, "larger than the limit"),
        ("empty", String::new(), &key, "no empty line"),
        ("other-key", good.clone(), &stranger, "the note is not signed by"),
        ("other-origin", good.replace(origin, "bitproof.local/00"), &key, "not signed by"),
        ("non-canonical-base64", good.replace(leaf, &leaf.replace('=', "")), &key, "canonical base64"),
        ("leaf-of-another", good.replace(leaf, "AAAA"), &key, "does not lead to the tree's root"),
        ("hash-missing", good.replacen(&format!("{}\n", lines[3]), "", 1), &key, "are needed"),
        ("hash-twice", good.replacen(lines[3], &[lines[3]; 2].join("\n"), 1), &key, "are needed"),
    ] {
        let (exit, text) = check(&proof, key, None);
        assert_eq!(exit, 1, "{mutation}: {text}");
        assert!(text.contains(message), "{mutation}: {text}");
    }
    let (exit, text) = check(&growth, &key, None);
    assert!(exit == 2 && text.contains("give that head with --pin"), "{text}");
    let (exit, text) = check(&growth, &key, Some(&newest));
    assert!(exit == 1 && text.contains("the proof begins at 5 leaves"), "{text}");
    let (exit, text) = check(&growth, &key, Some("not a head\n"));
    assert!(exit == 2 && text.contains("does not have three lines"), "{text}");
    assert_eq!(check(&good, "not a key", None).0, 2);
}

#[test]
fn a_pinned_head_finds_what_was_cut_put_back_or_rewritten() {
    let project = ran(20);
    let older = project.path().join("older");
    copy(&project.store(), &older);
    assert_eq!(project.answer(&["audit", "head"]).0, 0);
    let keep = |name: &str| {
        let note = project.json(&["audit", "head"], 0)["note"].as_str().unwrap().to_owned();
        project.write(name, &note);
    };
    keep("first");
    again(&project, 19);
    keep("second");
    let unpinned = project.json(&["verify"], 0)["not_provable_here"].to_string();
    assert!(
        unpinned.contains("the key is trusted from the store") && unpinned.contains("cut off"),
        "{unpinned}"
    );
    let pinned = project.json(&["verify", "--pin", "first", "--pin", "second"], 0);
    let limits = pinned["not_provable_here"].to_string();
    assert!(
        !limits.contains("trusted from the store") && limits.contains("nothing after the 11 leaves"),
        "{limits}"
    );

    // An older copy is whole in itself.
    let older = older.to_str().unwrap();
    assert_eq!(project.answer(&["verify", "--store", older]).0, 0);
    assert_eq!(project.answer(&["verify", "--store", older, "--pin", "first"]).0, 0);
    let found = project.json(&["verify", "--store", older, "--pin", "second"], 1);
    assert_eq!(found["findings"][0]["check"], "pin");
    assert!(found["findings"][0]["expected"].as_str().unwrap().contains("at least 11 leaves"));
    // So is a log that the holder of the key began anew; its store has the same id.
    fs::remove_dir_all(project.path().join("config/heads")).unwrap();
    for folder in ["audit", "runs"] {
        fs::remove_dir_all(project.store().join(folder)).unwrap();
        fs::create_dir(project.store().join(folder)).unwrap();
    }
    for epochs in [18, 17, 16] {
        again(&project, epochs);
    }
    assert_eq!(project.answer(&["verify"]).0, 0);
    let found = project.json(&["verify", "--pin", "second"], 1);
    assert!(found["findings"][0]["hint"].as_str().unwrap().contains("has rewritten it"), "{found}");
    let (exit, text) = project.answer(&["audit", "consistency", "second"]);
    assert!(exit == 1 && text.contains("one of the two was rewritten"), "{text}");
    // A head of another store is no pin of this one.
    project.write("other", ran(20).json(&["audit", "head"], 0)["note"].as_str().unwrap());
    let found = project.json(&["verify", "--pin", "other"], 1);
    assert!(found["findings"][0]["got"].as_str().unwrap().starts_with("one of bitproof.local/"));
}

/// A witness of its own, which sees what `project` proves to it.
struct Witness(Project);

impl Witness {
    fn new() -> Self {
        let witness = Self(Project::new());
        witness.0.json(&["key", "new", "witness"], 0);
        witness
    }

    fn vkey(&self) -> String {
        vkey(&self.0, "witness")
    }

    /// Shows it the log since `since` leaves, and keeps what it answers.
    fn see(&self, project: &Project, since: u64, name: &str) -> (i32, String) {
        let proof = project.json(&["audit", "consistency", &since.to_string()], 0);
        self.0.write("growth", proof["proof"].as_str().unwrap());
        let log = vkey(project, "log");
        let answer = self.0.answer(&["audit", "witness", "growth", "--vkey", &log, "-o", "seen"]);
        if answer.0 == 0 {
            fs::copy(self.0.path().join("seen"), project.path().join(name)).unwrap();
        }
        answer
    }
}

#[test]
fn a_policy_asks_for_witnesses_that_saw_the_run() {
    let project = ran(20);
    let witnesses = [Witness::new(), Witness::new(), Witness::new()];
    let policy = |threshold: usize| {
        let keys: Vec<String> = witnesses.iter().map(|w| format!("{:?}", w.vkey())).collect();
        let keys = keys.join(", ");
        let text =
            format!("threshold = {threshold}\nwitnesses = [{keys}]\ncosigned = [\"w0\", \"w1\", \"w2\"]\n");
        project.write("policy.toml", &text);
    };
    let verify = |exit: i32| project.json(&["verify", "--witness", "policy.toml"], exit);
    policy(2);
    assert!(verify(1)["findings"][0]["expected"].as_str().unwrap().starts_with("2 of 3 witnesses"));
    assert_eq!(witnesses[0].see(&project, 0, "w0").0, 0);
    verify(1);
    assert_eq!(witnesses[1].see(&project, 0, "w1").0, 0);
    let limits = verify(0)["not_provable_here"].to_string();
    assert!(limits.contains("nothing after the 7 leaves"), "{limits}");
    // They have not seen the next run; and a head counts for the key that cosigned it alone.
    again(&project, 19);
    verify(1);
    project.json(&["verify", "small-1", "--witness", "policy.toml"], 0);
    assert_eq!(witnesses[1].see(&project, 7, "w1").0, 0);
    fs::copy(project.path().join("w1"), project.path().join("w2")).unwrap();
    verify(1);
    assert_eq!(witnesses[2].see(&project, 0, "w2").0, 0);
    verify(0);
    let (exit, text) = witnesses[0].see(&project, 6, "w0");
    assert!(exit == 1 && text.contains("the head that is known has 7"), "{text}");

    // The holder of the key begins the log anew: the witnesses have another one.
    fs::remove_dir_all(project.path().join("config/heads")).unwrap();
    for folder in ["audit", "runs"] {
        fs::remove_dir_all(project.store().join(folder)).unwrap();
        fs::create_dir(project.store().join(folder)).unwrap();
    }
    [18, 17, 16].into_iter().for_each(|epochs| again(&project, epochs));
    assert_eq!(project.answer(&["verify"]).0, 0);
    let found = verify(1);
    assert!(found["findings"][0]["hint"].as_str().unwrap().contains("has rewritten it"), "{found}");
    let (exit, text) = witnesses[1].see(&project, 11, "w1");
    assert!(exit == 1 && text.contains("the log does not continue the head of 11 leaves"), "{text}");
    assert_eq!(witnesses[1].see(&project, 0, "w1").0, 1, "what was seen is not forgotten");

    // A line that does not verify is no line of somebody else's.
    let cosigned = fs::read_to_string(project.path().join("w2")).unwrap();
    project.write("w2", &cosigned.replacen("\n11\n", "\n12\n", 1));
    let findings = verify(1)["findings"].to_string();
    assert!(findings.contains("the signature by bitproof.local/witness does not verify"), "{findings}");
    for (text, message) in [
        ("threshold = 0\nwitnesses = []\ncosigned = []\n", "must be from 1"),
        ("threshold = 1\nwitnesses = [\"x\"]\ncosigned = []\n", "not a verification key"),
        ("threshold = 1\nwitness = []\ncosigned = []\n", "unknown field"),
    ] {
        project.write("policy.toml", text);
        let (exit, text) = project.answer(&["verify", "--witness", "policy.toml"]);
        assert!(exit == 2 && text.contains(message), "{text}");
    }
    let log = vkey(&project, "log");
    project.write("policy.toml", &format!("threshold = 1\nwitnesses = [\"{log}\"]\ncosigned = []\n"));
    assert!(project
        .answer(&["verify", "--witness", "policy.toml"])
        .1
        .contains("is not the key of a witness"));
}

#[test]
fn a_recorded_verification_is_evidence_itself() {
    let project = ran(20);
    let first = project.json(&["verify", "--record"], 0);
    let report = first["recorded"].as_str().unwrap();
    let kept = fs::read(project.store().join("objects").join(&report[..2]).join(&report[2..])).unwrap();
    let kept: serde_json::Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!((&kept["tree_size"], &kept["ok"]), (&first["tree_size"], &true.into()));
    let all = project.json(&["verify", "--all"], 0);
    assert!(all["unreferenced"].as_array().unwrap().is_empty(), "{all}");

    // What does not hold is recorded too, and names no folder of this machine.
    fs::remove_file(project.store().join("runs/small-1/manifest.json")).unwrap();
    let failed = project.json(&["verify", "--record"], 1);
    let path = project.path().to_str().unwrap();
    let report = failed["recorded"].as_str().unwrap();
    let object = project.store().join("objects").join(&report[..2]).join(&report[2..]);
    let text = fs::read_to_string(&object).unwrap();
    assert!(text.contains("runs/small-1/manifest.json") && !text.contains(path), "{text}");
    let last = project.json(&["audit", "log"], 0)["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["event"], &last["body"]["ok"]), (&"verification-recorded".into(), &false.into()));
    fs::write(&object, "{}").unwrap();
    let found = project.json(&["verify"], 1)["findings"].to_string();
    assert!(found.contains(&report[2..]), "{found}");
}

#[test]
fn keys_come_and_go_with_records_that_both_have_signed() {
    let project = ran(20);
    let (first, artifact) = (vkey(&project, "log"), vkey(&project, "artifact"));
    let rotated = project.json(&["key", "rotate", "log"], 0);
    assert_eq!(rotated["old"], first.as_str());
    let second = vkey(&project, "log");
    assert_eq!(rotated["new"], second.as_str());
    project.json(&["key", "rotate", "artifact"], 0);
    again(&project, 19);
    // Whoever knows the first key accepts the second, and not the other way about where the first is still used.
    for key in [&first, &second] {
        let report = project.json(&["verify", "--all", "--vkey", key], 0);
        assert_eq!(report["signed_by"], second.as_str());
    }
    let stranger = vkey(&ran(20), "log");
    assert_eq!(project.answer(&["verify", "--vkey", &stranger]).0, 1);
    assert_eq!(project.json(&["verify", "--vkey", &stranger, "--vkey", &first], 0)["ok"], true);

    // Models of before the revocation hold; had the key been lost before it signed them, they would not.
    assert_eq!(project.answer(&["key", "revoke", &artifact, "--from-size", "6"]).0, 0);
    assert_eq!(project.answer(&["verify", "--all"]).0, 0);
    assert_eq!(project.answer(&["key", "revoke", &artifact, "--from-size", "3"]).0, 0);
    let found = project.json(&["verify", "small-1"], 1)["findings"].to_string();
    assert!(found.contains("manifest.json"), "{found}");
    assert_eq!(project.answer(&["verify", "small-2"]).0, 0);
    // One's own key is rotated first, and nobody's is revoked twice.
    assert_eq!(project.answer(&["key", "revoke", &second]).0, 2);
    assert_eq!(project.answer(&["key", "revoke", &stranger]).0, 2);

    // The replaced key no longer signs, wherever it turns up.
    let keys = project.path().join("config/keys");
    let retired = fs::read_dir(&keys)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("log.retired-"));
    fs::copy(retired.unwrap(), keys.join("log.pem")).unwrap();
    let (exit, text) = project.answer(&["run", "--set", "train.epochs=18"]);
    assert!(exit == 2 && text.contains("no longer signs for this store"), "{exit}: {text}");
}

#[test]
fn another_store_learns_of_a_rotation_when_it_is_recorded_into() {
    let project = ran(20);
    let first = vkey(&project, "log");
    let other = project.path().join("other");
    let other = other.to_str().unwrap();
    assert!(project.answer(&["run", "--store", other]).0 < 2);
    let known =
        project.json(&["key", "show", "log", "--store", other], 0)["vkey"].as_str().unwrap().to_owned();
    assert_ne!(known, first, "a store's key carries its name");
    project.json(&["key", "rotate", "log"], 0);
    project.json(&["verify", "--store", other, "--vkey", &known], 0);
    assert!(project.answer(&["run", "--store", other, "--set", "train.epochs=19"]).0 < 2);
    let report = project.json(&["verify", "--store", other, "--vkey", &known], 0);
    assert_ne!(report["signed_by"], known.as_str());
}

#[test]
fn a_key_may_come_from_the_environment() {
    let project = ran(20);
    let keys = project.path().join("config/keys");
    let pem = |role: &str| fs::read_to_string(keys.join(format!("{role}.pem"))).unwrap();
    let (log, artifact) = (pem("log"), pem("artifact"));
    let key = vkey(&project, "log");
    let ci = Project::new();
    let run = |log: &str| {
        let mut command = ci.command(&["run", "--json"]);
        let output = command.env("BITPROOF_LOG_KEY", log).env("BITPROOF_ARTIFACT_KEY", &artifact).output();
        let output = output.unwrap();
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    assert_eq!(run(&log).0, 0);
    assert!(!ci.path().join("config/keys").exists(), "no key is written");
    let signed_by = ci.json(&["verify"], 0)["signed_by"].as_str().unwrap().to_owned();
    let public = |vkey: &str| vkey.rsplit('+').next().unwrap().to_owned();
    assert_eq!(public(&signed_by), public(&key));
    let (exit, text) = run("not a key");
    assert!(exit == 2 && text.contains("not an Ed25519 key in PKCS#8 PEM"), "{text}");
    assert!(!text.contains("not a key\n"), "what was given is not shown");
}

#[test]
fn keys_that_many_replace_at_once_leave_a_store_that_holds() {
    let project = ran(20);
    let first = vkey(&project, "log");
    let mut rotated = 0;
    for round in 0..4 {
        let mut children: Vec<_> = (0..3)
            .map(|_| ["key", "rotate", "log"].to_vec())
            .chain([vec!["run", "--no-cache"], vec!["verify", "--record"]])
            .map(|arguments| {
                let mut command = project.command(&arguments);
                let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                (arguments, child.spawn().unwrap())
            })
            .collect();
        for (arguments, child) in children.drain(..) {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let code = output.status.code().unwrap();
            // Whoever was in the way is told so, and nothing is broken.
            let busy = code == 3 && text.contains("somebody is recording into");
            assert!(code == 0 || busy, "round {round}, {arguments:?}: {code} {text}");
            rotated += usize::from(code == 0 && arguments[0] == "key");
        }
        let report = project.json(&["verify", "--all", "--vkey", &first], 0);
        assert_eq!(report["signed_by"], vkey(&project, "log").as_str());
    }
    assert_eq!(project.answer(&["key", "rotate", "log"]).0, 0);
    let log = project.json(&["audit", "log"], 0);
    let events = log["events"].as_array().unwrap();
    assert_eq!(events.iter().filter(|e| e["event"] == "key-rotated").count(), rotated + 1);
}

//! What somebody without the owner's keys may write into a store, and what somebody with them may rewrite.

use std::fs;
use std::path::Path;

use bitproof_audit::{verify, Anchors, Scope};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::clock::FixedClock;
use bitproof_core_ledger::events::{Actor, Event, EventBody, VerdictKind};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::keys::KeyFolder;
use bitproof_core_ledger::log::{Acknowledged, LogKind, LogWriter};
use bitproof_core_ledger::signed_log::{HEAD, LEAVES};
use bitproof_core_ledger::store::Store;
use bitproof_tests::Project;
use bitproof_training::judge::sealed_facts;
use bitproof_training::recorder::Recorder;
use bitproof_training::run_folder::RunIndex;
use bitproof_training::workflow::FailureKind;

/// A project with one run that passed.
fn ran() -> Project {
    let project = Project::new();
    project.run(&project.request(&[])).unwrap();
    project
}

fn status(project: &Project, run: &str) -> &'static str {
    RunIndex::read(&project.store()).unwrap().resolve(run).unwrap().status()
}

fn verified(project: &Project) -> Vec<String> {
    let report = verify(&project.store(), &Scope::All, &Anchors::default()).unwrap();
    report.findings.iter().map(ToString::to_string).collect()
}

/// Appends leaves without a key, as anybody can who may write to the store.
fn append_unsigned(project: &Project, bodies: Vec<EventBody>) {
    let path = project.store().audit_dir().join(LEAVES);
    let (mut log, _) =
        LogWriter::open(&Files::on_disk(), &path, LogKind::AUDIT, Acknowledged::Unknown).unwrap();
    let actor = Actor { key_id: "00000000".to_owned(), user: "mallory".to_owned(), host: "h".to_owned() };
    let leaf = |body: EventBody| {
        canon::encode(&Event { id: body.id(), claimed_unix_seconds: 1, actor: actor.clone(), body })
    };
    log.append(&bodies.into_iter().map(leaf).collect::<Vec<_>>()).unwrap();
}

#[test]
fn the_owners_key_signs_no_leaf_that_somebody_else_appended() {
    let project = Project::new();
    // One epoch misses the gate.
    let failed =
        project.run(&project.request(&[("train.epochs", "1"), ("train.learning_rate", "0.0001")])).unwrap();
    assert_eq!(status(&project, &failed.run), "failed");
    let row = RunIndex::read(&project.store()).unwrap().rows[0].clone();
    let verdict = row.verdicts.iter().find(|v| v.outcome == "fail").unwrap();
    append_unsigned(
        &project,
        vec![EventBody::VerdictRecorded {
            uid: row.uid,
            kind: VerdictKind::Gate,
            policy: Some(7),
            metric: verdict.metric.clone(),
            outcome: "pass".to_owned(),
            verdict: verdict.verdict,
        }],
    );
    assert!(!verified(&project).is_empty(), "a leaf past the head is found");
    let seal = row.seal.unwrap();
    append_unsigned(
        &project,
        vec![EventBody::RunSealed {
            run: row.run.clone(),
            uid: [9; 16],
            plan: row.plan,
            ledger_root: seal.ledger_root,
            result_root: seal.result_root,
            inventory: seal.inventory,
            succeeded: true,
        }],
    );
    let next = project.run(&project.request(&[])).unwrap();
    assert_eq!(next.run, "small-2");
    assert_eq!(verified(&project), Vec::<String>::new(), "the forged leaves are gone");
    let leaves = project.store().read_audit(&[]).unwrap();
    assert!(leaves.covered().iter().all(|leaf| leaf.event.actor.user != "mallory"));
    assert_eq!(status(&project, &failed.run), "failed");
}

#[test]
fn a_log_without_its_head_is_not_written_to() {
    let project = ran();
    let audit = project.store().audit_dir();
    fs::remove_file(audit.join(HEAD)).unwrap();
    let before = fs::read(audit.join(LEAVES)).unwrap();
    let error = project.run(&project.request(&[])).unwrap_err();
    assert_eq!(error.kind(), FailureKind::No, "{error}");
    assert!(error.to_string().contains("head is missing, but the store holds runs"), "{error}");
    assert_eq!(fs::read(audit.join(LEAVES)).unwrap(), before);
    fs::remove_dir_all(&audit).unwrap();
    assert_eq!(project.run(&project.request(&[])).unwrap_err().kind(), FailureKind::No);
}

#[test]
fn an_older_copy_and_a_rewritten_log_are_found_by_who_recorded_last() {
    let project = ran();
    let store = project.store_root();
    let copy = project.path().join("copy");
    copy_folder(&store, &copy);
    project.run(&project.request(&[("pipeline.seed", "8")])).unwrap();
    fs::remove_dir_all(&store).unwrap();
    copy_folder(&copy, &store);
    let error = project.run(&project.request(&[])).unwrap_err();
    assert_eq!(error.kind(), FailureKind::No, "{error}");
    assert!(error.to_string().contains("does not continue the head of"), "{error}");

    // Somebody else begins the same store anew, under another key and with the same id.
    fs::remove_dir_all(store.join("audit")).unwrap();
    fs::remove_dir_all(store.join("runs")).unwrap();
    fs::create_dir(store.join("runs")).unwrap();
    let stranger = KeyFolder::new(project.path().join("stranger/keys"));
    Recorder::open(&Files::on_disk(), &store, &stranger, &FixedClock(1), "mallory", "h").unwrap();
    let error = project.run(&project.request(&[])).unwrap_err();
    assert!(error.to_string().contains("does not continue the head of"), "{error}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_gate_judges_what_was_sealed_and_not_what_a_manifest_says() {
    let project = ran();
    let path = project.store_root().join("runs/small-1/manifest.json");
    let honest = fs::read_to_string(&path).unwrap();
    let row = RunIndex::read(&project.store()).unwrap().rows[0].clone();
    let facts = sealed_facts(&project.store(), &row).unwrap();
    let value = facts.metrics["evaluate/accuracy"];
    let bits = format!("{:016x}", value.to_bits());
    let forged = honest
        .replace(&bits, &format!("{:016x}", 0.25f64.to_bits()))
        .replace(&format!("\"value\": {value}"), "\"value\": 0.25");
    assert_ne!(forged, honest);
    fs::write(&path, forged).unwrap();
    assert_eq!(sealed_facts(&project.store(), &row).unwrap(), facts);
    let next =
        project.run(&project.request(&[("train.epochs", "1"), ("train.learning_rate", "0.0001")])).unwrap();
    let verdict = &next.gates[0].verdict;
    assert_eq!(verdict.findings.last().unwrap().baseline.unwrap().get(), value);

    // Another plan in the folder is not the plan of the run.
    let plan = project.store_root().join("runs/small-1/plan.bin");
    fs::copy(project.store_root().join("runs/small-2/plan.bin"), plan).unwrap();
    let error = sealed_facts(&project.store(), &row).unwrap_err();
    assert!(error.to_string().contains("is not what the audit log holds"), "{error}");
}

/// Appends and signs an event with the owner's keys.
fn record(project: &Project, body: EventBody) {
    project.recorder().record(&[body]).unwrap();
}

#[test]
fn a_verdict_must_be_about_its_run_and_its_plan() {
    let project = ran();
    project.run(&project.request(&[("train.epochs", "1"), ("train.learning_rate", "0.0001")])).unwrap();
    assert_eq!(verified(&project), Vec::<String>::new());
    let rows = RunIndex::read(&project.store()).unwrap().rows;
    let passed = rows[0].verdicts.iter().find(|v| v.kind == VerdictKind::Gate).unwrap();
    let said = |policy, outcome: &str| EventBody::VerdictRecorded {
        uid: rows[1].uid,
        kind: VerdictKind::Gate,
        policy,
        metric: passed.metric.clone(),
        outcome: outcome.to_owned(),
        verdict: passed.verdict,
    };
    // The verdict of a good run, claimed for a bad one.
    record(&project, said(None, &passed.outcome));
    let found = verified(&project);
    assert!(found.iter().any(|f| f.contains("verdict: expected")), "{found:?}");
    assert_eq!(status(&project, "small-2"), "failed", "a later judgement changes no status");
}

#[test]
fn two_budgets_on_one_metric_end_and_are_two_verdicts() {
    let project = Project::new();
    let path = project.path().join("bitproof.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        format!("{text}\n[[budget]]\nmetric = \"train/step_wall_ns\"\nfail = [\"max <= 2h\"]\n"),
    )
    .unwrap();
    for run in ["small-1", "small-2"] {
        assert_eq!(project.run(&project.request(&[])).unwrap().run, run);
    }
    let rows = RunIndex::read(&project.store()).unwrap().rows;
    assert!(rows.iter().all(|row| row.own_verdicts().count() == 3), "{rows:?}");
    assert_eq!(verified(&project), Vec::<String>::new());
}

#[test]
fn a_cache_that_lies_is_not_believed() {
    let project = ran();
    let before = project.run(&project.request(&[])).unwrap();
    project.run(&project.request(&[("train.epochs", "2")])).unwrap();
    // Each entry now says of its action what another entry says of another.
    let mut entries = Vec::new();
    for store in fs::read_dir(project.path().join("cache")).unwrap() {
        for entry in fs::read_dir(store.unwrap().path().join("actions")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                entries.push(path);
            }
        }
    }
    assert!(entries.len() > 4);
    let contents: Vec<Vec<u8>> = entries.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, (own, other)) in entries.iter().zip(contents.iter().zip(contents.iter().cycle().skip(1))) {
        // The first 32 bytes are the action.
        fs::write(path, [&own[..32], &other[32..]].concat()).unwrap();
    }
    let after = project.run(&project.request(&[])).unwrap();
    assert_eq!(after.ledger_root, before.ledger_root);
    assert!(after.tasks.iter().all(|t| t.state == bitproof_training::workflow::TaskState::Executed));
}

#[test]
fn stray_files_among_the_runs_stop_nothing() {
    let project = ran();
    fs::write(project.store_root().join("runs/.DS_Store"), "x").unwrap();
    fs::create_dir(project.store_root().join("runs/small-7")).unwrap();
    assert_eq!(project.run(&project.request(&[])).unwrap().run, "small-8");
    let store: Store = project.store();
    let report = verify(&store, &Scope::All, &Anchors::default()).unwrap();
    assert!(report.ok() && report.unreferenced.iter().any(|path| path == "runs/small-7"), "{report:?}");
}

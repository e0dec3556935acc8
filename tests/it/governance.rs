//! Controls: where they stand, what they say, that they stop a run, and that nobody changes what they said.

use std::fs;
use std::process::Command;

use bitproof_audit::{replay, verify, Anchors, ReplayError, Scope};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::events::EventBody;
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::inventory::Inventory;
use bitproof_core_ledger::log::{Acknowledged, LogKind, LogWriter};
use bitproof_core_ledger::objects::{ObjectId, Objects};
use bitproof_scheduler::dispatch::{End, Execution};
use bitproof_scheduler::ledger::{ledger_root, Ledger};
use bitproof_tests::{Project, PIPELINE};
use bitproof_training::evidence::{Evidence, GitState};
use bitproof_training::governance::{
    chain, compile, Control, Entry, Evidence as ControlEvidence, Governance, Outcome,
};
use bitproof_training::judge::{self, JudgedBy};
use bitproof_training::run_folder::{
    RunFolder, RunIndex, RunRow, EVIDENCE, GOVERNANCE_LEDGER, INVENTORY, LEDGER, TELEMETRY,
};
use bitproof_training::workflow::{prepare, seal, Judgements, RunReport, RunStatus};

const ALL: &str = r#"["inputs-pinned", "clean-source", "artifacts-signed", "budgets", "gates"]"#;

/// A project that demands controls, with its data pinned.
fn governed(controls: &str) -> Project {
    let project = Project::new();
    let digest = ObjectId::of_bytes(&fs::read(project.path().join("rows.csv")).unwrap());
    let text = PIPELINE
        .replace("path = \"rows.csv\"", &format!("path = \"rows.csv\"\nblake3 = \"{digest}\""))
        .replace(r#"["artifacts-signed", "budgets", "gates"]"#, controls);
    fs::write(project.path().join("bitproof.toml"), text).unwrap();
    project
}

fn git(project: &Project, arguments: &[&str]) {
    let status = Command::new("git")
        .arg("-C")
        .arg(project.path())
        .args(["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .status()
        .unwrap();
    assert!(status.success(), "git {arguments:?}");
}

/// Commits the pipeline and its data, and a file of notes.
fn committed(project: &Project) {
    fs::write(project.path().join("notes.txt"), "one\n").unwrap();
    git(project, &["init", "--quiet"]);
    git(project, &["add", "bitproof.toml", "rows.csv", "notes.txt"]);
    git(project, &["commit", "--quiet", "-m", "one"]);
}

fn run(project: &Project) -> RunReport {
    project.run(&project.request(&[])).unwrap()
}

fn folder(project: &Project, run: &str) -> RunFolder {
    RunFolder::open(&project.store(), run).unwrap()
}

fn row(project: &Project, run: &str) -> RunRow {
    RunIndex::read(&project.store()).unwrap().resolve(run).unwrap().clone()
}

/// The checks that found something, without those of the inventory, which finds every change of a file that was not sealed again.
fn found(project: &Project, run: &str) -> Vec<&'static str> {
    let report = verify(&project.store(), &Scope::Run(run.to_owned()), &Anchors::default()).unwrap();
    let mut checks: Vec<_> = report.findings.iter().map(|finding| finding.check).collect();
    checks.retain(|check| !matches!(*check, "content" | "size" | "unlisted"));
    checks.dedup();
    checks
}

fn said(entries: &[Entry]) -> Vec<String> {
    let said = |e: &Entry| {
        let word = e.outcome.name();
        format!("{} {} {} at lane {}, tick {}: {word}", e.control, e.position, e.task, e.lane, e.tick)
    };
    entries.iter().map(said).collect()
}

#[test]
fn what_the_controls_of_a_run_say_is_chained_and_sealed() {
    let project = governed(ALL);
    committed(&project);
    let report = run(&project);
    assert_eq!(report.status, RunStatus::Passed);
    assert_eq!(
        said(&report.controls),
        [
            "inputs-pinned before split at lane 0, tick 0: passed",
            "clean-source before split at lane 0, tick 0: passed",
            "artifacts-signed after package at lane 1, tick 2: passed",
            "budgets after package at lane 1, tick 2: passed",
            "gates after package at lane 1, tick 2: passed",
        ]
    );
    assert_eq!(report.controls[4].reason, "no baseline: evaluate/accuracy");
    let folder = folder(&project, &report.run);
    let view = folder.governance().unwrap().unwrap();
    assert_eq!((&view.entries, Some(view.root)), (&report.controls, report.governance_root));
    let inventory = folder.sealed_inventory(&row(&project, &report.run)).unwrap();
    let listed = |path: String| inventory.entries().iter().any(|entry| entry.path == path);
    assert!(listed(format!("runs/{}/{GOVERNANCE_LEDGER}", report.run)));
    for entry in &view.entries {
        let id = entry.evidence.unwrap();
        assert!(listed(format!("objects/{}", Objects::relative_path(&id))), "{entry:?}");
        let bytes = project.store().objects().get(&id).unwrap();
        assert!(ControlEvidence::decode(&bytes).unwrap().is_some());
    }
    assert_eq!(found(&project, &report.run), [""; 0]);
    // Another run of the same plan has the same ledger, and a chain of its own.
    let again = run(&project);
    assert_eq!(again.ledger_root, report.ledger_root);
    assert_ne!(again.governance_root, report.governance_root);
    fs::copy(folder.path(GOVERNANCE_LEDGER), self::folder(&project, &again.run).path(GOVERNANCE_LEDGER))
        .unwrap();
    assert_eq!(found(&project, &again.run), ["governance-chain"]);
}

#[test]
fn the_plan_binds_what_is_demanded_and_nothing_where_nothing_is() {
    let plan = |controls: &str| {
        let project = governed(controls);
        prepare(&project.request(&[])).unwrap().plan
    };
    let (none, some, other) = (plan("[]"), plan(r#"["gates", "budgets"]"#), plan(r#"["gates"]"#));
    assert_eq!(none.spec().policy.keys().collect::<Vec<_>>(), ["budgets", "gates", "intervals"]);
    assert!(compile(&none).unwrap().is_empty());
    let digests = [none.digest(), some.digest(), other.digest()];
    assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
    // The order in which they are named is not one of the plan.
    assert_eq!(plan(r#"["budgets", "gates"]"#).digest(), some.digest());
    // Bytes that no pipeline gives are refused.
    let mut spec = some.spec().clone();
    let bytes = spec.policy.get_mut("governance").unwrap();
    let (first, second) = (bytes[12..16].to_vec(), bytes[16..20].to_vec());
    bytes[12..16].copy_from_slice(&second);
    bytes[16..20].copy_from_slice(&first);
    let swapped = bitproof_scheduler::Plan::new(spec).unwrap();
    assert!(compile(&swapped).unwrap_err().to_string().contains("out of order"));
}

#[test]
fn a_work_tree_that_is_not_clean_stops_the_run_before_its_first_stage() {
    let project = governed(ALL);
    let none = run(&project);
    assert_eq!(said(&none.controls)[1], "clean-source before split at lane 0, tick 0: failed");
    assert!(none.controls[1].reason.contains("no git work tree"), "{:?}", none.controls[1]);
    committed(&project);
    fs::write(project.path().join("notes.txt"), "two\n").unwrap();
    let dirty = run(&project);
    assert!(dirty.controls[1].reason.contains("differ from commit"), "{:?}", dirty.controls[1]);
    for report in [&none, &dirty] {
        assert_eq!((report.status, report.end.clone()), (RunStatus::Failed, End::Complete));
        assert!(report.tasks.is_empty() && report.gates.is_empty() && report.budgets.is_empty());
        let outcomes: Vec<Outcome> = report.controls.iter().map(|entry| entry.outcome).collect();
        let not = Outcome::NotReached;
        assert_eq!(outcomes, [Outcome::Passed, Outcome::Failed, not, not, not]);
        assert_eq!(report.ledger_root, ledger_root(&folder(&project, &report.run).plan, &[]));
        let row = row(&project, &report.run);
        assert_eq!((row.status(), row.verdicts.len()), ("failed", 0));
        assert_eq!(found(&project, &report.run), [""; 0]);
        let answer = replay(Some(&project.store()), &project.replay_request(&report.run)).unwrap_err();
        assert!(matches!(answer, ReplayError::Nothing { .. }), "{answer}");
    }
    // The plan is the same, and it runs as soon as the tree is clean.
    git(&project, &["commit", "--quiet", "-a", "-m", "two"]);
    let clean = run(&project);
    assert_eq!((clean.status, clean.plan_digest), (RunStatus::Passed, dirty.plan_digest));
}

#[test]
fn an_input_without_a_pin_stops_the_run_and_is_told_with_its_digest() {
    let project = governed(r#"["inputs-pinned"]"#);
    assert_eq!(run(&project).status, RunStatus::Passed);
    let path = project.path().join("bitproof.toml");
    let text = fs::read_to_string(&path).unwrap();
    let pin = text.lines().find(|line| line.starts_with("blake3")).unwrap();
    fs::write(&path, text.replace(pin, "")).unwrap();
    let report = run(&project);
    assert_eq!((report.status, report.tasks.len()), (RunStatus::Failed, 0));
    let digest = pin.split('"').nth(1).unwrap();
    assert_eq!(report.controls[0].reason, format!("the data input rows has no pin; it is {digest}"));
    assert_eq!(found(&project, &report.run), [""; 0]);
}

#[test]
fn a_gate_that_fails_fails_its_control() {
    let project = Project::new();
    let report =
        project.run(&project.request(&[("train.epochs", "1"), ("train.learning_rate", "0.0001")])).unwrap();
    assert_eq!(report.status, RunStatus::Failed);
    let gates = report.controls.last().unwrap();
    assert_eq!((gates.control, gates.outcome), (Control::Gates, Outcome::Failed));
    assert_eq!(gates.reason, "gate failed: evaluate/accuracy");
    assert!(!row(&project, &report.run).seal.unwrap().succeeded);
    assert_eq!(found(&project, &report.run), [""; 0]);
}

fn copy_telemetry(from: &RunFolder, to: &RunFolder) {
    fs::create_dir(to.path(TELEMETRY)).unwrap();
    for file in fs::read_dir(from.path(TELEMETRY)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path(TELEMETRY).join(file.file_name())).unwrap();
    }
}

/// Makes a folder that an interrupted run of the same plan would leave: the first `tasks` entries of a run, and something
/// that was being written as its governance ledger.
fn interrupted(project: &Project, of: &str, tasks: usize) {
    let store = project.store();
    let finished = folder(project, of);
    let left = RunFolder::create(&store, "small", finished.plan.clone()).unwrap();
    let (mut ledger, _) = Ledger::open(&Files::on_disk(), &left.path(LEDGER), &left.plan).unwrap();
    ledger.append(&finished.ledger().unwrap().entries[..tasks]).unwrap();
    copy_telemetry(&finished, &left);
    let old = fs::read(finished.path(GOVERNANCE_LEDGER)).unwrap();
    fs::write(left.path(GOVERNANCE_LEDGER), &old[..old.len() - 3]).unwrap();
}

#[test]
fn a_run_that_is_taken_up_says_what_is_seen_then_and_nothing_twice() {
    let project = governed(ALL);
    committed(&project);
    let whole = run(&project);
    interrupted(&project, &whole.run, 2);
    fs::write(project.path().join("notes.txt"), "two\n").unwrap();
    let dirty = run(&project);
    assert_eq!((dirty.run.as_str(), dirty.status, dirty.tasks.len()), ("small-2", RunStatus::Failed, 2));
    assert_eq!((dirty.controls.len(), dirty.controls[1].outcome), (5, Outcome::Failed));
    assert_eq!(found(&project, "small-2"), [""; 0]);
    interrupted(&project, &whole.run, 2);
    git(&project, &["checkout", "--quiet", "notes.txt"]);
    let clean = run(&project);
    assert_eq!((clean.run.as_str(), clean.resumed_at), ("small-3", Some(2)));
    assert_eq!((clean.status, clean.ledger_root), (RunStatus::Passed, whole.ledger_root));
    assert_eq!(said(&clean.controls), said(&whole.controls));
    assert_eq!(found(&project, "small-3"), [""; 0]);
}

/// What is changed of a run before it is sealed with the owner's keys.
struct Forged<'a> {
    entries: &'a mut Vec<Entry>,
    succeeded: &'a mut bool,
    folder: &'a RunFolder,
}

/// Seals a run of the same plan and results as `of` anew, with everything signed, chained and listed as it has to be, but
/// with what `change` makes of it. Gives the checks that find something.
fn forge(project: &Project, of: &str, change: impl FnOnce(Forged<'_>)) -> Vec<&'static str> {
    let (recorder, honest) = (project.recorder(), folder(project, of));
    let store = &recorder.store;
    let folder = RunFolder::create(store, "forged", honest.plan.clone()).unwrap();
    fs::copy(honest.path(LEDGER), folder.path(LEDGER)).unwrap();
    copy_telemetry(&honest, &folder);
    let evidence: Evidence = honest.evidence().unwrap();
    let entries = honest.ledger().unwrap().entries;
    let (failures, attempts) = (Vec::new(), Default::default());
    let execution = Execution { entries, failures, attempts, end: End::Complete };
    let metrics = judge::collect_metrics(&store.objects(), &execution.entries).unwrap();
    let records = folder.telemetry().unwrap();
    let (index, facts) = (RunIndex::read(store).unwrap(), folder.facts_with(metrics.finals()));
    let gates = judge::plan_gates(&folder.plan).unwrap();
    let budgets = judge::plan_budgets(&folder.plan).unwrap();
    let judged = Judgements {
        gates: judge::judge_gates(store, &index, &folder, &facts, &gates, None).unwrap(),
        budgets: judge::judge_budgets(store, &folder, &records, &budgets).unwrap(),
    };
    let mut governance = Governance::before(&folder.plan, evidence.git.as_ref()).unwrap();
    let mut sealed = seal(&recorder, &folder, &execution, &evidence, &mut governance, &judged).unwrap();

    let files = Files::on_disk();
    let listed = Inventory::decode(&fs::read(folder.path(INVENTORY)).unwrap()).unwrap();
    let mut paths: Vec<String> =
        listed.entries().iter().map(|e| e.path.clone()).filter(|p| p.starts_with("objects/")).collect();
    let EventBody::RunSealed { inventory, succeeded, .. } = &mut sealed else { panic!("a seal") };
    let mut entries = governance.entries().to_vec();
    change(Forged { entries: &mut entries, succeeded, folder: &folder });
    let path = folder.path(GOVERNANCE_LEDGER);
    if path.exists() {
        fs::remove_file(&path).unwrap();
        let (mut log, _) =
            LogWriter::open(&files, &path, LogKind::GOVERNANCE, Acknowledged::Unknown).unwrap();
        let mut links = chain(&folder.plan, &folder.uid);
        let records: Vec<_> = entries.iter().map(|entry| links.push(&canon::encode(entry))).collect();
        log.append(&records).unwrap();
    }
    paths.extend(folder.evidence_files().unwrap());
    let taken = Inventory::take(&files, store.root(), paths, store.threads()).unwrap().encode();
    fs::write(folder.path(INVENTORY), &taken).unwrap();
    *inventory = ObjectId::of_bytes(&taken);
    let planned =
        EventBody::RunPlanned { run: folder.name.clone(), uid: folder.uid, plan: folder.plan.digest() };
    let mut events = vec![planned, sealed];
    events.extend(judge::verdict_events(folder.uid, JudgedBy::ItsPlan, &judged.gates, &judged.budgets));
    recorder.record(&events).unwrap();
    let report = verify(store, &Scope::Run(folder.name.clone()), &Anchors::default()).unwrap();
    let mut checks: Vec<_> = report.findings.iter().map(|finding| finding.check).collect();
    checks.dedup();
    checks
}

#[test]
fn what_a_control_said_is_not_changed_by_who_can_sign_everything_anew() {
    let project = governed(ALL);
    committed(&project);
    let run = run(&project).run;
    assert_eq!(forge(&project, &run, |_| {}), [""; 0], "what is forged by nothing holds");
    let forged = |change: &dyn Fn(Forged<'_>)| forge(&project, &run, change);
    // Dropped, repeated and reordered entries.
    assert_eq!(forged(&|f| drop(f.entries.pop())), ["governance-complete"]);
    assert_eq!(forged(&|f| f.entries.clear()), ["governance-complete"]);
    assert_eq!(forged(&|f| drop(f.entries.remove(1))), ["governance-chain"]);
    assert_eq!(forged(&|f| f.entries.swap(3, 4)), ["governance-chain"]);
    assert_eq!(forged(&|f| f.entries.push(f.entries[4].clone())), ["governance-chain"]);
    assert_eq!(forged(&|f| f.entries[0].lane = 1), ["governance-chain"]);
    // The evidence of another control, and an object that is no evidence.
    assert_eq!(forged(&|f| f.entries[3].evidence = f.entries[4].evidence), ["governance-outcome"]);
    assert_eq!(forged(&|f| f.entries[2].evidence = None), ["governance-outcome"]);
    let model = folder(&project, &run).ledger().unwrap().entries[1].output("model").unwrap();
    let no_evidence = forged(&|f| f.entries[2].evidence = Some(model));
    assert_eq!(no_evidence, ["governance-evidence", "governance-outcome"]);
    // Outcomes: one that failed although it holds, and one that was never reached.
    for (outcome, checks) in [
        (Outcome::Failed, &["governance-outcome", "succeeded"][..]),
        (Outcome::NotReached, &["governance-outcome"]),
    ] {
        assert_eq!(forged(&|f| f.entries[3].outcome = outcome), checks);
    }
    // What surrounds it: a commit that was not clean, a signature of another key, no ledger at all.
    let dirty = forged(&|f| {
        let mut evidence = f.folder.evidence().unwrap();
        evidence.git = evidence.git.map(|git| GitState { dirty: true, ..git });
        fs::write(f.folder.path(EVIDENCE), serde_json::to_vec_pretty(&evidence).unwrap()).unwrap();
    });
    assert_eq!(dirty, ["governance-outcome"]);
    let unsigned = forged(&|f| {
        let path = f.folder.path("artifacts/package/model.safetensors.sig");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, text.replace("size ", "size 1")).unwrap();
    });
    assert_eq!(unsigned, ["governance-outcome", "signature"]);
    let absent = forged(&|f| fs::remove_file(f.folder.path(GOVERNANCE_LEDGER)).unwrap());
    assert_eq!(absent, ["governance-chain"]);
    // Reasons are for people.
    assert_eq!(forged(&|f| f.entries[3].reason = "said otherwise".to_owned()), [""; 0]);
}

#[test]
fn a_run_does_not_succeed_with_a_control_that_failed() {
    let project = Project::new();
    let bad = project.run(&project.request(&[("train.epochs", "1"), ("train.learning_rate", "0.0001")]));
    let run = bad.unwrap().run;
    assert_eq!(forge(&project, &run, |_| {}), [""; 0]);
    assert_eq!(forge(&project, &run, |f| *f.succeeded = true), ["succeeded"]);
    let passed = |f: Forged<'_>| {
        let gates = f.entries.last_mut().unwrap();
        gates.outcome = Outcome::Passed;
        *f.succeeded = true;
    };
    assert_eq!(forge(&project, &run, passed), ["governance-outcome"]);
}

#[test]
fn a_plan_without_controls_has_no_governance_ledger() {
    let project = governed("[]");
    let report = run(&project);
    assert_eq!((report.controls.len(), report.governance_root), (0, None));
    assert!(!folder(&project, &report.run).path(GOVERNANCE_LEDGER).exists());
    assert_eq!(forge(&project, &report.run, |_| {}), [""; 0]);
    let added = |f: Forged<'_>| fs::write(f.folder.path(GOVERNANCE_LEDGER), "").unwrap();
    assert_eq!(forge(&project, &report.run, added), ["governance-complete"]);
}

#[test]
fn every_byte_of_the_governance_ledger_counts() {
    let project = Project::new();
    let report = run(&project);
    let path = report.folder.join(GOVERNANCE_LEDGER);
    let good = fs::read(&path).unwrap();
    assert_eq!(found(&project, &report.run), [""; 0]);
    for at in (0..good.len()).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        let report = verify(&project.store(), &Scope::Run("latest".to_owned()), &Anchors::default()).unwrap();
        let placed = report
            .findings
            .iter()
            .any(|f| f.check.starts_with("governance-") && f.offset.is_none_or(|offset| offset <= at as u64));
        assert!(placed, "byte {at}: {:?}", report.findings);
    }
    fs::write(&path, good).unwrap();
    assert_eq!(found(&project, &report.run), [""; 0]);
}

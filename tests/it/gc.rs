//! Collection removes what nothing reaches and nothing else: on whole stores, under an interrupted run, on damaged stores,
//! and when the power fails in the middle of it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bitproof_audit::{gc, record, replay, verify, Anchors, Collect, GcError, GcReport, ReplayOutcome, Scope};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::storage::sim::{Fault, Left, SimDisk};
use bitproof_core_ledger::Store;
use bitproof_tests::Project;
use bitproof_training::judge::{judge_gates, plan_gates, sealed_facts, verdict_events, JudgedBy};
use bitproof_training::run_folder::{RunFolder, RunIndex};

/// Two runs, a verdict given later and a recorded verification: every kind of thing that names an object.
fn filled() -> Project {
    let project = Project::new();
    project.run(&project.request(&[])).unwrap();
    project.run(&project.request(&[("train.epochs", "2")])).unwrap();
    let store = project.store();
    let index = RunIndex::read(&store).unwrap();
    let row = &index.rows[1];
    let folder = RunFolder::open_recorded(&store, row).unwrap();
    let facts = sealed_facts(&store, row).unwrap();
    let gates = plan_gates(&folder.plan).unwrap();
    let recorder = project.recorder();
    let judged = judge_gates(&store, &index, &folder, &facts, &gates, Some("small-1")).unwrap();
    recorder.record(&verdict_events(folder.uid, JudgedBy::Another, &judged, &[])).unwrap();
    let report = verify(&store, &Scope::All, &Anchors::default()).unwrap();
    record(&recorder, &report).unwrap();
    drop(recorder);
    project
}

/// Leaves an object that nothing names, two other files among the objects and two leftovers; their paths.
fn litter(project: &Project) -> BTreeSet<String> {
    let root = project.store_root();
    let id = project.store().objects().put(b"nothing names this").unwrap().to_string();
    fs::create_dir_all(root.join("objects/zz")).unwrap();
    fs::write(root.join("objects/zz/notes.txt"), "x").unwrap();
    symlink(root.join("store.toml"), root.join("objects/zz/link")).unwrap();
    fs::write(root.join("tmp/leftover"), "12345").unwrap();
    fs::create_dir_all(root.join("tmp/run-1/telemetry")).unwrap();
    fs::write(root.join("tmp/run-1/telemetry/a.jsonl"), "123").unwrap();
    let object = format!("objects/{}/{}", &id[..2], &id[2..]);
    [object.as_str(), "objects/zz/link", "objects/zz/notes.txt", "tmp/leftover", "tmp/run-1"]
        .map(str::to_owned)
        .into()
}

fn collect(store: &Store, how: Collect) -> Result<GcReport, GcError> {
    gc(store, &Anchors::default(), how)
}

fn paths(report: &GcReport) -> BTreeSet<String> {
    report.unreached.iter().map(|u| u.path.clone()).collect()
}

/// Every file of the store but its locks.
fn files(project: &Project) -> BTreeSet<String> {
    let below = Files::on_disk().files_below(&project.store_root()).unwrap();
    below.into_iter().map(|(path, _)| path).filter(|path| !path.starts_with("lock/")).collect()
}

fn verified(store: &Store) -> (Vec<String>, Vec<String>) {
    let report = verify(store, &Scope::All, &Anchors::default()).unwrap();
    (report.findings.iter().map(ToString::to_string).collect(), report.unreferenced)
}

const WHOLE: (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());

#[test]
fn what_nothing_reaches_goes_and_every_run_verifies_and_replays() {
    let project = filled();
    let store = project.store();
    assert_eq!(verified(&store), WHOLE);
    let before = files(&project);
    let litter = litter(&project);
    let with_litter = files(&project);
    assert!(verified(&store).1.len() == litter.len());

    let listed = collect(&store, Collect::DryRun).unwrap();
    assert_eq!((paths(&listed), listed.unreached_bytes()), (litter, 18 + 1 + 5 + 3));
    assert_eq!(files(&project), with_litter, "a dry run removes nothing");
    assert_eq!(collect(&store, Collect::Remove).unwrap(), listed);
    assert_eq!(files(&project), before);
    assert_eq!(collect(&store, Collect::Remove).unwrap().unreached, []);
    assert_eq!(verified(&store), WHOLE);
    for run in ["small-1", "small-2"] {
        let request = project.replay_request(run);
        assert_eq!(replay(Some(&store), &request).unwrap().outcome, ReplayOutcome::Identical, "{run}");
    }
    // The control: each object that was kept is needed, or verification would not miss it.
    let objects: Vec<&String> = before.iter().filter(|path| path.starts_with("objects/")).collect();
    assert!(objects.len() > 12 && listed.kept_objects == objects.len() as u64);
    for object in objects {
        let path = project.store_root().join(object);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_ne!(verified(&store).0, Vec::<String>::new(), "{object} is missed by nobody");
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(verified(&store), WHOLE);
}

#[test]
fn nothing_is_removed_beside_a_writer() {
    let project = filled();
    let litter = litter(&project);
    let store = project.store();
    let writer = store.join_writers().unwrap();
    // What it has put is named by nothing yet.
    let put = store.objects().put(b"of a live run").unwrap();
    for how in [Collect::DryRun, Collect::Remove] {
        assert!(matches!(collect(&store, how), Err(GcError::Busy)));
    }
    assert!(store.objects().contains(&put));
    drop(writer);
    let report = collect(&store, Collect::Remove).unwrap();
    // What lay in `tmp` went when the writer came.
    let objects: BTreeSet<String> = litter.into_iter().filter(|path| path.starts_with("objects/")).collect();
    assert!(paths(&report).is_superset(&objects) && !store.objects().contains(&put));
}

#[test]
fn a_damaged_store_is_not_collected() {
    let project = filled();
    litter(&project);
    let root = project.store_root();
    let store = project.store();
    let refused = |what: &str| {
        let before = files(&project);
        let Ok(store) = Store::open(&Files::on_disk(), &root) else { return };
        let error =
            collect(&store, Collect::Remove).err().unwrap_or_else(|| panic!("{what}: it was collected"));
        assert!(matches!(error, GcError::Damaged { .. }), "{what}: {error}");
        assert_eq!(files(&project), before, "{what}");
    };
    let flipped = [
        "audit/events.log",
        "audit/head",
        "store.toml",
        "runs/small-1/ledger.log",
        "runs/small-1/plan.bin",
        "runs/small-2/inventory.bin",
        "runs/small-2/run.json",
    ];
    for file in flipped {
        let path = root.join(file);
        let good = fs::read(&path).unwrap();
        for at in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            refused(&format!("{file} byte {at}"));
        }
        fs::remove_file(&path).unwrap();
        refused(&format!("{file} removed"));
        fs::write(&path, good).unwrap();
    }
    let audit = root.join("audit");
    fs::rename(&audit, root.join("elsewhere")).unwrap();
    refused("no audit log");
    fs::rename(root.join("elsewhere"), &audit).unwrap();
    fs::rename(root.join("runs/small-1"), root.join("elsewhere")).unwrap();
    refused("a sealed run without its folder");
    fs::rename(root.join("elsewhere"), root.join("runs/small-1")).unwrap();
    fs::create_dir(root.join("runs/small-7")).unwrap();
    refused("a folder that may be a run's");
    fs::remove_dir(root.join("runs/small-7")).unwrap();
    collect(&store, Collect::Remove).unwrap();
    assert_eq!(verified(&store), WHOLE);
}

#[test]
fn an_older_log_that_was_put_back_is_not_collected_by_who_knows_a_newer_head() {
    let project = Project::new();
    project.run(&project.request(&[])).unwrap();
    let audit = project.store_root().join("audit");
    let older: Vec<(String, Vec<u8>)> =
        ["events.log", "head"].map(|name| (name.to_owned(), fs::read(audit.join(name)).unwrap())).into();
    project.run(&project.request(&[("train.epochs", "2")])).unwrap();
    let store = project.store();
    let kept = store.read_audit(&[]).unwrap().head.unwrap();
    older.iter().for_each(|(name, bytes)| fs::write(audit.join(name), bytes).unwrap());
    let anchors = Anchors { pins: vec![kept], ..Anchors::default() };
    assert!(matches!(gc(&store, &anchors, Collect::Remove), Err(GcError::Damaged { .. })));
    // Without that knowledge the newer run is one that was not sealed, which is kept; the verdicts about it are lost.
    let unreached = paths(&collect(&store, Collect::DryRun).unwrap());
    assert!(
        !unreached.is_empty() && unreached.iter().all(|path| path.starts_with("objects/")),
        "{unreached:?}"
    );
}

/// A disk with the project's folder and nothing in it.
fn empty_disk(project: &Project) -> SimDisk {
    let disk = SimDisk::new();
    let files = Files::on(disk.clone());
    files.create_dir_all(project.path()).unwrap();
    for folder in project.path().ancestors() {
        files.sync_dir(folder).unwrap();
    }
    disk
}

fn store_on(disk: &SimDisk, root: &Path) -> Store {
    Store::open(&Files::on(disk.clone()), root).unwrap()
}

fn forget_heads(project: &Project) {
    // What the user remembers lies on another disk, which is that of the run before.
    let _ = fs::remove_dir_all(project.path().join("heads"));
}

#[test]
fn an_interrupted_run_keeps_what_it_committed_and_goes_on() {
    let mut project = Project::new();
    let run = |project: Project, disk: &SimDisk| {
        forget_heads(&project);
        let project = project.on(Files::on(disk.clone()));
        let mut request = project.request(&[]);
        // One worker, so that the operations have one order; no cache, which would hide what was lost.
        (request.workers, request.read_cache) = (1, false);
        let report = project.run_to_end(&request);
        (project, report)
    };
    let whole = empty_disk(&project);
    let (start, reference);
    (project, reference) = run(project, &whole);
    let reference = reference.unwrap();
    start = empty_disk(&project).operations();
    let (mut collected, mut refused, mut with_entries) = (0, 0, 0);
    for operation in start..whole.operations() {
        let disk = empty_disk(&project).failing(operation, Fault::PowerOff);
        (project, _) = run(project, &disk);
        for left in [Left::Dropped, Left::Kept] {
            let disk = disk.after(left);
            let root = project.store_root();
            let what = format!("stopped at operation {operation}, {left:?}");
            let opened = Store::open(&Files::on(disk.clone()), &root);
            let Ok(store) = opened else { continue };
            match collect(&store, Collect::Remove) {
                Ok(_) => collected += 1,
                // Leaves that no head covers: it is not known what they name.
                Err(GcError::Damaged { findings }) => {
                    assert!(findings.iter().all(|f| f.check == "head-covers-log"), "{what}: {findings:?}");
                    refused += 1;
                }
                Err(error) => panic!("{what}: {error}"),
            }
            let report;
            (project, report) = run(project, &disk);
            let report = report.unwrap_or_else(|e| panic!("{what}: the run does not go on: {e}"));
            with_entries += usize::from(report.resumed_at.is_some_and(|n| n > 0));
            assert_eq!(
                (report.ledger_root, report.result_root),
                (reference.ledger_root, reference.result_root),
                "{what}"
            );
            let (findings, unreferenced) = verified(&store_on(&disk, &root));
            assert_eq!(findings, Vec::<String>::new(), "{what}");
            assert!(
                unreferenced.iter().all(|path| !path.starts_with("objects/")),
                "{what}: {unreferenced:?}"
            );
        }
    }
    println!("gc under interrupted runs: {collected} collected, {refused} refused, {with_entries} resumed with entries");
    assert!(collected > 100 && with_entries > 20, "{collected} collected, {with_entries} with entries");
}

#[test]
fn a_stop_in_the_middle_leaves_a_store_that_verifies_and_is_collected_again() {
    let project = Project::new();
    let disk = empty_disk(&project);
    let project = project.on(Files::on(disk.clone()));
    project.run(&project.request(&[])).unwrap();
    let root = project.store_root();
    for content in 0..6u8 {
        store_on(&disk, &root).objects().put(&[content; 700]).unwrap();
    }
    Files::on(disk.clone()).write_new(&root.join("tmp/leftover"), b"x").unwrap();
    let littered = || disk.after(Left::Kept);
    let whole = littered();
    let expected = collect(&store_on(&whole, &root), Collect::Remove).unwrap();
    assert_eq!(expected.unreached.len(), 7);
    let mut disks = 0;
    for operation in 0..=whole.operations() {
        for fault in [Fault::PowerOff, Fault::Error, Fault::DiskFull] {
            let disk = littered().failing(operation, fault);
            let done = collect(&store_on(&disk, &root), Collect::Remove).is_ok();
            let left = if fault == Fault::PowerOff { disk.crashes() } else { vec![Left::Kept] };
            for left in left {
                let what = format!("{fault:?} at operation {operation}, {left:?}");
                let after = disk.after(left);
                let store = store_on(&after, &root);
                let (findings, unreferenced) = verified(&store);
                assert_eq!(findings, Vec::<String>::new(), "{what}");
                assert!(!done || unreferenced.is_empty(), "{what}: {unreferenced:?} is said to be gone");
                collect(&store, Collect::Remove).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(verified(&store), WHOLE, "{what}");
                disks += 1;
            }
        }
    }
    assert!(disks > 30, "{disks} disks");
}

//! Power failures, failing syncs and a full disk at every operation of a run, on a simulated disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bitproof_audit::{verify, Anchors, Scope};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::keys::KeyRole;
use bitproof_core_ledger::storage::sim::{Fault, Left, SimDisk};
use bitproof_tests::Project;
use bitproof_training::run_folder::RunIndex;
use bitproof_training::workflow::RunReport;

/// The project with its store and cache on a simulated disk, whose folders are there.
struct Bench {
    project: Project,
    operations_before: u64,
}

impl Bench {
    fn new() -> Self {
        let project = Project::new();
        // The keys lie outside the store and are made before.
        let first = project.on(Files::on(empty_disk(&Project::new())));
        let _ = first.run(&first.request(&[]));
        Self { operations_before: empty_disk(&first).operations(), project: first }
    }

    fn disk(&self) -> SimDisk {
        empty_disk(&self.project)
    }

    fn run(self, disk: &SimDisk) -> (Self, Result<RunReport, String>) {
        let mut request = self.project.request(&[]);
        // One worker, so that the operations have one order.
        request.workers = 1;
        let project = self.project.on(Files::on(disk.clone()));
        let report = project.run_to_end(&request);
        (Self { project, ..self }, report)
    }
}

/// What the user's configuration folder remembers of published heads. It is on another disk, which does not crash.
fn remembered(project: &Project) -> BTreeMap<PathBuf, Vec<u8>> {
    let Ok(entries) = fs::read_dir(project.path().join("heads")) else { return BTreeMap::new() };
    entries.map(|entry| entry.unwrap().path()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn remember(project: &Project, heads: &BTreeMap<PathBuf, Vec<u8>>) {
    remembered(project).keys().for_each(|path| fs::remove_file(path).unwrap());
    heads.iter().for_each(|(path, head)| fs::write(path, head).unwrap());
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

/// What must hold of every disk after a stop: the same command ends well with the same roots, and each event is there once.
fn check(bench: Bench, disk: &SimDisk, reference: &RunReport, acknowledged: bool, what: &str) -> Bench {
    let before = bench.project.path().join(".bitproof");
    let (sealed_before, covered) = sealed(disk, &before);
    assert!(!acknowledged || (sealed_before == 1 && covered), "{what}: an acknowledged run is gone");
    let (bench, report) = bench.run(disk);
    let report = report.unwrap_or_else(|e| panic!("{what}: the same command does not go on: {e}"));
    assert_eq!(
        (report.ledger_root, report.result_root, report.plan_digest),
        (reference.ledger_root, reference.result_root, reference.plan_digest),
        "{what}"
    );
    let store =
        bitproof_core_ledger::Store::open(&Files::on(disk.clone()), &bench.project.store_root()).unwrap();
    let verified = verify(&store, &Scope::All, &Anchors::default()).unwrap();
    assert!(verified.ok(), "{what}: {:?}", verified.findings);
    let audit = store.read_audit(&[]).unwrap();
    let mut times = BTreeMap::new();
    audit.leaves.iter().for_each(|leaf| *times.entry(leaf.event.id).or_insert(0) += 1);
    assert!(times.values().all(|&n| n == 1), "{what}: an event is there twice");
    let runs = RunIndex::new(&audit).rows.len();
    // A run that was sealed but not acknowledged is judged now, or followed by another of the same plan.
    assert!(runs == 1 || runs == 1 + sealed_before, "{what}: {runs} runs");
    bench
}

/// How many sealed runs a disk holds, and whether a signed head covers every leaf.
fn sealed(disk: &SimDisk, root: &Path) -> (usize, bool) {
    let Ok(store) = bitproof_core_ledger::Store::open(&Files::on(disk.clone()), root) else {
        return (0, true);
    };
    let audit = store.read_audit(&[]).expect("a crash is no damage");
    let rows = RunIndex::new(&audit).rows;
    (rows.iter().filter(|row| row.seal.is_some()).count(), audit.uncovered() == 0)
}

#[test]
fn a_stop_at_any_write_or_sync_loses_nothing_that_was_acknowledged() {
    let bench = Bench::new();
    let whole = bench.disk();
    let (mut bench, reference) = bench.run(&whole);
    let reference = reference.unwrap();
    let (start, end) = (bench.operations_before, whole.operations());
    let (mut points, mut disks) = (0, 0);
    for operation in start..=end {
        for fault in [Fault::PowerOff, Fault::Error, Fault::DiskFull] {
            let disk = bench.disk().failing(operation, fault);
            remember(&bench.project, &BTreeMap::new());
            let report;
            (bench, report) = bench.run(&disk);
            let acknowledged = report.is_ok();
            points += 1;
            let heads = remembered(&bench.project);
            let left = if fault == Fault::PowerOff { disk.crashes() } else { vec![Left::Kept] };
            for left in left {
                remember(&bench.project, &heads);
                let what = format!("{fault:?} at operation {operation}, {left:?}");
                bench = check(bench, &disk.after(left), &reference, acknowledged, &what);
                disks += 1;
            }
        }
    }
    println!("crash simulation: operations {start} to {end}, {points} stops, {disks} disks");
    assert!(points > 300 && disks > 600, "{points} stops, {disks} disks");
}

/// The files of a folder, and a folder made to hold just these.
fn files_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn restore(dir: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    files_of(dir)
        .keys()
        .filter(|path| !files.contains_key(*path))
        .for_each(|path| fs::remove_file(path).unwrap());
    for (path, bytes) in files {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_rotation_that_is_stopped_leaves_a_key_that_signs() {
    let bench = Bench::new();
    let whole = bench.disk();
    let (bench, report) = bench.run(&whole);
    report.unwrap();
    let keys = bench.project.path().join("keys");
    let (before, heads) = (files_of(&keys), remembered(&bench.project));
    let (mut disks, mut rotated) = (0, BTreeMap::from([(true, 0), (false, 0)]));
    for role in [KeyRole::Log, KeyRole::Artifact] {
        for n in 0.. {
            restore(&keys, &before);
            remember(&bench.project, &heads);
            let disk = whole.after(Left::Kept);
            let start = disk.operations();
            let disk = disk.failing(start + n, Fault::PowerOff);
            let done = bench.project.recorder_on(&Files::on(disk.clone())).and_then(|mut r| r.rotate(role));
            let (stopped, heads) = (files_of(&keys), remembered(&bench.project));
            for left in disk.crashes() {
                restore(&keys, &stopped);
                remember(&bench.project, &heads);
                let after = Files::on(disk.after(left));
                let what = format!("{role} key, operation {n}, {left:?}");
                let recorder = bench.project.recorder_on(&after).unwrap_or_else(|e| panic!("{what}: {e}"));
                recorder.record(&[]).unwrap();
                let ring = recorder.store.read_audit(&[]).unwrap().keyring();
                let in_force = ring.in_force(role, u64::MAX);
                assert_eq!(in_force.len(), 1, "{what}: {in_force:?}");
                assert!(ring.rejected().is_empty(), "{what}");
                let new = ring.spans().iter().any(|span| span.replaced.is_some());
                assert!(new || done.is_err(), "{what}: an acknowledged rotation is gone");
                *rotated.entry(new).or_insert(0) += 1;
                disks += 1;
            }
            if disk.operations() < start + n {
                break;
            }
        }
    }
    println!("crash simulation of rotations: {disks} disks, {rotated:?} with the new key");
    assert!(disks > 60 && rotated.values().all(|&n| n > 10), "{disks} {rotated:?}");
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_seen_to_lose_the_run() {
    let bench = Bench::new();
    let root = bench.project.store_root();
    let (honest, lying) = (bench.disk(), bench.disk().failing(bench.operations_before, Fault::Lies));
    let (bench, report) = bench.run(&honest);
    assert!(report.is_ok());
    assert_eq!(sealed(&honest.after(Left::Dropped), &root), (1, true));
    let (_, report) = bench.run(&lying);
    assert!(report.is_ok(), "the program cannot know");
    assert_eq!(sealed(&lying.after(Left::Dropped), &root).0, 0);
}

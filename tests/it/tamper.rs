//! No byte of the evidence changes unnoticed.

use std::fs;
use std::path::{Path, PathBuf};

use bitproof_audit::{verify, Scope};
use bitproof_tests::Project;

fn evidence(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.file_name().and_then(|n| n.to_str()) {
            // Locks are empty and the staging folder holds no evidence.
            Some("lock" | "tmp") => {}
            _ if path.is_dir() => files.extend(evidence(&path)),
            _ => files.push(path),
        }
    }
    files.sort();
    files
}

/// The findings' paths; an error of verification itself is not a pass either, and names its file in its text.
fn findings(project: &Project) -> Vec<(String, Option<u64>)> {
    match bitproof_core_ledger::Store::open(
        &bitproof_core_ledger::files::Files::on_disk(),
        &project.store_root(),
    ) {
        Err(error) => vec![(error.to_string(), Some(0))],
        Ok(store) => match verify(&store, &Scope::Run("latest".to_owned()), &[]) {
            Ok(report) => report.findings.into_iter().map(|f| (f.path, f.offset)).collect(),
            Err(error) => vec![(error.to_string(), None)],
        },
    }
}

#[test]
fn one_flipped_byte_in_any_evidence_file_is_found_with_file_and_place() {
    const EVERY_BYTE_UP_TO: usize = 1200;
    const SAMPLES: usize = 24;
    let project = Project::new();
    project.run(&project.request(&[])).unwrap();
    assert_eq!(findings(&project), []);
    let files = evidence(&project.store_root());
    assert!(files.len() > 25, "{files:?}");
    let (mut flips, mut placed) = (0, 0);
    for path in &files {
        let good = fs::read(path).unwrap();
        let step = if good.len() <= EVERY_BYTE_UP_TO { 1 } else { good.len() / SAMPLES };
        let relative = path.strip_prefix(project.store_root()).unwrap().to_str().unwrap();
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 0x01;
            fs::write(path, &bad).unwrap();
            let found = findings(&project);
            assert!(!found.is_empty(), "byte {at} of {relative} was flipped and verify passed");
            // A damaged head or log is told as such, and a damaged store.toml makes another origin: then the head is named.
            let named = found.iter().any(|(path, _)| path.contains(relative))
                || (relative == "store.toml" && found.iter().any(|(path, _)| path.contains("audit/head")))
                || (relative.starts_with("audit/") && found.iter().any(|(path, _)| path.contains("audit/")));
            assert!(named, "byte {at} of {relative}: {found:?}");
            flips += 1;
            placed += usize::from(found.iter().any(|(_, offset)| offset.is_some_and(|o| o <= at as u64)));
        }
        fs::write(path, &good).unwrap();
    }
    assert_eq!(findings(&project), [], "everything was put back");
    assert!(placed * 100 >= flips * 90, "{placed} of {flips} flips were placed at or before the byte");
    println!("{} files, {flips} flips, every one found, {placed} placed", files.len());
}

#[test]
fn a_missing_and_an_added_file_are_found() {
    let project = Project::new();
    let report = project.run(&project.request(&[])).unwrap();
    for path in evidence(&project.store_root()) {
        let good = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_ne!(findings(&project), [], "{} was removed", path.display());
        fs::write(&path, good).unwrap();
    }
    assert_eq!(findings(&project), []);
    let added = report.folder.join("telemetry").join("added.jsonl");
    fs::write(&added, "").unwrap();
    assert_eq!(findings(&project), [(format!("runs/{}/telemetry/added.jsonl", report.run), None)]);
}

//! No byte of the evidence changes unnoticed.

use std::fs;

use bitproof_audit::{verify, Anchors, Scope};
use bitproof_tests::Project;

/// The findings' paths; an error of verification itself is not a pass either, and names its file in its text.
fn findings(project: &Project) -> Vec<(String, Option<u64>)> {
    match bitproof_core_ledger::Store::open(
        &bitproof_core_ledger::files::Files::on_disk(),
        &project.store_root(),
    ) {
        Err(error) => vec![(error.to_string(), Some(0))],
        Ok(store) => match verify(&store, &Scope::Run("latest".to_owned()), &Anchors::default()) {
            Ok(report) => report.findings.into_iter().map(|f| (f.path, f.offset)).collect(),
            Err(error) => vec![(error.to_string(), None)],
        },
    }
}

#[test]
fn a_missing_and_an_added_file_are_found() {
    let project = Project::new();
    let report = project.run(&project.request(&[])).unwrap();
    for path in project.evidence() {
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

//! Approvals, waivers and promotions in the log are what their keys signed, about runs that are there.

use bitproof_audit::{prove, verify, Anchors, Scope};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::digest::Digest;
use bitproof_core_ledger::events::{Event, EventBody};
use bitproof_core_ledger::keys::{KeyRole, PrivateKey};
use bitproof_core_ledger::note::NoteKey;
use bitproof_core_ledger::statement::Statement;
use bitproof_tests::Project;

const ADA: &str = "example.org/ada";

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes(KeyRole::Artifact, &[seed; 32])
}

fn public(seed: u8) -> NoteKey {
    key(seed).note_key(ADA).unwrap()
}

/// Records what a body makes of an object that holds `note`; says what `verify` finds then.
fn recorded(project: &Project, note: &str, event: &EventBody) -> Vec<String> {
    let recorder = project.recorder();
    recorder.store.objects().put(note.as_bytes()).unwrap();
    recorder.record(std::slice::from_ref(event)).unwrap();
    let report = verify(&project.store(), &Scope::All, &Anchors::default()).unwrap();
    assert_eq!(report.unreferenced, [""; 0], "what an event names is reached");
    report.findings.iter().map(|finding| finding.check.to_owned()).collect()
}

fn ran() -> (Project, [u8; 16]) {
    let project = Project::new();
    project.run(&project.request(&[])).unwrap();
    let uid = bitproof_training::run_folder::RunIndex::read(&project.store()).unwrap().rows[0].uid;
    (project, uid)
}

fn statements(uid: [u8; 16]) -> [Statement; 3] {
    [
        Statement::Approval { uid, before: "package".to_owned(), meaning: "reviewed".to_owned() },
        Statement::Waiver {
            uid,
            finding: "gate evaluate/accuracy".to_owned(),
            expires_unix_seconds: 1_800_000_000,
            reason: "known".to_owned(),
        },
        Statement::Promotion { uid, reference: "production".to_owned() },
    ]
}

#[test]
fn what_was_signed_is_recorded_verified_and_proved() {
    let (project, uid) = ran();
    for statement in statements(uid) {
        let note = statement.sign(&key(1), ADA).unwrap();
        let object = Digest::of_bytes(note.as_bytes());
        assert_eq!(recorded(&project, &note, &statement.event(&public(1), object)), [""; 0]);
        // An auditor asks for the proof by the statement's digest.
        let proof = prove(&project.store().read_audit(&[]).unwrap(), &object.to_string()).unwrap();
        let log = project.store().read_audit(&[]).unwrap().signer.unwrap();
        proof.check(&log).unwrap();
        let proved: Event = canon::decode(&proof.leaf).unwrap();
        assert_eq!(proved.body, statement.event(&public(1), object));
    }
}

#[test]
fn what_nobody_signed_is_found() {
    for n in 0..3 {
        for forgery in ["another key", "another statement", "no statement"] {
            let (project, uid) = ran();
            let statement = &statements(uid)[n];
            let note = statement.sign(&key(1), ADA).unwrap();
            let object = Digest::of_bytes(note.as_bytes());
            let other = Statement::Promotion { uid, reference: "staging".to_owned() };
            let (note, event) = match forgery {
                "another key" => (note.as_str(), statement.event(&public(2), object)),
                "another statement" => (note.as_str(), other.event(&public(1), object)),
                _ => ("no note", statement.event(&public(1), Digest::of_bytes(b"no note"))),
            };
            assert_eq!(recorded(&project, note, &event), ["statement"], "{forgery}");
        }
    }
}

#[test]
fn a_statement_about_a_run_that_is_not_there_is_found() {
    let (project, _) = ran();
    let statement = Statement::Promotion { uid: [1; 16], reference: "production".to_owned() };
    let note = statement.sign(&key(1), ADA).unwrap();
    let event = statement.event(&public(1), Digest::of_bytes(note.as_bytes()));
    assert_eq!(recorded(&project, &note, &event), ["statement"]);
}

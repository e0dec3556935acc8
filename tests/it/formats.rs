//! The examples in `docs/formats` are what the program writes and reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bitproof_audit::{sign_model, Attestation, SignedFile};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::digest::{
    ActionKind, ComparisonKind, Content, EntryKind, EventKind, GenesisKind, Kind, PlanKind, ResultKind,
    StreamKind,
};
use bitproof_core_ledger::dsse::PublicKey;
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::keys::ModelSigningKey;
use bitproof_core_ledger::log::{self, Acknowledged, LogKind, LogWriter};
use bitproof_core_ledger::sha256::Sha256Digest;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The bytes of a page's first hex block.
fn example(name: &str) -> Vec<u8> {
    let page = page(name);
    let (_, block) = page.split_once("```hex\n").expect("an example in hex");
    let digits = block.split_once("```").expect("the end of the example").0.split_whitespace();
    digits.map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
}

#[test]
fn the_canonical_map_is_the_one_on_the_page() {
    let bytes = example("canonical.md");
    let map = BTreeMap::from([("a".to_owned(), 1u32), ("b".to_owned(), 2)]);
    assert_eq!(canon::encode(&map), bytes);
    assert_eq!(canon::decode::<BTreeMap<String, u32>>(&bytes).unwrap(), map);
    let entry = 8 + 1 + 4;
    let swapped = [&bytes[..8], &bytes[8 + entry..], &bytes[8..8 + entry]].concat();
    assert!(canon::decode::<BTreeMap<String, u32>>(&swapped).is_err(), "a map out of order");
}

#[test]
fn the_log_file_is_the_one_on_the_page() {
    let bytes = example("log-file.md");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.log");
    let (mut file, _) =
        LogWriter::open(&Files::on_disk(), &path, LogKind::LEDGER, Acknowledged::Unknown).unwrap();
    file.append(&[b"hi"]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let contents = log::parse(&bytes, LogKind::LEDGER).unwrap();
    assert_eq!((contents.records.len(), contents.records[0].payload.as_slice()), (1, b"hi".as_slice()));
    assert!(log::parse(&bytes, LogKind::AUDIT).is_err(), "another kind");
}

#[test]
fn the_bundle_is_the_one_on_the_page() {
    let page = page("attestations.md");
    let block = |language: &str| {
        let (_, block) = page.split_once(&format!("```{language}\n")).expect("an example");
        block.split_once("```").expect("the end of the example").0.to_owned()
    };
    let key = ModelSigningKey::from_bytes(&[1; 32]).unwrap();
    assert_eq!(block("pem"), key.public_key().to_pem());
    let file = |name: &str| SignedFile { name: name.to_owned(), sha256: Sha256Digest::of_bytes(b"hi") };
    let bundle = sign_model("model", vec![file("a-b"), file("a/b")], &key);
    assert_eq!(block("json").trim_end(), String::from_utf8(bundle.clone()).unwrap());
    let attestation = Attestation::read(&bundle, &PublicKey::from_pem(&block("pem")).unwrap()).unwrap();
    assert_eq!(attestation.files, [file("a/b"), file("a-b")]);
}

#[test]
fn the_contexts_of_digests_are_those_on_the_page() {
    let kinds: [(&str, Option<&str>); 9] = [
        ("content", Content::CONTEXT),
        ("plan", PlanKind::CONTEXT),
        ("action", ActionKind::CONTEXT),
        ("chain entry", EntryKind::CONTEXT),
        ("chain genesis", GenesisKind::CONTEXT),
        ("result root", ResultKind::CONTEXT),
        ("event id", EventKind::CONTEXT),
        ("stream key", StreamKind::CONTEXT),
        ("comparison", ComparisonKind::CONTEXT),
    ];
    let row = |(name, context): (&str, Option<&str>)| match context {
        Some(context) => format!("| {name} | `{context}` |"),
        None => format!("| {name} | none: plain BLAKE3 |"),
    };
    let page = page("canonical.md");
    let (_, table) = page.split_once("| kind | context |\n|---|---|\n").unwrap();
    assert_eq!(table.lines().collect::<Vec<_>>(), kinds.map(row));
}

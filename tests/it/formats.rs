//! The examples in `docs/formats` are what the program writes and reads.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bitproof_audit::{sign_model, Attestation, SignedFile};
use bitproof_core_ledger::digest::{
    ActionKind, BatchesKind, ComparisonKind, Content, EntryKind, EventKind, GenesisKind, GovernanceKind,
    Kind, LossesKind, MomentsKind, ParametersKind, PlanKind, ResultKind, SampleKind, StatKind, StreamKind,
    ToolsKind,
};
use bitproof_core_ledger::dsse::PublicKey;
use bitproof_core_ledger::keys::ModelSigningKey;
use bitproof_core_ledger::sha256::Sha256Digest;
use bitproof_tests::vectors::{vectors, Vector};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every fenced block of a page that names a vector: the vector's name and the block's bytes.
fn examples(page: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut blocks = page.split("```");
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        let (info, text) = block.split_once('\n').expect("a block begins with a line of its own");
        let bytes = match info.split_once(' ') {
            Some(("hex", _)) => {
                let digits = text.split_whitespace();
                digits.map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")).collect()
            }
            Some(("text", _)) => text.as_bytes().to_vec(),
            _ => continue,
        };
        found.push((info.split_once(' ').expect("it was split").1.to_owned(), bytes));
    }
    found
}

/// What does not hold between the pages, given by name, and the vectors.
fn differences(pages: &BTreeMap<String, String>) -> Vec<String> {
    let vectors: BTreeMap<String, Vec<u8>> = vectors()
        .into_iter()
        .filter(Vector::taken)
        .map(|vector| (format!("{}/{}", vector.decoder, vector.name), vector.bytes))
        .collect();
    let mut differences = Vec::new();
    for (name, page) in pages {
        let examples = examples(page);
        if examples.is_empty() {
            differences.push(format!("{name} has no example"));
        }
        for (vector, bytes) in examples {
            if vectors.get(&vector) != Some(&bytes) {
                differences.push(format!("{name}: the example is not the vector {vector}"));
            }
        }
    }
    differences
}

#[test]
fn every_page_has_an_example_that_is_a_vector() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats");
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The index describes no format; the example on the page of attestations has a test of its own below.
    let names =
        names.filter(|name| name.ends_with(".md") && name != "README.md" && name != "attestations.md");
    let mut pages: BTreeMap<String, String> = names.map(|name| (name.clone(), page(&name))).collect();
    assert!(pages.len() >= 15, "{} pages", pages.len());
    assert_eq!(differences(&pages), [""; 0]);
    // Another byte, another name, and a page without an example are told.
    let log = pages["log-file.md"].clone();
    pages.insert("log-file.md".to_owned(), log.replace("68 69\n", "68 6a\n"));
    pages.insert("other.md".to_owned(), log.replace("log_file/one-record", "log_file/none"));
    pages.insert("empty.md".to_owned(), "```json\n{}\n```\n".to_owned());
    assert_eq!(
        differences(&pages),
        [
            "empty.md has no example",
            "log-file.md: the example is not the vector log_file/one-record",
            "other.md: the example is not the vector log_file/none"
        ]
    );
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
    let kinds: [(&str, Option<&str>); 17] = [
        ("content", Content::CONTEXT),
        ("plan", PlanKind::CONTEXT),
        ("action", ActionKind::CONTEXT),
        ("chain entry", EntryKind::CONTEXT),
        ("chain genesis", GenesisKind::CONTEXT),
        ("governance", GovernanceKind::CONTEXT),
        ("result root", ResultKind::CONTEXT),
        ("event id", EventKind::CONTEXT),
        ("stream key", StreamKind::CONTEXT),
        ("file stat", StatKind::CONTEXT),
        ("comparison", ComparisonKind::CONTEXT),
        ("parameters", ParametersKind::CONTEXT),
        ("moments", MomentsKind::CONTEXT),
        ("batches", BatchesKind::CONTEXT),
        ("losses", LossesKind::CONTEXT),
        ("sample", SampleKind::CONTEXT),
        ("tools", ToolsKind::CONTEXT),
    ];
    let row = |(name, context): (&str, Option<&str>)| match context {
        Some(context) => format!("| {name} | `{context}` |"),
        None => format!("| {name} | none: plain BLAKE3 |"),
    };
    let page = page("canonical.md");
    let (_, table) = page.split_once("| kind | context |\n|---|---|\n").unwrap();
    assert_eq!(table.lines().collect::<Vec<_>>(), kinds.map(row));
}

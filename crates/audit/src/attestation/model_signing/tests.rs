//! Bundles that were changed, named by their mutation, each with what is said of it.

use bitproof_core_ledger::keys::{KeyRole, PrivateKey};
use bitproof_core_ledger::limits::ATTESTATION_BYTES;
use serde_json::json;

use super::*;

fn key(seed: u8) -> ModelSigningKey {
    ModelSigningKey::from_bytes(&[seed; 32]).unwrap()
}

fn file(name: &str) -> SignedFile {
    SignedFile { name: name.to_owned(), sha256: Sha256Digest::of_bytes(name.as_bytes()) }
}

fn good() -> String {
    String::from_utf8(sign_model("model", vec![file("a-b"), file("a/b"), file("c")], &key(1))).unwrap()
}

fn payload() -> Value {
    let bundle: Bundle = serde_json::from_str(&good()).unwrap();
    let payload = bundle.dsse_envelope.open(&key(1).public_key(), KeyName::Empty).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// A bundle of any payload, signed as it should be.
fn bundle(payload: &str) -> String {
    let envelope = Envelope::by_model_signing_key(payload.as_bytes(), &key(1));
    let mut bundle: Value = serde_json::from_str(&good()).unwrap();
    bundle["dsseEnvelope"] = serde_json::to_value(envelope).unwrap();
    bundle.to_string()
}

fn said(bytes: &str) -> String {
    match Attestation::read(bytes.as_bytes(), &key(1).public_key()) {
        Ok(attestation) => format!("accepted: {attestation:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_was_signed_is_read_and_is_a_function_of_files_and_key() {
    let attestation = Attestation::read(good().as_bytes(), &key(1).public_key()).unwrap();
    assert_eq!(attestation.subject.as_deref(), Some("model"));
    assert_eq!(attestation.files, [file("a/b"), file("a-b"), file("c")], "sorted part by part");
    let other_order = sign_model("model", vec![file("c"), file("a/b"), file("a-b")], &key(1));
    assert_eq!(other_order, good().as_bytes());
    assert_eq!(said(&bundle(&payload().to_string())), format!("accepted: {attestation:?}"));
}

#[test]
fn a_bundle_that_was_changed_is_refused() {
    let good = good();
    let change = |change: &dyn Fn(&mut Value)| {
        let mut changed: Value = serde_json::from_str(&good).unwrap();
        change(&mut changed);
        changed.to_string()
    };
    let hint = key(1).public_key().id();
    let signatures = "/dsseEnvelope/signatures";
    for (mutation, changed, message) in [
        ("empty", String::new(), "the bundle is truncated"),
        ("oversized", " ".repeat(ATTESTATION_BYTES as usize + 1), "larger than 16777216 bytes"),
        ("other-media-type", good.replace("v0.3", "v0.2"), "the bundle's media type is"),
        ("other-hint", good.replace(&hint, &key(2).public_key().id()), "the bundle's hint names the key"),
        ("upper-case-hint", good.replace(&hint, &hint.to_uppercase()), "the bundle's hint names the key"),
        ("no-hint", change(&|b| b["verificationMaterial"]["publicKey"] = json!({})), "missing field `hint`"),
        (
            "log-entry",
            change(&|b| b["verificationMaterial"]["tlogEntries"] = json!([{}])),
            "1 entries of a transparency log",
        ),
        ("unknown-field", change(&|b| b["x"] = json!(1)), "unknown field `x`"),
        (
            "certificate",
            change(&|b| b["verificationMaterial"]["x509CertificateChain"] = json!({})),
            "unknown field",
        ),
        (
            "unknown-field-of-the-envelope",
            change(&|b| b["dsseEnvelope"]["x"] = json!(1)),
            "unknown field `x`",
        ),
        (
            "unknown-field-of-the-signature",
            change(&|b| b["dsseEnvelope"]["signatures"][0]["alg"] = json!("none")),
            "unknown field `alg`",
        ),
        (
            "duplicate-field",
            good.replacen("{\"mediaType\"", "{\"mediaType\":\"x\",\"mediaType\"", 1),
            "the bundle has the field \"mediaType\" twice",
        ),
        (
            "duplicate-field-of-the-envelope",
            good.replacen("\"payloadType\"", "\"payload\":\"\",\"payloadType\"", 1),
            "the bundle has the field \"payload\" twice",
        ),
        (
            "duplicate-field-of-the-key",
            good.replacen("{\"hint\"", "{\"hint\":\"\",\"hint\"", 1),
            "the bundle has the field \"hint\" twice",
        ),
        (
            "duplicate-field-of-the-signature",
            good.replacen("\"keyid\"", "\"sig\":\"\",\"keyid\"", 1),
            "the bundle has the field \"sig\" twice",
        ),
        (
            "second-signature",
            change(&|b| {
                let signature = b.pointer(signatures).unwrap()[0].clone();
                b.pointer_mut(signatures).unwrap().as_array_mut().unwrap().push(signature);
            }),
            "there are 2 signatures",
        ),
        (
            "no-signature",
            change(&|b| *b.pointer_mut(signatures).unwrap() = json!([])),
            "there are 0 signatures",
        ),
        (
            "other-payload-type",
            good.replace("application/vnd.in-toto+json", "application/json"),
            "the payload is of the type \"application/json\"",
        ),
        (
            "key-id",
            change(&|b| b.pointer_mut(signatures).unwrap()[0]["keyid"] = json!("k")),
            "it names the key \"k\"",
        ),
        (
            "line-feed-in-base64",
            change(&|b| {
                let payload = b["dsseEnvelope"]["payload"].as_str().unwrap();
                b["dsseEnvelope"]["payload"] = json!(format!("{}\n{}", &payload[..8], &payload[8..]));
            }),
            "the payload is not canonical base64",
        ),
    ] {
        let said = said(&changed);
        assert!(said.contains(message), "{mutation}: {said}");
    }
    for end in 0..good.len() {
        assert!(said(&good[..end]).starts_with("the bundle is truncated"), "a prefix of {end} bytes");
    }
}

#[test]
fn other_keys_do_not_open_it() {
    let good = good();
    let other = Attestation::read(good.as_bytes(), &key(2).public_key()).unwrap_err().to_string();
    assert!(other.starts_with("the bundle's hint names the key"), "{other}");
    let renamed = good.replace(&key(1).public_key().id(), &key(2).public_key().id());
    let other = Attestation::read(renamed.as_bytes(), &key(2).public_key()).unwrap_err().to_string();
    assert!(other.starts_with("the signature does not verify with the ECDSA P-256 key"), "{other}");
    let ed25519 = PrivateKey::from_bytes(KeyRole::Artifact, &[1; 32]).public_key();
    let other = Attestation::read(good.as_bytes(), &ed25519).unwrap_err().to_string();
    assert!(other.starts_with("the envelope is malformed: unknown field `mediaType`"), "{other}");
}

#[test]
fn every_byte_counts() {
    let good = good();
    for at in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] ^= 1;
        let read = Attestation::read(&changed, &key(1).public_key());
        assert!(read.is_err(), "byte {at} of {}", good.len());
    }
}

/// Statements that their signer should not have made: the signature holds, and what is signed does not.
#[test]
fn a_statement_that_says_more_than_one_thing_is_refused() {
    let with = |pointer: &str, value: Value| {
        let mut changed = payload();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed.to_string()
    };
    let named = |names: &[&str]| {
        let files: Vec<SignedFile> = names.iter().map(|name| file(name)).collect();
        let resources: Vec<Value> = files
            .iter()
            .map(|f| json!({ "name": f.name, "algorithm": "sha256", "digest": f.sha256 }))
            .collect();
        let mut changed = payload();
        changed["predicate"]["resources"] = json!(resources);
        changed["subject"][0]["digest"]["sha256"] = json!(root(&files));
        changed.to_string()
    };
    let text = payload().to_string();
    assert!(said(&bundle(&named(&["a/b", "a-b"]))).starts_with("accepted"), "the helper makes good ones");
    let root_of_others = Sha256Digest::of_bytes(b"").to_string();
    for (mutation, payload, message) in [
        ("truncated", text[..text.len() - 1].to_owned(), "the payload is truncated"),
        ("other-statement", with("/_type", json!("x")), "the statement's type is \"x\""),
        ("other-predicate", with("/predicateType", json!("x")), "the predicate's type is \"x\""),
        ("no-subject", with("/subject", json!([])), "0 subjects"),
        (
            "two-subjects",
            with("/subject", json!([payload()["subject"][0], payload()["subject"][0]])),
            "2 subjects",
        ),
        ("unknown-field", text.replacen("{", "{\"x\":1,", 1), "unknown field `x`"),
        ("duplicate-field", text.replacen("{", "{\"predicate\":{},", 1), "the field \"predicate\" twice"),
        (
            "duplicate-field-of-a-file",
            text.replacen("{\"algorithm\"", "{\"name\":\"x\",\"algorithm\"", 1),
            "the payload has the field \"name\" twice",
        ),
        (
            "duplicate-field-of-the-serialization",
            text.replacen("{\"allow_symlinks\"", "{\"method\":\"x\",\"allow_symlinks\"", 1),
            "the payload has the field \"method\" twice",
        ),
        (
            "duplicate-field-where-nobody-looks",
            text.replacen("\"predicate\":{", "\"predicate\":{\"x\":[{\"y\":1,\"y\":1}],", 1),
            "the payload has the field \"y\" twice",
        ),
        (
            "other-method",
            with("/predicate/serialization/method", json!("shards")),
            "serialization method is \"shards\"",
        ),
        (
            "other-hash",
            with("/predicate/serialization/hash_type", json!("blake3")),
            "hash type is \"blake3\"",
        ),
        ("links", with("/predicate/serialization/allow_symlinks", json!(true)), "allow_symlinks is \"true\""),
        (
            "unknown-serialization-field",
            text.replacen("{\"allow_symlinks\"", "{\"shard_size\":1,\"allow_symlinks\"", 1),
            "the statement's serialization has the unknown field \"shard_size\"",
        ),
        (
            "other-algorithm",
            with("/predicate/resources/0/algorithm", json!("blake3")),
            "algorithm of a file is \"blake3\"",
        ),
        ("no-file", named(&[]), "the statement lists no file"),
        ("duplicate-files", named(&["a", "a"]), "the file \"a\" is listed twice"),
        ("duplicate-files-apart", named(&["a", "b", "a"]), "the file \"a\" is listed twice"),
        ("swapped-files", named(&["b", "a"]), "the file \"a\" is listed after \"b\""),
        ("sorted-by-byte", named(&["a-b", "a/b"]), "the file \"a/b\" is listed after \"a-b\""),
        ("above", named(&["../a"]), "\"../a\" is not a plain relative path"),
        ("above-in-the-middle", named(&["a/../b"]), "is not a plain relative path"),
        ("absolute", named(&["/a"]), "is not a plain relative path"),
        ("nul", named(&["a\0"]), "\"a\\0\" is not a plain relative path"),
        ("back-slash", named(&["a\\b"]), "is not a plain relative path"),
        ("here", named(&["./a"]), "is not a plain relative path"),
        ("empty-part", named(&["a//b"]), "is not a plain relative path"),
        ("empty-name", named(&[""]), "is not a plain relative path"),
        (
            "upper-case-digest",
            with("/predicate/resources/0/digest", json!("A".repeat(64))),
            "is not a SHA-256 digest",
        ),
        ("short-digest", with("/predicate/resources/0/digest", json!("ab")), "is not a SHA-256 digest"),
        ("other-root", with("/subject/0/digest/sha256", json!(root_of_others)), "but the listed files give"),
        (
            "root-of-another-algorithm",
            with("/subject/0/digest", json!({ "sha512": root_of_others })),
            "unknown field `sha512`",
        ),
    ] {
        let said = said(&bundle(&payload));
        assert!(said.contains(message), "{mutation}: {said}");
    }
    // The specification asks readers to pass over these.
    assert!(said(&bundle(&text.replacen("\"predicate\":{", "\"predicate\":{\"x\":1,", 1)))
        .starts_with("accepted"));
}

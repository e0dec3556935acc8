//! Provenance that was changed, named by its mutation.

use bitproof_core_ledger::keys::KeyRole;

use super::*;

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_bytes(KeyRole::Artifact, &[seed; 32])
}

fn statement_value() -> Value {
    json!({
        "_type": STATEMENT, "predicateType": PREDICATE,
        "subject": [{ "name": "b", "digest": { "sha256": "0".repeat(64), "blake3": "1" } },
                    { "name": "a", "digest": { "sha256": "1".repeat(64) }, "annotations": {} }],
        "predicate": {
            "buildDefinition": { "buildType": "t", "externalParameters": { "x": 1 } },
            "runDetails": { "builder": { "id": "b" }, "metadata": { "invocationId": "i" } },
        },
    })
}

fn signed(statement: &str) -> String {
    let envelope = Envelope::by_artifact_key(statement.as_bytes(), &key(1)).unwrap();
    serde_json::to_string(&envelope).unwrap()
}

fn said(envelope: &str) -> String {
    match Attestation::read(envelope.as_bytes(), &key(1).public_key()) {
        Ok(attestation) => format!("accepted: {attestation:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn provenance_is_read_with_what_it_claims() {
    let envelope = signed(&statement_value().to_string());
    let attestation = Attestation::read(envelope.as_bytes(), &key(1).public_key()).unwrap();
    let names: Vec<&str> = attestation.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["b", "a"], "subjects have no order");
    let claims = Claims {
        build_type: "t".to_owned(),
        builder: "b".to_owned(),
        invocation_id: Some("i".to_owned()),
        started_on: None,
        finished_on: None,
    };
    assert_eq!((attestation.claims, attestation.key), (Some(claims), key(1).public_key().id()));
}

#[test]
fn every_byte_counts() {
    let good = signed(&statement_value().to_string());
    for at in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] ^= 1;
        assert!(Attestation::read(&changed, &key(1).public_key()).is_err(), "byte {at}");
    }
    for end in 0..good.len() {
        assert!(said(&good[..end]).starts_with("the envelope is truncated"), "a prefix of {end} bytes");
    }
}

#[test]
fn provenance_that_was_changed_is_refused() {
    let good = statement_value().to_string();
    let with = |pointer: &str, value: Value| {
        let mut changed = statement_value();
        *changed.pointer_mut(pointer).unwrap() = value;
        signed(&changed.to_string())
    };
    let envelope = signed(&good);
    let id = key(1).public_key().id();
    for (mutation, changed, message) in [
        ("other-key-id", envelope.replace(&id, &key(2).public_key().id()), "it names the key"),
        ("no-key-id", envelope.replace(&id, ""), "it names the key \"\""),
        ("unknown-field", envelope.replacen('{', "{\"x\":1,", 1), "unknown field `x`"),
        ("duplicate-field", envelope.replacen('{', "{\"payload\":\"\",", 1), "the field \"payload\" twice"),
        ("unknown-field-of-the-statement", signed(&good.replacen('{', "{\"x\":1,", 1)), "unknown field `x`"),
        (
            "duplicate-field-of-a-digest",
            signed(&good.replacen("{\"blake3\"", "{\"sha256\":\"\",\"blake3\"", 1)),
            "the payload has the field \"sha256\" twice",
        ),
        ("other-statement", with("/_type", json!("x")), "the statement's type is \"x\""),
        (
            "other-predicate",
            with("/predicateType", json!("https://slsa.dev/provenance/v0.2")),
            "provenance/v0.2",
        ),
        ("no-subject", with("/subject", json!([])), "0 subjects, and at least one"),
        ("duplicate-subject", with("/subject/1/name", json!("b")), "the file \"b\" is listed twice"),
        ("subject-above", with("/subject/1/name", json!("../b")), "is not a plain relative path"),
        ("no-digest", with("/subject/1/digest", json!({ "sha512": "0" })), "the subject \"a\" has no sha256"),
        ("malformed-digest", with("/subject/1/digest/sha256", json!("0")), "is not a SHA-256 digest"),
        ("no-builder", with("/predicate/runDetails", json!({})), "missing field `builder`"),
        ("no-build-type", with("/predicate/buildDefinition", json!({})), "missing field `buildType`"),
    ] {
        let said = said(&changed);
        assert!(said.contains(message), "{mutation}: {said}");
    }
    let other = Attestation::read(envelope.as_bytes(), &key(2).public_key()).unwrap_err().to_string();
    assert!(other.starts_with("it names the key"), "{other}");
    let renamed = envelope.replace(&id, &key(2).public_key().id());
    let other = Attestation::read(renamed.as_bytes(), &key(2).public_key()).unwrap_err().to_string();
    assert!(other.starts_with("the signature does not verify with the Ed25519 key"), "{other}");
}

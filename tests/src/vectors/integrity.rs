//! The vectors of `core-ledger`'s formats, and of what `audit` reads of others.

use std::num::NonZeroUsize;
use std::path::Path;

use bitproof_audit::{sign_model, SignedFile};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::chain::Chain;
use bitproof_core_ledger::digest::Digest;
use bitproof_core_ledger::dsse::Envelope;
use bitproof_core_ledger::events::{Actor, Event, EventBody, VerdictKind};
use bitproof_core_ledger::growth_proof::GrowthProof;
use bitproof_core_ledger::inventory::Inventory;
use bitproof_core_ledger::keyring;
use bitproof_core_ledger::keys::PrivateKey;
use bitproof_core_ledger::log::LogKind;
use bitproof_core_ledger::merkle::FullTree;
use bitproof_core_ledger::note::TreeHead;
use bitproof_core_ledger::sha256::Sha256Digest;
use bitproof_core_ledger::signature::{self, ARTIFACT_SIGNER};
use bitproof_core_ledger::statement::Statement;
use bitproof_core_ledger::tlog_proof::TlogProof;

use super::{keys, Book, Chapter};
use crate::decoders::{disk, written};

pub(super) const BOOKS: &[Chapter] = &[
    ("canonical", canonical),
    ("chain", chain),
    ("log_file", log_file),
    ("log_recovery", log_recovery),
    ("event_leaf", event_leaf),
    ("audit_log", audit_log),
    ("note", note),
    ("tree_head", tree_head),
    ("vkey", vkey),
    ("tlog_proof", tlog_proof),
    ("growth_proof", growth_proof),
    ("inventory", inventory),
    ("folder", folder),
    ("detached_signature", detached_signature),
    ("statement", statement),
    ("private_key", private_key),
    ("public_key", public_key),
    ("store_toml", store_toml),
    ("attestation", attestation),
    ("json", json),
    ("witness_policy", witness_policy),
];

fn canonical(book: &mut Book<'_>) {
    let map = |pairs: &[(&str, u32)]| {
        let mut bytes = (pairs.len() as u64).to_le_bytes().to_vec();
        for (key, value) in pairs {
            bytes.extend((key.len() as u64).to_le_bytes());
            bytes.extend(key.as_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes
    };
    let good = map(&[("a", 1), ("b", 2)]);
    book.add("empty-map", 0u64.to_le_bytes());
    book.add("not-keys-out-of-order", map(&[("b", 2), ("a", 1)]));
    book.add("not-a-key-twice", map(&[("a", 1), ("a", 1)]));
    book.add("not-huge-count", [&u64::MAX.to_le_bytes(), &good[8..]].concat());
    book.add(
        "not-huge-text",
        [&1u64.to_le_bytes()[..], &(1u64 << 40).to_le_bytes(), b"a\x01\0\0\0"].concat(),
    );
    book.add(
        "not-a-text-that-is-no-utf-8",
        [&1u64.to_le_bytes()[..], &1u64.to_le_bytes(), b"\xff\x01\0\0\0"].concat(),
    );
    book.strict("map", good);
}

fn chain(book: &mut Book<'_>) {
    let mut chain = Chain::bound_to(&[7; 32]);
    let framed = |record: Vec<u8>| [&(record.len() as u16).to_le_bytes()[..], &record].concat();
    let records: Vec<Vec<u8>> =
        [b"one".as_slice(), b"two", b""].map(|body| framed(chain.push(body))).to_vec();
    book.add("three-records", records.concat());
    book.add("not-the-second-record-first", records[1].clone());
}

fn log_file(book: &mut Book<'_>) {
    let good = written(LogKind::LEDGER, &[b"hi", b"there"]);
    book.add("ledger", good.clone());
    book.add("one-record", written(LogKind::LEDGER, &[b"hi"]));
    book.add("audit", written(LogKind::AUDIT, &[b"hi"]));
    book.add("torn-tail", &good[..good.len() - 2]);
    let mut other = good.clone();
    other[5] = 3;
    book.add("not-a-later-version", other);
    let mut kind = good.clone();
    kind[6] = b'x';
    book.add("not-another-kind", kind);
    // 32 bytes of header, 12 before each payload; the first is of two bytes.
    let mut damaged = good.clone();
    damaged[32 + 12] ^= 1;
    book.add("not-damage-before-a-whole-record", damaged);
    let mut length = good.clone();
    length[32..36].fill(0xff);
    book.add("not-a-huge-length", length);
}

fn log_recovery(book: &mut Book<'_>) {
    let log = written(LogKind::AUDIT, &[b"hi", b"there"]);
    let with =
        |acknowledged: u8, log: &[u8]| [&[acknowledged][..], &(log.len() as u16).to_le_bytes(), log].concat();
    book.add("whole", with(2, &log));
    book.add("torn-after-what-was-acknowledged", with(1, &log[..log.len() - 1]));
    book.add("not-torn-in-what-was-acknowledged", with(2, &log[..log.len() - 1]));
}

fn actor() -> Actor {
    Actor { key_id: keys::log_vkey().id_hex(), user: "ada".to_owned(), host: "workstation".to_owned() }
}

fn leaf(body: EventBody) -> Event {
    Event { id: body.id(), claimed_unix_seconds: 1_767_225_600, actor: actor(), body }
}

fn enrolled() -> EventBody {
    EventBody::KeyEnrolled { role: "log".to_owned(), vkey: keys::log_vkey().to_string() }
}

fn rotated() -> EventBody {
    keyring::rotation(&keys::log(), &keys::next_log(), keys::ORIGIN).expect("the name is valid")
}

fn events() -> Vec<EventBody> {
    let (uid, plan) = ([6; 16], Digest::from_bytes([7; 32]));
    let mut bodies = vec![
        EventBody::StoreCreated { store: Digest::of_bytes(b"store.toml") },
        enrolled(),
        EventBody::RunPlanned { run: "digits-1".to_owned(), uid, plan },
        EventBody::RunSealed {
            run: "digits-1".to_owned(),
            uid,
            plan,
            ledger_root: Chain::bound_to(&[7; 32]).head(),
            result_root: Digest::from_bytes([8; 32]),
            inventory: Digest::of_bytes(b"inventory"),
            succeeded: true,
        },
        EventBody::VerdictRecorded {
            uid,
            kind: VerdictKind::Budget,
            policy: Some(0),
            metric: "train/step_wall_ns".to_owned(),
            outcome: "pass".to_owned(),
            verdict: Digest::of_bytes(b"verdict"),
        },
        EventBody::VerificationRecorded { ok: true, tree_size: 5, report: Digest::of_bytes(b"report") },
        rotated(),
        EventBody::KeyRevoked { role: "log".to_owned(), vkey: keys::log_vkey().to_string(), from_size: 6 },
    ];
    bodies.extend(statements().map(|statement| {
        let note = statement.sign(&keys::artifact(), ARTIFACT_SIGNER).expect("the texts are plain");
        statement.event(&keys::artifact_vkey(), Digest::of_bytes(note.as_bytes()))
    }));
    bodies
}

fn event_leaf(book: &mut Book<'_>) {
    for body in events() {
        let name = body.name();
        book.strict(name, canon::encode(&leaf(body)));
    }
    let event = leaf(enrolled());
    let other = Event { id: leaf(rotated()).id, ..event.clone() };
    book.add("not-the-id-of-another-body", canon::encode(&other));
    let mut variant = canon::encode(&event);
    let at = 32 + 8 + actor_bytes();
    variant[at] = 200;
    book.add("not-an-unknown-variant", variant);
}

fn actor_bytes() -> usize {
    canon::encode(&actor()).len()
}

/// The tree over the leaves of the vectors.
fn tree(leaves: usize) -> FullTree {
    let mut tree = FullTree::default();
    events().into_iter().take(leaves).for_each(|body| tree.push(&canon::encode(&leaf(body))));
    tree
}

fn head(leaves: usize) -> TreeHead {
    let tree = tree(leaves);
    let root = tree.root_at(leaves as u64).expect("it has as many leaves");
    TreeHead { origin: keys::ORIGIN.to_owned(), size: leaves as u64, root }
}

/// The head that somebody kept before the log grew.
pub fn known_head() -> TreeHead {
    head(3)
}

fn signed(leaves: usize) -> String {
    keys::log().sign_note(&head(leaves).body(), keys::ORIGIN).expect("the name is valid")
}

fn audit_log(book: &mut Book<'_>) {
    let leaves: Vec<Vec<u8>> = events().into_iter().take(5).map(|body| canon::encode(&leaf(body))).collect();
    let written =
        |leaves: &[Vec<u8>]| written(LogKind::AUDIT, &leaves.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let with = |events: &[u8], head: &str| {
        [&(events.len() as u16).to_le_bytes()[..], events, head.as_bytes()].concat()
    };
    let good = written(&leaves);
    book.add("five-leaves-and-a-head", with(&good, &signed(5)));
    book.add("a-leaf-past-the-head", with(&good, &signed(4)));
    book.add("not-fewer-leaves-than-the-head", with(&written(&leaves[..4]), &signed(5)));
    let mut swapped = leaves.clone();
    swapped.swap(2, 3);
    book.add("not-swapped-leaves", with(&written(&swapped), &signed(5)));
    let stranger = keys::next_log().sign_note(&head(5).body(), keys::ORIGIN).expect("the name is valid");
    book.add("not-a-head-by-a-stranger", with(&good, &stranger));
    let own = keys::log().sign_note(&head(5).body().replace("eeff", "ee00"), keys::ORIGIN);
    book.add("not-a-head-of-another-log", with(&good, &own.expect("the name is valid")));
}

fn cosigned() -> String {
    let body = head(5).body();
    signed(5) + &keys::witness().cosign(&body, keys::WITNESS, 1_767_225_600).expect("a witness's key")
}

fn note(book: &mut Book<'_>) {
    let good = signed(5);
    book.add("tree-head", good.clone());
    book.add("cosigned", self::cosigned());
    let stranger = keys::next_log().sign_note(&head(5).body(), keys::ORIGIN).expect("the name is valid");
    book.add("not-by-a-stranger", stranger);
    book.add("not-without-its-last-line-feed", good.trim_end());
    let line = good.lines().last().expect("it has lines").to_owned();
    book.add("not-two-signatures-by-one-key", format!("{good}{line}\n"));
    book.replaced("another-size", &good, "\n5\n", "\n6\n");
    book.replaced("a-hyphen-for-the-dash", &good, "\u{2014}", "-");
    book.replaced("no-empty-line", &good, "\n\n", "\n");
    book.add("not-base64-without-padding", good.replace(&line, line.trim_end_matches('=')));
    let cosigned = self::cosigned();
    let last = cosigned.lines().last().expect("it has lines");
    let blob = last.rsplit(' ').next().expect("a blob");
    let other = format!("{}{}", &blob[..8], "A".repeat(blob.len() - 8));
    book.replaced("a-cosignature-of-zeros", &cosigned, blob, &other);
}

fn tree_head(book: &mut Book<'_>) {
    let good = head(5).body();
    book.replaced("a-size-with-a-leading-zero", &good, "\n5\n", "\n05\n");
    book.replaced("a-size-with-a-sign", &good, "\n5\n", "\n+5\n");
    book.replaced("no-origin", &good, keys::ORIGIN, "");
    book.replaced("a-root-of-31-bytes", &good, &good.lines().nth(2).expect("a root")[..4], "");
    book.replaced("a-root-without-padding", &good, "=\n", "\n");
    book.strict("five-leaves", good);
}

fn vkey(book: &mut Book<'_>) {
    let good = keys::log_vkey().to_string();
    let id = keys::log_vkey().id_hex();
    book.add("witness", keys::witness_vkey().to_string());
    book.replaced("another-id", &good, &id, "00000000");
    book.replaced("another-name", &good, "eeff+", "ee00+");
    book.replaced("a-space-in-the-name", &good, "local", "lo cal");
    book.replaced("an-unknown-algorithm", &good, "+A", "+C");
    book.strict("log", good);
}

fn tlog_proof(book: &mut Book<'_>) {
    let tree = tree(5);
    let bytes = canon::encode(&leaf(events().swap_remove(3)));
    let hashes = tree.inclusion_proof(3, 5).expect("a leaf of the tree");
    let good = TlogProof { leaf: bytes, index: 3, hashes, head: signed(5) }.to_text();
    let hash = good.lines().nth(3).expect("a hash").to_owned();
    book.replaced("another-version", &good, "@v1", "@v2");
    book.replaced("another-index", &good, "index 3", "index 2");
    book.replaced("an-index-past-the-end", &good, "index 3", "index 5");
    book.replaced("an-index-with-a-leading-zero", &good, "index 3", "index 03");
    book.replaced("a-hash-missing", &good, &format!("{hash}\n"), "");
    book.replaced("a-hash-twice", &good, &hash, &format!("{hash}\n{hash}"));
    book.replaced("a-short-hash", &good, &hash, "AAAA");
    book.replaced("no-leaf", &good, "extra ", "extra: ");
    book.replaced("another-root", &good, "\n5\n", "\n6\n");
    book.strict("run-sealed", good);
}

fn growth_proof(book: &mut Book<'_>) {
    let hashes = tree(5).consistency_proof(3, 5).expect("two sizes of the tree");
    let good = GrowthProof { old: 3, hashes, head: signed(5) }.to_text();
    book.add("first-sight", GrowthProof { old: 0, hashes: Vec::new(), head: signed(5) }.to_text());
    let hash = good.lines().nth(1).expect("a hash").to_owned();
    book.replaced("another-old-size", &good, "old 3", "old 4");
    book.replaced("from-nothing-with-hashes", &good, "old 3", "old 0");
    book.replaced("a-size-with-a-leading-zero", &good, "old 3", "old 03");
    book.replaced("a-hash-missing", &good, &format!("{hash}\n"), "");
    book.replaced("a-hash-twice", &good, &hash, &format!("{hash}\n{hash}"));
    book.strict("from-three-to-five", good);
}

fn detached_signature(book: &mut Book<'_>) {
    let sign = |name: &str, bytes: &[u8], key| signature::sign(name, bytes, key).expect("the name is valid");
    let artifact = keys::artifact();
    let good = sign("m.safetensors", b"weights", &artifact);
    book.add("not-of-another-name", sign("n.safetensors", b"weights", &artifact));
    book.add("not-of-other-bytes", sign("m.safetensors", b"weightz", &artifact));
    let log = keys::log().sign_note(good.split_once("\n\n").expect("a body").0, ARTIFACT_SIGNER);
    book.add("not-by-the-log-key", log.unwrap_or_default());
    book.replaced("another-digest", &good, "blake3 ", "blake2 ");
    book.strict("model", good);
}

fn inventory(book: &mut Book<'_>) {
    let files = disk(&[("store.toml", b"schema = 1\n"), ("runs/digits-1/plan.bin", &[7; 600])]);
    let take = |names: [&str; 2]| {
        let names = names.map(str::to_owned).to_vec();
        Inventory::take(&files, Path::new(""), names, NonZeroUsize::MIN).expect("the files are there")
    };
    let good = take(["store.toml", "runs/digits-1/plan.bin"]).encode();
    let text = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|w| w == from).expect("the text is there");
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    book.add("not-a-path-upwards", text(b"runs/digits-1", b"runs/../gits1"));
    book.add("not-an-absolute-path", text(b"runs/digits-1", b"/uns/digits-1"));
    book.add("not-a-path-with-a-nul", text(b"runs/digits-1", b"runs/\0igits-1"));
    book.add("not-paths-out-of-order", text(b"runs/digits-1", b"zuns/digits-1"));
    // The schema comes first, then the number of entries.
    book.add("not-another-schema", [&2u32.to_le_bytes(), &good[4..]].concat());
    book.add("not-a-huge-count", [&good[..4], &u64::MAX.to_le_bytes(), &good[12..]].concat());
    let size = (good.windows(4).position(|w| w == b".bin").expect("a path")) + 4;
    let mut blocks = good.clone();
    blocks[size] ^= 0xff;
    blocks[size + 1] ^= 0x0f;
    book.add("not-a-size-that-its-blocks-do-not-have", blocks);
    book.strict("two-files", good);
}

fn folder(book: &mut Book<'_>) {
    /// The bytes before the files.
    const HEAD: usize = 12;
    let entry = |path: &str, executable: u8, bytes: u64| {
        let len = (path.len() as u16).to_le_bytes();
        [&len[..], path.as_bytes(), &[executable], &bytes.to_le_bytes()].concat()
    };
    let packed = |entries: &[Vec<u8>], contents: &[u8]| {
        let head = [b"BPFOLD1\0".as_slice(), &(entries.len() as u32).to_le_bytes()].concat();
        [head, entries.concat(), contents.to_vec()].concat()
    };
    let [a, run, x] = [entry("a", 0, 3), entry("b/run", 1, 10), entry("b/x", 0, 0)];
    let contents = b"abc#!/bin/sh\n";
    let good = packed(&[a.clone(), run.clone(), x.clone()], contents);
    book.add("empty", packed(&[], b""));
    book.add(
        "file-beside-a-folder-with-a-longer-name",
        packed(&[entry("b", 0, 0), entry("b-c/d", 0, 0)], b""),
    );
    book.add("not-another-version", [b"BPFOLD2", &good[7..]].concat());
    book.add("not-a-huge-count", [&good[..8], &u32::MAX.to_le_bytes(), &good[HEAD..]].concat());
    book.add("not-a-file-more-than-is-listed", [&good[..8], &4u32.to_le_bytes(), &good[HEAD..]].concat());
    book.add("not-swapped-files", packed(&[run.clone(), a.clone(), x.clone()], b"#!/bin/sh\nabc"));
    book.add("not-a-file-twice", packed(&[a.clone(), a.clone()], b"abcabc"));
    book.add("not-a-file-in-a-file", packed(&[a.clone(), entry("a-b", 0, 0), entry("a/b", 0, 0)], b"abc"));
    for (mutation, path) in [
        ("a-path-upwards", "../a"),
        ("an-absolute-path", "/a"),
        ("a-path-with-an-empty-part", "a//b"),
        ("a-path-with-a-back-slash", "a\\b"),
        ("a-path-with-a-line-feed", "a\nb"),
        ("an-empty-path", ""),
    ] {
        book.add(&format!("not-{mutation}"), packed(&[entry(path, 0, 3)], b"abc"));
    }
    let latin = [&1u16.to_le_bytes()[..], b"\xe9", &[0], &0u64.to_le_bytes()].concat();
    book.add("not-a-path-in-latin-1", packed(&[latin], b""));
    book.add("not-a-path-that-is-too-long", packed(&[entry(&"a".repeat(4097), 0, 0)], b""));
    book.add("not-folders-too-deep", packed(&[entry(&("a/".repeat(129) + "a"), 0, 0)], b""));
    book.add("not-executable-twice", packed(&[entry("a", 2, 3)], b"abc"));
    book.add("not-a-huge-file", packed(&[entry("a", 0, u64::MAX)], b"abc"));
    book.add(
        "not-files-that-are-huge-together",
        packed(&[entry("a", 0, 1 << 62), entry("b", 0, 1 << 62)], b""),
    );
    book.strict("three-files", good);
}

fn statements() -> [Statement; 3] {
    let uid = [6; 16];
    [
        Statement::Approval { uid, before: "package".to_owned(), meaning: "reviewed".to_owned() },
        Statement::Waiver {
            uid,
            finding: "gate evaluate/accuracy".to_owned(),
            expires_unix_seconds: 1_800_000_000,
            reason: "known and small".to_owned(),
        },
        Statement::Promotion { uid, reference: "production".to_owned() },
    ]
}

fn statement(book: &mut Book<'_>) {
    let sign =
        |body: &str, key: &PrivateKey| key.sign_note(body, ARTIFACT_SIGNER).expect("the name is valid");
    for (name, statement) in ["approval", "waiver", "promotion"].into_iter().zip(statements()) {
        book.strict(name, sign(&statement.body(), &keys::artifact()));
    }
    let [approval, waiver, _] = statements().map(|statement| statement.body());
    book.add("not-by-another-key", sign(&approval, &keys::log()));
    for (mutation, body, from, to) in [
        ("another-version", &approval, "/v1", "/v2"),
        ("a-run-in-capitals", &approval, "0606", "0A06"),
        ("a-short-run", &approval, "0606", "06"),
        ("no-meaning", &approval, "meaning reviewed", "meaning "),
        ("a-line-more", &approval, "reviewed\n", "reviewed\nand more\n"),
        ("a-waiver-read-as-an-approval", &waiver, "waiver", "approval"),
        ("a-time-with-a-leading-zero", &waiver, "expires 1", "expires 01"),
    ] {
        assert!(body.contains(from), "{mutation}");
        book.add(&format!("not-{mutation}"), sign(&body.replacen(from, to, 1), &keys::artifact()));
    }
}

/// The secret of `keys::artifact` as it lies in a folder of keys.
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE
-----END PRIVATE KEY-----
";

fn private_key(book: &mut Book<'_>) {
    book.add("ed25519", PRIVATE_KEY);
    book.replaced("a-public-key", PRIVATE_KEY, "PRIVATE", "PUBLIC");
    book.replaced("another-algorithm", PRIVATE_KEY, "K2Vw", "K2Vx");
    book.replaced("a-short-secret", PRIVATE_KEY, "BAQEBAQE\n", "BAQE\n");
    book.replaced("no-end", PRIVATE_KEY, "-----END PRIVATE KEY-----\n", "");
}

fn public_key(book: &mut Book<'_>) {
    for (name, key) in
        [("p256", keys::model_signing().public_key()), ("ed25519", keys::artifact().public_key())]
    {
        let pem = key.to_pem();
        book.add(&format!("not-{name}-truncated"), &pem[..pem.len() / 2]);
        book.replaced(&format!("{name}-as-a-private-key"), &pem, "PUBLIC", "PRIVATE");
        book.add(name, pem);
    }
}

fn store_toml(book: &mut Book<'_>) {
    let good = "schema = 1\nid = \"00112233445566778899aabbccddeeff\"\n";
    book.add("store", good);
    book.replaced("another-schema", good, "1", "2");
    book.replaced("an-id-in-capitals", good, "aabb", "AABB");
    book.replaced("an-id-with-a-path", good, "00112233", "../../00");
    book.replaced("an-unknown-key", good, "schema", "other = 1\nschema");
    book.add("not-a-key-twice", format!("schema = 1\n{good}"));
}

fn attestation(book: &mut Book<'_>) {
    let file =
        |name: &str| SignedFile { name: name.to_owned(), sha256: Sha256Digest::of_bytes(name.as_bytes()) };
    let model = sign_model("model", vec![file("card.md"), file("model.safetensors")], &keys::model_signing());
    let model = String::from_utf8(model).unwrap_or_default();
    book.add("model-signing", model.clone());
    book.add("not-model-signing-truncated", &model[..model.len() - 1]);
    book.replaced("an-unknown-field", &model, "{", "{\"more\":1,");
    book.replaced("a-field-twice", &model, "{\"mediaType\"", "{\"mediaType\":\"\",\"mediaType\"");
    book.replaced("another-media-type", &model, "v0.3", "v0.2");
    book.replaced(
        "two-signatures",
        &model,
        "\"signatures\":[",
        "\"signatures\":[{\"sig\":\"\",\"keyid\":\"\"},",
    );
    let statement = br#"{"_type":"https://in-toto.io/Statement/v1"}"#;
    if let Ok(envelope) = Envelope::by_artifact_key(statement, &keys::artifact()) {
        book.add("not-provenance-without-subject", serde_json::to_vec(&envelope).unwrap_or_default());
    }
}

fn json(book: &mut Book<'_>) {
    book.add("nested", r#"{"a":[1,2.5,null,true,{"b":"c"}]}"#);
    book.add("not-a-field-twice", r#"{"a":{"b":1,"b":1}}"#);
    book.add("not-nested-too-deep", "[".repeat(1000));
    book.add("not-trailing-text", "{} {}");
    book.add("not-truncated", r#"{"a":[1,2"#);
}

fn witness_policy(book: &mut Book<'_>) {
    let witness = keys::witness_vkey();
    let good = format!("threshold = 1\nwitnesses = [\"{witness}\"]\ncosigned = [\"one\"]\n");
    book.add("one-of-one", good.clone());
    book.replaced("a-threshold-of-none", &good, "threshold = 1", "threshold = 0");
    book.replaced("a-threshold-above-all", &good, "threshold = 1", "threshold = 2");
    book.replaced("a-witness-twice", &good, "[\"bit", &format!("[\"{witness}\", \"bit"));
    book.replaced("the-key-of-a-log", &good, &witness.to_string(), &keys::log_vkey().to_string());
    book.replaced("an-unknown-key", &good, "cosigned", "cosignes");
}

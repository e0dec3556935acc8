//! The formats of `core-ledger`, and what `audit` reads of others.

use std::collections::BTreeMap;
use std::path::Path;

use bitproof_audit::{Attestation, WitnessPolicy};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::chain::Chain;
use bitproof_core_ledger::dsse::json;
use bitproof_core_ledger::dsse::PublicKey;
use bitproof_core_ledger::events::{AuditView, Event, EventBody};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::folder::{self, FolderError};
use bitproof_core_ledger::growth_proof::GrowthProof;
use bitproof_core_ledger::inventory::{is_plain_relative, Inventory};
use bitproof_core_ledger::keyring::Keyring;
use bitproof_core_ledger::keys::{KeyFolder, KeyRole};
use bitproof_core_ledger::log::{self, segment_path, Acknowledged, LogKind, LogWriter};
use bitproof_core_ledger::merkle::Tree;
use bitproof_core_ledger::note::{self, NoteKey, TreeHead};
use bitproof_core_ledger::signature::{self, ARTIFACT_SIGNER};
use bitproof_core_ledger::signed_log::{HEAD, LEAVES};
use bitproof_core_ledger::statement::Statement;
use bitproof_core_ledger::storage::sim::SimDisk;
use bitproof_core_ledger::tlog_proof::TlogProof;
use bitproof_core_ledger::Store;

use crate::vectors::keys;

/// A disk in memory that holds these files.
pub(crate) fn disk(files: &[(&str, &[u8])]) -> Files {
    let disk = Files::on(SimDisk::new());
    for (name, bytes) in files {
        let path = Path::new(name);
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            disk.create_dirs(folder).expect("a disk in memory makes folders");
        }
        disk.write_new(path, bytes).expect("a disk in memory takes what it is given");
    }
    disk
}

pub(super) fn canonical(bytes: &[u8]) -> bool {
    type Map = BTreeMap<String, u32>;
    type Nested = (u8, i64, bool, Option<Vec<Option<String>>>, [u8; 3], BTreeMap<u64, Vec<bool>>);
    let map = canon::decode::<Map>(bytes).map(|value| assert_eq!(canon::encode(&value), bytes));
    let nested = canon::decode::<Nested>(bytes).map(|value| assert_eq!(canon::encode(&value), bytes));
    map.is_ok() || nested.is_ok()
}

/// Several records, each after its length as a `u16`.
pub(super) fn chain(bytes: &[u8]) -> bool {
    let (mut checked, mut built) = (Chain::bound_to(&[7; 32]), Chain::bound_to(&[7; 32]));
    let mut rest = bytes;
    while let Some((len, more)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_le_bytes(*len)).min(more.len());
        let (record, more) = more.split_at(len);
        let before = checked.clone();
        match checked.accept(record) {
            Ok(body) => assert_eq!(built.push(body), record),
            Err(_) => assert_eq!(checked, before, "a refused record changes nothing"),
        }
        assert_eq!(checked, built);
        rest = more;
    }
    !checked.is_empty()
}

/// A log of these records as it would be written.
pub(crate) fn written(kind: LogKind, payloads: &[&[u8]]) -> Vec<u8> {
    let disk = disk(&[]);
    let path = Path::new("log");
    let (mut writer, _) =
        LogWriter::open(&disk, path, kind, Acknowledged::Unknown).expect("an empty disk takes a log");
    writer.append(payloads).expect("records that were read can be written");
    disk.read_bounded(path, u64::MAX).expect("it was written")
}

pub(super) fn log_file(bytes: &[u8]) -> bool {
    let mut taken = false;
    for kind in [LogKind::LEDGER, LogKind::AUDIT, LogKind::GOVERNANCE] {
        let Ok(contents) = log::parse(bytes, kind) else { continue };
        let whole = bytes.len() - contents.torn_bytes as usize;
        let payloads: Vec<&[u8]> = contents.records.iter().map(|r| r.payload.as_slice()).collect();
        assert!(whole == 0 || written(kind, &payloads) == bytes[..whole], "not the bytes of its records");
        taken |= whole > 0;
    }
    taken
}

/// A log that a crash or somebody's hand left behind: one byte says what is known to be acknowledged (255: nothing), two
/// where the second segment begins; then the segments.
pub(super) fn log_recovery(bytes: &[u8]) -> bool {
    let Some((head, rest)) = bytes.split_first_chunk::<3>() else { return false };
    let acknowledged = match head[0] {
        u8::MAX => Acknowledged::Unknown,
        n => Acknowledged::Records(n.into()),
    };
    let cut = usize::from(u16::from_le_bytes([head[1], head[2]])).min(rest.len());
    let path = Path::new("log");
    let second = segment_path(path, 1);
    let disk = disk(&[("log", &rest[..cut])]);
    if cut < rest.len() {
        disk.write_new(&second, &rest[cut..]).expect("a disk in memory takes what it is given");
    }
    let before = log::read(&disk, path, LogKind::AUDIT, acknowledged);
    let Ok((mut writer, records)) = LogWriter::open(&disk, path, LogKind::AUDIT, acknowledged) else {
        assert!(before.is_err(), "what is read can be opened");
        let kept = disk.read_bounded(path, u64::MAX).expect("it is there");
        assert_eq!(kept, rest[..cut], "nothing of a damaged log is cut");
        return false;
    };
    assert_eq!(before.expect("what is opened can be read").records, records);
    writer.append(&[b"more"]).expect("an open log takes records");
    let after = log::read(&disk, path, LogKind::AUDIT, acknowledged).expect("what was written is read");
    assert_eq!((after.torn_bytes, after.records.len()), (0, records.len() + 1));
    assert_eq!(after.records[..records.len()], records[..]);
    assert_eq!(after.records[records.len()].payload, b"more");
    !records.is_empty()
}

/// Two bytes say where the head begins; then the leaves' file and the head.
pub(super) fn audit_log(bytes: &[u8]) -> bool {
    let Some((cut, rest)) = bytes.split_first_chunk::<2>() else { return false };
    let (events, head) = rest.split_at(usize::from(u16::from_le_bytes(*cut)).min(rest.len()));
    let disk = disk(&[("audit/events.log", events)]);
    if !head.is_empty() {
        disk.write_new(&Path::new("audit").join(HEAD), head)
            .expect("a disk in memory takes what it is given");
    }
    assert!(disk.exists(&Path::new("audit").join(LEAVES)));
    let Ok(view) = AuditView::read(&disk, Path::new("audit"), keys::ORIGIN, &[]) else { return false };
    let mut tree = Tree::default();
    view.covered().iter().for_each(|leaf| tree.push(&leaf.bytes()));
    let Some(head) = &view.head else { return false };
    assert_eq!((head.size, head.root), (tree.size(), tree.root()));
    let signer = view.signer.as_ref().expect("a head has a signer");
    assert!(view.keyring().in_force(KeyRole::Log, head.size).contains(signer));
    true
}

pub(super) fn event_leaf(bytes: &[u8]) -> bool {
    let Ok(event) = canon::decode::<Event>(bytes) else { return false };
    assert_eq!(canon::encode(&event), bytes);
    // Whatever it says about keys is folded without a panic.
    let id = event.body.id();
    let is_own = event.id == id;
    let about_keys = matches!(event.body, EventBody::KeyRotated { .. } | EventBody::KeyRevoked { .. });
    let enrolled = EventBody::KeyEnrolled { role: "log".to_owned(), vkey: keys::log_vkey().to_string() };
    let leaf = |body: EventBody| bitproof_core_ledger::events::Leaf {
        offset: 0,
        event: Event { id: body.id(), body, ..event.clone() },
    };
    let leaves = [leaf(enrolled), leaf(event.body.clone())];
    let ring = Keyring::of(&leaves);
    if about_keys {
        let changed = ring.in_force(KeyRole::Log, 2) != [keys::log_vkey()];
        assert!(!changed || ring.rejected().is_empty(), "what is refused changes nothing");
    }
    is_own
}

pub(super) fn note(bytes: &[u8]) -> bool {
    let keys = [keys::log_vkey(), keys::witness_vkey(), keys::artifact_vkey()];
    let Ok((body, signed)) = note::signatures(bytes, &keys) else { return false };
    let text = std::str::from_utf8(bytes).expect("a note is UTF-8");
    let lines = text.strip_prefix(body).and_then(|rest| rest.strip_prefix('\n')).expect("body, empty line");
    assert!(lines.ends_with('\n') && !lines.contains("\n\n"));
    // Ed25519 is deterministic, and only these keys can have made their signatures.
    for signature in &signed {
        let again = match signature.unix_seconds {
            Some(time) => keys::witness().cosign(body, keys::WITNESS, time),
            None if signature.key.name() == ARTIFACT_SIGNER => {
                keys::artifact().sign_note(body, ARTIFACT_SIGNER)
            }
            None => keys::log().sign_note(body, keys::ORIGIN),
        };
        let again = again.expect("what was signed can be signed again");
        let line = again.strip_prefix(body).map_or(again.as_str(), |rest| &rest[1..]);
        assert!(lines.contains(line), "another signature by a key of ours");
    }
    !signed.is_empty()
}

pub(super) fn tree_head(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    TreeHead::parse(text).is_ok_and(|head| {
        assert_eq!(head.body(), text);
        true
    })
}

pub(super) fn vkey(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    text.parse::<NoteKey>().is_ok_and(|key| {
        assert_eq!(key.to_string(), text);
        true
    })
}

pub(super) fn tlog_proof(bytes: &[u8]) -> bool {
    let Ok(proof) = TlogProof::parse(bytes) else { return false };
    assert_eq!(proof.to_text().as_bytes(), bytes);
    proof.check(&keys::log_vkey()).is_ok()
}

pub(super) fn growth_proof(bytes: &[u8]) -> bool {
    let Ok(proof) = GrowthProof::parse(bytes) else { return false };
    assert_eq!(proof.to_text().as_bytes(), bytes);
    let known = crate::vectors::known_head();
    let key = keys::log_vkey();
    proof.check(None, &key).is_ok() || proof.check(Some(&known), &key).is_ok()
}

pub(super) fn inventory(bytes: &[u8]) -> bool {
    let Ok(inventory) = Inventory::decode(bytes) else { return false };
    assert_eq!(inventory.encode(), bytes);
    let paths: Vec<&str> = inventory.entries().iter().map(|entry| entry.path.as_str()).collect();
    assert!(paths.windows(2).all(|pair| pair[0] < pair[1]) && paths.iter().all(|p| is_plain_relative(p)));
    true
}

pub(super) fn folder(bytes: &[u8]) -> bool {
    let mut contents = Vec::new();
    let read = folder::read(&mut { bytes }, |file, source| {
        let before = contents.len();
        source.read_to_end(&mut contents).map_err(FolderError::Source)?;
        assert!((contents.len() - before) as u64 <= file.bytes && is_plain_relative(&file.path));
        Ok(())
    });
    read.is_ok_and(|files| {
        let listing = folder::encode_listing(&files).expect("what was read can be written");
        assert_eq!([listing, contents].concat(), bytes);
        true
    })
}

/// A signature of the file `m.safetensors` that holds `weights`.
pub(super) fn detached_signature(bytes: &[u8]) -> bool {
    signature::verify(bytes, "m.safetensors", b"weights", &[keys::artifact_vkey()]).is_ok()
}

pub(super) fn statement(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).ok();
    if let Some((text, read)) = text.and_then(|text| Some((text, Statement::parse(text).ok()?))) {
        assert_eq!(read.body(), text);
    }
    Statement::open(bytes, &keys::artifact_vkey()).is_ok_and(|statement| {
        let again =
            statement.sign(&keys::artifact(), ARTIFACT_SIGNER).expect("what was signed can be signed");
        assert_eq!(again.as_bytes(), bytes);
        true
    })
}

pub(super) fn private_key(bytes: &[u8]) -> bool {
    let Ok(pem) = std::str::from_utf8(bytes) else { return false };
    let folder = KeyFolder::new("keys".into());
    let ed25519 = folder.clone().with_pem(KeyRole::Log, pem.to_owned()).load(KeyRole::Log);
    let p256 = folder.with_model_signing_pem(pem.to_owned()).load_model_signing();
    assert!(!(ed25519.is_ok() && p256.is_ok()), "a key of two algorithms");
    if let Ok(key) = &ed25519 {
        key.sign_note("a\n", "n").expect("a key that was read signs");
    }
    ed25519.is_ok() || p256.is_ok()
}

pub(super) fn public_key(bytes: &[u8]) -> bool {
    let Ok(pem) = std::str::from_utf8(bytes) else { return false };
    PublicKey::from_pem(pem).is_ok_and(|key| {
        assert_eq!(PublicKey::from_pem(&key.to_pem()).as_ref(), Ok(&key));
        true
    })
}

pub(super) fn store_toml(bytes: &[u8]) -> bool {
    Store::open(&disk(&[("s/store.toml", bytes)]), Path::new("s")).is_ok_and(|store| {
        assert!(store.id().len() == 32 && is_plain_relative(&store.origin()));
        true
    })
}

pub(super) fn attestation(bytes: &[u8]) -> bool {
    let keys = [keys::model_signing().public_key(), keys::artifact().public_key()];
    let read: Vec<Attestation> = keys.iter().filter_map(|key| Attestation::read(bytes, key).ok()).collect();
    for attestation in &read {
        assert!(!attestation.files.is_empty());
        assert!(attestation.files.iter().all(|file| is_plain_relative(&file.name)));
    }
    !read.is_empty()
}

pub(super) fn json(bytes: &[u8]) -> bool {
    let ours = json::read::<serde_json::Value>(bytes, "the text");
    // What is taken here is what anybody else would read.
    if let Ok(value) = &ours {
        assert_eq!(serde_json::from_slice::<serde_json::Value>(bytes).as_ref().ok(), Some(value));
    }
    ours.is_ok()
}

pub(super) fn witness_policy(bytes: &[u8]) -> bool {
    WitnessPolicy::read(&disk(&[("p/policy.toml", bytes)]), Path::new("p/policy.toml")).is_ok()
}

use std::path::{Path, PathBuf};

use bitproof_audit::{prove, prove_growth, Since, Witness, WitnessError};
use bitproof_core_ledger::canon;
use bitproof_core_ledger::clock::{rfc3339, Clock as _, SystemClock};
use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_core_ledger::events::{AuditView, Event, EventBody};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::growth_proof::{self, GrowthProof};
use bitproof_core_ledger::keys::{KeyFolder, KeyRole, WITNESS_NAME};
use bitproof_core_ledger::note::TreeHead;
use bitproof_core_ledger::store::hex;
use bitproof_core_ledger::tlog_proof::{self, TlogProof};
use bitproof_training::recorder::RecorderError;
use bitproof_training::workflow::WorkflowError;
use serde_json::{json, Value};

use crate::args::Audit;
use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::{printable, table, write_new};

pub(super) fn execute(app: &App, args: &Audit) -> Result<Exit, Failure> {
    match args {
        Audit::Log => log(app)?,
        Audit::Head => head(app)?,
        Audit::Prove { of, output } => prove_leaf(app, of, output.as_deref())?,
        Audit::Check { proof, vkey, pin } => return check(app, proof, vkey, pin.as_deref()),
        Audit::Consistency { since, output } => consistency(app, since, output.as_deref())?,
        Audit::Witness { proof, vkey, state, output } => {
            return witness(app, proof, vkey, state.as_ref(), output.as_deref())
        }
    }
    Ok(Exit::Done)
}

fn read(app: &App) -> Result<AuditView, Failure> {
    Ok(app.store()?.read_audit(&[]).map_err(|e| WorkflowError::from(RecorderError::from(e)))?)
}

fn log(app: &App) -> Result<(), Failure> {
    let view = read(app)?;
    let events = || view.covered().iter().enumerate().map(|(leaf, l)| (leaf as u64, &l.event));
    app.answer(
        || {
            json!({ "schema": "bitproof/audit-log/v1", "head": view.head.as_ref().map(head_json),
                    "events": events().map(|(leaf, event)| event_json(leaf, event)).collect::<Vec<_>>() })
        },
        || table(&events().map(|(leaf, event)| event_row(leaf, event)).collect::<Vec<_>>()),
    )
}

fn head(app: &App) -> Result<(), Failure> {
    let view = read(app)?;
    let (Some(head), Some(note)) = (&view.head, &view.note) else {
        return Err(Failure::usage("the audit log has no signed head yet\n  hint: run a pipeline first"));
    };
    let signer = view.signer.as_ref().map(ToString::to_string);
    app.answer(
        || {
            let mut answer = head_json(head);
            answer["schema"] = json!("bitproof/audit-head/v1");
            answer["signed_by"] = json!(signer);
            answer["note"] = json!(note);
            answer
        },
        || note.clone(),
    )
}

fn prove_leaf(app: &App, of: &str, output: Option<&Path>) -> Result<(), Failure> {
    let view = read(app)?;
    let proof = prove(&view, of)?;
    let event = &view.covered()[proof.index as usize].event;
    give(app, output, &proof.to_text(), || {
        json!({ "schema": "bitproof/audit-prove/v1", "event": event_json(proof.index, event),
                "head": view.head.as_ref().map(head_json), "proof": proof.to_text() })
    })
}

fn consistency(app: &App, since: &str, output: Option<&Path>) -> Result<(), Failure> {
    let since = match since.parse() {
        Ok(size) => Since::Size(size),
        Err(_) => Since::Head(inputs::head(Path::new(since))?),
    };
    let view = read(app)?;
    let proof = prove_growth(&view, &since)?;
    give(app, output, &proof.to_text(), || {
        json!({ "schema": "bitproof/audit-consistency/v1", "old_size": proof.old,
                "head": view.head.as_ref().map(head_json), "proof": proof.to_text() })
    })
}

/// Writes a text where it is wanted: to a file, into the JSON answer, or as the answer itself.
fn give(app: &App, output: Option<&Path>, text: &str, json: impl FnOnce() -> Value) -> Result<(), Failure> {
    output.map(|path| write_new(text, path)).transpose()?;
    app.answer(json, || match output {
        Some(path) => format!("wrote {}\n", path.display()),
        None => text.to_owned(),
    })
}

fn check(app: &App, proof: &Path, vkey: &str, pin: Option<&Path>) -> Result<Exit, Failure> {
    let key = inputs::vkey(vkey)?;
    let bytes = inputs::proof(proof, tlog_proof::MAX_PROOF_BYTES.max(growth_proof::MAX_PROOF_BYTES) as u64)?;
    let no = |error: anyhow::Error| Failure { exit: Exit::No, error };
    if bytes.starts_with(b"old ") {
        let known = pin.map(inputs::head).transpose()?;
        let proof = GrowthProof::parse(&bytes).map_err(|e| no(e.into()))?;
        if known.is_none() && proof.old > 0 {
            return Err(Failure::usage(format!(
                "the proof begins at a head of {} leaves\n  hint: give that head with --pin FILE",
                proof.old
            )));
        }
        let head = proof.check(known.as_ref(), &key).map_err(|e| no(e.into()))?;
        app.answer(
            || {
                json!({ "schema": "bitproof/audit-check/v1", "ok": true, "old_size": proof.old,
                        "event": null, "head": head_json(&head) })
            },
            || {
                let ok = app.paint.verdict("ok");
                format!("{ok}: {} grew from {} to {} leaves\n", head.origin, proof.old, head.size)
            },
        )?;
        return Ok(Exit::Done);
    }
    if pin.is_some() {
        return Err(Failure::usage(
            "--pin belongs to a proof of growth\n  hint: `bitproof audit consistency` makes one",
        ));
    }
    let proof = TlogProof::parse(&bytes).map_err(|e| no(e.into()))?;
    let head = proof.check(&key).map_err(|e| no(e.into()))?;
    let event: Event = canon::decode(&proof.leaf)
        .map_err(|e| no(anyhow::anyhow!("the leaf is in the log, but it is not an event: {e}")))?;
    if event.id != event.body.id() {
        return Err(no(anyhow::anyhow!("the leaf is in the log, but its id is not the digest of its body")));
    }
    app.answer(
        || {
            json!({ "schema": "bitproof/audit-check/v1", "ok": true, "old_size": null,
                    "event": event_json(proof.index, &event), "head": head_json(&head) })
        },
        || {
            let ok = app.paint.verdict("ok");
            let row = table(&[event_row(proof.index, &event)]);
            format!("{ok}: leaf {} of the {} of {}\n{row}", proof.index, head.size, head.origin)
        },
    )?;
    Ok(Exit::Done)
}

fn witness(
    app: &App,
    proof: &Path,
    vkey: &str,
    state: Option<&PathBuf>,
    output: Option<&Path>,
) -> Result<Exit, Failure> {
    let log = inputs::vkey(vkey)?;
    let bytes = inputs::proof(proof, growth_proof::MAX_PROOF_BYTES as u64)?;
    let keys = app.keys()?;
    let key = super::key::load(&keys, KeyRole::Witness)?;
    let witness =
        Witness::new(&Files::on_disk(), &state.map_or_else(|| memory(&keys, log.name()), Clone::clone));
    let parsed = GrowthProof::parse(&bytes).map_err(WitnessError::from)?;
    let now = SystemClock.unix_seconds();
    let cosigned = witness.cosign(&parsed, &log, &key, WITNESS_NAME, now)?;
    let seen = witness.seen()?;
    if let Some(path) = output {
        let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A later head takes the place of an earlier one.
        Files::on_disk().replace(folder, path, cosigned.as_bytes()).map_err(anyhow::Error::from)?;
    }
    app.answer(
        || {
            json!({ "schema": "bitproof/audit-witness/v1", "old_size": parsed.old,
                    "head": seen.as_ref().map(head_json), "claimed_time": rfc3339(now), "note": cosigned })
        },
        || match output {
            Some(path) => format!("cosigned: wrote {}\n", path.display()),
            None => cosigned.clone(),
        },
    )?;
    Ok(Exit::Done)
}

/// A witness's memory of a log, beside the keys; named by a digest, since an origin may hold anything.
fn memory(keys: &KeyFolder, origin: &str) -> PathBuf {
    let name = Digest::<Content>::of_bytes(origin.as_bytes()).to_string();
    keys.dir().with_file_name("witness").join(&name[..32])
}

fn head_json(head: &TreeHead) -> Value {
    json!({ "origin": head.origin, "tree_size": head.size, "tree_root": head.root_base64() })
}

fn event_json(leaf: u64, event: &Event) -> Value {
    let actor = &event.actor;
    json!({ "leaf": leaf, "id": event.id, "event": event.body.name(), "body": body_json(&event.body),
            "claimed_time": rfc3339(event.claimed_unix_seconds),
            "actor": { "key_id": actor.key_id, "user": actor.user, "host": actor.host } })
}

fn body_json(body: &EventBody) -> Value {
    match body {
        EventBody::StoreCreated { store } => json!({ "store": store }),
        EventBody::KeyEnrolled { role, vkey } => json!({ "role": role, "vkey": vkey }),
        EventBody::RunPlanned { run, uid, plan } => {
            json!({ "run": run, "uid": hex(uid), "plan_digest": plan })
        }
        EventBody::RunSealed { run, uid, plan, ledger_root, result_root, inventory, succeeded } => {
            json!({ "run": run, "uid": hex(uid), "plan_digest": plan, "ledger_root": ledger_root,
                    "result_root": result_root, "inventory": inventory, "succeeded": succeeded })
        }
        EventBody::VerdictRecorded { uid, kind, policy, metric, outcome, verdict } => {
            json!({ "uid": hex(uid), "kind": kind.name(), "policy": policy, "metric": metric,
                    "outcome": outcome, "verdict": verdict })
        }
        EventBody::VerificationRecorded { ok, tree_size, report } => {
            json!({ "ok": ok, "tree_size": tree_size, "report": report })
        }
        EventBody::KeyRotated { role, old, new, note } => {
            json!({ "role": role, "old": old, "new": new, "note": note })
        }
        EventBody::KeyRevoked { role, vkey, from_size } => {
            json!({ "role": role, "vkey": vkey, "from_size": from_size })
        }
        EventBody::ApprovalRecorded { uid, before, vkey, statement } => {
            json!({ "uid": hex(uid), "before": before, "vkey": vkey, "statement": statement })
        }
        EventBody::WaiverRecorded { uid, finding, expires_unix_seconds, vkey, statement } => {
            json!({ "uid": hex(uid), "finding": finding, "expires": rfc3339(*expires_unix_seconds),
                    "vkey": vkey, "statement": statement })
        }
        EventBody::RunPromoted { uid, reference, vkey, statement } => {
            json!({ "uid": hex(uid), "ref": reference, "vkey": vkey, "statement": statement })
        }
    }
}

/// The id in a key's text form.
fn key_id(vkey: &str) -> &str {
    vkey.split('+').nth(1).unwrap_or(vkey)
}

fn event_row(leaf: u64, event: &Event) -> Vec<String> {
    let about = match &event.body {
        EventBody::StoreCreated { store } => format!("store.toml {store}"),
        EventBody::KeyEnrolled { role, vkey } => format!("{role} {}", key_id(vkey)),
        EventBody::RunPlanned { run, uid, .. } => format!("{run} {}", hex(uid)),
        EventBody::RunSealed { run, ledger_root, succeeded, .. } => {
            format!("{run} {} ledger root {ledger_root}", if *succeeded { "succeeded" } else { "failed" })
        }
        EventBody::VerdictRecorded { uid, kind, metric, outcome, .. } => {
            format!("{} {metric} {outcome} of {}", kind.name(), hex(uid))
        }
        EventBody::VerificationRecorded { ok, tree_size, report } => {
            format!("{} at {tree_size} leaves {report}", if *ok { "ok" } else { "failed" })
        }
        EventBody::KeyRotated { role, old, new, .. } => format!("{role} {} to {}", key_id(old), key_id(new)),
        EventBody::KeyRevoked { role, vkey, from_size } => {
            format!("{role} {} above {from_size} leaves", key_id(vkey))
        }
        EventBody::ApprovalRecorded { uid, before, vkey, .. } => {
            format!("of {before} in {} by {}", hex(uid), key_id(vkey))
        }
        EventBody::WaiverRecorded { uid, finding, expires_unix_seconds, vkey, .. } => {
            let until = rfc3339(*expires_unix_seconds);
            format!("of {finding} in {} until {until} by {}", hex(uid), key_id(vkey))
        }
        EventBody::RunPromoted { uid, reference, vkey, .. } => {
            format!("{} to {reference} by {}", hex(uid), key_id(vkey))
        }
    };
    let actor = &event.actor;
    let who = format!("{}@{} {}", actor.user, actor.host, actor.key_id);
    let name = event.body.name().to_owned();
    vec![leaf.to_string(), rfc3339(event.claimed_unix_seconds), name, printable(&about), printable(&who)]
}

use bitproof_core_ledger::keys::{
    KeyError, KeyFolder, KeyRole, ModelSigningKey, PrivateKey, MODEL_SIGNING, WITNESS_NAME,
};
use bitproof_core_ledger::signature::ARTIFACT_SIGNER;
use bitproof_training::recorder::RecorderError;
use serde_json::{json, Value};

use crate::args::Key;
use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::table;

/// The name of a log's key where no store is at hand; in a store it is the log's origin.
const LOG_NAME: &str = "bitproof.local/log";

pub(super) fn execute(app: &App, args: &Key) -> Result<Exit, Failure> {
    let keys = app.keys()?;
    match args {
        Key::New { role } if role == MODEL_SIGNING => {
            let key = keys.create_model_signing().map_err(failure)?;
            print_one(app, describe_model_signing(&keys, &key))?;
        }
        Key::Show { role } if role == MODEL_SIGNING => {
            let key = keys.load_model_signing().map_err(failure)?;
            print_one(app, describe_model_signing(&keys, &key))?;
        }
        Key::New { role } => {
            let role = parse(role)?;
            let key = keys.create(role).map_err(failure)?;
            print_one(app, describe(app, &keys, &key)?)?;
        }
        Key::Show { role } => print_one(app, describe(app, &keys, &load(&keys, parse(role)?)?)?)?,
        Key::Rotate { role } if role == MODEL_SIGNING => {
            return Err(Failure::usage(
                "the key for models is in no log\n  hint: move it away, make a new one, and give its public half to those who verify with it",
            ));
        }
        Key::Rotate { role } => rotate(app, &keys, parse(role)?)?,
        Key::Revoke { key, from_size } => revoke(app, &keys, key, *from_size)?,
        Key::List => {
            let mut found = Vec::new();
            for role in KeyRole::ALL {
                match keys.load(role) {
                    Ok(key) => found.push(key),
                    Err(KeyError::Missing { .. }) => {}
                    Err(error) => return Err(failure(error)),
                }
            }
            let mut objects = found.iter().map(|k| describe(app, &keys, k)).collect::<Result<Vec<_>, _>>()?;
            match keys.load_model_signing() {
                Ok(key) => objects.push(describe_model_signing(&keys, &key)),
                Err(KeyError::Missing { .. }) => {}
                Err(error) => return Err(failure(error)),
            }
            app.answer(
                || json!({ "schema": "bitproof/key-list/v1", "keys": objects }),
                || {
                    let cell = |o: &Value, field: &str| o[field].as_str().unwrap_or_default().to_owned();
                    let rows: Vec<_> = objects
                        .iter()
                        .map(|o| ["role", name(o), "path"].map(|f| cell(o, f)).to_vec())
                        .collect();
                    if rows.is_empty() {
                        "no keys yet: the first run makes them\n".to_owned()
                    } else {
                        table(&rows)
                    }
                },
            )?;
        }
    }
    Ok(Exit::Done)
}

fn parse(role: &str) -> Result<KeyRole, Failure> {
    role.parse().map_err(|e: KeyError| Failure::usage(e))
}

/// The key for models has no text form as a note's key: it is told by the hint in its signatures.
fn name(object: &Value) -> &'static str {
    if object["vkey"].is_null() {
        "key_id"
    } else {
        "vkey"
    }
}

pub(super) fn failure(error: KeyError) -> Failure {
    match error {
        KeyError::Missing { .. } => Failure::usage(format!("{error}\n  hint: `bitproof key new` makes one")),
        KeyError::Exists { .. } => Failure::usage(format!(
            "{error}\n  hint: a role has one key, which is never overwritten; move it away first"
        )),
        other => RecorderError::from(other).into(),
    }
}

/// A role's key.
pub(super) fn load(keys: &KeyFolder, role: KeyRole) -> Result<PrivateKey, Failure> {
    keys.load(role).map_err(failure)
}

fn rotate(app: &App, keys: &KeyFolder, role: KeyRole) -> Result<(), Failure> {
    if role == KeyRole::Witness {
        return Err(Failure::usage(
            "a witness's key is in no log\n  hint: move it away, make a new one, and give its public half to those who name it in a policy",
        ));
    }
    load(keys, role)?;
    let store = app.store()?;
    let mut recorder = app.recorder(&store, keys)?;
    let (old, new) = recorder.rotate(role)?;
    app.answer(
        || json!({ "schema": "bitproof/key-rotate/v1", "role": role.name(), "old": old.to_string(), "new": new.to_string() }),
        || {
            let row = |name: &str, value: String| vec![name.to_owned(), value];
            table(&[
                row("role", role.to_string()),
                row("old", old.to_string()),
                row("new", new.to_string()),
                row("path", keys.path(role).display().to_string()),
            ])
        },
    )
}

fn revoke(app: &App, keys: &KeyFolder, key: &str, from_size: Option<u64>) -> Result<(), Failure> {
    let key = inputs::vkey(key)?;
    let store = app.store()?;
    let from = app.recorder(&store, keys)?.revoke(&key, from_size)?;
    app.answer(
        || json!({ "schema": "bitproof/key-revoke/v1", "vkey": key.to_string(), "from_size": from }),
        || format!("revoked {key}: it counts for nothing in a log of more than {from} leaves\n"),
    )
}

fn describe(app: &App, keys: &KeyFolder, key: &PrivateKey) -> Result<Value, Failure> {
    let name = match key.role() {
        KeyRole::Log => app.store().map_or_else(|_| LOG_NAME.to_owned(), |store| store.origin()),
        KeyRole::Artifact => ARTIFACT_SIGNER.to_owned(),
        KeyRole::Witness => WITNESS_NAME.to_owned(),
    };
    let public = key.note_key(&name).map_err(RecorderError::from)?;
    Ok(json!({
        "role": key.role().name(), "vkey": public.to_string(), "key_id": public.id_hex(),
        "public_key": key.public_key().to_pem(), "path": keys.path(key.role()),
    }))
}

fn describe_model_signing(keys: &KeyFolder, key: &ModelSigningKey) -> Value {
    let public = key.public_key();
    json!({
        "role": MODEL_SIGNING, "vkey": null, "key_id": public.id(),
        "public_key": public.to_pem(), "path": keys.model_signing_path(),
    })
}

fn print_one(app: &App, mut object: Value) -> Result<(), Failure> {
    object["schema"] = json!("bitproof/key/v1");
    app.answer(
        || object.clone(),
        || {
            let row = |f: &str| vec![f.to_owned(), object[f].as_str().unwrap_or_default().to_owned()];
            let pem = object["public_key"].as_str().unwrap_or_default();
            format!("{}{pem}", table(&["role", name(&object), "path"].map(row)))
        },
    )
}

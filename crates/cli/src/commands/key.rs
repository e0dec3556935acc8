use bitproof_core_ledger::keys::{KeyError, KeyFolder, KeyRole, PrivateKey};
use bitproof_training::recorder::RecorderError;
use serde_json::{json, Value};

use crate::args::Key;
use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::output::table;

/// Keys are named by role outside a store; in a store the log's key carries the log's origin.
const NAME_PREFIX: &str = "bitproof.local/";

pub(super) fn execute(app: &App, args: &Key) -> Result<Exit, Failure> {
    let keys = app.keys()?;
    match args {
        Key::New { role } => {
            let role = parse(role)?;
            let key = keys.create(role).map_err(failure)?;
            print_one(app, &keys, &key)?;
        }
        Key::Show { role } => {
            let key = keys.load(parse(role)?).map_err(failure)?;
            print_one(app, &keys, &key)?;
        }
        Key::List => {
            let mut found = Vec::new();
            for role in KeyRole::ALL {
                match keys.load(role) {
                    Ok(key) => found.push(key),
                    Err(KeyError::Missing { .. }) => {}
                    Err(error) => return Err(failure(error)),
                }
            }
            let objects = found.iter().map(|k| describe(&keys, k)).collect::<Result<Vec<_>, _>>()?;
            app.answer(
                || json!({ "schema": "bitproof/key-list/v1", "keys": objects }),
                || {
                    let cell = |o: &Value, field: &str| o[field].as_str().unwrap_or_default().to_owned();
                    let rows: Vec<_> = objects
                        .iter()
                        .map(|o| ["role", "vkey", "path"].map(|f| cell(o, f)).to_vec())
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

fn failure(error: KeyError) -> Failure {
    match error {
        KeyError::Missing { .. } => Failure::usage(format!("{error}\n  hint: `bitproof key new` makes one")),
        KeyError::Exists { .. } => Failure::usage(format!(
            "{error}\n  hint: a role has one key, which is never overwritten; move it away first"
        )),
        other => RecorderError::from(other).into(),
    }
}

fn describe(keys: &KeyFolder, key: &PrivateKey) -> Result<Value, Failure> {
    let public = key.note_key(&format!("{NAME_PREFIX}{}", key.role())).map_err(RecorderError::from)?;
    Ok(json!({
        "role": key.role().name(), "vkey": public.to_string(), "key_id": public.id_hex(),
        "path": keys.path(key.role()),
    }))
}

fn print_one(app: &App, keys: &KeyFolder, key: &PrivateKey) -> Result<(), Failure> {
    let mut object = describe(keys, key)?;
    object["schema"] = json!("bitproof/key/v1");
    app.answer(
        || object.clone(),
        || {
            let row = |f: &str| vec![f.to_owned(), object[f].as_str().unwrap_or_default().to_owned()];
            table(&["role", "vkey", "path"].map(row))
        },
    )
}

use std::fmt::Write as _;
use std::path::Path;

use bitproof_audit::{Attestation, AttestationKind, FolderCheck};
use bitproof_core_ledger::dsse::PublicKey;
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::limits::PUBLIC_KEY_BYTES;
use serde_json::{json, Value};

use crate::args;
use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::output::bytes_amount;

/// `verify --attestation`: no store is opened.
pub(super) fn execute(app: &App, file: &Path, args: &args::Attestation) -> Result<Exit, Failure> {
    // Whoever names a file may name a link to it; what lies below a named folder may be none.
    let file = resolve("--attestation", file)?;
    let folder = args.files.as_deref().map(|dir| resolve("--files", dir)).transpose()?;
    if let Some(dir) = folder.as_deref().filter(|dir| !dir.is_dir()) {
        return Err(Failure::usage(format!("--files {}: it is not a folder", dir.display())));
    }
    let Some(key) = &args.public_key else {
        return Err(Failure::usage("--attestation needs --public-key PEM\n  hint: a key that comes with the attestation proves nothing; use one that came another way"));
    };
    let key = public_key(key)?;
    let files = Files::on_disk();
    let attestation = Attestation::read_file(&files, &file, &key)?;
    let own = folder.as_deref().and_then(|dir| file.strip_prefix(dir).ok()).and_then(Path::to_str);
    let check = folder.as_deref().map(|dir| attestation.check_folder(&files, dir, own)).transpose()?;
    let limits = limits(&attestation, check.as_ref());
    app.answer(
        || to_json(&attestation, check.as_ref(), &limits),
        || to_text(app, &attestation, check.as_ref(), &limits),
    )?;
    Ok(Exit::Done)
}

fn resolve(option: &str, path: &Path) -> Result<std::path::PathBuf, Failure> {
    path.canonicalize().map_err(|e| Failure::usage(format!("{option} {}: {e}", path.display())))
}

fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    let refused = |why: String| Failure::usage(format!("--public-key {}: {why}", path.display()));
    let resolved = resolve("--public-key", path)?;
    let bytes =
        Files::on_disk().read_bounded(&resolved, PUBLIC_KEY_BYTES).map_err(|e| refused(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| refused("it is no text".to_owned()))?;
    PublicKey::from_pem(&text).map_err(|e| refused(e.to_string()))
}

fn limits(attestation: &Attestation, check: Option<&FolderCheck>) -> Vec<String> {
    let mut limits = vec![
        "that the key is its owner's: it is the one that was given; ask its owner for its id".to_owned(),
        "that the key is not revoked: no log was asked".to_owned(),
    ];
    if check.is_none() {
        limits.push("that the files are those that were signed: give --files".to_owned());
    }
    if attestation.kind == AttestationKind::Slsa {
        limits.push(
            "how the files came about: provenance is a claim of the key's owner; `bitproof replay` proves it"
                .to_owned(),
        );
    }
    limits
}

fn to_json(attestation: &Attestation, check: Option<&FolderCheck>, limits: &[String]) -> Value {
    let files: Vec<Value> =
        attestation.files.iter().map(|f| json!({ "name": f.name, "sha256": f.sha256 })).collect();
    let folder = check.map(
        |check| json!({ "files_hashed": check.files, "bytes_hashed": check.bytes, "not_covered": check.not_covered }),
    );
    let claims = attestation.claims.as_ref().map(|claims| {
        json!({ "build_type": claims.build_type, "builder": claims.builder, "invocation_id": claims.invocation_id,
                "started_on": claims.started_on, "finished_on": claims.finished_on })
    });
    json!({
        "schema": "bitproof/attestation/v1", "ok": true, "as": attestation.kind.name(), "key_id": attestation.key,
        "subject": attestation.subject, "files": files, "folder": folder, "claims": claims, "not_provable_here": limits,
    })
}

fn to_text(app: &App, attestation: &Attestation, check: Option<&FolderCheck>, limits: &[String]) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
    // What a stranger wrote does not steer the terminal.
    let subject = attestation.subject.as_deref().unwrap_or("provenance").escape_debug().to_string();
    let (subject, ok) = (app.paint.bold(&subject), app.paint.verdict("ok"));
    line(format!(
        "{subject} {ok}: {} signature over {} files",
        attestation.kind.name(),
        attestation.files.len()
    ));
    line(format!("  signed by  {}", attestation.key));
    if let Some(check) = check {
        line(format!("  folder     {} in {} files hashed", bytes_amount(check.bytes), check.files));
        check.not_covered.iter().for_each(|path| line(format!("  not covered: {path}")));
    }
    if let Some(claims) = &attestation.claims {
        let claimed = [
            ("build type", Some(&claims.build_type)),
            ("builder", Some(&claims.builder)),
            ("run", claims.invocation_id.as_ref()),
            ("started", claims.started_on.as_ref()),
            ("finished", claims.finished_on.as_ref()),
        ];
        for (name, value) in claimed {
            if let Some(value) = value {
                line(format!("  claims {name}: {}", value.escape_debug()));
            }
        }
    }
    line("not provable from this alone:".to_owned());
    limits.iter().for_each(|limit| line(format!("  - {limit}")));
    text
}

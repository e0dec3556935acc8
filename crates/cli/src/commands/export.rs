use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bitproof_audit::{export, AttestationKind, ExportAs, ExportReport, ExportRequest, MODEL_DIR};
use bitproof_core_ledger::keys::KeyRole;
use serde_json::{json, Value};

use super::key;
use crate::args::{Export, ExportFormat};
use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::output::bytes_amount;

pub(super) fn execute(app: &App, args: &Export) -> Result<Exit, Failure> {
    let store = app.store()?;
    let keys = app.keys()?;
    let out = args.output.clone().unwrap_or_else(|| default_folder(args));
    let (run, stage, out) = (args.run.as_str(), args.stage.as_deref(), out.as_path());
    let request = |how| ExportRequest { run, stage, out, how };
    let report = match args.format {
        ExportFormat::ModelSigning => {
            let key = keys.load_model_signing().map_err(key::failure)?;
            export(&store, &request(ExportAs::ModelSigning(&key)))?
        }
        ExportFormat::Slsa => {
            let key = keys.load(KeyRole::Artifact).map_err(key::failure)?;
            export(&store, &request(ExportAs::Slsa(&key)))?
        }
    };
    app.answer(|| to_json(&report, out), || to_text(&report, out))?;
    Ok(Exit::Done)
}

/// A selector may hold a colon.
fn default_folder(args: &Export) -> PathBuf {
    let format = match args.format {
        ExportFormat::ModelSigning => AttestationKind::ModelSigning,
        ExportFormat::Slsa => AttestationKind::Slsa,
    };
    PathBuf::from(format!("{}-{}", args.run.replace([':', '/'], "-"), format.name()))
}

fn to_json(report: &ExportReport, out: &Path) -> Value {
    let files: Vec<Value> = report
        .files
        .iter()
        .map(|f| {
            json!({ "name": f.name, "bytes": f.digests.bytes, "blake3": f.digests.blake3, "sha256": f.digests.sha256 })
        })
        .collect();
    json!({
        "schema": "bitproof/export/v1", "run": report.run, "stage": report.stage, "as": report.kind.name(), "dir": out,
        "attestation": report.attestation, "public_key": report.public_key, "key_id": report.key, "files": files,
    })
}

fn to_text(report: &ExportReport, out: &Path) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
    let total: u64 = report.files.iter().map(|f| f.digests.bytes).sum();
    let (count, amount) = (report.files.len(), bytes_amount(total));
    line(format!("{} of {}: {count} files, {amount}", report.stage, report.run));
    let path = |name: &str| out.join(name).display().to_string();
    let (attestation, public) = (path(report.attestation), path(&report.public_key));
    line(format!("  attestation  {attestation}"));
    line(format!("  public key   {public}"));
    line(format!("  key id       {}", report.key));
    let mut check =
        format!("  check with   bitproof verify --attestation {attestation} --public-key {public}");
    if report.kind == AttestationKind::ModelSigning {
        let model = path(MODEL_DIR);
        check += &format!(" --files {model}");
        line(check);
        line(format!(
            "          or   model_signing verify key {model} --signature {attestation} --public_key {public}"
        ));
    } else {
        line(check);
    }
    text
}

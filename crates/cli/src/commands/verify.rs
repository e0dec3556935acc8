use std::fmt::Write as _;
use std::path::Path;

use bitproof_audit::{verify, Scope, Severity, VerifyReport};
use bitproof_core_ledger::note::NoteKey;
use serde_json::{json, Value};

use crate::args::Verify;
use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::output::bytes_amount;

pub(super) fn execute(app: &App, args: &Verify) -> Result<Exit, Failure> {
    let trusted: Vec<NoteKey> = args.vkey.as_deref().map(vkey).transpose()?.into_iter().collect();
    let scope = if args.all { Scope::All } else { Scope::Run(args.run.clone()) };
    let store = app.store()?;
    let report = verify(&store, &scope, &trusted)?;
    app.answer(|| to_json(&report), || to_text(&report, app))?;
    Ok(if report.ok() { Exit::Done } else { Exit::No })
}

/// A key in its text form, or the file that holds it.
fn vkey(text: &str) -> Result<NoteKey, Failure> {
    let content = if Path::new(text).is_file() { std::fs::read_to_string(text)? } else { text.to_owned() };
    content.trim().parse().map_err(|e| {
        Failure::usage(format!(
            "--vkey: {e}\n  hint: `bitproof verify` prints the key of a store as \"signed by\""
        ))
    })
}

fn to_json(report: &VerifyReport) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|f| {
            let severity = match f.severity {
                Severity::Note => "note",
                Severity::Error => "error",
            };
            json!({ "check": f.check, "severity": severity, "path": f.path, "offset": f.offset,
                    "expected": f.expected, "got": f.got, "hint": f.hint })
        })
        .collect();
    json!({
        "schema": "bitproof/verify/v1",
        "ok": report.ok(), "runs": report.runs,
        "bytes_hashed": report.bytes_hashed, "files_hashed": report.files_hashed,
        "tree_size": report.tree_size, "tree_root": report.tree_root, "signed_by": report.signed_by,
        "findings": findings, "unreferenced": report.unreferenced, "not_provable_here": report.not_provable_here,
    })
}

fn to_text(report: &VerifyReport, app: &App) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
    let word = app.paint.verdict(if report.ok() { "ok" } else { "damaged" });
    let runs = if report.runs.is_empty() { "no run".to_owned() } else { report.runs.join(", ") };
    let hashed = bytes_amount(report.bytes_hashed);
    line(format!("{} {word}: {hashed} in {} files hashed", app.paint.bold(&runs), report.files_hashed));
    line(format!("  tree head  {} leaves, root {}", report.tree_size, report.tree_root));
    line(format!("  signed by  {}", report.signed_by));
    for finding in &report.findings {
        line(format!("finding: {finding}\n  hint: {}", finding.hint));
    }
    if !report.unreferenced.is_empty() {
        line(format!("{} files that nothing reaches:", report.unreferenced.len()));
        report.unreferenced.iter().for_each(|path| line(format!("  {path}")));
    }
    if !report.not_provable_here.is_empty() {
        line("not provable from this store alone:".to_owned());
        report.not_provable_here.iter().for_each(|limit| line(format!("  - {limit}")));
    }
    text
}

use std::fmt::Write as _;

use bitproof_audit::{record, verify, Anchors, Scope, VerifyReport, WitnessPolicy};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::objects::ObjectId;
use serde_json::json;

use crate::args::Verify;
use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::inputs;
use crate::output::bytes_amount;

pub(super) fn execute(app: &App, args: &Verify) -> Result<Exit, Failure> {
    let anchors = Anchors {
        keys: args.vkey.iter().map(|key| inputs::vkey(key)).collect::<Result<_, _>>()?,
        pins: args.pin.iter().map(|path| inputs::head(path)).collect::<Result<_, _>>()?,
        witnesses: args
            .witness
            .as_deref()
            .map(|path| WitnessPolicy::read(&Files::on_disk(), path).map_err(inputs::anchor))
            .transpose()?,
    };
    let scope = if args.all { Scope::All } else { Scope::Run(args.run.clone()) };
    let store = app.store()?;
    let report = verify(&store, &scope, &anchors)?;
    let recorded = if args.record {
        let keys = app.keys()?;
        Some(record(&app.recorder(&store, &keys)?, &report)?)
    } else {
        None
    };
    app.answer(
        || {
            let mut answer = report.to_json();
            answer["recorded"] = json!(recorded);
            answer
        },
        || to_text(&report, recorded, app),
    )?;
    Ok(if report.ok() { Exit::Done } else { Exit::No })
}

fn to_text(report: &VerifyReport, recorded: Option<ObjectId>, app: &App) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
    let word = app.paint.verdict(if report.ok() { "ok" } else { "failed" });
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
        line("not provable from what is here:".to_owned());
        report.not_provable_here.iter().for_each(|limit| line(format!("  - {limit}")));
    }
    if let Some(object) = recorded {
        line(format!("recorded as {object}"));
    }
    text
}

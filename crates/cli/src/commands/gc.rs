use std::fmt::Write as _;

use bitproof_audit::{gc, Anchors, Collect, GcReport};
use serde_json::{json, Value};

use crate::args::Gc;
use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::output::bytes_amount;

pub(super) fn execute(app: &App, args: &Gc) -> Result<Exit, Failure> {
    let store = app.store()?;
    // A log that was cut, or an older copy of it, no longer names everything that it once reached.
    let last = app.keys()?.remembered_head(store.id()).filter(|head| head.size > 0);
    let anchors = Anchors { pins: last.into_iter().collect(), ..Anchors::default() };
    let collect = if args.dry_run { Collect::DryRun } else { Collect::Remove };
    let report = gc(&store, &anchors, collect)?;
    app.answer(|| to_json(&report, args.dry_run), || to_text(&report, args.dry_run))?;
    Ok(Exit::Done)
}

fn to_json(report: &GcReport, dry_run: bool) -> Value {
    let unreached: Vec<Value> =
        report.unreached.iter().map(|u| json!({ "path": u.path, "bytes": u.bytes })).collect();
    json!({
        "schema": "bitproof/gc/v1",
        "dry_run": dry_run,
        "unreached": unreached,
        "unreached_bytes": report.unreached_bytes(),
        "kept_objects": report.kept_objects,
        "kept_bytes": report.kept_bytes,
    })
}

fn to_text(report: &GcReport, dry_run: bool) -> String {
    let mut text = String::new();
    for unreached in &report.unreached {
        writeln!(text, "  {:>9}  {}", bytes_amount(unreached.bytes), unreached.path)
            .expect("writing to a string");
    }
    let word = if dry_run { "would be removed" } else { "removed" };
    let (gone, kept) = (bytes_amount(report.unreached_bytes()), bytes_amount(report.kept_bytes));
    writeln!(
        text,
        "{} files {word}, {gone}; {} objects stay, {kept}",
        report.unreached.len(),
        report.kept_objects
    )
    .expect("writing to a string");
    text
}

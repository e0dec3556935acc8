use std::fmt::Write as _;

use bitproof_core_ledger::clock::rfc3339;
use bitproof_training::governance::GovernanceView;
use bitproof_training::manifest::Manifest;
use bitproof_training::run_folder::{RunError, RunFolder, RunIndex, RunRow};
use serde_json::json;

use super::run::step_root_row;
use crate::args::Show;
use crate::context::App;
use crate::controls::{control_json, control_table};
use crate::exit::{Exit, Failure};
use crate::output::table;

pub(super) fn execute(app: &App, args: &Show) -> Result<Exit, Failure> {
    let store = app.store()?;
    let index = RunIndex::read(&store)?;
    let row = index.resolve(&args.run)?;
    let folder = RunFolder::open_recorded(&store, row)?;
    let manifest = if row.seal.is_some() { Some(folder.manifest()?) } else { None };
    let governance = if row.seal.is_some() { folder.governance()? } else { None };
    let lanes = &folder.plan.spec().lanes;
    let facts = folder.facts_with(manifest.as_ref().map(|m| m.metric_values()).unwrap_or_default());
    let sealed = row.seal.as_ref().map(|seal| rfc3339(seal.claimed_unix_seconds));
    app.answer(
        || {
            let verdicts: Vec<_> = row
                .verdicts
                .iter()
                .map(|v| json!({ "kind": v.kind.name(), "metric": v.metric, "outcome": v.outcome, "verdict": v.verdict }))
                .collect();
            json!({
                "schema": "bitproof/show/v1", "run": row.run, "uid": facts.uid, "status": row.status(),
                "sealed": sealed, "plan_digest": row.plan,
                "ledger_root": row.seal.as_ref().map(|s| s.ledger_root),
                "result_root": row.seal.as_ref().map(|s| s.result_root),
                "seed": facts.seed, "kernels_spec": facts.kernels_spec, "data": facts.data, "params": facts.params,
                "code": facts.code, "metrics": facts.metrics,
                "step_roots": manifest.as_ref().map(|m| &m.step_roots), "tasks": manifest.as_ref().map(|m| &m.tasks),
                "verdicts": verdicts,
                "controls": governance.iter().flat_map(|g| &g.entries).map(|e| control_json(e, lanes)).collect::<Vec<_>>(),
                "governance_root": governance.as_ref().map(|g| g.root), "folder": folder.dir(),
            })
        },
        || {
            let mut text = String::new();
            let mut section = |name: &str, rows: Vec<Vec<String>>| {
                if !rows.is_empty() {
                    writeln!(text, "{name}\n{}", table(&rows)).expect("writing to a string");
                }
            };
            let pairs = |map: &std::collections::BTreeMap<String, String>| -> Vec<Vec<String>> {
                map.iter().map(|(k, v)| vec![k.clone(), v.clone()]).collect()
            };
            let title = format!("{} {}", app.paint.bold(&row.run), app.paint.verdict(row.status()));
            section(&title, summary(row, &folder, manifest.as_ref(), governance.as_ref(), sealed.as_deref()));
            section("data", pairs(&facts.data));
            section("parameters", pairs(&facts.params));
            section("code", pairs(&facts.code));
            let metric = |(name, value): (&String, &f64)| vec![name.clone(), format!("{value:.6}")];
            section("metrics", facts.metrics.iter().map(metric).collect());
            let verdict = |v: &bitproof_training::run_folder::RecordedVerdict| {
                vec![app.paint.verdict(&v.outcome), v.kind.name().to_owned(), v.metric.clone()]
            };
            section("verdicts", row.verdicts.iter().map(verdict).collect());
            if let Some(governance) = &governance {
                let controls = control_table(&governance.entries, lanes, app.paint);
                writeln!(text, "controls\n{controls}").expect("writing to a string");
            }
            text
        },
    )?;
    if row.seal.is_some() {
        Ok(Exit::Done)
    } else {
        Err(RunError::Incomplete { run: row.run.clone() }.into())
    }
}

fn summary(
    row: &RunRow,
    folder: &RunFolder,
    manifest: Option<&Manifest>,
    governance: Option<&GovernanceView>,
    sealed: Option<&str>,
) -> Vec<Vec<String>> {
    let pair = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![pair("uid", folder.uid_hex()), pair("plan", row.plan.to_string())];
    if let Some(seal) = &row.seal {
        rows.push(pair("ledger root", seal.ledger_root.to_string()));
        rows.push(pair("result root", seal.result_root.to_string()));
    }
    let roots = manifest.iter().flat_map(|manifest| &manifest.step_roots);
    rows.extend(roots.map(|(task, root)| step_root_row(task, root)));
    rows.extend(governance.map(|governance| pair("governance root", governance.root.to_string())));
    rows.push(pair("seed", folder.plan.spec().seed.to_string()));
    rows.push(pair("sealed", sealed.unwrap_or("not yet").to_owned()));
    rows.push(pair("folder", folder.dir().display().to_string()));
    rows
}

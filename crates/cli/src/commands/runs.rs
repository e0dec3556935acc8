use bitproof_core_ledger::clock::rfc3339;
use bitproof_core_ledger::store::hex;
use bitproof_training::run_folder::{RunIndex, RunRow};
use serde_json::json;

use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::output::table;

pub(super) fn execute(app: &App) -> Result<Exit, Failure> {
    let index = RunIndex::read(&app.store()?)?;
    let sealed = |row: &RunRow| row.seal.as_ref().map(|seal| rfc3339(seal.claimed_unix_seconds));
    app.answer(
        || {
            let runs: Vec<_> = index
                .rows
                .iter()
                .map(|row| {
                    json!({ "run": row.run, "uid": hex(&row.uid), "status": row.status(), "plan_digest": row.plan,
                            "ledger_root": row.seal.as_ref().map(|s| s.ledger_root),
                            "result_root": row.seal.as_ref().map(|s| s.result_root), "sealed": sealed(row) })
                })
                .collect();
            json!({ "schema": "bitproof/runs/v1", "runs": runs })
        },
        || {
            let head = ["run", "status", "sealed", "result", "uid"].map(str::to_owned).to_vec();
            let row = |row: &RunRow| {
                vec![
                    row.run.clone(),
                    app.paint.verdict(row.status()),
                    sealed(row).unwrap_or_else(|| "-".to_owned()),
                    row.seal.as_ref().map_or("-".to_owned(), |s| s.result_root.short()),
                    hex(&row.uid)[..12].to_owned(),
                ]
            };
            if index.rows.is_empty() {
                return "no runs yet\n".to_owned();
            }
            table(&std::iter::once(head).chain(index.rows.iter().rev().map(row)).collect::<Vec<_>>())
        },
    )?;
    Ok(Exit::Done)
}

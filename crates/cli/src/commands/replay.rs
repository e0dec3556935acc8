use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;

use bitproof_audit::{replay, ReplayOutcome, ReplayReport, ReplayRequest};
use bitproof_training::data::DataFiles;
use serde_json::{json, Value};

use crate::args::Replay;
use crate::context::App;
use crate::divergence::divergence_json;
use crate::exit::{Exit, Failure};

pub(super) fn execute(app: &App, args: &Replay) -> Result<Exit, Failure> {
    let mut data = DataFiles::default();
    for (name, path) in &args.data {
        data.add(Path::new(path)).map_err(|e| {
            Failure::usage(format!("--data {name}: cannot read {path}: {e}\n  hint: name a file that exists"))
        })?;
    }
    let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let request = ReplayRequest {
        run: args.run.clone(),
        workers: args.effort.workers.unwrap_or(processors),
        threads: args.effort.threads.unwrap_or(processors).get(),
        data,
    };
    let report = replay(&app.store()?, &request)?;
    app.progress.clear();
    app.answer(|| to_json(&report), || to_text(&report, app))?;
    Ok(match report.outcome {
        ReplayOutcome::Identical => Exit::Done,
        ReplayOutcome::Diverged => Exit::No,
    })
}

fn to_json(report: &ReplayReport) -> Value {
    json!({
        "schema": "bitproof/replay/v1",
        "run": report.run,
        "outcome": report.outcome.name(),
        "identical": report.outcome == ReplayOutcome::Identical,
        "tasks": report.tasks,
        "ledger_root_recorded": report.ledger_root_recorded,
        "ledger_root_replayed": report.ledger_root_replayed,
        "first_divergence": report.divergences.first().map(divergence_json),
        "diverged_tasks": report.divergences.iter().map(|d| d.task.clone()).collect::<Vec<_>>(),
    })
}

fn to_text(report: &ReplayReport, app: &App) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
    let outcome = app.paint.verdict(report.outcome.name());
    line(format!("{} {outcome}: {} tasks executed again", app.paint.bold(&report.run), report.tasks));
    line(format!("  ledger root recorded  {}", report.ledger_root_recorded));
    line(format!("  ledger root replayed  {}", report.ledger_root_replayed));
    for (i, divergence) in report.divergences.iter().enumerate() {
        let what = if i == 0 { "first divergence" } else { "also" };
        let output = divergence.output.as_ref().map_or(String::new(), |o| format!(", output {o}"));
        line(format!("  {what}: task {}{output}: {}", divergence.task, divergence.difference));
    }
    text
}

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::Path;

use bitproof_audit::{replay, Difference, Divergence, ReplayOutcome, ReplayReport, ReplayRequest};
use bitproof_training::data::DataFiles;
use serde_json::{json, Value};

use crate::args::Replay;
use crate::context::App;
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

fn divergence_json(divergence: &Divergence) -> Value {
    let mut object = json!({
        "task": divergence.task, "sequence": divergence.sequence, "output": divergence.output,
        "message": describe(&divergence.difference),
    });
    if let Difference::Bytes { byte, recorded_len, replayed_len, tensor } = &divergence.difference {
        object["byte"] = json!(byte);
        object["recorded_bytes"] = json!(recorded_len);
        object["replayed_bytes"] = json!(replayed_len);
        if let Some(t) = tensor {
            let value = |bits: u32| {
                let value = f32::from_bits(bits);
                json!({ "value": value.is_finite().then_some(value), "bits": format!("{bits:08x}") })
            };
            object["tensor"] = json!(t.tensor);
            object["index"] = json!(t.index);
            object["recorded"] = value(t.recorded_bits);
            object["replayed"] = value(t.replayed_bits);
        }
    }
    object
}

fn describe(difference: &Difference) -> String {
    match difference {
        Difference::Code { recorded, replayed } => {
            format!("the run was recorded with {recorded}, this program has {replayed}")
        }
        Difference::Outcome { recorded, replayed } => {
            format!("recorded as {recorded}, replayed as {replayed}")
        }
        Difference::Bytes { byte, recorded_len, replayed_len, tensor } => {
            let mut text = format!("byte {byte} is the first that differs");
            if recorded_len != replayed_len {
                write!(text, " ({recorded_len} bytes then, {replayed_len} now)")
                    .expect("writing to a string");
            }
            if let Some(t) = tensor {
                let (then, now) = (f32::from_bits(t.recorded_bits), f32::from_bits(t.replayed_bits));
                write!(
                    text,
                    "; tensor {} at {:?}: {then:?} ({:08x}) then, {now:?} ({:08x}) now",
                    t.tensor, t.index, t.recorded_bits, t.replayed_bits
                )
                .expect("writing to a string");
            }
            text
        }
    }
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
        line(format!("  {what}: task {}{output}: {}", divergence.task, describe(&divergence.difference)));
    }
    text
}

use std::fmt::Write as _;

use bitproof_audit::{bisect, BisectReport, Cause, OtherValue, Parting, TrainingParting};
use serde_json::{json, Value};

use super::replay::{named, store, With};
use super::steps::{difference_json, difference_text, origin, part_word, reexecuted_json};
use crate::args::Bisect;
use crate::context::{App, Scratch};
use crate::exit::{Exit, Failure};

pub(super) fn execute(app: &App, args: &Bisect) -> Result<Exit, Failure> {
    let of = [named(&args.first), named(&args.second)];
    let store = store(app, &[&of[0], &of[1]])?;
    let scratch = Scratch::new()?;
    let (stage, data, tools) = (args.stage.as_deref(), &args.data, &args.tools);
    let with =
        With { store: store.as_ref(), stage, effort: &args.effort, data, tools, scratch: scratch.path() };
    let [first, second] = of.map(|of| with.request(app, of));
    let report = bisect(store.as_ref(), &first?, &second?)?;
    app.progress.clear();
    app.answer(|| to_json(&report), || to_text(&report, app))?;
    Ok(if report.identical() { Exit::Done } else { Exit::No })
}

fn to_json(report: &BisectReport) -> Value {
    let parting = report.parting.as_ref().map(|parting| {
        let factor = |f: &bitproof_audit::Factor| {
            json!({ "kind": f.kind, "name": f.name, "first": f.first, "second": f.second })
        };
        json!({
            "task": parting.task, "same_action": parting.factors.is_empty(),
            "factors": parting.factors.iter().map(factor).collect::<Vec<_>>(),
            "differing": parting.outputs,
        })
    });
    json!({
        "schema": "bitproof/bisect/v1",
        "runs": report.runs, "identical": report.identical(), "parts_at": parting,
        "false_record": report.false_record().map(|(run, _)| run),
        "training": report.training.as_ref().map(|training| training_json(report, training)),
    })
}

fn training_json(report: &BisectReport, training: &TrainingParting) -> Value {
    let segment = training.segment.as_ref().map(|s| {
        json!({ "segment": s.segment, "first_step": s.first_step, "last_step": s.last_step,
                "part": s.part.map(part_word) })
    });
    let reexecuted = training.reexecuted.iter().flatten().zip(&report.runs).map(|(made, run)| {
        let mut object = reexecuted_json(made);
        object["run"] = json!(run);
        object["reproduced"] = json!(made.difference.is_none());
        object["difference"] = json!(made.difference.as_ref().map(difference_json));
        object
    });
    json!({
        "task": training.task, "step_roots": training.trees, "comparisons": training.comparisons,
        "segment": segment, "not_executed": training.not_executed, "reexecuted": reexecuted.collect::<Vec<_>>(),
        "cause": training.cause.as_ref().map(cause_json),
    })
}

fn cause_json(cause: &Cause) -> Value {
    let object = |kind: &str,
                  step: Option<u64>,
                  shard: Option<u32>,
                  operation: Option<&str>,
                  value: Option<&OtherValue>| {
        let bits = |bits: Option<u32>| bits.map(|bits| format!("{bits:08x}"));
        let tensor = value.map(|value| &value.tensor).filter(|tensor| !tensor.is_empty());
        json!({
            "kind": kind, "step": step, "shard": shard, "operation": operation, "tensor": tensor,
            "element": value.map(|value| value.element),
            "first_bits": value.and_then(|value| bits(value.bits[0])),
            "second_bits": value.and_then(|value| bits(value.bits[1])),
            "message": cause_text(cause),
        })
    };
    match cause {
        Cause::Shapes(_) => object("shapes", None, None, None, None),
        Cause::Initial(value) => object("initial", None, None, None, Some(value)),
        Cause::Operation { step, shard, operation, value } => {
            object("operation", Some(*step), Some(*shard), Some(operation), value.as_ref())
        }
        Cause::Moments { step, value } => object("moments", Some(*step), None, None, Some(value)),
        Cause::Update { step, value } => object("parameters", Some(*step), None, None, Some(value)),
        Cause::Nothing => object("nothing", None, None, None, None),
    }
}

fn cause_text(cause: &Cause) -> String {
    let bits = |value: &OtherValue| {
        let one = |bits: Option<u32>| match bits {
            Some(bits) => format!("{} (bits {bits:08x})", f32::from_bits(bits)),
            None => "nothing".to_owned(),
        };
        format!("element {}: {} and {}", value.element, one(value.bits[0]), one(value.bits[1]))
    };
    match cause {
        Cause::Shapes(how) => format!("the models have other tensors: {how}"),
        Cause::Initial(value) => {
            format!("they begin with other parameters: {}, {}", value.tensor, bits(value))
        }
        Cause::Operation { step, shard, operation, value: Some(value) } => {
            format!("step {step}, shard {shard}: {operation} gives other bits, {}", bits(value))
        }
        Cause::Operation { step, shard, operation, value: None } => {
            format!("step {step}, shard {shard}: only one of them computes {operation} here")
        }
        Cause::Moments { step, value } => {
            format!("step {step}: the optimizer's moments, {}, {}", value.tensor, bits(value))
        }
        Cause::Update { step, value } => {
            format!("step {step}: the update of the parameters, {}, {}", value.tensor, bits(value))
        }
        Cause::Nothing => {
            "every value is the same; rows, streams or losses that differ gave no other one".to_owned()
        }
    }
}

fn to_text(report: &BisectReport, app: &App) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
    let [first, second] = &report.runs;
    let outcome = app.paint.verdict(if report.identical() { "identical" } else { "differs" });
    line(format!("{} and {}: {outcome}", app.paint.bold(first), app.paint.bold(second)));
    match &report.parting {
        None => line("  their ledgers are the same: every task took and made the same bits".to_owned()),
        Some(parting) => parting_lines(parting, &mut line),
    }
    if let Some(training) = &report.training {
        training_lines(report, training, &mut line);
    }
    text
}

fn parting_lines(parting: &Parting, line: &mut impl FnMut(String)) {
    line(format!("  their ledgers part at task {}", parting.task));
    for factor in &parting.factors {
        let side = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        let name = if factor.name.is_empty() { String::new() } else { format!(" {}", factor.name) };
        line(format!("    {}{name}: {} and {}", factor.kind, side(&factor.first), side(&factor.second)));
    }
    if parting.factors.is_empty() {
        line(
            "    it is the same action with another result: one record is not what its plan computes, or the code is not deterministic"
                .to_owned(),
        );
    }
    if !parting.outputs.is_empty() {
        line(format!("    outputs that differ: {}", parting.outputs.join(", ")));
    }
}

fn training_lines(report: &BisectReport, training: &TrainingParting, line: &mut impl FnMut(String)) {
    let Some(segment) = &training.segment else {
        line(format!("  training {}: the step trees are the same", training.task));
        return;
    };
    let part = segment.part.map_or(String::new(), |part| format!(", first in {}", part.describe()));
    line(format!(
        "  training {}: parts in segment {} (steps {} to {}){part}; {} roots compared",
        training.task, segment.segment, segment.first_step, segment.last_step, training.comparisons
    ));
    if let Some(why) = &training.not_executed {
        line(format!("    not executed again: {why}"));
    }
    for (made, run) in training.reexecuted.iter().flatten().zip(&report.runs) {
        match &made.difference {
            None => line(format!("    {run}: executed again {}, it gives what it recorded", origin(made))),
            Some(difference) => line(format!(
                "    {run}: its record is not what its plan computes\n      executed again {}: {}",
                origin(made),
                difference_text(difference)
            )),
        }
    }
    if let Some(cause) = &training.cause {
        line(format!("    both are what their plans compute; they part here: {}", cause_text(cause)));
    }
}

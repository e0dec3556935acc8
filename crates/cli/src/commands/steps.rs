use std::fmt::Write as _;

use bitproof_audit::{
    replay_steps, Reexecuted, ReplayRequest, SegmentDifference, SegmentFault, StepsReport, StepsWanted,
};
use bitproof_core_ledger::Store;
use bitproof_training::sample::SAFE_NONCE_BYTES;
use bitproof_training::steps::SegmentPart;
use serde_json::{json, Value};

use crate::context::App;
use crate::exit::{Exit, Failure};

pub(super) fn execute(
    app: &App,
    store: Option<&Store>,
    request: &ReplayRequest,
    wanted: &StepsWanted,
) -> Result<Exit, Failure> {
    let report = replay_steps(store, request, wanted)?;
    app.progress.clear();
    app.answer(|| to_json(&report), || to_text(&report, app))?;
    Ok(match report.first_difference() {
        None => Exit::Done,
        Some(_) => Exit::No,
    })
}

fn to_json(report: &StepsReport) -> Value {
    let stretch = |made: &Reexecuted| {
        let mut stretch = reexecuted_json(made);
        stretch["difference"] = json!(made.difference.as_ref().map(difference_json));
        stretch
    };
    let sample = report.sample.as_ref().zip(report.escape()).map(|(sample, (missed, of))| {
        json!({
            "nonce": sample.nonce.to_string(), "short_nonce": sample.nonce.is_short(), "drawn": sample.drawn,
            "escape_at_most": { "numerator": missed, "denominator": of, "value": missed as f64 / of as f64 },
        })
    });
    json!({
        "schema": "bitproof/replay-steps/v1",
        "run": report.run, "task": report.task, "identical": report.first_difference().is_none(),
        "step_root": report.tree, "steps": report.steps(), "segments": report.segments(),
        "stretches": report.stretches.iter().map(stretch).collect::<Vec<_>>(),
        "sample": sample, "first_difference": report.first_difference().map(difference_json),
    })
}

/// What was executed again, without what differed.
pub(super) fn reexecuted_json(made: &Reexecuted) -> Value {
    json!({
        "checkpoint": checkpoint(made), "steps": made.steps, "segments": made.segments,
        "first_segment": made.stretch.first, "last_segment": made.stretch.last,
    })
}

pub(super) fn difference_json(difference: &SegmentDifference) -> Value {
    let part = match &difference.fault {
        SegmentFault::Part(part) => Some(part_word(*part)),
        SegmentFault::End { .. } | SegmentFault::Failed(_) => None,
    };
    json!({
        "segment": difference.segment, "first_step": difference.first_step, "last_step": difference.last_step,
        "step": difference.step(), "part": part, "message": difference.fault.to_string(),
    })
}

pub(super) fn part_word(part: SegmentPart) -> &'static str {
    match part {
        SegmentPart::Batches => "batches",
        SegmentPart::Losses => "losses",
        SegmentPart::Moments => "moments",
        SegmentPart::Parameters => "parameters",
    }
}

/// The step of the checkpoint that it started from; none for the initial parameters.
fn checkpoint(made: &Reexecuted) -> Option<u64> {
    (made.stretch.from > 0).then_some(made.stretch.from)
}

/// Where it started, in words.
pub(super) fn origin(made: &Reexecuted) -> String {
    match checkpoint(made) {
        Some(step) => format!("from the checkpoint of step {step}"),
        None => "from the initial parameters".to_owned(),
    }
}

/// A segment that differs, in words.
pub(super) fn difference_text(difference: &SegmentDifference) -> String {
    let place = match difference.step() {
        Some(step) => format!("step {step}"),
        None => format!("steps {} to {}", difference.first_step, difference.last_step),
    };
    format!("segment {} ({place}): {}", difference.segment, difference.fault)
}

pub(super) fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn to_text(report: &StepsReport, app: &App) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
    let outcome =
        app.paint.verdict(if report.first_difference().is_none() { "identical" } else { "diverged" });
    let (run, tree) = (app.paint.bold(&report.run), &report.tree);
    let made = counted(report.steps(), "step");
    line(format!("{run} {outcome}: {made} of task {} executed again", report.task));
    let (steps, segments) = (counted(tree.steps, "step"), counted(tree.segments, "segment"));
    line(format!("  step root  {} ({steps} in {segments})", tree.root));
    for made in &report.stretches {
        let segments = match made.segments {
            1 => format!("segment {}", made.stretch.first),
            n => format!("segments {} to {}", made.stretch.first, made.stretch.first as u64 + n - 1),
        };
        line(format!("  {}: {}, {segments}", origin(made), counted(made.steps, "step")));
        if let Some(difference) = &made.difference {
            line(format!("    differs: {}", difference_text(difference)));
        }
    }
    if let Some(difference) = &report.other_end {
        line(format!("  differs: {}; nothing was executed", difference_text(difference)));
    }
    if let (Some(sample), Some((missed, of))) = (&report.sample, report.escape()) {
        let drawn: Vec<String> = sample.drawn.iter().map(ToString::to_string).collect();
        line(format!("  drawn by the nonce {}: {}", sample.nonce, drawn.join(", ")));
        line(format!(
            "  a run with one forged segment escapes this draw with a probability of at most {missed}/{of} = {:.4}",
            missed as f64 / of as f64
        ));
        if sample.nonce.is_short() {
            line(format!(
                "  warning: a nonce of fewer than {SAFE_NONCE_BYTES} bytes can be guessed, and what is guessed can be foreseen"
            ));
        }
    }
    text
}

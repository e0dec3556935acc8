use std::fmt::Write as _;

use bitproof_experiment_graph::{ExactF64, GateFinding, GateOutcome};
use bitproof_training::judge::{
    judge_gates, outcome_word, plan_gates, sealed_facts, verdict_events, JudgedBy, JudgedGate,
};
use bitproof_training::pipeline::parse_gates;
use bitproof_training::run_folder::{RunError, RunFolder, RunIndex};
use bitproof_training::workflow::WorkflowError;
use serde_json::{json, Value};

use crate::args::{Gate, GateFormat};
use crate::context::App;
use crate::exit::{Exit, Failure};
use crate::output::{table, Paint};

pub(super) fn execute(app: &App, args: &Gate) -> Result<Exit, Failure> {
    let policy = args
        .policy
        .as_ref()
        .map(|path| -> Result<_, Failure> {
            let text = std::fs::read(path).map_err(|e| {
                Failure::usage(format!(
                    "cannot read {}: {e}\n  hint: name a file of [[gate]] tables",
                    path.display()
                ))
            })?;
            parse_gates(&path.display().to_string(), &text).map_err(|e| WorkflowError::from(e).into())
        })
        .transpose()?;
    let store = app.store()?;
    let index = RunIndex::read(&store)?;
    let row = index.resolve(&args.run)?;
    if row.seal.is_none() {
        return Err(RunError::Incomplete { run: row.run.clone() }.into());
    }
    if let Some(baseline) = &args.baseline {
        // A baseline that is named on the command line must exist.
        if !baseline.starts_with("latest") {
            index.resolve(baseline)?;
        }
    }
    // A writer announces itself before it keeps the first object.
    let keys = app.keys()?;
    let recorder = app.recorder(&store, &keys)?;
    let folder = RunFolder::open_recorded(&store, row)?;
    let gates = match policy {
        Some(gates) => gates,
        None => plan_gates(&folder.plan)?,
    };
    let judged =
        judge_gates(&store, &index, &folder, &sealed_facts(&store, row)?, &gates, args.baseline.as_deref())?;
    recorder.record(&verdict_events(folder.uid, JudgedBy::Another, &judged, &[]))?;
    let verdict = overall(&judged);
    app.answer(
        || to_json(&row.run, verdict, &judged),
        || match args.format {
            GateFormat::Text => to_text(&row.run, verdict, &judged, app.paint),
            GateFormat::Markdown => to_markdown(&row.run, verdict, &judged),
            GateFormat::Junit => to_junit(&row.run, &judged),
        },
    )?;
    Ok(match verdict {
        "fail" => Exit::No,
        "inconclusive" => Exit::CouldNot,
        _ => Exit::Done,
    })
}

/// The gravest outcome; without a gate there is nothing to say.
fn overall(judged: &[JudgedGate]) -> &'static str {
    let has = |outcome| judged.iter().any(|g| g.verdict.outcome == outcome);
    if judged.is_empty() {
        "inconclusive"
    } else if has(GateOutcome::Fail) {
        "fail"
    } else if has(GateOutcome::Warn) {
        "warn"
    } else if has(GateOutcome::NoBaseline) {
        "no_baseline"
    } else {
        "pass"
    }
}

fn to_json(run: &str, verdict: &str, judged: &[JudgedGate]) -> Value {
    let gates: Vec<Value> = judged.iter().map(gate_json).collect();
    let findings: Vec<&Value> = gates.iter().filter_map(|g| g["findings"].as_array()).flatten().collect();
    json!({ "schema": "bitproof/gate/v1", "run": run, "verdict": verdict, "findings": findings, "gates": gates,
            "receipt": judged.iter().map(|g| g.receipt).collect::<Vec<_>>() })
}

/// A gate with its findings, as `run` and `gate` print it.
pub(super) fn gate_json(gate: &JudgedGate) -> Value {
    let verdict = &gate.verdict;
    let value = |v: Option<ExactF64>| v.map(|v| v.get());
    let finding = |f: &GateFinding| {
        json!({ "metric": verdict.metric, "severity": f.severity, "rule": f.rule, "message": f.message,
                "observed": value(f.observed), "bound": value(f.bound),
                "candidate": value(f.candidate), "baseline": value(f.baseline) })
    };
    let findings: Vec<Value> = verdict.findings.iter().map(finding).collect();
    json!({ "metric": verdict.metric, "outcome": outcome_word(verdict.outcome), "baseline": verdict.baseline_run,
            "skipped": verdict.skipped, "changed": verdict.changed, "findings": findings, "receipt": gate.receipt })
}

fn to_text(run: &str, verdict: &str, judged: &[JudgedGate], paint: Paint) -> String {
    let mut text = format!("{} {}\n", paint.bold(run), paint.verdict(verdict));
    if judged.is_empty() {
        text.push_str("  the run has no gate: add [[gate]] to its pipeline, or give --policy FILE\n");
    }
    text.push_str(&gate_table(judged, paint));
    text
}

/// A row for each gate, and one for each of its findings.
pub(super) fn gate_table(judged: &[JudgedGate], paint: Paint) -> String {
    let mut rows = Vec::new();
    for gate in judged {
        let verdict = &gate.verdict;
        let against = match &verdict.baseline_run {
            Some(baseline) => format!("against {baseline}"),
            None if verdict.skipped.is_empty() => "no baseline".to_owned(),
            None => {
                let rules: Vec<String> = verdict.skipped.iter().map(ToString::to_string).collect();
                format!("no baseline yet: {} not judged", rules.join(", "))
            }
        };
        rows.push(vec![paint.verdict(outcome_word(verdict.outcome)), verdict.metric.clone(), against]);
    }
    let mut text = table(&rows);
    for finding in judged.iter().flat_map(|g| &g.verdict.findings) {
        writeln!(text, "    {}", finding.message).expect("writing to a string");
    }
    text
}

fn to_markdown(run: &str, verdict: &str, judged: &[JudgedGate]) -> String {
    let mut text = format!("### Gate: {run} {verdict}\n\n| outcome | metric | baseline |\n|---|---|---|\n");
    for gate in judged {
        let v = &gate.verdict;
        let baseline = v.baseline_run.as_deref().unwrap_or("none yet");
        writeln!(text, "| {} | {} | {baseline} |", outcome_word(v.outcome), v.metric)
            .expect("writing to a string");
    }
    text.push('\n');
    for finding in judged.iter().flat_map(|g| &g.verdict.findings) {
        writeln!(text, "- {}", finding.message).expect("writing to a string");
    }
    text
}

fn to_junit(run: &str, judged: &[JudgedGate]) -> String {
    let escape = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    let failed = |g: &&JudgedGate| g.verdict.outcome == GateOutcome::Fail;
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\">\n",
        escape(run),
        judged.len(),
        judged.iter().filter(failed).count()
    );
    for gate in judged {
        let messages: Vec<&str> = gate.verdict.findings.iter().map(|f| f.message.as_str()).collect();
        let inner = match gate.verdict.outcome {
            GateOutcome::Fail => format!("<failure message=\"{}\"/>", escape(&messages.join("; "))),
            GateOutcome::NoBaseline => "<skipped message=\"no baseline yet\"/>".to_owned(),
            GateOutcome::Pass | GateOutcome::Warn => {
                messages.iter().map(|m| format!("<system-out>{}</system-out>", escape(m))).collect()
            }
        };
        writeln!(
            text,
            "  <testcase classname=\"gate\" name=\"{}\">{inner}</testcase>",
            escape(&gate.verdict.metric)
        )
        .expect("writing to a string");
    }
    text.push_str("</testsuite>\n");
    text
}

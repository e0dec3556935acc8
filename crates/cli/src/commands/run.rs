use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use bitproof_scheduler::dispatch::End;
use bitproof_training::judge::budget_word;
use bitproof_training::step_roots::StepRoot;
use bitproof_training::workflow::{self, prepare, RunReport, RunRequest, RunStatus, TaskReport, TaskState};
use serde_json::{json, Value};

use super::gate::{gate_json, gate_table};
use super::steps::counted;
use crate::args::{Effort, Engine, Pipeline, Run};
use crate::context::{self, App};
use crate::controls::{control_json, control_table};
use crate::exit::{Exit, Failure};
use crate::output::{bytes_amount, bytes_delta, duration, table, Paint};

pub(super) fn execute(app: &App, args: &Run) -> Result<Exit, Failure> {
    let request = RunRequest {
        read_cache: !args.no_cache,
        forced: args.force.iter().cloned().collect(),
        name: args.name.as_deref().map(run_name).transpose()?,
        ..request(app, &args.pipeline, &args.effort)
    };
    let request = match args.paranoid {
        true => RunRequest { stat_cache: None, ..request },
        false => request,
    };
    // There is one, and saying so is no error.
    let Engine::Local = args.engine;
    let prepared = prepare(&request)?;
    let keys = app.keys()?;
    let around = app.surroundings(app.store_for(&request.pipeline_path)?, &keys);
    let report = workflow::run(&around, &prepared, &request)?;
    app.progress.clear();
    app.answer(|| to_json(&report), || to_text(&report, app.paint))?;
    Ok(exit(&report))
}

/// What a run's end says to scripts.
pub(super) fn exit(report: &RunReport) -> Exit {
    match (report.status, &report.end) {
        (RunStatus::Passed, _) => Exit::Done,
        (RunStatus::Failed, _) => Exit::No,
        (RunStatus::Incomplete, End::Cancelled) => Exit::Interrupted,
        (RunStatus::Incomplete, _) => Exit::CouldNot,
    }
}

/// Whether every task made its outputs.
pub(super) fn all_done(report: &RunReport) -> bool {
    report.tasks.iter().all(|t| matches!(t.state, TaskState::Executed | TaskState::Cached(_)))
}

/// A name for a run, if it can be one.
fn run_name(name: &str) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name.starts_with(['.', '-']) {
        let hint = "up to 64 of a-z 0-9 . _ -, beginning with a letter or digit";
        return Err(Failure::usage(format!("--name {name:?} cannot name a run\n  hint: {hint}")));
    }
    Ok(name.to_owned())
}

/// What the arguments that every command on a pipeline has ask for.
pub(super) fn request(app: &App, pipeline: &Pipeline, effort: &Effort) -> RunRequest {
    let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    RunRequest {
        overrides: pipeline.overrides.clone(),
        data: paths(&pipeline.data),
        tools: paths(&pipeline.tools),
        environment: context::variables(),
        stage: pipeline.stage.clone(),
        stat_cache: app.stat_cache(),
        workers: effort.workers.unwrap_or(processors).get(),
        threads: effort.threads.unwrap_or(processors).get(),
        ..RunRequest::new(&pipeline.pipeline)
    }
}

pub(super) fn paths(named: &[(String, String)]) -> BTreeMap<String, PathBuf> {
    named.iter().map(|(name, path)| (name.clone(), PathBuf::from(path))).collect()
}

fn count(report: &RunReport, wanted: impl Fn(&TaskState) -> bool) -> usize {
    report.tasks.iter().filter(|t| wanted(&t.state)).count()
}

pub(super) fn to_json(report: &RunReport) -> Value {
    let gates: Vec<Value> = report.gates.iter().map(gate_json).collect();
    let budgets: Vec<Value> = report
        .budgets
        .iter()
        .map(|b| {
            json!({ "metric": b.verdict.metric, "outcome": budget_word(b.verdict.outcome),
                         "samples": b.verdict.samples, "findings": b.verdict.findings, "verdict": b.object })
        })
        .collect();
    let stages: Vec<Value> = report
        .tasks
        .iter()
        .map(|t| json!({ "task": t.task, "lane": t.lane, "tick": t.tick, "state": state_word(&t.state),
                         "from": origin(&t.state), "failure": cause(&t.state), "wall_ns": t.wall_ns, "memory_delta_bytes": t.memory_delta_bytes }))
        .collect();
    json!({
        "schema": "bitproof/run/v1",
        "run": report.run, "uid": report.uid, "status": report.status.name(),
        "ledger_root": report.ledger_root, "result_root": report.result_root, "plan_digest": report.plan_digest,
        "tasks": {
            "executed": count(report, |s| *s == TaskState::Executed),
            "cached": count(report, |s| matches!(s, TaskState::Cached(_))),
            "failed": count(report, |s| matches!(s, TaskState::Failed(_))),
            "skipped": count(report, |s| matches!(s, TaskState::Skipped(_))),
        },
        "stages": stages, "metrics": report.metrics, "step_roots": report.step_roots, "gates": gates, "budgets": budgets,
        "controls": report.controls.iter().map(|entry| control_json(entry, &report.lanes)).collect::<Vec<_>>(),
        "governance_root": report.governance_root,
        "tree_size": report.head.as_ref().map(|h| h.size), "tree_root": report.head.as_ref().map(|h| h.root_base64()),
        "incomplete": incomplete(report), "resumed_at": report.resumed_at, "new_keys": report.new_keys, "store": report.store, "folder": report.folder,
        "wall_ns": report.wall_ns, "memory_delta_bytes": report.memory_delta_bytes,
        "peak_rss_bytes": report.peak_rss_bytes,
    })
}

fn incomplete(report: &RunReport) -> Value {
    match &report.end {
        End::Complete => Value::Null,
        End::Cancelled => json!({ "cancelled": true }),
        End::Incomplete { task, message, attempts } => {
            json!({ "cancelled": false, "task": task.0, "message": message, "attempts": attempts })
        }
    }
}

fn state_word(state: &TaskState) -> &'static str {
    match state {
        TaskState::Executed => "executed",
        TaskState::Cached(_) => "cached",
        TaskState::Failed(_) => "failed",
        TaskState::Skipped(_) => "skipped",
    }
}

fn origin(state: &TaskState) -> Option<&str> {
    match state {
        TaskState::Cached(run) => Some(run),
        TaskState::Skipped(cause) => Some(cause),
        TaskState::Executed | TaskState::Failed(_) => None,
    }
}

fn cause(state: &TaskState) -> Option<&str> {
    match state {
        TaskState::Failed(why) => why.as_deref(),
        TaskState::Executed | TaskState::Cached(_) | TaskState::Skipped(_) => None,
    }
}

pub(super) fn to_text(report: &RunReport, paint: Paint) -> String {
    let mut text = String::new();
    let mut line = |content: &str| writeln!(text, "{content}").expect("writing to a string");
    for key in &report.new_keys {
        line(&format!("made a key: {} (keep a copy; it signs what you record)", key.display()));
    }
    if report.new_store {
        line(&format!("made a store: {}", report.store.display()));
    }
    if let Some(tasks) = report.resumed_at {
        line(&format!("took up the interrupted run {}: {tasks} tasks were committed", report.run));
    }
    let peak = report.peak_rss_bytes.map_or(String::new(), |b| format!(", peak memory {}", bytes_amount(b)));
    let took = duration(i128::from(report.wall_ns));
    line(&format!("{} {} in {took}{peak}\n", paint.bold(&report.run), paint.verdict(report.status.name())));
    if report.tasks.is_empty() && report.end == End::Complete {
        line("  no stage was run: a control before one failed\n");
    } else {
        let head = ["stage", "lane", "tick", "time", "memory", ""].map(str::to_owned).to_vec();
        let rows: Vec<_> =
            std::iter::once(head).chain(report.tasks.iter().map(|t| stage_row(t, paint))).collect();
        line(&table(&rows));
    }
    if !report.metrics.is_empty() {
        line("metrics");
        let rows: Vec<_> =
            report.metrics.iter().map(|(name, v)| vec![name.clone(), format!("{v:.6}")]).collect();
        line(&table(&rows));
    }
    if !report.gates.is_empty() {
        line("gates");
        line(&gate_table(&report.gates, paint));
    }
    if !report.budgets.is_empty() {
        line("budgets");
        line(&budget_lines(report, paint));
    }
    if !report.controls.is_empty() {
        line("controls");
        line(&control_table(&report.controls, &report.lanes, paint));
    }
    let mut rows = vec![
        vec!["ledger root".to_owned(), report.ledger_root.to_string()],
        vec!["result root".to_owned(), report.result_root.to_string()],
    ];
    rows.extend(report.step_roots.iter().map(|(task, root)| step_root_row(task, root)));
    if let Some(root) = &report.governance_root {
        rows.push(vec!["governance root".to_owned(), root.to_string()]);
    }
    if let Some(head) = &report.head {
        rows.push(vec!["tree head".to_owned(), format!("{} leaves, root {}", head.size, head.root_base64())]);
    }
    rows.push(vec!["folder".to_owned(), report.folder.display().to_string()]);
    line(table(&rows).trim_end());
    match &report.end {
        End::Complete if report.tasks.is_empty() => {
            line(&format!("\nnext: bitproof show {0}    bitproof verify {0}", report.run));
        }
        End::Complete => line(&format!("\nnext: bitproof replay {0}    bitproof verify {0}", report.run)),
        End::Cancelled => line("\ninterrupted: nothing acknowledged is lost, and the same command goes on"),
        End::Incomplete { task, message, attempts } => {
            line(&format!("\ntask {task} failed, {}: {message}", times(*attempts)));
            line("  the failure is not its own: the same command goes on from here");
        }
    }
    text
}

/// The step tree of a training in short.
pub(super) fn step_root_row(task: &str, tree: &StepRoot) -> Vec<String> {
    let segments = counted(tree.segments, "segment");
    vec!["step root".to_owned(), format!("{task} {} ({segments})", tree.root)]
}

fn times(attempts: u32) -> String {
    match attempts {
        1 => "tried once".to_owned(),
        n => format!("tried {n} times"),
    }
}

fn stage_row(task: &TaskReport, paint: Paint) -> Vec<String> {
    let note = match &task.state {
        TaskState::Executed => String::new(),
        TaskState::Cached(run) => format!("cached: executed in {run}"),
        TaskState::Failed(Some(why)) => format!("{}: {why}", paint.verdict("failed")),
        TaskState::Failed(None) => paint.verdict("failed"),
        TaskState::Skipped(cause) => format!("skipped: {cause} failed"),
    };
    vec![
        task.task.clone(),
        task.lane.clone(),
        task.tick.to_string(),
        task.wall_ns.map_or("-".to_owned(), |ns| duration(i128::from(ns))),
        task.memory_delta_bytes.map_or("-".to_owned(), bytes_delta),
        note,
    ]
}

fn budget_lines(report: &RunReport, paint: Paint) -> String {
    let mut rows = Vec::new();
    let cached = report.tasks.iter().any(|t| matches!(t.state, TaskState::Cached(_)));
    let of = if cached { "; cached stages by the run that executed them" } else { "" };
    for budget in &report.budgets {
        let verdict = &budget.verdict;
        let samples = format!("{} measurements{of}", verdict.samples);
        rows.push(vec![paint.verdict(budget_word(verdict.outcome)), verdict.metric.clone(), samples]);
        rows.extend(verdict.findings.iter().map(|f| vec![String::new(), f.to_string()]));
    }
    table(&rows)
}

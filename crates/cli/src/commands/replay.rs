use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bitproof_audit::{
    replay, Deviation, ReplayOf, ReplayOutcome, ReplayReport, ReplayRequest, StepsWanted, Tolerated,
};
use bitproof_core_ledger::Store;
use bitproof_training::data::DataFiles;
use bitproof_training::workflow::project_tools;
use serde_json::{json, Value};

use super::run::paths;
use super::steps;
use crate::args::{Effort, Replay};
use crate::context::{App, Scratch};
use crate::divergence::divergence_json;
use crate::exit::{Exit, Failure};

pub(super) fn execute(app: &App, args: &Replay) -> Result<Exit, Failure> {
    let of = named(&args.run);
    let store = store(app, &[&of])?;
    let scratch = Scratch::new()?;
    let (stage, data, tools) = (args.stage.as_deref(), &args.data, &args.tools);
    let with =
        With { store: store.as_ref(), stage, effort: &args.effort, data, tools, scratch: scratch.path() };
    let request = with.request(app, of)?;
    let wanted = match (args.steps, args.sample, &args.nonce) {
        (Some((first, last)), ..) => Some(StepsWanted::Range { first, last }),
        (None, Some(count), Some(nonce)) => Some(StepsWanted::Sample { count, nonce: nonce.clone() }),
        _ => None,
    };
    if let Some(wanted) = wanted {
        return steps::execute(app, store.as_ref(), &request, &wanted);
    }
    let report = replay(store.as_ref(), &request)?;
    app.progress.clear();
    app.answer(|| to_json(&report), || to_text(&report, app))?;
    Ok(match report.outcome {
        ReplayOutcome::Identical | ReplayOutcome::WithinTolerance => Exit::Done,
        ReplayOutcome::Diverged => Exit::No,
    })
}

/// What a run is named by on the command line: the path of a manifest ends with `.json` or holds a `/`.
pub(super) fn named(run: &str) -> ReplayOf {
    match run.ends_with(".json") || run.contains('/') {
        true => ReplayOf::Manifest(PathBuf::from(run)),
        false => ReplayOf::Run(run.to_owned()),
    }
}

/// The store at hand; manifests alone need none.
pub(super) fn store(app: &App, of: &[&ReplayOf]) -> Result<Option<Store>, Failure> {
    match of.iter().all(|of| matches!(of, ReplayOf::Manifest(_))) {
        true => Ok(app.store().ok()),
        false => app.store().map(Some),
    }
}

/// With what a run is executed again.
pub(super) struct With<'a> {
    pub(super) store: Option<&'a Store>,
    pub(super) stage: Option<&'a str>,
    pub(super) effort: &'a Effort,
    pub(super) data: &'a [(String, String)],
    pub(super) tools: &'a [(String, String)],
    pub(super) scratch: &'a Path,
}

impl With<'_> {
    pub(super) fn request(&self, app: &App, of: ReplayOf) -> Result<ReplayRequest, Failure> {
        let mut data = DataFiles::default();
        for (name, path) in self.data {
            data.add(Path::new(path)).map_err(|e| {
                let hint = "name a file or folder that exists";
                Failure::usage(format!("--data {name}: cannot read {path}: {e}\n  hint: {hint}"))
            })?;
        }
        let project = project(self.store);
        let mut tools = project_tools(&project)?;
        for (name, path) in paths(self.tools) {
            tools.insert(name, std::path::absolute(path)?);
        }
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(ReplayRequest {
            of,
            stage: self.stage.map(str::to_owned),
            workers: self.effort.workers.unwrap_or(processors),
            threads: self.effort.threads.unwrap_or(processors).get(),
            data,
            tools,
            project,
            scratch: self.scratch.to_owned(),
            cancel: app.cancel.clone(),
        })
    }
}

/// Where the pipeline is looked for: beside the store, else here.
fn project(store: Option<&Store>) -> PathBuf {
    let beside = store.and_then(|store| store.root().parent()).map(Path::to_owned);
    beside.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("."))
}

fn to_json(report: &ReplayReport) -> Value {
    json!({
        "schema": "bitproof/replay/v1",
        "run": report.run,
        "outcome": report.outcome.name(),
        "identical": report.outcome == ReplayOutcome::Identical,
        "tasks": report.tasks,
        "recorded_tasks": report.recorded,
        "not_judged_tasks": report.not_judged,
        "ledger_root_recorded": report.ledger_root_recorded,
        "ledger_root_replayed": report.ledger_root_replayed,
        "within_tolerance": report.tolerated.iter().map(tolerated_json).collect::<Vec<_>>(),
        "first_divergence": report.divergences.first().map(divergence_json),
        "diverged_tasks": report.divergences.iter().map(|d| d.task.clone()).collect::<Vec<_>>(),
    })
}

fn tolerated_json(tolerated: &Tolerated) -> Value {
    let largest = |deviation: &Option<Deviation>| {
        deviation.as_ref().map(|d| json!({ "value": d.value, "path": d.path, "at": d.place.to_string() }))
    };
    json!({
        "task": tolerated.task, "output": tolerated.output, "numbers": tolerated.within.numbers,
        "absolute": largest(&tolerated.within.absolute), "relative": largest(&tolerated.within.relative),
    })
}

fn to_text(report: &ReplayReport, app: &App) -> String {
    let mut text = String::new();
    let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
    let outcome = app.paint.verdict(report.outcome.name());
    line(format!("{} {outcome}: {} tasks executed again", app.paint.bold(&report.run), report.tasks));
    line(format!("  ledger root recorded  {}", report.ledger_root_recorded));
    line(format!("  ledger root replayed  {}", report.ledger_root_replayed));
    for task in &report.recorded {
        line(format!("  not executed: task {task} is not to be repeated; what it recorded was taken"));
    }
    for Tolerated { task, output, within } in &report.tolerated {
        line(format!("  within tolerance: task {task}, output {output}: {within}"));
    }
    for (i, divergence) in report.divergences.iter().enumerate() {
        let what = if i == 0 { "first divergence" } else { "also" };
        let output = divergence.output.as_ref().map_or(String::new(), |o| format!(", output {o}"));
        line(format!("  {what}: task {}{output}: {}", divergence.task, divergence.difference));
    }
    for task in &report.not_judged {
        line(format!("  not judged: task {task} takes what diverged, and the recorded bytes are not here"));
    }
    text
}

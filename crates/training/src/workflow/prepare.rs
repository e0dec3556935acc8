//! Everything that is checked before anything is written.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::objects::{ObjectId, Objects};
use bitproof_scheduler::command::{reach, CommandSpec};
use bitproof_scheduler::stat_cache::StatCache;
use bitproof_scheduler::{self as scheduler, Code, DataInput, InputSource, Plan, PlanSpec, TaskId, TaskSpec};

mod code;
mod local;
mod sources;

use super::{policy_of, WorkflowError};
use crate::data::DataFiles;
use crate::judge::BudgetPolicy;
use crate::models;
use crate::pipeline::{self, BudgetSpec, InputRef, OnFailure, Params, Pipeline, Stage};
use crate::stages::{self, Divided, Intervals};
use local::Local;
use sources::Sources;

/// What is to be run, and with how much of the machine.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The pipeline file.
    pub pipeline_path: PathBuf,
    /// Keys that are changed: dotted name and value.
    pub overrides: Vec<(String, String)>,
    /// Data inputs that are supplied from elsewhere.
    pub data: BTreeMap<String, PathBuf>,
    /// Tools that are supplied from elsewhere.
    pub tools: BTreeMap<String, PathBuf>,
    /// The variables of the environment that commands may be declared to read.
    pub environment: BTreeMap<String, String>,
    /// The stage that is wanted, with what it needs; `None` for all.
    pub stage: Option<String>,
    /// Stages whose results are not taken from the cache.
    pub forced: BTreeSet<String>,
    /// How many workers carry the lanes.
    pub workers: usize,
    /// How many threads a task computes with.
    pub threads: usize,
    /// Whether results may be taken from the cache.
    pub read_cache: bool,
    /// Where it is kept which files were hashed, so that unchanged ones are not hashed again; `None` hashes every file.
    pub stat_cache: Option<PathBuf>,
    /// What the run is named, instead of the pipeline's name.
    pub name: Option<String>,
}

impl RunRequest {
    /// All of a pipeline file as it stands, with one worker and one thread, and with the cache.
    pub fn new(pipeline_path: impl Into<PathBuf>) -> Self {
        Self {
            pipeline_path: pipeline_path.into(),
            overrides: Vec::new(),
            data: BTreeMap::new(),
            tools: BTreeMap::new(),
            environment: BTreeMap::new(),
            stage: None,
            forced: BTreeSet::new(),
            workers: 1,
            threads: 1,
            read_cache: true,
            stat_cache: None,
            name: None,
        }
    }
}

/// A pipeline that was checked, with its data and its plan.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The pipeline, defaults filled in.
    pub pipeline: Pipeline,
    /// Its plan.
    pub plan: Plan,
    data: DataFiles,
    tools: BTreeMap<String, PathBuf>,
    kept: Vec<ObjectId>,
    hashed: Arc<StatCache>,
}

impl Prepared {
    /// Where every data input and every file of code lies.
    pub fn data_files(&self) -> &DataFiles {
        &self.data
    }

    /// Where every tool lies.
    pub fn tools(&self) -> &BTreeMap<String, PathBuf> {
        &self.tools
    }

    /// What files hash to.
    pub(super) fn hashed(&self) -> &StatCache {
        &self.hashed
    }

    /// Keeps which files were hashed, for the next time.
    pub(super) fn remember_files(&self) {
        if let Err(error) = self.hashed.save() {
            tracing::warn!(%error, "which files were hashed could not be kept; the run goes on without");
        }
    }

    pub(super) fn keep_data(&self, objects: &Objects) -> Result<(), WorkflowError> {
        for id in &self.kept {
            self.data.keep(id, objects)?;
        }
        Ok(())
    }
}

/// Reads and checks a pipeline file with all its data and code, and plans it. Writes nothing.
///
/// # Errors
/// [`WorkflowError`] of the kind `Usage` for anything that is wrong with the pipeline or the data.
#[tracing::instrument(level = "info", skip_all)]
pub fn prepare(request: &RunRequest) -> Result<Prepared, WorkflowError> {
    let path = &request.pipeline_path;
    let text = std::fs::read(path).map_err(|source| WorkflowError::Unreadable {
        place: String::new(),
        path: path.clone(),
        source,
        hint: "name a pipeline file, or make a project with `bitproof init DIR`".to_owned(),
    })?;
    let pipeline = pipeline::parse_with_overrides(&path.display().to_string(), &text, &request.overrides)?;
    prepare_pipeline(request, pipeline)
}

/// As [`prepare`], of a pipeline that was read or made otherwise; paths are relative to the folder of the request's file.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_pipeline(request: &RunRequest, mut pipeline: Pipeline) -> Result<Prepared, WorkflowError> {
    let folder = request.pipeline_path.parent().unwrap_or(Path::new(""));
    let local = Local::read(folder)?;
    only_needed(&mut pipeline, request)?;
    check_isolation(&pipeline)?;
    let hashed = Arc::new(match &request.stat_cache {
        Some(path) => StatCache::open(&Files::on_disk(), path, threads(request)),
        None => StatCache::disabled(threads(request)),
    });
    let mut sources = Sources::new(folder, &pipeline, &local, request, &hashed)?;
    let data = sources.data()?;
    let intervals = check_datasets(&pipeline, &data, sources.files())?;
    let tools = sources.tools()?;
    let tasks = pipeline.stages.iter().map(|stage| {
        let code = match &stage.params {
            Params::Command(_) => Code::Command(Box::new(command(&mut sources, stage)?)),
            native => Code::Native(stages::native(native.kind())),
        };
        Ok(task(stage, code))
    });
    let tasks = tasks.collect::<Result<Vec<_>, WorkflowError>>()?;
    let (files, kept) = sources.into_found();
    let plan = Plan::new(PlanSpec {
        pipeline: pipeline.name.clone(),
        seed: pipeline.seed,
        lanes: pipeline.lanes.clone(),
        on_failure: match pipeline.on_failure {
            OnFailure::Stop => scheduler::OnFailure::Stop,
            OnFailure::Continue => scheduler::OnFailure::Continue,
        },
        numerics: stages::NUMERICS,
        data,
        tasks,
        policy: policy_of(&pipeline).into_iter().chain(intervals.policy()).collect(),
    })?;
    Ok(Prepared { pipeline, plan, data: files, tools, kept, hashed })
}

/// How many threads hash.
pub(super) fn threads(request: &RunRequest) -> NonZeroUsize {
    NonZeroUsize::new(request.threads).unwrap_or(NonZeroUsize::MIN)
}

/// What the commands demand must be to be had here.
fn check_isolation(pipeline: &Pipeline) -> Result<(), WorkflowError> {
    for stage in &pipeline.stages {
        let Params::Command(command) = &stage.params else { continue };
        if let Err(unmet) = reach(command.isolation) {
            return Err(WorkflowError::Isolation {
                place: pipeline::show_place(&pipeline.source, &stage.place),
                stage: stage.name.clone(),
                unmet,
            });
        }
    }
    Ok(())
}

/// Where the tools of the project in `folder` lie, as its `bitproof.toml` and `bitproof.local.toml` say; those that are not there are
/// left out, and so is a pipeline file that cannot be read.
///
/// # Errors
/// [`WorkflowError::Local`].
pub fn project_tools(folder: &Path) -> Result<BTreeMap<String, PathBuf>, WorkflowError> {
    let local = Local::read(folder)?;
    let text = std::fs::read(folder.join("bitproof.toml")).unwrap_or_default();
    let pipeline = pipeline::parse("bitproof.toml", &text).ok();
    let declared = pipeline.into_iter().flat_map(|pipeline| pipeline.tools);
    let declared = declared.map(|(name, tool)| (name, folder.join(tool.path)));
    let all: BTreeMap<String, PathBuf> = declared.chain(local.tools).collect();
    let there = |(name, path): (String, PathBuf)| {
        std::path::absolute(path).ok().filter(|path| path.exists()).map(|path| (name, path))
    };
    Ok(all.into_iter().filter_map(there).collect())
}

/// Takes away what the wanted stage does not need, and what judges that.
fn only_needed(pipeline: &mut Pipeline, request: &RunRequest) -> Result<(), WorkflowError> {
    let known = |flag: &'static str, name: &str| {
        if pipeline.stages.iter().any(|s| s.family == name || s.name == name) {
            return Ok(());
        }
        let known: BTreeSet<&str> = pipeline.stages.iter().map(|s| s.family.as_str()).collect();
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        Err(WorkflowError::UnknownName { flag, name: name.to_owned(), known })
    };
    request.forced.iter().try_for_each(|name| known("--force", name))?;
    let Some(wanted) = &request.stage else { return Ok(()) };
    known("--stage", wanted)?;
    let by_name: BTreeMap<&str, &Stage> = pipeline.stages.iter().map(|s| (s.name.as_str(), s)).collect();
    let mut needed: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<&Stage> =
        pipeline.stages.iter().filter(|s| s.family == *wanted || s.name == *wanted).collect();
    while let Some(stage) = open.pop() {
        if !needed.insert(stage.name.clone()) {
            continue;
        }
        let inputs = stage.inputs.iter().filter_map(|input| match input {
            InputRef::Output { stage, .. } => Some(stage),
            InputRef::Data(_) => None,
        });
        open.extend(inputs.chain(&stage.after).map(|name| by_name[name.as_str()]));
    }
    pipeline.stages.retain(|stage| needed.contains(&stage.name));
    let used = |name: &str| {
        pipeline.stages.iter().any(|s| s.inputs.iter().any(|i| matches!(i, InputRef::Data(d) if d == name)))
    };
    pipeline.data.retain(|name, _| used(name));
    pipeline
        .gates
        .retain(|gate| gate.metric.split_once('/').is_some_and(|(stage, _)| needed.contains(stage)));
    // Budgets name their stage in many ways: those on which nothing can be measured would fail.
    pipeline.budgets.clear();
    Ok(())
}

/// The command of a stage, with the content of its code and its tools' locks, and the values of its environment.
fn command(sources: &mut Sources<'_>, stage: &Stage) -> Result<CommandSpec, WorkflowError> {
    let Params::Command(params) = &stage.params else { unreachable!("the caller has seen that it is one") };
    Ok(CommandSpec {
        argv: params.argv.clone(),
        code: sources.code(stage, params)?,
        inputs: stage.command_inputs.clone(),
        outputs: params.outputs.clone(),
        metrics: params.metrics.clone(),
        env: sources.environment(params),
        tools: sources.locks(params)?,
        threads: params.threads,
        isolation: params.isolation,
        replay: params.replay,
        timeout_ns: params.timeout_ns,
    })
}

/// Reads the files of each dataset as its stage will, one dataset after the other, and sees whether the models that learn from it have a
/// sane size; with the intervals of each training. What a command makes is not there yet.
fn check_datasets(
    pipeline: &Pipeline,
    data: &[DataInput],
    files: &DataFiles,
) -> Result<Intervals, WorkflowError> {
    let mut intervals = Intervals::default();
    for dataset in &pipeline.stages {
        let Params::Dataset(params) = &dataset.params else { continue };
        let file = |input: &InputRef| match input {
            InputRef::Data(name) => data.iter().find(|data| data.name == *name).map(|data| data.digest),
            InputRef::Output { .. } => None,
        };
        let Some(ids) = dataset.inputs.iter().map(file).collect::<Option<Vec<_>>>() else { continue };
        let path = |input: usize| files.path(&ids[input]).unwrap_or(Path::new("")).to_owned();
        let read = |(input, id): (usize, &ObjectId)| {
            files.read(id).map_err(|error| WorkflowError::Unreadable {
                place: String::new(),
                path: path(input),
                source: std::io::Error::other(error),
                hint: "let nothing write the file meanwhile".to_owned(),
            })
        };
        let contents = ids.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
        let bad = |input, source| WorkflowError::Data {
            path: path(input),
            hint: format!("correct the file, or how stage {:?} reads it", dataset.name),
            source,
        };
        let task = task(dataset, Code::Native(stages::native(dataset.params.kind())));
        let divided =
            stages::divide(&task, pipeline.seed, params, &contents).map_err(|error| match error {
                stages::StageError::File { input, source, .. } => bad(input, source),
                stages::StageError::Data(source) => bad(0, source),
                other => stage_error(pipeline, dataset, other.to_string(), "correct the stage"),
            })?;
        check_models(pipeline, dataset, &divided, &mut intervals)?;
    }
    Ok(intervals)
}

/// The models that learn from a dataset fit it and have a sane size.
fn check_models(
    pipeline: &Pipeline,
    dataset: &Stage,
    divided: &Divided,
    intervals: &mut Intervals,
) -> Result<(), WorkflowError> {
    let (data, rows) = (divided.data_shape(), divided.rows_to_learn_from());
    for train in &pipeline.stages {
        let Params::Train(params) = &train.params else { continue };
        let learns = |i: &InputRef| matches!(i, InputRef::Output { stage, output } if *stage == dataset.name && output == "train");
        if !train.inputs.first().is_some_and(learns) {
            continue;
        }
        let model = models::build(&params.model, &data).map_err(|error| {
            let hint = "choose a model that learns from such data, or a smaller one";
            stage_error(pipeline, train, error.to_string(), hint)
        })?;
        intervals.insert(&train.name, params.intervals(&*model, rows));
    }
    Ok(())
}

fn stage_error(pipeline: &Pipeline, stage: &Stage, reason: String, hint: &str) -> WorkflowError {
    let place = pipeline::show_place(&pipeline.source, &stage.place);
    WorkflowError::Stage { place, reason: format!("stage {:?}: {reason}", stage.name), hint: hint.to_owned() }
}

fn task(stage: &Stage, code: Code) -> TaskSpec {
    let input = |input: &InputRef| match input {
        InputRef::Data(name) => InputSource::Data(name.clone()),
        InputRef::Output { stage, output } => {
            InputSource::Output { task: TaskId(stage.clone()), output: output.clone() }
        }
    };
    TaskSpec {
        id: TaskId(stage.name.clone()),
        stage: stage.family.clone(),
        code,
        params: stage.params.canonical(),
        inputs: stage.inputs.iter().map(input).collect(),
        after: stage.after.iter().map(|name| TaskId(name.clone())).collect(),
        outputs: stage.params.outputs().iter().map(|&name| name.to_owned()).collect(),
        cost: stage.cost,
        lane: stage.lane,
        retries: stage.retries,
    }
}

pub(super) fn budget_policy(budget: &BudgetSpec) -> BudgetPolicy {
    BudgetPolicy { metric: budget.metric.clone(), fail: budget.fail.clone(), warn: budget.warn.clone() }
}

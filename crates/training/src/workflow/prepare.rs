//! Everything that is checked before anything is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitproof_core_ledger::objects::{ObjectId, Objects};
use bitproof_scheduler::{self as scheduler, Code, DataInput, InputSource, Plan, PlanSpec, TaskId, TaskSpec};

use super::{policy_of, WorkflowError};
use crate::data::DataFiles;
use crate::judge::BudgetPolicy;
use crate::models::{Mlp, MAX_PARAMETERS};
use crate::pipeline::{self, BudgetSpec, InputRef, OnFailure, Params, Pipeline, Stage};
use crate::stages;

/// The most bytes of a data file.
const MAX_DATA_BYTES: u64 = 1 << 32;
/// Data files up to this size are kept as objects, so that a replay elsewhere has them.
const KEPT_DATA_BYTES: u64 = 64 << 20;

/// What is to be run, and with how much of the machine.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// The pipeline file.
    pub pipeline_path: PathBuf,
    /// Keys that are changed: dotted name and value.
    pub overrides: Vec<(String, String)>,
    /// Data inputs that are supplied from elsewhere.
    pub data: BTreeMap<String, PathBuf>,
    /// How many workers carry the lanes.
    pub workers: usize,
    /// How many threads a task computes with.
    pub threads: usize,
    /// Whether results may be taken from the cache.
    pub read_cache: bool,
    /// What the run is named, instead of the pipeline's name.
    pub name: Option<String>,
}

/// A pipeline that was checked, with its data and its plan.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The pipeline, defaults filled in.
    pub pipeline: Pipeline,
    /// Its plan.
    pub plan: Plan,
    data: DataFiles,
    kept: Vec<ObjectId>,
}

impl Prepared {
    /// Where every data input lies.
    pub fn data_files(&self) -> &DataFiles {
        &self.data
    }

    pub(super) fn keep_data(&self, objects: &Objects) -> Result<(), WorkflowError> {
        for id in &self.kept {
            self.data.keep(id, objects)?;
        }
        Ok(())
    }
}

/// Reads and checks a pipeline with all its data, and plans it. Writes nothing.
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
    if let Some(name) = request.data.keys().find(|name| !pipeline.data.contains_key(*name)) {
        let known: Vec<&str> = pipeline.data.keys().map(String::as_str).collect();
        return Err(WorkflowError::UnknownData { name: name.clone(), known: known.join(", ") });
    }
    let mut data = DataFiles::default();
    let mut kept = Vec::new();
    let mut inputs = Vec::new();
    for (name, input) in &pipeline.data {
        let (path, bytes) = read_data(request, &pipeline, name, input)?;
        let digest = ObjectId::of_bytes(&bytes);
        check_pin(&pipeline, &path, input, &digest)?;
        inputs.push(DataInput { name: name.clone(), digest, bytes: bytes.len() as u64, folder: false });
        if input.store || bytes.len() as u64 <= KEPT_DATA_BYTES {
            kept.push(digest);
        }
        check_datasets(&pipeline, name, &path, &bytes)?;
        data.insert(digest, path);
    }
    let plan = Plan::new(PlanSpec {
        pipeline: pipeline.name.clone(),
        seed: pipeline.seed,
        lanes: pipeline.lanes.clone(),
        on_failure: match pipeline.on_failure {
            OnFailure::Stop => scheduler::OnFailure::Stop,
            OnFailure::Continue => scheduler::OnFailure::Continue,
        },
        numerics: stages::NUMERICS,
        data: inputs,
        tasks: pipeline.stages.iter().map(task).collect(),
        policy: policy_of(&pipeline),
    })?;
    Ok(Prepared { pipeline, plan, data, kept })
}

fn read_data(
    request: &RunRequest,
    pipeline: &Pipeline,
    name: &str,
    input: &pipeline::DataInput,
) -> Result<(PathBuf, Vec<u8>), WorkflowError> {
    let supplied = request.data.get(name);
    let folder = request.pipeline_path.parent().unwrap_or(Path::new(""));
    let path = supplied.cloned().unwrap_or_else(|| folder.join(&input.path));
    let place = match supplied {
        Some(_) => format!("--data {name}: "),
        None => format!("{}: ", pipeline::show_place(&pipeline.source, &input.place)),
    };
    let unreadable = |source: std::io::Error| WorkflowError::Unreadable {
        place,
        path: path.clone(),
        source,
        hint: format!("put the file there, or supply it with --data {name}=PATH"),
    };
    match std::fs::metadata(&path) {
        Ok(meta) if !meta.is_file() => Err(unreadable(std::io::Error::other("it is not a file"))),
        Ok(meta) if meta.len() > MAX_DATA_BYTES => {
            Err(unreadable(std::io::Error::other(format!("it is larger than {MAX_DATA_BYTES} bytes"))))
        }
        Ok(_) => match std::fs::read(&path) {
            Ok(bytes) => Ok((path, bytes)),
            Err(e) => Err(unreadable(e)),
        },
        Err(e) => Err(unreadable(e)),
    }
}

fn check_pin(
    pipeline: &Pipeline,
    path: &Path,
    input: &pipeline::DataInput,
    digest: &ObjectId,
) -> Result<(), WorkflowError> {
    match &input.blake3 {
        Some((expected, place)) if *expected != digest.to_string() => Err(WorkflowError::Pin {
            place: pipeline::show_place(&pipeline.source, place),
            path: path.to_owned(),
            expected: expected.clone(),
            got: digest.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Reads a data file as each dataset stage will, and sees whether the models that learn from it have a sane size.
fn check_datasets(pipeline: &Pipeline, name: &str, path: &Path, bytes: &[u8]) -> Result<(), WorkflowError> {
    for dataset in &pipeline.stages {
        let Params::Dataset(params) = &dataset.params else { continue };
        if dataset.inputs != [InputRef::Data(name.to_owned())] {
            continue;
        }
        let bad = |error: stages::StageError| match error {
            stages::StageError::Data(source) => WorkflowError::Data {
                path: path.to_owned(),
                hint: format!("correct the file, or how stage {:?} reads it", dataset.name),
                source,
            },
            other => stage_error(pipeline, dataset, other.to_string(), "correct the stage"),
        };
        let table = stages::read_dataset(params, bytes).map_err(bad)?;
        let task = task(dataset);
        stages::check_split(&task, pipeline.seed, params, &table).map_err(bad)?;
        for train in &pipeline.stages {
            let Params::Train(params) = &train.params else { continue };
            let learns = |i: &InputRef| matches!(i, InputRef::Output { stage, .. } if *stage == dataset.name);
            if !train.inputs.iter().any(learns) {
                continue;
            }
            let hidden: Vec<usize> = params.hidden.iter().map(|&h| h as usize).collect();
            let parameters = Mlp::count_parameters(table.features.ncols(), &hidden, table.classes.len());
            if parameters > MAX_PARAMETERS {
                let reason =
                    format!("the model would have {parameters} parameters; the limit is {MAX_PARAMETERS}");
                return Err(stage_error(pipeline, train, reason, "use fewer or narrower hidden layers"));
            }
        }
    }
    Ok(())
}

fn stage_error(pipeline: &Pipeline, stage: &Stage, reason: String, hint: &str) -> WorkflowError {
    let place = pipeline::show_place(&pipeline.source, &stage.place);
    WorkflowError::Stage { place, reason: format!("stage {:?}: {reason}", stage.name), hint: hint.to_owned() }
}

fn task(stage: &Stage) -> TaskSpec {
    let input = |input: &InputRef| match input {
        InputRef::Data(name) => InputSource::Data(name.clone()),
        InputRef::Output { stage, output } => {
            InputSource::Output { task: TaskId(stage.clone()), output: output.clone() }
        }
    };
    TaskSpec {
        id: TaskId(stage.name.clone()),
        stage: stage.name.clone(),
        code: Code::Native(stages::native(stage.params.kind())),
        params: stage.params.canonical(),
        inputs: stage.inputs.iter().map(input).collect(),
        after: stage.after.iter().map(|name| TaskId(name.clone())).collect(),
        outputs: stage.params.outputs().iter().map(|&name| name.to_owned()).collect(),
        cost: stage.cost,
        lane: stage.lane,
        retries: 0,
    }
}

pub(super) fn budget_policy(budget: &BudgetSpec) -> BudgetPolicy {
    BudgetPolicy { metric: budget.metric.clone(), fail: budget.fail.clone(), warn: budget.warn.clone() }
}

//! One task executed, for a run and for a replay alike: built-in stages on bytes, commands on files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::objects::{ObjectError, ObjectId};
use bitproof_core_ledger::store::{hex, random_id};
use bitproof_experiment_graph::MetricSet;
use bitproof_kernels::with_threads;
use bitproof_scheduler::command::{self, CommandSpec, Finished, Job, Made, Observed, Source, Tool};
use bitproof_scheduler::dispatch::TaskError;
use bitproof_scheduler::ledger::Failure;
use bitproof_scheduler::{Cancel, Code, InputSource, Plan, PlannedTask};

use crate::keeper::CheckpointKeeper;
use crate::metrics_file;
use crate::stages::{self, StageContext, METRICS};

/// Where contents lie on this machine.
pub trait Contents: Sync {
    /// The bytes of a content, hashed as they are read.
    ///
    /// # Errors
    /// [`ObjectError`] when it is not there, or not what it is named for.
    fn read(&self, id: &ObjectId) -> Result<Vec<u8>, ObjectError>;

    /// The file with these bytes, or for a data input that is a folder the folder. What is read there is hashed again.
    ///
    /// # Errors
    /// [`ObjectError`] when there is none.
    fn locate(&self, id: &ObjectId) -> Result<PathBuf, ObjectError>;
}

/// What tasks are executed with.
#[derive(Clone, Copy)]
pub struct Executor<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// How many threads a built-in stage computes with.
    pub threads: usize,
    /// Where each tool lies.
    pub tools: &'a BTreeMap<String, PathBuf>,
    /// The folder in which commands get folders of their own.
    pub scratch: &'a Path,
    /// Stops commands.
    pub cancel: &'a Cancel,
    /// Where inputs and code lie.
    pub contents: &'a dyn Contents,
    /// Where trainings keep what they go on from after a crash.
    pub keeper: &'a dyn CheckpointKeeper,
}

/// What a task made. Files of a command are gone when this is dropped.
#[derive(Debug)]
pub struct Executed {
    /// Each output by name.
    pub outputs: BTreeMap<String, Output>,
    /// What was observed of a command.
    pub observed: Option<Observed>,
    _finished: Option<Finished>,
}

/// An output as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// The file that holds it.
    File(PathBuf),
    /// The folder that it is.
    Folder(PathBuf),
}

/// A task that did not make its outputs.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct ExecuteError {
    /// Why.
    pub error: TaskError,
    /// What was observed of a command that was started.
    pub observed: Option<Box<Observed>>,
}

impl From<TaskError> for ExecuteError {
    fn from(error: TaskError) -> Self {
        Self { error, observed: None }
    }
}

impl Executor<'_> {
    /// Executes a task inside its telemetry span.
    ///
    /// # Errors
    /// [`ExecuteError`].
    pub fn execute(&self, task: PlannedTask<'_>, inputs: &[ObjectId]) -> Result<Executed, ExecuteError> {
        match &task.spec.code {
            Code::Native(_) => self.native(task, inputs),
            Code::Command(command) => stage_span(task).in_scope(|| self.command(task, command, inputs)),
        }
    }

    fn native(&self, task: PlannedTask<'_>, inputs: &[ObjectId]) -> Result<Executed, ExecuteError> {
        let inputs = inputs
            .iter()
            .map(|id| self.contents.read(id).map_err(infrastructure))
            .collect::<Result<Vec<_>, _>>()?;
        let seed = self.plan.spec().seed;
        let context = StageContext { threads: self.threads, cancel: self.cancel, keeper: self.keeper };
        // The pool's threads know neither this thread's subscriber nor its span.
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        let outcome = with_threads(self.threads, || {
            tracing::dispatcher::with_default(&subscriber, || {
                stage_span(task).in_scope(|| stages::execute(task.spec, seed, &inputs, &context))
            })
        });
        let made = outcome.map_err(|error| match error.is_infrastructure() {
            true => infrastructure(error),
            false => refused(error),
        })?;
        let outputs = made.into_iter().map(|(name, bytes)| (name, Output::Bytes(bytes))).collect();
        Ok(Executed { outputs, observed: None, _finished: None })
    }

    fn command(
        &self,
        task: PlannedTask<'_>,
        spec: &CommandSpec,
        inputs: &[ObjectId],
    ) -> Result<Executed, ExecuteError> {
        let located = |id: &ObjectId| self.contents.locate(id).map_err(infrastructure);
        let code = spec.code.iter().map(|file| located(&file.content)).collect::<Result<Vec<_>, _>>()?;
        let source = |(input, &content): (&InputSource, &ObjectId)| -> Result<Source, TaskError> {
            let path = located(&content)?;
            Ok(match self.is_folder(input) {
                true => Source::Folder { path, content },
                false => Source::File { path, content },
            })
        };
        let sources = task.spec.inputs.iter().zip(inputs).map(source).collect::<Result<Vec<_>, _>>()?;
        let tools = self.tools(spec)?;
        let scratch = self.scratch.join(hex(&random_id().map_err(infrastructure)?));
        fs::create_dir(&scratch).map_err(FileError::at("create", &scratch)).map_err(infrastructure)?;
        let finished = command::run(&Job {
            task: &task.spec.id.0,
            spec,
            params: &task.spec.params,
            seed: self.plan.spec().seed,
            code: &code,
            inputs: &sources,
            tools: &tools,
            scratch: &scratch,
            cancel: self.cancel,
        });
        let finished = finished.map_err(|failed| {
            // What is said of the failure quotes it.
            let observed = failed.observed.clone();
            ExecuteError { error: failed.into(), observed }
        })?;
        let mut outputs: BTreeMap<String, Output> = finished
            .outputs
            .iter()
            .map(|(name, made)| {
                let output = match made {
                    Made::File(path) => Output::File(path.clone()),
                    Made::Folder(path) => Output::Folder(path.clone()),
                };
                (name.clone(), output)
            })
            .collect();
        let observed = Some(finished.observed.clone());
        if !spec.metrics.is_empty() {
            let metrics = self.metrics(task, spec, &finished);
            let metrics =
                metrics.map_err(|error| ExecuteError { error, observed: observed.clone().map(Box::new) })?;
            outputs.insert(METRICS.to_owned(), Output::Bytes(metrics));
        }
        Ok(Executed { outputs, observed, _finished: Some(finished) })
    }

    /// The tools of a command as they lie here, in the order of their names.
    ///
    /// # Errors
    /// [`TaskError::Infrastructure`] for one that nobody supplied.
    pub fn tools(&self, spec: &CommandSpec) -> Result<Vec<Tool>, TaskError> {
        let tool = |name: &String| match self.tools.get(name) {
            Some(path) => Ok(Tool { name: name.clone(), path: path.clone() }),
            None => Err(TaskError::Infrastructure {
                message: format!(
                    "the tool {name} is not known here\n  hint: supply it with --tool {name}=PATH"
                ),
            }),
        };
        spec.tools.keys().map(tool).collect()
    }

    fn metrics(
        &self,
        task: PlannedTask<'_>,
        spec: &CommandSpec,
        finished: &Finished,
    ) -> Result<Vec<u8>, TaskError> {
        let mut metrics = MetricSet::default();
        for (name, path) in spec.metrics.iter().zip(&finished.metrics) {
            let bytes = Files::on_disk().read_bounded(path, metrics_file::MAX_FILE_BYTES).map_err(refused)?;
            metrics_file::read(&task.spec.id.0, &bytes, &mut metrics)
                .map_err(|e| refused(format!("{name}: {e}")))?;
        }
        Ok(metrics.to_json())
    }

    fn is_folder(&self, input: &InputSource) -> bool {
        let spec = self.plan.spec();
        match input {
            InputSource::Data(name) => spec.data.iter().any(|d| d.name == *name && d.folder),
            InputSource::Output { task, output } => {
                let source = spec.tasks.iter().find(|t| t.id == *task).and_then(|t| t.code.command());
                source.is_some_and(|command| command.outputs.iter().any(|o| o.name == *output && o.folder))
            }
        }
    }
}

fn stage_span(task: PlannedTask<'_>) -> tracing::Span {
    tracing::info_span!(
        target: bitproof_telemetry::STAGE,
        "stage",
        task = task.spec.id.0.as_str(),
        stage = task.spec.stage.as_str(),
        lane = task.slot.lane,
        tick = task.slot.tick,
    )
}

fn infrastructure(error: impl std::fmt::Display) -> TaskError {
    TaskError::Infrastructure { message: error.to_string() }
}

fn refused(error: impl std::fmt::Display) -> TaskError {
    TaskError::Failed { how: Failure::Refused, message: error.to_string() }
}

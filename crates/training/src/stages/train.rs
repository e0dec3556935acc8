//! `train`: a model by seeded mini-batches in shards, with a leaf for every segment and checkpoints that a killed run goes on from.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use bitproof_core_ledger::canon;
use bitproof_experiment_graph::MetricSet;
use bitproof_scheduler::TaskSpec;

use super::{outputs, StageContext, StageError, StageOutputs, METRICS, MODEL};
use crate::checkpoint::{self, Checkpoint};
use crate::data::Part;
use crate::keeper::{Progress, SavedTraining};
use crate::models::{self, DataShape, ModelError};
use crate::params::ParamSet;
use crate::pipeline::{Length, TrainParams};
use crate::safetensors;
use crate::shard::Carriers;
use crate::steps::{leaf_interval, Boundaries, StepTree, MAX_SEGMENTS};
use crate::trainable::Trainable;
use crate::trainer::{StepDone, Trainer, TrainerConfig};

/// The name of the output that holds the segments.
pub const STEPS: &str = "steps";
/// The name of the output that holds the checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// After how many steps losses are recorded where the length is given in steps.
const EVAL_EVERY: u64 = 100;

/// A `train` task with its data: to be executed, or a part of it to be executed again.
pub struct Training {
    model: Box<dyn Trainable + Send>,
    train: Part,
    valid: Option<Part>,
    initial: Option<ParamSet>,
    params: TrainParams,
    config: TrainerConfig,
    metadata: safetensors::Metadata,
}

impl Training {
    /// The training that a task describes.
    ///
    /// # Errors
    /// [`StageError`] when parameters or inputs are not a training's.
    pub fn of(task: &TaskSpec, seed: u64, inputs: &[Vec<u8>]) -> Result<Self, StageError> {
        let params = TrainParams::from_canonical(&task.params)?;
        let (train, rest) = inputs.split_first().ok_or(StageError::Inputs {
            kind: "train",
            expected: "a train part, perhaps a valid part and perhaps a model",
            got: 0,
        })?;
        let train = Part::decode(train)?;
        let (mut valid, mut start) = (None, None);
        for input in rest {
            if Part::is_part(input) {
                valid = Some(Part::decode(input)?).filter(|part| part.rows() > 0);
            } else {
                start = Some(safetensors::decode_with_metadata(input).map_err(ModelError::from)?.0);
            }
        }
        let data = DataShape::of_part(&train);
        let model = models::build(&params.model, &data)?;
        let initial = start.map(|tensors| ParamSet::from_tensors(model.layout(), tensors));
        let initial = initial.transpose().map_err(ModelError::from)?;
        let config = config(&params, task, seed, &*model, &train)?;
        let metadata = models::metadata(&params.model, &data);
        Ok(Self { model, train, valid, initial, params, config, metadata })
    }

    /// What decides it besides model and data.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// The loop, before its first step.
    ///
    /// # Errors
    /// [`StageError`] when there is nothing to learn from.
    pub fn trainer(&self) -> Result<Trainer<'_>, StageError> {
        let initial = self.initial.clone();
        let trainer = Trainer::new(&*self.model, &self.train, self.config.clone(), initial)?;
        Ok(trainer.with_metadata(self.metadata.clone()))
    }

    /// After how many steps losses are recorded.
    fn eval_every(&self, steps_per_epoch: u64) -> u64 {
        let default = match self.params.length {
            Length::Epochs(_) => steps_per_epoch,
            Length::Steps(_) => EVAL_EVERY,
        };
        self.params.eval_every.unwrap_or(default)
    }
}

/// Under what name a plan holds [`Intervals`].
pub const INTERVALS: &str = "intervals";

/// After how many steps each training has a leaf and a checkpoint, as far as the data was there when the run was planned. The stage works the
/// same numbers out again: they are no parameters, so that of two trainings that differ in their length that alone is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Intervals(BTreeMap<String, (u64, u64)>);

impl Intervals {
    /// Takes note of a task's leaves and checkpoints.
    pub fn insert(&mut self, task: &str, (leaf_every, checkpoint_every): (u64, u64)) {
        self.0.insert(task.to_owned(), (leaf_every, checkpoint_every));
    }

    /// What the plan holds of them, if there are any.
    pub fn policy(&self) -> Option<(String, Vec<u8>)> {
        (!self.0.is_empty()).then(|| (INTERVALS.to_owned(), canon::encode(&self.0)))
    }
}

impl TrainParams {
    /// After how many steps there is a leaf and a checkpoint: as they say, or `leaf_every` by the rule of [`leaf_interval`], and
    /// `checkpoint_every` a tenth of the steps, rounded up to a multiple of it.
    pub fn intervals(&self, model: &dyn Trainable, rows: u64) -> (u64, u64) {
        let steps = steps(self, rows);
        let by_rule = || {
            let moments = self.optimizer_kind().moments().len() as u64;
            let work = model.multiply_adds().saturating_mul(self.batch.into());
            leaf_interval(model.layout().total() as u64, moments, work).min(steps)
        };
        let leaf_every = self.leaf_every.unwrap_or_else(by_rule).max(1);
        let tenth = || steps.div_ceil(10).div_ceil(leaf_every).saturating_mul(leaf_every);
        (leaf_every, self.checkpoint_every.unwrap_or_else(tenth))
    }
}

/// How many steps a training on so many rows has.
fn steps(params: &TrainParams, rows: u64) -> u64 {
    match params.length {
        Length::Epochs(epochs) => epochs.saturating_mul(rows.div_ceil(params.batch.into()).max(1)),
        Length::Steps(steps) => steps,
    }
}

fn config(
    params: &TrainParams,
    task: &TaskSpec,
    seed: u64,
    model: &dyn Trainable,
    train: &Part,
) -> Result<TrainerConfig, StageError> {
    let rows = train.rows() as u64;
    let (leaf_every, checkpoint_every) = params.intervals(model, rows);
    let boundaries = Boundaries { steps: steps(params, rows), leaf_every, checkpoint_every };
    let segments = boundaries.segments();
    if segments > MAX_SEGMENTS {
        let least = boundaries.steps.div_ceil(MAX_SEGMENTS);
        return Err(StageError::TooManySegments { segments, least });
    }
    Ok(TrainerConfig {
        seed,
        stage: task.stage.clone(),
        batch: NonZeroUsize::new(params.batch as usize).unwrap_or(NonZeroUsize::MIN),
        shards: NonZeroU32::new(params.shards).unwrap_or(NonZeroU32::MIN),
        optimizer: params.optimizer_kind(),
        learning_rate: params.learning_rate,
        schedule: params.schedule(),
        clip_norm: params.clip_norm.map(|norm| norm as f32),
        boundaries,
    })
}

pub(super) fn execute(
    task: &TaskSpec,
    seed: u64,
    inputs: &[Vec<u8>],
    context: &StageContext<'_>,
) -> Result<StageOutputs, StageError> {
    let training = Training::of(task, seed, inputs)?;
    let carriers = Carriers::new(context.threads, training.config.shards);
    carriers.within(|| Execution::begin(task, &training, &carriers, context)?.run())
}

/// A training that is being executed.
struct Execution<'a> {
    task: &'a TaskSpec,
    training: &'a Training,
    carriers: &'a Carriers,
    context: &'a StageContext<'a>,
    trainer: Trainer<'a>,
    progress: Progress,
    recorded: MetricSet,
    kept: Vec<Checkpoint>,
}

impl<'a> Execution<'a> {
    /// From the first step, or after the newest checkpoint that an interrupted process left.
    fn begin(
        task: &'a TaskSpec,
        training: &'a Training,
        carriers: &'a Carriers,
        context: &'a StageContext<'a>,
    ) -> Result<Self, StageError> {
        let mut this = Self {
            task,
            training,
            carriers,
            context,
            trainer: training.trainer()?,
            progress: Progress::default(),
            recorded: MetricSet::default(),
            kept: Vec::new(),
        };
        if let Some(saved) = context.keeper.newest(&task.id.0)? {
            this.take_up(saved)?;
        }
        let rows = training.train.rows() as u64;
        tracing::info!(
            target: "bitproof::progress", task = task.id.0, total = training.config.boundaries.steps,
            step = this.trainer.steps_made(), parameters = training.model.layout().total() as u64, rows,
            shards = training.config.shards.get(), "training begins"
        );
        Ok(this)
    }

    fn take_up(&mut self, saved: SavedTraining) -> Result<(), StageError> {
        self.trainer.restore(&saved.checkpoint)?;
        self.recorded = MetricSet::from_json(&saved.progress.metrics)?;
        self.progress = saved.progress;
        for step in self.kept_steps() {
            if step < saved.checkpoint.state.step {
                self.kept.push(self.context.keeper.load(&self.task.id.0, step)?);
            }
        }
        tracing::info!(
            task = self.task.id.0,
            step = saved.checkpoint.state.step,
            "taken up after a checkpoint"
        );
        self.keep_in_memory(saved.checkpoint);
        Ok(())
    }

    fn run(mut self) -> Result<StageOutputs, StageError> {
        let boundaries = self.training.config.boundaries;
        while self.trainer.steps_made() < boundaries.steps {
            if self.context.cancel.is_cancelled() {
                return Err(StageError::Cancelled { step: self.trainer.steps_made() });
            }
            let step = self.trainer.steps_made() + 1;
            let span = tracing::info_span!(target: bitproof_telemetry::STEP, "step", step);
            let done = span.in_scope(|| self.trainer.step(self.carriers))?;
            self.note(&done)?;
            if let Some(checkpoint) = self.trainer.checkpoint() {
                self.save(checkpoint)?;
            }
        }
        let mut tree = StepTree::default();
        self.progress.segments.into_iter().for_each(|segment| tree.push(segment));
        let model = self.kept.last().map(|last| last.model.clone()).unwrap_or_default();
        Ok(outputs([
            (MODEL, model),
            (METRICS, self.recorded.to_json()),
            (STEPS, tree.encode()),
            (CHECKPOINTS, checkpoint::pack(&self.kept).map_err(checkpoint::CheckpointError::from)?),
        ]))
    }

    /// Takes note of a step, and records the losses where they are due.
    fn note(&mut self, done: &StepDone) -> Result<(), StageError> {
        let loss = done.loss / done.count as f64;
        tracing::debug!(target: "bitproof::progress", task = self.task.id.0, step = done.step, loss);
        self.progress.loss += done.loss;
        self.progress.count += done.count;
        self.progress.segments.extend(done.segment.clone());
        let every = self.training.eval_every(self.trainer.steps_per_epoch());
        let last = done.step == self.training.config.boundaries.steps;
        if !(last || done.step.is_multiple_of(every)) {
            return Ok(());
        }
        let loss = self.progress.loss / self.progress.count as f64;
        (self.progress.loss, self.progress.count) = (0.0, 0);
        self.record(done.step, "loss", loss);
        let mut valid_loss = None;
        if let Some(valid) = &self.training.valid {
            let measured = models::evaluate_part(&*self.training.model, self.trainer.params(), valid)?;
            if let Some(measured) = measured {
                valid_loss = Some(measured.loss);
                self.record(done.step, "valid_loss", measured.loss);
            }
        }
        tracing::info!(
            target: "bitproof::progress", task = self.task.id.0, recorded = true, step = done.step, loss, valid_loss
        );
        Ok(())
    }

    /// Records a metric, and shows its curve among what is measured: there in millionths, since telemetry counts in whole numbers.
    fn record(&mut self, step: u64, key: &str, value: f64) {
        self.recorded.push(&format!("{}/{key}", self.task.id), step, value);
        let (name, millionths) =
            (format!("{}/{key}_millionths", self.task.stage), (value * 1e6).round() as i64);
        tracing::info!(target: bitproof_telemetry::METRIC, name, value = millionths, unit = "count", step);
    }

    /// Keeps a checkpoint where a process that comes after a crash finds it.
    fn save(&mut self, checkpoint: Checkpoint) -> Result<(), StageError> {
        let last = checkpoint.state.step == self.training.config.boundaries.steps;
        if !last {
            self.progress.metrics = self.recorded.to_json();
            let kept: Vec<u64> = self.kept.iter().map(|c| c.state.step).collect();
            let saved = SavedTraining { checkpoint: checkpoint.clone(), progress: self.progress.clone() };
            self.context.keeper.keep(&self.task.id.0, &saved, &kept)?;
        }
        self.keep_in_memory(checkpoint);
        Ok(())
    }

    fn keep_in_memory(&mut self, checkpoint: Checkpoint) {
        if self.kept_steps().any(|step| step == checkpoint.state.step) {
            self.kept.push(checkpoint);
        }
    }

    /// The steps whose checkpoints are among the outputs.
    fn kept_steps(&self) -> impl Iterator<Item = u64> {
        let Boundaries { steps, checkpoint_every, .. } = self.training.config.boundaries;
        let count = if checkpoint_every == 0 { 1 } else { steps.div_ceil(checkpoint_every) };
        let keep = u64::from(self.training.params.keep_checkpoints);
        let step = move |i: u64| ((i + 1).saturating_mul(checkpoint_every.max(1))).min(steps);
        let step = move |i| if checkpoint_every == 0 { steps } else { step(i) };
        (0..count).filter(move |&i| checkpoint::is_kept(i, count, keep)).map(step)
    }
}

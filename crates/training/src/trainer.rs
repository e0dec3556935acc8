//! The training loop: batches in seeded order, sharded gradients, one update a step, and a leaf for every segment.
//!
//! A training is a function of the model, the data and its [`TrainerConfig`]: threads, instruction sets and interruptions change no bit.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};

use bitproof_kernels::{
    clip_gradients, gradient_norm, scale_in_place, Batches, KernelError, LastBatch, StreamKey,
};
use ndarray::ArrayViewMut1;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::data::Part;
use crate::optimizer::{Optimizer, OptimizerKind};
use crate::params::{ParamSet, ParamSetError};
use crate::safetensors;
use crate::schedule::Schedule;
use crate::shard::{shard_rows, Carriers, ShardError};
use crate::steps::{Boundaries, OpenSegment, Segment};
use crate::streams::{stream_key, Purpose};
use crate::trainable::{ShardGrad, Trainable, TrainableError};

/// What decides a training besides the model and the data.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// The root of every random stream.
    pub seed: u64,
    /// The stage whose streams these are.
    pub stage: String,
    /// How many rows make a step; the last batch of an epoch may be shorter.
    pub batch: NonZeroUsize,
    /// Into how many shards a batch is cut.
    pub shards: NonZeroU32,
    /// What updates the parameters.
    pub optimizer: OptimizerKind,
    /// The full step size.
    pub learning_rate: f64,
    /// How it changes.
    pub schedule: Schedule,
    /// The largest norm of a step's gradient; longer ones are shortened to it.
    pub clip_norm: Option<f32>,
    /// How many steps there are, and where segments end.
    pub boundaries: Boundaries,
}

/// A training on its way.
pub struct Trainer<'a> {
    model: &'a dyn Trainable,
    data: &'a Part,
    config: TrainerConfig,
    params: ParamSet,
    optimizer: Optimizer,
    /// How many steps were made.
    step: u64,
    epoch: Option<(u64, Batches)>,
    open: OpenSegment,
    metadata: BTreeMap<String, String>,
}

/// What a step gave.
#[derive(Debug, Clone, PartialEq)]
pub struct StepDone {
    /// Which step, counted from 1.
    pub step: u64,
    /// The sum of the losses over the batch.
    pub loss: f64,
    /// How many losses there were.
    pub count: u64,
    /// The norm of the gradient of their mean, before it was shortened.
    pub norm: f64,
    /// The segment that ended with the step.
    pub segment: Option<Segment>,
}

/// A training that cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// There are no rows to learn from.
    #[error("there are no rows to learn from")]
    NoRows,
    /// A loss or a gradient is not finite.
    #[error("step {step}, {place}: {what} is not finite; the first such value is element {index} of {operation}: try a lower learning_rate or a clip_norm")]
    NotFinite {
        /// The step, from 1.
        step: u64,
        /// The shard, or that it is their sum.
        place: String,
        /// Whether it is the loss, the gradient or a parameter.
        what: &'static str,
        /// The first operation that gave it.
        operation: String,
        /// Which element of what it gave.
        index: usize,
    },
    /// The batch does not fit the model.
    #[error("step {step}: {source}")]
    Shard {
        /// The step, from 1.
        step: u64,
        /// Why.
        #[source]
        source: Box<ShardError>,
    },
    /// A kernel refused its operands.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A checkpoint cannot be taken up.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Parameters are not those of the model.
    #[error(transparent)]
    Params(#[from] ParamSetError),
    /// A checkpoint belongs to another training.
    #[error("the checkpoint is of step {step} of stage {stage:?} with seed {seed}, which is not a part of this training")]
    OtherTraining {
        /// Its step.
        step: u64,
        /// Its stage.
        stage: String,
        /// Its seed.
        seed: u64,
    },
}

impl<'a> Trainer<'a> {
    /// A training that has made no step. It begins with `initial`, or with what the model draws.
    ///
    /// # Errors
    /// [`TrainError::NoRows`].
    pub fn new(
        model: &'a dyn Trainable,
        data: &'a Part,
        config: TrainerConfig,
        initial: Option<ParamSet>,
    ) -> Result<Self, TrainError> {
        if data.rows() == 0 {
            return Err(TrainError::NoRows);
        }
        let key = stream_key(config.seed, &config.stage, Purpose::Init);
        let params = initial.unwrap_or_else(|| model.init(key));
        let optimizer = Optimizer::new(config.optimizer, model.layout());
        Ok(Self {
            model,
            data,
            config,
            params,
            optimizer,
            step: 0,
            epoch: None,
            open: OpenSegment::default(),
            metadata: BTreeMap::new(),
        })
    }

    /// What the files of the weights say of the model, besides their tensors.
    #[must_use]
    pub fn with_metadata(self, metadata: BTreeMap<String, String>) -> Self {
        Self { metadata, ..self }
    }

    /// Goes on after a checkpoint of this training.
    ///
    /// # Errors
    /// [`TrainError`] when it is of another training, or not whole.
    pub fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), TrainError> {
        let state = &checkpoint.state;
        let fits = state.seed == self.config.seed
            && state.stage == self.config.stage
            && self.config.boundaries.checkpoint_at(state.step)
            && state.step <= self.config.boundaries.steps;
        if !fits {
            let (step, stage, seed) = (state.step, state.stage.clone(), state.seed);
            return Err(TrainError::OtherTraining { step, stage, seed });
        }
        let layout = self.model.layout();
        let (weights, _) =
            safetensors::decode_with_metadata(&checkpoint.model).map_err(CheckpointError::from)?;
        let params = ParamSet::from_tensors(layout, weights)?;
        let moments = safetensors::decode(&checkpoint.optimizer).map_err(CheckpointError::from)?;
        self.optimizer = Optimizer::from_tensors(self.config.optimizer, layout, state.step, moments)?;
        self.params = params;
        self.step = state.step;
        self.open = OpenSegment::default();
        Ok(())
    }

    /// The checkpoint of the step that was made last, where there is to be one.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let due = self.step > 0 && self.config.boundaries.checkpoint_at(self.step);
        due.then(|| {
            let model = safetensors::encode_with_metadata(&self.params.to_tensors(), &self.metadata);
            let moments = safetensors::encode(&self.optimizer.to_tensors());
            Checkpoint::new(self.config.seed, &self.config.stage, self.step, model, moments)
        })
    }

    /// The parameters as they are now.
    pub fn params(&self) -> &ParamSet {
        &self.params
    }

    /// What the optimizer remembers now.
    pub fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// How many steps were made.
    pub fn steps_made(&self) -> u64 {
        self.step
    }

    /// How many steps an epoch has: each row is visited once in it.
    pub fn steps_per_epoch(&self) -> u64 {
        (self.data.rows() as u64).div_ceil(self.config.batch.get() as u64)
    }

    /// The rows of a step, counted from 1, in the order in which its shards take them.
    fn rows(&mut self, step: u64) -> Vec<u32> {
        let per_epoch = self.steps_per_epoch();
        let (epoch, index) = ((step - 1) / per_epoch, (step - 1) % per_epoch);
        if self.epoch.as_ref().is_none_or(|(of, _)| *of != epoch) {
            let purpose = Purpose::Shuffle { epoch: epoch as u32 };
            let key = stream_key(self.config.seed, &self.config.stage, purpose);
            let rows = u32::try_from(self.data.rows()).unwrap_or(u32::MAX);
            self.epoch = Some((epoch, Batches::shuffled(rows, self.config.batch, LastBatch::Keep, key)));
        }
        let (_, batches) = self.epoch.as_ref().expect("the epoch's order was just drawn");
        batches.get(index as usize).expect("an epoch has as many batches as steps").to_vec()
    }

    fn shard_key(&self, step: u64, shard: u32) -> StreamKey {
        stream_key(self.config.seed, &self.config.stage, Purpose::Shard { step, shard })
    }

    /// Makes one step: the mean loss of the next batch, its gradient, and one update of each parameter.
    ///
    /// The sum over the shards is multiplied by `f32(1 / number of losses)`; its norm is taken over the tensors in the order of their names; a
    /// longer one than `clip_norm` is shortened; then the optimizer updates each parameter.
    ///
    /// # Errors
    /// [`TrainError`]; the training is then at the step before.
    pub fn step(&mut self, carriers: &Carriers) -> Result<StepDone, TrainError> {
        let step = self.step + 1;
        let rows = self.rows(step);
        let shards = self.config.shards;
        let keys: Vec<StreamKey> = (0..shards.get()).map(|shard| self.shard_key(step, shard)).collect();
        let mut sum = self.gradient(carriers, step, &rows, &keys)?;
        let scale = (1.0 / sum.count as f64) as f32;
        scale_in_place(scale, ArrayViewMut1::from(sum.gradient.values_mut()));
        let norm = match self.config.clip_norm {
            Some(max_norm) => clip_gradients(&mut sum.gradient.tensors_mut(), max_norm),
            None => {
                let gradient = &sum.gradient;
                gradient_norm((0..gradient.layout().entries().len()).map(|i| gradient.tensor(i)))
            }
        };
        if !sum.loss.is_finite() || !norm.is_finite() {
            let what = if sum.loss.is_finite() { "the gradient" } else { "the loss" };
            return Err(self.find_not_finite(step, &rows, &keys, what));
        }
        let rate = self.config.schedule.at(self.config.learning_rate, step, self.config.boundaries.steps);
        self.optimizer.step(rate, &mut self.params, &sum.gradient)?;
        self.step = step;
        self.open.note_batch(step, &rows, &keys);
        self.open.note_loss(step, sum.loss, sum.count, norm);
        let ends = self.config.boundaries.ends_with(step);
        if ends {
            self.check_params()?;
        }
        let segment = ends.then(|| self.open.close(step, &self.params, &self.optimizer));
        let done = StepDone { step, loss: sum.loss, count: sum.count, norm, segment };
        self.model.recycle(sum);
        Ok(done)
    }

    fn gradient(
        &self,
        carriers: &Carriers,
        step: u64,
        rows: &[u32],
        keys: &[StreamKey],
    ) -> Result<ShardGrad, TrainError> {
        let shards = self.config.shards;
        let compute = |shard: u32| -> Result<Option<ShardGrad>, TrainableError> {
            let rows = &rows[shard_rows(rows.len(), shard, shards)];
            if rows.is_empty() {
                return Ok(None);
            }
            let batch = self.data.gather(rows)?;
            self.model.shard_grad(&self.params, &batch.view(), keys[shard as usize]).map(Some)
        };
        let sum = carriers.reduce(self.model, shards, &compute);
        let sum = sum.map_err(|(shard, source)| TrainError::Shard {
            step,
            source: Box::new(ShardError { shard, source }),
        })?;
        sum.ok_or(TrainError::NoRows)
    }

    /// Computes a step again, shard by shard and showing every operation, to name the first value that is not finite.
    fn find_not_finite(&self, step: u64, rows: &[u32], keys: &[StreamKey], what: &'static str) -> TrainError {
        let told = |place: String, operation: String, index| TrainError::NotFinite {
            step,
            place,
            what,
            operation,
            index,
        };
        for shard in 0..self.config.shards.get() {
            let rows = &rows[shard_rows(rows.len(), shard, self.config.shards)];
            let Ok(batch) = self.data.gather(rows) else { continue };
            let mut first: Option<(String, usize)> = None;
            let mut see = |traced: crate::trainable::Traced<'_>| {
                if first.is_none() {
                    let index = traced.values.iter().position(|x| !x.is_finite());
                    first = index.map(|index| (traced.operation.to_owned(), index));
                }
            };
            if rows.is_empty()
                || self.model.trace(&self.params, &batch.view(), keys[shard as usize], &mut see).is_err()
            {
                continue;
            }
            if let Some((operation, index)) = first {
                return told(format!("shard {shard}"), operation, index);
            }
        }
        told("the sum of the shards".to_owned(), "the reduction over the shards".to_owned(), 0)
    }

    /// Finite gradients can still make a parameter overflow.
    fn check_params(&self) -> Result<(), TrainError> {
        /// Looked at together, so that vectors can.
        const PIECE: usize = 1024;
        let bad = |piece: &[f32]| piece.iter().fold(false, |bad, x| bad | !x.is_finite());
        let values = self.params.values();
        let Some(piece) = values.chunks(PIECE).position(bad) else { return Ok(()) };
        let within = values[piece * PIECE..].iter().position(|x| !x.is_finite());
        let at = piece * PIECE + within.expect("a piece that is bad has such a value");
        let entry = self.params.layout().entry_at(at);
        Err(TrainError::NotFinite {
            step: self.step,
            place: "all shards".to_owned(),
            what: "a parameter",
            operation: format!("the update of {}", entry.name),
            index: at - entry.start,
        })
    }

    /// Shows every operation of the next step, shard by shard in order, without making it: two runs that part are compared by it.
    ///
    /// # Errors
    /// [`TrainError::Shard`].
    pub fn trace_next(
        &mut self,
        see: &mut dyn FnMut(u32, crate::trainable::Traced<'_>),
    ) -> Result<(), TrainError> {
        let step = self.step + 1;
        let rows = self.rows(step);
        for shard in 0..self.config.shards.get() {
            let rows = &rows[shard_rows(rows.len(), shard, self.config.shards)];
            if rows.is_empty() {
                continue;
            }
            let refused = |source| TrainError::Shard { step, source: Box::new(ShardError { shard, source }) };
            let batch = self.data.gather(rows).map_err(refused)?;
            let key = self.shard_key(step, shard);
            let spent = self
                .model
                .trace(&self.params, &batch.view(), key, &mut |traced| see(shard, traced))
                .map_err(refused)?;
            self.model.recycle(spent);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

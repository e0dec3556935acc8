//! `train`: an MLP by seeded mini-batches.
//!
//! Epoch `e` visits the rows in the order of the stream (seed, task, shuffle, e), in batches; the last may be shorter.
//! A step takes the gradient of the batch's mean loss and updates each tensor once.

use std::num::NonZeroUsize;

use bitproof_experiment_graph::MetricSet;
use bitproof_kernels::{
    adamw_step, sgd_step, sum_f64, AdamW, Batches, BiasCorrection, KernelError, LastBatch, Sgd, StreamKey,
};
use bitproof_scheduler::TaskSpec;
use ndarray::{Array2, Axis};

use super::{metrics, outputs, StageError, StageOutputs, METRICS, MODEL};
use crate::data::Part;
use crate::models::{self, evaluate, example_batches, DataShape, ModelSpec};
use crate::params::ParamSet;
use crate::pipeline::{OptimizerParams, TrainParams};
use crate::streams::{stream_key, Purpose};
use crate::trainable::{Batch, BatchTargets, Inputs, Trainable, TrainableError};

pub(super) fn execute(task: &TaskSpec, seed: u64, inputs: &[Vec<u8>]) -> Result<StageOutputs, StageError> {
    let (train, valid) = match inputs {
        [train] => (Part::decode(train)?, None),
        [train, valid] => (Part::decode(train)?, Some(Part::decode(valid)?)),
        _ => {
            let expected = "a train part and perhaps a valid part";
            return Err(StageError::Inputs { kind: "train", expected, got: inputs.len() });
        }
    };
    let params = TrainParams::from_canonical(&task.params)?;
    let key = |purpose| stream_key(seed, &task.stage, purpose);
    let spec = ModelSpec::Mlp { hidden: params.hidden.clone() };
    let data = DataShape::Classes { shape: vec![train.features.ncols()], classes: train.classes as usize };
    let model = models::build(&spec, &data)?;
    let mut weights = model.init(key(Purpose::Init));
    let mut optimizer = Optimizer::new(&params.optimizer, &weights);
    let batch = NonZeroUsize::new(params.batch as usize).unwrap_or(NonZeroUsize::MIN);
    let rows = train.labels.len() as u32;
    let steps_per_epoch = u64::from(rows).div_ceil(batch.get() as u64);
    tracing::info!(
        target: "bitproof::progress", task = task.id.0, total = steps_per_epoch * params.epochs,
        parameters = model.layout().total(), rows, "training begins"
    );
    let mut recorded = MetricSet::default();
    let mut step = 0u64;
    for epoch in 0..params.epochs {
        let mut losses: Vec<f64> = Vec::with_capacity(steps_per_epoch as usize);
        let order =
            Batches::shuffled(rows, batch, LastBatch::Keep, key(Purpose::Shuffle { epoch: epoch as u32 }));
        for rows in order.iter() {
            step += 1;
            let span = tracing::info_span!(target: bitproof_telemetry::STEP, "step", step);
            let loss = span.in_scope(|| train_step(&*model, &mut weights, &mut optimizer, (&train, rows)))?;
            if !loss.is_finite() {
                return Err(StageError::NotFinite { loss: loss as f32, epoch: epoch + 1, step });
            }
            losses.push(loss);
        }
        let loss = sum_f64(&losses) / f64::from(rows);
        recorded.merge(&metrics(task, epoch + 1, [("loss", loss)]));
        if let Some(valid) = &valid {
            let shape = [valid.features.ncols()];
            let batches =
                example_batches(&shape, valid.features.view(), BatchTargets::Classes(&valid.labels));
            if let Some(measured) = evaluate(&*model, &weights, batches)? {
                recorded.merge(&metrics(task, epoch + 1, [("valid_loss", measured.loss)]));
            }
        }
        tracing::info!(target: "bitproof::progress", task = task.id.0, step, epoch = epoch + 1, loss, "epoch");
    }
    Ok(outputs([(MODEL, models::encode(&spec, &data, &weights)), (METRICS, recorded.to_json())]))
}

/// The sum of the losses of some rows, and a step along the gradient of their mean.
fn train_step(
    model: &dyn Trainable,
    weights: &mut ParamSet,
    optimizer: &mut Optimizer,
    (train, rows): (&Part, &[u32]),
) -> Result<f64, TrainableError> {
    let indices: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
    let features: Array2<f32> = train.features.select(Axis(0), &indices);
    let labels: Vec<u32> = indices.iter().map(|&row| train.labels[row]).collect();
    let shape = [features.ncols()];
    let inputs = Inputs::Examples { shape: &shape, values: features.view() };
    let batch = Batch { inputs, targets: BatchTargets::Classes(&labels) };
    // An MLP draws nothing.
    let mut shard = model.shard_grad(weights, &batch, StreamKey::from_bytes([0; 8]))?;
    let scale = 1.0 / shard.count as f32;
    shard.gradient.values_mut().iter_mut().for_each(|g| *g *= scale);
    optimizer.step(weights, &shard.gradient)?;
    let loss = shard.loss;
    model.recycle(shard);
    Ok(loss)
}

enum Optimizer {
    AdamW { config: AdamW, correction: BiasCorrection, first: Vec<f32>, second: Vec<f32> },
    Sgd { config: Sgd, velocity: Vec<f32> },
}

impl Optimizer {
    fn new(params: &OptimizerParams, weights: &ParamSet) -> Self {
        let zeros = vec![0.0; weights.values().len()];
        match *params {
            OptimizerParams::AdamW { learning_rate, weight_decay } => Self::AdamW {
                config: AdamW {
                    learning_rate: learning_rate as f32,
                    weight_decay: weight_decay as f32,
                    ..AdamW::default()
                },
                correction: BiasCorrection::default(),
                first: zeros.clone(),
                second: zeros,
            },
            OptimizerParams::Sgd { learning_rate, momentum, weight_decay } => Self::Sgd {
                config: Sgd {
                    learning_rate: learning_rate as f32,
                    momentum: momentum as f32,
                    weight_decay: weight_decay as f32,
                },
                velocity: zeros,
            },
        }
    }

    fn step(&mut self, weights: &mut ParamSet, gradient: &ParamSet) -> Result<(), KernelError> {
        let (weights, gradient) = (weights.values_mut(), gradient.values());
        match self {
            Self::AdamW { config, correction, first, second } => {
                correction.advance(config);
                adamw_step(config, correction, weights, gradient, first, second)
            }
            Self::Sgd { config, velocity } => sgd_step(config, weights, gradient, velocity),
        }
    }
}

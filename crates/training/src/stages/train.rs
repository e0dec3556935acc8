//! `train`: an MLP by seeded mini-batches.
//!
//! Epoch `e` visits the rows in the order of the stream (seed, task, shuffle, e), in batches; the last may be shorter.
//! A step takes the gradient of the batch's mean loss and updates each tensor once.

use std::num::NonZeroUsize;

use bitproof_experiment_graph::MetricSet;
use bitproof_kernels::{
    adamw_step, sgd_step, softmax_cross_entropy, sum_f64, AdamW, Batches, BiasCorrection, LastBatch, Sgd,
};
use bitproof_scheduler::TaskSpec;
use ndarray::{Array2, Axis};

use super::rows::Rows;
use super::{metrics, outputs, StageError, StageOutputs, METRICS, MODEL};
use crate::models::{Mlp, ModelError};
use crate::pipeline::{OptimizerParams, TrainParams};
use crate::safetensors;
use crate::streams::{stream_key, Purpose};

pub(super) fn execute(task: &TaskSpec, seed: u64, inputs: &[Vec<u8>]) -> Result<StageOutputs, StageError> {
    let (train, valid) = match inputs {
        [train] => (Rows::decode(train)?, None),
        [train, valid] => (Rows::decode(train)?, Some(Rows::decode(valid)?)),
        _ => {
            let expected = "a train part and perhaps a valid part";
            return Err(StageError::Inputs { kind: "train", expected, got: inputs.len() });
        }
    };
    let params = TrainParams::from_canonical(&task.params)?;
    let key = |purpose| stream_key(seed, &task.stage, purpose);
    let hidden: Vec<usize> = params.hidden.iter().map(|&h| h as usize).collect();
    let mut model = Mlp::new(train.features.ncols(), &hidden, train.classes as usize, key(Purpose::Init))?;
    let mut optimizer = Optimizer::new(&params.optimizer, &mut model);
    let batch = NonZeroUsize::new(params.batch as usize).unwrap_or(NonZeroUsize::MIN);
    let rows = train.labels.len() as u32;
    let steps_per_epoch = u64::from(rows).div_ceil(batch.get() as u64);
    tracing::info!(
        target: "bitproof::progress", task = task.id.0, total = steps_per_epoch * params.epochs,
        parameters = model.parameters(), rows, "training begins"
    );
    let mut recorded = MetricSet::default();
    let mut step = 0u64;
    for epoch in 0..params.epochs {
        let mut losses: Vec<f64> = Vec::with_capacity(rows as usize);
        let order =
            Batches::shuffled(rows, batch, LastBatch::Keep, key(Purpose::Shuffle { epoch: epoch as u32 }));
        for rows in order.iter() {
            step += 1;
            let span = tracing::info_span!(target: bitproof_telemetry::STEP, "step", step);
            let batch_losses = span.in_scope(|| train_step(&mut model, &mut optimizer, &train, rows))?;
            if let Some(&loss) = batch_losses.iter().find(|loss| !loss.is_finite()) {
                return Err(StageError::NotFinite { loss, epoch: epoch + 1, step });
            }
            losses.extend(batch_losses.iter().map(|&loss| f64::from(loss)));
        }
        let loss = sum_f64(&losses) / losses.len() as f64;
        recorded.merge(&metrics(task, epoch + 1, [("loss", loss)]));
        if let Some(valid) = valid.as_ref().filter(|v| !v.labels.is_empty()) {
            let loss = mean_loss(&model, valid)?;
            recorded.merge(&metrics(task, epoch + 1, [("valid_loss", loss)]));
        }
        tracing::info!(target: "bitproof::progress", task = task.id.0, step, epoch = epoch + 1, loss, "epoch");
    }
    Ok(outputs([(MODEL, safetensors::encode(&model.to_tensors())), (METRICS, recorded.to_json())]))
}

fn train_step(
    model: &mut Mlp,
    optimizer: &mut Optimizer,
    train: &Rows,
    rows: &[u32],
) -> Result<Vec<f32>, ModelError> {
    let indices: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
    let features: Array2<f32> = train.features.select(Axis(0), &indices);
    let labels: Vec<u32> = indices.iter().map(|&row| train.labels[row]).collect();
    let (losses, gradients) = model.loss_and_gradient(features.view(), &labels)?;
    optimizer.step(model, &gradients)?;
    Ok(losses)
}

/// The mean loss over a part: the losses of its rows as f64, summed in the fixed tree, divided by their number.
pub(super) fn mean_loss(model: &Mlp, part: &Rows) -> Result<f64, ModelError> {
    let (losses, _) = softmax_cross_entropy(model.forward(part.features.view())?.view(), &part.labels)?;
    let losses: Vec<f64> = losses.into_iter().map(f64::from).collect();
    Ok(sum_f64(&losses) / losses.len() as f64)
}

enum Optimizer {
    AdamW { config: AdamW, correction: BiasCorrection, first: Vec<Vec<f32>>, second: Vec<Vec<f32>> },
    Sgd { config: Sgd, velocity: Vec<Vec<f32>> },
}

impl Optimizer {
    fn new(params: &OptimizerParams, model: &mut Mlp) -> Self {
        let zeros: Vec<Vec<f32>> = model.parameter_slices().iter().map(|p| vec![0.0; p.len()]).collect();
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

    fn step(&mut self, model: &mut Mlp, gradients: &[Vec<f32>]) -> Result<(), ModelError> {
        let parameters = model.parameter_slices().into_iter().zip(gradients);
        match self {
            Self::AdamW { config, correction, first, second } => {
                correction.advance(config);
                for (((parameter, gradient), m), v) in parameters.zip(first).zip(second) {
                    adamw_step(config, correction, parameter, gradient, m, v)?;
                }
            }
            Self::Sgd { config, velocity } => {
                for ((parameter, gradient), u) in parameters.zip(velocity) {
                    sgd_step(config, parameter, gradient, u)?;
                }
            }
        }
        Ok(())
    }
}

//! A model of one's own: `cargo run -p bitproof-embed-training`. It fits a parabola to points, prints the root of its step tree, and
//! executes one segment of the training again from a checkpoint. The root is the same for any number of threads.

#![expect(clippy::print_stdout, reason = "a program that answers")]

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use anyhow::{ensure, Result};
use bitproof_kernels::{sum_f64, AdamW, StreamKey};
use bitproof_training::checkpoint::Checkpoint;
use bitproof_training::data::{Examples, Part, Targets};
use bitproof_training::optimizer::OptimizerKind;
use bitproof_training::params::{ParamLayout, ParamSet};
use bitproof_training::schedule::{Decay, Schedule};
use bitproof_training::shard::Carriers;
use bitproof_training::steps::{Boundaries, StepTree};
use bitproof_training::trainable::{
    Batch, BatchTargets, Evaluation, Inputs, Predictions, ShardGrad, Trainable, TrainableError,
};
use bitproof_training::trainer::{Trainer, TrainerConfig};
use ndarray::{Array2, ArrayView2};

/// `y = a·x² + b·x + c`, with the gradient by hand.
struct Parabola {
    layout: Arc<ParamLayout>,
}

impl Parabola {
    fn new() -> Result<Self> {
        Ok(Self { layout: ParamLayout::new([("a", vec![]), ("b", vec![]), ("c", vec![])])? })
    }

    fn at(params: &ParamSet, x: f32) -> f32 {
        let [a, b, c] = ["a", "b", "c"].map(|name| params.get(name)[0]);
        (a * x + b) * x + c
    }

    fn points<'a>(batch: &Batch<'a>) -> Result<(ArrayView2<'a, f32>, &'a [f32]), TrainableError> {
        match (batch.inputs, batch.targets) {
            (Inputs::Examples { values, .. }, BatchTargets::Values(targets)) => Ok((values, targets)),
            _ => Err(TrainableError::Kind { expected: "points", got: "something else" }),
        }
    }
}

impl Trainable for Parabola {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn init(&self, _: StreamKey) -> ParamSet {
        ParamSet::zeros(&self.layout)
    }

    fn shard_grad(
        &self,
        params: &ParamSet,
        batch: &Batch<'_>,
        _: StreamKey,
    ) -> Result<ShardGrad, TrainableError> {
        let (points, targets) = Self::points(batch)?;
        let mut gradient = ParamSet::zeros(&self.layout);
        let mut losses = Vec::with_capacity(targets.len());
        for (&x, &y) in points.iter().zip(targets) {
            let error = Self::at(params, x) - y;
            losses.push(f64::from(error * error));
            let slopes = [error * x * x, error * x, error];
            gradient.values_mut().iter_mut().zip(slopes).for_each(|(sum, slope)| *sum += 2.0 * slope);
        }
        Ok(ShardGrad { gradient, loss: sum_f64(&losses), count: targets.len() as u64 })
    }

    fn eval(&self, params: &ParamSet, batch: &Batch<'_>) -> Result<Evaluation, TrainableError> {
        let (points, targets) = Self::points(batch)?;
        let said: Vec<f32> = points.iter().map(|&x| Self::at(params, x)).collect();
        let losses = said.iter().zip(targets).map(|(said, y)| (said - y) * (said - y)).collect();
        Ok(Evaluation { losses, predictions: Predictions::Values(said) })
    }

    fn multiply_adds(&self) -> u64 {
        2
    }
}

/// 200 points of y = 3x² − x + 0.5.
fn points() -> Part {
    let features = Array2::from_shape_fn((200, 1), |(i, _)| i as f32 / 100.0 - 1.0);
    let values = features.iter().map(|x| (3.0 * x - 1.0) * x + 0.5).collect();
    Part::Examples(Examples { shape: vec![1], features, targets: Targets::Values(values) })
}

fn config() -> Result<TrainerConfig> {
    Ok(TrainerConfig {
        seed: 7,
        stage: "fit".to_owned(),
        batch: NonZeroUsize::try_from(50)?,
        shards: NonZeroU32::try_from(4)?,
        optimizer: OptimizerKind::AdamW(AdamW { weight_decay: 0.0, ..AdamW::default() }),
        learning_rate: 0.05,
        schedule: Schedule { warmup_steps: 0, decay: Decay::Cosine { floor: 0.0 } },
        clip_norm: None,
        boundaries: Boundaries { steps: 800, leaf_every: 20, checkpoint_every: 200 },
    })
}

/// What a training leaves.
struct Fitted {
    params: ParamSet,
    tree: StepTree,
    checkpoints: Vec<Checkpoint>,
}

fn fit(model: &Parabola, data: &Part, threads: usize) -> Result<Fitted> {
    let config = config()?;
    let carriers = Carriers::new(threads, config.shards);
    let mut trainer = Trainer::new(model, data, config.clone(), None)?;
    let (mut tree, mut checkpoints) = (StepTree::default(), Vec::new());
    while trainer.steps_made() < config.boundaries.steps {
        trainer.step(&carriers)?.segment.into_iter().for_each(|segment| tree.push(segment));
        checkpoints.extend(trainer.checkpoint());
    }
    Ok(Fitted { params: trainer.params().clone(), tree, checkpoints })
}

/// Executes the segment after a checkpoint again, and holds it against the tree.
fn check(model: &Parabola, data: &Part, fitted: &Fitted, checkpoint: &Checkpoint) -> Result<bool> {
    let config = config()?;
    let carriers = Carriers::new(1, config.shards);
    let mut trainer = Trainer::new(model, data, config, None)?;
    trainer.restore(checkpoint)?;
    let next = fitted.tree.segment_of(checkpoint.state.step + 1);
    loop {
        if let Some(segment) = trainer.step(&carriers)?.segment {
            return Ok(next.is_some_and(|index| fitted.tree.segments()[index] == segment));
        }
    }
}

fn main() -> Result<()> {
    let (model, data) = (Parabola::new()?, points());
    let fitted = fit(&model, &data, 4)?;
    let [a, b, c] = ["a", "b", "c"].map(|name| fitted.params.get(name)[0]);
    println!("y = {a:.3} x² + {b:.3} x + {c:.3}");
    let root: String = fitted.tree.root().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("step root {root} over {} segments", fitted.tree.segments().len());
    let again = check(&model, &data, &fitted, &fitted.checkpoints[1])?;
    ensure!(again, "the segment after step 400 gave other bits");
    println!("the segment after step 400, executed again: the same bits");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parabola_is_found_and_threads_change_no_bit() {
        let (model, data) = (Parabola::new().unwrap(), points());
        let fitted = fit(&model, &data, 1).unwrap();
        for (name, expected) in [("a", 3.0), ("b", -1.0), ("c", 0.5)] {
            assert!((fitted.params.get(name)[0] - expected).abs() < 0.01, "{name}");
        }
        for threads in [2, 8] {
            let again = fit(&model, &data, threads).unwrap();
            assert_eq!((again.tree.root(), again.params), (fitted.tree.root(), fitted.params.clone()));
        }
    }

    #[test]
    fn a_checkpoint_with_another_weight_is_found_out() {
        let (model, data) = (Parabola::new().unwrap(), points());
        let fitted = fit(&model, &data, 1).unwrap();
        let [first, second, ..] = fitted.checkpoints.as_slice() else { panic!("there are checkpoints") };
        assert!(check(&model, &data, &fitted, first).unwrap());
        let (state, optimizer) = (&second.state, second.optimizer.clone());
        let forged = Checkpoint::new(state.seed, &state.stage, state.step, first.model.clone(), optimizer);
        assert!(!check(&model, &data, &fitted, &forged).unwrap());
    }
}

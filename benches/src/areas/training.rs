//! Whole training steps: forward, backward, update, and what the leaves of the step tree cost.

use std::num::{NonZeroU32, NonZeroUsize};

use bitproof_kernels::{AdamW, Sgd};
use bitproof_training::data::{Examples, Part, Targets, Text};
use bitproof_training::models::{build, DataShape, ModelSpec};
use bitproof_training::optimizer::OptimizerKind;
use bitproof_training::params::ParamSet;
use bitproof_training::schedule::{Decay, Schedule};
use bitproof_training::shard::Carriers;
use bitproof_training::steps::{leaf_interval, Boundaries};
use bitproof_training::streams::{stream_key, Purpose};
use bitproof_training::trainable::Trainable;
use bitproof_training::trainer::{Trainer, TrainerConfig};
use ndarray::Array2;

use super::{emit_all, thread_counts, Emit};
use crate::harness::{Contender, Harness, InProcess, Items, Measurement, Unrepeatable};

/// What is trained, and on what.
struct Case {
    name: &'static str,
    model: Box<dyn Trainable + Send>,
    data: Part,
    batch: usize,
    optimizer: OptimizerKind,
    /// Steps of a repetition.
    steps: u64,
    /// What a peer is asked for, without the number of threads.
    request: (&'static str, String),
}

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for case in [mlp(), gpt()] {
        for shards in [1, 8] {
            let measured =
                thread_counts().into_iter().map(|threads| case.against_peers(harness, shards, threads));
            emit_each(measured, emit)?;
        }
        emit_all([case.leaves(harness)], emit)?;
    }
    Ok(())
}

/// Of each number of threads one measurement a peer: the bits must be those of the first.
fn emit_each(
    measured: impl IntoIterator<Item = Result<Vec<Measurement>, Unrepeatable>>,
    emit: &mut Emit<'_>,
) -> Result<(), Unrepeatable> {
    let measured = measured.into_iter().collect::<Result<Vec<_>, _>>()?;
    emit_all(measured.into_iter().flatten().map(Ok), emit)
}

impl Case {
    fn config(&self, shards: u32, leaf_every: u64) -> TrainerConfig {
        TrainerConfig {
            seed: 1,
            stage: self.name.to_owned(),
            batch: NonZeroUsize::new(self.batch).expect("a batch has rows"),
            shards: NonZeroU32::new(shards).expect("there are shards"),
            optimizer: self.optimizer,
            learning_rate: 0.001,
            schedule: Schedule { warmup_steps: 0, decay: Decay::Constant },
            clip_norm: None,
            // Longer than is run, so that no end falls into what is measured.
            boundaries: Boundaries { steps: 1 << 40, leaf_every, checkpoint_every: 0 },
        }
    }

    /// The interval that the stage would choose.
    fn rule(&self) -> u64 {
        let moments = self.optimizer.moments().len() as u64;
        let work = self.model.multiply_adds() * self.batch as u64;
        leaf_interval(self.model.layout().total() as u64, moments, work)
    }

    /// Some steps from the same parameters every time.
    fn steps(&self, carriers: &Carriers, config: &TrainerConfig, initial: &ParamSet, steps: u64) -> ParamSet {
        let mut trainer = Trainer::new(&*self.model, &self.data, config.clone(), Some(initial.clone()))
            .expect("there are rows");
        for _ in 0..steps {
            trainer.step(carriers).expect("the data fits the model");
        }
        trainer.params().clone()
    }

    fn initial(&self) -> ParamSet {
        self.model.init(stream_key(1, self.name, Purpose::Init))
    }

    fn items(&self, steps: u64) -> Items {
        Items { count: steps, of: "step" }
    }

    fn against_peers(
        &self,
        harness: &Harness<'_>,
        shards: u32,
        threads: usize,
    ) -> Result<Vec<Measurement>, Unrepeatable> {
        let (config, initial) = (self.config(shards, self.rule()), self.initial());
        let carriers = Carriers::new(threads, config.shards);
        let bench = format!("{}/shards{shards}", self.name);
        let (what, sizes) = &self.request;
        let request = format!("{what} {threads} {} {sizes}", self.steps);
        let asked = harness.peers().unwrap_or_default();
        let mut peers: Vec<Box<dyn Contender>> =
            asked.iter().filter_map(|python| python.contender(&request)).collect();
        let work = || carriers.within(|| self.steps(&carriers, &config, &initial, self.steps));
        harness.measure_against_all((&bench, threads, self.items(self.steps)), work, bytes, &mut peers)
    }

    /// The same steps with the leaves that the rule gives and without any.
    fn leaves(&self, harness: &Harness<'_>) -> Result<Measurement, Unrepeatable> {
        let every = self.rule();
        let steps = self.steps.div_ceil(every) * every;
        let (with, without) = (self.config(1, every), self.config(1, u64::MAX));
        let initial = self.initial();
        let carriers = Carriers::new(1, with.shards);
        let mut peers: [Box<dyn Contender + '_>; 1] = [Box::new(InProcess {
            name: "without-leaves",
            work: || carriers.within(|| self.steps(&carriers, &without, &initial, steps)),
        })];
        let work = || carriers.within(|| self.steps(&carriers, &with, &initial, steps));
        let bench = format!("{}/leaf-every-{every}", self.name);
        let measured =
            harness.measure_against_all((&bench, 1, self.items(steps)), work, bytes, &mut peers)?;
        Ok(measured.into_iter().next().expect("one measurement for the one peer"))
    }
}

fn bytes(params: &ParamSet) -> Vec<u8> {
    params.values().iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// 784-256-128-10, batch 64, plain gradient descent.
fn mlp() -> Case {
    let data = DataShape::Classes { shape: vec![784], classes: 10 };
    let model = build(&ModelSpec::Mlp { hidden: vec![256, 128] }, &data).expect("the model is sound");
    let features = Array2::from_shape_fn((1024, 784), |(i, j)| ((i * 31 + j * 17) % 97) as f32 / 97.0 - 0.5);
    let labels = (0..1024u32).map(|i| i * 7 % 10).collect();
    let targets = Targets::Classes { labels, classes: 10 };
    Case {
        name: "mlp-784-256-128-10-b64",
        model,
        data: Part::Examples(Examples { shape: vec![784], features, targets }),
        batch: 64,
        optimizer: OptimizerKind::Sgd(Sgd { learning_rate: 0.0, momentum: 0.0, weight_decay: 0.0 }),
        steps: 52,
        request: ("train_mlp", "64 784 256 128 10".to_owned()),
    }
}

/// 4 layers, 4 heads, width 128, window 64, batch 32, 65 characters, AdamW.
fn gpt() -> Case {
    let spec = ModelSpec::Gpt { layers: 4, heads: 4, width: 128, dropout: 0.0 };
    let model = build(&spec, &DataShape::Text { vocabulary: 65, window: 64 }).expect("the model is sound");
    let vocabulary = (0..65).filter_map(|i| char::from_u32(32 + i)).collect();
    let tokens = (0..20_000u32).map(|i| i.wrapping_mul(2_654_435_761) >> 16).map(|i| i % 65).collect();
    Case {
        name: "gpt-4x4x128-b32-w64",
        model,
        data: Part::Text(Text { tokens, vocabulary, window: 64 }),
        batch: 32,
        optimizer: OptimizerKind::AdamW(AdamW::default()),
        steps: 2,
        request: ("train_gpt", "32 64 65 4 4 128".to_owned()),
    }
}

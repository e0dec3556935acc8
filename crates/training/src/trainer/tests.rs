use std::sync::Arc;

use bitproof_kernels::{AdamW, Isa};
use ndarray::Array2;

use super::*;
use crate::checkpoint;
use crate::data::{Examples, Targets};
use crate::params::ParamLayout;
use crate::schedule::Decay;
use crate::tape::{Buffers, Shape, Tape};
use crate::trainable::{Batch, BatchTargets, Evaluation, Inputs, Predictions, Traced};

/// `y = w·x + b` with dropout of the input, so that the shards' streams matter.
struct Line(Arc<ParamLayout>);

impl Line {
    fn new(features: usize) -> Self {
        Self(ParamLayout::new([("weight", vec![1, features]), ("bias", vec![1])]).unwrap())
    }

    fn run(
        &self,
        params: &ParamSet,
        batch: &Batch<'_>,
        key: StreamKey,
        see: Option<&mut dyn FnMut(Traced<'_>)>,
    ) -> Result<ShardGrad, TrainableError> {
        let (Inputs::Examples { values, .. }, BatchTargets::Values(targets)) = (batch.inputs, batch.targets)
        else {
            return Err(TrainableError::Kind { expected: "numbers", got: "something else" });
        };
        let mut buffers = Buffers::default();
        let mut gradient = ParamSet::zeros(&self.0);
        let (rows, features) = values.dim();
        let loss;
        {
            let mut slices = gradient.tensors_mut();
            let (weights, bias) = (slices.pop().unwrap(), slices.pop().unwrap());
            let mut tape = Tape::new(&mut buffers);
            if let Some(see) = see {
                tape = tape.traced(see);
            }
            let x = tape.constant(Shape::new(&[rows, features])?, values.as_slice().unwrap())?;
            let w = tape.variable(Shape::new(&[1, features])?, params.get("weight"), weights)?;
            let b = tape.variable(Shape::new(&[1])?, params.get("bias"), bias)?;
            let x = tape.dropout(x, 0.1, key)?;
            let y = tape.linear(x, w, Some(b))?;
            let losses = tape.squared_error(y, targets)?;
            let each: Vec<f64> = tape.value(losses).iter().map(|&l| f64::from(l)).collect();
            loss = bitproof_kernels::sum_f64(&each);
            tape.backward(losses)?;
        }
        Ok(ShardGrad { gradient, loss, count: rows as u64 })
    }
}

impl Trainable for Line {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.0
    }
    fn init(&self, key: StreamKey) -> ParamSet {
        let mut params = ParamSet::zeros(&self.0);
        bitproof_kernels::kaiming_uniform(
            4,
            params.get_mut("weight"),
            &mut bitproof_kernels::Stream::new(key),
        );
        params
    }
    fn shard_grad(&self, p: &ParamSet, b: &Batch<'_>, key: StreamKey) -> Result<ShardGrad, TrainableError> {
        self.run(p, b, key, None)
    }
    fn eval(&self, _: &ParamSet, _: &Batch<'_>) -> Result<Evaluation, TrainableError> {
        Ok(Evaluation { losses: vec![], predictions: Predictions::Values(vec![]) })
    }
    fn multiply_adds(&self) -> u64 {
        self.0.total() as u64
    }
    fn trace(
        &self,
        p: &ParamSet,
        b: &Batch<'_>,
        key: StreamKey,
        see: &mut dyn FnMut(Traced<'_>),
    ) -> Result<ShardGrad, TrainableError> {
        self.run(p, b, key, Some(see))
    }
}

/// 50 rows of 4 features whose target is 1·x₀ − 2·x₁ + 0.5.
fn data() -> Part {
    let features = Array2::from_shape_fn((50, 4), |(i, j)| ((i * 7 + j * 3) % 11) as f32 / 11.0 - 0.5);
    let targets = features.rows().into_iter().map(|x| x[0] - 2.0 * x[1] + 0.5).collect();
    Part::Examples(Examples { shape: vec![4], features, targets: Targets::Values(targets) })
}

fn config(shards: u32) -> TrainerConfig {
    TrainerConfig {
        seed: 7,
        stage: "train".to_owned(),
        batch: NonZeroUsize::new(16).unwrap(),
        shards: NonZeroU32::new(shards).unwrap(),
        optimizer: OptimizerKind::AdamW(AdamW { weight_decay: 0.0, ..AdamW::default() }),
        learning_rate: 0.05,
        schedule: Schedule { warmup_steps: 3, decay: Decay::Cosine { floor: 0.0 } },
        clip_norm: Some(1.0),
        boundaries: Boundaries { steps: 30, leaf_every: 3, checkpoint_every: 10 },
    }
}

/// Runs to the end; the parameters as bits, the segments, the checkpoints and the losses.
fn run(config: TrainerConfig, threads: usize) -> (Vec<u32>, Vec<Segment>, Vec<Checkpoint>, Vec<f64>) {
    run_on(Isa::get(), config, threads)
}

/// A choice of instructions is one of the thread that makes it, so with one thread, which carries all shards, every kernel obeys.
fn run_on(
    isa: Isa,
    config: TrainerConfig,
    threads: usize,
) -> (Vec<u32>, Vec<Segment>, Vec<Checkpoint>, Vec<f64>) {
    let (model, data) = (Line::new(4), data());
    let carriers = Carriers::new(threads, config.shards);
    let mut trainer = Trainer::new(&model, &data, config.clone(), None).unwrap();
    let (mut segments, mut checkpoints, mut losses) = (vec![], vec![], vec![]);
    let mut train = || {
        while trainer.steps_made() < config.boundaries.steps {
            let done = trainer.step(&carriers).unwrap();
            losses.push(done.loss / done.count as f64);
            segments.extend(done.segment);
            checkpoints.extend(trainer.checkpoint());
        }
        assert!(threads > 1 || Isa::get() == isa, "the thread that trains obeys");
    };
    carriers.within(|| if threads == 1 { isa.force(&mut train) } else { train() });
    (trainer.params().values().iter().map(|x| x.to_bits()).collect(), segments, checkpoints, losses)
}

#[test]
fn threads_and_instruction_sets_change_no_bit_and_the_loss_falls() {
    let expected = run(config(3), 1);
    assert!(expected.3[29] < expected.3[0] / 4.0, "{:?}", expected.3);
    assert_eq!(expected.1.len() as u64, config(3).boundaries.segments());
    for threads in [2, 4, 8] {
        assert_eq!(run(config(3), threads), expected, "{threads} threads");
    }
    for isa in Isa::available() {
        assert_eq!(run_on(isa, config(3), 1), expected, "{}", isa.name());
    }
    assert_ne!(run(config(4), 1).0, expected.0, "the control: other shards are another training");
}

#[test]
fn a_training_that_is_taken_up_ends_with_the_same_bits() {
    let (bits, segments, checkpoints, _) = run(config(3), 1);
    assert_eq!(checkpoints.iter().map(|c| c.state.step).collect::<Vec<_>>(), [10, 20, 30]);
    let packed = checkpoint::pack(&checkpoints).unwrap();
    let (model, data) = (Line::new(4), data());
    let carriers = Carriers::new(2, config(3).shards);
    for from in [10, 20] {
        let mut trainer = Trainer::new(&model, &data, config(3), None).unwrap();
        trainer.restore(&checkpoint::unpack(&packed, from).unwrap()).unwrap();
        let mut again = vec![];
        while trainer.steps_made() < 30 {
            again.extend(trainer.step(&carriers).unwrap().segment);
        }
        let end: Vec<u32> = trainer.params().values().iter().map(|x| x.to_bits()).collect();
        assert_eq!(end, bits, "from step {from}");
        assert_eq!(again, segments[segments.len() - again.len()..], "from step {from}");
    }
    let other = TrainerConfig { seed: 8, ..config(3) };
    let mut trainer = Trainer::new(&model, &data, other, None).unwrap();
    let refused = trainer.restore(&checkpoints[0]).unwrap_err();
    assert!(matches!(refused, TrainError::OtherTraining { step: 10, .. }), "{refused}");
}

#[test]
fn what_is_not_finite_is_named_by_step_shard_and_operation() {
    let model = Line::new(4);
    let Part::Examples(mut examples) = data() else { panic!() };
    examples.features.row_mut(33)[2] = 1e38;
    let data = Part::Examples(examples);
    // Of the 16 rows of a step each shard takes 4.
    let mut trainer = Trainer::new(&model, &data, config(4), None).unwrap();
    let carriers = Carriers::new(1, config(4).shards);
    let error = loop {
        if let Err(error) = trainer.step(&carriers) {
            break error;
        }
    };
    let TrainError::NotFinite { step, place, what, operation, .. } = &error else { panic!("{error}") };
    let order = Trainer::new(&model, &data, config(4), None).unwrap().rows(*step);
    let row = order.iter().position(|&row| row == 33).unwrap();
    assert_eq!((place.as_str(), *what), (format!("shard {}", row / 4).as_str(), "the loss"));
    assert!(operation.contains("squared_error"), "{operation}");
    assert_eq!(trainer.steps_made(), step - 1);
}

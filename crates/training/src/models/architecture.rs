//! What all models share: a tape over the parameters, a loss at the end, and memory that is used again.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use bitproof_kernels::{argmax_rows, kaiming_uniform, sum_f64, KernelError, Stream, StreamKey};
use ndarray::ArrayView2;

use crate::params::{ParamLayout, ParamSet, ParamSetError};
use crate::tape::{Buffers, Shape, Tape, TapeError, Var};
use crate::trainable::{
    Batch, BatchTargets, Evaluation, Inputs, Predictions, ShardGrad, Traced, Trainable, TrainableError,
};

/// What tells one model from another.
pub(crate) trait Architecture: Send + Sync {
    /// Its tensors, as PyTorch calls them.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;

    /// Fills the parameters, which are `+0` before.
    fn init(&self, params: &mut ParamSet, key: StreamKey);

    /// What it takes.
    fn takes(&self) -> Takes<'_>;

    /// What becomes of the scores.
    fn head(&self) -> Head;

    /// Its scores: a row for each prediction. `random` is the key of what is random in it, `None` outside a training.
    fn scores<'p>(
        &'p self,
        tape: &mut Tape<'p>,
        weights: &Weights<'_>,
        seen: Seen<'p>,
        random: Option<StreamKey>,
    ) -> Result<Var, TapeError>;

    /// The multiply-adds of its matrix products and convolutions for one example.
    fn multiply_adds(&self) -> u64;
}

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes<'a> {
    /// Examples of this shape; with one axis, any of as many elements.
    Examples(&'a [usize]),
    /// At most so many tokens in a row.
    Tokens { window: usize },
}

/// What becomes of the scores of a prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// One, which is the prediction; squared error.
    Value,
    /// One: class 1 where it is above 0; binary cross-entropy of its sigmoid.
    TwoClasses,
    /// One for each class, of which the first largest is predicted; cross-entropy of their softmax.
    Classes,
}

impl Head {
    /// The scores of a prediction among so many classes.
    pub(crate) fn outputs(self, classes: usize) -> usize {
        match self {
            Self::Value | Self::TwoClasses => 1,
            Self::Classes => classes,
        }
    }

    fn learns(self) -> &'static str {
        match self {
            Self::Value => "values",
            Self::TwoClasses | Self::Classes => "classes",
        }
    }
}

/// A batch as rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seen<'p> {
    /// Examples, one after the other.
    Rows { values: &'p [f32], rows: usize },
    /// Tokens, row after row.
    Tokens { ids: &'p [u32], rows: usize, columns: usize },
}

impl<'p> Seen<'p> {
    /// The examples on a tape, each of this shape.
    pub(crate) fn examples(self, tape: &mut Tape<'p>, shape: &[usize]) -> Result<Var, TapeError> {
        let Self::Rows { values, rows } = self else { unreachable!("the batch was checked") };
        tape.constant(Shape::new(&[&[rows], shape].concat())?, values)
    }
}

/// The parameters on a tape.
pub(crate) struct Weights<'a> {
    layout: &'a ParamLayout,
    vars: Vec<Var>,
}

impl Weights<'_> {
    /// The tensor of this name.
    pub(crate) fn get(&self, name: &str) -> Var {
        self.vars[self.layout.index(name)]
    }

    /// The linear layer of this name.
    pub(crate) fn linear(&self, tape: &mut Tape<'_>, name: &str, x: Var) -> Result<Var, TapeError> {
        let bias = self.get(&format!("{name}.bias"));
        tape.linear(x, self.get(&format!("{name}.weight")), Some(bias))
    }
}

/// Draws the weight and then the bias of a layer as PyTorch's `Linear` and `Conv2d` do: uniform on [−1/√n, 1/√n) for `n` inputs.
pub(crate) fn init_layer(params: &mut ParamSet, name: &str, inputs: usize, stream: &mut Stream) {
    for part in ["weight", "bias"] {
        kaiming_uniform(inputs, params.get_mut(&format!("{name}.{part}")), stream);
    }
}

/// An architecture that is trained on the tape.
pub(crate) struct Model<A> {
    pub(crate) architecture: A,
    layout: Arc<ParamLayout>,
    training: Pool<Buffers>,
    // Other batch sizes, so other lengths: kept apart, or each buffer of a training would grow to hold both.
    evaluating: Pool<Buffers>,
    spent: Pool<ParamSet>,
}

impl<A: Architecture> Model<A> {
    /// # Errors
    /// [`ParamSetError::TooLarge`].
    pub(crate) fn new(architecture: A) -> Result<Self, ParamSetError> {
        let layout = ParamLayout::new(architecture.tensors())?;
        let (training, evaluating) = (Pool::default(), Pool::default());
        Ok(Self { architecture, layout, training, evaluating, spent: Pool::default() })
    }

    /// The scores of every prediction, row after row.
    pub(crate) fn scores(&self, params: &ParamSet, inputs: &Inputs<'_>) -> Result<Vec<f32>, TrainableError> {
        self.check(params, inputs)?;
        let flat = Flat::of(inputs);
        self.evaluating.with(Buffers::default, |buffers| {
            let mut tape = Tape::new(buffers);
            let weights = self.constants(&mut tape, params)?;
            let scores = self.architecture.scores(&mut tape, &weights, flat.seen(), None)?;
            Ok(tape.value(scores).to_vec())
        })
    }

    fn constants<'p>(&'p self, tape: &mut Tape<'p>, params: &'p ParamSet) -> Result<Weights<'p>, TapeError> {
        let entries = self.layout.entries().iter().enumerate();
        let var = |(i, entry): (usize, &crate::params::ParamEntry)| {
            tape.constant(Shape::new(&entry.shape)?, params.tensor(i))
        };
        Ok(Weights { layout: &self.layout, vars: entries.map(var).collect::<Result<_, _>>()? })
    }

    fn check(&self, params: &ParamSet, inputs: &Inputs<'_>) -> Result<(), TrainableError> {
        self.layout.check(params.layout())?;
        let kind = |expected, got| Err(TrainableError::Kind { expected, got });
        match (self.architecture.takes(), inputs) {
            (Takes::Examples(expected), Inputs::Examples { shape, values }) => {
                let other = |got: &[usize]| {
                    Err(TrainableError::Shape { expected: expected.to_vec(), got: got.to_vec() })
                };
                let elements: usize = expected.iter().product();
                let fits = *shape == expected
                    || (expected.len() == 1 && shape.iter().product::<usize>() == elements);
                if !fits {
                    return other(shape);
                }
                if values.ncols() != elements {
                    return other(&[values.ncols()]);
                }
                Ok(())
            }
            (Takes::Tokens { window }, Inputs::Tokens(tokens)) if tokens.ncols() > window => {
                Err(TrainableError::Shape { expected: vec![window], got: vec![tokens.ncols()] })
            }
            (Takes::Tokens { .. }, Inputs::Tokens(_)) => Ok(()),
            (Takes::Examples(_), Inputs::Tokens(_)) => kind("examples", "text"),
            (Takes::Tokens { .. }, Inputs::Examples { .. }) => kind("text", "examples"),
        }
    }

    /// The loss of each prediction.
    fn losses(
        &self,
        tape: &mut Tape<'_>,
        scores: Var,
        targets: &BatchTargets<'_>,
    ) -> Result<Var, TrainableError> {
        let head = self.architecture.head();
        match (head, targets) {
            (Head::Value, BatchTargets::Values(values)) => Ok(tape.squared_error(scores, values)?),
            (Head::Classes, BatchTargets::Classes(labels)) => Ok(tape.cross_entropy(scores, labels)?),
            (Head::TwoClasses, BatchTargets::Classes(labels)) => {
                if let Some(row) = labels.iter().position(|&label| label > 1) {
                    return Err(KernelError::LabelOutOfRange { row, label: labels[row], classes: 2 }.into());
                }
                let targets: Vec<f32> = labels.iter().map(|&label| label as f32).collect();
                Ok(tape.bce_with_logits(scores, &targets)?)
            }
            (_, BatchTargets::Values(_)) => {
                Err(TrainableError::Kind { expected: head.learns(), got: "values" })
            }
            (_, BatchTargets::Classes(_)) => {
                Err(TrainableError::Kind { expected: head.learns(), got: "classes" })
            }
        }
    }

    fn learn(
        &self,
        params: &ParamSet,
        batch: &Batch<'_>,
        key: StreamKey,
        see: Option<&mut dyn FnMut(Traced<'_>)>,
    ) -> Result<ShardGrad, TrainableError> {
        self.check(params, &batch.inputs)?;
        let flat = Flat::of(&batch.inputs);
        let mut gradient = self.spent.take().unwrap_or_else(|| ParamSet::zeros(&self.layout));
        let loss = self.training.with(Buffers::default, |buffers| {
            let mut tape = Tape::new(buffers);
            if let Some(see) = see {
                tape = tape.traced(see);
            }
            let mut vars = Vec::with_capacity(self.layout.entries().len());
            let entries = self.layout.entries().iter().enumerate().zip(gradient.tensors_mut());
            for ((index, entry), gradient) in entries {
                vars.push(tape.variable(Shape::new(&entry.shape)?, params.tensor(index), gradient)?);
            }
            let weights = Weights { layout: &self.layout, vars };
            let scores = self.architecture.scores(&mut tape, &weights, flat.seen(), Some(key))?;
            let of = self.losses(&mut tape, scores, &batch.targets)?;
            let losses: Vec<f64> = tape.value(of).iter().map(|&loss| f64::from(loss)).collect();
            tape.backward(of)?;
            Ok::<_, TrainableError>(sum_f64(&losses))
        })?;
        Ok(ShardGrad { gradient, loss, count: batch.targets.len() as u64 })
    }
}

impl<A: Architecture> Trainable for Model<A> {
    fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    fn init(&self, key: StreamKey) -> ParamSet {
        let mut params = ParamSet::zeros(&self.layout);
        self.architecture.init(&mut params, key);
        params
    }

    fn shard_grad(
        &self,
        params: &ParamSet,
        batch: &Batch<'_>,
        key: StreamKey,
    ) -> Result<ShardGrad, TrainableError> {
        self.learn(params, batch, key, None)
    }

    fn eval(&self, params: &ParamSet, batch: &Batch<'_>) -> Result<Evaluation, TrainableError> {
        self.check(params, &batch.inputs)?;
        let flat = Flat::of(&batch.inputs);
        self.evaluating.with(Buffers::default, |buffers| {
            let mut tape = Tape::new(buffers);
            let weights = self.constants(&mut tape, params)?;
            let of = self.architecture.scores(&mut tape, &weights, flat.seen(), None)?;
            let losses = self.losses(&mut tape, of, &batch.targets)?;
            let scores = tape.value(of);
            let predictions = match self.architecture.head() {
                Head::Value => Predictions::Values(scores.to_vec()),
                Head::TwoClasses => {
                    Predictions::Classes(scores.iter().map(|&z| u32::from(z > 0.0)).collect())
                }
                Head::Classes => {
                    let shape = tape.shape(of);
                    let rows = ArrayView2::from_shape((shape.rows(), shape.columns()), scores)
                        .expect("a value fills its shape");
                    Predictions::Classes(argmax_rows(rows)?)
                }
            };
            Ok(Evaluation { losses: tape.value(losses).to_vec(), predictions })
        })
    }

    fn multiply_adds(&self) -> u64 {
        self.architecture.multiply_adds()
    }

    fn trace(
        &self,
        params: &ParamSet,
        batch: &Batch<'_>,
        key: StreamKey,
        see: &mut dyn FnMut(Traced<'_>),
    ) -> Result<ShardGrad, TrainableError> {
        // The variables stand first on the tape, in the order of the layout: their numbers are those of the tensors.
        let name = |operation: &str| -> Option<String> {
            let index: usize = operation.strip_prefix("the gradient of variable ")?.parse().ok()?;
            Some(format!("the gradient of {}", self.layout.entries().get(index)?.name))
        };
        let mut named = |traced: Traced<'_>| match name(traced.operation) {
            Some(operation) => see(Traced { operation: &operation, values: traced.values }),
            None => see(traced),
        };
        self.learn(params, batch, key, Some(&mut named))
    }

    fn recycle(&self, spent: ShardGrad) {
        if Arc::ptr_eq(spent.gradient.layout(), &self.layout) {
            self.spent.give_back(spent.gradient);
        }
    }
}

/// The inputs of a batch in one row, copied where they do not lie so.
enum Flat<'a> {
    Examples(Cow<'a, [f32]>, usize),
    Tokens(Cow<'a, [u32]>, usize, usize),
}

impl<'a> Flat<'a> {
    fn of(inputs: &Inputs<'a>) -> Self {
        match inputs {
            Inputs::Examples { values, .. } => Self::Examples(row_major(values), values.nrows()),
            Inputs::Tokens(ids) => Self::Tokens(row_major(ids), ids.nrows(), ids.ncols()),
        }
    }

    fn seen(&self) -> Seen<'_> {
        match self {
            Self::Examples(values, rows) => Seen::Rows { values, rows: *rows },
            Self::Tokens(ids, rows, columns) => Seen::Tokens { ids, rows: *rows, columns: *columns },
        }
    }
}

fn row_major<'a, T: Copy>(view: &ArrayView2<'a, T>) -> Cow<'a, [T]> {
    view.to_slice().map_or_else(|| view.iter().copied().collect(), Cow::Borrowed)
}

/// What a step leaves for the next: one for each thread that was ever at it at once.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

impl<T> Pool<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give_back(&self, spent: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(spent);
    }

    fn with<R>(&self, new: impl FnOnce() -> T, use_it: impl FnOnce(&mut T) -> R) -> R {
        let mut taken = self.take().unwrap_or_else(new);
        let result = use_it(&mut taken);
        self.give_back(taken);
        result
    }
}

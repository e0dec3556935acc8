//! What a training needs of a model, and no more: no tape, clock or random state crosses this boundary, so that another engine can
//! stand behind it.

use std::sync::Arc;

use bitproof_kernels::{KernelError, StreamKey};
use ndarray::ArrayView2;

use crate::params::{ParamLayout, ParamSet, ParamSetError};
use crate::tape::TapeError;

/// A model that can be trained in shards.
///
/// Every method is a function of its arguments: the same bits on every processor, for any number of threads. Several threads call at once.
pub trait Trainable: Sync {
    /// Its tensors.
    fn layout(&self) -> &Arc<ParamLayout>;

    /// Parameters to begin with, drawn from the streams of `key`.
    fn init(&self, key: StreamKey) -> ParamSet;

    /// The sum of the losses over a shard of a batch, and its gradient. `key` is the shard's own, for what is random in the model.
    ///
    /// # Errors
    /// [`TrainableError`] when the batch does not fit the model.
    fn shard_grad(
        &self,
        params: &ParamSet,
        batch: &Batch<'_>,
        key: StreamKey,
    ) -> Result<ShardGrad, TrainableError>;

    /// The loss of every prediction and the predictions themselves, with nothing random.
    ///
    /// # Errors
    /// As [`Trainable::shard_grad`].
    fn eval(&self, params: &ParamSet, batch: &Batch<'_>) -> Result<Evaluation, TrainableError>;

    /// How many multiply-adds the forward pass of one example takes, about. The rule for the interval of step leaves weighs the cost of a
    /// digest against it.
    fn multiply_adds(&self) -> u64;

    /// [`Trainable::shard_grad`] again, showing what each operation gave, in the order in which they run: that is how the first
    /// operation is found that gave a value which is not finite, or other bits than in another run.
    ///
    /// # Errors
    /// As [`Trainable::shard_grad`].
    fn trace(
        &self,
        params: &ParamSet,
        batch: &Batch<'_>,
        key: StreamKey,
        see: &mut dyn FnMut(Traced<'_>),
    ) -> Result<ShardGrad, TrainableError> {
        let shard = self.shard_grad(params, batch, key)?;
        for (index, entry) in shard.gradient.layout().entries().iter().enumerate() {
            let operation = format!("the gradient of {}", entry.name);
            see(Traced { operation: &operation, values: shard.gradient.tensor(index) });
        }
        Ok(shard)
    }

    /// Takes back what [`Trainable::shard_grad`] gave, so that its memory serves the next step.
    fn recycle(&self, spent: ShardGrad) {
        drop(spent);
    }
}

/// What an operation gave.
#[derive(Debug, Clone, Copy)]
pub struct Traced<'a> {
    /// Which operation: its place in the order and its name.
    pub operation: &'a str,
    /// Its output, row-major.
    pub values: &'a [f32],
}

/// Examples with what is to be learned of them.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// What the model sees.
    pub inputs: Inputs<'a>,
    /// What it should say.
    pub targets: BatchTargets<'a>,
}

/// What a model sees.
#[derive(Debug, Clone, Copy)]
pub enum Inputs<'a> {
    /// A row of numbers an example.
    Examples {
        /// The shape of an example; a row holds it row-major.
        shape: &'a [usize],
        /// (examples, elements of an example).
        values: ArrayView2<'a, f32>,
    },
    /// A row of tokens an example: (examples, window).
    Tokens(ArrayView2<'a, u32>),
}

/// What a model should say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BatchTargets<'a> {
    /// The class of each example; for tokens the one that follows each token, row after row.
    Classes(&'a [u32]),
    /// A number for each example.
    Values(&'a [f32]),
}

impl BatchTargets<'_> {
    /// How many predictions the losses are about.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(labels) => labels.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The gradient of a shard: sums, so that shards of different sizes add up to the batch.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardGrad {
    /// The gradient of the sum of the losses.
    pub gradient: ParamSet,
    /// The sum of the losses, each as f64, in the tree of [`bitproof_kernels::sum_f64`].
    pub loss: f64,
    /// How many losses there are.
    pub count: u64,
}

/// What a model says of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The loss of each prediction.
    pub losses: Vec<f32>,
    /// The predictions.
    pub predictions: Predictions,
}

/// What a model predicts.
#[derive(Debug, Clone, PartialEq)]
pub enum Predictions {
    /// The class of each: the first with the largest score.
    Classes(Vec<u32>),
    /// The number of each.
    Values(Vec<f32>),
}

/// A batch that does not fit a model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrainableError {
    /// The examples have another shape.
    #[error("the model takes examples of the shape {expected:?}, the data has {got:?}")]
    Shape {
        /// What the model takes.
        expected: Vec<usize>,
        /// What the batch has.
        got: Vec<usize>,
    },
    /// The data is of another kind.
    #[error("the model takes {expected}, the data has {got}")]
    Kind {
        /// What the model takes.
        expected: &'static str,
        /// What the data has.
        got: &'static str,
    },
    /// The parameters are not this model's.
    #[error(transparent)]
    Params(#[from] ParamSetError),
    /// An operation refused its operands.
    #[error(transparent)]
    Tape(#[from] TapeError),
    /// A kernel refused its operands.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

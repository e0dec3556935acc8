//! Linear regression: `torch.nn.Linear(inputs, 1)` and the squared error.

use bitproof_kernels::{kaiming_uniform, Stream, StreamKey};

use super::architecture::{Architecture, Head, Seen, Takes, Weights};
use crate::params::ParamSet;
use crate::tape::{Tape, TapeError, Var};

/// `weight` (outputs, inputs), then `bias` (outputs), drawn in this order.
pub(crate) struct Linear {
    inputs: usize,
    outputs: usize,
    head: Head,
}

impl Linear {
    /// Linear regression on examples of this shape.
    pub(crate) fn regression(shape: &[usize]) -> Self {
        Self::new(shape, 1, Head::Value)
    }

    pub(super) fn new(shape: &[usize], outputs: usize, head: Head) -> Self {
        Self { inputs: shape.iter().product(), outputs, head }
    }
}

impl Architecture for Linear {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        vec![("weight".to_owned(), vec![self.outputs, self.inputs]), ("bias".to_owned(), vec![self.outputs])]
    }

    fn init(&self, params: &mut ParamSet, key: StreamKey) {
        let mut stream = Stream::new(key);
        for name in ["weight", "bias"] {
            kaiming_uniform(self.inputs, params.get_mut(name), &mut stream);
        }
    }

    fn takes(&self) -> Takes<'_> {
        Takes::Examples(std::slice::from_ref(&self.inputs))
    }

    fn head(&self) -> Head {
        self.head
    }

    fn scores<'p>(
        &'p self,
        tape: &mut Tape<'p>,
        weights: &Weights<'_>,
        seen: Seen<'p>,
        _: Option<StreamKey>,
    ) -> Result<Var, TapeError> {
        let x = seen.examples(tape, &[self.inputs])?;
        tape.linear(x, weights.get("weight"), Some(weights.get("bias")))
    }

    fn multiply_adds(&self) -> u64 {
        self.inputs as u64 * self.outputs as u64
    }
}

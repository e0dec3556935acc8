//! Softmax and its logarithm over the last axis.

use bitproof_kernels::{log_softmax_grad_into, log_softmax_into, softmax_grad_into, softmax_into};

use super::super::{Gradients, Operation, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// `exp(x) / Σ exp(x)` over the last axis, in f64 as [`softmax_into`] says; backwards as [`softmax_grad_into`].
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn softmax(&mut self, x: Var) -> Result<Var, TapeError> {
        self.normalise(x, false)
    }

    /// `x − ln Σ exp(x)` over the last axis, in f64 as [`log_softmax_into`] says; backwards as [`log_softmax_grad_into`].
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn log_softmax(&mut self, x: Var) -> Result<Var, TapeError> {
        self.normalise(x, true)
    }

    fn normalise(&mut self, x: Var, logarithm: bool) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let mut elements = self.buffer(shape.elements());
        let kernel = if logarithm { log_softmax_into } else { softmax_into };
        kernel(self.values().matrix(x), shape.as_matrix_mut(&mut elements))?;
        let y = self.next();
        Ok(self.record(shape, elements, &[x], Softmax { x, y, logarithm }))
    }
}

struct Softmax {
    x: Var,
    y: Var,
    logarithm: bool,
}

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        if self.logarithm {
            "log_softmax"
        } else {
            "softmax"
        }
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let shape = values.shape(self.y);
        let kernel = if self.logarithm { log_softmax_grad_into } else { softmax_grad_into };
        gradients.fill(self.x, dy.len(), |dx| {
            Ok(kernel(values.matrix(self.y), shape.as_matrix(&dy), shape.as_matrix_mut(dx))?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

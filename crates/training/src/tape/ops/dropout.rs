//! Dropout from a counter stream: an element's fate depends on its place alone.

use bitproof_kernels::{dropout_grad_into, dropout_into, Dropout, StreamKey};
use ndarray::{ArrayView1, ArrayViewMut1};

use super::super::{Gradients, Operation, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// Zeroes each element with probability `p`, and divides the others by `1 − p` (one f32 factor), by word `i` of the stream of `key`
    /// (Srivastava et al. 2014).
    ///
    /// # Errors
    /// None for values of a tape.
    ///
    /// # Panics
    /// When `p` is not in `[0, 1)`.
    pub fn dropout(&mut self, x: Var, p: f32, key: StreamKey) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let dropout = Dropout::new(key, p);
        let mut y = self.buffer(shape.elements());
        dropout_into(&dropout, ArrayView1::from(self.value(x)), ArrayViewMut1::from(&mut y))?;
        Ok(self.record(shape, y, &[x], Dropped { x, dropout }))
    }
}

struct Dropped {
    x: Var,
    dropout: Dropout,
}

impl Operation for Dropped {
    fn name(&self) -> &'static str {
        "dropout"
    }
    fn backward(
        self: Box<Self>,
        _: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        gradients.fill(self.x, dy.len(), |dx| {
            Ok(dropout_grad_into(&self.dropout, ArrayView1::from(&dy), ArrayViewMut1::from(dx))?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

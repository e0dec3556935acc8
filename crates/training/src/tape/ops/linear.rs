//! Linear layers.

use bitproof_kernels::{matmul_into, sum_axis_into, Start};
use ndarray::{ArrayViewMut1, Axis};

use super::super::{Gradients, Operation, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// `y = x Wᵀ + b`, as `torch.nn.Linear`: `x` is (…, inputs), `weight` (outputs, inputs), `bias` (outputs), `y` (…, outputs).
    ///
    /// Each element is one chain of fused multiply-adds over the inputs in rising order, from the bias (or `+0`). Backwards `dW = dyᵀ x` and
    /// `db` (the sum of `dy` over its rows, by the kernel's tree) come before `dx = dy W`.
    ///
    /// # Errors
    /// [`TapeError`] when the shapes do not fit.
    pub fn linear(&mut self, x: Var, weight: Var, bias: Option<Var>) -> Result<Var, TapeError> {
        let of = |var| self.shape(var);
        let (inputs, weights) = (of(x), of(weight));
        let refused =
            |expected, got: &[usize]| TapeError::Shape { operation: "linear", expected, got: got.to_vec() };
        if weights.len() != 2 || inputs.is_empty() || inputs.columns() != weights[1] {
            return Err(refused("a weight of (outputs, inputs)", &weights));
        }
        let outputs = weights[0];
        if let Some(wrong) = bias.map(of).filter(|shape| shape[..] != [outputs]) {
            return Err(refused("a bias of (outputs)", &wrong));
        }
        let shape = inputs.with_columns(outputs)?;
        let mut y = self.buffer(shape.elements());
        let values = self.values();
        let start = bias.map_or(Start::Zero, |bias| Start::Bias(values.vector(bias)));
        matmul_into(values.matrix(x), values.matrix(weight).t(), start, shape.as_matrix_mut(&mut y))?;
        let operands = [x, weight, bias.unwrap_or(weight)];
        Ok(self.record(shape, y, &operands, Linear { x, weight, bias }))
    }
}

struct Linear {
    x: Var,
    weight: Var,
    bias: Option<Var>,
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let Linear { x, weight, bias } = *self;
        let (inputs, weights) = (values.shape(x), values.shape(weight));
        let shape = inputs.with_columns(weights[0])?;
        let g = shape.as_matrix(&dy);
        gradients.fill(weight, weights.elements(), |dw| {
            Ok(matmul_into(g.t(), values.matrix(x), Start::Zero, weights.as_matrix_mut(dw))?)
        })?;
        if let Some(bias) = bias {
            gradients.fill(bias, weights[0], |db| Ok(sum_axis_into(g, Axis(0), ArrayViewMut1::from(db))?))?;
        }
        gradients.fill(x, inputs.elements(), |dx| {
            Ok(matmul_into(g, values.matrix(weight), Start::Zero, inputs.as_matrix_mut(dx))?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

//! Functions of each element that stand between layers.

use bitproof_kernels::elementary::{unary_into, Unary};
use bitproof_kernels::{binary_in_place, relu_grad_into, relu_into, Binary};
use ndarray::{ArrayView1, ArrayViewMut1};

use super::super::{Gradients, Operation, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// `max(x, 0)`, element by element; its derivative at 0 is 0.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn relu(&mut self, x: Var) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let mut y = self.buffer(shape.elements());
        relu_into(self.value(x), &mut y)?;
        Ok(self.record(shape, y, &[x], Relu(x)))
    }

    /// The Gaussian error linear unit `x·Φ(x)`, element by element, with the kernel's order of operations.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn gelu(&mut self, x: Var) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let mut y = self.buffer(shape.elements());
        unary_into(Unary::Gelu, ArrayView1::from(self.value(x)), ArrayViewMut1::from(&mut y))?;
        Ok(self.record(shape, y, &[x], Gelu(x)))
    }
}

struct Relu(Var);

impl Operation for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let x = values.get(self.0);
        gradients.fill(self.0, x.len(), |dx| Ok(relu_grad_into(x, &dy, dx)?))?;
        gradients.give_back(dy);
        Ok(())
    }
}

struct Gelu(Var);

impl Operation for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }
    /// `dx = gelu'(x) · dy`: the kernel's derivative, then one product.
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let x = values.vector(self.0);
        gradients.fill(self.0, x.len(), |dx| {
            unary_into(Unary::GeluGrad, x, ArrayViewMut1::from(&mut *dx))?;
            Ok(binary_in_place(Binary::Mul, ArrayViewMut1::from(dx), ArrayView1::from(&dy))?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

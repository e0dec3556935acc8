//! Layer normalisation.

use bitproof_kernels::{layer_norm_grad_into, layer_norm_into};
use ndarray::ArrayViewMut1;

use super::super::{Elements, Gradients, Operation, Shape, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// Layer normalisation over the last axis (Ba, Kiros, Hinton, 2016): `x` is (…, C), `gamma` and `beta` are (C). Computed in f64, as
    /// [`layer_norm_into`] says.
    ///
    /// # Errors
    /// [`TapeError::Kernel`] when the shapes do not fit.
    pub fn layer_norm(&mut self, x: Var, gamma: Var, beta: Var, eps: f32) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let mut y = self.buffer(shape.elements());
        let mut moments = self.buffers.take(shape.rows());
        let values = self.values();
        let (g, b) = (values.vector(gamma), values.vector(beta));
        layer_norm_into(values.matrix(x), g, b, eps, shape.as_matrix_mut(&mut y), &mut moments)?;
        let moments = self.keep(Shape::new(&[shape.rows()])?, Elements::Moments(moments));
        Ok(self.record(shape, y, &[x, gamma, beta], LayerNorm { x, gamma, beta, moments }))
    }
}

struct LayerNorm {
    x: Var,
    gamma: Var,
    beta: Var,
    moments: Var,
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let shape = values.shape(self.x);
        let mut dx = gradients.buffer(shape.elements());
        let mut dgamma = gradients.buffer(shape.columns());
        let mut dbeta = gradients.buffer(shape.columns());
        layer_norm_grad_into(
            values.matrix(self.x),
            values.vector(self.gamma),
            values.moments(self.moments),
            shape.as_matrix(&dy),
            shape.as_matrix_mut(&mut dx),
            ArrayViewMut1::from(&mut dgamma),
            ArrayViewMut1::from(&mut dbeta),
        )?;
        gradients.add(self.gamma, dgamma);
        gradients.add(self.beta, dbeta);
        gradients.add(self.x, dx);
        gradients.give_back(dy);
        Ok(())
    }
}

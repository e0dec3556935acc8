//! Functions of each element that stand between layers.

use bitproof_kernels::elementary::{gelu_with_grad_into, unary_into, Unary};
use bitproof_kernels::{binary_in_place, relu_grad_into, relu_into, with_float_defaults, Binary};
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

    /// The Gaussian error linear unit `x·Φ(x)`, element by element, with the kernel's order of operations. Backwards
    /// `dx = gelu'(x) · dy`: the kernel's derivative, then one product. The derivative is worked out on the way forward, where it
    /// costs next to nothing, if something learns.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn gelu(&mut self, x: Var) -> Result<Var, TapeError> {
        if !self.learns(&[x]) {
            return self.smooth(x, Unary::Gelu, Unary::GeluGrad);
        }
        let shape = self.shape(x);
        let (mut y, mut slopes) = (self.buffer(shape.elements()), self.buffer(shape.elements()));
        gelu_with_grad_into(self.value(x), &mut y, &mut slopes)?;
        // On the tape, so that its memory is kept.
        let slopes = self.record_constant(shape, slopes);
        Ok(self.record(shape, y, &[x], Gelu { x, slopes }))
    }

    /// `x · sigmoid(x)`, element by element; with the kernel's order of operations. Backwards
    /// `dx = silu'(x) · dy`: the kernel's derivative, then one product.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn silu(&mut self, x: Var) -> Result<Var, TapeError> {
        self.smooth(x, Unary::Silu, Unary::SiluGrad)
    }

    /// `1 / (1 + exp(−x))`, element by element; order and way back are as in [`Tape::silu`].
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn sigmoid(&mut self, x: Var) -> Result<Var, TapeError> {
        self.smooth(x, Unary::Sigmoid, Unary::SigmoidGrad)
    }

    /// The hyperbolic tangent, correctly rounded, element by element. Backwards `dx = (1 − y·y) · dy`, in f32.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn tanh(&mut self, x: Var) -> Result<Var, TapeError> {
        let y = self.next();
        self.unary(x, Unary::Tanh, Tanh { x, y })
    }

    fn smooth(&mut self, x: Var, function: Unary, derivative: Unary) -> Result<Var, TapeError> {
        self.unary(x, function, Smooth { x, function, derivative })
    }

    /// Records a function of each element.
    pub(super) fn unary(
        &mut self,
        x: Var,
        function: Unary,
        operation: impl Operation + 'static,
    ) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let mut y = self.buffer(shape.elements());
        unary_into(function, ArrayView1::from(self.value(x)), ArrayViewMut1::from(&mut y))?;
        Ok(self.record(shape, y, &[x], operation))
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

struct Gelu {
    x: Var,
    slopes: Var,
}

impl Operation for Gelu {
    fn name(&self) -> &'static str {
        Unary::Gelu.name()
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        mut dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        binary_in_place(Binary::Mul, ArrayViewMut1::from(&mut dy), values.vector(self.slopes))?;
        gradients.add(self.x, dy);
        Ok(())
    }
}

/// A function whose derivative is a kernel.
struct Smooth {
    x: Var,
    function: Unary,
    derivative: Unary,
}

impl Operation for Smooth {
    fn name(&self) -> &'static str {
        self.function.name()
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let x = values.vector(self.x);
        gradients.fill(self.x, x.len(), |dx| {
            unary_into(self.derivative, x, ArrayViewMut1::from(&mut *dx))?;
            Ok(binary_in_place(Binary::Mul, ArrayViewMut1::from(dx), ArrayView1::from(&dy))?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

struct Tanh {
    x: Var,
    y: Var,
}

impl Operation for Tanh {
    fn name(&self) -> &'static str {
        "tanh"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        mut dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        with_float_defaults(|| {
            dy.iter_mut().zip(values.get(self.y)).for_each(|(d, y)| *d *= 1.0 - y * y);
        });
        gradients.add(self.x, dy);
        Ok(())
    }
}

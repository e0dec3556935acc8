//! Sums and products, with broadcasting: axes are matched from the last one backwards, as in NumPy.

use bitproof_kernels::{binary_into, broadcast_shape, sum_to_shape_into, Binary};
use ndarray::{ArrayViewD, ArrayViewMutD, IxDyn};

use super::super::{Gradients, Operation, Shape, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// `a + b`.
    ///
    /// # Errors
    /// [`TapeError::Kernel`] when the shapes cannot be broadcast to one.
    pub fn add(&mut self, a: Var, b: Var) -> Result<Var, TapeError> {
        let (shape, y) = self.binary(Binary::Add, a, b)?;
        Ok(self.record(shape, y, &[a, b], Add(a, b)))
    }

    /// `a · b`.
    ///
    /// # Errors
    /// As [`Tape::add`].
    pub fn mul(&mut self, a: Var, b: Var) -> Result<Var, TapeError> {
        let (shape, y) = self.binary(Binary::Mul, a, b)?;
        Ok(self.record(shape, y, &[a, b], Mul(a, b)))
    }

    fn binary(&mut self, operation: Binary, a: Var, b: Var) -> Result<(Shape, Vec<f32>), TapeError> {
        let shape = Shape::new(&broadcast_shape(&self.shape(a), &self.shape(b))?)?;
        let mut y = self.buffer(shape.elements());
        let values = self.values();
        binary_into(operation, values.array(a), values.array(b), array_mut(&shape, &mut y))?;
        Ok((shape, y))
    }
}

fn array<'a>(shape: &Shape, elements: &'a [f32]) -> ArrayViewD<'a, f32> {
    ArrayViewD::from_shape(IxDyn(shape), elements).expect("a value fills its shape")
}

fn array_mut<'a>(shape: &Shape, elements: &'a mut [f32]) -> ArrayViewMutD<'a, f32> {
    ArrayViewMutD::from_shape(IxDyn(shape), elements).expect("a value fills its shape")
}

/// Adds to the gradient of an operand that was broadcast to `from`: the sum over what its elements were repeated to.
fn add_summed(
    values: &Values<'_, '_>,
    gradients: &mut Gradients<'_, '_>,
    var: Var,
    from: &Shape,
    dy: &[f32],
) -> Result<(), TapeError> {
    let shape = values.shape(var);
    gradients.fill(var, shape.elements(), |dx| Ok(sum_to_shape_into(array(from, dy), array_mut(&shape, dx))?))
}

struct Add(Var, Var);

impl Operation for Add {
    fn name(&self) -> &'static str {
        "add"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let (a, b) = (values.shape(self.0), values.shape(self.1));
        let whole = Shape::new(&broadcast_shape(&a, &b)?)?;
        if b == whole {
            gradients.fill(self.1, dy.len(), |db| {
                db.copy_from_slice(&dy);
                Ok(())
            })?;
        } else {
            add_summed(values, gradients, self.1, &whole, &dy)?;
        }
        if a == whole {
            gradients.add(self.0, dy);
        } else {
            add_summed(values, gradients, self.0, &whole, &dy)?;
            gradients.give_back(dy);
        }
        Ok(())
    }
}

struct Mul(Var, Var);

impl Operation for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }
    /// `db = Σ dy · a`, then `da = Σ dy · b`, the sums over what was broadcast.
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let Mul(a, b) = *self;
        let whole = Shape::new(&broadcast_shape(&values.shape(a), &values.shape(b))?)?;
        for (var, other) in [(b, a), (a, b)] {
            if !gradients.wanted(var) {
                continue;
            }
            let mut product = gradients.buffer(dy.len());
            let dy = array(&whole, &dy);
            binary_into(Binary::Mul, dy, values.array(other), array_mut(&whole, &mut product))?;
            if values.shape(var) == whole {
                gradients.add(var, product);
            } else {
                add_summed(values, gradients, var, &whole, &product)?;
                gradients.give_back(product);
            }
        }
        gradients.give_back(dy);
        Ok(())
    }
}

//! Exponentials, logarithms and roots of each element.

use bitproof_kernels::elementary::Unary;
use bitproof_kernels::{binary_in_place, with_float_defaults, Binary};
use ndarray::ArrayViewMut1;

use super::super::{Gradients, Operation, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// `eˣ`, correctly rounded; backwards `dx = dy · y`.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn exp(&mut self, x: Var) -> Result<Var, TapeError> {
        let y = self.next();
        self.unary(x, Unary::Exp, Elementary { x, y, function: Function::Exp })
    }

    /// The natural logarithm, correctly rounded, NaN below 0; backwards `dx = dy / x`.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn log(&mut self, x: Var) -> Result<Var, TapeError> {
        let y = self.next();
        self.unary(x, Unary::Log, Elementary { x, y, function: Function::Log })
    }

    /// `√x`, one IEEE operation, NaN below 0; backwards `dx = (½ · dy) / y`.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn sqrt(&mut self, x: Var) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let mut root = self.buffer(shape.elements());
        let x_elements = self.value(x);
        with_float_defaults(|| root.iter_mut().zip(x_elements).for_each(|(y, x)| *y = x.sqrt()));
        let y = self.next();
        Ok(self.record(shape, root, &[x], Elementary { x, y, function: Function::Sqrt }))
    }

    /// `1/√x`, correctly rounded, NaN below 0; backwards `dx = (−½ · dy) · ((y · y) · y)`.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn rsqrt(&mut self, x: Var) -> Result<Var, TapeError> {
        let y = self.next();
        self.unary(x, Unary::Rsqrt, Elementary { x, y, function: Function::Rsqrt })
    }
}

#[derive(Clone, Copy)]
enum Function {
    Exp,
    Log,
    Sqrt,
    Rsqrt,
}

/// A function whose derivative follows from its argument or its value.
struct Elementary {
    x: Var,
    y: Var,
    function: Function,
}

impl Operation for Elementary {
    fn name(&self) -> &'static str {
        match self.function {
            Function::Exp => "exp",
            Function::Log => "log",
            Function::Sqrt => "sqrt",
            Function::Rsqrt => "rsqrt",
        }
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        mut dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let Elementary { x, y, function } = *self;
        let dx = ArrayViewMut1::from(&mut dy);
        match function {
            Function::Exp => binary_in_place(Binary::Mul, dx, values.vector(y))?,
            Function::Log => binary_in_place(Binary::Div, dx, values.vector(x))?,
            Function::Sqrt => of_each(dx, values.get(y), |dy, y| (0.5 * dy) / y),
            Function::Rsqrt => of_each(dx, values.get(y), |dy, y| (-0.5 * dy) * ((y * y) * y)),
        }
        gradients.add(x, dy);
        Ok(())
    }
}

fn of_each(mut dx: ArrayViewMut1<'_, f32>, y: &[f32], derivative: impl Fn(f32, f32) -> f32) {
    with_float_defaults(|| dx.iter_mut().zip(y).for_each(|(d, &y)| *d = derivative(*d, y)));
}

//! Sums, differences, products and quotients, with broadcasting: axes are matched from the last one backwards, as in NumPy.
//!
//! The gradient of an operand that was broadcast is the sum over what its elements were repeated to, by the rule of
//! [`sum_to_shape_into`]; below this is `Σ`. It is no operation where nothing was repeated. The second operand's gradient comes before the
//! first one's.

use bitproof_kernels::{
    binary_in_place, binary_into, broadcast_shape, scale_in_place, sum_to_shape_into, Binary,
};
use ndarray::{aview0, ArrayView1, ArrayViewMut1};

use super::super::{Gradients, Operation, Shape, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// `a + b`; backwards `db = Σ dy`, then `da = Σ dy`.
    ///
    /// # Errors
    /// [`TapeError::Kernel`] when the shapes cannot be broadcast to one.
    pub fn add(&mut self, a: Var, b: Var) -> Result<Var, TapeError> {
        let (shape, y) = self.binary(Binary::Add, a, b)?;
        Ok(self.record(shape, y, &[a, b], Add { a, b, shape }))
    }

    /// `a − b`; backwards `db = −Σ dy`, then `da = Σ dy`.
    ///
    /// # Errors
    /// As [`Tape::add`].
    pub fn sub(&mut self, a: Var, b: Var) -> Result<Var, TapeError> {
        let (shape, y) = self.binary(Binary::Sub, a, b)?;
        Ok(self.record(shape, y, &[a, b], Sub { a, b, shape }))
    }

    /// `a · b`; backwards `db = Σ dy · a`, then `da = Σ dy · b`.
    ///
    /// # Errors
    /// As [`Tape::add`].
    pub fn mul(&mut self, a: Var, b: Var) -> Result<Var, TapeError> {
        let (shape, y) = self.binary(Binary::Mul, a, b)?;
        Ok(self.record(shape, y, &[a, b], Mul { a, b, shape }))
    }

    /// `a / b`; backwards `db = −Σ (dy · y) / b`, then `da = Σ dy / b`.
    ///
    /// # Errors
    /// As [`Tape::add`].
    pub fn div(&mut self, a: Var, b: Var) -> Result<Var, TapeError> {
        let (shape, y) = self.binary(Binary::Div, a, b)?;
        let quotient = self.next();
        Ok(self.record(shape, y, &[a, b], Div { a, b, quotient }))
    }

    /// `−x`; backwards `dx = −dy`.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn neg(&mut self, x: Var) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let mut y = self.buffer(shape.elements());
        y.iter_mut().zip(self.value(x)).for_each(|(y, x)| *y = -x);
        Ok(self.record(shape, y, &[x], Neg(x)))
    }

    /// `x · factor`; backwards `dx = dy · factor`.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn scale(&mut self, x: Var, factor: f32) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let mut y = self.buffer(shape.elements());
        let x_elements = ArrayView1::from(self.value(x));
        binary_into(Binary::Mul, x_elements, aview0(&factor), ArrayViewMut1::from(&mut y))?;
        Ok(self.record(shape, y, &[x], Scale { x, factor }))
    }

    fn binary(&mut self, operation: Binary, a: Var, b: Var) -> Result<(Shape, Vec<f32>), TapeError> {
        let shape = Shape::new(&broadcast_shape(&self.shape(a), &self.shape(b))?)?;
        let mut y = self.buffer(shape.elements());
        let values = self.values();
        binary_into(operation, values.array(a), values.array(b), shape.as_array_mut(&mut y))?;
        Ok((shape, y))
    }
}

fn negate(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = -*value);
}

/// Adds to the gradient of an operand that was broadcast to `from`: the sum of `dy` over what its elements were repeated to.
pub(super) fn add_summed(
    values: &Values<'_, '_>,
    gradients: &mut Gradients<'_, '_>,
    var: Var,
    from: &Shape,
    dy: &[f32],
) -> Result<(), TapeError> {
    fill_summed(values, gradients, var, from, dy, |_| {})
}

/// [`add_summed`], where `finish` changes the sums.
fn fill_summed(
    values: &Values<'_, '_>,
    gradients: &mut Gradients<'_, '_>,
    var: Var,
    from: &Shape,
    dy: &[f32],
    finish: impl FnOnce(&mut [f32]),
) -> Result<(), TapeError> {
    let shape = values.shape(var);
    gradients.fill(var, shape.elements(), |dx| {
        if shape == *from {
            dx.copy_from_slice(dy);
        } else {
            sum_to_shape_into(from.as_array(dy), shape.as_array_mut(dx))?;
        }
        finish(dx);
        Ok(())
    })
}

/// Adds to the gradient of an operand what `compute` writes for each element of the result, summed as in [`add_summed`] and then
/// changed by `finish`; without a copy where nothing was repeated.
fn fill_computed(
    values: &Values<'_, '_>,
    gradients: &mut Gradients<'_, '_>,
    var: Var,
    whole: &Shape,
    compute: impl FnOnce(&mut [f32]) -> Result<(), TapeError>,
    finish: impl FnOnce(&mut [f32]),
) -> Result<(), TapeError> {
    if values.shape(var) == *whole {
        return gradients.fill(var, whole.elements(), |dx| {
            compute(dx)?;
            finish(dx);
            Ok(())
        });
    }
    if !gradients.wanted(var) {
        return Ok(());
    }
    let mut each = gradients.buffer(whole.elements());
    compute(&mut each)?;
    fill_summed(values, gradients, var, whole, &each, finish)?;
    gradients.give_back(each);
    Ok(())
}

/// Hands `dy` on to an operand, its memory too where it can.
pub(super) fn pass_on(
    values: &Values<'_, '_>,
    gradients: &mut Gradients<'_, '_>,
    var: Var,
    from: &Shape,
    dy: Vec<f32>,
) -> Result<(), TapeError> {
    if values.shape(var) == *from {
        gradients.add(var, dy);
    } else {
        add_summed(values, gradients, var, from, &dy)?;
        gradients.give_back(dy);
    }
    Ok(())
}

struct Add {
    a: Var,
    b: Var,
    shape: Shape,
}

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
        add_summed(values, gradients, self.b, &self.shape, &dy)?;
        pass_on(values, gradients, self.a, &self.shape, dy)
    }
}

struct Sub {
    a: Var,
    b: Var,
    shape: Shape,
}

impl Operation for Sub {
    fn name(&self) -> &'static str {
        "sub"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        fill_summed(values, gradients, self.b, &self.shape, &dy, negate)?;
        pass_on(values, gradients, self.a, &self.shape, dy)
    }
}

struct Mul {
    a: Var,
    b: Var,
    shape: Shape,
}

impl Operation for Mul {
    fn name(&self) -> &'static str {
        "mul"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let Mul { a, b, shape } = *self;
        for (var, other) in [(b, a), (a, b)] {
            let product = |each: &mut [f32]| {
                let other = values.array(other);
                Ok(binary_into(Binary::Mul, shape.as_array(&dy), other, shape.as_array_mut(each))?)
            };
            fill_computed(values, gradients, var, &shape, product, |_| {})?;
        }
        gradients.give_back(dy);
        Ok(())
    }
}

struct Div {
    a: Var,
    b: Var,
    quotient: Var,
}

impl Operation for Div {
    fn name(&self) -> &'static str {
        "div"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        mut dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let Div { a, b, quotient } = *self;
        let shape = values.shape(quotient);
        let of_divisor = |each: &mut [f32]| {
            binary_into(Binary::Mul, shape.as_array(&dy), values.array(quotient), shape.as_array_mut(each))?;
            Ok(binary_in_place(Binary::Div, shape.as_array_mut(each), values.array(b))?)
        };
        fill_computed(values, gradients, b, &shape, of_divisor, negate)?;
        binary_in_place(Binary::Div, shape.as_array_mut(&mut dy), values.array(b))?;
        pass_on(values, gradients, a, &shape, dy)
    }
}

struct Neg(Var);

impl Operation for Neg {
    fn name(&self) -> &'static str {
        "neg"
    }
    fn backward(
        self: Box<Self>,
        _: &Values<'_, '_>,
        mut dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        negate(&mut dy);
        gradients.add(self.0, dy);
        Ok(())
    }
}

struct Scale {
    x: Var,
    factor: f32,
}

impl Operation for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }
    fn backward(
        self: Box<Self>,
        _: &Values<'_, '_>,
        mut dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        scale_in_place(self.factor, ArrayViewMut1::from(&mut dy));
        gradients.add(self.x, dy);
        Ok(())
    }
}

//! The same elements, arranged in another way: no arithmetic but the sums of what was repeated.

use super::super::{Elements, Gradients, Node, Operation, Shape, Tape, TapeError, Values, Var, MAX_AXES};
use super::arithmetic::pass_on;

impl Tape<'_> {
    /// The same elements in another shape. Nothing is copied.
    ///
    /// # Errors
    /// [`TapeError::Elements`] when it has not as many.
    pub fn reshape(&mut self, x: Var, shape: Shape) -> Result<Var, TapeError> {
        let elements = self.shape(x).elements();
        if shape.elements() != elements {
            return Err(TapeError::Elements { expected: shape.elements(), got: elements });
        }
        let learns = self.learns(&[x]);
        let operation = learns.then(|| Box::new(Reshape(x)) as _);
        Ok(self.add_node(Node { shape, elements: Elements::Of(x), operation, learns, gradient: None }))
    }

    /// The axes in another order: axis `i` of the result is axis `axes[i]` of `x`.
    ///
    /// # Errors
    /// [`TapeError::Shape`] when `axes` does not name every axis once.
    pub fn permute(&mut self, x: Var, axes: &[usize]) -> Result<Var, TapeError> {
        let from = self.shape(x);
        let once = axes.len() == from.len() && (0..from.len()).all(|axis| axes.contains(&axis));
        if !once {
            let (operation, expected) = ("permute", "every axis once, counted from 0");
            return Err(TapeError::Shape { operation, expected, got: axes.to_vec() });
        }
        let mut order = [0; MAX_AXES];
        order[..axes.len()].copy_from_slice(axes);
        let mut lengths = [0; MAX_AXES];
        lengths.iter_mut().zip(axes).for_each(|(length, &axis)| *length = from[axis]);
        let shape = Shape::new(&lengths[..axes.len()])?;
        let mut y = self.buffer(shape.elements());
        let permuted = self.values().array(x).permuted_axes(axes);
        shape.as_array_mut(&mut y).assign(&permuted);
        Ok(self.record(shape, y, &[x], Permute { x, order, shape }))
    }

    /// `x` repeated to `shape`, whose axes are matched from the last one backwards, as in NumPy. Backwards the sum over what an element was
    /// repeated to, by the rule of [`bitproof_kernels::sum_to_shape_into`].
    ///
    /// # Errors
    /// [`TapeError::Shape`] when an axis has neither the length of `shape` nor 1.
    pub fn broadcast_to(&mut self, x: Var, shape: Shape) -> Result<Var, TapeError> {
        let from = self.shape(x);
        let behind = shape.len().checked_sub(from.len()).map(|first| &shape[first..]);
        if !behind.is_some_and(|to| from.iter().zip(to).all(|(&from, &to)| from == to || from == 1)) {
            let (operation, expected) = ("broadcast_to", "axes of the new length, or of length 1");
            return Err(TapeError::Shape { operation, expected, got: from.to_vec() });
        }
        let mut y = self.buffer(shape.elements());
        shape.as_array_mut(&mut y).assign(&self.values().array(x));
        Ok(self.record(shape, y, &[x], BroadcastTo { x, shape }))
    }
}

struct Reshape(Var);

impl Operation for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }
    fn backward(
        self: Box<Self>,
        _: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        gradients.add(self.0, dy);
        Ok(())
    }
}

struct Permute {
    x: Var,
    order: [usize; MAX_AXES],
    shape: Shape,
}

impl Operation for Permute {
    fn name(&self) -> &'static str {
        "permute"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let from = values.shape(self.x);
        gradients.fill(self.x, dy.len(), |dx| {
            let mut permuted = from.as_array_mut(dx).permuted_axes(&self.order[..from.len()]);
            permuted.assign(&self.shape.as_array(&dy));
            Ok(())
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

struct BroadcastTo {
    x: Var,
    shape: Shape,
}

impl Operation for BroadcastTo {
    fn name(&self) -> &'static str {
        "broadcast_to"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        pass_on(values, gradients, self.x, &self.shape, dy)
    }
}

//! One of two values, element by element.

use bitproof_kernels::broadcast_shape;
use ndarray::{ArrayView, IxDyn, Zip};

use super::super::{Gradients, Operation, Shape, Tape, TapeError, Values, Var};
use super::arithmetic::pass_on;

impl<'p> Tape<'p> {
    /// `mask ? a : b`, element by element: `where` of other libraries. `a` and `b` are broadcast as in [`Tape::add`], and `mask` has an
    /// element for each of the result, row-major. Backwards `db = Σ (mask ? +0 : dy)`, then `da = Σ (mask ? dy : +0)`, the sums over what was
    /// broadcast.
    ///
    /// # Errors
    /// [`TapeError::Kernel`] when the shapes cannot be broadcast to one, [`TapeError::Elements`] when the mask does not fill it.
    pub fn select(&mut self, mask: &'p [bool], a: Var, b: Var) -> Result<Var, TapeError> {
        let shape = Shape::new(&broadcast_shape(&self.shape(a), &self.shape(b))?)?;
        if mask.len() != shape.elements() {
            return Err(TapeError::Elements { expected: shape.elements(), got: mask.len() });
        }
        let mut y = self.buffer(shape.elements());
        let values = self.values();
        let (of_a, of_b) = (values.array(a), values.array(b));
        let repeated = "the shapes were compared";
        Zip::from(shape.as_array_mut(&mut y))
            .and(ArrayView::from_shape(IxDyn(&shape), mask).expect("the mask was counted"))
            .and(of_a.broadcast(IxDyn(&shape)).expect(repeated))
            .and(of_b.broadcast(IxDyn(&shape)).expect(repeated))
            .for_each(|y, &first, &a, &b| *y = if first { a } else { b });
        Ok(self.record(shape, y, &[a, b], Select { mask, a, b, shape }))
    }
}

struct Select<'p> {
    mask: &'p [bool],
    a: Var,
    b: Var,
    shape: Shape,
}

impl Operation for Select<'_> {
    fn name(&self) -> &'static str {
        "select"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        for (var, chosen) in [(self.b, false), (self.a, true)] {
            if !gradients.wanted(var) {
                continue;
            }
            let mut share = gradients.buffer(dy.len());
            for ((share, &dy), &first) in share.iter_mut().zip(&dy).zip(self.mask) {
                *share = if first == chosen { dy } else { 0.0 };
            }
            pass_on(values, gradients, var, &self.shape, share)?;
        }
        gradients.give_back(dy);
        Ok(())
    }
}

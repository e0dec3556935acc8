//! Pooling of images.

use bitproof_kernels::{
    avg_pool2d_grad_into, avg_pool2d_into, max_pool2d_grad_into, max_pool2d_into, AverageOver, Pool2d,
};
use ndarray::{ArrayView4, ArrayViewMut4};

use super::super::{Elements, Gradients, Operation, Shape, Tape, TapeError, Values, Var};
use super::conv::{images, view, view_mut};

impl Tape<'_> {
    /// The largest element under each window: `x` is (N, C, H, W). Of equal ones the first in row-major order gets the gradient.
    ///
    /// # Errors
    /// [`TapeError`] when the window does not fit into the image.
    pub fn max_pool2d(&mut self, x: Var, pool: Pool2d) -> Result<Var, TapeError> {
        let image = images("max_pool2d", self.shape(x))?;
        let output = places(image, &pool);
        let shape = Shape::new(&output)?;
        let mut y = self.buffer(shape.elements());
        let mut indices = self.buffers.take(shape.elements());
        let places = ArrayViewMut4::from_shape(output, &mut indices).expect("an index for each element");
        max_pool2d_into(view(image, self.value(x)), &pool, view_mut(output, &mut y), places)?;
        let indices = self.keep(shape, Elements::Indices(indices));
        Ok(self.record(shape, y, &[x], MaxPool { x, indices, output }))
    }

    /// The average under each window: `x` is (N, C, H, W). One chain of additions and one quotient, as [`avg_pool2d_into`] says; backwards
    /// each element adds its windows' `dy / count` in row-major order.
    ///
    /// # Errors
    /// [`TapeError`] when the window does not fit into the image.
    pub fn avg_pool2d(&mut self, x: Var, pool: Pool2d, over: AverageOver) -> Result<Var, TapeError> {
        let image = images("avg_pool2d", self.shape(x))?;
        let output = places(image, &pool);
        let shape = Shape::new(&output)?;
        let mut y = self.buffer(shape.elements());
        avg_pool2d_into(view(image, self.value(x)), &pool, over, view_mut(output, &mut y))?;
        Ok(self.record(shape, y, &[x], AveragePool { x, pool, over, output }))
    }
}

/// The shape of what a window gives on images.
pub(super) fn places(image: [usize; 4], pool: &Pool2d) -> [usize; 4] {
    let along = |axis: usize| {
        let padded = image[axis] + 2 * pool.padding[axis - 2];
        padded.checked_sub(pool.window[axis - 2]).map_or(0, |n| n / pool.stride[axis - 2].max(1) + 1)
    };
    [image[0], image[1], along(2), along(3)]
}

struct MaxPool {
    x: Var,
    indices: Var,
    output: [usize; 4],
}

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let image = images("max_pool2d", values.shape(self.x))?;
        let indices = ArrayView4::from_shape(self.output, values.indices(self.indices));
        let indices = indices.expect("an index for each element");
        gradients.fill(self.x, image.iter().product(), |dx| {
            Ok(max_pool2d_grad_into(view(self.output, &dy), indices, view_mut(image, dx))?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

struct AveragePool {
    x: Var,
    pool: Pool2d,
    over: AverageOver,
    output: [usize; 4],
}

impl Operation for AveragePool {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let AveragePool { x, pool, over, output } = *self;
        let image = images("avg_pool2d", values.shape(x))?;
        gradients.fill(x, image.iter().product(), |dx| {
            Ok(avg_pool2d_grad_into(view(output, &dy), &pool, over, view_mut(image, dx))?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

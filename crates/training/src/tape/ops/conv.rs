//! Convolution of images.

use bitproof_kernels::{
    conv2d_bias_grad_into, conv2d_input_grad_into, conv2d_into, conv2d_weight_grad_into, Conv2d,
};
use ndarray::{ArrayView4, ArrayViewMut1, ArrayViewMut4};

use super::super::{Gradients, Operation, Shape, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// Cross-correlation as `torch.nn.Conv2d`: `x` is (N, C, H, W), `weight` (O, C, KH, KW), `bias` (O), the result (N, O, OH, OW) with
    /// `OH = ⌊(H + 2·padding − KH)/stride⌋ + 1`. The order is that of [`conv2d_into`].
    ///
    /// # Errors
    /// [`TapeError`] when the shapes do not fit.
    pub fn conv2d(&mut self, x: Var, weight: Var, bias: Var, conv: Conv2d) -> Result<Var, TapeError> {
        let (image, kernel) = (images("conv2d", self.shape(x))?, images("conv2d", self.shape(weight))?);
        let places = |axis: usize| {
            let padded = image[axis] + 2 * conv.padding[axis - 2];
            padded.checked_sub(kernel[axis]).map_or(0, |n| n / conv.stride[axis - 2].max(1) + 1)
        };
        let shape = Shape::new(&[image[0], kernel[0], places(2), places(3)])?;
        let mut y = self.buffer(shape.elements());
        let values = self.values();
        let (input, w) = (view(image, values.get(x)), view(kernel, values.get(weight)));
        let into = view_mut([shape[0], shape[1], shape[2], shape[3]], &mut y);
        conv2d_into(input, w, Some(values.vector(bias)), &conv, into)?;
        let output = [shape[0], shape[1], shape[2], shape[3]];
        Ok(self.record(shape, y, &[x, weight, bias], Convolution { x, weight, bias, conv, output }))
    }
}

/// The four axes of images.
pub(super) fn images(operation: &'static str, shape: Shape) -> Result<[usize; 4], TapeError> {
    let expected = "images of (images, channels, height, width)";
    shape[..].try_into().map_err(|_| TapeError::Shape { operation, expected, got: shape.to_vec() })
}

pub(super) fn view(shape: [usize; 4], elements: &[f32]) -> ArrayView4<'_, f32> {
    ArrayView4::from_shape(shape, elements).expect("a value fills its shape")
}

pub(super) fn view_mut(shape: [usize; 4], elements: &mut [f32]) -> ArrayViewMut4<'_, f32> {
    ArrayViewMut4::from_shape(shape, elements).expect("a value fills its shape")
}

struct Convolution {
    x: Var,
    weight: Var,
    bias: Var,
    conv: Conv2d,
    output: [usize; 4],
}

impl Operation for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let Convolution { x, weight, bias, conv, output } = *self;
        let (image, kernel) = (images("conv2d", values.shape(x))?, images("conv2d", values.shape(weight))?);
        let g = view(output, &dy);
        gradients.fill(weight, kernel.iter().product(), |dw| {
            Ok(conv2d_weight_grad_into(view(image, values.get(x)), g, &conv, view_mut(kernel, dw))?)
        })?;
        gradients.fill(bias, kernel[0], |db| Ok(conv2d_bias_grad_into(g, ArrayViewMut1::from(db))?))?;
        gradients.fill(x, image.iter().product(), |dx| {
            Ok(conv2d_input_grad_into(g, view(kernel, values.get(weight)), &conv, view_mut(image, dx))?)
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

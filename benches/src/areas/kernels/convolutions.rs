//! Convolutions of digits and of the middle of a larger network, forward and backward.

use bitproof_kernels::{conv2d_input_grad_into, conv2d_into, conv2d_weight_grad_into, Conv2d};
use ndarray::Array4;

use super::case::{pieces, Case};
use super::Emit;
use crate::harness::{Harness, Unrepeatable};
use crate::inputs::{self, Convolution, CONVOLUTIONS};

pub(super) fn run(harness: &Harness<'_>, peak: f64, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for shape in CONVOLUTIONS {
        all_three(harness, shape, peak, emit)?;
    }
    Ok(())
}

fn all_three(
    harness: &Harness<'_>,
    shape: Convolution,
    peak: f64,
    emit: &mut Emit<'_>,
) -> Result<(), Unrepeatable> {
    let Convolution { batch, channels, side, outputs, kernel, padding } = shape;
    let conv = Conv2d { stride: [1, 1], padding: [padding, padding] };
    let places = shape.places();
    let x = inputs::tensor((batch, channels, side, side), b"images  ");
    let weight = inputs::tensor((outputs, channels, kernel, kernel), b"weights ");
    let bias = inputs::tensor(outputs, b"bias    ");
    let dy = inputs::tensor((batch, outputs, places, places), b"gradient");
    let case = |name: &str| {
        let sizes = format!("{batch}x{channels}x{side}x{side}-{outputs}-{kernel}x{kernel}");
        Case::new(format!("{name}/{sizes}"), shape.operations(), "flop")
            .asking(name, &[batch, channels, side, outputs, kernel, padding])
            .of_peak(peak)
    };
    let result = |array: &mut Array4<f32>| pieces(&*array);
    let forward = |y: &mut Array4<f32>| {
        conv2d_into(x.view(), weight.view(), Some(bias.view()), &conv, y.view_mut()).expect("the shapes fit");
    };
    case("conv2d").measure(harness, Array4::zeros(dy.dim()), forward, result, emit)?;
    let to_input = |dx: &mut Array4<f32>| {
        conv2d_input_grad_into(dy.view(), weight.view(), &conv, dx.view_mut()).expect("the shapes fit");
    };
    case("conv2d_input_grad").measure(harness, Array4::zeros(x.dim()), to_input, result, emit)?;
    let to_weight = |dw: &mut Array4<f32>| {
        conv2d_weight_grad_into(x.view(), dy.view(), &conv, dw.view_mut()).expect("the shapes fit");
    };
    case("conv2d_weight_grad").measure(harness, Array4::zeros(weight.dim()), to_weight, result, emit)
}

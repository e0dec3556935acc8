//! What is done to every parameter or activation of a model: a step of AdamW, and dropout.

use bitproof_kernels::{adamw_step, dropout_into, AdamW, BiasCorrection, Dropout};
use ndarray::Array1;

use super::case::{pieces, Case};
use super::Emit;
use crate::harness::{Harness, Unrepeatable};
use crate::inputs;

/// Parameters: a layer in the cache, a model, and more than any cache holds.
const PARAMETERS: [usize; 3] = [4096, 1_048_576, 33_554_432];
/// Activations.
const ACTIVATIONS: usize = 1_048_576;

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for length in PARAMETERS {
        steps(harness, length, emit)?;
    }
    let x = inputs::tensor(ACTIVATIONS, b"features");
    let dropout = Dropout::new(inputs::key(b"dropout "), 0.1);
    let work = |y: &mut Array1<f32>| dropout_into(&dropout, x.view(), y.view_mut()).expect("equally long");
    Case::new(format!("dropout/{ACTIVATIONS}"), ACTIVATIONS as u64, "element")
        .asking("dropout", &[ACTIVATIONS])
        .measure(harness, Array1::zeros(ACTIVATIONS), work, |y| pieces(&*y), emit)
}

/// Parameters and their moments.
struct Model {
    param: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

/// Four numbers are read and three written for each parameter.
fn steps(harness: &Harness<'_>, length: usize, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let initial = inputs::tensor(length, b"weights ").to_vec();
    let gradient = inputs::tensor(length, b"gradient").to_vec();
    let config = AdamW::default();
    let correction = BiasCorrection::after(1, &config);
    let step = |Model { param, m, v }: &mut Model| {
        adamw_step(&config, &correction, param, &gradient, m, v).expect("equally long");
    };
    // Every repetition begins from the same model.
    let result = |Model { param, m, v }: &mut Model| {
        let digests = pieces(param.iter().chain(&*m).chain(&*v));
        param.copy_from_slice(&initial);
        m.fill(0.0);
        v.fill(0.0);
        digests
    };
    let mut case =
        Case::new(format!("adamw/{length}"), 28 * length as u64, "byte").asking("adamw", &[length]);
    case = if length > 1 << 24 { case.at_most(5) } else { case.on_elements(length) };
    let model = Model { param: initial.clone(), m: vec![0.0; length], v: vec![0.0; length] };
    case.measure(harness, model, step, result, emit)
}

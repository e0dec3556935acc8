//! What is done row by row: softmax, layer normalisation and the loss.

use bitproof_kernels::{
    layer_norm_grad_into, layer_norm_into, softmax_cross_entropy_into, softmax_into, RowMoments,
};
use ndarray::{Array1, Array2};

use super::case::{floats, pieces, Case};
use super::Emit;
use crate::harness::{Harness, Unrepeatable};
use crate::inputs::{self, SOFTMAX_SHAPES};

/// Rows and columns: a million elements in short rows and in long ones.
const SOFTMAX_ROWS: [(usize, usize); 2] = [(16_384, 64), (1024, 1024)];
/// As [`SOFTMAX_ROWS`].
const NORM_ROWS: [(usize, usize); 2] = [(8192, 128), (1024, 1024)];
/// ε of layer normalisation.
const EPS: f32 = 1e-5;

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for shape in SOFTMAX_ROWS {
        let x = inputs::matrix(shape.0, shape.1, b"logits  ");
        let work = |y: &mut Array2<f32>| softmax_into(x.view(), y.view_mut()).expect("the shapes fit");
        case("softmax", shape).measure(harness, Array2::zeros(shape), work, |y| pieces(&*y), emit)?;
    }
    for shape in SOFTMAX_SHAPES {
        loss(harness, shape, emit)?;
    }
    for shape in NORM_ROWS {
        norms(harness, shape, emit)?;
    }
    Ok(())
}

fn case<'a>(kernel: &str, (rows, columns): (usize, usize)) -> Case<'a> {
    let elements = rows * columns;
    Case::new(format!("{kernel}/{rows}x{columns}"), elements as u64, "element")
        .on_elements(elements)
        .asking(kernel, &[rows, columns])
}

fn loss(harness: &Harness<'_>, shape: (usize, usize), emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let (rows, classes) = shape;
    let (logits, labels) = (inputs::matrix(rows, classes, b"logits  "), inputs::labels(rows, classes));
    let work = |(losses, gradient): &mut (Vec<f32>, Array2<f32>)| {
        softmax_cross_entropy_into(logits.view(), &labels, losses, gradient.view_mut())
            .expect("the labels fit");
    };
    let state = (vec![0.0; rows], Array2::zeros(shape));
    case("softmax_cross_entropy", shape).measure(
        harness,
        state,
        work,
        |(losses, gradient)| floats(losses.iter().chain(&*gradient)),
        emit,
    )
}

fn norms(harness: &Harness<'_>, shape: (usize, usize), emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let (rows, columns) = shape;
    let x = inputs::matrix(rows, columns, b"features");
    let dy = inputs::matrix(rows, columns, b"gradient");
    let (gamma, beta) = (inputs::tensor(columns, b"gamma   "), inputs::tensor(columns, b"beta    "));
    let forward = |(y, moments): &mut (Array2<f32>, Vec<RowMoments>)| {
        layer_norm_into(x.view(), gamma.view(), beta.view(), EPS, y.view_mut(), moments)
            .expect("the shapes fit");
    };
    let mut state = (Array2::zeros(shape), vec![RowMoments::default(); rows]);
    forward(&mut state);
    let moments = state.1.clone();
    case("layer_norm", shape).measure(harness, state, forward, |(y, _)| pieces(&*y), emit)?;
    let backward = |(dx, dgamma, dbeta): &mut (Array2<f32>, Array1<f32>, Array1<f32>)| {
        layer_norm_grad_into(
            x.view(),
            gamma.view(),
            &moments,
            dy.view(),
            dx.view_mut(),
            dgamma.view_mut(),
            dbeta.view_mut(),
        )
        .expect("the shapes fit");
    };
    case("layer_norm_grad", shape).measure(
        harness,
        (Array2::zeros(shape), Array1::zeros(columns), Array1::zeros(columns)),
        backward,
        |(dx, dgamma, dbeta)| pieces(dx.iter().chain(&*dgamma).chain(&*dbeta)),
        emit,
    )
}

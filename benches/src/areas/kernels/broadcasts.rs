//! A row added to every row of a matrix, alone and with ReLU.

use bitproof_kernels::{add_relu_into, binary_into, Binary};
use ndarray::{Array1, Array2, Zip};

use super::case::{pieces, Case};
use super::Emit;
use crate::harness::{Harness, Unrepeatable};
use crate::inputs::{self, AXIS_SHAPE};

/// Activations of a small layer, and a matrix that leaves the caches of one core.
const SHAPES: [(usize, usize); 2] = [(64, 256), AXIS_SHAPE];

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for shape in SHAPES {
        both(harness, shape, emit)?;
    }
    Ok(())
}

fn both(harness: &Harness<'_>, shape: (usize, usize), emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let (rows, columns) = shape;
    let matrix = inputs::matrix(rows, columns, b"features");
    let row = inputs::tensor(columns, b"bias    ");
    let case = |name: &str| {
        let bytes = 8 * (rows * columns) as u64;
        Case::new(format!("{name}/{rows}x{columns}"), bytes, "byte")
            .on_elements(rows * columns)
            .asking(name, &[rows, columns])
    };
    let result = |out: &mut Array2<f32>| pieces(&*out);
    let add = |out: &mut Array2<f32>| {
        binary_into(Binary::Add, matrix.view(), row.view(), out.view_mut()).expect("the shapes fit");
    };
    let sums = theirs(&matrix, &row, |a, b| a + b);
    case("add").beside("ndarray", sums).measure(harness, Array2::zeros(shape), add, result, emit)?;
    let add_relu = |out: &mut Array2<f32>| {
        add_relu_into(matrix.view(), row.view(), out.view_mut()).expect("the shapes fit");
    };
    let positive_sums = theirs(&matrix, &row, |a, b| (a + b).max(0.0));
    case("add_relu").beside("ndarray", positive_sums).measure(
        harness,
        Array2::zeros(shape),
        add_relu,
        result,
        emit,
    )
}

/// The same by hand. Generic, so that the operation is compiled into the loop.
fn theirs<'a>(
    matrix: &'a Array2<f32>,
    row: &'a Array1<f32>,
    operation: impl Fn(f32, f32) -> f32 + Send + 'a,
) -> impl FnMut() + Send + 'a {
    let mut out = Array2::zeros(matrix.dim());
    move || {
        let each = |out: &mut f32, &a: &f32, &b: &f32| *out = operation(a, b);
        Zip::from(&mut out).and(matrix).and_broadcast(row).for_each(each);
    }
}

//! Sums of everything, and sums and maxima over an axis.

use bitproof_kernels::{max_axis_into, sum, sum_axis_into};
use ndarray::{Array1, Axis};

use super::case::{floats, Case};
use super::Emit;
use crate::harness::{Harness, Unrepeatable};
use crate::inputs::{self, AXIS_SHAPE, SUM_LENGTHS};

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for length in SUM_LENGTHS {
        let values = inputs::tensor(length, b"summands");
        let slice = values.as_slice().expect("a new array is contiguous");
        Case::new(format!("sum/{length}"), 4 * length as u64, "byte")
            .on_elements(length)
            .asking("sum", &[length])
            .beside("ndarray", || values.sum())
            .measure(harness, 0.0, |total| *total = sum(slice), |total| floats([&*total]), emit)?;
    }
    over_axes(harness, emit)
}

fn over_axes(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let (rows, columns) = AXIS_SHAPE;
    let values = inputs::matrix(rows, columns, b"summands");
    let case = |name: &str| {
        let bytes = 4 * (rows * columns) as u64;
        Case::new(format!("{name}/{rows}x{columns}"), bytes, "byte").asking(name, &[rows, columns])
    };
    let sums = |out: &mut Array1<f32>| {
        sum_axis_into(values.view(), Axis(0), out.view_mut()).expect("the shapes fit");
    };
    case("sum_axis0").beside("ndarray", || values.sum_axis(Axis(0))).measure(
        harness,
        Array1::zeros(columns),
        sums,
        |out| floats(&*out),
        emit,
    )?;
    let maxima = |out: &mut Array1<f32>| {
        max_axis_into(values.view(), Axis(1), out.view_mut()).expect("the shapes fit");
    };
    case("max_axis1").measure(harness, Array1::zeros(rows), maxima, |out| floats(&*out), emit)
}

//! Matrix products of other crates.
#![expect(unsafe_code, reason = "gemm and matrixmultiply have no other interface than pointers")]

use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, MatMut, MatRef, Par};
use ndarray::{Array2, ArrayView2};

use super::ProductCase;
use crate::harness::{Contender, InProcess};

pub(super) fn all<'a>(case: &'a ProductCase, threads: usize) -> Vec<Box<dyn Contender + 'a>> {
    let mut all: Vec<Box<dyn Contender + 'a>> = vec![faer(case, threads), gemm(case, threads)];
    if threads == 1 {
        // It has no threads of its own.
        all.push(matrixmultiply(case));
    }
    all
}

fn result(case: &ProductCase) -> Array2<f32> {
    Array2::zeros((case.shape.0, case.shape.2))
}

fn faer_view<'a>(matrix: ArrayView2<'a, f32>) -> MatRef<'a, f32> {
    let (rows, columns) = matrix.dim();
    match matrix.to_slice() {
        Some(slice) => MatRef::from_row_major_slice(slice, rows, columns),
        None => {
            let slice = matrix.reversed_axes().to_slice().expect("a case's operands have no gaps");
            MatRef::from_column_major_slice(slice, rows, columns)
        }
    }
}

fn faer(case: &ProductCase, threads: usize) -> Box<dyn Contender + '_> {
    let mut c = result(case);
    let (m, _, n) = case.shape;
    let par = if threads == 1 { Par::Seq } else { Par::rayon(threads) };
    Box::new(InProcess {
        name: "faer",
        work: move || {
            let c = c.as_slice_mut().expect("a new array is contiguous");
            let c = MatMut::from_row_major_slice_mut(c, m, n);
            faer_matmul(c, Accum::Replace, faer_view(case.a()), faer_view(case.b()), 1.0, par);
        },
    })
}

fn gemm(case: &ProductCase, threads: usize) -> Box<dyn Contender + '_> {
    let mut c = result(case);
    let (m, k, n) = case.shape;
    let parallelism = if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
    Box::new(InProcess {
        name: "gemm",
        work: move || {
            let (a, b) = (case.a(), case.b());
            let (a_strides, b_strides) = (a.strides(), b.strides());
            // SAFETY: the pointers and strides are those of arrays of these shapes, and C is nobody else's.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    c.as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    a.as_ptr(),
                    a_strides[1],
                    a_strides[0],
                    b.as_ptr(),
                    b_strides[1],
                    b_strides[0],
                    0.0,
                    1.0,
                    false,
                    false,
                    false,
                    parallelism,
                );
            }
        },
    })
}

fn matrixmultiply(case: &ProductCase) -> Box<dyn Contender + '_> {
    let mut c = result(case);
    let (m, k, n) = case.shape;
    Box::new(InProcess {
        name: "matrixmultiply",
        work: move || {
            let (a, b) = (case.a(), case.b());
            let (a_strides, b_strides) = (a.strides(), b.strides());
            // SAFETY: the pointers and strides are those of arrays of these shapes, and C is nobody else's.
            unsafe {
                matrixmultiply::sgemm(
                    m,
                    k,
                    n,
                    1.0,
                    a.as_ptr(),
                    a_strides[0],
                    a_strides[1],
                    b.as_ptr(),
                    b_strides[0],
                    b_strides[1],
                    0.0,
                    c.as_mut_ptr(),
                    n as isize,
                    1,
                );
            }
        },
    })
}

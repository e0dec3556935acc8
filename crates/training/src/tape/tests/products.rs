//! Products of matrices, linear layers, softmax.

use super::oracle::{ln, matmul, softmax, transpose};
use super::{check, uniform};
use crate::tape::Product;

const PRODUCTS: [Product; 3] = [Product::Nn, Product::Nt, Product::Tn];

/// The axes of the operands of a product of so many rows, inner elements and columns.
fn operands(product: Product, [rows, inner, columns]: [usize; 3]) -> ([usize; 2], [usize; 2]) {
    match product {
        Product::Nn => ([rows, inner], [inner, columns]),
        Product::Nt => ([rows, inner], [columns, inner]),
        Product::Tn => ([inner, rows], [inner, columns]),
    }
}

fn exact(product: Product, a: &[f64], b: &[f64], axes: [usize; 3]) -> Vec<f64> {
    let (of_a, of_b) = operands(product, axes);
    match product {
        Product::Nn => matmul(a, b, axes),
        Product::Nt => matmul(a, &transpose(b, of_b), axes),
        Product::Tn => matmul(&transpose(a, of_a), b, axes),
    }
}

#[test]
fn products_of_two_matrices() {
    for product in PRODUCTS {
        for axes in [[3, 4, 2], [1, 5, 1], [4, 1, 3], [2, 0, 3], [0, 2, 2], [2, 2, 0]] {
            let (of_a, of_b) = operands(product, axes);
            check(
                &format!("matmul {product:?} of {axes:?}"),
                &[uniform(1, &of_a, -1.0, 1.0), uniform(2, &of_b, -1.0, 1.0)],
                &|tape, of| {
                    let y = tape.matmul(of[0], of[1], product)?;
                    assert_eq!(tape.shape(y)[..], [axes[0], axes[2]]);
                    Ok(y)
                },
                &|of| exact(product, &of[0], &of[1], axes),
            );
        }
    }
}

#[test]
fn products_of_many_matrices() {
    for product in PRODUCTS {
        for (many, axes) in [(3, [2, 4, 3]), (1, [3, 2, 2]), (0, [2, 2, 2]), (2, [2, 0, 1])] {
            let (of_a, of_b) = operands(product, axes);
            let (a, b) = (of_a.iter().product::<usize>(), of_b.iter().product::<usize>());
            check(
                &format!("batched_matmul {product:?} of {many} × {axes:?}"),
                &[
                    uniform(3, &[many, of_a[0], of_a[1]], -1.0, 1.0),
                    uniform(4, &[many, of_b[0], of_b[1]], -1.0, 1.0),
                ],
                &|tape, of| tape.batched_matmul(of[0], of[1], product),
                &|of| {
                    let pairs = (0..many).map(|p| (&of[0][p * a..][..a], &of[1][p * b..][..b]));
                    pairs.flat_map(|(a, b)| exact(product, a, b, axes)).collect()
                },
            );
        }
    }
}

#[test]
fn a_matrix_with_itself() {
    check(
        "x xᵀ",
        &[uniform(5, &[3, 2], -1.0, 1.0)],
        &|tape, of| tape.matmul(of[0], of[0], Product::Nt),
        &|of| exact(Product::Nt, &of[0], &of[0], [3, 2, 3]),
    );
}

#[test]
fn linear_layers() {
    for (x, rows) in [(&[4, 3][..], 4), (&[1, 3], 1), (&[3], 1), (&[2, 2, 3], 4), (&[0, 3], 0)] {
        let weight = || uniform(7, &[2, 3], -1.0, 1.0);
        let exact = |of: &[Vec<f64>]| matmul(&of[0], &transpose(&of[1], [2, 3]), [rows, 3, 2]);
        check(
            &format!("linear of {x:?}"),
            &[uniform(6, x, -1.0, 1.0), weight(), uniform(8, &[2], -1.0, 1.0)],
            &|tape, of| tape.linear(of[0], of[1], Some(of[2])),
            &|of| exact(of).iter().zip(of[2].iter().cycle()).map(|(y, b)| y + b).collect(),
        );
        check(
            &format!("linear of {x:?} without a bias"),
            &[uniform(6, x, -1.0, 1.0), weight()],
            &|tape, of| tape.linear(of[0], of[1], None),
            &exact,
        );
    }
}

/// An embedding whose table is the last layer too.
#[test]
fn tied_weights() {
    static IDS: [u32; 4] = [2, 0, 2, 1];
    check(
        "embedding and linear of one table",
        &[uniform(9, &[3, 4], -1.0, 1.0)],
        &|tape, of| {
            let x = tape.embedding(of[0], &IDS, &[4])?;
            let x = tape.tanh(x)?;
            tape.linear(x, of[0], None)
        },
        &|of| {
            let table = &of[0];
            let rows = IDS.iter().flat_map(|&id| &table[id as usize * 4..][..4]);
            let x: Vec<f64> = rows.map(|&x| super::oracle::tanh(x)).collect();
            matmul(&x, &transpose(table, [3, 4]), [4, 4, 3])
        },
    );
}

#[test]
fn softmax_and_its_logarithm() {
    for shape in [&[3, 5][..], &[1, 4], &[4], &[2, 2, 3], &[3, 1], &[]] {
        let columns = shape.last().copied().unwrap_or(1);
        let rows = |of: &[Vec<f64>]| of[0].chunks(columns).flat_map(softmax).collect::<Vec<_>>();
        let input = uniform(10, shape, -2.0, 2.0);
        check("softmax", std::slice::from_ref(&input), &|tape, of| tape.softmax(of[0]), &rows);
        check("log_softmax", &[input], &|tape, of| tape.log_softmax(of[0]), &|of| {
            rows(of).into_iter().map(ln).collect()
        });
    }
    for shape in [[0, 3], [3, 0]] {
        let nothing = [uniform(11, &shape, 0.0, 1.0)];
        check("softmax of nothing", &nothing, &|tape, of| tape.softmax(of[0]), &|_| vec![]);
        check("log_softmax of nothing", &nothing, &|tape, of| tape.log_softmax(of[0]), &|_| vec![]);
    }
}

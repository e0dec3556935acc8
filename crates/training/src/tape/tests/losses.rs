//! Losses.

use super::oracle::{exp, ln, logsumexp, sigmoid};
use super::{check, uniform};

#[test]
fn cross_entropy_of_each_row() {
    for (shape, labels) in
        [(&[4, 3][..], &[2_u32, 0, 1, 2][..]), (&[1, 5], &[4]), (&[2, 2, 3], &[0, 1, 2, 0]), (&[0, 3], &[])]
    {
        let columns = shape[shape.len() - 1];
        check(
            &format!("cross_entropy of {shape:?}"),
            &[uniform(1, shape, -2.0, 2.0)],
            &|tape, of| tape.cross_entropy(of[0], labels),
            &|of| {
                let rows = of[0].chunks(columns).zip(labels);
                rows.map(|(row, &label)| logsumexp(row) - row[label as usize]).collect()
            },
        );
    }
}

#[test]
fn binary_cross_entropy_of_each_logit() {
    let targets = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0];
    let exact = |z: f64, t: f64| -(t * ln(sigmoid(z)) + (1.0 - t) * ln(sigmoid(-z)));
    for shape in [&[6][..], &[6, 1], &[2, 3]] {
        check(
            &format!("bce_with_logits of {shape:?}"),
            &[uniform(2, shape, -3.0, 3.0)],
            &|tape, of| tape.bce_with_logits(of[0], &targets),
            &|of| of[0].iter().zip(&targets).map(|(&z, &t)| exact(z, f64::from(t))).collect(),
        );
    }
    let one = [uniform(3, &[1], 1.0, 2.0)];
    check("bce_with_logits of one", &one, &|tape, of| tape.bce_with_logits(of[0], &[1.0]), &|of| {
        vec![ln(1.0 + exp(-of[0][0]))]
    });
}

#[test]
fn squared_error_of_each_output() {
    let targets = [0.5, -1.0, 2.0, 0.0];
    for shape in [&[4][..], &[4, 1], &[2, 2]] {
        check(
            &format!("squared_error of {shape:?}"),
            &[uniform(4, shape, -2.0, 2.0)],
            &|tape, of| tape.squared_error(of[0], &targets),
            &|of| of[0].iter().zip(&targets).map(|(y, &t)| (y - f64::from(t)) * (y - f64::from(t))).collect(),
        );
    }
    check(
        "squared_error of none",
        &[uniform(5, &[0], 0.0, 1.0)],
        &|tape, of| tape.squared_error(of[0], &[]),
        &|_| vec![],
    );
}

/// A loss whose mean is taken: the gradient that comes back is not 1.
#[test]
fn a_mean_of_losses() {
    check(
        "the mean of cross_entropy",
        &[uniform(6, &[4, 3], -2.0, 2.0)],
        &|tape, of| {
            let losses = tape.cross_entropy(of[0], &[2, 0, 1, 2])?;
            tape.mean(losses)
        },
        &|of| {
            let rows = of[0].chunks(3).zip([2, 0, 1, 2]);
            vec![rows.map(|(row, label)| logsumexp(row) - row[label]).sum::<f64>() / 4.0]
        },
    );
}

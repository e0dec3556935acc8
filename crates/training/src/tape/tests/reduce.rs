//! Sums, means, maxima and log-sum-exp.

use super::oracle::{along, logsumexp};
use super::{apart, check, uniform, Buffers, Input, Shape, Tape, TapeError, Var};

type Along = fn(&mut Tape<'_>, Var, usize) -> Result<Var, TapeError>;
type Whole = fn(&mut Tape<'_>, Var) -> Result<Var, TapeError>;
type Exact = fn(&[f64]) -> f64;
type Reduction = (&'static str, Along, Whole, Exact);

fn reductions() -> [Reduction; 4] {
    [
        ("sum", |tape, x, axis| tape.sum_axis(x, axis), |tape, x| tape.sum(x), |x| x.iter().sum()),
        (
            "mean",
            |tape, x, axis| tape.mean_axis(x, axis),
            |tape, x| tape.mean(x),
            |x| x.iter().sum::<f64>() / x.len() as f64,
        ),
        (
            "max",
            |tape, x, axis| tape.max_axis(x, axis),
            |tape, x| tape.max(x),
            |x| x.iter().fold(f64::NEG_INFINITY, |most, &value| most.max(value)),
        ),
        ("logsumexp", |tape, x, axis| tape.logsumexp_axis(x, axis), |tape, x| tape.logsumexp(x), logsumexp),
    ]
}

#[test]
fn over_every_axis_and_over_all() {
    for (name, over_axis, over_all, exact) in reductions() {
        for shape in [&[3, 4, 2][..], &[5], &[1, 6], &[6, 1], &[2, 1, 2, 3]] {
            let input = apart(1, shape);
            for axis in 0..shape.len() {
                check(
                    &format!("{name} of {shape:?} over axis {axis}"),
                    std::slice::from_ref(&input),
                    &|tape, of| {
                        let y = over_axis(tape, of[0], axis)?;
                        assert_eq!(tape.shape(y)[..], [&shape[..axis], &shape[axis + 1..]].concat());
                        Ok(y)
                    },
                    &|of| along(&of[0], shape, axis).iter().map(|line| exact(line)).collect(),
                );
            }
            check(
                &format!("{name} of all of {shape:?}"),
                &[input],
                &|tape, of| over_all(tape, of[0]),
                &|of| vec![exact(&of[0])],
            );
        }
        let one = uniform(2, &[], 0.5, 1.0);
        check(name, &[one], &|tape, of| over_all(tape, of[0]), &|of| vec![exact(&of[0])]);
    }
}

#[test]
fn axes_without_elements() {
    for (name, over_axis, over_all, _) in reductions() {
        let nothing = || [Input::new(&[2, 0, 3], vec![])];
        // No results, from axes with elements.
        check(name, &nothing(), &|tape, of| over_axis(tape, of[0], 0), &|_| vec![]);
        check(name, &nothing(), &|tape, of| over_axis(tape, of[0], 2), &|_| vec![]);
        // Results of nothing.
        let expected: f32 = match name {
            "sum" => 0.0,
            "mean" => f32::NAN,
            _ => f32::NEG_INFINITY,
        };
        let mut buffers = Buffers::default();
        let (mut gradient, shape) = ([], Shape::new(&[2, 0, 3]).unwrap());
        let mut tape = Tape::new(&mut buffers);
        let x = tape.variable(shape, &[], &mut gradient).unwrap();
        let (some, all) = (over_axis(&mut tape, x, 1).unwrap(), over_all(&mut tape, x).unwrap());
        assert!(tape.value(some).iter().all(|y| y.to_bits() == expected.to_bits()), "{name}");
        assert_eq!((tape.value(some).len(), tape.value(all)[0].to_bits()), (6, expected.to_bits()));
        let total = tape.add(some, all).unwrap();
        tape.backward(total).unwrap();
    }
}

#[test]
fn the_first_of_equal_ones_is_the_largest() {
    let values = [1.0, 3.0, 3.0, -0.0, 0.0, -1.0, f32::NAN, 9.0, f32::NAN];
    let mut gradient = [7.0; 9];
    let mut buffers = Buffers::default();
    let mut tape = Tape::new(&mut buffers);
    let x = tape.variable(Shape::new(&[3, 3]).unwrap(), &values, &mut gradient).unwrap();
    let y = tape.max_axis(x, 1).unwrap();
    assert_eq!(tape.value(y)[..2], [3.0, 0.0]);
    tape.backward(y).unwrap();
    assert_eq!(gradient, [0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    let values = [2.0, 5.0, 2.0, 5.0];
    let mut gradient = [7.0; 4];
    let mut tape = Tape::new(&mut buffers);
    let x = tape.variable(Shape::new(&[2, 2]).unwrap(), &values, &mut gradient).unwrap();
    let y = tape.max_axis(x, 0).unwrap();
    tape.backward(y).unwrap();
    assert_eq!(gradient, [1.0, 1.0, 0.0, 0.0]);
}

//! Operations of each element: arithmetic, functions, choice.

use super::oracle::{broadcast, erf, exp, ln, sigmoid, tanh};
use super::{apart, away_from_zero, check, uniform, Input, Tape, TapeError, Var};

type Binary = fn(&mut Tape<'_>, Var, Var) -> Result<Var, TapeError>;
type Unary = fn(&mut Tape<'_>, Var) -> Result<Var, TapeError>;

/// An operation's name, the operation, and the same in f64.
type NamedBinary = (&'static str, Binary, fn(f64, f64) -> f64);
type NamedUnary = (&'static str, Unary, fn(f64) -> f64);

fn arithmetic() -> [NamedBinary; 4] {
    [
        ("add", |tape, a, b| tape.add(a, b), |a, b| a + b),
        ("sub", |tape, a, b| tape.sub(a, b), |a, b| a - b),
        ("mul", |tape, a, b| tape.mul(a, b), |a, b| a * b),
        ("div", |tape, a, b| tape.div(a, b), |a, b| a / b),
    ]
}

/// Two shapes, and what they are broadcast to: each axis of each operand repeated or missing.
const SHAPES: [(&[usize], &[usize], &[usize]); 13] = [
    (&[2, 3], &[2, 3], &[2, 3]),
    (&[2, 3], &[3], &[2, 3]),
    (&[3], &[2, 3], &[2, 3]),
    (&[2, 3], &[2, 1], &[2, 3]),
    (&[2, 1], &[2, 3], &[2, 3]),
    (&[2, 1], &[1, 3], &[2, 3]),
    (&[4, 1, 3], &[2, 1], &[4, 2, 3]),
    (&[2, 3, 2], &[1, 3, 1], &[2, 3, 2]),
    (&[], &[2, 2], &[2, 2]),
    (&[2, 2], &[], &[2, 2]),
    (&[], &[], &[]),
    (&[1], &[1, 1], &[1, 1]),
    (&[2, 1, 2, 1, 2, 1], &[1, 2, 1, 2, 1, 1], &[2, 2, 2, 2, 2, 1]),
];

#[test]
fn arithmetic_with_broadcasting_in_every_position() {
    for (name, operation, exact) in arithmetic() {
        for (a, b, whole) in SHAPES {
            let inputs = [away_from_zero(1, a), away_from_zero(2, b)];
            check(
                &format!("{name} of {a:?} and {b:?}"),
                &inputs,
                &|tape, of| {
                    let y = operation(tape, of[0], of[1])?;
                    assert_eq!(tape.shape(y)[..], *whole);
                    Ok(y)
                },
                &|of| {
                    let (a, b) = (broadcast(&of[0], a, whole), broadcast(&of[1], b, whole));
                    a.iter().zip(&b).map(|(&a, &b)| exact(a, b)).collect()
                },
            );
        }
    }
}

#[test]
fn arithmetic_of_a_value_with_itself() {
    for (name, operation, exact) in arithmetic() {
        let inputs = [away_from_zero(3, &[2, 3])];
        let twice = |tape: &mut Tape<'_>, of: &[Var]| operation(tape, of[0], of[0]);
        check(name, &inputs, &twice, &|of| of[0].iter().map(|&x| exact(x, x)).collect());
    }
}

#[test]
fn functions_of_one_number() {
    let any = || away_from_zero(4, &[4, 5]);
    let positive = || uniform(5, &[4, 5], 0.5, 3.0);
    let functions: [(Input, NamedUnary); 12] = [
        (any(), ("neg", |tape, x| tape.neg(x), |x| -x)),
        (any(), ("scale", |tape, x| tape.scale(x, -1.5), |x| -1.5 * x)),
        (any(), ("exp", |tape, x| tape.exp(x), exp)),
        (positive(), ("log", |tape, x| tape.log(x), ln)),
        (positive(), ("sqrt", |tape, x| tape.sqrt(x), f64::sqrt)),
        (positive(), ("rsqrt", |tape, x| tape.rsqrt(x), |x| 1.0 / x.sqrt())),
        (any(), ("tanh", |tape, x| tape.tanh(x), tanh)),
        (any(), ("sigmoid", |tape, x| tape.sigmoid(x), sigmoid)),
        (any(), ("silu", |tape, x| tape.silu(x), |x| x * sigmoid(x))),
        (any(), ("relu", |tape, x| tape.relu(x), |x| if x > 0.0 { x } else { 0.0 })),
        (any(), ("gelu", |tape, x| tape.gelu(x), |x| x * 0.5 * (1.0 + erf(x / std::f64::consts::SQRT_2)))),
        (apart(6, &[]), ("relu of one", |tape, x| tape.relu(x), |x| x.max(0.0))),
    ];
    for (input, (name, operation, exact)) in functions {
        let function = |tape: &mut Tape<'_>, of: &[Var]| operation(tape, of[0]);
        check(name, &[input], &function, &|of| of[0].iter().map(|&x| exact(x)).collect());
        let nothing = Input::new(&[0, 3], vec![]);
        check(name, &[nothing], &function, &|_| vec![]);
    }
}

#[test]
fn choices_with_broadcasting() {
    static MASK: [bool; 12] = [true, false, false, true, true, false, true, false, true, true, false, false];
    for (a, b, whole) in [
        (&[3, 4][..], &[3, 4][..], &[3, 4][..]),
        (&[4], &[3, 1], &[3, 4]),
        (&[], &[3, 4], &[3, 4]),
        (&[3, 4], &[], &[3, 4]),
    ] {
        check(
            &format!("select of {a:?} and {b:?}"),
            &[uniform(7, a, -1.0, 1.0), uniform(8, b, -1.0, 1.0)],
            &|tape, of| tape.select(&MASK, of[0], of[1]),
            &|of| {
                let (a, b) = (broadcast(&of[0], a, whole), broadcast(&of[1], b, whole));
                MASK.iter()
                    .zip(a.iter().zip(&b))
                    .map(|(&first, (&a, &b))| if first { a } else { b })
                    .collect()
            },
        );
    }
}

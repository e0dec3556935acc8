//! In which order gradients add up, and who gets one.

use super::{Buffers, Shape, Tape, TapeError, Var};

fn shape(axes: &[usize]) -> Shape {
    Shape::new(axes).unwrap()
}

type Forward = fn(&mut Tape<'_>, Var) -> Result<Var, TapeError>;

/// The gradient of the sum of what `forward` makes of a variable.
fn gradient_of(x: &[f32], is_result: bool, forward: Forward) -> Vec<f32> {
    let mut gradient = vec![f32::NAN; x.len()];
    let mut buffers = Buffers::default();
    let mut tape = Tape::new(&mut buffers);
    let mut var = tape.variable(shape(&[x.len()]), x, &mut gradient).unwrap();
    if is_result {
        var = tape.scale(var, 1.0).unwrap();
    }
    let of = forward(&mut tape, var).unwrap();
    tape.backward(of).unwrap();
    gradient
}

/// 1, −10⁸ and 10⁸ add up to 0 in this order, and to 1 if the first comes last.
#[test]
fn consumers_add_up_from_the_last_to_the_first() {
    let rising: [Forward; 2] = [
        |tape, x| {
            let (a, b, c) = (tape.scale(x, 1e8)?, tape.scale(x, -1e8)?, tape.scale(x, 1.0)?);
            let ab = tape.add(a, b)?;
            tape.add(ab, c)
        },
        // The order of the operands of what follows changes nothing.
        |tape, x| {
            let (a, b, c) = (tape.scale(x, 1e8)?, tape.scale(x, -1e8)?, tape.scale(x, 1.0)?);
            let ca = tape.add(c, a)?;
            tape.add(b, ca)
        },
    ];
    for is_result in [false, true] {
        for forward in rising {
            assert_eq!(gradient_of(&[3.0], is_result, forward), [0.0]);
        }
        // The negative control: the same three consumers, created in another order.
        let other = gradient_of(&[3.0], is_result, |tape, x| {
            let (c, b, a) = (tape.scale(x, 1.0)?, tape.scale(x, -1e8)?, tape.scale(x, 1e8)?);
            let ab = tape.add(a, b)?;
            tape.add(ab, c)
        });
        assert_eq!(other, [1.0]);
    }
}

#[test]
fn operands_of_one_operation_add_up_from_the_last_to_the_first() {
    // From 2²⁴ on 1 is lost, and from 2²⁵ on 2: below it is not, so the negative one has to come first.
    const LARGE: f32 = 16_777_216.0;
    const LARGER: f32 = 2.0 * LARGE;
    assert_eq!(((1.0 - LARGE) + LARGE, (1.0 + LARGE) - LARGE), (1.0, 0.0));
    assert_eq!(((2.0 - LARGER) + LARGER, (2.0 + LARGER) - LARGER), (2.0, 0.0));
    for is_result in [false, true] {
        let of_sub = gradient_of(&[1.0], is_result, |tape, x| {
            let difference = tape.sub(x, x)?;
            let large = tape.scale(difference, LARGE)?;
            tape.add(large, x)
        });
        assert_eq!(of_sub, [1.0]);
        let of_div = gradient_of(&[1.0], is_result, |tape, x| {
            let quotient = tape.div(x, x)?;
            let large = tape.scale(quotient, LARGE)?;
            tape.add(large, x)
        });
        assert_eq!(of_div, [1.0]);
        // The last consumer's 2, since what it is added to has two elements, then the second part's −2²⁵, then the first one's 2²⁵.
        let of_concat = gradient_of(&[1.0], is_result, |tape, x| {
            let both = tape.concat(&[x, x], 0)?;
            let weights = tape.constant(shape(&[2]), &[LARGER, -LARGER])?;
            let large = tape.mul(both, weights)?;
            tape.add(large, x)
        });
        assert_eq!(of_concat, [2.0]);
    }
}

#[test]
fn sums_over_what_was_broadcast_follow_the_tree() {
    let count = 1000;
    let x: Vec<f32> = super::uniform(1, &[count], -1.0, 1.0).values;
    let mut gradient = [f32::NAN];
    let mut buffers = Buffers::default();
    let mut tape = Tape::new(&mut buffers);
    let scalar = tape.variable(shape(&[]), &[1.0], &mut gradient).unwrap();
    let many = tape.constant(shape(&[count]), &x).unwrap();
    let y = tape.mul(many, scalar).unwrap();
    tape.backward(y).unwrap();
    let in_order = x.iter().fold(0.0_f32, |sum, x| sum + x);
    assert_eq!(gradient[0].to_bits(), bitproof_kernels::sum(&x).to_bits());
    assert_ne!(gradient[0].to_bits(), in_order.to_bits(), "the negative control: order is visible");
}

#[test]
fn what_nothing_used_gets_zeros_and_constants_nothing() {
    let (mut used, mut unused, mut later) = ([f32::NAN; 2], [f32::NAN; 3], [f32::NAN; 2]);
    let mut names = Vec::new();
    let mut see = |traced: crate::trainable::Traced<'_>| names.push(traced.operation.to_owned());
    let mut buffers = Buffers::default();
    let mut tape = Tape::new(&mut buffers).traced(&mut see);
    let x = tape.variable(shape(&[2]), &[1.0, 2.0], &mut used).unwrap();
    tape.variable(shape(&[3]), &[1.0; 3], &mut unused).unwrap();
    let z = tape.variable(shape(&[2]), &[1.0; 2], &mut later).unwrap();
    let constant = tape.constant(shape(&[2]), &[3.0, 4.0]).unwrap();
    let square = tape.mul(constant, constant).unwrap();
    let y = tape.mul(x, square).unwrap();
    // What is made after the value that is differentiated takes no part, though it uses the same variables.
    let after = tape.mul(y, z).unwrap();
    assert_eq!(tape.value(after), [9.0, 32.0]);
    tape.backward(y).unwrap();
    assert_eq!((used, unused, later), ([9.0, 16.0], [0.0; 3], [0.0; 2]));
    assert!(!names.iter().any(|name| name.starts_with("the gradient of operation 4")), "{names:?}");
}

#[test]
fn a_variable_is_its_own_gradient_and_a_constant_has_none() {
    let mut gradient = [f32::NAN; 2];
    let mut buffers = Buffers::default();
    let mut tape = Tape::new(&mut buffers);
    let x = tape.variable(shape(&[2]), &[1.0, 2.0], &mut gradient).unwrap();
    tape.backward(x).unwrap();
    assert_eq!(gradient, [1.0; 2]);
    let mut tape = Tape::new(&mut buffers);
    tape.variable(shape(&[2]), &[1.0, 2.0], &mut gradient).unwrap();
    let constant = tape.constant(shape(&[2]), &[1.0, 2.0]).unwrap();
    let y = tape.exp(constant).unwrap();
    tape.backward(y).unwrap();
    assert_eq!(gradient, [0.0; 2]);
}

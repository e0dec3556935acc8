//! What a trace shows.

use super::{Buffers, Shape, Tape, TapeError, Var};
use crate::trainable::Traced;

/// Names and values of all that a tape shows of a pass over `x`.
fn trace(x: &[f32], forward: fn(&mut Tape<'_>, Var) -> Result<Var, TapeError>) -> Vec<(String, Vec<f32>)> {
    let mut seen = Vec::new();
    let mut see = |traced: Traced<'_>| seen.push((traced.operation.to_owned(), traced.values.to_vec()));
    let (mut gradient, mut buffers) = (vec![0.0; x.len()], Buffers::default());
    let mut tape = Tape::new(&mut buffers).traced(&mut see);
    let x = tape.variable(Shape::new(&[x.len()]).unwrap(), x, &mut gradient).unwrap();
    let y = forward(&mut tape, x).unwrap();
    tape.backward(y).unwrap();
    seen
}

fn sum_of_logarithms(tape: &mut Tape<'_>, x: Var) -> Result<Var, TapeError> {
    let y = tape.scale(x, 2.0)?;
    let y = tape.log(y)?;
    let y = tape.relu(y)?;
    tape.sum(y)
}

#[test]
fn operations_are_shown_forwards_and_then_backwards() {
    let seen = trace(&[0.5, 1.0], sum_of_logarithms);
    let two = std::f32::consts::LN_2;
    let expected: [(&str, &[f32]); 9] = [
        ("operation 1 (scale)", &[1.0, 2.0]),
        ("operation 2 (log)", &[0.0, two]),
        ("operation 3 (relu)", &[0.0, two]),
        ("operation 4 (sum)", &[two]),
        ("the gradient of operation 4 (sum)", &[1.0]),
        ("the gradient of operation 3 (relu)", &[1.0, 1.0]),
        ("the gradient of operation 2 (log)", &[0.0, 1.0]),
        ("the gradient of operation 1 (scale)", &[0.0, 0.5]),
        ("the gradient of variable 0", &[0.0, 1.0]),
    ];
    assert_eq!(seen.len(), expected.len());
    for ((name, values), (expected_name, expected)) in seen.iter().zip(expected) {
        assert_eq!((name.as_str(), values.as_slice()), (expected_name, expected));
    }
}

fn first_not_finite(seen: &[(String, Vec<f32>)]) -> Option<&str> {
    let found = seen.iter().find(|(_, values)| values.iter().any(|value| !value.is_finite()))?;
    Some(&found.0)
}

#[test]
fn the_first_operation_that_gave_a_number_that_is_not_finite() {
    let of = |x: &[f32]| first_not_finite(&trace(x, sum_of_logarithms)).map(str::to_owned);
    assert_eq!(of(&[0.5, 1.0]), None);
    assert_eq!(of(&[0.5, -1.0]).as_deref(), Some("operation 2 (log)"));
    assert_eq!(of(&[f32::MAX, 1.0]).as_deref(), Some("operation 1 (scale)"));
    // On the way back: the root's slope at 0 is infinite, and its value is not.
    let seen = trace(&[0.0], |tape, x| {
        let root = tape.scale(x, 1.0)?;
        tape.sqrt(root)
    });
    assert_eq!(first_not_finite(&seen), Some("the gradient of operation 1 (scale)"));
}

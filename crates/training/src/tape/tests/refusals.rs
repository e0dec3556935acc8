//! Operands that do not fit.

use super::{Buffers, Shape, Tape, TapeError, Var};
use crate::tape::{Product, MAX_AXES};

/// The refusal of an operation on values of these shapes, all of ones.
fn refusal(
    shapes: &[&[usize]],
    forward: impl Fn(&mut Tape<'_>, &[Var]) -> Result<Var, TapeError>,
) -> TapeError {
    let ones = [1.0; 64];
    let mut buffers = Buffers::default();
    let mut tape = Tape::new(&mut buffers);
    let shapes = shapes.iter().map(|shape| Shape::new(shape).unwrap());
    let of: Vec<Var> = shapes.map(|shape| tape.constant(shape, &ones[..shape.elements()]).unwrap()).collect();
    let before = tape.nodes.len();
    let refusal = forward(&mut tape, &of).unwrap_err();
    assert_eq!(tape.nodes.len(), before, "nothing is recorded");
    refusal
}

#[test]
fn shapes_that_do_not_fit_are_named() {
    type Forward = fn(&mut Tape<'_>, &[Var]) -> Result<Var, TapeError>;
    /// The name, the operands' shapes, the operation, and the shape that it names.
    type Case = (&'static str, &'static [&'static [usize]], Forward, &'static [usize]);
    let cases: [Case; 14] = [
        ("sum", &[&[2, 3]], |tape, of| tape.sum_axis(of[0], 2), &[2, 3]),
        ("max", &[&[]], |tape, of| tape.max_axis(of[0], 0), &[]),
        ("permute", &[&[2, 3]], |tape, of| tape.permute(of[0], &[0, 0]), &[0, 0]),
        ("permute", &[&[2, 3]], |tape, of| tape.permute(of[0], &[0, 1, 2]), &[0, 1, 2]),
        ("broadcast_to", &[&[2, 3]], |tape, of| tape.broadcast_to(of[0], Shape::new(&[2, 4])?), &[2, 3]),
        ("broadcast_to", &[&[1, 3]], |tape, of| tape.broadcast_to(of[0], Shape::new(&[3])?), &[1, 3]),
        ("slice", &[&[2, 3]], |tape, of| tape.slice(of[0], 1, 2..4), &[2, 3]),
        #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
        ("slice", &[&[2, 3]], |tape, of| tape.slice(of[0], 1, 2..1), &[2, 3]),
        ("concat", &[&[2, 3], &[2, 2]], |tape, of| tape.concat(of, 0), &[2, 2]),
        ("concat", &[], |tape, of| tape.concat(of, 0), &[]),
        ("pad", &[&[2, 3]], |tape, of| tape.pad(of[0], 2, [1, 1]), &[2, 3]),
        (
            "matmul",
            &[&[2, 3], &[2, 3]],
            |tape, of| tape.matmul(of[0], of[1], Product::Nn),
            &[1, 2, 3, 1, 2, 3],
        ),
        ("matmul", &[&[2, 3], &[3]], |tape, of| tape.matmul(of[0], of[1], Product::Nn), &[3]),
        (
            "batched_matmul",
            &[&[2, 3, 2], &[1, 2, 3]],
            |tape, of| tape.batched_matmul(of[0], of[1], Product::Nn),
            &[2, 3, 2, 1, 2, 3],
        ),
    ];
    for (name, shapes, forward, expected) in cases {
        match refusal(shapes, forward) {
            TapeError::Shape { operation, got, .. } => assert_eq!((operation, &got[..]), (name, expected)),
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn other_refusals() {
    let kernels = refusal(&[&[2, 3], &[2]], |tape, of| tape.div(of[0], of[1]));
    assert!(matches!(kernels, TapeError::Kernel(_)), "{kernels}");
    let mask = refusal(&[&[2, 3], &[3]], |tape, of| tape.select(&[true; 3], of[0], of[1]));
    assert_eq!(mask, TapeError::Elements { expected: 6, got: 3 });
    let reshape = refusal(&[&[2, 3]], |tape, of| tape.reshape(of[0], Shape::new(&[5])?));
    assert_eq!(reshape, TapeError::Elements { expected: 5, got: 6 });
    for padding in [[usize::MAX, 0], [0, usize::MAX], [usize::MAX, usize::MAX], [1 << 62, 0]] {
        let pad = refusal(&[&[2, 3]], |tape, of| tape.pad(of[0], 0, padding));
        assert!(matches!(pad, TapeError::TooLarge { .. }), "{pad}");
    }
    for too_large in [&[1; MAX_AXES + 1][..], &[1 << 40, 1 << 40], &[0, 1 << 40, 1 << 40]] {
        assert!(matches!(Shape::new(too_large), Err(TapeError::TooLarge { .. })), "{too_large:?}");
    }
    let (mut buffers, mut short) = (Buffers::default(), [0.0; 2]);
    let mut tape = Tape::new(&mut buffers);
    let three = Shape::new(&[3]).unwrap();
    assert_eq!(tape.constant(three, &[1.0; 2]), Err(TapeError::Elements { expected: 3, got: 2 }));
    let variable = tape.variable(three, &[1.0; 3], &mut short);
    assert_eq!(variable, Err(TapeError::Elements { expected: 3, got: 2 }));
}

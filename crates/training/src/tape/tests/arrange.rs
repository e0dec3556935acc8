//! Other shapes of the same elements.

use super::oracle::{broadcast, indices, place};
use super::{check, uniform, Input, Shape};

#[test]
fn reshapes() {
    for to in [&[6][..], &[3, 2], &[1, 2, 3, 1]] {
        check(
            "reshape",
            &[uniform(1, &[2, 3], -1.0, 1.0)],
            &|tape, of| tape.reshape(of[0], Shape::new(to)?),
            &|of| of[0].clone(),
        );
    }
    check(
        "reshape to no axes",
        &[uniform(1, &[1], -1.0, 1.0)],
        &|tape, of| tape.reshape(of[0], Shape::new(&[])?),
        &|of| of[0].clone(),
    );
}

#[test]
fn permutations() {
    let from = [2, 3, 4];
    for axes in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let to = axes.map(|axis| from[axis]);
        check(
            &format!("permute {axes:?}"),
            &[uniform(2, &from, -1.0, 1.0)],
            &|tape, of| {
                let y = tape.permute(of[0], &axes)?;
                assert_eq!(tape.shape(y)[..], to);
                Ok(y)
            },
            &|of| {
                let source = |index: &Vec<usize>| {
                    let mut source = [0; 3];
                    axes.iter().zip(index).for_each(|(&axis, &i)| source[axis] = i);
                    of[0][place(&from, &source)]
                };
                indices(&to).iter().map(source).collect()
            },
        );
    }
    for shape in [&[][..], &[0]] {
        let axes: Vec<usize> = (0..shape.len()).collect();
        check("permute", &[uniform(2, shape, 0.0, 1.0)], &|tape, of| tape.permute(of[0], &axes), &|of| {
            of[0].clone()
        });
    }
}

#[test]
fn repetitions() {
    for (from, to) in [
        (&[3][..], &[2, 3][..]),
        (&[2, 1], &[2, 3]),
        (&[1, 3], &[4, 3]),
        (&[], &[2, 2]),
        (&[2, 3], &[2, 3]),
        (&[2, 1, 3], &[2, 2, 2, 3]),
        (&[1], &[0]),
    ] {
        check(
            &format!("broadcast {from:?} to {to:?}"),
            &[uniform(3, from, -1.0, 1.0)],
            &|tape, of| tape.broadcast_to(of[0], Shape::new(to)?),
            &|of| broadcast(&of[0], from, to),
        );
    }
}

#[test]
fn slices() {
    let from = [3, 4, 2];
    for (axis, range) in [(0, 0..3), (0, 1..2), (1, 1..3), (1, 0..4), (2, 1..2), (1, 2..2), (0, 3..3)] {
        let mut to = from;
        to[axis] = range.len();
        check(
            &format!("slice {range:?} of axis {axis}"),
            &[uniform(4, &from, -1.0, 1.0)],
            &|tape, of| {
                let y = tape.slice(of[0], axis, range.clone())?;
                assert_eq!(tape.shape(y)[..], to);
                Ok(y)
            },
            &|of| {
                let mut all = indices(&to);
                all.iter_mut().for_each(|index| index[axis] += range.start);
                all.iter().map(|index| of[0][place(&from, index)]).collect()
            },
        );
    }
}

#[test]
fn concatenations() {
    for axis in 0..3 {
        let shape = |along: usize| {
            let mut shape = [2, 3, 2];
            shape[axis] = along;
            shape
        };
        let lengths = [2, 0, 1, 3];
        let inputs: Vec<Input> =
            (0_u8..).zip(lengths).map(|(seed, along)| uniform(10 + seed, &shape(along), -1.0, 1.0)).collect();
        let whole = shape(lengths.iter().sum());
        check(
            &format!("concat along axis {axis}"),
            &inputs,
            &|tape, of| {
                let y = tape.concat(of, axis)?;
                assert_eq!(tape.shape(y)[..], whole);
                Ok(y)
            },
            &|of| {
                let element = |index: &Vec<usize>| {
                    let (mut index, mut part) = (index.clone(), 0);
                    while index[axis] >= lengths[part] {
                        index[axis] -= lengths[part];
                        part += 1;
                    }
                    of[part][place(&shape(lengths[part]), &index)]
                };
                indices(&whole).iter().map(element).collect()
            },
        );
    }
    let twice = [uniform(14, &[2], -1.0, 1.0)];
    check("concat of one twice", &twice, &|tape, of| tape.concat(&[of[0], of[0]], 0), &|of| of[0].repeat(2));
}

#[test]
fn paddings() {
    let from = [2, 3, 2];
    for (axis, padding) in [(0, [1, 0]), (0, [0, 2]), (1, [2, 1]), (2, [1, 1]), (1, [0, 0])] {
        let mut to = from;
        to[axis] += padding[0] + padding[1];
        check(
            &format!("pad axis {axis} by {padding:?}"),
            &[uniform(15, &from, -1.0, 1.0)],
            &|tape, of| {
                let y = tape.pad(of[0], axis, padding)?;
                assert_eq!(tape.shape(y)[..], to);
                Ok(y)
            },
            &|of| {
                let element = |index: &Vec<usize>| {
                    let inside = padding[0]..padding[0] + from[axis];
                    if !inside.contains(&index[axis]) {
                        return 0.0;
                    }
                    let mut index = index.clone();
                    index[axis] -= padding[0];
                    of[0][place(&from, &index)]
                };
                indices(&to).iter().map(element).collect()
            },
        );
    }
    check("pad of nothing", &[Input::new(&[0, 2], vec![])], &|tape, of| tape.pad(of[0], 0, [1, 1]), &|_| {
        vec![0.0; 4]
    });
}

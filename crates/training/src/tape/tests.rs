//! Every operation against finite differences of an f64 definition that shares nothing with the tape or the kernels.

mod arrange;
mod bits;
mod elements;
mod layers;
mod losses;
mod memory;
mod oracle;
mod order;
mod products;
mod reduce;
mod refusals;
mod traces;

use bitproof_kernels::{shuffle, Stream, StreamKey};

use super::{Buffers, Gradients, Operation, Shape, Tape, TapeError, Values, Var};

/// A value that is given to an operation.
#[derive(Debug, Clone)]
struct Input {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Input {
    fn new(shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        Input { shape: shape.to_vec(), values }
    }
}

fn stream(seed: u8) -> Stream {
    Stream::new(StreamKey::from_bytes([seed; 8]))
}

/// Uniform on `[low, high)`.
fn uniform(seed: u8, shape: &[usize], low: f32, high: f32) -> Input {
    let mut stream = stream(seed);
    let count = shape.iter().product();
    Input::new(shape, (0..count).map(|_| low + (high - low) * stream.uniform_f32()).collect())
}

/// Between −2 and 2, at least ¼ away from 0.
fn away_from_zero(seed: u8, shape: &[usize]) -> Input {
    let mut input = uniform(seed, shape, -1.75, 1.75);
    input.values.iter_mut().for_each(|value| *value += 0.25_f32.copysign(*value));
    input
}

/// At least ⅛ away from each other.
fn apart(seed: u8, shape: &[usize]) -> Input {
    let count = shape.iter().product::<usize>();
    let mut values: Vec<f32> = (0..count).map(|index| (index as f32 - count as f32 / 2.0) * 0.125).collect();
    shuffle(&mut values, &mut stream(seed));
    Input::new(shape, values)
}

/// Step of the differences: its square, times the third derivatives met here, is far below the tolerance.
const STEP: f64 = 1.0 / 8192.0;

/// Allowed between an f32 result and its f64 value, as a part of 1 + that value: the few roundings of f32 that these small sums
/// have.
const TOLERANCE: f64 = 1e-5;

/// An operation, or a few of them.
type Forward<'a> = &'a dyn Fn(&mut Tape<'_>, &[Var]) -> Result<Var, TapeError>;

/// The same in f64, from the inputs' elements to the output's.
type Reference<'a> = &'a dyn Fn(&[Vec<f64>]) -> Vec<f64>;

/// Panics unless values and gradients of an operation are those of its reference.
fn check(name: &str, inputs: &[Input], forward: Forward<'_>, reference: Reference<'_>) {
    if let Err(difference) = compare(inputs, forward, reference) {
        panic!("{name}: {difference}");
    }
}

fn compare(inputs: &[Input], forward: Forward<'_>, reference: Reference<'_>) -> Result<(), String> {
    let mut buffers = Buffers::default();
    let pass = Pass::run(inputs, Learning::All, &mut buffers, forward);
    let exact: Vec<Vec<f64>> =
        inputs.iter().map(|input| input.values.iter().map(|&value| f64::from(value)).collect()).collect();
    let expected = reference(&exact);
    if expected.len() != pass.value.len() {
        return Err(format!("{} elements instead of {}", pass.value.len(), expected.len()));
    }
    for (index, (&got, &expected)) in pass.value.iter().zip(&expected).enumerate() {
        near(got, expected).map_err(|error| format!("element {index} of the value: {error}"))?;
    }
    for (input, gradient) in pass.gradients.iter().enumerate() {
        for (index, &got) in gradient.iter().enumerate() {
            let expected = difference(&exact, input, index, reference);
            near(got, expected)
                .map_err(|error| format!("element {index} of the gradient of input {input}: {error}"))?;
        }
    }
    unchanged_by_what_surrounds_it(inputs, &pass, &mut buffers, forward)
}

fn near(got: f32, expected: f64) -> Result<(), String> {
    let allowed = TOLERANCE * (1.0 + expected.abs());
    let is_near = (f64::from(got) - expected).abs() <= allowed;
    is_near.then_some(()).ok_or_else(|| format!("{got} instead of {expected}"))
}

/// The derivative of the weighted sum of the output by one element.
fn difference(inputs: &[Vec<f64>], input: usize, index: usize, reference: Reference<'_>) -> f64 {
    let at = |step: f64| {
        let mut moved = inputs.to_vec();
        moved[input][index] += step;
        reference(&moved)
    };
    let (up, down) = (at(STEP), at(-STEP));
    let differences = up.iter().zip(&down).map(|(up, down)| (up - down) / (2.0 * STEP));
    differences.zip(weights(up.len())).map(|(difference, weight)| difference * f64::from(weight)).sum()
}

/// What the elements of an output are multiplied by, so that the gradients that come back differ.
fn weights(count: usize) -> Vec<f32> {
    away_from_zero(255, &[count]).values
}

/// The same bits in memory that holds NaN, with one learning input at a time, and with inputs that are results themselves.
fn unchanged_by_what_surrounds_it(
    inputs: &[Input],
    pass: &Pass,
    buffers: &mut Buffers,
    forward: Forward<'_>,
) -> Result<(), String> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let ways = [Learning::All, Learning::Results].into_iter().chain((0..inputs.len()).map(Learning::Only));
    for learning in ways {
        buffers.soil();
        let again = Pass::run(inputs, learning, buffers, forward);
        let same_gradients =
            again.gradients.iter().zip(&pass.gradients).enumerate().all(|(input, (a, b))| {
                let learns = !matches!(learning, Learning::Only(only) if only != input);
                !learns || bits(a) == bits(b)
            });
        if bits(&again.value) != bits(&pass.value) || !same_gradients {
            return Err(format!("other bits with {learning:?}"));
        }
    }
    Ok(())
}

/// Which inputs learn.
#[derive(Debug, Clone, Copy)]
enum Learning {
    All,
    Only(usize),
    /// All, and each goes through an operation first that changes nothing.
    Results,
}

struct Pass {
    value: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

impl Pass {
    /// The value, and the gradients of its weighted sum.
    fn run(inputs: &[Input], learning: Learning, buffers: &mut Buffers, forward: Forward<'_>) -> Pass {
        let mut gradients: Vec<Vec<f32>> =
            inputs.iter().map(|input| vec![f32::NAN; input.values.len()]).collect();
        let weights = weights(4096);
        let mut tape = Tape::new(buffers);
        let mut operands = Vec::new();
        for (index, (input, gradient)) in inputs.iter().zip(&mut gradients).enumerate() {
            let shape = Shape::new(&input.shape).unwrap();
            operands.push(match learning {
                Learning::Only(only) if only != index => tape.constant(shape, &input.values).unwrap(),
                _ => tape.variable(shape, &input.values, gradient).unwrap(),
            });
        }
        if let Learning::Results = learning {
            operands.iter_mut().for_each(|operand| *operand = tape.scale(*operand, 1.0).unwrap());
        }
        let output = forward(&mut tape, &operands).unwrap();
        let value = tape.value(output).to_vec();
        let weights = tape.constant(tape.shape(output), &weights[..value.len()]).unwrap();
        let weighted = tape.mul(output, weights).unwrap();
        tape.backward(weighted).unwrap();
        Pass { value, gradients }
    }
}

/// `x²`, whose way back is wrong by `error`.
struct Square {
    x: Var,
    error: f32,
}

impl Operation for Square {
    fn name(&self) -> &'static str {
        "square"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        mut dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        dy.iter_mut().zip(values.get(self.x)).for_each(|(d, x)| *d *= 2.0 * x * (1.0 + self.error));
        gradients.add(self.x, dy);
        Ok(())
    }
}

/// The negative controls of all that follows.
#[test]
fn wrong_values_and_wrong_gradients_are_found() {
    let inputs = [away_from_zero(1, &[3, 2])];
    let square = |error: f32| {
        move |tape: &mut Tape<'_>, of: &[Var]| {
            let x = of[0];
            let y = tape.value(x).iter().map(|x| x * x).collect();
            Ok(tape.record(tape.shape(x), y, &[x], Square { x, error }))
        }
    };
    let squares = |of: &[Vec<f64>]| of[0].iter().map(|x| x * x).collect::<Vec<_>>();
    assert_eq!(compare(&inputs, &square(0.0), &squares), Ok(()));
    for error in [0.01, -0.01, 0.001] {
        let found = compare(&inputs, &square(error), &squares).unwrap_err();
        assert!(found.starts_with("element 0 of the gradient of input 0"), "{found}");
    }
    let others = |of: &[Vec<f64>]| of[0].iter().map(|x| x * x * 1.001).collect::<Vec<_>>();
    let found = compare(&inputs, &square(0.0), &others).unwrap_err();
    assert!(found.starts_with("element 0 of the value"), "{found}");
    // One that leaves memory unwritten, and one that gives nothing to an operand.
    let unwritten = |tape: &mut Tape<'_>, of: &[Var]| {
        let y = tape.buffer(6);
        Ok(tape.record(tape.shape(of[0]), y, &[of[0]], Square { x: of[0], error: 0.0 }))
    };
    let zeros = |of: &[Vec<f64>]| vec![0.0; of[0].len()];
    assert!(compare(&inputs, &unwritten, &zeros).is_err());
    let forgetful = |tape: &mut Tape<'_>, of: &[Var]| {
        let y = tape.value(of[0]).to_vec();
        let y = tape.record_constant(tape.shape(of[0]), y);
        tape.mul(y, of[0])
    };
    assert!(compare(&inputs, &forgetful, &squares).is_err());
}

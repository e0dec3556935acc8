//! The same bits on every instruction set, for any number of threads.

use bitproof_kernels::{with_threads, AverageOver, Conv2d, Isa, Pool2d, StreamKey};

use super::{uniform, Buffers, Input, Shape, Tape, TapeError, Var};
use crate::tape::Product;

/// The bits of the losses, and of every gradient.
fn bits_of(
    inputs: &[Input],
    forward: impl for<'p> Fn(&mut Tape<'p>, &[Var]) -> Result<Var, TapeError>,
) -> Vec<Vec<u32>> {
    let mut gradients: Vec<Vec<f32>> = inputs.iter().map(|input| vec![0.0; input.values.len()]).collect();
    let mut buffers = Buffers::default();
    let mut tape = Tape::new(&mut buffers);
    let mut operands = Vec::new();
    for (input, gradient) in inputs.iter().zip(&mut gradients) {
        operands.push(tape.variable(Shape::new(&input.shape).unwrap(), &input.values, gradient).unwrap());
    }
    let losses = forward(&mut tape, &operands).unwrap();
    let mut all = vec![tape.value(losses).to_vec()];
    tape.backward(losses).unwrap();
    all.extend(gradients);
    assert!(all.iter().flatten().all(|value| value.is_finite()));
    all.iter().map(|values| values.iter().map(|value| value.to_bits()).collect()).collect()
}

fn same_everywhere(network: &(impl Fn() -> Vec<Vec<u32>> + Sync)) -> Vec<Vec<u32>> {
    let expected = with_threads(1, network);
    for isa in Isa::available() {
        for threads in [1, 2, 4] {
            let got = with_threads(threads, || isa.force(network));
            for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
                assert!(got == expected, "output {index} on {} with {threads} threads", isa.name());
            }
        }
    }
    expected
}

const SEQUENCES: usize = 16;
const TOKENS: usize = 32;
const WIDTH: usize = 48;
const CLASSES: usize = 65;

static IDS: [u32; SEQUENCES * TOKENS] = {
    let (mut ids, mut place) = ([0; SEQUENCES * TOKENS], 0);
    while place < SEQUENCES * TOKENS {
        ids[place] = (place * place % CLASSES) as u32;
        place += 1;
    }
    ids
};

/// A transformer's block over tokens, 512 rows of 48: enough for its products and rows to be divided over threads.
fn of_tokens(more: f32) -> Vec<Vec<u32>> {
    let labels: Vec<u32> = IDS.iter().map(|id| (id + 7) % CLASSES as u32).collect();
    let mut inputs = vec![
        uniform(1, &[CLASSES, WIDTH], -0.5, 0.5),
        uniform(2, &[TOKENS, WIDTH], -0.5, 0.5),
        uniform(3, &[WIDTH], 0.5, 1.5),
        uniform(4, &[WIDTH], -0.5, 0.5),
        uniform(5, &[3 * WIDTH, WIDTH], -0.2, 0.2),
        uniform(6, &[3 * WIDTH], -0.2, 0.2),
        uniform(7, &[4 * WIDTH, WIDTH], -0.2, 0.2),
        uniform(8, &[4 * WIDTH, WIDTH], -0.2, 0.2),
    ];
    inputs[0].values[0] += more;
    bits_of(&inputs, |tape, of| {
        let x = tape.embedding(of[0], &IDS, &[SEQUENCES, TOKENS])?;
        let x = tape.add(x, of[1])?;
        let normed = tape.layer_norm(x, of[2], of[3], 1e-5)?;
        let qkv = tape.linear(normed, of[4], Some(of[5]))?;
        let attended = tape.causal_attention(qkv, 4)?;
        let attended = tape.dropout(attended, 0.1, StreamKey::from_bytes([9; 8]))?;
        let x = tape.add(x, attended)?;
        let wide = tape.linear(x, of[6], None)?;
        let wide = tape.gelu(wide)?;
        let wide = tape.reshape(wide, Shape::new(&[IDS.len(), 4 * WIDTH])?)?;
        let narrow = tape.matmul(wide, of[7], Product::Nn)?;
        let x = tape.reshape(x, Shape::new(&[IDS.len(), WIDTH])?)?;
        let x = tape.add(x, narrow)?;
        let logits = tape.linear(x, of[0], None)?;
        tape.cross_entropy(logits, &labels)
    })
}

/// Convolutions, pools and functions of each element over 24 images of 4 × 32 × 32.
fn of_images() -> Vec<Vec<u32>> {
    let inputs = [
        uniform(11, &[24, 4, 32, 32], -1.0, 1.0),
        uniform(12, &[8, 4, 3, 3], -0.3, 0.3),
        uniform(13, &[8], -0.3, 0.3),
    ];
    bits_of(&inputs, |tape, of| {
        let conv = Conv2d { stride: [1, 1], padding: [1, 1] };
        let pool = Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 0] };
        let x = tape.conv2d(of[0], of[1], of[2], conv)?;
        let left = tape.relu(x)?;
        let right = tape.silu(x)?;
        let x = tape.mul(left, right)?;
        let largest = tape.max_pool2d(x, pool)?;
        let averages = tape.avg_pool2d(x, pool, AverageOver::Window)?;
        let x = tape.concat(&[largest, averages], 1)?;
        let x = tape.permute(x, &[0, 2, 3, 1])?;
        let spread = tape.logsumexp_axis(x, 2)?;
        let spread = tape.reshape(spread, Shape::new(&[24, 16, 1, 16])?)?;
        let x = tape.sub(x, spread)?;
        let x = tape.tanh(x)?;
        let x = tape.softmax(x)?;
        let x = tape.sqrt(x)?;
        let sums = tape.sum_axis(x, 1)?;
        let means = tape.mean_axis(sums, 1)?;
        let most = tape.max_axis(sums, 2)?;
        let (a, b) = (tape.sum(means)?, tape.mean(most)?);
        tape.div(a, b)
    })
}

#[test]
fn a_network_of_tokens_has_the_same_bits_everywhere() {
    let expected = same_everywhere(&|| of_tokens(0.0));
    // The negative control: one unit in the last place of one weight is seen.
    assert_ne!(of_tokens(f32::EPSILON), expected);
}

#[test]
fn a_network_of_images_has_the_same_bits_everywhere() {
    same_everywhere(&of_images);
}

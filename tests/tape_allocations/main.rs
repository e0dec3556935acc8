//! A pass of a tape, forwards and backwards, allocates as much for a small batch as for a large one: what grows with the batch lies in
//! its buffers, once there was a first pass. Counted on one thread, where the kernels allocate nothing.
//!
//! One test, so that nothing else in the process allocates meanwhile.

use bitproof_kernels::{with_threads, Conv2d, Pool2d, StreamKey};
use bitproof_telemetry::{allocations, peak_of_thread, CountingAllocator};
use bitproof_training::tape::{Buffers, Shape, Tape, TapeError};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const IMAGE: usize = 12;
const TOKENS: usize = 8;
const WIDTH: usize = 16;

#[test]
fn a_pass_allocates_nothing_that_grows_with_the_batch() {
    with_threads(1, || {
        let mut buffers = Buffers::default();
        let mut batches = [2, 50].map(Batch::new);
        for batch in &mut batches {
            batch.pass(&mut buffers).unwrap();
        }
        let kept = buffers.kept();
        let [small, large] = &mut batches;
        let expected = small.count(&mut buffers);
        for _ in 0..3 {
            assert_eq!(large.count(&mut buffers), expected, "blocks, and the most bytes at once");
            assert_eq!(small.count(&mut buffers), expected);
        }
        assert_eq!(buffers.kept(), kept);
        // The negative control: a first pass.
        let first = large.count(&mut Buffers::default());
        assert!(
            first.0 > expected.0 && first.1 > 50 * TOKENS as u64 * WIDTH as u64 * 4,
            "{first:?} {expected:?}"
        );
    });
}

/// Images and sequences, with memory for the gradients of what learns.
struct Batch {
    images: Vec<f32>,
    ids: Vec<u32>,
    labels: Vec<u32>,
    parameters: [(Shape, Vec<f32>, Vec<f32>); 7],
}

impl Batch {
    fn new(size: usize) -> Batch {
        let numbers = |count: usize| (0..count).map(|i| (i % 23) as f32 * 0.01 - 0.1).collect::<Vec<f32>>();
        let parameter = |axes: &[usize]| {
            let shape = Shape::new(axes).unwrap();
            (shape, numbers(shape.elements()), vec![0.0; shape.elements()])
        };
        Batch {
            images: numbers(size * IMAGE * IMAGE),
            ids: (0..size * TOKENS).map(|i| i as u32 % 5).collect(),
            labels: (0..size * TOKENS).map(|i| i as u32 % 3).collect(),
            parameters: [
                parameter(&[2, 1, 5, 5]),
                parameter(&[2]),
                parameter(&[5, WIDTH]),
                parameter(&[WIDTH]),
                parameter(&[WIDTH]),
                parameter(&[3 * WIDTH, WIDTH]),
                parameter(&[3, WIDTH]),
            ],
        }
    }

    /// Blocks that a pass asked for, and the most bytes that it held.
    fn count(&mut self, buffers: &mut Buffers) -> (u64, u64) {
        let before = allocations();
        let ((), peak) = peak_of_thread(|| self.pass(buffers).unwrap());
        (allocations() - before, peak)
    }

    /// A convolutional layer on the images beside a transformer's on the tokens.
    fn pass(&mut self, buffers: &mut Buffers) -> Result<(), TapeError> {
        let size = self.images.len() / IMAGE / IMAGE;
        let mut tape = Tape::new(buffers);
        let images = tape.constant(Shape::new(&[size, 1, IMAGE, IMAGE])?, &self.images)?;
        let mut of = [images; 7];
        for (var, (shape, values, gradient)) in of.iter_mut().zip(&mut self.parameters) {
            *var = tape.variable(*shape, values, gradient)?;
        }
        let [filters, filter_bias, table, gamma, beta, qkv, last] = of;
        let y = tape.conv2d(images, filters, filter_bias, Conv2d::default())?;
        let y = tape.relu(y)?;
        let y = tape.max_pool2d(y, Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 0] })?;
        let y = tape.reshape(y, Shape::new(&[size, 2, WIDTH])?)?;
        let y = tape.mean_axis(y, 1)?;
        let y = tape.reshape(y, Shape::new(&[size, 1, WIDTH])?)?;
        let x = tape.embedding(table, &self.ids, &[size, TOKENS])?;
        let x = tape.add(x, y)?;
        let normed = tape.layer_norm(x, gamma, beta, 1e-5)?;
        let heads = tape.linear(normed, qkv, None)?;
        let attended = tape.causal_attention(heads, 2)?;
        let attended = tape.dropout(attended, 0.1, StreamKey::from_bytes([3; 8]))?;
        let x = tape.add(x, attended)?;
        let x = tape.gelu(x)?;
        let logits = tape.linear(x, last, None)?;
        let losses = tape.cross_entropy(logits, &self.labels)?;
        tape.backward(losses)
    }
}

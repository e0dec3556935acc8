//! What is measured on: equal on every machine, and shared by the Criterion benches.

use bitproof_kernels::{Stream, StreamKey};
use ndarray::{Array, Array2, ShapeBuilder};
use std::ops::Range;

/// M, K, N and form: squares in and out of the caches, layers of models, products of a backward pass, and one that meets every
/// edge of tiles and blocks.
pub const MATMUL_CASES: [((usize, usize, usize), &str); 13] = [
    ((64, 64, 128), "nn"),
    ((64, 784, 256), "nn"),
    ((128, 128, 128), "nn"),
    ((256, 256, 1024), "nn"),
    ((512, 64, 512), "nn"),
    ((512, 512, 512), "nn"),
    ((301, 517, 1100), "nn"),
    ((1024, 1024, 1024), "nn"),
    ((2048, 2048, 2048), "nn"),
    ((64, 784, 256), "nt"),
    ((1024, 1024, 1024), "nt"),
    ((256, 64, 784), "tn"),
    ((1024, 1024, 1024), "tn"),
];

/// M, K and N of the Criterion benches.
pub const MATMUL_SHAPES: [(usize, usize, usize); 3] = [(64, 64, 128), (256, 256, 256), (512, 512, 512)];

/// Rows and classes: a batch of digits, and one of characters.
pub const SOFTMAX_SHAPES: [(usize, usize); 2] = [(64, 10), (4096, 64)];

/// A matrix whose axes are reduced and broadcast over: 4 MiB.
pub const AXIS_SHAPE: (usize, usize) = (1024, 1024);

/// Elements to sum: in the caches of first to third level, and in memory.
pub const SUM_LENGTHS: [usize; 4] = [4096, 65_536, 1_048_576, 33_554_432];

/// Elements of an elementary function: in the cache, and beyond.
pub const FUNCTION_LENGTHS: [usize; 2] = [4096, 1_048_576];

/// Images of a convolution: batch, channels and side, then output channels, side of the kernel and padding.
pub const CONVOLUTIONS: [Convolution; 3] = [
    Convolution { batch: 32, channels: 1, side: 28, outputs: 6, kernel: 5, padding: 2 },
    Convolution { batch: 32, channels: 6, side: 14, outputs: 16, kernel: 5, padding: 0 },
    Convolution { batch: 8, channels: 64, side: 28, outputs: 64, kernel: 3, padding: 1 },
];

/// Square images under a square kernel that moves one place at a time.
#[derive(Debug, Clone, Copy)]
pub struct Convolution {
    /// Images.
    pub batch: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Rows, and columns.
    pub side: usize,
    /// Channels of the result.
    pub outputs: usize,
    /// Rows of the kernel, and columns.
    pub kernel: usize,
    /// Zeros on each side.
    pub padding: usize,
}

impl Convolution {
    /// Rows of the result, and columns.
    pub fn places(&self) -> usize {
        self.side + 2 * self.padding - self.kernel + 1
    }

    /// Multiplications and additions of the forward pass, and of each of the two gradients.
    pub fn operations(&self) -> u64 {
        let places = self.batch * self.outputs * self.places() * self.places();
        2 * (places * self.channels * self.kernel * self.kernel) as u64
    }
}

/// Heads, and width of each.
pub const ATTENTION_HEADS: (usize, usize) = (4, 64);

/// Tokens of a sequence.
pub const ATTENTION_STEPS: [usize; 3] = [64, 256, 1024];

/// Rows of a dataset: digits, and one that leaves the caches.
pub const PERMUTATION_LENGTHS: [u32; 2] = [1_797, 1_000_000];

/// The key of a stream by its name.
pub fn key(name: &[u8; 8]) -> StreamKey {
    StreamKey::from_bytes(*name)
}

/// Uniform in [−1, 1), row by row from the stream of this name.
pub fn matrix(rows: usize, columns: usize, name: &[u8; 8]) -> Array2<f32> {
    tensor((rows, columns), name)
}

/// As [`matrix`], of any shape.
pub fn tensor<S: ShapeBuilder>(shape: S, name: &[u8; 8]) -> Array<f32, S::Dim> {
    between(-1.0..1.0, shape, name)
}

/// As [`tensor`], uniform in another range.
pub fn between<S: ShapeBuilder>(range: Range<f32>, shape: S, name: &[u8; 8]) -> Array<f32, S::Dim> {
    let mut stream = Stream::new(key(name));
    let width = range.end - range.start;
    Array::from_shape_simple_fn(shape, || stream.uniform_f32() * width + range.start)
}

/// One label below `classes` for each row.
pub fn labels(rows: usize, classes: usize) -> Vec<u32> {
    let mut stream = Stream::new(key(b"labels  "));
    (0..rows).map(|_| stream.bounded(classes as u64) as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_lie_in_their_ranges_and_depend_on_their_names() {
        let a = matrix(30, 20, b"operandA");
        assert!(a.iter().all(|value| (-1.0..1.0).contains(value)));
        assert_eq!(a, matrix(30, 20, b"operandA"));
        assert_ne!(a, matrix(30, 20, b"operandB"));
        let labels = labels(1000, 10);
        assert!((0..10).all(|class| labels.contains(&class)) && labels.iter().all(|&label| label < 10));
    }
}

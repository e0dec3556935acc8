//! What is measured on: equal on every machine, and shared by the Criterion benches.

use bitproof_kernels::{Stream, StreamKey};
use ndarray::Array2;

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

/// Rows of a dataset: digits, and one that leaves the caches.
pub const PERMUTATION_LENGTHS: [u32; 2] = [1_797, 1_000_000];

/// The key of a stream by its name.
pub fn key(name: &[u8; 8]) -> StreamKey {
    StreamKey::from_bytes(*name)
}

/// Uniform in [−1, 1), row by row from the stream of this name.
pub fn matrix(rows: usize, columns: usize, name: &[u8; 8]) -> Array2<f32> {
    let mut stream = Stream::new(key(name));
    Array2::from_shape_simple_fn((rows, columns), || stream.uniform_f32() * 2.0 - 1.0)
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

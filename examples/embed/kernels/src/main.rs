//! A reproducible product and shuffle with `kernels` alone: `cargo run -p bitproof-embed-kernels`.
#![expect(clippy::print_stdout, reason = "it shows what it did")]

use std::num::NonZeroUsize;

use anyhow::{Context as _, Result};
use bitproof_kernels::{embedding_into, matmul, normal, with_threads, Batches, LastBatch, Stream, StreamKey};
use ndarray::{s, Array2};

/// An epoch over a table of random numbers: the bits of all products, in an order that the key decides.
fn epoch(key: StreamKey, batch_size: usize) -> Result<Vec<u32>> {
    // Word i of a stream depends on key and i alone, so nothing that is drawn depends on threads.
    let mut stream = Stream::new(key);
    let (mut table, mut weight) = (Array2::zeros((100, 64)), Array2::zeros((16, 64)));
    for values in [&mut table, &mut weight] {
        normal(0.0, 1.0, values.as_slice_mut().context("a new array is contiguous")?, &mut stream);
    }
    let mut bits = Vec::new();
    // A seeded shuffle, cut into batches; the last one is shorter.
    let size = NonZeroUsize::new(batch_size).context("a batch has rows")?;
    for rows in &Batches::shuffled(100, size, LastBatch::Keep, key) {
        let mut batch = Array2::zeros((rows.len(), 64));
        embedding_into(table.view(), rows, batch.view_mut())?;
        // Any view is an operand: here a transposed one, and every second row backwards.
        let product = matmul(batch.view(), weight.slice(s![..;-2, ..]).t())?;
        bits.extend(product.iter().map(|value| value.to_bits()));
    }
    Ok(bits)
}

fn main() -> Result<()> {
    let bits = with_threads(2, || epoch(StreamKey::from_bytes(*b"epoch  1"), 32))?;
    println!("{} products; these are the first bits, on any processor: {:08x?}", bits.len(), &bits[..4]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_depend_on_the_key_and_on_nothing_else() {
        let key = StreamKey::from_bytes(*b"epoch  1");
        let expected = epoch(key, 32).unwrap();
        assert_eq!(expected.len(), 800);
        for threads in [1, 3] {
            assert_eq!(with_threads(threads, || epoch(key, 32)).unwrap(), expected);
        }
        assert_eq!(epoch(key, 7).unwrap(), expected, "a row's product does not know its batch");
        assert_ne!(epoch(StreamKey::from_bytes(*b"epoch  2"), 32).unwrap(), expected);
    }
}

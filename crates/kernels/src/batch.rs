use std::iter::FusedIterator;
use std::num::NonZeroUsize;

use crate::shuffle::permutation;
use crate::stream::StreamKey;

/// What happens to a last batch that is not full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastBatch {
    /// It comes, shorter than the others.
    Keep,
    /// It is left out.
    Drop,
}

/// One epoch's row numbers, cut into batches. The order is a function of the number of rows and the key alone.
///
/// ```
/// use bitproof_kernels::{Batches, LastBatch, StreamKey};
/// let size = std::num::NonZeroUsize::new(4).unwrap();
/// let batches = Batches::shuffled(10, size, LastBatch::Keep, StreamKey::from_bytes(*b"epoch  1"));
/// assert_eq!(batches.len(), 3);
/// let rows: usize = batches.iter().map(|batch: &[u32]| batch.len()).sum();
/// assert_eq!(rows, 10);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batches {
    /// The rows that are given out, in order.
    order: Vec<u32>,
    size: NonZeroUsize,
}

impl Batches {
    /// The rows `0..rows` in the order of [`permutation`], `size` at a time.
    pub fn shuffled(rows: u32, size: NonZeroUsize, last: LastBatch, key: StreamKey) -> Batches {
        Batches::of(permutation(rows, key), size, last)
    }

    /// The rows `0..rows` in rising order, as for an evaluation.
    pub fn in_order(rows: u32, size: NonZeroUsize, last: LastBatch) -> Batches {
        Batches::of((0..rows).collect(), size, last)
    }

    fn of(mut order: Vec<u32>, size: NonZeroUsize, last: LastBatch) -> Batches {
        if last == LastBatch::Drop {
            order.truncate(order.len() / size * size.get());
        }
        Batches { order, size }
    }

    /// The number of batches.
    pub fn len(&self) -> usize {
        self.order.len().div_ceil(self.size.get())
    }

    /// Whether there is no batch.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Batch `index`, counted from 0: to go on in the middle of an epoch.
    pub fn get(&self, index: usize) -> Option<&[u32]> {
        let from = index.checked_mul(self.size.get())?;
        let rest = self.order.get(from..).filter(|rest| !rest.is_empty())?;
        Some(&rest[..rest.len().min(self.size.get())])
    }

    /// The batches in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> + DoubleEndedIterator + FusedIterator + '_ {
        self.order.chunks(self.size.get())
    }
}

impl<'a> IntoIterator for &'a Batches {
    type Item = &'a [u32];
    type IntoIter = std::slice::Chunks<'a, u32>;

    fn into_iter(self) -> Self::IntoIter {
        self.order.chunks(self.size.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> StreamKey {
        StreamKey::from_bytes(*b"batches ")
    }

    fn size(size: usize) -> NonZeroUsize {
        NonZeroUsize::new(size).unwrap()
    }

    #[test]
    fn batches_cut_the_permutation() {
        let order = permutation(10, key());
        let keep = Batches::shuffled(10, size(4), LastBatch::Keep, key());
        assert_eq!(keep.iter().collect::<Vec<_>>(), [&order[..4], &order[4..8], &order[8..]]);
        let drop = Batches::shuffled(10, size(4), LastBatch::Drop, key());
        assert_eq!(drop.iter().collect::<Vec<_>>(), [&order[..4], &order[4..8]]);
        for batches in [keep, drop] {
            assert_eq!(batches.iter().len(), batches.len());
            for (index, batch) in (&batches).into_iter().enumerate() {
                assert_eq!(batches.get(index), Some(batch));
            }
            assert_eq!(batches.get(batches.len()), None);
            assert_eq!(batches.get(usize::MAX), None);
        }
    }

    #[test]
    fn edges() {
        assert_eq!(Batches::in_order(8, size(4), LastBatch::Keep).len(), 2);
        assert_eq!(Batches::in_order(3, size(4), LastBatch::Keep).get(0), Some(&[0, 1, 2][..]));
        assert!(Batches::in_order(3, size(4), LastBatch::Drop).is_empty());
        assert_eq!(Batches::in_order(0, size(4), LastBatch::Keep).iter().next(), None);
        assert_eq!(Batches::in_order(2, size(usize::MAX), LastBatch::Keep).len(), 1);
    }
}

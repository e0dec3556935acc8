//! Reductions: one tree for every sum, the first of the largest for every maximum.

use std::ops::Add;

/// Lanes of a chunk: element `e` of a chunk belongs to lane `e mod 64`.
pub(crate) const LANES: usize = 64;
/// Elements of a chunk.
pub(crate) const CHUNK: usize = 16_384;

/// The sum of `of(x)` over all `x`, in the tree of [`sum`](crate::sum).
pub(crate) fn tree_sum<X: Copy, T>(values: &[X], of: impl Fn(X) -> T + Copy) -> T
where
    T: Copy + Default + Add<Output = T>,
{
    let chunks = values.len().div_ceil(CHUNK);
    if chunks <= 1 {
        return chunk_sum(values, of);
    }
    let (left, right) = values.split_at(left_chunks(chunks) * CHUNK);
    tree_sum(left, of) + tree_sum(right, of)
}

/// How many of at least two chunks the left half of their tree has: the largest power of two below their number, which is
/// what pairing neighbours level by level comes to.
pub(crate) fn left_chunks(chunks: usize) -> usize {
    chunks.next_power_of_two() / 2
}

fn chunk_sum<X: Copy, T>(chunk: &[X], of: impl Fn(X) -> T) -> T
where
    T: Copy + Default + Add<Output = T>,
{
    let mut lanes = [T::default(); LANES];
    for row in chunk.chunks(LANES) {
        for (lane, &x) in lanes.iter_mut().zip(row) {
            *lane = *lane + of(x);
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = lanes[lane] + lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The first index of the largest element, or of the first NaN if there is one; `None` for an empty slice.
pub(crate) fn argmax(values: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value.is_nan() {
            return Some(index);
        }
        if value > values[best] {
            best = index;
        }
    }
    (!values.is_empty()).then_some(best)
}

/// The element that [`argmax`] names, with the canonical NaN for any NaN; `−∞` for an empty slice.
pub(crate) fn max(values: &[f32]) -> f32 {
    argmax(values).map_or(f32::NEG_INFINITY, |index| crate::canonical_nan(values[index]))
}

//! Memory that tapes hand from step to step.

use std::collections::BTreeMap;

use bitproof_kernels::RowMoments;

/// Vectors that are not in use, by their length.
#[derive(Debug, Default)]
pub struct Buffers {
    numbers: Pool<f32>,
    indices: Pool<u32>,
    moments: Pool<RowMoments>,
}

impl Buffers {
    /// A vector of this length, holding whatever its last user left.
    pub(super) fn take<T: Element>(&mut self, elements: usize) -> Vec<T> {
        let kept = T::pool(self).0.get_mut(&elements).and_then(Vec::pop);
        kept.unwrap_or_else(|| vec![T::default(); elements])
    }

    /// Keeps a vector for the next who asks for its length.
    pub(super) fn give_back<T: Element>(&mut self, spent: Vec<T>) {
        T::pool(self).0.entry(spent.len()).or_default().push(spent);
    }

    /// How many elements are kept: what a training of one batch size needs, and no more after its first step.
    pub fn kept(&self) -> usize {
        self.numbers.kept() + self.indices.kept() + self.moments.kept()
    }

    /// Writes over what the last users left, so that a test sees who reads it.
    #[cfg(test)]
    pub(super) fn soil(&mut self) {
        fn fill<T: Element>(pool: &mut Pool<T>, value: T) {
            pool.0.values_mut().flatten().for_each(|vector| vector.fill(value));
        }
        fill(&mut self.numbers, f32::NAN);
        fill(&mut self.indices, u32::MAX);
        fill(&mut self.moments, RowMoments { mean: f64::NAN, inverse_std: f64::NAN });
    }
}

/// Vectors of one type.
#[derive(Debug, Default)]
pub(super) struct Pool<T>(BTreeMap<usize, Vec<Vec<T>>>);

impl<T> Pool<T> {
    fn kept(&self) -> usize {
        self.0.iter().map(|(elements, vectors)| elements * vectors.len()).sum()
    }
}

/// What vectors are kept of.
pub(super) trait Element: Copy + Default {
    fn pool(buffers: &mut Buffers) -> &mut Pool<Self>;
}

impl Element for f32 {
    fn pool(buffers: &mut Buffers) -> &mut Pool<Self> {
        &mut buffers.numbers
    }
}

impl Element for u32 {
    fn pool(buffers: &mut Buffers) -> &mut Pool<Self> {
        &mut buffers.indices
    }
}

impl Element for RowMoments {
    fn pool(buffers: &mut Buffers) -> &mut Pool<Self> {
        &mut buffers.moments
    }
}

//! Memory that tapes hand from step to step.

use std::collections::BTreeMap;

/// Vectors that are not in use, by their length.
#[derive(Debug, Default)]
pub struct Buffers {
    free: BTreeMap<usize, Vec<Vec<f32>>>,
}

impl Buffers {
    /// A vector of this length, holding whatever its last user left.
    pub(super) fn take(&mut self, elements: usize) -> Vec<f32> {
        let kept = self.free.get_mut(&elements).and_then(Vec::pop);
        kept.unwrap_or_else(|| vec![0.0; elements])
    }

    /// Keeps a vector for the next who asks for its length.
    pub(super) fn give_back(&mut self, spent: Vec<f32>) {
        self.free.entry(spent.len()).or_default().push(spent);
    }

    /// How many numbers are kept: what a training of one batch size needs, and no more after its first step.
    pub fn kept(&self) -> usize {
        self.free.iter().map(|(elements, vectors)| elements * vectors.len()).sum()
    }

    /// Writes over what the last users left, so that a test sees who reads it.
    #[cfg(test)]
    pub(super) fn soil(&mut self) {
        self.free.values_mut().flatten().for_each(|vector| vector.fill(f32::NAN));
    }
}

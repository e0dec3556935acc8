//! Batches out of a part of a dataset: rows gathered by their numbers.

use bitproof_kernels::embedding_into;
use ndarray::{s, Array2};

use crate::data::{Examples, Part, Targets, Text};
use crate::trainable::{Batch, BatchTargets, Inputs, TrainableError};

/// Rows that were gathered, in the order that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedBatch {
    inputs: OwnedInputs,
    targets: OwnedTargets,
}

#[derive(Debug, Clone, PartialEq)]
enum OwnedInputs {
    Examples { shape: Vec<usize>, values: Array2<f32> },
    Tokens(Array2<u32>),
}

#[derive(Debug, Clone, PartialEq)]
enum OwnedTargets {
    Classes(Vec<u32>),
    Values(Vec<f32>),
}

impl OwnedBatch {
    /// The batch as a model takes it.
    pub fn view(&self) -> Batch<'_> {
        let inputs = match &self.inputs {
            OwnedInputs::Examples { shape, values } => Inputs::Examples { shape, values: values.view() },
            OwnedInputs::Tokens(tokens) => Inputs::Tokens(tokens.view()),
        };
        let targets = match &self.targets {
            OwnedTargets::Classes(labels) => BatchTargets::Classes(labels),
            OwnedTargets::Values(values) => BatchTargets::Values(values),
        };
        Batch { inputs, targets }
    }
}

impl Part {
    /// Some rows, in this order. A row of a text is the place where a window begins: the model sees the window and is to say, for each
    /// character, the one after it.
    ///
    /// # Errors
    /// [`TrainableError::Kernel`] when a row is not below [`Part::rows`].
    pub fn gather(&self, rows: &[u32]) -> Result<OwnedBatch, TrainableError> {
        match self {
            Self::Examples(examples) => gather_examples(examples, rows),
            Self::Text(text) => Ok(gather_windows(text, rows.iter().map(|&row| row as usize))),
        }
    }
}

fn gather_examples(examples: &Examples, rows: &[u32]) -> Result<OwnedBatch, TrainableError> {
    let mut values = Array2::zeros((rows.len(), examples.features.ncols()));
    embedding_into(examples.features.view(), rows, values.view_mut())?;
    let targets = match &examples.targets {
        Targets::Classes { labels, .. } => {
            OwnedTargets::Classes(rows.iter().map(|&row| labels[row as usize]).collect())
        }
        Targets::Values(all) => OwnedTargets::Values(rows.iter().map(|&row| all[row as usize]).collect()),
    };
    Ok(OwnedBatch { inputs: OwnedInputs::Examples { shape: examples.shape.clone(), values }, targets })
}

fn gather_windows(text: &Text, starts: impl ExactSizeIterator<Item = usize>) -> OwnedBatch {
    let window = text.window as usize;
    let mut tokens = Array2::zeros((starts.len(), window));
    let mut labels = Vec::with_capacity(starts.len() * window);
    for (row, start) in starts.enumerate() {
        let seen = ndarray::ArrayView1::from(&text.tokens[start..start + window]);
        tokens.slice_mut(s![row, ..]).assign(&seen);
        labels.extend_from_slice(&text.tokens[start + 1..start + 1 + window]);
    }
    OwnedBatch { inputs: OwnedInputs::Tokens(tokens), targets: OwnedTargets::Classes(labels) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn rows_come_in_the_order_that_is_asked_for() {
        let targets = Targets::Classes { labels: vec![5, 6, 7], classes: 8 };
        let features = array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
        let part = Part::Examples(Examples { shape: vec![2], features, targets });
        let batch = part.gather(&[2, 0]).unwrap();
        let Batch { inputs: Inputs::Examples { shape, values }, targets } = batch.view() else { panic!() };
        assert_eq!(
            (shape, values, targets),
            (&[2][..], array![[5.0, 6.0], [1.0, 2.0]].view(), BatchTargets::Classes(&[7, 5]))
        );
        assert!(part.gather(&[3]).is_err());
    }

    #[test]
    fn each_character_of_a_window_is_followed_by_its_target() {
        let part =
            Part::Text(Text { tokens: (0..8).collect(), vocabulary: ('a'..='h').collect(), window: 3 });
        assert_eq!(part.rows(), 5, "the last window has a character after it");
        let batch = part.gather(&[4, 1]).unwrap();
        let Batch { inputs: Inputs::Tokens(tokens), targets } = batch.view() else { panic!() };
        assert_eq!(tokens, array![[4, 5, 6], [1, 2, 3]].view());
        assert_eq!(targets, BatchTargets::Classes(&[5, 6, 7, 2, 3, 4]));
    }
}

//! A part as rows with their classes, which is what an MLP learns from.

use ndarray::Array2;

use super::StageError;
use crate::data::{Examples, Part, Targets};

/// Rows with their classes.
pub(super) struct Rows {
    /// (rows, features).
    pub(super) features: Array2<f32>,
    /// Below `classes`.
    pub(super) labels: Vec<u32>,
    pub(super) classes: u32,
}

impl Rows {
    /// Of a part's bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StageError> {
        match Part::decode(bytes)? {
            Part::Examples(Examples { features, targets: Targets::Classes { labels, classes }, .. }) => {
                Ok(Self { features, labels, classes })
            }
            Part::Examples(_) => Err(StageError::NoClasses { holds: "numbers" }),
            Part::Text(_) => Err(StageError::NoClasses { holds: "characters" }),
        }
    }
}

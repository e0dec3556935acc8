//! Temporary.
use ndarray::Array2;
/// A part of a dataset as it passes between stages.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Rows of numbers.
    Examples(Examples),
    /// Characters.
    Text(Text),
}

/// Rows of numbers, each with what is to be learned of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// The shape of one example: `[64]` for a table, `[1, 28, 28]` for images (channels, height, width); 1 to 4 axes, none of length 0.
    pub shape: Vec<usize>,
    /// (rows, product of `shape`), all finite.
    pub features: Array2<f32>,
    /// One for each row.
    pub targets: Targets,
}

/// What is to be learned of each row.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Classification: which of `classes` it belongs to.
    Classes {
        /// The class of each row, below `classes`.
        labels: Vec<u32>,
        /// How many classes the whole dataset has.
        classes: u32,
    },
    /// Regression: a finite number for each row.
    Values(Vec<f32>),
}

/// Characters as indices into a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Each below the length of `vocabulary`.
    pub tokens: Vec<u32>,
    /// The characters of the whole dataset, ascending.
    pub vocabulary: Vec<char>,
    /// How many characters a model sees at once; at least 1.
    pub window: u32,
}

impl Targets {
    /// How many rows there are targets of.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { labels, .. } => labels.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of some rows, in their order.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Classes { labels, classes } => {
                Self::Classes { labels: rows.iter().map(|&row| labels[row]).collect(), classes: *classes }
            }
            Self::Values(values) => Self::Values(rows.iter().map(|&row| values[row]).collect()),
        }
    }
}

impl Part {
    /// Rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Examples(examples) => examples.features.nrows(),
            Self::Text(text) => text.tokens.len().saturating_sub(text.window as usize),
        }
    }
}

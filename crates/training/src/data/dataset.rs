//! The files of a dataset, whatever their format, before they are split.

use ndarray::{concatenate, Array2, Axis};

use super::numbers::{table, Column};
use super::{
    read_csv, read_idx, read_npy_dataset, read_tensors, read_text, Characters, DataError, Examples,
    TargetKind,
};
use crate::pipeline::{Content, DatasetParams, ExamplesParams, Format};

/// A dataset as its files hold it.
#[derive(Debug, Clone, PartialEq)]
pub enum Dataset {
    /// Rows of numbers.
    Examples(Table),
    /// Characters.
    Text(Characters),
}

/// Rows of numbers with the names of things.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Every row.
    pub examples: Examples,
    /// The names of the columns where the file gives them, else none.
    pub columns: Vec<String>,
    /// The names of the classes; none for regression.
    pub classes: Vec<String>,
    /// How many of the last rows came in files of their own, to be the test part.
    pub own_test: usize,
}

/// One of a dataset's files cannot be read, or does not fit the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source}")]
pub struct ReadError {
    /// Which: an index into the inputs.
    pub input: usize,
    /// What is wrong.
    pub source: DataError,
}

/// Says in which file an error is.
pub(super) trait InFile<T> {
    fn in_file(self, input: usize) -> Result<T, ReadError>;
}

impl<T> InFile<T> for Result<T, DataError> {
    fn in_file(self, input: usize) -> Result<T, ReadError> {
        self.map_err(|source| ReadError { input, source })
    }
}

/// Reads a dataset's files, which come in the order of [`DatasetParams::input_names`].
///
/// # Errors
/// [`ReadError`] with the file and the place in it.
///
/// # Panics
/// When there are not as many files as the format takes; [`DatasetParams::takes`] tells.
pub fn read_dataset(params: &DatasetParams, inputs: &[&[u8]]) -> Result<Dataset, ReadError> {
    assert!(params.takes(inputs.len()), "the caller has counted the files");
    let Content::Examples(ExamplesParams { format, targets, .. }) = &params.content else {
        return read_text(inputs[0]).map(Dataset::Text).in_file(0);
    };
    let table = match format {
        Format::Csv(options) => read_csv(inputs[0], options, *targets).in_file(0),
        Format::Idx => read_idx(inputs, *targets),
        Format::Npy => read_npy_dataset(inputs, *targets),
        Format::Safetensors { features, labels } => {
            read_tensors(inputs[0], features, labels, *targets).in_file(0)
        }
    };
    table.map(Dataset::Examples)
}

type Pair = ((Vec<usize>, Array2<f32>), Column);

/// Reads one or two pairs of files of features and of labels; the rows of the second pair come after those of the first.
pub(super) fn join_features(
    inputs: &[&[u8]],
    read: impl Fn(usize, usize) -> Result<Pair, ReadError>,
) -> Result<Table, ReadError> {
    let ((shape, features), targets) = read(0, 1)?;
    if inputs.len() <= 2 {
        return table(shape, features, targets, 0).in_file(1);
    }
    let ((test_shape, test_features), test_targets) = read(2, 3)?;
    if test_shape != shape {
        return Err(DataError::Shapes { expected: shape, got: test_shape }).in_file(2);
    }
    let own_test = test_features.nrows();
    let too_large = |_| DataError::TooLarge { what: "numbers", limit: super::MAX_ELEMENTS };
    if (features.len() + test_features.len()) as u64 > super::MAX_ELEMENTS {
        return Err(too_large(())).in_file(2);
    }
    let features = concatenate(Axis(0), &[features.view(), test_features.view()])
        .map_err(|_| too_large(()))
        .in_file(2)?;
    table(shape, features, targets.followed_by(test_targets), own_test).in_file(1)
}

impl TargetKind {
    /// What the pipeline file and the schema call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Classes => "classification",
            Self::Values => "regression",
        }
    }
}

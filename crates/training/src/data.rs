//! Data: readers for files, splits, and the form in which a part passes between stages.

mod categories;
mod csv;
mod dataset;
mod files;
mod gzip;
mod idx;
mod npy;
mod numbers;
mod part;
mod split;
mod standardise;
mod tensors;
mod text;

pub use csv::{read_csv, CsvOptions};
use dataset::{join_features, InFile};
pub use dataset::{read_dataset, Dataset, ReadError, Table};
pub use files::DataFiles;
pub use idx::read_idx;
pub use npy::read_npy_dataset;
pub use part::{Examples, Part, Targets, Text};
pub use split::{split, split_text, Split, TextSplit};
pub use standardise::{scale, Statistics};
pub use tensors::read_tensors;
pub use text::{read_text, Characters};

/// The most bytes that a compressed file may unpack to.
pub const MAX_UNPACKED_BYTES: u64 = 1 << 30;
/// The most rows.
pub const MAX_ROWS: u64 = 1 << 28;
/// The most columns of a table.
pub const MAX_COLUMNS: u64 = 1 << 20;
/// The most numbers of a row, whatever its shape.
pub const MAX_FEATURES: u64 = 1 << 24;
/// The most numbers of a dataset: 4 GiB of f32.
pub const MAX_ELEMENTS: u64 = 1 << 30;
/// The most axes of an example.
pub const MAX_AXES: usize = 4;
/// The most characters of a text: 1 GiB of tokens.
pub const MAX_CHARACTERS: u64 = 1 << 28;

/// What is to be learned of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Classification: a class.
    Classes,
    /// Regression: a number.
    Values,
}

/// Data that cannot be read. Lines, rows and columns count from 1; a header is line 1 and no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// There is nothing in the file.
    #[error("the file is empty")]
    Empty,
    /// There is a header and nothing else.
    #[error("the file has no rows")]
    NoRows,
    /// The compressed file is damaged.
    #[error("the compressed file is damaged: {reason}")]
    Compression {
        /// What the decoder said.
        reason: String,
    },
    /// The file is larger than the limit, or has more rows or columns.
    #[error("the file has more than {limit} {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The file is not text, or a quote does not end.
    #[error("line {line}: {reason}")]
    Malformed {
        /// The line.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A row has another number of columns than the first.
    #[error("line {line}, column {}: the row has {got} columns, the first has {expected}", got.min(expected) + 1)]
    Ragged {
        /// The line.
        line: u64,
        /// How many columns the first row has.
        expected: usize,
        /// How many this one has.
        got: usize,
    },
    /// A cell is not a number.
    #[error("line {line}, column {column}: {cell:?} is not a number")]
    NotANumber {
        /// The line.
        line: u64,
        /// The column.
        column: usize,
        /// The cell, cut after 40 characters.
        cell: String,
    },
    /// A cell is NaN or infinite.
    #[error("line {line}, column {column}: {cell:?} is not a finite number")]
    NotFinite {
        /// The line.
        line: u64,
        /// The column.
        column: usize,
        /// The cell.
        cell: String,
    },
    /// A label is empty or not plain.
    #[error("line {line}, column {column}: {cell:?} cannot be a label")]
    Label {
        /// The line.
        line: u64,
        /// The column.
        column: usize,
        /// The cell, cut after 40 characters.
        cell: String,
    },
    /// A category is empty or not plain.
    #[error("line {line}, column {column}: {cell:?} cannot be a category")]
    Category {
        /// The line.
        line: u64,
        /// The column.
        column: usize,
        /// The cell, cut after 40 characters.
        cell: String,
    },
    /// A column that is asked for does not exist.
    #[error("there is no {what} column {wanted}; the file has {columns} columns{names}")]
    NoColumn {
        /// What it is to be.
        what: &'static str,
        /// What was asked for.
        wanted: String,
        /// How many columns there are.
        columns: usize,
        /// Their names, where there is a header.
        names: String,
    },
    /// A column cannot be one of categories.
    #[error("one_hot has the column {column}, which is {other}")]
    OneHotColumn {
        /// The column as it is asked for.
        column: String,
        /// What it is already.
        other: &'static str,
    },
    /// Every row has the same label.
    #[error("every row has the label {label:?}; there is nothing to tell apart")]
    OneClass {
        /// The label.
        label: String,
    },
    /// There is no column besides the label's.
    #[error("there is no column besides the label's")]
    NoFeatures,
    /// The rows do not suffice for the parts that are asked for.
    #[error("{rows} rows do not give a {part} part of {fraction}")]
    TooFewRows {
        /// How many rows there are.
        rows: usize,
        /// The part that would be empty.
        part: &'static str,
        /// Its share.
        fraction: String,
    },
    /// The characters do not suffice for the parts that are asked for.
    #[error(
        "the {part} part has {characters} characters; a window of {window} and the one after it do not fit"
    )]
    TooFewCharacters {
        /// The part.
        part: &'static str,
        /// How many it has.
        characters: usize,
        /// How many a model sees at once.
        window: u32,
    },
    /// A text is not UTF-8.
    #[error("line {line}, column {column}: the byte 0x{byte:02x} is not UTF-8")]
    NotUtf8 {
        /// The line.
        line: u64,
        /// The column, in characters.
        column: usize,
        /// The first byte that does not fit.
        byte: u8,
    },
    /// A text is one character over and over.
    #[error("every character is {character:?}; there is nothing to tell apart")]
    OneCharacter {
        /// The character.
        character: char,
    },
    /// A binary file is not right.
    #[error("byte {offset}: {reason}")]
    Binary {
        /// The offset in the unpacked file.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
    /// A file of tensors has none of the name.
    #[error("there is no tensor {wanted:?}; the file has {names}")]
    NoTensor {
        /// What was asked for.
        wanted: String,
        /// The names of those that there are, the first 20.
        names: String,
    },
    /// There are more or fewer labels than examples.
    #[error("there are {labels} labels for {examples} examples")]
    RowCounts {
        /// How many examples there are.
        examples: usize,
        /// How many labels.
        labels: usize,
    },
    /// The test part's examples have another shape than the others.
    #[error("an example has the shape {got:?}, those to learn from have {expected:?}")]
    Shapes {
        /// That of the others.
        expected: Vec<usize>,
        /// That of the test part's.
        got: Vec<usize>,
    },
    /// A number is beyond f32 once it was scaled.
    #[error("row {row}, feature {feature}: {step} makes {value} a number that is not finite")]
    Beyond {
        /// What was done.
        step: &'static str,
        /// The row, from 1.
        row: u64,
        /// The feature, from 0 as columns without names are.
        feature: usize,
        /// The number before.
        value: String,
    },
    /// Bytes are not a dataset part.
    #[error("not a dataset part: {reason} at byte {offset}")]
    Part {
        /// Where.
        offset: usize,
        /// Why.
        reason: &'static str,
    },
}

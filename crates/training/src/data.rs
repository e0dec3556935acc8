//! Data: readers for files, splits, and the form in which a part passes between stages.

mod csv;
mod files;
pub mod next;
mod part;
mod split;

pub use csv::{read_csv, CsvOptions, Table, MAX_COLUMNS, MAX_ROWS, MAX_UNPACKED_BYTES};
pub use files::DataFiles;
pub use part::Part;
pub use split::{split, Split};

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
    /// The label's column does not exist.
    #[error("there is no label column {wanted}; the file has {columns} columns{names}")]
    LabelColumn {
        /// What was asked for.
        wanted: String,
        /// How many columns there are.
        columns: usize,
        /// Their names, where there is a header.
        names: String,
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
    /// Bytes are not a dataset part.
    #[error("not a dataset part: {reason} at byte {offset}")]
    Part {
        /// Where.
        offset: usize,
        /// Why.
        reason: &'static str,
    },
}

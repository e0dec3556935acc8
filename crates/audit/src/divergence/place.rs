//! Where in a content a value is, and what it is on either side.

use std::fmt;

use super::Number;

/// The longest text that is shown, in characters.
const SHOWN_CHARS: usize = 80;

/// Where a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a tensor or an array.
    Element {
        /// The tensor's name; `None` in a file that holds one array.
        tensor: Option<String>,
        /// Its type, as the file spells it.
        dtype: String,
        /// The index along each axis. Of a complex number the last is 0 for the real part and 1 for the imaginary one; where
        /// two values share a byte, it is that of the first.
        index: Vec<u64>,
    },
    /// In a file's metadata.
    Metadata {
        /// The key.
        key: String,
    },
    /// In metrics of this program.
    Metric {
        /// The metric.
        metric: String,
        /// The step.
        step: u64,
    },
    /// In a JSON text.
    Json {
        /// RFC 6901; empty for the whole.
        pointer: String,
    },
    /// In JSON Lines.
    JsonLine {
        /// From 1.
        line: u64,
        /// RFC 6901, within the line.
        pointer: String,
    },
    /// In a table.
    Cell {
        /// From 1, a header included.
        row: u64,
        /// From 1.
        column: u64,
        /// What the header says.
        name: Option<String>,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointed =
            |pointer: &str| if pointer.is_empty() { "the whole".to_owned() } else { shortened(pointer) };
        match self {
            Self::Element { tensor: Some(tensor), index, .. } => {
                write!(f, "tensor {} at {index:?}", shortened(tensor))
            }
            Self::Element { tensor: None, index, .. } => write!(f, "the array at {index:?}"),
            Self::Metadata { key } => write!(f, "metadata {}", shortened(key)),
            Self::Metric { metric, step } => write!(f, "metric {metric} at step {step}"),
            Self::Json { pointer } => f.write_str(&pointed(pointer)),
            Self::JsonLine { line, pointer } => write!(f, "line {line}, {}", pointed(pointer)),
            Self::Cell { row, column, name: None } => write!(f, "row {row}, column {column}"),
            Self::Cell { row, column, name: Some(name) } => {
                write!(f, "row {row}, column {column} ({})", shortened(name))
            }
        }
    }
}

/// A value that differs, as it was or as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// For people; a long one is cut.
    pub text: String,
    /// The number, when it is one.
    pub number: Option<Number>,
    /// Of a tensor's element or a metric: its bits, in hex.
    pub bits: Option<String>,
}

impl Side {
    /// A value that is not a number, or that is shown as it is written.
    pub(super) fn written(text: &str, number: Option<Number>) -> Self {
        Self { text: shortened(text), number, bits: None }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bits {
            Some(bits) => write!(f, "{} ({bits})", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What a tensor's header says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorForm {
    /// Its type, as the file spells it.
    pub dtype: String,
    /// The length of each axis.
    pub shape: Vec<u64>,
    /// Whether the first axis is the one whose elements are neighbours.
    pub fortran_order: bool,
}

impl fmt::Display for TensorForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.shape)?;
        if self.fortran_order {
            f.write_str(" in Fortran order")?;
        }
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

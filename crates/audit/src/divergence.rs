//! What a replay says about two contents of one output: the same bytes, numbers within a tolerance, or where they part.
//!
//! A format is told by what the bytes are, never by a name, and both contents have to be of it. Each has a file here:
//!
//! | format | places |
//! |---|---|
//! | safetensors, of every type that PyTorch writes | tensor and index; key of the metadata |
//! | npy | index |
//! | metrics of this program | metric and step |
//! | JSON | pointer |
//! | JSON Lines | line and pointer |
//! | CSV with comma, semicolon, tab or space | row and column |
//!
//! Anything else is bytes, and for text line and column.
//!
//! # What a tolerance allows
//! Two numbers are close when `|replayed − recorded| <= atol + rtol · |recorded|` in f64. NaN is close to NaN, an infinity only to
//! itself. Numbers are those of a JSON text or of a CSV cell, whole ones too (they are subtracted exactly), and the floats of a
//! tensor; a complex number is two. A tensor's integers, booleans and 8-bit floats stand for what no deviation makes sense of (labels,
//! indices, codes) and must be equal, and so must names, shapes, types, metadata, strings, `true`, `false` and `null`.
//!
//! Structure is compared by value: the order of tensors in a file and of an object's fields, the white space of JSON, the quoting and
//! line ends of CSV are free. A text without any number must be the same bytes, tolerance or not.

mod array;
mod bytes;
mod csv;
mod folder;
mod json;
mod metrics;
mod npy;
mod place;
mod safetensors;
mod tolerance;

use std::fmt;

use bitproof_core_ledger::objects::ObjectId;
use bitproof_scheduler::command::ReplayMode;

use tolerance::{Judged, Tally};

pub use bytes::{ByteDifference, TextPosition};
pub use folder::{compare_folders, FileDifference, FolderFiles};
pub use place::{Place, Side, TensorForm};
pub use tolerance::{Deviation, Number, Within};

/// A task whose replay did not give what was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Divergence {
    /// Its place in the commit order.
    pub sequence: usize,
    /// The task.
    pub task: String,
    /// The output; `None` when the task as a whole differs.
    pub output: Option<String>,
    /// How they differ.
    pub difference: Difference,
}

/// What two contents of one output are to each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Comparison {
    /// The same bytes.
    Identical,
    /// Other bytes, and every number within the tolerance.
    Within(Within),
    /// Neither.
    Diverged(Difference),
}

/// How a recorded result and its replay differ.
#[derive(Debug, Clone, PartialEq)]
pub enum Difference {
    /// This program has another version of the task's code.
    Code {
        /// What the plan names.
        recorded: String,
        /// What this program has.
        replayed: String,
    },
    /// One succeeded and the other failed, or they made other outputs.
    Outcome {
        /// How it ended then.
        recorded: String,
        /// How it ended now.
        replayed: String,
    },
    /// The content is another one, of which no more is known: the recorded bytes are not at hand.
    Content {
        /// What was recorded.
        recorded: ObjectId,
        /// What there is now.
        replayed: ObjectId,
    },
    /// The bytes differ, and no value in them is known to.
    Bytes {
        /// Where.
        at: ByteDifference,
        /// The same place, when both are text.
        text: Option<TextPosition>,
    },
    /// A value differs; under a tolerance, the first that is beyond it. Tensors, metrics and fields come in the order of their names.
    Value {
        /// The first byte that differs, which may belong to a value within the tolerance.
        at: ByteDifference,
        /// Where the value is.
        place: Place,
        /// What it was; `None` when it was not there.
        recorded: Option<Side>,
        /// What it is; `None` when it is not there.
        replayed: Option<Side>,
    },
    /// A tensor is in one of the contents only, or has another type or shape.
    Tensor {
        /// The first byte that differs.
        at: ByteDifference,
        /// Its name; `None` in a file that holds one array.
        tensor: Option<String>,
        /// What it was; `None` when it was not there.
        recorded: Option<TensorForm>,
        /// What it is; `None` when it is not there.
        replayed: Option<TensorForm>,
    },
    /// A file of a folder differs.
    File {
        /// Its path in the folder.
        path: String,
        /// How.
        difference: FileDifference,
    },
}

/// What is said about two contents of one format: `None` when one of them is not of it.
type Format = fn(&[u8], &[u8], &mut Tally) -> Option<Judged>;

/// Metrics stand before JSON, whose rules would hold their bits to equality.
const FORMATS: [Format; 6] =
    [safetensors::compare, npy::compare, metrics::compare, json::compare, json::compare_lines, csv::compare];

/// Compares a recorded content with its replay. Under [`ReplayMode::Record`], which demands no replay, as under
/// [`ReplayMode::Bits`].
///
/// ```
/// use bitproof_audit::{compare, Comparison};
/// use bitproof_scheduler::command::ReplayMode;
///
/// let tolerance = ReplayMode::Tolerance { rtol: 1e-6f64.to_bits(), atol: 0 };
/// let (then, now) = (br#"{"loss": [0.5, 0.25]}"#, br#"{"loss": [0.5, 0.75]}"#);
/// let Comparison::Diverged(difference) = compare(then, now, &tolerance) else { unreachable!() };
/// assert_eq!(difference.to_string(), "/loss/1: 0.25 then, 0.75 now; byte 17 is the first that differs");
/// ```
pub fn compare(recorded: &[u8], replayed: &[u8], mode: &ReplayMode) -> Comparison {
    let Some(at) = ByteDifference::between(recorded, replayed) else {
        return Comparison::Identical;
    };
    let mut tally = Tally::new(at, mode);
    match FORMATS.iter().find_map(|format| format(recorded, replayed, &mut tally)) {
        Some(Err(difference)) => Comparison::Diverged(*difference),
        Some(Ok(())) if tally.is_tolerant() => Comparison::Within(tally.within),
        _ => Comparison::Diverged(Difference::Bytes { at, text: at.in_text(recorded, replayed) }),
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn or_nothing<T: fmt::Display>(side: Option<&T>) -> String {
            side.map_or_else(|| "nothing".to_owned(), T::to_string)
        }
        match self {
            Self::Code { recorded, replayed } => {
                write!(f, "the run was recorded with {recorded}, this program has {replayed}")
            }
            Self::Outcome { recorded, replayed } => {
                write!(f, "recorded as {recorded}, replayed as {replayed}")
            }
            Self::Content { recorded, replayed } => {
                write!(f, "recorded as {recorded}, replayed as {replayed}")
            }
            Self::Bytes { at, text: None } => write!(f, "{at}"),
            Self::Bytes { at, text: Some(text) } => write!(f, "{at}; {text}"),
            Self::Value { at, place, recorded, replayed } => {
                let (then, now) = (or_nothing(recorded.as_ref()), or_nothing(replayed.as_ref()));
                write!(f, "{place}: {then} then, {now} now; {at}")
            }
            Self::Tensor { at, tensor, recorded, replayed } => {
                match tensor {
                    Some(name) => write!(f, "tensor {name}: ")?,
                    None => f.write_str("the array: ")?,
                }
                let (then, now) = (or_nothing(recorded.as_ref()), or_nothing(replayed.as_ref()));
                write!(f, "{then} then, {now} now; {at}")
            }
            Self::File { path, difference } => write!(f, "file {path}: {difference}"),
        }
    }
}

#[cfg(test)]
mod tests;

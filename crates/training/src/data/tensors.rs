//! safetensors: features and labels, two tensors of one file.

use std::collections::BTreeMap;

use super::gzip::unpack;
use super::numbers::{check_rows, table, Element, Numbers};
use super::{DataError, Table, TargetKind};
use crate::arrays::{read_safetensors, RawArray};

/// Reads the tensors of these names; the file may be compressed, and hold others.
///
/// The first axis is that of the rows, the others are the shape of an example.
///
/// # Errors
/// [`DataError`] with the offset in the unpacked content.
pub fn read_tensors(
    bytes: &[u8],
    features: &str,
    labels: &str,
    kind: TargetKind,
) -> Result<Table, DataError> {
    let bytes = unpack(bytes)?;
    let tensors = read_safetensors(&bytes)?.tensors;
    let (shape, read) = numbers(&tensors, features)?.features()?;
    let targets = numbers(&tensors, labels)?.targets(kind)?;
    check_rows(&read, &targets)?;
    table(shape, read, targets, 0)
}

fn numbers<'a>(tensors: &BTreeMap<String, RawArray<'a>>, name: &str) -> Result<Numbers<'a>, DataError> {
    let Some(raw) = tensors.get(name) else {
        let names: Vec<&str> = tensors.keys().map(String::as_str).take(20).collect();
        return Err(DataError::NoTensor { wanted: name.to_owned(), names: names.join(", ") });
    };
    let element = match raw.dtype.as_str() {
        "F64" => Element::F64,
        "F32" => Element::F32,
        "F16" => Element::F16,
        "BF16" => Element::BF16,
        "I64" => Element::Signed(8),
        "I32" => Element::Signed(4),
        "I16" => Element::Signed(2),
        "I8" => Element::Signed(1),
        "U64" => Element::Unsigned(8),
        "U32" => Element::Unsigned(4),
        "U16" => Element::Unsigned(2),
        "U8" => Element::Unsigned(1),
        "BOOL" => Element::Bool,
        other => {
            let reason =
                format!("tensor {name:?} has the type {other:?}, which holds no numbers that are read");
            return Err(DataError::Binary { offset: raw.offset, reason });
        }
    };
    Numbers::new(raw.clone(), element, false)
}

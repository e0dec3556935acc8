//! npy: features and labels, a file each.

use super::gzip::unpack;
use super::numbers::{check_rows, Element, Numbers};
use super::{join_features, DataError, InFile as _, ReadError, Table, TargetKind};
use crate::arrays::read_npy;

/// Reads features and labels, and perhaps features and labels of a test part after them; each may be compressed.
///
/// The first axis is that of the rows, the others are the shape of an example; arrays in Fortran order are read as what they mean.
///
/// # Errors
/// [`ReadError`] with the file, and the offset in its unpacked content.
pub fn read_npy_dataset(inputs: &[&[u8]], kind: TargetKind) -> Result<Table, ReadError> {
    join_features(inputs, |features, labels| {
        let read = unpack(inputs[features]).and_then(|bytes| array(&bytes)?.features()).in_file(features)?;
        let targets =
            unpack(inputs[labels]).and_then(|bytes| array(&bytes)?.targets(kind)).in_file(labels)?;
        check_rows(&read.1, &targets).in_file(labels)?;
        Ok((read, targets))
    })
}

fn array(bytes: &[u8]) -> Result<Numbers<'_>, DataError> {
    let raw = read_npy(bytes)?;
    let unknown = || DataError::Binary {
        offset: 0,
        reason: format!(
            "the type {:?} is none of f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1 in a stated byte order",
            raw.dtype
        ),
    };
    let (order, kind) = raw.dtype.split_at_checked(1).ok_or_else(unknown)?;
    let element = match kind {
        "f8" => Element::F64,
        "f4" => Element::F32,
        "f2" => Element::F16,
        "i8" => Element::Signed(8),
        "i4" => Element::Signed(4),
        "i2" => Element::Signed(2),
        "i1" => Element::Signed(1),
        "u8" => Element::Unsigned(8),
        "u4" => Element::Unsigned(4),
        "u2" => Element::Unsigned(2),
        "u1" => Element::Unsigned(1),
        "b1" => Element::Bool,
        _ => return Err(unknown()),
    };
    let big_endian = match order {
        "<" => false,
        ">" => true,
        // No order, which an element of one byte has not.
        "|" if element.width() == 1 => false,
        _ => return Err(unknown()),
    };
    Numbers::new(raw, element, big_endian)
}

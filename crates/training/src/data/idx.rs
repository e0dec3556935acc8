//! IDX: one array, big-endian, as the MNIST files are. See <http://yann.lecun.com/exdb/mnist/>.

use super::gzip::unpack;
use super::numbers::{check_rows, Element, Numbers};
use super::{join_features, DataError, InFile as _, ReadError, Table, TargetKind};
use crate::arrays::RawArray;

/// An example has at most four axes, and before them there is that of the rows.
const MAX_DIMENSIONS: u8 = 5;

/// Reads images and labels, and perhaps images and labels of a test part after them; each may be compressed.
///
/// Images of two axes get a first one of length 1, for the one channel that they have. Labels are whole numbers from 0; those that occur
/// become the classes, ascending.
///
/// # Errors
/// [`ReadError`] with the file, and the offset in its unpacked content.
pub fn read_idx(inputs: &[&[u8]], kind: TargetKind) -> Result<Table, ReadError> {
    join_features(inputs, |images, labels| {
        let features = unpack(inputs[images]).and_then(|bytes| {
            let (shape, features) = array(&bytes)?.features()?;
            let shape = match shape.as_slice() {
                [height, width] => vec![1, *height, *width],
                _ => shape,
            };
            Ok((shape, features))
        });
        let features = features.in_file(images)?;
        let targets =
            unpack(inputs[labels]).and_then(|bytes| array(&bytes)?.targets(kind)).in_file(labels)?;
        check_rows(&features.1, &targets).in_file(labels)?;
        Ok((features, targets))
    })
}

fn array(bytes: &[u8]) -> Result<Numbers<'_>, DataError> {
    let bad = |offset: usize, reason: String| DataError::Binary { offset, reason };
    let Some((&[a, b, kind, dimensions], rest)) = bytes.split_first_chunk::<4>() else {
        return Err(bad(bytes.len(), "it ends within its first four bytes".to_owned()));
    };
    if (a, b) != (0, 0) {
        return Err(bad(0, format!("an IDX file begins with two bytes of zero, this one with {a} and {b}")));
    }
    let (element, dtype) = match kind {
        0x08 => (Element::Unsigned(1), "u8"),
        0x09 => (Element::Signed(1), "i8"),
        0x0b => (Element::Signed(2), "i16"),
        0x0c => (Element::Signed(4), "i32"),
        0x0d => (Element::F32, "f32"),
        0x0e => (Element::F64, "f64"),
        _ => return Err(bad(2, format!("there is no type 0x{kind:02x}"))),
    };
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return Err(bad(3, format!("it has {dimensions} dimensions, not 1 to {MAX_DIMENSIONS}")));
    }
    let Some((lengths, data)) = rest.split_at_checked(4 * usize::from(dimensions)) else {
        return Err(bad(bytes.len(), format!("it ends within the lengths of its {dimensions} dimensions")));
    };
    let length = |b: &[u8]| u64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let shape = lengths.chunks_exact(4).map(length).collect();
    let offset = bytes.len() - data.len();
    let raw = RawArray { dtype: dtype.to_owned(), shape, fortran_order: false, data, offset };
    Numbers::new(raw, element, true)
}

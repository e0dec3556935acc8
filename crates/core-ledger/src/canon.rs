//! Canonical encoding: one value, one sequence of bytes.
//!
//! The bytes are those of bincode 2 with little-endian fixed-width integers, as written down in
//! `docs/formats/canonical.md`. Decoding is strict: bounded, no trailing bytes, and the decoded value must
//! encode to the very bytes that were read.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};

use crate::limits::CANON_BYTES;

const fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Fixint, Limit<LIMIT>> {
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// An element of a sequence takes at most so many times the bytes in memory that its shortest encoding takes. The lengths that
/// bytes from outside claim are believed up to this many times their own number, rounded up to a power of four.
const MEMORY_PER_BYTE: usize = 8;

/// Bytes that are not the canonical encoding of a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonError {
    /// The bytes end early, hold an unknown variant, or claim more than the limit.
    #[error("malformed {what}: {reason}")]
    Malformed {
        /// The type that was expected.
        what: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// There are bytes after the value.
    #[error("{what} ends at byte {end}, but {len} bytes were given")]
    Trailing {
        /// The type that was expected.
        what: &'static str,
        /// Where the value ends.
        end: usize,
        /// How many bytes there are.
        len: usize,
    },
    /// The bytes decode, but the value has another encoding.
    #[error("{what} is not canonical: its encoding differs at byte {offset}")]
    NotCanonical {
        /// The type that was expected.
        what: &'static str,
        /// The first byte that differs.
        offset: usize,
    },
}

/// The canonical bytes of `value`.
///
/// # Panics
/// When they are more than [`CANON_BYTES`]; whoever builds such a value checks its parts first.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let bytes = bincode::encode_to_vec(value, config::<CANON_BYTES>()).expect("a value in memory encodes");
    assert!(bytes.len() <= CANON_BYTES, "a canonical value is at most {CANON_BYTES} bytes");
    bytes
}

/// Shows the canonical bytes of `value` one part after the other, in little memory; gives their number, which may be above
/// [`CANON_BYTES`].
pub(crate) fn encode_in_parts<T: Encode>(value: &T, part: impl FnMut(&[u8])) -> u64 {
    let mut parts = Parts { part, buffer: vec![0; PART_BYTES].into_boxed_slice(), at: 0, len: 0 };
    bincode::encode_into_writer(value, &mut parts, config::<CANON_BYTES>())
        .expect("a value in memory encodes");
    parts.flush();
    parts.len
}

/// The value whose canonical encoding `bytes` is.
///
/// # Errors
/// [`CanonError`] for anything but the one canonical encoding of a `T`.
pub fn decode<T: Encode + Decode<()>>(bytes: &[u8]) -> Result<T, CanonError> {
    let decoded = match bytes.len().saturating_mul(MEMORY_PER_BYTE) {
        0..=0x2000 => within::<T, 0x2000>(bytes),
        0x2001..=0x8000 => within::<T, 0x8000>(bytes),
        0x8001..=0x2_0000 => within::<T, 0x2_0000>(bytes),
        0x2_0001..=0x8_0000 => within::<T, 0x8_0000>(bytes),
        0x8_0001..=0x20_0000 => within::<T, 0x20_0000>(bytes),
        0x20_0001..=0x80_0000 => within::<T, 0x80_0000>(bytes),
        0x80_0001..=0x200_0000 => within::<T, 0x200_0000>(bytes),
        0x200_0001..=0x800_0000 => within::<T, 0x800_0000>(bytes),
        _ => within::<T, { MEMORY_PER_BYTE * CANON_BYTES }>(bytes),
    };
    only(bytes, decoded)
}

/// As [`decode`], for a value that borrows from `bytes`.
///
/// # Errors
/// As [`decode`].
pub fn decode_borrowed<'a, T: Encode + BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, CanonError> {
    only(bytes, bincode::borrow_decode_from_slice(bytes, config::<CANON_BYTES>()))
}

fn only<T: Encode>(bytes: &[u8], decoded: Result<(T, usize), DecodeError>) -> Result<T, CanonError> {
    let what = || std::any::type_name::<T>().rsplit("::").next().unwrap_or("value");
    let (value, end) = decoded.map_err(|e| CanonError::Malformed { what: what(), reason: e.to_string() })?;
    if end != bytes.len() {
        return Err(CanonError::Trailing { what: what(), end, len: bytes.len() });
    }
    let mut again = Comparison { expected: bytes, at: 0 };
    match bincode::encode_into_writer(&value, &mut again, config::<CANON_BYTES>()) {
        Ok(()) if again.at == bytes.len() => Ok(value),
        _ => Err(CanonError::NotCanonical { what: what(), offset: again.at }),
    }
}

/// Bytes that are shown at once.
const PART_BYTES: usize = 1 << 16;

/// Collects what is written in small pieces.
struct Parts<F> {
    part: F,
    buffer: Box<[u8]>,
    /// How much of the buffer was not shown yet.
    at: usize,
    /// How much was shown.
    len: u64,
}

impl<F: FnMut(&[u8])> Parts<F> {
    fn flush(&mut self) {
        (self.part)(&self.buffer[..self.at]);
        self.len += self.at as u64;
        self.at = 0;
    }
}

impl<F: FnMut(&[u8])> Writer for Parts<F> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let mut rest = bytes;
        while self.buffer.len() - self.at < rest.len() {
            let (fits, more) = rest.split_at(self.buffer.len() - self.at);
            self.buffer[self.at..].copy_from_slice(fits);
            self.at = self.buffer.len();
            self.flush();
            rest = more;
        }
        self.buffer[self.at..self.at + rest.len()].copy_from_slice(rest);
        self.at += rest.len();
        Ok(())
    }
}

/// Holds what is written against what it must be, without keeping it.
struct Comparison<'a> {
    expected: &'a [u8],
    /// How many bytes were the same.
    at: usize,
}

impl Writer for Comparison<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let rest = &self.expected[self.at..];
        if rest.starts_with(bytes) {
            self.at += bytes.len();
            return Ok(());
        }
        self.at += rest.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        Err(EncodeError::Other("another byte"))
    }
}

fn within<T: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::decode_from_slice(bytes, config::<LIMIT>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn one_value_one_encoding() {
        let value: BTreeMap<String, u32> = [("a".to_owned(), 1), ("b".to_owned(), 2)].into();
        let bytes = encode(&value);
        assert_eq!(decode::<BTreeMap<String, u32>>(&bytes).unwrap(), value);

        let mut trailing = bytes.clone();
        trailing.push(0);
        assert!(matches!(decode::<BTreeMap<String, u32>>(&trailing), Err(CanonError::Trailing { .. })));
        for end in 0..bytes.len() {
            assert!(decode::<BTreeMap<String, u32>>(&bytes[..end]).is_err(), "prefix of {end} bytes decoded");
        }
        let swapped = [&bytes[..8], &bytes[21..], &bytes[8..21]].concat();
        assert!(matches!(decode::<BTreeMap<String, u32>>(&swapped), Err(CanonError::NotCanonical { .. })));
        let huge = [&[0xff; 8][..], &bytes[8..]].concat();
        assert!(matches!(decode::<BTreeMap<String, u32>>(&huge), Err(CanonError::Malformed { .. })));
    }
}

//! gzip, told by its first bytes.

use std::borrow::Cow;
use std::io::Read as _;

use flate2::read::MultiGzDecoder;

use super::{DataError, MAX_UNPACKED_BYTES};

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The content of a file that may be compressed.
///
/// # Errors
/// [`DataError::Compression`], or [`DataError::TooLarge`] for more than [`MAX_UNPACKED_BYTES`].
pub(super) fn unpack(bytes: &[u8]) -> Result<Cow<'_, [u8]>, DataError> {
    if !bytes.starts_with(&MAGIC) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut content = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(MAX_UNPACKED_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(|e| DataError::Compression { reason: e.to_string() })?;
    if content.len() as u64 > MAX_UNPACKED_BYTES {
        return Err(DataError::TooLarge { what: "unpacked bytes", limit: MAX_UNPACKED_BYTES });
    }
    Ok(Cow::Owned(content))
}

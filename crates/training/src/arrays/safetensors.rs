//! safetensors of every type, with tensors in any order and any metadata: a header of strict JSON, and tensors that cover the data
//! without gap or overlap, so that no byte goes unseen. See <https://github.com/huggingface/safetensors>.

use std::collections::BTreeMap;

use bitproof_core_ledger::dsse::json;
use serde::Deserialize;

use super::{error, ArrayError, RawArray};

/// The format's own bound.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const LENGTH_BYTES: usize = 8;

/// A file's tensors and metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorFile<'a> {
    /// By name.
    pub tensors: BTreeMap<String, RawArray<'a>>,
    /// What `__metadata__` says.
    pub metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The tensors of a file.
///
/// # Errors
/// [`ArrayError`] for anything that the format forbids.
pub fn read_safetensors(bytes: &[u8]) -> Result<TensorFile<'_>, ArrayError> {
    let short = || error(bytes.len(), "it ends within the length of its header");
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>().ok_or_else(short)?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES || length > rest.len() as u64 {
        let reason = format!("its header of {length} bytes does not fit a file of {}", bytes.len());
        return Err(error(0, reason));
    }
    let (header, data) = rest.split_at(length as usize);
    let header: Header = json::read(header, "the header").map_err(|e| error(LENGTH_BYTES, e.to_string()))?;
    let mut by_offset: Vec<(String, Tensor)> = header.tensors.into_iter().collect();
    by_offset.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut tensors = BTreeMap::new();
    let mut unread = data;
    for (name, Tensor { dtype, shape, data_offsets: (start, end) }) in by_offset {
        let at = data.len() - unread.len();
        let offset = bytes.len() - unread.len();
        let size = end.checked_sub(start).filter(|_| start == at as u64);
        let split = size.and_then(|size| unread.split_at_checked(usize::try_from(size).ok()?));
        let (raw, after) = split.ok_or_else(|| {
            error(offset, format!("tensor {name:?} lies at {start} to {end}, which is beyond the file, or leaves a gap or an overlap"))
        })?;
        unread = after;
        tensors.insert(name, RawArray { dtype, shape, fortran_order: false, data: raw, offset });
    }
    if !unread.is_empty() {
        return Err(error(bytes.len() - unread.len(), "bytes follow the last tensor"));
    }
    Ok(TensorFile { tensors, metadata: header.metadata })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    #[test]
    fn tensors_of_any_order_are_found_and_errors_say_at_which_byte() {
        let header = r#"{"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"I8","shape":[],"data_offsets":[0,1]}}"#;
        let bytes = file(header, b"xyz");
        let read = read_safetensors(&bytes).unwrap();
        let b = &read.tensors["b"];
        assert_eq!((b.data, b.offset, b.dtype.as_str()), (&b"yz"[..], 8 + header.len() + 1, "U8"));
        let error = |bytes: &[u8]| read_safetensors(bytes).unwrap_err().to_string();
        assert_eq!(error(b"1234"), "byte 4: it ends within the length of its header");
        assert_eq!(
            error(&[255; 16]),
            format!("byte 0: its header of {} bytes does not fit a file of 16", u64::MAX)
        );
        assert!(error(&file(&header.replace("\"a\"", "\"b\""), b"xyz")).contains("\"b\""), "a name twice");
        let gap = error(&file(&header.replace("[1,3]", "[2,3]"), b"xyz"));
        assert!(
            gap.starts_with(&format!("byte {}: tensor \"b\" lies at 2 to 3", 8 + header.len() + 1)),
            "{gap}"
        );
        let more = error(&file(header, b"xyz!"));
        assert_eq!(more, format!("byte {}: bytes follow the last tensor", 8 + header.len() + 3));
    }
}

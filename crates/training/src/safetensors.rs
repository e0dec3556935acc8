//! The safetensors layout, written canonically: tensors sorted by name, no gaps, `format = pt`.
//!
//! Layout: header length (u64, little-endian), header (JSON, padded with spaces to 8 bytes), data. See
//! <https://github.com/huggingface/safetensors>. `docs/formats/model.md` is normative for what is written here; the
//! reader accepts exactly that.

use std::collections::BTreeMap;

use bitproof_kernels::canonical_nan;
use serde_json::{json, Map, Value};

const MAX_HEADER_BYTES: u64 = 16 << 20;
const MAX_DIMENSIONS: usize = 8;

/// A dense tensor of f32 in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// The elements; as many as the product of the shape.
    pub data: Vec<f32>,
}

/// Tensors by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Bytes that are not a model as this crate writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The header's length is beyond the file or the limit.
    #[error("the header's length of {got} bytes does not fit a file of {len}")]
    HeaderLength {
        /// What the file says.
        got: u64,
        /// The file's length.
        len: usize,
    },
    /// The header is not JSON of the expected form.
    #[error("the header is malformed: {reason}")]
    Header {
        /// Why.
        reason: String,
    },
    /// The file decodes, but has another encoding.
    #[error("the file is not canonical: its encoding differs at byte {offset}")]
    NotCanonical {
        /// The first byte that differs.
        offset: usize,
    },
}

/// The bytes of a file that holds `tensors`. Every NaN is written as `0x7fc00000`.
///
/// # Panics
/// When a tensor has other than the product of its shape's elements.
pub fn encode(tensors: &Tensors) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        assert_eq!(
            tensor.shape.iter().product::<usize>(),
            tensor.data.len(),
            "tensor {name} fills its shape"
        );
        let start = data.len();
        tensor.data.iter().for_each(|&x| data.extend_from_slice(&canonical_nan(x).to_le_bytes()));
        header.insert(
            name.clone(),
            json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [start, data.len()] }),
        );
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes(), text.as_slice(), &data].concat()
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// [`SafetensorsError`] for anything else.
pub fn decode(bytes: &[u8]) -> Result<Tensors, SafetensorsError> {
    let malformed = |reason: &str| SafetensorsError::Header { reason: reason.to_owned() };
    let too_short = |got| SafetensorsError::HeaderLength { got, len: bytes.len() };
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| too_short(0))?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES || length > rest.len() as u64 {
        return Err(too_short(length));
    }
    let (header, data) = rest.split_at(length as usize);
    let header: Map<String, Value> =
        serde_json::from_slice(header).map_err(|e| SafetensorsError::Header { reason: e.to_string() })?;
    let mut tensors = Tensors::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let numbers = |key: &str| -> Option<Vec<usize>> {
            let list = entry.get(key)?.as_array()?;
            list.iter().map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok())).collect()
        };
        let shape = numbers("shape").ok_or_else(|| malformed("a tensor has no shape"))?;
        let offsets = numbers("data_offsets").ok_or_else(|| malformed("a tensor has no data_offsets"))?;
        let [start, end] = offsets[..] else { return Err(malformed("data_offsets are not a pair")) };
        let raw = data.get(start..end).ok_or_else(|| malformed("a tensor lies outside the file"))?;
        let elements = shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis));
        if shape.len() > MAX_DIMENSIONS || elements.and_then(|n| n.checked_mul(4)) != Some(raw.len()) {
            return Err(malformed("a tensor's shape does not fit its bytes"));
        }
        let data = raw.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        tensors.insert(name.clone(), Tensor { shape, data });
    }
    let again = encode(&tensors);
    if again == bytes {
        return Ok(tensors);
    }
    let offset = again.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(bytes.len().min(again.len()));
    Err(SafetensorsError::NotCanonical { offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tensors {
        let tensor = |shape: &[usize], data: &[f32]| Tensor { shape: shape.to_vec(), data: data.to_vec() };
        [
            ("0.weight".to_owned(), tensor(&[2, 1], &[1.0, -0.0])),
            ("0.bias".to_owned(), tensor(&[2], &[0.5, 2.0])),
        ]
        .into()
    }

    #[test]
    fn round_trips_and_refuses_every_other_byte_in_the_header() {
        let bytes = encode(&sample());
        assert_eq!(decode(&bytes).unwrap(), sample());
        assert_eq!((bytes.len() - 16) % 8, 0);
        for i in 0..bytes.len() - 16 {
            let mut bad = bytes.clone();
            bad[i] ^= 4;
            assert_ne!(decode(&bad).ok(), Some(sample()), "byte {i}");
            assert!(decode(&bytes[..i]).is_err(), "prefix {i}");
        }
    }
}

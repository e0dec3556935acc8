//! The safetensors layout, written canonically: tensors sorted by name, no gaps, metadata with `format = pt`.
//!
//! Layout: header length (u64, little-endian), header (JSON, padded with spaces to 8 bytes), data. See
//! <https://github.com/huggingface/safetensors>. `docs/formats/model.md` is normative for what is written here; the
//! reader accepts exactly that.

use std::collections::BTreeMap;

use bitproof_kernels::canonical_nan;
use serde_json::{json, Map, Value};

const MAX_HEADER_BYTES: u64 = 16 << 20;
const MAX_DIMENSIONS: usize = 8;
const METADATA: &str = "__metadata__";
/// The most keys of a file's metadata, besides `format`.
const MAX_METADATA_KEYS: usize = 64;
/// The longest key or value of a file's metadata.
const MAX_METADATA_BYTES: usize = 4096;

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

/// What a file says of its tensors, besides `format`.
pub type Metadata = BTreeMap<String, String>;

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
    encode_with_metadata(tensors, &Metadata::new())
}

/// As [`encode`], with metadata besides `format`.
///
/// # Panics
/// As [`encode`], when a tensor is named `__metadata__`, when a key is `format`, and when there is more metadata than a reader takes.
pub fn encode_with_metadata(tensors: &Tensors, metadata: &Metadata) -> Vec<u8> {
    assert!(fits(metadata) && !metadata.contains_key("format"), "metadata is bounded and leaves out format");
    assert!(!tensors.contains_key(METADATA), "no tensor is named {METADATA}");
    let mut said: Map<String, Value> = metadata.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    said.insert("format".to_owned(), json!("pt"));
    let mut header = Map::new();
    header.insert(METADATA.to_owned(), Value::Object(said));
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

fn fits(metadata: &Metadata) -> bool {
    let fits = |text: &str| text.len() <= MAX_METADATA_BYTES;
    metadata.len() <= MAX_METADATA_KEYS && metadata.iter().all(|(key, value)| fits(key) && fits(value))
}

/// The tensors of what [`encode`] or [`encode_with_metadata`] wrote.
///
/// # Errors
/// [`SafetensorsError`] for anything else.
pub fn decode(bytes: &[u8]) -> Result<Tensors, SafetensorsError> {
    decode_with_metadata(bytes).map(|(tensors, _)| tensors)
}

/// Reads what [`encode_with_metadata`] wrote.
///
/// # Errors
/// [`SafetensorsError`] for anything else.
pub fn decode_with_metadata(bytes: &[u8]) -> Result<(Tensors, Metadata), SafetensorsError> {
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
    let metadata = metadata_of(&header)?;
    let mut tensors = Tensors::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != METADATA) {
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
    let again = encode_with_metadata(&tensors, &metadata);
    if again == bytes {
        return Ok((tensors, metadata));
    }
    let offset = again.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(bytes.len().min(again.len()));
    Err(SafetensorsError::NotCanonical { offset })
}

/// What stands under `__metadata__`, without `format`: whether that is as it is written is seen when the file is written again.
fn metadata_of(header: &Map<String, Value>) -> Result<Metadata, SafetensorsError> {
    let malformed = |reason: &str| SafetensorsError::Header { reason: reason.to_owned() };
    let Some(said) = header.get(METADATA) else { return Ok(Metadata::new()) };
    let said = said.as_object().ok_or_else(|| malformed("__metadata__ is not an object"))?;
    let texts = said.iter().filter(|(key, _)| *key != "format").map(|(key, value)| {
        let value = value.as_str().ok_or_else(|| malformed("a value of __metadata__ is not a text"))?;
        Ok((key.clone(), value.to_owned()))
    });
    let metadata = texts.collect::<Result<Metadata, SafetensorsError>>()?;
    if !fits(&metadata) {
        return Err(malformed("__metadata__ has more or longer entries than a model needs"));
    }
    Ok(metadata)
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

    #[test]
    fn metadata_round_trips_and_is_bounded() {
        let said = Metadata::from([
            ("a.model".to_owned(), "gpt \"quoted\"".to_owned()),
            ("z".to_owned(), String::new()),
        ]);
        let bytes = encode_with_metadata(&sample(), &said);
        assert_eq!(decode_with_metadata(&bytes).unwrap(), (sample(), said));
        assert_eq!(decode(&bytes).unwrap(), sample());
        assert_eq!(decode_with_metadata(&encode(&sample())).unwrap().1, Metadata::new());
        let header = |text: &str| {
            let mut text = text.as_bytes().to_vec();
            text.resize(text.len().next_multiple_of(8), b' ');
            decode([&(text.len() as u64).to_le_bytes(), text.as_slice()].concat().as_slice())
        };
        assert_eq!(header("{\"__metadata__\":{\"a\":\"b\",\"format\":\"pt\"}}"), Ok(Tensors::new()));
        let out_of_order = header("{\"__metadata__\":{\"format\":\"pt\",\"a\":\"b\"}}");
        assert!(matches!(out_of_order, Err(SafetensorsError::NotCanonical { .. })));
        let other_format = header("{\"__metadata__\":{\"a\":\"b\",\"format\":\"tf\"}}");
        assert!(matches!(other_format, Err(SafetensorsError::NotCanonical { .. })));
        assert!(header("{\"__metadata__\":{\"a\":1,\"format\":\"pt\"}}").is_err());
        assert!(header("{\"__metadata__\":7}").is_err());
        let long = format!("{{\"__metadata__\":{{\"a\":\"{}\",\"format\":\"pt\"}}}}", "b".repeat(4097));
        assert!(matches!(header(&long), Err(SafetensorsError::Header { .. })));
        let many: String = (0..65).map(|i| format!("\"a{i:02}\":\"\",")).collect();
        let many = format!("{{\"__metadata__\":{{{many}\"format\":\"pt\"}}}}");
        assert!(matches!(header(&many), Err(SafetensorsError::Header { .. })));
    }
}

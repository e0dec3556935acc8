//! Typed BLAKE3 digests: a digest of one kind cannot be passed where another is expected, and two
//! kinds never share a hash of the same bytes.

use std::cmp::Ordering;
use std::fmt;
use std::io::Read;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::LazyLock;

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use blake3::hazmat::{hash_derive_key_context, HasherExt as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::canon;

/// What a digest is of. `CONTEXT` is the BLAKE3 `derive_key` context; the kind without one is plain BLAKE3.
pub trait Kind: 'static {
    /// The `derive_key` context string, or `None` for plain BLAKE3.
    const CONTEXT: Option<&'static str>;

    /// BLAKE3's key for the context, which is worked out once: a short record is hashed in the time that this takes.
    fn context_key() -> Option<&'static [u8; 32]>;
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $context:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {}
        impl Kind for $name {
            const CONTEXT: Option<&'static str> = $context;

            fn context_key() -> Option<&'static [u8; 32]> {
                static KEY: LazyLock<Option<[u8; 32]>> = LazyLock::new(|| $name::CONTEXT.map(hash_derive_key_context));
                KEY.as_ref()
            }
        }
    )*};
}

kinds! {
    /// The bytes of a file or object: plain BLAKE3, so `b3sum` prints the same.
    Content = None;
    /// A plan's canonical bytes.
    PlanKind = Some("bitproof 2026-11 plan v1");
    /// What a task's result depends on.
    ActionKind = Some("bitproof 2026-11 action v1");
    /// An entry of a hash chain.
    EntryKind = Some("bitproof 2026-11 chain entry v1");
    /// The start of a hash chain, over what the chain is bound to.
    GenesisKind = Some("bitproof 2026-11 chain genesis v1");
    /// What the chain of a run's controls is bound to.
    GovernanceKind = Some("bitproof 2026-11 governance v1");
    /// The outcome of a run: task ids, actions and outputs.
    ResultKind = Some("bitproof 2026-11 result root v1");
    /// The body of an event in the audit log.
    EventKind = Some("bitproof 2026-11 event id v1");
    /// Key material of a random stream.
    StreamKind = Some("bitproof 2026-11 stream key v1");
    /// What the file system says of a file or folder without reading it.
    StatKind = Some("bitproof 2026-11 file stat v1");
    /// A comparison of runs.
    ComparisonKind = Some("bitproof 2026-11 comparison v1");
    /// The parameters of a model at a step of its training.
    ParametersKind = Some("bitproof 2026-11 parameters v1");
    /// What an optimizer remembers at a step.
    MomentsKind = Some("bitproof 2026-11 moments v1");
    /// Which rows and streams the steps of a segment used.
    BatchesKind = Some("bitproof 2026-11 batches v1");
    /// The losses and gradient norms of the steps of a segment.
    LossesKind = Some("bitproof 2026-11 losses v1");
    /// What decides which segments of a training an auditor executes again.
    SampleKind = Some("bitproof 2026-11 sample v1");
    /// What the tools of a command are on one machine.
    ToolsKind = Some("bitproof 2026-11 tools v1");
}

/// 32 bytes of BLAKE3 over a value of kind `K`; shown as 64 lower-case hex digits.
pub struct Digest<K> {
    bytes: [u8; 32],
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Digest<K> {
    /// The digest of raw bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut hasher = Self::hasher();
        hasher.update(bytes);
        Self::from_bytes(*hasher.finalize().as_bytes())
    }

    /// The digest of a value's canonical encoding. Key material goes through here, never bare concatenation.
    ///
    /// # Panics
    /// When the value's canonical encoding is larger than [`crate::limits::CANON_BYTES`].
    pub fn of<T: bincode::Encode>(value: &T) -> Self {
        Self::of_bytes(&canon::encode(value))
    }

    /// As [`Digest::of`] for a value of any length, hashed while it is encoded; with the length of its encoding.
    pub fn of_long<T: bincode::Encode>(value: &T) -> (Self, u64) {
        let mut hasher = Self::hasher();
        let len = canon::encode_in_parts(value, |part| {
            hasher.update(part);
        });
        (Self::from_bytes(*hasher.finalize().as_bytes()), len)
    }

    /// The digest of numbers as little-endian f32, one row after another.
    pub fn of_floats<'a>(rows: impl IntoIterator<Item = &'a [f32]>) -> Self {
        /// Numbers that are turned into bytes at once: few enough to stay in the nearest cache.
        const PIECE: usize = 4096;
        let mut hasher = Self::hasher();
        let mut bytes = vec![0; 4 * PIECE];
        for piece in rows.into_iter().flat_map(|row| row.chunks(PIECE)) {
            let bytes = &mut bytes[..4 * piece.len()];
            bytes.chunks_exact_mut(4).zip(piece).for_each(|(four, x)| four.copy_from_slice(&x.to_le_bytes()));
            hasher.update(bytes);
        }
        Self::from_bytes(*hasher.finalize().as_bytes())
    }

    /// The digest of everything that `source` yields, in constant memory, with the number of bytes read.
    ///
    /// # Errors
    /// What `source` returns.
    pub fn of_reader(source: &mut impl Read) -> std::io::Result<(Self, u64)> {
        let mut hasher = Self::hasher();
        let mut buffer = vec![0u8; 1 << 17];
        let mut total = 0u64;
        loop {
            let n = source.read(&mut buffer)?;
            if n == 0 {
                return Ok((Self::from_bytes(*hasher.finalize().as_bytes()), total));
            }
            hasher.update(&buffer[..n]);
            total += n as u64;
        }
    }

    fn hasher() -> blake3::Hasher {
        K::context_key().map_or_else(blake3::Hasher::new, blake3::Hasher::new_from_context_key)
    }
}

/// Hashes what is read through it.
#[derive(Debug)]
pub struct HashingReader<R> {
    source: R,
    hasher: blake3::Hasher,
}

impl<R: Read> HashingReader<R> {
    /// Hashes what is read of `source` from here on.
    pub fn new(source: R) -> Self {
        Self { source, hasher: Digest::<Content>::hasher() }
    }

    /// The digest of what was read, with its length.
    pub fn finish(self) -> (Digest<Content>, u64) {
        (Digest::from_bytes(*self.hasher.finalize().as_bytes()), self.hasher.count())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.source.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

impl<K> Digest<K> {
    /// A digest that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// The first 12 hex digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl<K> Clone for Digest<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Digest<K> {}
impl<K> PartialEq for Digest<K> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}
impl<K> Eq for Digest<K> {}
impl<K> PartialOrd for Digest<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Digest<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes.cmp(&other.bytes)
    }
}

impl<K> fmt::Display for Digest<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
impl<K> fmt::Debug for Digest<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 lower-case hex digits, got {got:?}")]
pub struct DigestSyntax {
    /// The text, cut after 80 characters.
    pub got: String,
}

impl<K> FromStr for Digest<K> {
    type Err = DigestSyntax;

    fn from_str(text: &str) -> Result<Self, DigestSyntax> {
        let bad = || DigestSyntax { got: text.chars().take(80).collect() };
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(bad());
        }
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(bad()),
        };
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self::from_bytes(bytes))
    }
}

impl<K> Serialize for Digest<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de, K> Deserialize<'de> for Digest<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<K> bincode::Encode for Digest<K> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.bytes.encode(encoder)
    }
}
impl<K, C> bincode::Decode<C> for Digest<K> {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self::from_bytes(bincode::Decode::decode(decoder)?))
    }
}
impl<'de, K, C> bincode::BorrowDecode<'de, C> for Digest<K> {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(Self::from_bytes(bincode::BorrowDecode::borrow_decode(decoder)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_plain_blake3_and_kinds_are_separated() {
        // The BLAKE3 test vector for the empty input.
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(Digest::<Content>::of_bytes(b"").to_string(), empty);
        assert_ne!(
            Digest::<PlanKind>::of_bytes(b"").as_bytes(),
            Digest::<ActionKind>::of_bytes(b"").as_bytes()
        );
        let context = PlanKind::CONTEXT.unwrap();
        assert_eq!(*Digest::<PlanKind>::of_bytes(b"x").as_bytes(), blake3::derive_key(context, b"x"));
    }

    #[test]
    fn a_long_value_has_the_digest_of_its_encoding() {
        for n in [0, 3, 40_000] {
            let value = vec![(7u32, "seven".to_owned()); n];
            let (digest, len) = Digest::<PlanKind>::of_long(&value);
            assert_eq!((digest, len), (Digest::of(&value), canon::encode(&value).len() as u64));
        }
    }

    #[test]
    fn text_form_is_strict() {
        let digest = Digest::<Content>::of_bytes(b"x");
        assert_eq!(digest.to_string().parse::<Digest<Content>>().unwrap(), digest);
        assert!(digest.to_string().to_uppercase().parse::<Digest<Content>>().is_err());
        assert!(digest.to_string()[1..].parse::<Digest<Content>>().is_err());
    }
}

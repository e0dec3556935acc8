//! SHA-256 digests of contents, for what leaves the house: in-toto statements and the tools that read them know no BLAKE3.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::digest::{Content, Digest};

/// 32 bytes of SHA-256 over a content; shown as 64 lower-case hex digits, so `sha256sum` prints the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sha256Digest([u8; 32]);

/// A text that is no SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is not a SHA-256 digest: 64 lower-case hex digits")]
pub struct Sha256Syntax {
    /// The text.
    pub got: String,
}

impl Sha256Digest {
    /// The digest of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of everything that `source` yields, in constant memory, with the number of bytes read.
    ///
    /// # Errors
    /// What `source` returns.
    pub fn of_reader(source: &mut impl Read) -> io::Result<(Self, u64)> {
        let mut sha256 = Sha256::new();
        let bytes = pieces(source, |piece| {
            sha256.update(piece);
            Ok(())
        })?;
        Ok((Self(sha256.finalize().into()), bytes))
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::store::hex(&self.0))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Digest({self})")
    }
}

impl FromStr for Sha256Digest {
    type Err = Sha256Syntax;
    fn from_str(text: &str) -> Result<Self, Sha256Syntax> {
        // Both are 32 bytes in the same digits.
        let digest: Digest<Content> = text.parse().map_err(|_| Sha256Syntax { got: text.to_owned() })?;
        Ok(Self(*digest.as_bytes()))
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a content is known by, in the house and outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentDigests {
    /// Its BLAKE3.
    pub blake3: Digest<Content>,
    /// Its SHA-256.
    pub sha256: Sha256Digest,
    /// Its length.
    pub bytes: u64,
}

impl ContentDigests {
    /// Both digests of everything that `source` yields, in one pass and constant memory. Each piece is shown to `sink` as it
    /// was hashed, so that what is passed on is what was hashed.
    ///
    /// # Errors
    /// What `source` or `sink` return.
    pub fn of_reader(
        source: &mut impl Read,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let (mut blake3, mut sha256) = (blake3::Hasher::new(), Sha256::new());
        let bytes = pieces(source, |piece| {
            blake3.update(piece);
            sha256.update(piece);
            sink(piece)
        })?;
        let blake3 = Digest::from_bytes(*blake3.finalize().as_bytes());
        Ok(Self { blake3, sha256: Sha256Digest(sha256.finalize().into()), bytes })
    }
}

/// Shows what `source` yields piece by piece, and says how many bytes there were.
fn pieces(source: &mut impl Read, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut buffer = vec![0u8; 1 << 16];
    let mut bytes = 0;
    loop {
        let n = source.read(&mut buffer)?;
        if n == 0 {
            return Ok(bytes);
        }
        each(&buffer[..n])?;
        bytes += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_abc_is_that_of_fips_180() {
        let digest = Sha256Digest::of_bytes(b"abc");
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse::<Sha256Digest>().unwrap(), digest);
        for bad in [&text[1..], &text.to_uppercase(), "", &format!("{text}0")] {
            assert!(bad.parse::<Sha256Digest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn both_digests_are_of_what_was_passed_on() {
        let content: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        let mut passed = Vec::new();
        let digests = ContentDigests::of_reader(&mut &content[..], |piece| {
            passed.extend_from_slice(piece);
            Ok(())
        });
        let expected = ContentDigests {
            blake3: Digest::of_bytes(&content),
            sha256: Sha256Digest::of_bytes(&content),
            bytes: 200_000,
        };
        assert_eq!(Sha256Digest::of_reader(&mut &content[..]).unwrap(), (expected.sha256, 200_000));
        assert_eq!((digests.unwrap(), passed), (expected, content));
    }
}

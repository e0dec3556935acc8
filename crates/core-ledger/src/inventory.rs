//! The inventory of a run: every file of its evidence by path, size and digest.
//!
//! Digests of blocks stand beside the digest of each file, so that a changed byte is found *where* it changed.
//! `docs/formats/inventory.md` is normative.

use std::path::Path;

use bincode::{Decode, Encode};

use crate::canon::{self, CanonError};
use crate::digest::{Content, Digest};
use crate::files::{FileError, Files};
use crate::limits::OBJECT_IN_MEMORY_BYTES;

const SCHEMA: u32 = 1;
const MIN_BLOCK_BYTES: u64 = 256;
const MAX_BLOCKS: u64 = 1024;
/// The most files of an inventory; with their blocks they stay within a canonical value.
const MAX_FILES: usize = 1 << 16;
const MAX_ALL_BLOCKS: u64 = 1 << 19;

/// A file of the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct InventoryEntry {
    /// Its path relative to the store, `/`-separated.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub digest: Digest<Content>,
    /// The length of a block; the last may be shorter.
    pub block_bytes: u64,
    /// The first eight bytes of each block's BLAKE3. They locate a change; `digest` is what proves there is none.
    pub blocks: Vec<[u8; 8]>,
}

/// Where a file differs from its entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The first byte of the first block that differs.
    pub offset: u64,
    /// How many bytes that block has.
    pub len: u64,
    /// What the file hashes to.
    pub got: Digest<Content>,
}

impl InventoryEntry {
    /// The entry for a file with these bytes.
    ///
    /// It has at most 1024 blocks; of many files that are listed together, each has fewer.
    pub fn of(path: &str, bytes: &[u8], files: usize) -> Self {
        let size = bytes.len() as u64;
        let most = (MAX_ALL_BLOCKS / files.max(1) as u64).clamp(1, MAX_BLOCKS);
        let block_bytes = size.div_ceil(most).next_power_of_two().max(MIN_BLOCK_BYTES);
        Self {
            path: path.to_owned(),
            size,
            digest: Digest::of_bytes(bytes),
            block_bytes,
            blocks: bytes.chunks(block_bytes as usize).map(block_digest).collect(),
        }
    }

    /// Holds bytes against the entry; `None` when they are the same.
    pub fn mismatch(&self, bytes: &[u8]) -> Option<Mismatch> {
        let got = Digest::of_bytes(bytes);
        if got == self.digest {
            return None;
        }
        let size = bytes.len() as u64;
        let blocks: Vec<&[u8]> = bytes.chunks(self.block_bytes as usize).collect();
        let bad = blocks.iter().zip(&self.blocks).position(|(b, d)| block_digest(b) != *d);
        let offset = match bad {
            Some(i) => i as u64 * self.block_bytes,
            None => self.size.min(size),
        };
        let len = self.block_bytes.min(size.max(self.size) - offset.min(size.max(self.size)));
        Some(Mismatch { offset, len, got })
    }
}

fn block_digest(block: &[u8]) -> [u8; 8] {
    let digest = Digest::<Content>::of_bytes(block);
    *digest.as_bytes().first_chunk().expect("a digest has 32 bytes")
}

/// A sorted list of entries.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Inventory {
    schema: u32,
    entries: Vec<InventoryEntry>,
}

/// An inventory that cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// There are too many files.
    #[error("an inventory lists at most {MAX_FILES} files, got {files}")]
    TooMany {
        /// How many there are.
        files: usize,
    },
    /// The bytes are not an inventory.
    #[error(transparent)]
    Encoding(#[from] CanonError),
    /// It is of another version.
    #[error("the inventory has schema {got}; this version reads {SCHEMA}")]
    Schema {
        /// Its schema.
        got: u32,
    },
    /// A path is not relative, plain and in order.
    #[error("the inventory's path {path:?} is not a plain relative path in ascending order")]
    Path {
        /// The path.
        path: String,
    },
    /// An entry's blocks do not fit its size.
    #[error("the inventory's entry for {path:?} has the wrong number of blocks")]
    Blocks {
        /// Its path.
        path: String,
    },
}

impl Inventory {
    /// Reads the files at `paths` (relative to `root`) and lists them, sorted.
    ///
    /// # Errors
    /// [`InventoryError::File`] when one cannot be read, [`InventoryError::Path`] for a path that may not stand in it.
    pub fn take(files: &Files, root: &Path, mut paths: Vec<String>) -> Result<Self, InventoryError> {
        paths.sort();
        paths.dedup();
        if paths.len() > MAX_FILES {
            return Err(InventoryError::TooMany { files: paths.len() });
        }
        let entry = |path: &String| -> Result<InventoryEntry, InventoryError> {
            let bytes = files.read_bounded(&root.join(path), OBJECT_IN_MEMORY_BYTES)?;
            Ok(InventoryEntry::of(path, &bytes, paths.len()))
        };
        let inventory = Self { schema: SCHEMA, entries: paths.iter().map(entry).collect::<Result<_, _>>()? };
        inventory.check()?;
        Ok(inventory)
    }

    /// The entries, by path.
    pub fn entries(&self) -> &[InventoryEntry] {
        &self.entries
    }

    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        canon::encode(self)
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`InventoryError`] for anything but a well-formed inventory of this schema.
    pub fn decode(bytes: &[u8]) -> Result<Self, InventoryError> {
        let inventory: Self = canon::decode(bytes)?;
        if inventory.schema != SCHEMA {
            return Err(InventoryError::Schema { got: inventory.schema });
        }
        inventory.check()?;
        Ok(inventory)
    }

    fn check(&self) -> Result<(), InventoryError> {
        let mut previous: Option<&str> = None;
        for entry in &self.entries {
            if !is_plain_relative(&entry.path) || previous.is_some_and(|p| p >= entry.path.as_str()) {
                return Err(InventoryError::Path { path: entry.path.clone() });
            }
            let fits = entry.block_bytes >= MIN_BLOCK_BYTES
                && entry.size.div_ceil(entry.block_bytes) == entry.blocks.len() as u64;
            if !fits {
                return Err(InventoryError::Blocks { path: entry.path.clone() });
            }
            previous = Some(&entry.path);
        }
        Ok(())
    }
}

/// Whether a path is relative, `/`-separated, and free of `.`, `..`, empty parts, back-slashes and control characters.
pub fn is_plain_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.chars().any(|c| c.is_control() || c == '\\')
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_located_to_its_block() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        let entry = InventoryEntry::of("a", &bytes, 1);
        assert_eq!(entry.mismatch(&bytes), None);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            let found = entry.mismatch(&bad).unwrap();
            assert!((found.offset..found.offset + found.len).contains(&(i as u64)), "byte {i}: {found:?}");
        }
        assert_eq!(entry.mismatch(&bytes[..999]).unwrap().offset, 768);
        assert_eq!(entry.mismatch(&[bytes.clone(), vec![1]].concat()).unwrap().offset, 768);
        assert_eq!(InventoryEntry::of("e", b"", 1).mismatch(b"x").unwrap().offset, 0);
    }

    #[test]
    fn decoding_refuses_paths_that_leave_the_store_and_disorder() {
        let entry = |path: &str| InventoryEntry::of(path, b"x", 1);
        let encode = |entries| Inventory { schema: SCHEMA, entries }.encode();
        Inventory::decode(&encode(vec![entry("a"), entry("b/c")])).unwrap();
        for bad in ["../a", "/a", "a//b", "a/./b", "", "a\\b", "a\0"] {
            assert!(Inventory::decode(&encode(vec![entry(bad)])).is_err(), "{bad:?}");
        }
        assert!(Inventory::decode(&encode(vec![entry("b"), entry("a")])).is_err());
        assert!(Inventory::decode(&encode(vec![entry("a"), entry("a")])).is_err());
    }
}

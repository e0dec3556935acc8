//! The inventory of a run: every file of its evidence by path, size and digest.
//!
//! Digests of blocks stand beside the digest of each file, so that a changed byte is found *where* it changed.
//! `docs/formats/inventory.md` is normative.

use std::io::{self, BufRead as _, BufReader};
use std::num::NonZeroUsize;
use std::path::Path;

use bincode::{Decode, Encode};

use crate::canon::{self, CanonError};
use crate::digest::{Content, Digest};
use crate::files::{FileError, Files};
use crate::storage::{Reading, StoredFile};
use crate::tree_hash;

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
    /// How many bytes the file has.
    pub size: u64,
}

impl InventoryEntry {
    /// The entry for a file, which is read in constant memory; a large one is hashed on several threads.
    ///
    /// It has at most 1024 blocks; of many files that are listed together, each has fewer.
    ///
    /// # Errors
    /// What the file says.
    pub fn of(path: &str, file: &dyn StoredFile, files: usize, threads: NonZeroUsize) -> io::Result<Self> {
        let (digest, size) = tree_hash::of_file(file, threads)?;
        let most = (MAX_ALL_BLOCKS / files.max(1) as u64).clamp(1, MAX_BLOCKS);
        let block_bytes = size.div_ceil(most).next_power_of_two().max(MIN_BLOCK_BYTES);
        let mut blocks = Blocks::of(file, block_bytes);
        let mut listed = Vec::new();
        while let Some(block) = blocks.next_block()? {
            listed.push(block);
        }
        Ok(Self { path: path.to_owned(), size, digest, block_bytes, blocks: listed })
    }

    /// Holds a file against the entry, in constant memory: its length when it is the same, else where it is another.
    ///
    /// # Errors
    /// What the file says.
    pub fn check(&self, file: &dyn StoredFile, threads: NonZeroUsize) -> io::Result<Result<u64, Mismatch>> {
        let (got, size) = tree_hash::of_file(file, threads)?;
        if got == self.digest {
            return Ok(Ok(size));
        }
        let mut blocks = Blocks::of(file, self.block_bytes);
        let mut bad = None;
        for (i, expected) in (0u64..).zip(&self.blocks) {
            // Where the file ends first, it is the same up to there.
            if blocks.next_block()?.is_some_and(|block| block != *expected) {
                bad = Some(i * self.block_bytes);
                break;
            }
        }
        let longer = size.max(self.size);
        let offset = bad.unwrap_or(self.size.min(size));
        Ok(Err(Mismatch { offset, len: self.block_bytes.min(longer - offset.min(longer)), got, size }))
    }
}

/// The digests of a file's blocks, one after the other.
struct Blocks<'a> {
    reader: BufReader<Reading<'a>>,
    block_bytes: u64,
}

impl<'a> Blocks<'a> {
    fn of(file: &'a dyn StoredFile, block_bytes: u64) -> Self {
        Self { reader: BufReader::with_capacity(1 << 16, Reading::new(file)), block_bytes }
    }

    /// `None` at the end.
    fn next_block(&mut self) -> io::Result<Option<[u8; 8]>> {
        let mut hasher = blake3::Hasher::new();
        while hasher.count() < self.block_bytes {
            let there = self.reader.fill_buf()?;
            let n = (there.len() as u64).min(self.block_bytes - hasher.count()) as usize;
            if n == 0 {
                break;
            }
            hasher.update(&there[..n]);
            self.reader.consume(n);
        }
        let digest = hasher.finalize();
        let first = *digest.as_bytes().first_chunk().expect("a digest has 32 bytes");
        Ok((hasher.count() > 0).then_some(first))
    }
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
    pub fn take(
        files: &Files,
        root: &Path,
        mut paths: Vec<String>,
        threads: NonZeroUsize,
    ) -> Result<Self, InventoryError> {
        paths.sort();
        paths.dedup();
        if paths.len() > MAX_FILES {
            return Err(InventoryError::TooMany { files: paths.len() });
        }
        let entry = |path: &String| -> Result<InventoryEntry, InventoryError> {
            let at = root.join(path);
            let file = files.open(&at)?;
            let entry = InventoryEntry::of(path, &*file, paths.len(), threads);
            Ok(entry.map_err(FileError::at("read", &at))?)
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
    use crate::storage::sim::SimDisk;
    use crate::storage::Storage as _;

    fn file(bytes: &[u8]) -> Box<dyn StoredFile> {
        let mut file = SimDisk::new().create_new(Path::new("/f")).unwrap();
        file.append(bytes).unwrap();
        file
    }

    fn entry(path: &str, bytes: &[u8]) -> InventoryEntry {
        InventoryEntry::of(path, &*file(bytes), 1, NonZeroUsize::MIN).unwrap()
    }

    fn mismatch(entry: &InventoryEntry, bytes: &[u8]) -> Option<Mismatch> {
        entry.check(&*file(bytes), NonZeroUsize::MIN).unwrap().err()
    }

    #[test]
    fn a_change_is_located_to_its_block() {
        let bytes: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
        let entry = entry("a", &bytes);
        assert_eq!(mismatch(&entry, &bytes), None);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            let found = mismatch(&entry, &bad).unwrap();
            assert!((found.offset..found.offset + found.len).contains(&(i as u64)), "byte {i}: {found:?}");
        }
        assert_eq!(mismatch(&entry, &bytes[..999]).unwrap().offset, 768);
        assert_eq!(mismatch(&entry, &[bytes.clone(), vec![1]].concat()).unwrap().offset, 768);
        assert_eq!(mismatch(&super::tests::entry("e", b""), b"x").unwrap().offset, 0);
    }

    #[test]
    fn a_large_file_has_the_blocks_of_its_bytes_on_any_number_of_threads() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
        let one = entry("a", &bytes);
        let block = one.block_bytes as usize;
        assert_eq!((one.block_bytes, one.size, one.digest), (4096, 3_000_000, Digest::of_bytes(&bytes)));
        let expected: Vec<[u8; 8]> =
            bytes.chunks(block).map(|b| *blake3::hash(b).as_bytes().first_chunk().unwrap()).collect();
        assert_eq!(one.blocks, expected);
        let three = NonZeroUsize::new(3).unwrap();
        assert_eq!(InventoryEntry::of("a", &*file(&bytes), 1, three).unwrap(), one);
        let mut bad = bytes.clone();
        bad[2_500_000] ^= 1;
        let found = one.check(&*file(&bad), three).unwrap().unwrap_err();
        assert_eq!((found.offset, found.len), (2_500_000 / 4096 * 4096, 4096));
        assert_eq!(one.check(&*file(&bytes), three).unwrap(), Ok(3_000_000));
    }

    #[test]
    fn decoding_refuses_paths_that_leave_the_store_and_disorder() {
        let entry = |path: &str| entry(path, b"x");
        let encode = |entries| Inventory { schema: SCHEMA, entries }.encode();
        Inventory::decode(&encode(vec![entry("a"), entry("b/c")])).unwrap();
        for bad in ["../a", "/a", "a//b", "a/./b", "", "a\\b", "a\0"] {
            assert!(Inventory::decode(&encode(vec![entry(bad)])).is_err(), "{bad:?}");
        }
        assert!(Inventory::decode(&encode(vec![entry("b"), entry("a")])).is_err());
        assert!(Inventory::decode(&encode(vec![entry("a"), entry("a")])).is_err());
    }
}

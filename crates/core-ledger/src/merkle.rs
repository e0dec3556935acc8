//! The RFC 6962 Merkle tree (SHA-256; leaf prefix `0x00`, node prefix `0x01`).
//!
//! [`Tree`] keeps the roots of its complete subtrees, enough to append and to tell the root; [`FullTree`] keeps every node,
//! enough to prove. [`proof`] checks what they prove.

use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};

pub mod proof;

/// A SHA-256 hash of the tree.
pub type Hash = [u8; 32];

/// The hash of a leaf: SHA-256(0x00 ‖ leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    match leaf.len() {
        0..=SMALL_LEAF_BYTES => two_parts(0, leaf, &[]),
        _ => Sha256::new().chain_update([0]).chain_update(leaf).finalize().into(),
    }
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    two_parts(1, left, right)
}

/// The state that SHA-256 begins with: FIPS 180-4 section 5.3.3.
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// The longest leaf that is padded here: with its prefix, a bit and its length it fills two blocks.
const SMALL_LEAF_BYTES: usize = 118;

/// SHA-256 of a prefix and at most 118 bytes in two parts. The tree of a long log is little else than these: padded in place
/// they take a fifth less than through a hasher, which keeps a buffer for what may follow.
#[inline(always)]
fn two_parts(prefix: u8, first: &[u8], second: &[u8]) -> Hash {
    let mut blocks = [[0; 64]; 2];
    let bytes = blocks.as_flattened_mut();
    let middle = 1 + first.len();
    let end = middle + second.len();
    bytes[0] = prefix;
    bytes[1..middle].copy_from_slice(first);
    bytes[middle..end].copy_from_slice(second);
    bytes[end] = 0x80;
    let used = if end < 56 { 1 } else { 2 };
    bytes[used * 64 - 8..used * 64].copy_from_slice(&(end as u64 * 8).to_be_bytes());
    let mut state = START;
    compress256(&mut state, &blocks[..used]);
    let mut hash = [0; 32];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

/// A growing tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// Roots of the complete subtrees, largest first: one for every bit that is set in `size`.
    peaks: Vec<Hash>,
}

impl Tree {
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: &[u8]) {
        let mut hash = leaf_hash(leaf);
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("a peak for every bit that is set in the size");
            hash = node_hash(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root; of an empty tree the SHA-256 of nothing.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            None => Sha256::digest([]).into(),
            Some(last) => peaks.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// A growing tree with every node at hand: 64 bytes a leaf, and a proof in O(log n).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FullTree {
    /// The hashes of leaves, then those of each pair of complete subtrees, level by level.
    levels: Vec<Vec<Hash>>,
}

impl FullTree {
    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: &[u8]) {
        let mut hash = leaf_hash(leaf);
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let nodes = &mut self.levels[level];
            nodes.push(hash);
            let &[.., left, right] = nodes.as_slice() else { return };
            if nodes.len() % 2 == 1 {
                return;
            }
            hash = node_hash(&left, &right);
        }
    }

    /// The root of the first `size` leaves; `None` when there are fewer.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        match size {
            0 => Some(Sha256::digest([]).into()),
            _ if size > self.size() => None,
            _ => Some(self.root_of(0, size)),
        }
    }

    /// The hashes that lead from leaf `index` to the root of the first `size` leaves, from the bottom up (RFC 6962 section
    /// 2.1.1); `None` unless `index < size ≤` the number of leaves.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if index >= size || size > self.size() {
            return None;
        }
        let (mut start, mut end) = (0, size);
        let mut path = Vec::new();
        while end - start > 1 {
            let middle = start + split(end - start);
            if index < middle {
                path.push(self.root_of(middle, end));
                end = middle;
            } else {
                path.push(self.root_of(start, middle));
                start = middle;
            }
        }
        path.reverse();
        Some(path)
    }

    /// The hashes that show that the first `new` leaves begin with the first `old` (RFC 6962 section 2.1.2); `None` unless
    /// `0 < old ≤ new ≤` the number of leaves.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        if old == 0 || old > new || new > self.size() {
            return None;
        }
        let (mut start, mut end) = (0, new);
        let mut path = Vec::new();
        // The subtree of the old leaves is known to whoever checks as long as it begins at the first leaf.
        while end != old {
            let middle = start + split(end - start);
            if old <= middle {
                path.push(self.root_of(middle, end));
                end = middle;
            } else {
                path.push(self.root_of(start, middle));
                start = middle;
            }
        }
        if start > 0 {
            path.push(self.root_of(start, end));
        }
        path.reverse();
        Some(path)
    }

    /// The root of the leaves from `start` to `end`, where `start` is where RFC 6962 splits.
    fn root_of(&self, start: u64, end: u64) -> Hash {
        let len = end - start;
        if len.is_power_of_two() {
            let level = len.ilog2();
            return self.levels[level as usize][(start >> level) as usize];
        }
        let middle = start + split(len);
        node_hash(&self.root_of(start, middle), &self.root_of(middle, end))
    }
}

/// The largest power of two below `len`, which is at least 2.
fn split(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 section 2.1, word for word.
    fn mth(leaves: &[Vec<u8>]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [one] => leaf_hash(one),
            _ => {
                let k = 1 << (leaves.len() - 1).ilog2();
                node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    #[test]
    fn leaves_of_every_length_and_nodes_are_plain_sha_256() {
        let bytes: Vec<u8> = (1..=200).collect();
        for len in 0..bytes.len() {
            let expected = Sha256::digest([&[0], &bytes[..len]].concat());
            assert_eq!(leaf_hash(&bytes[..len]), *expected, "a leaf of {len} bytes");
        }
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
        let expected = Sha256::digest([&[1], left.as_slice(), &right].concat());
        assert_eq!(node_hash(&left, &right), *expected);
        assert_ne!(node_hash(&right, &left), *expected);
    }

    #[test]
    fn equals_the_definition_for_sizes_up_to_200() {
        let leaves: Vec<Vec<u8>> = (0..200u8).map(|i| vec![i; usize::from(i % 7)]).collect();
        let mut tree = Tree::default();
        for n in 0..=leaves.len() {
            assert_eq!(tree.root(), mth(&leaves[..n]), "size {n}");
            assert_eq!(tree.size(), n as u64);
            if n < leaves.len() {
                tree.push(&leaves[n]);
            }
        }
    }

    /// The reference tree of the certificate-transparency test suite (eight leaves).
    #[test]
    fn known_roots() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let mut tree = Tree::default();
        leaves.iter().for_each(|leaf| tree.push(leaf));
        let hex: String = tree.root().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
    }
}

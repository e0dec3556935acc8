//! The RFC 6962 Merkle tree (SHA-256; leaf prefix `0x00`, node prefix `0x01`), kept as the roots of its
//! complete subtrees, so that appending takes O(log n) and memory is O(log n).

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash of the tree.
pub type Hash = [u8; 32];

/// The hash of a leaf: SHA-256(0x00 ‖ leaf).
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
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

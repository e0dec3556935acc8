//! Entries linked by digest: whoever knows the head knows every entry before it.

use bincode::{BorrowDecode, Encode};

use crate::canon::{self, CanonError};
use crate::digest::{Digest, EntryKind, GenesisKind};

/// The head of a chain: the digest of its newest entry.
pub type ChainHead = Digest<EntryKind>;

#[derive(Debug, Encode, BorrowDecode)]
struct Link<'a> {
    index: u64,
    previous: ChainHead,
    body: &'a [u8],
}

/// A chain under construction or under verification.
///
/// The head of an empty chain is derived from what the chain is bound to; entry `i` is
/// `(i, head before it, body)` in canonical bytes, and its digest is the new head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    head: ChainHead,
    len: u64,
}

/// A record that does not continue the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The record is not a canonical entry.
    #[error("entry {index}: {source}")]
    Encoding {
        /// Its position in the chain.
        index: u64,
        /// What is wrong with its bytes.
        source: CanonError,
    },
    /// The record carries another position.
    #[error("entry {expected} carries the index {got}")]
    Index {
        /// Its position in the chain.
        expected: u64,
        /// What it carries.
        got: u64,
    },
    /// The record does not name the entry before it.
    #[error("entry {index} follows {got}, but the chain's head is {expected}")]
    Broken {
        /// Its position in the chain.
        index: u64,
        /// The head so far.
        expected: ChainHead,
        /// What the entry names.
        got: ChainHead,
    },
}

impl Chain {
    /// An empty chain that is bound to `binding` (for a run's ledger: the plan's digest).
    pub fn bound_to(binding: &[u8; 32]) -> Self {
        let genesis = Digest::<GenesisKind>::of_bytes(binding);
        Self { head: Digest::from_bytes(*genesis.as_bytes()), len: 0 }
    }

    /// The digest of the newest entry.
    pub fn head(&self) -> ChainHead {
        self.head
    }

    /// The number of entries.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no entry yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an entry and returns its record.
    pub fn push(&mut self, body: &[u8]) -> Vec<u8> {
        let record = canon::encode(&Link { index: self.len, previous: self.head, body });
        self.advance(&record);
        record
    }

    /// Checks that `record` is the next entry, takes it, and returns its body.
    ///
    /// # Errors
    /// [`ChainError`] when it is not; the chain is then unchanged.
    pub fn accept<'r>(&mut self, record: &'r [u8]) -> Result<&'r [u8], ChainError> {
        let link: Link<'r> = canon::decode_borrowed(record)
            .map_err(|source| ChainError::Encoding { index: self.len, source })?;
        if link.index != self.len {
            return Err(ChainError::Index { expected: self.len, got: link.index });
        }
        if link.previous != self.head {
            return Err(ChainError::Broken { index: self.len, expected: self.head, got: link.previous });
        }
        self.advance(record);
        Ok(link.body)
    }

    fn advance(&mut self, record: &[u8]) {
        self.head = Digest::of_bytes(record);
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Vec<u8>> {
        let mut chain = Chain::bound_to(&[7; 32]);
        (0..4u8).map(|i| chain.push(&[i; 3])).collect()
    }

    fn follow(binding: u8, records: &[Vec<u8>]) -> Result<ChainHead, ChainError> {
        let mut chain = Chain::bound_to(&[binding; 32]);
        records.iter().try_for_each(|r| chain.accept(r).map(drop)).map(|()| chain.head())
    }

    #[test]
    fn accepts_only_what_was_pushed_in_the_order_it_was() {
        let good = records();
        follow(7, &good).unwrap();
        assert!(matches!(follow(8, &good), Err(ChainError::Broken { index: 0, .. })));
        for i in 0..3 {
            let mut swapped = good.clone();
            swapped.swap(i, i + 1);
            assert!(follow(7, &swapped).is_err(), "swapped {i}");
            let mut removed = good.clone();
            removed.remove(i);
            assert!(follow(7, &removed).is_err(), "removed {i}");
            let mut doubled = good.clone();
            doubled.insert(i, good[i].clone());
            assert!(follow(7, &doubled).is_err(), "doubled {i}");
        }
        for i in 0..good[1].len() {
            let mut flipped = good.clone();
            flipped[1][i] ^= 1;
            assert!(follow(7, &flipped).is_err(), "flipped byte {i} of record 1");
        }
    }
}

//! Proofs that a log has only grown, as files: the request of C2SP `tlog-witness`, which a witness reads too. See
//! <https://c2sp.org/tlog-witness>, and `docs/formats/proofs.md` for what is refused.
//!
//! ```text
//! old <decimal>
//! <base64 hash>          one a line
//!
//! <signed tree head>
//! ```

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;

use crate::limits::NOTE_BYTES;
use crate::merkle::proof::{check_consistency, ProofError};
use crate::merkle::Hash;
use crate::note::{self, NoteError, NoteKey, TreeHead};

const MAX_HASHES: usize = 64;
/// The most bytes of such a file.
pub const MAX_PROOF_BYTES: usize = NOTE_BYTES + (64 << 10);

/// A proof that the log of a signed head begins with the log of an older one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrowthProof {
    /// The older size; 0 for a log that was not seen before, of which there is nothing to show.
    pub old: u64,
    /// The consistency proof.
    pub hashes: Vec<Hash>,
    /// The newer signed tree head.
    pub head: String,
}

/// A proof of growth that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrowthError {
    /// It is not of the form.
    #[error("not a proof of growth: {reason}")]
    Syntax {
        /// Why.
        reason: &'static str,
    },
    /// Its tree head is malformed or not signed by the key.
    #[error(transparent)]
    Head(#[from] NoteError),
    /// Its head is of another log.
    #[error("the tree head is of {got}, but {expected} is expected")]
    Origin {
        /// The log that is expected.
        expected: String,
        /// The head's.
        got: String,
    },
    /// It begins at another size than the head that is known.
    #[error("the proof begins at {got} leaves, but the head that is known has {expected}")]
    Old {
        /// The size of the head that is known.
        expected: u64,
        /// Where the proof begins.
        got: u64,
    },
    /// The log is not a continuation.
    #[error("the log does not continue the head of {old} leaves: {source}")]
    Fork {
        /// The size of the head that is known.
        old: u64,
        /// What does not hold.
        source: ProofError,
    },
}

impl GrowthProof {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| BASE64.encode(hash) + "\n").collect();
        format!("old {}\n{hashes}\n{}", self.old, self.head)
    }

    /// Reads what [`GrowthProof::to_text`] wrote.
    ///
    /// # Errors
    /// [`GrowthError::Syntax`] for anything else.
    pub fn parse(bytes: &[u8]) -> Result<Self, GrowthError> {
        let bad = |reason| GrowthError::Syntax { reason };
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(bad("it is too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))?;
        let (proof, head) =
            text.split_once("\n\n").ok_or_else(|| bad("it has no empty line before the tree head"))?;
        let mut lines = proof.split('\n');
        let digits = lines.next().and_then(|line| line.strip_prefix("old "));
        let digits = digits.ok_or_else(|| bad("it does not begin with the older size"))?;
        let old: u64 = digits.parse().map_err(|_| bad("the older size is not a number"))?;
        if old.to_string() != digits {
            return Err(bad("the older size is not written canonically"));
        }
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == MAX_HASHES {
                return Err(bad("it has too many hashes"));
            }
            let hash = BASE64.decode(line).map_err(|_| bad("a hash is not canonical base64"))?;
            hashes.push(hash.try_into().map_err(|_| bad("a hash is not 32 bytes"))?);
        }
        Ok(Self { old, hashes, head: head.to_owned() })
    }

    /// Checks that the head is signed by `key` and continues `known`; without a known head only the signature is checked, and
    /// the proof must begin at 0.
    ///
    /// # Errors
    /// [`GrowthError`].
    pub fn check(&self, known: Option<&TreeHead>, key: &NoteKey) -> Result<TreeHead, GrowthError> {
        let (body, signer) = note::open(self.head.as_bytes(), std::slice::from_ref(key))?;
        let head = TreeHead::parse(body)?;
        let expected = known.map_or(signer.name(), |known| known.origin.as_str());
        if head.origin != expected || head.origin != signer.name() {
            return Err(GrowthError::Origin { expected: expected.to_owned(), got: head.origin });
        }
        let old = known.map_or(0, |known| known.size);
        if self.old != old {
            return Err(GrowthError::Old { expected: old, got: self.old });
        }
        match known {
            Some(known) => check_consistency(old, &known.root, head.size, &head.root, &self.hashes)
                .map_err(|source| GrowthError::Fork { old, source })?,
            None if self.hashes.is_empty() => {}
            None => return Err(GrowthError::Syntax { reason: "there is nothing to show of an empty log" }),
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyRole, PrivateKey};
    use crate::merkle::FullTree;

    const ORIGIN: &str = "bitproof.local/test";

    fn tree(size: u64) -> FullTree {
        let mut tree = FullTree::default();
        (0..size).for_each(|i| tree.push(&i.to_le_bytes()));
        tree
    }

    fn head(tree: &FullTree, size: u64) -> TreeHead {
        TreeHead { origin: ORIGIN.to_owned(), size, root: tree.root_at(size).unwrap() }
    }

    #[test]
    fn growth_holds_and_a_fork_does_not() {
        let key = PrivateKey::from_bytes(KeyRole::Log, &[3; 32]);
        let vkey = key.note_key(ORIGIN).unwrap();
        let tree = tree(20);
        let known = head(&tree, 13);
        let signed = key.sign_note(&head(&tree, 20).body(), ORIGIN).unwrap();
        let proof =
            GrowthProof { old: 13, hashes: tree.consistency_proof(13, 20).unwrap(), head: signed.clone() };
        let text = proof.to_text();
        let read = GrowthProof::parse(text.as_bytes()).unwrap();
        assert_eq!(read.check(Some(&known), &vkey).unwrap(), head(&tree, 20));
        for i in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[i] ^= 1;
            assert!(
                GrowthProof::parse(&bad).is_ok_and(|p| p.check(Some(&known), &vkey).is_ok()).eq(&false),
                "byte {i}"
            );
            assert!(GrowthProof::parse(&text.as_bytes()[..i])
                .is_ok_and(|p| p.check(Some(&known), &vkey).is_ok())
                .eq(&false));
        }
        let fork = TreeHead { root: [9; 32], ..known.clone() };
        assert!(matches!(read.check(Some(&fork), &vkey), Err(GrowthError::Fork { old: 13, .. })));
        let other = TreeHead { size: 12, ..known.clone() };
        assert!(matches!(read.check(Some(&other), &vkey), Err(GrowthError::Old { expected: 12, got: 13 })));
        let log = TreeHead { origin: "another".to_owned(), ..known };
        assert!(matches!(read.check(Some(&log), &vkey), Err(GrowthError::Origin { .. })));
        let first = GrowthProof { old: 0, hashes: vec![], head: signed };
        assert_eq!(first.check(None, &vkey).unwrap().size, 20);
        assert!(read.check(None, &vkey).is_err());
    }
}

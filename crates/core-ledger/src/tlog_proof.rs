//! Inclusion proofs as files: C2SP `tlog-proof`, with the leaf itself as the extra data, so that the file and a verification
//! key are all that a check needs. See <https://c2sp.org/tlog-proof>, and
//! `docs/formats/proofs.md` for what is refused.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64 of the leaf>
//! index <decimal>
//! <base64 hash>          one a line, from the leaf up
//!
//! <signed tree head>
//! ```

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;

use crate::limits::{LEAF_BYTES, NOTE_BYTES};
use crate::merkle::proof::{check_inclusion, ProofError};
use crate::merkle::{leaf_hash, Hash};
use crate::note::{self, NoteError, NoteKey, TreeHead};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
const MAX_HASHES: usize = 64;
/// The most bytes of a proof file.
pub const MAX_PROOF_BYTES: usize = NOTE_BYTES + 2 * LEAF_BYTES;

/// A proof that a signed tree has a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// Its place in the tree.
    pub index: u64,
    /// The path from the leaf to the root.
    pub hashes: Vec<Hash>,
    /// The signed tree head.
    pub head: String,
}

/// A proof file that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlogProofError {
    /// It is not of the form.
    #[error("not a proof file: {reason}")]
    Syntax {
        /// Why.
        reason: &'static str,
    },
    /// Its tree head is malformed or not signed by the key.
    #[error(transparent)]
    Head(#[from] NoteError),
    /// Its head is of another log than the key.
    #[error("the tree head is of {got}, but the key is of {expected}")]
    Origin {
        /// The key's log.
        expected: String,
        /// The head's.
        got: String,
    },
    /// Its path does not lead to the root.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl TlogProof {
    /// The text of the file.
    pub fn to_text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| BASE64.encode(hash) + "\n").collect();
        let leaf = BASE64.encode(&self.leaf);
        format!("{FIRST_LINE}\nextra {leaf}\nindex {}\n{hashes}\n{}", self.index, self.head)
    }

    /// Reads what [`TlogProof::to_text`] wrote.
    ///
    /// # Errors
    /// [`TlogProofError::Syntax`] for anything else: another version, another spelling, too many hashes.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        let bad = |reason| TlogProofError::Syntax { reason };
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(bad("it is too large"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))?;
        let (proof, head) =
            text.split_once("\n\n").ok_or_else(|| bad("it has no empty line before the tree head"))?;
        let mut lines = proof.split('\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(bad("it does not begin with c2sp.org/tlog-proof@v1"));
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let extra = extra.ok_or_else(|| bad("its second line is not the leaf"))?;
        let leaf = BASE64.decode(extra).map_err(|_| bad("the leaf is not canonical base64"))?;
        if leaf.len() > LEAF_BYTES {
            return Err(bad("the leaf is too large"));
        }
        let digits = lines.next().and_then(|line| line.strip_prefix("index "));
        let digits = digits.ok_or_else(|| bad("its third line is not the index"))?;
        let index: u64 = digits.parse().map_err(|_| bad("the index is not a number"))?;
        if index.to_string() != digits {
            return Err(bad("the index is not written canonically"));
        }
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == MAX_HASHES {
                return Err(bad("it has too many hashes"));
            }
            let hash = BASE64.decode(line).map_err(|_| bad("a hash is not canonical base64"))?;
            hashes.push(hash.try_into().map_err(|_| bad("a hash is not 32 bytes"))?);
        }
        Ok(Self { leaf, index, hashes, head: head.to_owned() })
    }

    /// Checks the head's signature by `key`, which is the log's, and the path from the leaf to its root.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn check(&self, key: &NoteKey) -> Result<TreeHead, TlogProofError> {
        let (body, signer) = note::open(self.head.as_bytes(), std::slice::from_ref(key))?;
        let head = TreeHead::parse(body)?;
        if head.origin != signer.name() {
            return Err(TlogProofError::Origin { expected: signer.name().to_owned(), got: head.origin });
        }
        check_inclusion(&leaf_hash(&self.leaf), self.index, head.size, &self.hashes, &head.root)?;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyRole, PrivateKey};
    use crate::merkle::FullTree;

    const ORIGIN: &str = "bitproof.local/test";

    fn proof(index: u64) -> (TlogProof, NoteKey) {
        let mut tree = FullTree::default();
        (0..11u64).for_each(|i| tree.push(format!("leaf {i}").as_bytes()));
        let key = PrivateKey::from_bytes(KeyRole::Log, &[3; 32]);
        let head = TreeHead { origin: ORIGIN.to_owned(), size: 11, root: tree.root_at(11).unwrap() };
        let proof = TlogProof {
            leaf: format!("leaf {index}").into_bytes(),
            index,
            hashes: tree.inclusion_proof(index, 11).unwrap(),
            head: key.sign_note(&head.body(), ORIGIN).unwrap(),
        };
        (proof, key.note_key(ORIGIN).unwrap())
    }

    #[test]
    fn a_proof_file_holds_with_the_key_alone() {
        for index in 0..11 {
            let (proof, key) = proof(index);
            let read = TlogProof::parse(proof.to_text().as_bytes()).unwrap();
            assert_eq!(read, proof);
            assert_eq!(read.check(&key).unwrap().size, 11);
        }
    }

    #[test]
    fn no_byte_may_change_and_nothing_be_cut() {
        let (proof, key) = proof(4);
        let text = proof.to_text();
        let holds = |bytes: &[u8]| TlogProof::parse(bytes).is_ok_and(|proof| proof.check(&key).is_ok());
        assert!(holds(text.as_bytes()));
        for i in 0..text.len() {
            let mut bad = text.clone().into_bytes();
            bad[i] ^= 1;
            assert!(!holds(&bad), "byte {i}");
            assert!(!holds(&text.as_bytes()[..i]), "the first {i} bytes");
        }
    }

    #[test]
    fn each_defect_has_its_own_message() {
        let (good, key) = proof(4);
        let text = good.to_text();
        let hash = BASE64.encode(good.hashes[0]);
        let said = |text: &str| match TlogProof::parse(text.as_bytes()) {
            Err(error) => error.to_string(),
            Ok(proof) => proof.check(&key).unwrap_err().to_string(),
        };
        let other = PrivateKey::from_bytes(KeyRole::Log, &[4; 32]).note_key(ORIGIN).unwrap();
        let cases = [
            ("version", text.replace("proof@v1", "proof@v2"), "does not begin with c2sp.org/tlog-proof@v1"),
            ("no-leaf", text.replace("extra ", "extra: "), "its second line is not the leaf"),
            (
                "padded-leaf",
                text.replacen("bGVhZiA0\n", "bGVhZiA0=\n", 1),
                "the leaf is not canonical base64",
            ),
            ("leading-zero", text.replace("index 4", "index 04"), "the index is not written canonically"),
            ("no-number", text.replace("index 4", "index four"), "the index is not a number"),
            ("index-past-end", text.replace("index 4", "index 11"), "there is no leaf 11 in a tree of 11"),
            ("other-index", text.replace("index 4", "index 5"), "does not lead to the tree's root"),
            ("short-hash", text.replacen(&hash, "AAAA", 1), "a hash is not 32 bytes"),
            ("missing-hash", text.replacen(&format!("{hash}\n"), "", 1), "where 4 are needed"),
            ("more-hashes", text.replacen(&hash, &format!("{hash}\n{hash}"), 1), "the proof has 5 hashes"),
            ("many-hashes", text.replacen(&hash, &vec![hash.as_str(); 70].join("\n"), 1), "too many hashes"),
            ("no-head", text.replacen("\n\n", "\n", 2), "no empty line"),
        ];
        for (mutation, text, message) in cases {
            let said = said(&text);
            assert!(said.contains(message), "{mutation}: {said}");
        }
        assert!(matches!(good.check(&other), Err(TlogProofError::Head(NoteError::NotSigned { .. }))));
    }
}

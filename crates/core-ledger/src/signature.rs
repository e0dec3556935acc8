//! Detached signatures of files: a signed note over name, digests and size.
//!
//! ```text
//! bitproof.local/artifact/v1
//! <name>
//! blake3 <hex>
//! sha256 <hex>
//! size <bytes>
//!
//! — bitproof.local/artifact <base64(key id ‖ signature)>
//! ```
//! `docs/formats/signature.md` is normative.

use sha2::{Digest as _, Sha256};

use crate::digest::{Content, Digest};
use crate::keys::PrivateKey;
use crate::note::{self, NoteError, NoteKey};
use crate::store::hex;

/// The name under which artifact keys sign.
pub const ARTIFACT_SIGNER: &str = "bitproof.local/artifact";

/// A detached signature that does not hold for a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The note is malformed or not signed by a known key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note is about other bytes or another name.
    #[error("the signature is for\n{expected}but the file is\n{got}")]
    OtherFile {
        /// What was signed.
        expected: String,
        /// The file at hand.
        got: String,
    },
}

fn body(name: &str, bytes: &[u8]) -> String {
    let blake3 = Digest::<Content>::of_bytes(bytes);
    let sha256 = hex(&Sha256::digest(bytes));
    format!("{ARTIFACT_SIGNER}/v1\n{name}\nblake3 {blake3}\nsha256 {sha256}\nsize {}\n", bytes.len())
}

/// Signs a file of that name and content.
///
/// # Errors
/// [`NoteError`] for a name that cannot stand in a note.
pub fn sign(name: &str, bytes: &[u8], key: &PrivateKey) -> Result<String, NoteError> {
    key.sign_note(&body(name, bytes), ARTIFACT_SIGNER)
}

/// Checks a detached signature of a file.
///
/// # Errors
/// [`SignatureError`] when the note is not signed by one of `keys`, or is about another file.
pub fn verify(signature: &[u8], name: &str, bytes: &[u8], keys: &[NoteKey]) -> Result<(), SignatureError> {
    let (signed, _) = note::open(signature, keys)?;
    let got = body(name, bytes);
    if signed == got {
        Ok(())
    } else {
        Err(SignatureError::OtherFile { expected: signed.to_owned(), got })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyRole;

    #[test]
    fn a_signature_holds_for_one_name_and_content() {
        let key = PrivateKey::from_bytes(KeyRole::Artifact, &[1; 32]);
        let keys = [key.note_key(ARTIFACT_SIGNER).unwrap()];
        let signature = sign("m.safetensors", b"weights", &key).unwrap();
        verify(signature.as_bytes(), "m.safetensors", b"weights", &keys).unwrap();
        let other = verify(signature.as_bytes(), "m.safetensors", b"weightz", &keys);
        assert!(matches!(other, Err(SignatureError::OtherFile { .. })));
        assert!(verify(signature.as_bytes(), "n.safetensors", b"weights", &keys).is_err());
        let stranger =
            [PrivateKey::from_bytes(KeyRole::Artifact, &[2; 32]).note_key(ARTIFACT_SIGNER).unwrap()];
        assert!(verify(signature.as_bytes(), "m.safetensors", b"weights", &stranger).is_err());
    }
}

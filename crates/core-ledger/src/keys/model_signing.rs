//! The key that signs models for those who check them with a client of their own: P-256, since that client reads no Ed25519.

use std::fmt;
use std::path::PathBuf;

use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use p256::SecretKey;
use zeroize::Zeroizing;

use super::{read_private, KeyError, KeyFolder};
use crate::dsse::PublicKey;

/// The name of the role, which is also the name of the key's file.
pub const MODEL_SIGNING: &str = "model-signing";

const P256: &str = "a P-256 key";
/// A random number is none of a secret once in 2^32.
const TRIES: usize = 8;

/// A private key for models in memory; wiped when dropped.
///
/// It is of another type than [`super::PrivateKey`]: it signs no note, and no audit log lets it in.
pub struct ModelSigningKey {
    key: SigningKey,
}

impl fmt::Debug for ModelSigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelSigningKey")
    }
}

impl ModelSigningKey {
    /// A key from its secret, a big-endian number; `None` when it is 0 or not below the order of the group.
    pub fn from_bytes(secret: &[u8; 32]) -> Option<Self> {
        SecretKey::from_slice(secret).ok().map(|secret| Self { key: secret.into() })
    }

    fn from_pem(pem: &str) -> Option<Self> {
        SecretKey::from_pkcs8_pem(pem).ok().map(|secret| Self { key: secret.into() })
    }

    /// Its public half.
    pub fn public_key(&self) -> PublicKey {
        (*self.key.verifying_key()).into()
    }

    /// The signature of a message: ECDSA with SHA-256, deterministic (RFC 6979), the smaller of the two values of `s`, in DER.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let signature: Signature = self.key.sign(message);
        signature.normalize_s().to_der().as_bytes().to_vec()
    }
}

impl KeyFolder {
    /// The same folder with the key for models given as a PKCS#8 PEM text.
    #[must_use]
    pub fn with_model_signing_pem(mut self, pem: String) -> Self {
        self.given.insert(MODEL_SIGNING, Zeroizing::new(pem));
        self
    }

    /// Where the key for models is.
    pub fn model_signing_path(&self) -> PathBuf {
        self.dir.join(format!("{MODEL_SIGNING}.pem"))
    }

    /// Makes the key for models from the system's random bytes.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when there is one.
    pub fn create_model_signing(&self) -> Result<ModelSigningKey, KeyError> {
        if self.given.contains_key(MODEL_SIGNING) {
            return Err(KeyError::Given { role: MODEL_SIGNING });
        }
        let path = self.model_signing_path();
        let key = random()?;
        let malformed = |_| KeyError::Malformed { path: path.clone(), expected: P256 };
        let pem = key.key.to_pkcs8_pem(LineEnding::LF).map_err(malformed)?;
        self.publish(path, &pem)?;
        Ok(key)
    }

    /// Loads the key for models.
    ///
    /// # Errors
    /// [`KeyError::Missing`], [`KeyError::TooOpen`] when group or world have any permission, [`KeyError::Malformed`].
    pub fn load_model_signing(&self) -> Result<ModelSigningKey, KeyError> {
        if let Some(pem) = self.given.get(MODEL_SIGNING) {
            let malformed = KeyError::MalformedText { role: MODEL_SIGNING, expected: P256 };
            return ModelSigningKey::from_pem(pem).ok_or(malformed);
        }
        let path = self.model_signing_path();
        let pem = read_private(MODEL_SIGNING, &path, P256)?;
        ModelSigningKey::from_pem(&pem).ok_or(KeyError::Malformed { path, expected: P256 })
    }
}

fn random() -> Result<ModelSigningKey, KeyError> {
    let mut secret = Zeroizing::new([0u8; 32]);
    for _ in 0..TRIES {
        getrandom::fill(&mut *secret).map_err(|e| KeyError::Random(e.to_string()))?;
        if let Some(key) = ModelSigningKey::from_bytes(&secret) {
            return Ok(key);
        }
    }
    Err(KeyError::Random("what it gave is no secret of a P-256 key".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::keys::KeyRole;

    #[test]
    fn a_key_is_made_once_loaded_again_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = KeyFolder::new(dir.path().join("keys"));
        assert!(matches!(folder.load_model_signing(), Err(KeyError::Missing { role: MODEL_SIGNING, .. })));
        let made = folder.create_model_signing().unwrap();
        assert!(matches!(folder.create_model_signing(), Err(KeyError::Exists { .. })));
        assert_eq!(folder.load_model_signing().unwrap().public_key(), made.public_key());
        let path = folder.model_signing_path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(folder.load_model_signing(), Err(KeyError::TooOpen { mode: 0o604, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let pem = fs::read_to_string(&path).unwrap();
        let given = KeyFolder::new(dir.path().join("none")).with_model_signing_pem(pem);
        assert_eq!(given.load_model_signing().unwrap().public_key(), made.public_key());
        assert!(matches!(given.create_model_signing(), Err(KeyError::Given { .. })));
    }

    #[test]
    fn a_key_of_the_other_algorithm_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = KeyFolder::new(dir.path().join("keys"));
        folder.create(KeyRole::Log).unwrap();
        fs::copy(folder.path(KeyRole::Log), folder.model_signing_path()).unwrap();
        let refused = folder.load_model_signing().unwrap_err().to_string();
        assert!(refused.ends_with("model-signing.pem is not a P-256 key in PKCS#8 PEM"), "{refused}");
    }

    /// RFC 6979, appendix A.2.5: P-256, SHA-256, message "sample". Its `s` is the larger of the two values; ours is the order
    /// of the group minus it.
    #[test]
    fn signatures_are_those_of_the_rfc_with_the_smaller_s() {
        let secret = bytes("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721");
        let key = ModelSigningKey::from_bytes(&secret.try_into().unwrap()).unwrap();
        let signature = Signature::from_der(&key.sign(b"sample")).unwrap();
        let (r, s) = (signature.r().to_bytes(), signature.s().to_bytes());
        assert_eq!(r[..], bytes("efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"));
        assert_eq!(s[..], bytes("0834e36ad29a83bf2bc9385e491d6099c8fdf9d1ed67aa7ea5f51f93782857a9"));
        let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
        assert!(ModelSigningKey::from_bytes(&bytes(order).try_into().unwrap()).is_none());
        assert!(ModelSigningKey::from_bytes(&[0; 32]).is_none());
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }
}

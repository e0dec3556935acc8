//! Signed envelopes for statements that others read, as in <https://github.com/secure-systems-lab/dsse>.
//!
//! ```text
//! PAE(type, payload) = "DSSEv1" SP len(type) SP type SP len(payload) SP payload
//! ```
//! The signature is over the PAE. Whoever verifies brings the key, and with it the algorithm: nothing that an envelope names
//! decides either. `docs/formats/attestations.md` is normative.

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use ed25519_dalek::VerifyingKey;
use p256::ecdsa::signature::Verifier as _;
use p256::pkcs8::spki::der::pem::LineEnding;
use p256::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use serde::{Deserialize, Serialize};

use crate::keys::{ModelSigningKey, PrivateKey};
use crate::sha256::Sha256Digest;
use crate::store::hex;

pub mod json;

/// What every envelope of this house holds: an in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";

/// An envelope that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DsseError {
    /// It is of another type.
    #[error("the payload is of the type {got:?}, not {IN_TOTO:?}")]
    PayloadType {
        /// Its type.
        got: String,
    },
    /// It does not have one signature.
    #[error("there are {got} signatures, and one is expected: of more, a reader may take any")]
    Signatures {
        /// How many there are.
        got: usize,
    },
    /// A field is not canonical base64.
    #[error("{field} is not canonical base64: {reason}")]
    Base64 {
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The envelope says that another key signed it.
    #[error("it names the key {got:?}, but the key that was given is {expected}")]
    OtherKey {
        /// What the key that was given is called.
        expected: String,
        /// What the envelope says.
        got: String,
    },
    /// The signature is not by the key, or not over these bytes.
    #[error("the signature does not verify with the {algorithm} key {key}")]
    Signature {
        /// The key's algorithm.
        algorithm: &'static str,
        /// What the key is called.
        key: String,
    },
    /// A text is not a public key.
    #[error("it is not the PEM of an Ed25519 or P-256 public key (SubjectPublicKeyInfo)")]
    PublicKey,
    /// A key was to sign that is for something else.
    #[error("only an artifact key signs provenance")]
    Role,
}

/// A public key with its algorithm, which is the only one that it verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Known);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Ed25519(VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
}

/// The algorithms of public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Ed25519 as in RFC 8032, verified strictly.
    Ed25519,
    /// ECDSA on P-256 with SHA-256.
    EcdsaP256,
}

impl Algorithm {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::EcdsaP256 => "ECDSA P-256",
        }
    }
}

impl From<VerifyingKey> for PublicKey {
    fn from(key: VerifyingKey) -> Self {
        Self(Known::Ed25519(key))
    }
}

impl From<p256::ecdsa::VerifyingKey> for PublicKey {
    fn from(key: p256::ecdsa::VerifyingKey) -> Self {
        Self(Known::P256(key))
    }
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// [`DsseError::PublicKey`].
    pub fn from_pem(pem: &str) -> Result<Self, DsseError> {
        let p256 = || p256::ecdsa::VerifyingKey::from_public_key_pem(pem).map(Self::from);
        VerifyingKey::from_public_key_pem(pem)
            .map(Self::from)
            .or_else(|_| p256())
            .map_err(|_| DsseError::PublicKey)
    }

    /// Its SubjectPublicKeyInfo in PEM: lines of 64 columns, each with a line feed at its end.
    pub fn to_pem(&self) -> String {
        let pem = match &self.0 {
            Known::Ed25519(key) => key.to_public_key_pem(LineEnding::LF),
            Known::P256(key) => key.to_public_key_pem(LineEnding::LF),
        };
        pem.expect("a key of fixed length fits the encoding")
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Known::Ed25519(_) => Algorithm::Ed25519,
            Known::P256(_) => Algorithm::EcdsaP256,
        }
    }

    /// What others call it. Ed25519: the key id of securesystemslib, SHA-256 over the key as canonical JSON. P-256: the hint of
    /// model-signing, SHA-256 over the PEM.
    pub fn id(&self) -> String {
        let named = match &self.0 {
            Known::Ed25519(key) => {
                let public = hex(key.as_bytes());
                format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{public}"}},"scheme":"ed25519"}}"#)
            }
            Known::P256(_) => self.to_pem(),
        };
        Sha256Digest::of_bytes(named.as_bytes()).to_string()
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Known::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            // Both values of `s` are accepted: half of what others sign has the larger one.
            Known::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

/// The bytes that a signature is over.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// An envelope as it stands in a file. What it says is nothing until [`Envelope::open`] has returned it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    sig: String,
    keyid: String,
}

/// How an envelope has to name its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyName {
    /// By [`PublicKey::id`].
    Id,
    /// Not at all: what the envelope lies in names it.
    Empty,
}

impl Envelope {
    /// A statement signed by an artifact key, which it names.
    ///
    /// # Errors
    /// [`DsseError::Role`] for a key of another role.
    pub fn by_artifact_key(statement: &[u8], key: &PrivateKey) -> Result<Self, DsseError> {
        let signature = key.sign_envelope(&pae(IN_TOTO, statement)).ok_or(DsseError::Role)?;
        Ok(Self::new(statement, &signature, key.public_key().id()))
    }

    /// A statement signed by the key for models, which it does not name.
    pub fn by_model_signing_key(statement: &[u8], key: &ModelSigningKey) -> Self {
        Self::new(statement, &key.sign(&pae(IN_TOTO, statement)), String::new())
    }

    fn new(statement: &[u8], signature: &[u8], keyid: String) -> Self {
        Self {
            payload: BASE64.encode(statement),
            payload_type: IN_TOTO.to_owned(),
            signatures: vec![EnvelopeSignature { sig: BASE64.encode(signature), keyid }],
        }
    }

    /// The payload, when `key` signed it and no other signature stands beside.
    ///
    /// # Errors
    /// [`DsseError`].
    pub fn open(&self, key: &PublicKey, named: KeyName) -> Result<Vec<u8>, DsseError> {
        if self.payload_type != IN_TOTO {
            return Err(DsseError::PayloadType { got: self.payload_type.clone() });
        }
        let [signature] = &self.signatures[..] else {
            return Err(DsseError::Signatures { got: self.signatures.len() });
        };
        let payload = decode("the payload", &self.payload)?;
        let bytes = decode("the signature", &signature.sig)?;
        let id = key.id();
        let fits = match named {
            KeyName::Id => signature.keyid == id,
            KeyName::Empty => signature.keyid.is_empty(),
        };
        if !fits {
            return Err(DsseError::OtherKey { expected: id, got: signature.keyid.clone() });
        }
        if !key.verifies(&pae(&self.payload_type, &payload), &bytes) {
            return Err(DsseError::Signature { algorithm: key.algorithm().name(), key: id });
        }
        Ok(payload)
    }
}

/// The engine refuses other alphabets, white space, missing padding and bits behind the end.
fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, DsseError> {
    BASE64.decode(text).map_err(|e| DsseError::Base64 { field, reason: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyRole;

    const PAYLOAD: &[u8] = br#"{"hello":"world"}"#;

    fn artifact(seed: u8) -> PrivateKey {
        PrivateKey::from_bytes(KeyRole::Artifact, &[seed; 32])
    }

    fn model(seed: u8) -> ModelSigningKey {
        ModelSigningKey::from_bytes(&[seed; 32]).unwrap()
    }

    /// The example of the specification, protocol.md.
    #[test]
    fn the_pae_is_that_of_the_specification() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn what_one_key_signed_opens_with_that_key_alone() {
        let signed = Envelope::by_artifact_key(PAYLOAD, &artifact(1)).unwrap();
        assert_eq!(signed.open(&artifact(1).public_key(), KeyName::Id).unwrap(), PAYLOAD);
        assert!(matches!(
            signed.open(&artifact(2).public_key(), KeyName::Id),
            Err(DsseError::OtherKey { .. })
        ));
        let log = PrivateKey::from_bytes(KeyRole::Log, &[1; 32]);
        assert_eq!(Envelope::by_artifact_key(PAYLOAD, &log), Err(DsseError::Role));

        let signed = Envelope::by_model_signing_key(PAYLOAD, &model(1));
        assert_eq!(signed, Envelope::by_model_signing_key(PAYLOAD, &model(1)), "deterministic");
        assert_eq!(signed.open(&model(1).public_key(), KeyName::Empty).unwrap(), PAYLOAD);
        let other = signed.open(&model(2).public_key(), KeyName::Empty);
        assert!(matches!(other, Err(DsseError::Signature { algorithm: "ECDSA P-256", .. })), "{other:?}");
        let other = signed.open(&artifact(1).public_key(), KeyName::Empty);
        assert!(matches!(other, Err(DsseError::Signature { algorithm: "Ed25519", .. })), "{other:?}");
    }

    #[test]
    fn both_values_of_s_are_accepted_and_the_smaller_is_made() {
        let key = model(1);
        let mut larger = Envelope::by_model_signing_key(PAYLOAD, &key);
        let low =
            p256::ecdsa::Signature::from_der(&BASE64.decode(&larger.signatures[0].sig).unwrap()).unwrap();
        let high = p256::ecdsa::Signature::from_scalars(low.r(), -low.s()).unwrap();
        assert!(low == low.normalize_s() && high != low && high.normalize_s() == low);
        larger.signatures[0].sig = BASE64.encode(high.to_der());
        assert_eq!(larger.open(&key.public_key(), KeyName::Empty).unwrap(), PAYLOAD);
    }

    #[test]
    fn an_envelope_that_was_changed_is_refused() {
        let key = artifact(1);
        let good = Envelope::by_artifact_key(PAYLOAD, &key).unwrap();
        let refused = |change: &dyn Fn(&mut Envelope)| {
            let mut changed = good.clone();
            change(&mut changed);
            changed.open(&key.public_key(), KeyName::Id).unwrap_err().to_string()
        };
        for (mutation, change, message) in [
            (
                "other-payload-type",
                &(|e: &mut Envelope| e.payload_type.push('x')) as &dyn Fn(&mut Envelope),
                "the payload is of the type",
            ),
            ("no-signature", &|e| e.signatures.clear(), "there are 0 signatures"),
            ("second-signature", &|e| e.signatures.push(e.signatures[0].clone()), "there are 2 signatures"),
            ("other-payload", &|e| e.payload = BASE64.encode(b"{}"), "the signature does not verify"),
            (
                "payload-without-padding",
                &|e| e.payload.truncate(e.payload.len() - 1),
                "the payload is not canonical",
            ),
            ("payload-with-line-feed", &|e| e.payload.push('\n'), "the payload is not canonical"),
            (
                "payload-with-bits-behind-the-end",
                &|e| e.payload = e.payload.replace("0=", "1="),
                "the payload is not canonical",
            ),
            (
                "url-safe-signature",
                &|e| e.signatures[0].sig = "-_".repeat(44),
                "the signature is not canonical",
            ),
            ("truncated-signature", &|e| e.signatures[0].sig = BASE64.encode([1; 63]), "does not verify"),
            ("no-key-id", &|e| e.signatures[0].keyid.clear(), "it names the key \"\""),
        ] {
            let said = refused(change);
            assert!(said.contains(message), "{mutation}: {said}");
        }
    }

    #[test]
    fn public_keys_are_read_back_and_nothing_else_is_one() {
        for key in [artifact(1).public_key(), model(1).public_key()] {
            let pem = key.to_pem();
            assert!(
                pem.starts_with("-----BEGIN PUBLIC KEY-----\n")
                    && pem.ends_with("-----END PUBLIC KEY-----\n")
            );
            assert!(pem.lines().all(|line| line.len() <= 64));
            assert_eq!(PublicKey::from_pem(&pem).unwrap(), key);
            assert_eq!(PublicKey::from_pem(&pem[1..]), Err(DsseError::PublicKey));
        }
        assert_eq!(PublicKey::from_pem(""), Err(DsseError::PublicKey));
    }
}

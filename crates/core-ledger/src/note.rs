//! C2SP signed notes, and the tree heads (checkpoints) that they carry. `docs/formats/signed-note.md`.
//!
//! A note is UTF-8 text that ends in a line feed, an empty line, and signature lines
//! `— <name> <base64(key id ‖ signature)>`. A witness signs a time with it. See <https://c2sp.org/signed-note>,
//! <https://c2sp.org/tlog-checkpoint> and <https://c2sp.org/tlog-cosignature>.

use std::fmt;
use std::str::FromStr;

use base64::engine::general_purpose::STANDARD as BASE64;
use base64::Engine as _;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::limits::{NOTE_BYTES, NOTE_SIGNATURES};
use crate::merkle;

/// What a key signs of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteAlgorithm {
    /// Ed25519 over the body.
    Ed25519,
    /// Ed25519 over a time and the body: the cosignature of a witness.
    Cosignature,
}

impl NoteAlgorithm {
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A key that verifies notes, in the text form `<name>+<key id>+<base64>` (a *vkey*).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteKey {
    name: String,
    algorithm: NoteAlgorithm,
    key: VerifyingKey,
}

impl NoteKey {
    /// A key under a name.
    ///
    /// # Errors
    /// [`NoteError::KeyName`] when the name is empty or holds white space or `+`.
    pub fn new(name: &str, algorithm: NoteAlgorithm, key: VerifyingKey) -> Result<Self, NoteError> {
        if name.is_empty() || name.len() > 255 || name.contains(|c: char| c.is_whitespace() || c == '+') {
            return Err(NoteError::KeyName { name: name.to_owned() });
        }
        Ok(Self { name: name.to_owned(), algorithm, key })
    }

    /// The name that signature lines carry; for a log's key, the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs of a note.
    pub fn algorithm(&self) -> NoteAlgorithm {
        self.algorithm
    }

    /// The first four bytes of SHA-256(name ‖ LF ‖ algorithm ‖ public key); the algorithm is 0x01 or, of a witness, 0x04.
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.algorithm.byte()])
            .chain_update(self.key.as_bytes())
            .finalize();
        [hash[0], hash[1], hash[2], hash[3]]
    }

    /// The key id in hex.
    pub fn id_hex(&self) -> String {
        self.id().iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The Ed25519 public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }
}

impl fmt::Display for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blob = BASE64.encode([&[self.algorithm.byte()], self.key.as_bytes().as_slice()].concat());
        write!(f, "{}+{}+{blob}", self.name, self.id_hex())
    }
}

impl FromStr for NoteKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = |reason| NoteError::Vkey { reason };
        // The base64 alphabet has a `+`; name and id have none.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(blob)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(bad("it is not of the form name+id+base64"));
        };
        let blob = BASE64.decode(blob).map_err(|_| bad("its last part is not canonical base64"))?;
        let (algorithm, key) = match blob.as_slice() {
            [1, key @ ..] => (NoteAlgorithm::Ed25519, key),
            [4, key @ ..] => (NoteAlgorithm::Cosignature, key),
            _ => return Err(bad("it is neither an Ed25519 key nor one of a witness")),
        };
        let key: [u8; 32] = key.try_into().map_err(|_| bad("the key is not 32 bytes"))?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| bad("the key is not a point of the curve"))?;
        let key = Self::new(name, algorithm, key)?;
        if key.id_hex() == id {
            Ok(key)
        } else {
            Err(bad("its key id does not match its name and key"))
        }
    }
}

/// A note, vkey or tree head that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// A key's name that a note cannot carry.
    #[error("{name:?} cannot name a key: it must not be empty nor hold white space or '+'")]
    KeyName {
        /// The name.
        name: String,
    },
    /// A text that is not a vkey.
    #[error("not a verification key: {reason}")]
    Vkey {
        /// Why.
        reason: &'static str,
    },
    /// A text that is not a signed note.
    #[error("not a signed note: {reason}")]
    Syntax {
        /// Why.
        reason: &'static str,
    },
    /// No signature line is by a key that was given.
    #[error("the note is not signed by {wanted}")]
    NotSigned {
        /// Names and ids of the keys that were given.
        wanted: String,
    },
    /// A signature line is by a key that was given, and does not verify.
    #[error("the signature by {name} does not verify")]
    BadSignature {
        /// The key's name.
        name: String,
    },
    /// A note's body that is not a tree head.
    #[error("not a tree head: {reason}")]
    Head {
        /// Why.
        reason: &'static str,
    },
}

/// Signs `body`, which must end in a line feed and hold no empty line.
///
/// # Errors
/// [`NoteError::Syntax`] for another body, [`NoteError::KeyName`] for a name that cannot stand in a note.
pub fn sign(body: &str, name: &str, key: &SigningKey) -> Result<String, NoteError> {
    check_body(body)?;
    let verifier = NoteKey::new(name, NoteAlgorithm::Ed25519, key.verifying_key())?;
    let blob = [verifier.id().as_slice(), &key.sign(body.as_bytes()).to_bytes()].concat();
    Ok(format!("{body}\n{}", signature_line(name, &blob)))
}

/// The line by which a witness says that it saw `body` at a time; to be appended to the note.
///
/// # Errors
/// As [`sign`].
pub fn cosignature(body: &str, name: &str, key: &SigningKey, unix_seconds: u64) -> Result<String, NoteError> {
    check_body(body)?;
    let verifier = NoteKey::new(name, NoteAlgorithm::Cosignature, key.verifying_key())?;
    let signature = key.sign(cosigned(body, unix_seconds).as_bytes()).to_bytes();
    let blob = [verifier.id().as_slice(), &unix_seconds.to_be_bytes(), &signature].concat();
    Ok(signature_line(name, &blob))
}

fn cosigned(body: &str, unix_seconds: u64) -> String {
    format!("cosignature/v1\ntime {unix_seconds}\n{body}")
}

fn signature_line(name: &str, blob: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", BASE64.encode(blob))
}

fn check_body(body: &str) -> Result<(), NoteError> {
    if !body.ends_with('\n') || body.len() < 2 {
        return Err(NoteError::Syntax { reason: "the text does not end in a line feed" });
    }
    if body.starts_with('\n') || body.contains("\n\n") {
        return Err(NoteError::Syntax { reason: "the text holds an empty line" });
    }
    if body.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Syntax { reason: "the text holds a control character" });
    }
    Ok(())
}

/// A signature of a note that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed<'k> {
    /// Whose it is.
    pub key: &'k NoteKey,
    /// When a witness saw the note, in seconds since 1970, as it claims; `None` of other keys.
    pub unix_seconds: Option<u64>,
}

/// The body of `note` and the key among `keys` that signed it; a witness does not sign in this sense. Lines by other keys
/// are passed over, as the specification asks.
///
/// # Errors
/// [`NoteError`] when the note is malformed, when a line by one of `keys` does not verify, or when there is none.
pub fn open<'n, 'k>(note: &'n [u8], keys: &'k [NoteKey]) -> Result<(&'n str, &'k NoteKey), NoteError> {
    let (body, signed) = signatures(note, keys)?;
    let signer = signed.iter().find(|s| s.key.algorithm == NoteAlgorithm::Ed25519);
    signer.map(|signed| (body, signed.key)).ok_or_else(|| NoteError::NotSigned { wanted: shown(keys) })
}

fn shown(keys: &[NoteKey]) -> String {
    keys.iter().map(|k| format!("{} ({})", k.name, k.id_hex())).collect::<Vec<_>>().join(" or ")
}

/// The body of `note` and its signatures by `keys`, in the order of their lines, each key once.
///
/// # Errors
/// [`NoteError`] when the note is malformed, or when a line by one of `keys` does not verify.
pub fn signatures<'n, 'k>(
    note: &'n [u8],
    keys: &'k [NoteKey],
) -> Result<(&'n str, Vec<Signed<'k>>), NoteError> {
    let bad = |reason| NoteError::Syntax { reason };
    if note.len() > NOTE_BYTES {
        return Err(bad("it is too large"));
    }
    let text = std::str::from_utf8(note).map_err(|_| bad("it is not UTF-8"))?;
    let split = text.rfind("\n\n").ok_or_else(|| bad("it has no empty line before its signatures"))?;
    let (body, lines) = (&text[..=split], &text[split + 2..]);
    check_body(body)?;
    let lines = lines.strip_suffix('\n').ok_or_else(|| bad("it does not end in a line feed"))?;
    let mut signed: Vec<Signed<'_>> = Vec::new();
    for (n, line) in lines.split('\n').enumerate() {
        if n == NOTE_SIGNATURES {
            return Err(bad("it has too many signatures"));
        }
        let (name, blob) = line
            .strip_prefix("\u{2014} ")
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(|| bad("a signature line is not of the form '— name base64'"))?;
        let blob = BASE64.decode(blob).map_err(|_| bad("a signature is not canonical base64"))?;
        if blob.len() < 5 {
            return Err(bad("a signature is too short"));
        }
        let (id, signature) = blob.split_at(4);
        let Some(key) = keys.iter().find(|k| k.name == name && k.id() == id) else { continue };
        let bad_signature = || NoteError::BadSignature { name: name.to_owned() };
        let (unix_seconds, signature) = match key.algorithm {
            NoteAlgorithm::Ed25519 => (None, signature),
            NoteAlgorithm::Cosignature => {
                let (time, signature) = signature.split_first_chunk::<8>().ok_or_else(bad_signature)?;
                (Some(u64::from_be_bytes(*time)), signature)
            }
        };
        let signature = Signature::from_slice(signature).map_err(|_| bad_signature())?;
        let message = unix_seconds.map_or_else(|| body.to_owned(), |time| cosigned(body, time));
        key.key.verify_strict(message.as_bytes(), &signature).map_err(|_| bad_signature())?;
        if signed.iter().any(|s| s.key == key) {
            return Err(bad("it has two signatures by one key"));
        }
        signed.push(Signed { key, unix_seconds });
    }
    Ok((body, signed))
}

/// The size and root of an audit log, as a C2SP checkpoint states them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeHead {
    /// The log's name.
    pub origin: String,
    /// The number of leaves.
    pub size: u64,
    /// The root of the tree over them.
    pub root: merkle::Hash,
}

impl TreeHead {
    /// The body of the checkpoint: origin, size and root, a line each.
    pub fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))
    }

    /// The root in base64, as it stands in the checkpoint.
    pub fn root_base64(&self) -> String {
        BASE64.encode(self.root)
    }

    /// Reads the body of a checkpoint.
    ///
    /// # Errors
    /// [`NoteError::Head`] when a line is missing, superfluous or not canonical.
    pub fn parse(body: &str) -> Result<Self, NoteError> {
        let bad = |reason| NoteError::Head { reason };
        let body = body.strip_suffix('\n').ok_or_else(|| bad("it does not end in a line feed"))?;
        let lines: Vec<&str> = body.split('\n').collect();
        let [origin, size, root] = lines[..] else {
            return Err(bad("it does not have three lines"));
        };
        let count: u64 = size.parse().map_err(|_| bad("its size is not a number"))?;
        if count.to_string() != size {
            return Err(bad("its size is not written canonically"));
        }
        let root = BASE64.decode(root).map_err(|_| bad("its root is not canonical base64"))?;
        let root = root.try_into().map_err(|_| bad("its root is not 32 bytes"))?;
        if origin.is_empty() {
            return Err(bad("its origin is empty"));
        }
        Ok(Self { origin: origin.to_owned(), size: count, root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }
    fn vkey(name: &str, seed: u8) -> NoteKey {
        NoteKey::new(name, NoteAlgorithm::Ed25519, key(seed).verifying_key()).unwrap()
    }

    #[test]
    fn a_signed_head_opens_with_its_key_and_no_other() {
        let head = TreeHead { origin: "bitproof/x".to_owned(), size: 8, root: [5; 32] };
        let note = sign(&head.body(), "bitproof/x", &key(1)).unwrap();
        let keys = [vkey("bitproof/x", 2), vkey("bitproof/x", 1)];
        let (body, signer) = open(note.as_bytes(), &keys).unwrap();
        assert_eq!((TreeHead::parse(body).unwrap(), signer), (head, &keys[1]));
        assert!(matches!(open(note.as_bytes(), &keys[..1]), Err(NoteError::NotSigned { .. })));
        assert!(matches!(open(note.as_bytes(), &[vkey("other", 1)]), Err(NoteError::NotSigned { .. })));
        for i in 0..note.len() {
            let mut bad = note.clone().into_bytes();
            bad[i] ^= 1;
            assert!(open(&bad, &keys).is_err(), "byte {i}");
        }
    }

    #[test]
    fn a_witness_signs_the_time_and_is_no_signer_of_the_log() {
        let head = TreeHead { origin: "bitproof/x".to_owned(), size: 8, root: [5; 32] };
        let note = sign(&head.body(), "bitproof/x", &key(1)).unwrap();
        let line = cosignature(&head.body(), "w", &key(2), 1_700_000_000).unwrap();
        let cosigned = format!("{note}{line}");
        let witness = NoteKey::new("w", NoteAlgorithm::Cosignature, key(2).verifying_key()).unwrap();
        assert_eq!(witness.to_string().parse::<NoteKey>().unwrap(), witness);
        let keys = [vkey("bitproof/x", 1), witness.clone()];
        let (_, signed) = signatures(cosigned.as_bytes(), &keys).unwrap();
        assert_eq!(
            signed,
            [
                Signed { key: &keys[0], unix_seconds: None },
                Signed { key: &keys[1], unix_seconds: Some(1_700_000_000) }
            ]
        );
        let alone = open(cosigned.as_bytes(), &keys[1..]);
        assert!(matches!(alone, Err(NoteError::NotSigned { .. })), "{alone:?}");
        let twice = format!("{cosigned}{line}");
        assert!(matches!(signatures(twice.as_bytes(), &keys), Err(NoteError::Syntax { .. })));
        for i in note.len()..cosigned.len() {
            let mut bad = cosigned.clone().into_bytes();
            bad[i] ^= 1;
            let still = signatures(&bad, &keys).is_ok_and(|(_, signed)| signed.len() == 2);
            assert!(!still, "byte {i}");
        }
        let as_log = NoteKey::new("w", NoteAlgorithm::Ed25519, key(2).verifying_key()).unwrap();
        assert!(
            signatures(cosigned.as_bytes(), &[as_log]).unwrap().1.is_empty(),
            "another algorithm, another id"
        );
    }

    #[test]
    fn vkeys_round_trip_and_are_checked() {
        let text = vkey("bitproof/x", 1).to_string();
        assert_eq!(text.parse::<NoteKey>().unwrap().to_string(), text);
        assert!(text.replace("bitproof/x", "bitproof/y").parse::<NoteKey>().is_err());
        assert!(text[..text.len() - 4].parse::<NoteKey>().is_err());
    }

    /// The example key of the Go package golang.org/x/mod/sumdb/note.
    #[test]
    fn the_key_of_the_go_documentation_is_read() {
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let note = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let key: NoteKey = text.parse().unwrap();
        open(note.as_bytes(), &[key]).unwrap();
    }

    #[test]
    fn heads_are_canonical() {
        for body in
            ["o\n08\nAA==\n", "o\n8\n", "o\n8\nAA==\n", "\n8\nBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=\n"]
        {
            assert!(TreeHead::parse(body).is_err(), "{body:?}");
        }
    }
}

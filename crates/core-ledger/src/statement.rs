//! Statements of people about runs: an approval, a waiver, a promotion, each a signed note that the log names.
//!
//! ```text
//! bitproof.local/approval/v1
//! run <uid, 32 hex digits>
//! before <stage, or promote>
//! meaning <text>
//!
//! — <name> <base64(key id ‖ signature)>
//! ```
//! `docs/formats/statement.md` is normative. Whose statement counts is for others to say: here a key is held to its words.

use std::fmt::Write as _;

use crate::digest::{Content, Digest};
use crate::events::EventBody;
use crate::keys::PrivateKey;
use crate::note::{self, NoteError, NoteKey};
use crate::store::hex;

/// The most bytes of a line of a statement.
pub const STATEMENT_LINE_BYTES: usize = 4096;

/// What somebody says of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// A step may be taken.
    Approval {
        /// The run's unique id.
        uid: [u8; 16],
        /// The stage before which it is given, or `promote`.
        before: String,
        /// What the signature means: `reviewed`, `accepted the risk`, …
        meaning: String,
    },
    /// A finding is accepted until a time.
    Waiver {
        /// The run's unique id.
        uid: [u8; 16],
        /// The finding.
        finding: String,
        /// Until when, in seconds since 1970.
        expires_unix_seconds: u64,
        /// Why.
        reason: String,
    },
    /// A ref names the run from now on.
    Promotion {
        /// The run's unique id.
        uid: [u8; 16],
        /// The ref: `production`, …
        reference: String,
    },
}

/// A statement that cannot be made or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The note is malformed, or not signed by the key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// What was signed is no statement.
    #[error("what was signed is not a statement: {reason}")]
    Malformed {
        /// Why.
        reason: &'static str,
    },
}

const fn malformed(reason: &'static str) -> StatementError {
    StatementError::Malformed { reason }
}

impl Statement {
    fn kind(&self) -> &'static str {
        match self {
            Self::Approval { .. } => "approval",
            Self::Waiver { .. } => "waiver",
            Self::Promotion { .. } => "promotion",
        }
    }

    /// The lines after the first: name and value.
    fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Approval { uid, before, meaning } => {
                vec![("run", hex(uid)), ("before", before.clone()), ("meaning", meaning.clone())]
            }
            Self::Waiver { uid, finding, expires_unix_seconds, reason } => vec![
                ("run", hex(uid)),
                ("finding", finding.clone()),
                ("expires", expires_unix_seconds.to_string()),
                ("reason", reason.clone()),
            ],
            Self::Promotion { uid, reference } => vec![("run", hex(uid)), ("ref", reference.clone())],
        }
    }

    /// The text that is signed.
    pub fn body(&self) -> String {
        let mut body = format!("bitproof.local/{}/v1\n", self.kind());
        for (name, value) in self.fields() {
            writeln!(body, "{name} {value}").expect("writing to a string");
        }
        body
    }

    /// Reads what [`Statement::body`] wrote.
    ///
    /// # Errors
    /// [`StatementError::Malformed`] for anything else.
    pub fn parse(body: &str) -> Result<Self, StatementError> {
        let body = body.strip_suffix('\n').ok_or(malformed("it does not end in a line feed"))?;
        let mut lines = body.split('\n');
        let kind = lines.next().unwrap_or_default();
        let mut field = |name: &str| {
            let line = lines.next().filter(|line| line.len() <= STATEMENT_LINE_BYTES);
            let value = line.and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let plain = value.filter(|v| !v.is_empty() && !v.chars().any(char::is_control));
            plain.map(str::to_owned).ok_or(malformed("a line is missing, empty, too long or out of place"))
        };
        let uid = parse_uid(&field("run")?)?;
        let statement = match kind {
            "bitproof.local/approval/v1" => {
                Self::Approval { uid, before: field("before")?, meaning: field("meaning")? }
            }
            "bitproof.local/waiver/v1" => Self::Waiver {
                uid,
                finding: field("finding")?,
                expires_unix_seconds: parse_seconds(&field("expires")?)?,
                reason: field("reason")?,
            },
            "bitproof.local/promotion/v1" => Self::Promotion { uid, reference: field("ref")? },
            _ => return Err(malformed("it is of an unknown kind or version")),
        };
        if lines.next().is_some() {
            return Err(malformed("it has lines that do not belong to it"));
        }
        Ok(statement)
    }

    /// Signs the statement under a name.
    ///
    /// # Errors
    /// [`StatementError::Malformed`] for a text that cannot stand in a line; [`NoteError`] for a name that cannot sign.
    pub fn sign(&self, key: &PrivateKey, name: &str) -> Result<String, StatementError> {
        let body = self.body();
        if Self::parse(&body)? != *self {
            return Err(malformed("a text of it does not stand in one line"));
        }
        Ok(key.sign_note(&body, name)?)
    }

    /// Reads a statement that `key` signed.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn open(note: &[u8], key: &NoteKey) -> Result<Self, StatementError> {
        let (body, _) = note::open(note, std::slice::from_ref(key))?;
        Self::parse(body)
    }

    /// The event that records it, signed by `key`, in the object `note`.
    pub fn event(&self, key: &NoteKey, note: Digest<Content>) -> EventBody {
        let (vkey, statement) = (key.to_string(), note);
        match self.clone() {
            Self::Approval { uid, before, .. } => {
                EventBody::ApprovalRecorded { uid, before, vkey, statement }
            }
            Self::Waiver { uid, finding, expires_unix_seconds, .. } => {
                EventBody::WaiverRecorded { uid, finding, expires_unix_seconds, vkey, statement }
            }
            Self::Promotion { uid, reference } => EventBody::RunPromoted { uid, reference, vkey, statement },
        }
    }
}

fn parse_uid(text: &str) -> Result<[u8; 16], StatementError> {
    let mut uid = [0; 16];
    let digits = text.as_bytes();
    let wrong = malformed("its run is not 32 hex digits");
    if digits.len() != 32 || digits.iter().any(|d| !matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(wrong);
    }
    for (byte, at) in uid.iter_mut().zip((0..32).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| wrong.clone())?;
    }
    Ok(uid)
}

fn parse_seconds(text: &str) -> Result<u64, StatementError> {
    let seconds: Option<u64> = text.parse().ok();
    seconds
        .filter(|n| n.to_string() == text)
        .ok_or(malformed("its time is not a canonical number of seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyRole;

    const NAME: &str = "example.org/ada";

    fn statements() -> [Statement; 3] {
        let uid = [0xab; 16];
        [
            Statement::Approval {
                uid,
                before: "package".to_owned(),
                meaning: "reviewed – all of it".to_owned(),
            },
            Statement::Waiver {
                uid,
                finding: "gate evaluate/accuracy".to_owned(),
                expires_unix_seconds: 1_800_000_000,
                reason: "known and small".to_owned(),
            },
            Statement::Promotion { uid, reference: "production".to_owned() },
        ]
    }

    #[test]
    fn statements_are_signed_and_read_back_by_their_key_alone() {
        let key = PrivateKey::from_bytes(KeyRole::Artifact, &[1; 32]);
        let public = key.note_key(NAME).unwrap();
        let stranger = PrivateKey::from_bytes(KeyRole::Artifact, &[2; 32]).note_key(NAME).unwrap();
        for statement in statements() {
            let note = statement.sign(&key, NAME).unwrap();
            assert_eq!(Statement::open(note.as_bytes(), &public).unwrap(), statement);
            assert!(matches!(Statement::open(note.as_bytes(), &stranger), Err(StatementError::Note(_))));
            for i in 0..note.len() {
                let mut bad = note.clone().into_bytes();
                bad[i] ^= 1;
                assert!(Statement::open(&bad, &public).is_err(), "byte {i}");
            }
        }
    }

    #[test]
    fn another_text_is_refused() {
        let [approval, waiver, promotion] = statements().map(|statement| statement.body());
        assert_eq!(
            approval,
            format!(
                "bitproof.local/approval/v1\nrun {}\nbefore package\nmeaning reviewed – all of it\n",
                "ab".repeat(16)
            )
        );
        for (text, from, to) in [
            (&approval, "/v1", "/v2"),
            (&approval, "abab", "ABAB"),
            (&approval, "abab", "ab"),
            (&approval, "before package\n", ""),
            (&approval, "before package", "before "),
            (&approval, "reviewed", "revi\tewed"),
            (&approval, "all of it\n", "all of it\nmore\n"),
            (&approval, "all of it\n", "all of it"),
            (&waiver, "expires 18", "expires 018"),
            (&waiver, "expires 18", "expires +18"),
            (&waiver, "waiver", "approval"),
            (&promotion, "ref ", "ref"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, *text);
            assert!(Statement::parse(&bad).is_err(), "{bad:?}");
        }
        let long = Statement::Promotion { uid: [0; 16], reference: "x".repeat(STATEMENT_LINE_BYTES) };
        let split = Statement::Promotion { uid: [0; 16], reference: "a\nb".to_owned() };
        let key = PrivateKey::from_bytes(KeyRole::Artifact, &[1; 32]);
        assert!(long.sign(&key, NAME).is_err() && split.sign(&key, NAME).is_err());
    }
}

//! What an auditor brings from outside a store: keys, tree heads that she kept, and witnesses that she trusts. What only an
//! outside copy can reveal is judged by these; what they leave open is said.

use std::path::{Path, PathBuf};

use bitproof_core_ledger::events::AuditView;
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::keys::KeyRole;
use bitproof_core_ledger::limits::NOTE_BYTES;
use bitproof_core_ledger::note::{self, NoteAlgorithm, NoteError, NoteKey, TreeHead};
use bitproof_core_ledger::signed_log::LEAVES;
use serde::Deserialize;

use crate::report::{Finding, Severity};

const POLICY_BYTES: u64 = 64 << 10;
const MAX_COSIGNED: usize = 256;

/// What an auditor brings along.
#[derive(Debug, Clone, Default)]
pub struct Anchors {
    /// Keys of which one, or one that took its place, has signed the log's head.
    pub keys: Vec<NoteKey>,
    /// Heads that the log must continue.
    pub pins: Vec<TreeHead>,
    /// Who must have seen the log.
    pub witnesses: Option<WitnessPolicy>,
}

/// How many of which witnesses must have cosigned a head that covers what is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessPolicy {
    /// How many of the witnesses.
    pub threshold: usize,
    /// Their keys.
    pub witnesses: Vec<NoteKey>,
    /// Cosigned heads, each with the name of its file.
    pub cosigned: Vec<(String, Vec<u8>)>,
}

/// A file of the auditor's that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// It cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not a tree head.
    #[error("{} is not a tree head: {source}", path.display())]
    Head {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NoteError,
    },
    /// It is not a policy.
    #[error("{}: {reason}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Reads a tree head that somebody kept: a signed note or its body alone. Its signature is not asked for, since it is the
/// auditor's own.
///
/// # Errors
/// [`AnchorError::File`], [`AnchorError::Head`].
pub fn read_head(files: &Files, path: &Path) -> Result<TreeHead, AnchorError> {
    let bytes = files.read_bounded(path, NOTE_BYTES as u64)?;
    let at = |source| AnchorError::Head { path: path.to_owned(), source };
    let text = std::str::from_utf8(&bytes).map_err(|_| at(NoteError::Head { reason: "it is not UTF-8" }))?;
    let body = text.split_once("\n\n").map_or(text, |(body, _)| body);
    // Who copied it by hand may have left its last line feed behind.
    TreeHead::parse(&format!("{}\n", body.strip_suffix('\n').unwrap_or(body))).map_err(at)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    threshold: usize,
    witnesses: Vec<String>,
    cosigned: Vec<PathBuf>,
}

impl WitnessPolicy {
    /// Reads a policy: `threshold`, the `witnesses`' keys, and `cosigned` files of heads relative to the policy. A cosigned
    /// file that does not exist yet is no error: it counts for nobody.
    ///
    /// # Errors
    /// [`AnchorError::File`], [`AnchorError::Policy`].
    pub fn read(files: &Files, path: &Path) -> Result<Self, AnchorError> {
        let bytes = files.read_bounded(path, POLICY_BYTES)?;
        let bad = |reason: String| AnchorError::Policy { path: path.to_owned(), reason };
        let text = std::str::from_utf8(&bytes).map_err(|e| bad(e.to_string()))?;
        let parsed: PolicyFile = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        let mut witnesses = Vec::new();
        for vkey in &parsed.witnesses {
            let key: NoteKey = vkey.parse().map_err(|e| bad(format!("{vkey:?}: {e}")))?;
            if key.algorithm() != NoteAlgorithm::Cosignature {
                return Err(bad(format!("{vkey} is not the key of a witness")));
            }
            // One key under two names is one witness.
            if witnesses.iter().any(|known: &NoteKey| known.public_key() == key.public_key()) {
                return Err(bad(format!("{vkey} is there twice")));
            }
            witnesses.push(key);
        }
        if parsed.threshold == 0 || parsed.threshold > witnesses.len() {
            return Err(bad(format!(
                "threshold = {} must be from 1 to the number of witnesses, {}",
                parsed.threshold,
                witnesses.len()
            )));
        }
        if parsed.cosigned.len() > MAX_COSIGNED {
            return Err(bad(format!("more than {MAX_COSIGNED} files of cosigned heads")));
        }
        let mut cosigned = Vec::new();
        for name in &parsed.cosigned {
            let shown = name.file_name().unwrap_or(name.as_os_str()).to_string_lossy().into_owned();
            match files.read_bounded(&path.parent().unwrap_or(Path::new("")).join(name), NOTE_BYTES as u64) {
                Err(e) if e.is_not_found() => {}
                read => cosigned.push((shown, read?)),
            }
        }
        Ok(Self { threshold: parsed.threshold, witnesses, cosigned })
    }
}

/// What came of holding a log against what was brought along.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// What does not hold.
    pub(crate) findings: Vec<Finding>,
    /// How many leaves an outside copy vouches for.
    vouched: u64,
}

impl Judged {
    fn find(&mut self, check: &'static str, path: &str, expected: String, got: String, hint: &str) {
        let (path, hint) = (path.to_owned(), hint.to_owned());
        let finding = Finding { check, severity: Severity::Error, path, offset: None, expected, got, hint };
        tracing::warn!(%finding, "verification found");
        self.findings.push(finding);
    }

    fn vouch(&mut self, size: u64) {
        self.vouched = self.vouched.max(size);
    }
}

const REWRITTEN: &str =
    "whoever holds the log's key has rewritten it, or this is another copy: ask for a proof of growth from the head that you kept";
const CUT: &str = "leaves were cut off, or an older copy was put back: ask for the newest copy";

impl Anchors {
    /// Holds a log against the heads that the auditor kept.
    pub(crate) fn judge_pins(&self, audit: &AuditView, origin: &str) -> Judged {
        let mut judged = Judged::default();
        let log = format!("audit/{LEAVES}");
        for pin in &self.pins {
            continues(&mut judged, "pin", &log, audit, origin, pin, "the head that was kept");
        }
        judged
    }

    /// Asks whether enough witnesses have seen at least the first `least` leaves.
    pub(crate) fn judge_witnesses(&self, audit: &AuditView, origin: &str, least: u64, judged: &mut Judged) {
        let Some(policy) = &self.witnesses else { return };
        let mut seen: Vec<u64> = vec![0; policy.witnesses.len()];
        for (name, note) in &policy.cosigned {
            let opened = note::signatures(note, &policy.witnesses)
                .and_then(|(body, signed)| TreeHead::parse(body).map(|head| (head, signed)));
            let (head, signed) = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    let expected = "a cosigned tree head".to_owned();
                    judged.find("witness", name, expected, error.to_string(), "ask the witness again");
                    continue;
                }
            };
            if signed.is_empty() {
                continue;
            }
            let who = signed.iter().map(|s| s.key.id_hex()).collect::<Vec<_>>().join(", ");
            if continues(judged, "witness", name, audit, origin, &head, &format!("what {who} saw")) {
                for signature in signed {
                    let place = policy.witnesses.iter().position(|key| key == signature.key);
                    let size = place.and_then(|place| seen.get_mut(place));
                    size.into_iter().for_each(|size| *size = head.size.max(*size));
                }
            }
        }
        let mut sizes = seen.clone();
        sizes.sort_unstable();
        // The largest size that `threshold` witnesses have seen.
        let vouched = sizes[sizes.len() - policy.threshold];
        if vouched >= least {
            judged.vouch(vouched);
            return;
        }
        let told =
            |(key, size): (&NoteKey, &u64)| format!("{} ({}): {size} leaves", key.name(), key.id_hex());
        let got = policy.witnesses.iter().zip(&seen).map(told).collect::<Vec<_>>().join(", ");
        let expected = format!(
            "{} of {} witnesses that saw at least {least} leaves",
            policy.threshold,
            policy.witnesses.len()
        );
        let hint = "`bitproof audit consistency` makes what `bitproof audit witness` asks for";
        judged.find("witness", &format!("audit/{LEAVES}"), expected, got, hint);
    }

    /// What stays open, whatever was brought along.
    pub(crate) fn limits(&self, audit: &AuditView, judged: &Judged) -> Vec<String> {
        let mut limits = Vec::new();
        if self.keys.is_empty() && !self.signer_is_pinned(audit) {
            limits.push(
                "that the log's key is its owner's: the key is trusted from the store; give --vkey, or --pin a head that you kept"
                    .to_owned(),
            );
        }
        let size = audit.head.as_ref().map_or(0, |head| head.size);
        if judged.vouched == 0 {
            limits.push(
                "that no newer state was cut off and no older copy put back: --pin a head that you kept, or ask a --witness"
                    .to_owned(),
            );
        } else {
            limits.push(format!(
                "that nothing after the {} leaves that you hold from outside was cut off or rewritten; the log has {size}",
                judged.vouched
            ));
        }
        limits.push("times, users and hosts: they are claims of whoever holds the key".to_owned());
        limits
    }

    /// Whether the leaves under a pinned head let in the key that signed the newest head, or one whose place it took.
    fn signer_is_pinned(&self, audit: &AuditView) -> bool {
        let pinned = self.pins.iter().map(|pin| pin.size).max().unwrap_or(0);
        let ring = audit.keyring();
        let known = ring.spans().iter().filter(|s| s.role == KeyRole::Log && s.after < pinned);
        let known: Vec<NoteKey> = known.map(|span| span.key.clone()).collect();
        audit.signer.as_ref().is_some_and(|signer| ring.descends(signer, &known))
    }
}

/// Whether the log is of that origin and continues the head; else finds why not.
fn continues(
    judged: &mut Judged,
    check: &'static str,
    path: &str,
    audit: &AuditView,
    origin: &str,
    head: &TreeHead,
    what: &str,
) -> bool {
    if head.origin != origin {
        let expected = format!("a head of {origin}");
        judged.find(check, path, expected, format!("one of {}", head.origin), "give a head of this log");
        return false;
    }
    let size = audit.covered().len() as u64;
    match audit.root_at(head.size) {
        None => {
            let expected = format!("at least {} leaves, as in {what}", head.size);
            judged.find(check, path, expected, format!("{size} leaves"), CUT);
            false
        }
        Some(root) if root != head.root => {
            let expected = format!("the root {} of {} leaves, as in {what}", head.root_base64(), head.size);
            let own = TreeHead { root, ..head.clone() };
            judged.find(check, path, expected, own.root_base64(), REWRITTEN);
            false
        }
        Some(_) => {
            if check == "pin" {
                judged.vouch(head.size);
            }
            true
        }
    }
}

//! The receipt of a gate: everything that a verdict depends on, from which anybody can judge again.
//!
//! JSON with two spaces of indentation, keys in the order of the types below, and a line feed at the end: `schema`,
//! `receipt` (`gate`, `candidate`, `baseline`), `verdict`. Every value of a metric is the hex of its bits.

use serde::{Deserialize, Serialize};

use crate::gate::{judge, Gate, GateVerdict};
use crate::run::RunFacts;

/// The schema of a receipt.
pub const RECEIPT_SCHEMA: &str = "bitproof/gate-verdict/v1";
/// The most bytes of a receipt that is read.
pub const MAX_RECEIPT_BYTES: usize = 64 << 20;

/// Everything that a verdict depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateReceipt {
    /// The policy.
    pub gate: Gate,
    /// The run that is judged.
    pub candidate: RunFacts,
    /// The run it is held against.
    pub baseline: Option<RunFacts>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    receipt: GateReceipt,
    verdict: GateVerdict,
}

/// A receipt that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It is not JSON of the expected form.
    #[error("malformed receipt: {reason}")]
    Malformed {
        /// Why, with line and column.
        reason: String,
    },
    /// It is of another version.
    #[error("the receipt has the schema {got:?}; this version reads {RECEIPT_SCHEMA:?}")]
    Schema {
        /// Its schema, cut after 80 characters.
        got: String,
    },
    /// It is larger than a receipt may be.
    #[error("a receipt has at most {MAX_RECEIPT_BYTES} bytes, got {got}")]
    TooLarge {
        /// How many bytes it has.
        got: usize,
    },
    /// Judged again, its inputs do not give its bytes.
    #[error("the receipt does not say what its inputs give: judged again it differs at byte {offset}")]
    NotAsJudged {
        /// The first byte that differs.
        offset: usize,
    },
}

impl GateReceipt {
    /// Judges, as [`judge`] does.
    pub fn judge(&self) -> GateVerdict {
        judge(&self.gate, &self.candidate, self.baseline.as_ref())
    }

    /// The receipt's one form: JSON with the policy, the inputs and the verdict on them.
    pub fn to_json(&self) -> Vec<u8> {
        let document =
            Document { schema: RECEIPT_SCHEMA.to_owned(), receipt: self.clone(), verdict: self.judge() };
        let mut bytes = serde_json::to_vec_pretty(&document).expect("a receipt has only text keys");
        bytes.push(b'\n');
        bytes
    }

    /// Reads what [`GateReceipt::to_json`] wrote, which includes that the verdict is what the inputs give.
    ///
    /// # Errors
    /// [`ReceiptError`] for anything else.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ReceiptError> {
        read(bytes).map(|document| document.receipt)
    }
}

/// Reads a receipt, judges its inputs again, and returns the verdict if the bytes are the same.
///
/// # Errors
/// [`ReceiptError`].
pub fn verify_receipt(bytes: &[u8]) -> Result<GateVerdict, ReceiptError> {
    read(bytes).map(|document| document.verdict)
}

fn read(bytes: &[u8]) -> Result<Document, ReceiptError> {
    if bytes.len() > MAX_RECEIPT_BYTES {
        return Err(ReceiptError::TooLarge { got: bytes.len() });
    }
    let document: Document =
        serde_json::from_slice(bytes).map_err(|e| ReceiptError::Malformed { reason: e.to_string() })?;
    if document.schema != RECEIPT_SCHEMA {
        return Err(ReceiptError::Schema { got: document.schema.chars().take(80).collect() });
    }
    let again = document.receipt.to_json();
    if again == bytes {
        return Ok(document);
    }
    let offset = again.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(bytes.len().min(again.len()));
    Err(ReceiptError::NotAsJudged { offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::facts;
    use crate::gate::tests::gate;
    use crate::gate::GateOutcome;

    fn receipt() -> GateReceipt {
        let gate = gate(&["regress <= 0.01"], &["value >= 0.9"]);
        let mut candidate = facts("new", 0.5);
        candidate.params.insert("train.epochs".to_owned(), "1".to_owned());
        GateReceipt { gate, candidate, baseline: Some(facts("old", 0.75)) }
    }

    #[test]
    fn a_receipt_judged_again_gives_the_same_bytes() {
        let full = receipt();
        let without_baseline = GateReceipt { baseline: None, ..full.clone() };
        let mut nan = full.clone();
        nan.candidate.metrics.insert("evaluate/accuracy".to_owned(), f64::from_bits(0xfff8_0000_0000_0001));
        for receipt in [full, without_baseline, nan] {
            let json = receipt.to_json();
            assert_eq!(verify_receipt(&json).unwrap(), receipt.judge());
            assert_eq!(GateReceipt::from_json(&json).unwrap().to_json(), json);
        }
    }

    #[test]
    fn tampered_receipts_are_refused() {
        let json = receipt().to_json();
        assert_eq!(verify_receipt(&json).unwrap().outcome, GateOutcome::Fail);
        let text = String::from_utf8(json).unwrap();
        for (mutation, from, to) in [
            ("outcome", "\"outcome\": \"fail\"", "\"outcome\": \"pass\""),
            ("candidate-value", "3fe0000000000000", "3fe8000000000000"),
            ("baseline-value", "3fe8000000000000", "3fe0000000000000"),
            ("policy", "regress <= 0.01", "regress <= 0.5"),
            ("factor", "\"train.epochs\": \"1\"", "\"train.epochs\": \"30\""),
            ("message", "fell from", "rose from"),
            ("severity", "\"severity\": \"fail\"", "\"severity\": \"warn\""),
            ("observed", "\"observed\": \"3fd0000000000000\"", "\"observed\": null"),
            ("rule-spelling", "\"regress <= 0.01\"", "\"regress <= 0.010\""),
            ("space", "\"schema\": ", "\"schema\":  "),
            ("repeated-key", "\"seed\": 42,", "\"seed\": 42,\n      \"seed\": 42,"),
            ("unknown-key", "\"seed\": 42,", "\"seed\": 42,\n      \"sed\": 42,"),
            ("missing-key", "\"seed\": 42,", ""),
            ("other-schema", "gate-verdict/v1", "gate-verdict/v2"),
            ("upper-case-bits", "3fe8000000000000", "3FE8000000000000"),
            ("appended", "}\n}\n", "}\n}\n\n"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{mutation}");
            assert!(verify_receipt(changed.as_bytes()).is_err(), "{mutation}");
            assert!(GateReceipt::from_json(changed.as_bytes()).is_err(), "{mutation}");
        }
        let cleared = text.replace("\"outcome\": \"fail\"", "\"outcome\": \"pass\"");
        let offset = text.find("\"outcome\": \"fail\"").unwrap() + "\"outcome\": \"".len();
        assert_eq!(verify_receipt(cleared.as_bytes()), Err(ReceiptError::NotAsJudged { offset }));
        let later = text.replace("gate-verdict/v1", "gate-verdict/v2");
        assert!(matches!(verify_receipt(later.as_bytes()), Err(ReceiptError::Schema { .. })));
    }

    #[test]
    fn every_byte_and_every_prefix_counts() {
        let receipt = receipt();
        let json = receipt.to_json();
        for i in 0..json.len() {
            let mut bad = json.clone();
            bad[i] ^= 1;
            // An input on which no verdict depends may change: then it is another receipt, about other inputs.
            assert_ne!(GateReceipt::from_json(&bad).ok().as_ref(), Some(&receipt), "byte {i}");
            assert!(verify_receipt(&json[..i]).is_err(), "prefix of {i} bytes");
        }
        assert_eq!(GateReceipt::from_json(&json).unwrap(), receipt);
        let huge = vec![b' '; MAX_RECEIPT_BYTES + 1];
        assert_eq!(verify_receipt(&huge), Err(ReceiptError::TooLarge { got: MAX_RECEIPT_BYTES + 1 }));
    }
}

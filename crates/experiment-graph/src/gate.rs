//! The gate: a policy, two runs, a verdict, and a receipt from which anybody can judge again.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::compare::{factors, Factor};
use crate::run::RunFacts;

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// The candidate's value.
    Value,
    /// By how much it is worse than the baseline's: baseline − candidate where higher is better, else the reverse.
    Regress,
}

/// How a quantity is held against a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub enum Comparator {
    /// At least.
    #[serde(rename = ">=")]
    Ge,
    /// Above.
    #[serde(rename = ">")]
    Gt,
    /// At most.
    #[serde(rename = "<=")]
    Le,
    /// Below.
    #[serde(rename = "<")]
    Lt,
}

impl Comparator {
    const ALL: [(&'static str, Self); 4] =
        [(">=", Self::Ge), ("<=", Self::Le), (">", Self::Gt), ("<", Self::Lt)];

    /// Whether `a` stands so to `b`; never for NaN.
    fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Self::Ge => a >= b,
            Self::Gt => a > b,
            Self::Le => a <= b,
            Self::Lt => a < b,
        }
    }
}

/// A condition: `value >= 0.95`, `regress <= 0.01`. The bound is kept as the bits of an f64.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it looks at.
    pub quantity: Quantity,
    /// How.
    pub comparator: Comparator,
    /// The bits of the bound.
    pub bound_bits: u64,
}

/// A text that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a rule; write for example \"value >= 0.95\" or \"regress <= 0.01\"")]
pub struct RuleSyntax {
    /// The text.
    pub text: String,
}

impl FromStr for Rule {
    type Err = RuleSyntax;

    fn from_str(text: &str) -> Result<Self, RuleSyntax> {
        let bad = || RuleSyntax { text: text.to_owned() };
        let rest = text.trim();
        let (quantity, rest) = [("value", Quantity::Value), ("regress", Quantity::Regress)]
            .into_iter()
            .find_map(|(name, q)| rest.strip_prefix(name).map(|rest| (q, rest.trim_start())))
            .ok_or_else(bad)?;
        let (comparator, rest) = Comparator::ALL
            .into_iter()
            .find_map(|(name, c)| rest.strip_prefix(name).map(|rest| (c, rest.trim())))
            .ok_or_else(bad)?;
        let bound: f64 = rest.parse().ok().filter(|b: &f64| b.is_finite()).ok_or_else(bad)?;
        Ok(Self { quantity, comparator, bound_bits: bound.to_bits() })
    }
}

impl Rule {
    /// The bound.
    pub fn bound(&self) -> f64 {
        f64::from_bits(self.bound_bits)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantity = match self.quantity {
            Quantity::Value => "value",
            Quantity::Regress => "regress",
        };
        let (sign, _) =
            Comparator::ALL.iter().find(|(_, c)| *c == self.comparator).unwrap_or(&Comparator::ALL[0]);
        write!(f, "{quantity} {sign} {}", self.bound())
    }
}

/// Which direction is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// As for accuracy.
    Higher,
    /// As for loss.
    Lower,
}

/// What happens to `regress` rules while there is no baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnNoBaseline {
    /// They are skipped, and the verdict says so.
    Skip,
    /// They fail.
    Fail,
}

/// What happens when a run lacks the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// The gate fails.
    Fail,
    /// The gate warns.
    Warn,
}

/// A gate's policy.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The metric.
    pub metric: String,
    /// Which direction is better.
    pub better: Better,
    /// Which run it is held against, as written.
    pub baseline: Option<String>,
    /// What happens while there is none.
    pub on_no_baseline: OnNoBaseline,
    /// What happens when a run lacks the metric.
    pub on_missing: OnMissing,
    /// Rules whose breach fails.
    pub fail: Vec<Rule>,
    /// Rules whose breach warns.
    pub warn: Vec<Rule>,
}

/// How a gate was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateOutcome {
    /// Every rule holds.
    Pass,
    /// A rule that warns does not hold.
    Warn,
    /// A rule that fails does not hold.
    Fail,
    /// What could be judged holds, but rules were skipped for want of a baseline.
    NoBaseline,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateSeverity {
    /// The gate warns.
    Warn,
    /// The gate fails.
    Fail,
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateFinding {
    /// How grave it is.
    pub severity: GateSeverity,
    /// The rule as text; empty for a missing metric.
    pub rule: String,
    /// For people: the metric, both values, the rule, what changed.
    pub message: String,
}

/// The verdict of a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateVerdict {
    /// The metric.
    pub metric: String,
    /// How it was judged.
    pub outcome: GateOutcome,
    /// The run that was judged.
    pub candidate_run: String,
    /// The run it was held against.
    pub baseline_run: Option<String>,
    /// The rules that do not hold.
    pub findings: Vec<GateFinding>,
    /// What differs from the baseline.
    pub changed: Vec<Factor>,
}

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

/// The schema of a receipt.
pub const RECEIPT_SCHEMA: &str = "bitproof/gate-verdict/v1";

/// A receipt that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It is not JSON of the expected form.
    #[error("malformed receipt: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
    /// Judged again, its inputs do not give its bytes.
    #[error("the receipt does not say what its inputs give: judged again it differs at byte {offset}")]
    NotAsJudged {
        /// The first byte that differs.
        offset: usize,
    },
}

impl GateReceipt {
    /// Judges.
    ///
    /// Values are compared exactly. A rule on NaN does not hold. `value` rules are judged without a baseline;
    /// `regress` rules are then skipped or fail, as the policy says.
    pub fn judge(&self) -> GateVerdict {
        let gate = &self.gate;
        let changed = self.baseline.as_ref().map(|b| factors(b, &self.candidate)).unwrap_or_default();
        let mut judging = Judging { receipt: self, changed: &changed, findings: Vec::new(), skipped: false };
        judging.missing_metrics();
        gate.fail.iter().for_each(|rule| judging.rule(rule, GateSeverity::Fail));
        gate.warn.iter().for_each(|rule| judging.rule(rule, GateSeverity::Warn));
        let Judging { findings, skipped, .. } = judging;
        let has = |severity| findings.iter().any(|f: &GateFinding| f.severity == severity);
        let outcome = if has(GateSeverity::Fail) {
            GateOutcome::Fail
        } else if has(GateSeverity::Warn) {
            GateOutcome::Warn
        } else if skipped {
            GateOutcome::NoBaseline
        } else {
            GateOutcome::Pass
        };
        GateVerdict {
            metric: gate.metric.clone(),
            outcome,
            candidate_run: self.candidate.run.clone(),
            baseline_run: self.baseline.as_ref().map(|b| b.run.clone()),
            findings,
            changed,
        }
    }

    /// The receipt's one form: JSON with the inputs, the policy and the verdict.
    pub fn to_json(&self) -> Vec<u8> {
        let document =
            Document { schema: RECEIPT_SCHEMA.to_owned(), receipt: self.clone(), verdict: self.judge() };
        let mut bytes = serde_json::to_vec_pretty(&document).expect("a receipt has only text keys");
        bytes.push(b'\n');
        bytes
    }
}

/// Reads a receipt, judges its inputs again, and returns the verdict if the bytes are the same.
///
/// # Errors
/// [`ReceiptError`].
pub fn verify_receipt(bytes: &[u8]) -> Result<GateVerdict, ReceiptError> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|e| ReceiptError::Malformed { reason: e.to_string() })?;
    let again = document.receipt.to_json();
    if again == bytes {
        return Ok(document.verdict);
    }
    let offset = again.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(bytes.len().min(again.len()));
    Err(ReceiptError::NotAsJudged { offset })
}

struct Judging<'a> {
    receipt: &'a GateReceipt,
    changed: &'a [Factor],
    findings: Vec<GateFinding>,
    skipped: bool,
}

impl Judging<'_> {
    fn missing_metrics(&mut self) {
        let gate = &self.receipt.gate;
        let severity = match gate.on_missing {
            OnMissing::Fail => GateSeverity::Fail,
            OnMissing::Warn => GateSeverity::Warn,
        };
        for run in std::iter::once(&self.receipt.candidate).chain(&self.receipt.baseline) {
            if !run.metrics.contains_key(&gate.metric) {
                let message = format!("{} is missing in {}", gate.metric, run.run);
                self.findings.push(GateFinding { severity, rule: String::new(), message });
            }
        }
    }

    fn rule(&mut self, rule: &Rule, severity: GateSeverity) {
        let gate = &self.receipt.gate;
        let Some(&value) = self.receipt.candidate.metrics.get(&gate.metric) else { return };
        let candidate = &self.receipt.candidate.run;
        let baseline = self.receipt.baseline.as_ref();
        let before = baseline.and_then(|b| b.metrics.get(&gate.metric).map(|v| (b.run.as_str(), *v)));
        let (observed, story) = match (rule.quantity, before) {
            (Quantity::Value, None) => (value, format!("{} is {value} in {candidate}", gate.metric)),
            (Quantity::Value, Some((run, old))) => {
                (value, format!("{} is {value} in {candidate} and {old} in {run}", gate.metric))
            }
            (Quantity::Regress, Some((run, old))) => {
                let regress = match gate.better {
                    Better::Higher => old - value,
                    Better::Lower => value - old,
                };
                (regress, format!("{} went from {old} in {run} to {value} in {candidate}", gate.metric))
            }
            (Quantity::Regress, None) if baseline.is_some() => return,
            (Quantity::Regress, None) if gate.on_no_baseline == OnNoBaseline::Skip => {
                self.skipped = true;
                return;
            }
            (Quantity::Regress, None) => {
                let message = format!("{}: there is no baseline to judge {rule} by", gate.metric);
                self.findings.push(GateFinding { severity, rule: rule.to_string(), message });
                return;
            }
        };
        if rule.comparator.holds(observed, rule.bound()) {
            return;
        }
        let mut message = match rule.quantity {
            Quantity::Value => format!("{story}: {rule} does not hold"),
            Quantity::Regress => format!("{story}: it is worse by {observed}, {rule} does not hold"),
        };
        if !self.changed.is_empty() {
            let changed: Vec<String> = self.changed.iter().map(ToString::to_string).collect();
            message.push_str(&format!("; changed: {}", changed.join(", ")));
        }
        self.findings.push(GateFinding { severity, rule: rule.to_string(), message });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::facts;

    fn gate(fail: &[&str], warn: &[&str]) -> Gate {
        let rules = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        Gate {
            metric: "evaluate/accuracy".to_owned(),
            better: Better::Higher,
            baseline: Some("latest".to_owned()),
            on_no_baseline: OnNoBaseline::Skip,
            on_missing: OnMissing::Fail,
            fail: rules(fail),
            warn: rules(warn),
        }
    }

    fn receipt(gate: Gate, candidate: f64, baseline: Option<f64>) -> GateReceipt {
        GateReceipt { gate, candidate: facts("new", candidate), baseline: baseline.map(|v| facts("old", v)) }
    }

    fn outcome(fail: &[&str], warn: &[&str], candidate: f64, baseline: Option<f64>) -> GateOutcome {
        receipt(gate(fail, warn), candidate, baseline).judge().outcome
    }

    #[test]
    fn rules_hold_at_the_bound_and_not_beyond() {
        use GateOutcome::{Fail, NoBaseline, Pass, Warn};
        for (fail, warn, candidate, baseline, expected) in [
            (&["value >= 0.5"][..], &[][..], 0.5, None, Pass),
            (&["value > 0.5"], &[], 0.5, None, Fail),
            (&["value <= 0.5"], &[], 0.5f64.next_up(), None, Fail),
            (&["regress <= 0.25"], &[], 0.5, Some(0.75), Pass),
            (&["regress <= 0.25"], &[], 0.5f64.next_down(), Some(0.75), Fail),
            (&["regress <= 0.25"], &["regress <= 0"], 0.5, Some(0.75), Warn),
            (&["regress <= 0.25"], &[], 0.9, Some(0.75), Pass),
            (&["value >= 0.5", "regress <= 0.25"], &[], 0.5, None, NoBaseline),
            (&["value >= 0.5", "regress <= 0.25"], &[], 0.4, None, Fail),
            (&["value >= 0.5"], &[], f64::NAN, None, Fail),
            (&["regress <= 0.25"], &[], f64::NAN, Some(0.5), Fail),
        ] {
            assert_eq!(
                outcome(fail, warn, candidate, baseline),
                expected,
                "{fail:?} {candidate} {baseline:?}"
            );
        }
        let lower = Gate { better: Better::Lower, ..gate(&["regress <= 0.25"], &[]) };
        assert_eq!(receipt(lower, 1.0, Some(0.5)).judge().outcome, Fail);
    }

    #[test]
    fn missing_metrics_and_missing_baselines() {
        let mut absent = receipt(gate(&["value >= 0.5"], &[]), 0.9, Some(0.9));
        absent.candidate.metrics.clear();
        assert_eq!(absent.judge().outcome, GateOutcome::Fail);
        assert_eq!(absent.judge().findings[0].message, "evaluate/accuracy is missing in new");
        absent.gate.on_missing = OnMissing::Warn;
        assert_eq!(absent.judge().outcome, GateOutcome::Warn);
        let strict = Gate { on_no_baseline: OnNoBaseline::Fail, ..gate(&["regress <= 0.25"], &[]) };
        assert_eq!(receipt(strict, 0.9, None).judge().outcome, GateOutcome::Fail);
    }

    #[test]
    fn a_failure_names_metric_values_and_what_changed() {
        let mut receipt = receipt(gate(&["regress <= 0.01"], &[]), 0.5, Some(0.75));
        receipt.candidate.params.insert("train.epochs".to_owned(), "1".to_owned());
        let expected = "evaluate/accuracy went from 0.75 in old to 0.5 in new: it is worse by 0.25, \
                        regress <= 0.01 does not hold; changed: params train.epochs: 30 -> 1";
        assert_eq!(receipt.judge().findings[0].message, expected);
    }

    #[test]
    fn a_receipt_judged_again_gives_the_same_bytes_and_a_changed_one_does_not() {
        let json = receipt(gate(&["regress <= 0.01"], &["value >= 0.9"]), 0.5, Some(0.75)).to_json();
        assert_eq!(verify_receipt(&json).unwrap().outcome, GateOutcome::Fail);
        let text = String::from_utf8(json).unwrap();
        for (from, to) in
            [("\"outcome\": \"fail\"", "\"outcome\": \"pass\""), ("3fe0000000000000", "3fe8000000000000")]
        {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(matches!(verify_receipt(changed.as_bytes()), Err(ReceiptError::NotAsJudged { .. })));
        }
        assert!(verify_receipt(b"{}").is_err());
    }

    #[test]
    fn rules_are_read_and_shown() {
        for text in ["value >= 0.95", "regress <= 0.01", "value < 3", "regress > -1"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for bad in ["", "value", "value = 1", "worth >= 1", "value >= NaN", "value >= inf", "value >= x"] {
            assert!(bad.parse::<Rule>().is_err(), "{bad:?}");
        }
    }
}

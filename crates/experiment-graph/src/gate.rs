//! The gate: a policy and two runs become a verdict.

use std::cmp::Ordering;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::compare::{factors, Factor};
use crate::exact::{apart, beside, plain, ExactF64};
use crate::rule::{Quantity, Rule};
use crate::run::RunFacts;

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

/// Something that a gate has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateFinding {
    /// How grave it is.
    pub severity: GateSeverity,
    /// The rule as text; empty for a missing metric.
    pub rule: String,
    /// The quantity that the rule looked at; none where it could not be had.
    pub observed: Option<ExactF64>,
    /// The rule's bound; none for a missing metric.
    pub bound: Option<ExactF64>,
    /// The metric in the candidate.
    pub candidate: Option<ExactF64>,
    /// The metric in the baseline.
    pub baseline: Option<ExactF64>,
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
    /// Missing metrics, then the rules that do not hold: those that fail, then those that warn, each as declared.
    pub findings: Vec<GateFinding>,
    /// The rules that were not judged for want of a baseline.
    pub skipped: Vec<Rule>,
    /// What differs from the baseline.
    pub changed: Vec<Factor>,
}

/// Judges a run by a gate.
///
/// - Values are compared exactly, as f64 and without a tolerance. A regress is the f64 difference of two values, so
///   0.97 to 0.96 is a little more than 0.01. A rule on NaN does not hold.
/// - `value` rules are judged without a baseline too. `regress` rules are then skipped or fail the gate, in whichever
///   list they stand, as [`Gate::on_no_baseline`] says.
/// - A metric that either run lacks is a finding, as [`Gate::on_missing`] says; rules that need it are not judged.
pub fn judge(gate: &Gate, candidate: &RunFacts, baseline: Option<&RunFacts>) -> GateVerdict {
    let changed = baseline.map(|b| factors(b, candidate)).unwrap_or_default();
    let mut judging =
        Judging { gate, candidate, baseline, changed: &changed, findings: Vec::new(), skipped: Vec::new() };
    judging.missing_metrics();
    gate.fail.iter().for_each(|rule| judging.rule(rule, GateSeverity::Fail));
    gate.warn.iter().for_each(|rule| judging.rule(rule, GateSeverity::Warn));
    let Judging { findings, skipped, .. } = judging;
    let has = |severity| findings.iter().any(|f: &GateFinding| f.severity == severity);
    let outcome = if has(GateSeverity::Fail) {
        GateOutcome::Fail
    } else if has(GateSeverity::Warn) {
        GateOutcome::Warn
    } else if !skipped.is_empty() {
        GateOutcome::NoBaseline
    } else {
        GateOutcome::Pass
    };
    GateVerdict {
        metric: gate.metric.clone(),
        outcome,
        candidate_run: candidate.run.clone(),
        baseline_run: baseline.map(|b| b.run.clone()),
        findings,
        skipped,
        changed,
    }
}

struct Judging<'a> {
    gate: &'a Gate,
    candidate: &'a RunFacts,
    baseline: Option<&'a RunFacts>,
    changed: &'a [Factor],
    findings: Vec<GateFinding>,
    skipped: Vec<Rule>,
}

impl Judging<'_> {
    fn value(&self, run: &RunFacts) -> Option<f64> {
        run.metrics.get(&self.gate.metric).copied()
    }

    fn missing_metrics(&mut self) {
        let severity = match self.gate.on_missing {
            OnMissing::Fail => GateSeverity::Fail,
            OnMissing::Warn => GateSeverity::Warn,
        };
        for run in std::iter::once(self.candidate).chain(self.baseline) {
            if self.value(run).is_none() {
                let has = listed(run.metrics.keys())
                    .map_or("it has no metrics".to_owned(), |names| format!("it has {names}"));
                let message = format!("{} is missing in {}; {has}", self.gate.metric, run.run);
                self.find(severity, None, None, message);
            }
        }
    }

    fn rule(&mut self, rule: &Rule, severity: GateSeverity) {
        let Some(value) = self.value(self.candidate) else { return };
        let Some(baseline) = self.baseline else {
            return match rule.quantity {
                Quantity::Value => {
                    let story = |shown| format!("{} is {shown} in {}", self.gate.metric, self.candidate.run);
                    self.hold(rule, severity, value, story(beside(value, rule.bound())));
                }
                Quantity::Regress => self.without_baseline(rule),
            };
        };
        let (metric, candidate) = (&self.gate.metric, &self.candidate.run);
        match (rule.quantity, self.value(baseline)) {
            (Quantity::Value, None) => {
                let shown = beside(value, rule.bound());
                self.hold(rule, severity, value, format!("{metric} is {shown} in {candidate}"));
            }
            (Quantity::Value, Some(old)) => {
                let (old, shown) = apart(old, value);
                let story = format!("{metric} is {shown} in {candidate} and {old} in {}", baseline.run);
                self.hold(rule, severity, value, story);
            }
            // That it is missing is a finding already.
            (Quantity::Regress, None) => {}
            (Quantity::Regress, Some(old)) => {
                let (shown_old, shown) = apart(old, value);
                let from_to =
                    |moved| format!("{metric} {moved} from {shown_old} ({}) to {shown}", baseline.run);
                let story = match value.partial_cmp(&old) {
                    Some(Ordering::Less) => from_to("fell"),
                    Some(Ordering::Equal) => format!("{metric} is {shown}, as in {}", baseline.run),
                    Some(Ordering::Greater) => from_to("rose"),
                    None => from_to("went"),
                };
                self.hold(rule, severity, regress(self.gate.better, old, value), story);
            }
        }
    }

    /// A finding unless `observed` is as the rule demands.
    fn hold(&mut self, rule: &Rule, severity: GateSeverity, observed: f64, story: String) {
        if rule.comparator.holds(observed, rule.bound()) {
            return;
        }
        let how = if observed.is_nan() {
            format!("{} is not a number, so {rule} does not hold", rule.quantity)
        } else {
            let shown = beside(observed, rule.bound());
            format!("{} {shown} {} {}", rule.quantity, rule.comparator.opposite(), plain(rule.bound()))
        };
        let why = match (listed(self.changed), self.baseline) {
            (Some(changed), _) => format!("; changed: {changed}"),
            (None, Some(_)) => "; nothing changed in data, parameters, code, seed or kernels".to_owned(),
            (None, None) => String::new(),
        };
        self.find(severity, Some(rule), Some(observed), format!("{story}: {how}{why}"));
    }

    fn without_baseline(&mut self, rule: &Rule) {
        match self.gate.on_no_baseline {
            OnNoBaseline::Skip => self.skipped.push(rule.clone()),
            OnNoBaseline::Fail => {
                let baseline = self.gate.baseline.as_ref().map_or(String::new(), |b| format!(" {b:?}"));
                let message =
                    format!("{}: there is no baseline{baseline} to judge {rule} by", self.gate.metric);
                self.find(GateSeverity::Fail, Some(rule), None, message);
            }
        }
    }

    fn find(&mut self, severity: GateSeverity, rule: Option<&Rule>, observed: Option<f64>, message: String) {
        self.findings.push(GateFinding {
            severity,
            rule: rule.map_or(String::new(), Rule::to_string),
            observed: observed.map(ExactF64::from),
            bound: rule.map(|rule| rule.bound().into()),
            candidate: self.value(self.candidate).map(ExactF64::from),
            baseline: self.baseline.and_then(|b| self.value(b)).map(ExactF64::from),
            message,
        });
    }
}

/// By how much `new` is worse than `old`. Which NaN a subtraction gives differs between processors, so there is one.
fn regress(better: Better, old: f64, new: f64) -> f64 {
    let worse_by = match better {
        Better::Higher => old - new,
        Better::Lower => new - old,
    };
    if worse_by.is_nan() {
        f64::NAN
    } else {
        worse_by
    }
}

/// The first few of a list; none if it is empty.
fn listed<T: ToString>(items: impl IntoIterator<Item = T>) -> Option<String> {
    const SHOWN: usize = 8;
    let mut items = items.into_iter();
    let shown: Vec<String> = items.by_ref().take(SHOWN).map(|item| item.to_string()).collect();
    let more = items.count();
    match (shown.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown.join(", ")),
        (false, more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compare::tests::facts;
    use bitproof_core_ledger::canon;

    pub(crate) fn gate(fail: &[&str], warn: &[&str]) -> Gate {
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

    fn verdict(gate: &Gate, candidate: f64, baseline: Option<f64>) -> GateVerdict {
        judge(gate, &facts("new", candidate), baseline.map(|v| facts("old", v)).as_ref())
    }

    fn messages(verdict: &GateVerdict) -> Vec<&str> {
        verdict.findings.iter().map(|f| f.message.as_str()).collect()
    }

    #[test]
    fn rules_hold_at_the_bound_and_not_beyond() {
        use GateOutcome::{Fail, NoBaseline, Pass, Warn};
        let (below, above) = (0.5f64.next_down(), 0.5f64.next_up());
        for (fail, warn, candidate, baseline, expected) in [
            (&["value >= 0.5"][..], &[][..], 0.5, None, Pass),
            (&["value >= 0.5"], &[], below, None, Fail),
            (&["value > 0.5"], &[], 0.5, None, Fail),
            (&["value > 0.5"], &[], above, None, Pass),
            (&["value <= 0.5"], &[], 0.5, None, Pass),
            (&["value <= 0.5"], &[], above, None, Fail),
            (&["value < 0.5"], &[], 0.5, None, Fail),
            (&["value < 0.5"], &[], below, None, Pass),
            (&["regress <= 0.25"], &[], 0.5, Some(0.75), Pass),
            (&["regress <= 0.25"], &[], below, Some(0.75), Fail),
            (&["regress < 0.25"], &[], 0.5, Some(0.75), Fail),
            (&["regress < 0.25"], &[], above, Some(0.75), Pass),
            (&["regress >= -0.25"], &[], 0.75, Some(0.5), Pass),
            (&["regress > -0.25"], &[], 0.75, Some(0.5), Fail),
            (&["regress <= 0.01"], &[], 0.96, Some(0.97), Fail),
            (&["regress <= 0.25"], &["regress <= 0"], 0.5, Some(0.75), Warn),
            (&["regress <= 0.2"], &["regress <= 0"], 0.5, Some(0.75), Fail),
            (&["regress <= 0.25"], &["regress <= 0"], 0.75, Some(0.75), Pass),
            (&["regress <= 0.25"], &[], 0.9, Some(0.75), Pass),
            (&["value >= 0.5", "regress <= 0.25"], &[], 0.5, None, NoBaseline),
            (&["value >= 0.5", "regress <= 0.25"], &[], 0.4, None, Fail),
            (&["regress <= 0.25"], &["value >= 0.5"], 0.4, None, Warn),
            (&["value >= 0.5"], &[], 0.5, Some(f64::NAN), Pass),
        ] {
            let got = verdict(&gate(fail, warn), candidate, baseline);
            assert_eq!(got.outcome, expected, "{fail:?} {warn:?} {candidate} {baseline:?}: {got:?}");
            assert_eq!(got.findings.is_empty(), matches!(expected, Pass | NoBaseline), "{got:?}");
        }
    }

    #[test]
    fn lower_is_better_turns_regress_around() {
        let higher = gate(&["regress <= 0.25"], &[]);
        let lower = Gate { better: Better::Lower, ..higher.clone() };
        for (gate, worse, expected) in [(&higher, 0.25, "fell"), (&lower, 1.0, "rose")] {
            let got = verdict(gate, worse, Some(0.625));
            assert_eq!(got.outcome, GateOutcome::Fail);
            assert!(got.findings[0].message.contains(expected), "{got:?}");
            assert_eq!(verdict(gate, 1.25 - worse, Some(0.625)).outcome, GateOutcome::Pass);
        }
    }

    #[test]
    fn a_rule_on_nan_never_holds() {
        for text in ["value >= 0", "value <= 0", "value > 0", "value < 0"] {
            let got = verdict(&gate(&[text], &[]), f64::NAN, None);
            assert_eq!(got.outcome, GateOutcome::Fail, "{text}");
        }
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        for text in ["regress >= 0", "regress <= 0", "regress > 0", "regress < 0"] {
            for (candidate, baseline) in [(nan, 0.5), (0.5, nan), (-nan, nan), (inf, inf)] {
                let got = verdict(&gate(&[text], &[]), candidate, Some(baseline));
                assert_eq!(got.outcome, GateOutcome::Fail, "{text} {candidate} {baseline}");
                assert_eq!(got.findings[0].observed, Some(f64::NAN.into()), "one NaN on every processor");
            }
        }
        let got = verdict(&gate(&["regress <= 0.1"], &[]), f64::NAN, Some(0.5));
        insta::assert_snapshot!(messages(&got).join("\n"), @"evaluate/accuracy went from 0.5 (old) to NaN: regress is not a number, so regress <= 0.1 does not hold; nothing changed in data, parameters, code, seed or kernels");
    }

    #[test]
    fn missing_metrics_are_found_in_either_run() {
        let policy = gate(&["value >= 0.5", "regress <= 0.25"], &[]);
        let full = facts("full", 0.9);
        let mut empty = facts("empty", 0.9);
        empty.metrics = [("evaluate/loss".to_owned(), 0.1)].into();
        for (candidate, baseline) in [(&empty, Some(&full)), (&full, Some(&empty)), (&empty, None)] {
            let got = judge(&policy, candidate, baseline);
            assert_eq!(got.outcome, GateOutcome::Fail);
            let expected = "evaluate/accuracy is missing in empty; it has evaluate/loss";
            assert_eq!(messages(&got), [expected], "rules that need it are not judged");
            let lenient = Gate { on_missing: OnMissing::Warn, ..policy.clone() };
            assert_eq!(judge(&lenient, candidate, baseline).outcome, GateOutcome::Warn);
        }
        assert_eq!(judge(&policy, &full, Some(&full)).outcome, GateOutcome::Pass);
        let lenient = Gate { on_missing: OnMissing::Warn, ..gate(&["value >= 0.95"], &[]) };
        assert_eq!(
            judge(&lenient, &full, Some(&empty)).outcome,
            GateOutcome::Fail,
            "the value rule is judged"
        );
        empty.metrics.clear();
        let got = judge(&policy, &empty, None);
        assert_eq!(messages(&got), ["evaluate/accuracy is missing in empty; it has no metrics"]);
    }

    #[test]
    fn no_baseline_skips_or_fails_as_declared() {
        let skip = gate(&["value >= 0.5"], &["regress <= 0.25"]);
        let got = verdict(&skip, 0.9, None);
        assert_eq!((got.outcome, &got.skipped), (GateOutcome::NoBaseline, &skip.warn));
        assert_eq!(verdict(&skip, 0.9, Some(0.9)).skipped, []);

        let fail = Gate { on_no_baseline: OnNoBaseline::Fail, ..skip };
        let got = verdict(&fail, 0.9, None);
        assert_eq!(got.outcome, GateOutcome::Fail, "also for a rule that otherwise only warns");
        let expected = "evaluate/accuracy: there is no baseline \"latest\" to judge regress <= 0.25 by";
        assert_eq!(messages(&got), [expected]);
        assert_eq!(verdict(&fail, 0.9, Some(0.9)).outcome, GateOutcome::Pass);
        let values_only = Gate { warn: Vec::new(), ..fail };
        assert_eq!(verdict(&values_only, 0.9, None).outcome, GateOutcome::Pass, "no baseline is needed");
    }

    #[test]
    fn a_finding_names_metric_values_rule_and_what_changed() {
        let policy = gate(&["regress <= 0.01", "value >= 0.95"], &["regress <= 0.002"]);
        let good = facts("digits-1", 35.0 / 36.0);
        let mut bad = facts("digits-2", 22.0 / 36.0);
        bad.params.insert("train.epochs".to_owned(), "1".to_owned());
        let got = judge(&policy, &bad, Some(&good));
        insta::assert_snapshot!(messages(&got).join("\n"), @r"
        evaluate/accuracy fell from 0.9722 (digits-1) to 0.6111: regress 0.3611 > 0.01; changed: params train.epochs: 30 -> 1
        evaluate/accuracy is 0.6111 in digits-2 and 0.9722 in digits-1: value 0.6111 < 0.95; changed: params train.epochs: 30 -> 1
        evaluate/accuracy fell from 0.9722 (digits-1) to 0.6111: regress 0.3611 > 0.002; changed: params train.epochs: 30 -> 1
        ");
        let finding = &got.findings[0];
        let observed = 35.0 / 36.0 - 22.0 / 36.0;
        assert_eq!((finding.observed, finding.bound), (Some(observed.into()), Some(0.01.into())));
        assert_eq!(finding.candidate, Some((22.0 / 36.0).into()));
        assert_eq!(finding.baseline, Some((35.0 / 36.0).into()));
        assert_eq!((finding.severity, finding.rule.as_str()), (GateSeverity::Fail, "regress <= 0.01"));

        let alone = judge(&gate(&["value >= 0.95"], &[]), &bad, None);
        assert_eq!(messages(&alone), ["evaluate/accuracy is 0.6111 in digits-2: value 0.6111 < 0.95"]);
        bad.params = (0..10).map(|i| (format!("train.p{i}"), "1".to_owned())).collect();
        let many = judge(&gate(&["value >= 0.95"], &[]), &bad, Some(&good));
        assert!(many.findings[0].message.ends_with(" and 3 more"), "{many:?}");
    }

    #[test]
    fn a_policy_has_one_encoding() {
        let policies = vec![gate(&["value >= 0.95", "regress <= 0.01"], &["regress < 1e-3"]), gate(&[], &[])];
        let bytes = canon::encode(&policies);
        assert_eq!(canon::decode::<Vec<Gate>>(&bytes).unwrap(), policies);
        for end in 0..bytes.len() {
            assert!(canon::decode::<Vec<Gate>>(&bytes[..end]).is_err(), "prefix of {end} bytes");
        }
    }
}

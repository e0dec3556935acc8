//! Budgets: limits on telemetry, judged exactly, in integers.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::collector::DROPPED;
use crate::record::{Record, Unit};

/// A statistic of the measurements that a budget selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Statistic {
    /// The sum over the count, as an exact fraction.
    Mean,
    /// The smallest value that at least 95 % of the values do not exceed (nearest rank).
    P95,
    /// The largest value.
    Max,
    /// How many there are.
    Volume,
}

impl Statistic {
    const ALL: [(&'static str, Self); 4] =
        [("mean", Self::Mean), ("p95", Self::P95), ("max", Self::Max), ("volume", Self::Volume)];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Comparison {
    #[serde(rename = "<=")]
    AtMost,
    #[serde(rename = "<")]
    Below,
    #[serde(rename = ">=")]
    AtLeast,
    #[serde(rename = ">")]
    Above,
}

impl Comparison {
    const ALL: [(&'static str, Self); 4] =
        [("<=", Self::AtMost), (">=", Self::AtLeast), ("<", Self::Below), (">", Self::Above)];

    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::AtMost => order.is_le(),
            Self::Below => order.is_lt(),
            Self::AtLeast => order.is_ge(),
            Self::Above => order.is_gt(),
        }
    }
}

const UNITS: [(&str, Unit, i64); 14] = [
    ("ns", Unit::Nanoseconds, 1),
    ("us", Unit::Nanoseconds, 1_000),
    ("µs", Unit::Nanoseconds, 1_000),
    ("ms", Unit::Nanoseconds, 1_000_000),
    ("s", Unit::Nanoseconds, 1_000_000_000),
    ("min", Unit::Nanoseconds, 60_000_000_000),
    ("h", Unit::Nanoseconds, 3_600_000_000_000),
    ("B", Unit::Bytes, 1),
    ("kB", Unit::Bytes, 1_000),
    ("MB", Unit::Bytes, 1_000_000),
    ("GB", Unit::Bytes, 1_000_000_000),
    ("KiB", Unit::Bytes, 1 << 10),
    ("MiB", Unit::Bytes, 1 << 20),
    ("GiB", Unit::Bytes, 1 << 30),
];

/// A text that is not a budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BudgetSyntax {
    /// It does not begin with a statistic.
    #[error("{text:?} does not begin with a statistic; there are mean, p95, max and volume")]
    Statistic {
        /// The text.
        text: String,
    },
    /// There is no comparison after the statistic.
    #[error("{text:?} has no comparison after its statistic; there are <=, <, >= and >")]
    Comparison {
        /// The text.
        text: String,
    },
    /// The bound is not a number.
    #[error("{text:?} has no bound that is a whole or decimal number, like 50ms, 1.5GiB or 1000")]
    Bound {
        /// The text.
        text: String,
    },
    /// The bound's unit is not known.
    #[error(
        "{text:?} has the unit {unit:?}; there are ns, us, ms, s, min, h, B, kB, MB, GB, KiB, MiB and GiB"
    )]
    UnknownUnit {
        /// The text.
        text: String,
        /// Its unit.
        unit: String,
    },
    /// The bound is not a whole number of the base unit, or too large.
    #[error("{text:?} is not a whole number of {base} within 64 bits")]
    Inexact {
        /// The text.
        text: String,
        /// The base unit.
        base: &'static str,
    },
    /// The unit does not fit what is measured.
    #[error("{text:?} is in {got}, but {metric} is measured in {expected}")]
    UnitMismatch {
        /// The limit's text.
        text: String,
        /// The metric.
        metric: String,
        /// What it is measured in.
        expected: &'static str,
        /// What the limit is in.
        got: &'static str,
    },
    /// A selector is malformed.
    #[error("{text:?} is not a metric with tags, like train/step_wall_ns or train/step_wall_ns{{lane=0}}")]
    Selector {
        /// The text.
        text: String,
    },
}

fn unit_name(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ns",
        Unit::Bytes => "bytes",
        Unit::Count => "counts",
    }
}

/// A limit on a statistic: `p95 <= 50ms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    text: String,
    statistic: Statistic,
    comparison: Comparison,
    /// In the base unit.
    bound: i64,
    unit: Unit,
}

impl FromStr for Limit {
    type Err = BudgetSyntax;

    fn from_str(written: &str) -> Result<Self, BudgetSyntax> {
        let text = || written.to_owned();
        let rest = written.trim();
        let (statistic, rest) = Statistic::ALL
            .iter()
            .find_map(|(name, s)| rest.strip_prefix(name).map(|rest| (*s, rest.trim_start())))
            .ok_or_else(|| BudgetSyntax::Statistic { text: text() })?;
        let (comparison, rest) = Comparison::ALL
            .iter()
            .find_map(|(name, c)| rest.strip_prefix(name).map(|rest| (*c, rest.trim_start())))
            .ok_or_else(|| BudgetSyntax::Comparison { text: text() })?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = (&rest[..end], rest[end..].trim());
        let (unit, scale) = match suffix {
            _ if number.is_empty() => return Err(BudgetSyntax::Bound { text: text() }),
            "" => (Unit::Count, 1),
            _ => UNITS
                .iter()
                .find(|(name, ..)| *name == suffix)
                .map(|(_, unit, scale)| (*unit, *scale))
                .ok_or_else(|| BudgetSyntax::UnknownUnit { text: text(), unit: suffix.to_owned() })?,
        };
        let bound = scaled(number, scale)
            .ok_or_else(|| BudgetSyntax::Bound { text: text() })?
            .ok_or_else(|| BudgetSyntax::Inexact { text: text(), base: unit_name(unit) })?;
        Ok(Self { text: text(), statistic, comparison, bound, unit })
    }
}

/// A decimal number times a scale, exactly: `None` when it is no number, `Some(None)` when the product is not whole.
fn scaled(number: &str, scale: i64) -> Option<Option<i64>> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let exact = || {
        let denominator = 10i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        let whole: i128 = whole.parse().ok()?;
        let fraction: i128 = fraction.parse().ok()?;
        let value = whole.checked_mul(denominator)?.checked_add(fraction)?.checked_mul(i128::from(scale))?;
        if value % denominator == 0 {
            i64::try_from(value / denominator).ok()
        } else {
            None
        }
    };
    Some(exact())
}

/// A metric, and the tags that its measurements must carry: `train/step_wall_ns{lane=0}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricSelector {
    /// The metric's name.
    pub metric: String,
    /// Tags with their values.
    pub tags: BTreeMap<String, String>,
}

impl FromStr for MetricSelector {
    type Err = BudgetSyntax;

    fn from_str(text: &str) -> Result<Self, BudgetSyntax> {
        let bad = || BudgetSyntax::Selector { text: text.to_owned() };
        let (metric, tags) = match text.split_once('{') {
            None => (text, ""),
            Some((metric, rest)) => (metric, rest.strip_suffix('}').ok_or_else(bad)?),
        };
        let plain =
            |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
        if !plain(metric) {
            return Err(bad());
        }
        let mut map = BTreeMap::new();
        for pair in tags.split(',').filter(|_| !tags.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(bad)?;
            if !plain(key.trim()) || map.insert(key.trim().to_owned(), value.trim().to_owned()).is_some() {
                return Err(bad());
            }
        }
        Ok(Self { metric: metric.to_owned(), tags: map })
    }
}

impl MetricSelector {
    /// What the metric is measured in, by the end of its name.
    pub fn unit(&self) -> Unit {
        match self.metric.rsplit('_').next() {
            Some("ns") => Unit::Nanoseconds,
            Some("bytes") => Unit::Bytes,
            _ => Unit::Count,
        }
    }

    /// Whether measurements that may have been selected found no room. Those of whole stages always do.
    fn lost_some(&self, records: &[Record]) -> bool {
        let may_be = |r: &Record| self.tags.iter().all(|(k, v)| k == "step" || r.tags.get(k) == Some(v));
        !self.metric.starts_with("stage/") && records.iter().any(|r| r.name == DROPPED && may_be(r))
    }

    fn selects(&self, record: &Record) -> bool {
        record.name == self.metric && self.tags.iter().all(|(k, v)| record.tags.get(k) == Some(v))
    }
}

/// Limits on a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    selector: MetricSelector,
    fail: Vec<Limit>,
    warn: Vec<Limit>,
}

impl Budget {
    /// Limits whose breach fails, and limits whose breach warns.
    ///
    /// # Errors
    /// [`BudgetSyntax::UnitMismatch`] when a limit's unit does not fit the metric.
    pub fn new(selector: MetricSelector, fail: Vec<Limit>, warn: Vec<Limit>) -> Result<Self, BudgetSyntax> {
        for limit in fail.iter().chain(&warn) {
            let expected = if limit.statistic == Statistic::Volume { Unit::Count } else { selector.unit() };
            if limit.unit != expected {
                return Err(BudgetSyntax::UnitMismatch {
                    text: limit.text.clone(),
                    metric: selector.metric.clone(),
                    expected: unit_name(expected),
                    got: unit_name(limit.unit),
                });
            }
        }
        Ok(Self { selector, fail, warn })
    }
}

/// How a budget was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BudgetOutcome {
    /// Every limit holds.
    Pass,
    /// A limit that warns does not hold.
    Warn,
    /// A limit that fails does not hold.
    Fail,
    /// Nothing was measured, or measurements found no room. It counts as a failure: a budget that cannot be judged is not
    /// a pass.
    Missing,
}

/// A limit that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetFinding {
    /// The limit as written.
    pub limit: String,
    /// `fail` or `warn`.
    pub severity: String,
    /// The statistic in the base unit; the mean rounded down.
    pub observed: i64,
    /// The bound in the base unit.
    pub bound: i64,
    /// The base unit.
    pub unit: Unit,
}

impl fmt::Display for BudgetFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = unit_name(self.unit);
        write!(
            f,
            "{}: {} does not hold: measured {} {unit}, bound {} {unit}",
            self.severity, self.limit, self.observed, self.bound
        )
    }
}

/// The verdict on a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetVerdict {
    /// The metric.
    pub metric: String,
    /// The tags that were selected.
    pub tags: BTreeMap<String, String>,
    /// How it was judged.
    pub outcome: BudgetOutcome,
    /// How many measurements there were.
    pub samples: u64,
    /// The limits that do not hold.
    pub findings: Vec<BudgetFinding>,
}

/// Judges a budget on measurements. O(n log n).
pub fn judge(budget: &Budget, records: &[Record]) -> BudgetVerdict {
    let mut values: Vec<i64> =
        records.iter().filter(|r| budget.selector.selects(r)).map(|r| r.value).collect();
    values.sort_unstable();
    let broken = |limits: &[Limit], severity: &str| -> Vec<BudgetFinding> {
        limits.iter().filter_map(|limit| breach(limit, severity, &values)).collect()
    };
    let (fail, warn) = (broken(&budget.fail, "fail"), broken(&budget.warn, "warn"));
    let nothing = values.is_empty() || budget.selector.lost_some(records);
    let outcome = match (nothing, fail.is_empty(), warn.is_empty()) {
        (true, ..) => BudgetOutcome::Missing,
        (_, false, _) => BudgetOutcome::Fail,
        (_, _, false) => BudgetOutcome::Warn,
        _ => BudgetOutcome::Pass,
    };
    BudgetVerdict {
        metric: budget.selector.metric.clone(),
        tags: budget.selector.tags.clone(),
        outcome,
        samples: values.len() as u64,
        findings: fail.into_iter().chain(warn).collect(),
    }
}

/// The finding when a limit does not hold on these sorted values; without values nothing but their number is judged.
fn breach(limit: &Limit, severity: &str, sorted: &[i64]) -> Option<BudgetFinding> {
    let count = sorted.len() as i128;
    // The statistic as a fraction, so that a mean is compared exactly.
    let (numerator, denominator) = match limit.statistic {
        Statistic::Volume => (count, 1),
        _ if sorted.is_empty() => return None,
        Statistic::Mean => (sorted.iter().map(|&v| i128::from(v)).sum(), count),
        Statistic::Max => (i128::from(sorted[sorted.len() - 1]), 1),
        Statistic::P95 => (i128::from(sorted[(sorted.len() * 95).div_ceil(100) - 1]), 1),
    };
    if limit.comparison.holds(numerator.cmp(&(i128::from(limit.bound) * denominator))) {
        return None;
    }
    let observed = i64::try_from(numerator.div_euclid(denominator)).unwrap_or(i64::MAX);
    let severity = severity.to_owned();
    Some(BudgetFinding {
        limit: limit.text.clone(),
        severity,
        observed,
        bound: limit.bound,
        unit: limit.unit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(values: &[i64]) -> Vec<Record> {
        let record = |&value: &i64| Record {
            name: "train/step_wall_ns".to_owned(),
            value,
            unit: Unit::Nanoseconds,
            at_ns: 0,
            tags: [("lane".to_owned(), "0".to_owned())].into(),
        };
        values.iter().map(record).collect()
    }

    fn outcome(selector: &str, fail: &[&str], warn: &[&str], values: &[i64]) -> BudgetOutcome {
        let limits = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        let budget = Budget::new(selector.parse().unwrap(), limits(fail), limits(warn)).unwrap();
        judge(&budget, &records(values)).outcome
    }

    #[test]
    fn each_statistic_holds_at_its_bound_and_fails_beyond() {
        let judged = |limit: &str, values: &[i64]| outcome("train/step_wall_ns", &[limit], &[], values);
        let hundred: Vec<i64> = (1..=100).collect();
        for (limit, values, expected) in [
            ("mean <= 2ns", vec![1, 2, 3], BudgetOutcome::Pass),
            ("mean <= 2ns", vec![1, 2, 4], BudgetOutcome::Fail),
            ("p95 <= 95ns", hundred.clone(), BudgetOutcome::Pass),
            ("p95 <= 94ns", hundred.clone(), BudgetOutcome::Fail),
            ("max <= 100ns", hundred.clone(), BudgetOutcome::Pass),
            ("max < 100ns", hundred.clone(), BudgetOutcome::Fail),
            ("volume <= 100", hundred.clone(), BudgetOutcome::Pass),
            ("volume >= 101", hundred, BudgetOutcome::Fail),
            ("max <= 1us", vec![1000], BudgetOutcome::Pass),
            ("max <= 0.5us", vec![501], BudgetOutcome::Fail),
            ("max <= 1s", vec![], BudgetOutcome::Missing),
        ] {
            assert_eq!(judged(limit, &values), expected, "{limit}");
        }
    }

    #[test]
    fn warnings_and_tags() {
        let selector = "train/step_wall_ns{lane=0}";
        assert_eq!(outcome(selector, &["max <= 9ns"], &["max <= 5ns"], &[7]), BudgetOutcome::Warn);
        assert_eq!(outcome("train/step_wall_ns{lane=1}", &["max <= 9ns"], &[], &[7]), BudgetOutcome::Missing);
    }

    #[test]
    fn measurements_without_room_cannot_be_judged() {
        let mut all = records(&[1, 2, 3]);
        all.push(Record { name: DROPPED.to_owned(), unit: Unit::Count, ..all[0].clone() });
        let judged = |selector: &str| {
            let budget = Budget::new(selector.parse().unwrap(), vec!["max <= 9ns".parse().unwrap()], vec![]);
            judge(&budget.unwrap(), &all).outcome
        };
        assert_eq!(judged("train/step_wall_ns"), BudgetOutcome::Missing);
        assert_eq!(judged("train/step_wall_ns{lane=0}"), BudgetOutcome::Missing);
        all[0].tags.insert("lane".to_owned(), "1".to_owned());
        let other = Budget::new("train/step_wall_ns{lane=1}".parse().unwrap(), vec![], vec![]).unwrap();
        assert_eq!(judge(&other, &all).outcome, BudgetOutcome::Pass);
    }

    #[test]
    fn texts_that_are_not_limits_are_refused() {
        let error = |text: &str| text.parse::<Limit>().unwrap_err();
        assert!(matches!(error("median <= 1ns"), BudgetSyntax::Statistic { .. }));
        assert!(matches!(error("max = 1ns"), BudgetSyntax::Comparison { .. }));
        assert!(matches!(error("max <= fast"), BudgetSyntax::Bound { .. }));
        assert!(matches!(error("max <= 1.2.3s"), BudgetSyntax::Bound { .. }));
        assert!(matches!(error("max <= 1 parsec"), BudgetSyntax::UnknownUnit { .. }));
        assert!(matches!(error("max <= 0.1ns"), BudgetSyntax::Inexact { .. }));
        assert!(matches!(error("max <= 99999999999999999999h"), BudgetSyntax::Inexact { .. }));
        let mismatch = Budget::new("x/y_bytes".parse().unwrap(), vec!["max <= 1s".parse().unwrap()], vec![]);
        assert!(matches!(mismatch, Err(BudgetSyntax::UnitMismatch { .. })));
        for bad in ["", "a b", "a{", "a{x}", "a{x=1,x=2}"] {
            assert!(bad.parse::<MetricSelector>().is_err(), "{bad:?}");
        }
    }
}

//! Deterministic metrics: named values with steps, and their one form as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::exact::ExactF64;

/// The schema of a set of metrics.
pub const SCHEMA: &str = "bitproof/metrics/v1";
/// The longest name of a metric, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The most points in a set.
pub const MAX_POINTS: usize = 1 << 20;

/// The most bytes of a set that is read.
pub const MAX_METRICS_BYTES: usize = 512 << 20;

/// Metrics that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// It is not JSON of the expected form.
    #[error("malformed metrics: {reason}")]
    Malformed {
        /// Why, with line and column.
        reason: String,
    },
    /// A name is not `<stage>/<key>`.
    #[error("point {index} is of {got:?}, which is not <stage>/<key> without control characters")]
    Name {
        /// Which point, from 0.
        index: usize,
        /// The name, cut after 80 characters.
        got: String,
    },
    /// A point does not come after the one before it.
    #[error("point {index} ({metric} at step {step}) does not come after the one before it")]
    Order {
        /// Which point, from 0.
        index: usize,
        /// Its metric.
        metric: String,
        /// Its step.
        step: u64,
    },
    /// It is of another version.
    #[error("metrics have the schema {got:?}; this version reads {SCHEMA:?}")]
    Schema {
        /// Its schema.
        got: String,
    },
    /// It holds too much.
    #[error("metrics hold more than {limit} {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// It has another encoding than the one it is written in.
    #[error("metrics are not canonical: their encoding differs at byte {offset}")]
    NotCanonical {
        /// The first byte that differs.
        offset: usize,
    },
}

/// Values by metric and step, exact and sorted.
///
/// The name of a metric is `<stage>/<key>`, of at most [`MAX_NAME_BYTES`] and without control characters; a set that
/// holds another name, or more than [`MAX_POINTS`], can be written but is refused when it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricSet {
    /// The bits of each value.
    points: BTreeMap<(String, u64), u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: String,
    points: Vec<Point>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    metric: String,
    step: u64,
    bits: ExactF64,
    /// For people; that it says the same as `bits` is part of being canonical.
    #[serde(rename = "value")]
    _value: Option<f64>,
}

impl MetricSet {
    /// Adds a value, in place of one that was there.
    pub fn push(&mut self, metric: &str, step: u64, value: f64) {
        self.points.insert((metric.to_owned(), step), value.to_bits());
    }

    /// Adds every value of another set.
    pub fn merge(&mut self, other: &Self) {
        self.points.extend(other.points.iter().map(|(at, bits)| (at.clone(), *bits)));
    }

    /// The value of a metric at its highest step.
    pub fn last(&self, metric: &str) -> Option<f64> {
        let range = (metric.to_owned(), 0)..=(metric.to_owned(), u64::MAX);
        self.points.range(range).next_back().map(|(_, bits)| f64::from_bits(*bits))
    }

    /// The value of every metric at its highest step.
    pub fn finals(&self) -> BTreeMap<String, f64> {
        self.points.iter().map(|((name, _), bits)| (name.clone(), f64::from_bits(*bits))).collect()
    }

    /// Every (metric, step, value), sorted.
    pub fn points(&self) -> impl Iterator<Item = (&str, u64, f64)> {
        self.points.iter().map(|((name, step), bits)| (name.as_str(), *step, f64::from_bits(*bits)))
    }

    /// Its one form as JSON: compact, sorted by metric and step, a line feed at the end. `value` is for people
    /// (`null` where it is not finite), `bits` is what counts.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = format!("{{\"schema\":\"{SCHEMA}\",\"points\":[");
        for (i, (metric, step, value)) in self.points().enumerate() {
            let separator = if i == 0 { "\n" } else { ",\n" };
            let shown = if value.is_finite() { format!("{value:?}") } else { "null".to_owned() };
            let metric = serde_json::Value::from(metric);
            let bits = value.to_bits();
            write!(text, "{separator}{{\"metric\":{metric},\"step\":{step},\"value\":{shown},\"bits\":\"{bits:016x}\"}}")
                .expect("writing to a string");
        }
        text.push_str("\n]}\n");
        text.into_bytes()
    }

    /// Reads what [`MetricSet::to_json`] wrote.
    ///
    /// # Errors
    /// [`MetricError`] for anything else.
    pub fn from_json(bytes: &[u8]) -> Result<Self, MetricError> {
        Self::from_json_within(bytes, MAX_POINTS)
    }

    fn from_json_within(bytes: &[u8], max_points: usize) -> Result<Self, MetricError> {
        if bytes.len() > MAX_METRICS_BYTES {
            return Err(MetricError::TooLarge { what: "bytes", limit: MAX_METRICS_BYTES });
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|e| MetricError::Malformed { reason: e.to_string() })?;
        if document.schema != SCHEMA {
            return Err(MetricError::Schema { got: document.schema.chars().take(80).collect() });
        }
        if document.points.len() > max_points {
            return Err(MetricError::TooLarge { what: "points", limit: max_points });
        }
        let mut set = Self::default();
        for (index, Point { metric, step, bits, .. }) in document.points.into_iter().enumerate() {
            if metric.len() > MAX_NAME_BYTES {
                return Err(MetricError::TooLarge { what: "bytes of a name", limit: MAX_NAME_BYTES });
            }
            if !is_name(&metric) {
                return Err(MetricError::Name { index, got: metric.chars().take(80).collect() });
            }
            let at = (metric, step);
            if set.points.last_key_value().is_some_and(|(last, _)| *last >= at) {
                return Err(MetricError::Order { index, metric: at.0, step });
            }
            set.points.insert(at, bits.get().to_bits());
        }
        let again = set.to_json();
        if again == bytes {
            return Ok(set);
        }
        let offset =
            again.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(bytes.len().min(again.len()));
        Err(MetricError::NotCanonical { offset })
    }
}

fn is_name(text: &str) -> bool {
    let parts = text.split_once('/').is_some_and(|(stage, key)| !stage.is_empty() && !key.is_empty());
    parts && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_and_every_other_byte_is_refused() {
        let mut set = MetricSet::default();
        set.push("train/loss", 2, 0.1);
        set.push("train/loss", 1, f64::NAN);
        set.push("evaluate/accuracy", 0, 1.0);
        let json = set.to_json();
        assert_eq!(MetricSet::from_json(&json).unwrap(), set);
        assert_eq!(set.last("train/loss"), Some(0.1));
        assert_eq!(set.finals().len(), 2);
        for i in 0..json.len() {
            let mut bad = json.clone();
            bad[i] ^= 1;
            assert_ne!(MetricSet::from_json(&bad).ok(), Some(set.clone()), "byte {i}");
            assert!(MetricSet::from_json(&json[..i]).is_err(), "prefix {i}");
        }
    }
    #[test]
    fn the_form_is_this() {
        let mut set = MetricSet::default();
        set.push("train/loss", 10, f64::NEG_INFINITY);
        set.push("train/loss", 2, 0.53);
        set.push("evaluate/accuracy", 0, 1.0);
        insta::assert_snapshot!(String::from_utf8(set.to_json()).unwrap(), @r#"
        {"schema":"bitproof/metrics/v1","points":[
        {"metric":"evaluate/accuracy","step":0,"value":1.0,"bits":"3ff0000000000000"},
        {"metric":"train/loss","step":2,"value":0.53,"bits":"3fe0f5c28f5c28f6"},
        {"metric":"train/loss","step":10,"value":null,"bits":"fff0000000000000"}
        ]}
        "#);
        let empty = MetricSet::default().to_json();
        assert_eq!(MetricSet::from_json(&empty).unwrap(), MetricSet::default());
    }

    #[test]
    fn damaged_sets_are_refused_by_name() {
        let mut set = MetricSet::default();
        set.push("train/loss", 1, 0.5);
        set.push("train/loss", 2, 0.1);
        let text = String::from_utf8(set.to_json()).unwrap();
        let read = |text: &str| MetricSet::from_json(text.as_bytes());
        type Expected = fn(&MetricError) -> bool;
        let cases: [(&str, &str, &str, Expected); 14] = [
            ("unknown-key", "\"step\":1,", "\"step\":1,\"at\":1,", |e| {
                matches!(e, MetricError::Malformed { .. })
            }),
            ("missing-key", "\"step\":1,", "", |e| matches!(e, MetricError::Malformed { .. })),
            ("repeated-key", "\"step\":1,", "\"step\":1,\"step\":1,", |e| {
                matches!(e, MetricError::Malformed { .. })
            }),
            ("short-bits", "3fe0000000000000", "3fe", |e| matches!(e, MetricError::Malformed { .. })),
            ("upper-case-bits", "3fe0", "3FE0", |e| matches!(e, MetricError::Malformed { .. })),
            ("negative-step", "\"step\":1", "\"step\":-1", |e| matches!(e, MetricError::Malformed { .. })),
            ("other-value", "\"value\":0.5", "\"value\":0.6", |e| {
                matches!(e, MetricError::NotCanonical { .. })
            }),
            ("null-value", "\"value\":0.5", "\"value\":null", |e| {
                matches!(e, MetricError::NotCanonical { .. })
            }),
            ("longer-value", "\"value\":0.5", "\"value\":0.50", |e| {
                matches!(e, MetricError::NotCanonical { .. })
            }),
            ("other-bits", "3fe0000000000000", "3fe0000000000001", |e| {
                matches!(e, MetricError::NotCanonical { .. })
            }),
            ("swapped-points", "\"step\":1", "\"step\":3", |e| {
                matches!(e, MetricError::Order { index: 1, .. })
            }),
            ("repeated-point", "\"step\":1", "\"step\":2", |e| {
                matches!(e, MetricError::Order { index: 1, .. })
            }),
            ("no-stage", "train/loss", "/loss", |e| matches!(e, MetricError::Name { index: 0, .. })),
            ("other-schema", "metrics/v1", "metrics/v2", |e| matches!(e, MetricError::Schema { .. })),
        ];
        for (mutation, from, to, expected) in cases {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{mutation}");
            let error = read(&changed).unwrap_err();
            assert!(expected(&error), "{mutation}: {error}");
        }
        assert!(read(&text).is_ok());
    }

    #[test]
    fn names_and_counts_have_limits() {
        let of = |name: &str| {
            let mut set = MetricSet::default();
            set.push(name, 0, 1.0);
            MetricSet::from_json(&set.to_json())
        };
        let longest = format!("a/{}", "b".repeat(MAX_NAME_BYTES - 2));
        assert!(of(&longest).is_ok() && of("a/b/c").is_ok() && of("étage/\"perte\"").is_ok());
        assert!(matches!(of(&format!("{longest}b")), Err(MetricError::TooLarge { .. })));
        for bad in ["", "loss", "/loss", "train/", "train/lo\nss", "train/\u{9b}31m"] {
            assert!(matches!(of(bad), Err(MetricError::Name { .. })), "{bad:?}");
        }
        let mut full = MetricSet::default();
        full.push("a/b", 0, 0.0);
        full.push("a/b", 1, 0.0);
        assert_eq!(MetricSet::from_json_within(&full.to_json(), 2), Ok(full.clone()));
        let refused = MetricSet::from_json_within(&full.to_json(), 1);
        assert_eq!(refused, Err(MetricError::TooLarge { what: "points", limit: 1 }));
    }

    #[test]
    fn the_last_value_of_each_metric_counts_and_a_merge_takes_the_other_set() {
        let mut set = MetricSet::default();
        set.push("a/x", u64::MAX, 1.0);
        set.push("a/x", 0, 2.0);
        set.push("a/xy", 3, 3.0);
        assert_eq!((set.last("a/x"), set.last("a/xy"), set.last("a/")), (Some(1.0), Some(3.0), None));
        let mut other = MetricSet::default();
        other.push("a/x", u64::MAX, 4.0);
        other.push("b/z", 1, 5.0);
        set.merge(&other);
        let expected = [("a/x".to_owned(), 4.0), ("a/xy".to_owned(), 3.0), ("b/z".to_owned(), 5.0)];
        assert_eq!(set.finals(), expected.into());
        assert_eq!(set.points().next(), Some(("a/x", 0, 2.0)));
    }
}

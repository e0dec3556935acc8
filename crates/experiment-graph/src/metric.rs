//! Deterministic metrics: named values with steps, and their one form as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

/// The schema of a set of metrics.
pub const SCHEMA: &str = "bitproof/metrics/v1";
/// The longest name of a metric, in bytes.
pub const MAX_NAME_BYTES: usize = 256;
/// The most points in a set.
pub const MAX_POINTS: usize = 1 << 20;

/// Metrics that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// It is not JSON of the expected form.
    #[error("malformed metrics: {reason}")]
    Malformed {
        /// Why.
        reason: String,
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

/// Values by metric and step. The name of a metric is `<stage>/<key>`.
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
    bits: String,
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
        let malformed = |reason: String| MetricError::Malformed { reason };
        let document: Document = serde_json::from_slice(bytes).map_err(|e| malformed(e.to_string()))?;
        if document.schema != SCHEMA {
            return Err(MetricError::Schema { got: document.schema });
        }
        if document.points.len() > MAX_POINTS {
            return Err(MetricError::TooLarge { what: "points", limit: MAX_POINTS });
        }
        let mut set = Self::default();
        for point in document.points {
            if point.metric.len() > MAX_NAME_BYTES {
                return Err(MetricError::TooLarge { what: "bytes of a name", limit: MAX_NAME_BYTES });
            }
            let bits = u64::from_str_radix(&point.bits, 16).map_err(|e| malformed(e.to_string()))?;
            set.points.insert((point.metric, point.step), bits);
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
}

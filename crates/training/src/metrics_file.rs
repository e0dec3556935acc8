//! What a command leaves in the files of its `metrics`: JSON, or a JSON object a line.

use bitproof_experiment_graph::{MetricSet, MAX_NAME_BYTES, MAX_POINTS};
use serde_json::Value;

/// The most bytes of one file.
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// The key of a line that says which step its numbers are of.
const STEP: &str = "step";

/// A file from which no metrics can be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsFileError {
    /// It is no JSON.
    #[error("line {line}, column {column}: {reason}; NaN and Infinity are no JSON: leave such a value out")]
    Json {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// It is JSON of another form.
    #[error("line {line}: expected an object, like {{\"accuracy\": 0.9}}")]
    NoObject {
        /// Where, from 1.
        line: usize,
    },
    /// A step is no whole number from 0.
    #[error("line {line}: \"step\" must be a whole number from 0")]
    Step {
        /// Where, from 1.
        line: usize,
    },
    /// A name cannot be a metric's.
    #[error("line {line}: the metric {name:?} has a name of more than {MAX_NAME_BYTES} bytes, or one with control characters")]
    Name {
        /// Where, from 1.
        line: usize,
        /// The name, cut.
        name: String,
    },
    /// There are too many numbers.
    #[error("line {line}: there are more than {MAX_POINTS} numbers")]
    TooMany {
        /// Where, from 1.
        line: usize,
    },
}

/// Adds every number in `bytes` to `metrics` as `<task>/<key>`; keys of nested objects are joined by `/`.
///
/// A file that is one JSON object gives one value a key, at its `step` or else at 0. A file of JSON lines gives one a line, at the
/// line's `step` or else at the number of the line, from 1. What is no number is passed over, lists too.
///
/// # Errors
/// [`MetricsFileError`] with the line.
pub fn read(task: &str, bytes: &[u8], metrics: &mut MetricSet) -> Result<(), MetricsFileError> {
    let mut points = metrics.points().count();
    if let Ok(Value::Object(object)) = serde_json::from_slice(bytes) {
        return take(task, &object, 0, 1, metrics, &mut points);
    }
    for (index, text) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = index + 1;
        if text.trim_ascii().is_empty() {
            continue;
        }
        let value = serde_json::from_slice(text).map_err(|e| MetricsFileError::Json {
            line,
            column: e.column(),
            reason: e.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
        })?;
        let Value::Object(object) = value else { return Err(MetricsFileError::NoObject { line }) };
        take(task, &object, line as u64, line, metrics, &mut points)?;
    }
    Ok(())
}

fn take(
    task: &str,
    object: &serde_json::Map<String, Value>,
    step: u64,
    line: usize,
    metrics: &mut MetricSet,
    points: &mut usize,
) -> Result<(), MetricsFileError> {
    let step = match object.get(STEP) {
        None => step,
        Some(value) => value.as_u64().ok_or(MetricsFileError::Step { line })?,
    };
    // How deep it goes is bounded by the parser.
    let mut open: Vec<(String, &Value)> =
        object.iter().filter(|(key, _)| *key != STEP).map(|(key, value)| (key.clone(), value)).collect();
    while let Some((key, value)) = open.pop() {
        match value {
            Value::Object(_) if task.len() + key.len() >= MAX_NAME_BYTES => {
                let name = format!("{task}/{key}").chars().take(80).collect();
                return Err(MetricsFileError::Name { line, name });
            }
            Value::Object(inner) => open.extend(inner.iter().map(|(k, v)| (format!("{key}/{k}"), v))),
            Value::Number(number) => {
                let name = format!("{task}/{key}");
                if key.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
                    return Err(MetricsFileError::Name { line, name: name.chars().take(80).collect() });
                }
                *points += 1;
                if *points > MAX_POINTS {
                    return Err(MetricsFileError::TooMany { line });
                }
                let value = number.as_f64().expect("every number of JSON is read as one of 64 bits");
                metrics.push(&name, step, value);
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(text: &str) -> Result<Vec<(String, u64, f64)>, String> {
        let mut set = MetricSet::default();
        read("fit", text.as_bytes(), &mut set).map_err(|e| e.to_string())?;
        Ok(set.points().map(|(name, step, value)| (name.to_owned(), step, value)).collect())
    }

    #[test]
    fn an_object_gives_a_value_a_key_and_lines_give_one_a_step() {
        let at = |name: &str, step, value| (format!("fit/{name}"), step, value);
        let one = "{\"accuracy\": 0.5,\n \"by\": {\"cat\": 1, \"dog\": 2e-1}, \"note\": \"x\", \"all\": [1], \"ok\": true}";
        assert_eq!(
            points(one).unwrap(),
            [at("accuracy", 0, 0.5), at("by/cat", 0, 1.0), at("by/dog", 0, 0.2)]
        );
        assert_eq!(points("{\"loss\": 2, \"step\": 7}").unwrap(), [at("loss", 7, 2.0)]);
        let lines = "{\"loss\": 3}\n\n{\"loss\": 2}\r\n{\"step\": 9, \"loss\": 1}\n";
        assert_eq!(points(lines).unwrap(), [at("loss", 1, 3.0), at("loss", 3, 2.0), at("loss", 9, 1.0)]);
        assert_eq!(points("").unwrap(), []);
    }

    #[test]
    fn what_is_no_metric_is_refused_by_line() {
        let refused = |text: &str, expected: &str| {
            let error = points(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        refused("{\"loss\": 1}\n{\"loss\": NaN}", "line 2, column 10: expected value");
        refused("[1, 2]", "line 1: expected an object");
        refused("{\"loss\": 1, \"step\": -1}", "line 1: \"step\" must be");
        refused("{\"a\\u0007\": 1}", "control characters");
        refused(&format!("{{\"{}\": 1}}", "x".repeat(MAX_NAME_BYTES)), "more than");
    }
}

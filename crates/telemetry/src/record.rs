//! A measurement, and its form as JSON lines. `docs/formats/telemetry.md` is normative.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// The longest line of a telemetry file, in bytes.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// What a measurement counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unit {
    /// Nanoseconds.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Bytes.
    #[serde(rename = "bytes")]
    Bytes,
    /// A plain number.
    #[serde(rename = "count")]
    Count,
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What was measured: `stage/wall_ns`, `train/step_wall_ns`, …
    pub name: String,
    /// How much.
    pub value: i64,
    /// In what.
    pub unit: Unit,
    /// When, in nanoseconds since the collector began.
    pub at_ns: u64,
    /// Of what: task, stage, lane, tick, step, …
    pub tags: BTreeMap<String, String>,
}

/// Telemetry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// A line is longer than the limit.
    #[error("line {line} is longer than {MAX_LINE_BYTES} bytes")]
    TooLong {
        /// Its number, from 1.
        line: usize,
    },
    /// A line is not a measurement.
    #[error("line {line} is not a measurement: {reason}")]
    Malformed {
        /// Its number, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// The last line does not end: the file was cut.
    #[error("line {line} does not end in a line feed")]
    Cut {
        /// Its number, from 1.
        line: usize,
    },
}

/// Writes one JSON object a line, keys in the order of [`Record`]'s fields.
///
/// # Errors
/// What `out` returns.
pub fn write_jsonl(records: &[Record], out: &mut impl Write) -> io::Result<()> {
    for record in records {
        serde_json::to_writer(&mut *out, record)?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

/// Reads what [`write_jsonl`] wrote.
///
/// # Errors
/// [`TelemetryError`] with the line.
pub fn read_jsonl(bytes: &[u8]) -> Result<Vec<Record>, TelemetryError> {
    let mut records = Vec::new();
    for (i, line) in bytes.split_inclusive(|&b| b == b'\n').enumerate() {
        let number = i + 1;
        if line.len() > MAX_LINE_BYTES {
            return Err(TelemetryError::TooLong { line: number });
        }
        let line = line.strip_suffix(b"\n").ok_or(TelemetryError::Cut { line: number })?;
        let record = serde_json::from_slice(line)
            .map_err(|e| TelemetryError::Malformed { line: number, reason: e.to_string() })?;
        records.push(record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_round_trip_and_others_are_refused() {
        let record = Record {
            name: "stage/wall_ns".to_owned(),
            value: -5,
            unit: Unit::Nanoseconds,
            at_ns: 7,
            tags: [("task".to_owned(), "t".to_owned())].into(),
        };
        let mut bytes = Vec::new();
        write_jsonl(&[record.clone(), record.clone()], &mut bytes).unwrap();
        let line = "{\"name\":\"stage/wall_ns\",\"value\":-5,\"unit\":\"ns\",\"at_ns\":7,\"tags\":{\"task\":\"t\"}}\n";
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), line.repeat(2));
        assert_eq!(read_jsonl(&bytes).unwrap(), [record.clone(), record]);
        assert_eq!(read_jsonl(&bytes[..bytes.len() - 1]), Err(TelemetryError::Cut { line: 2 }));
        let unknown = line.replace("\"value\"", "\"valve\"");
        assert!(matches!(read_jsonl(unknown.as_bytes()), Err(TelemetryError::Malformed { line: 1, .. })));
        let long = format!("{}\n", " ".repeat(MAX_LINE_BYTES));
        assert_eq!(read_jsonl(long.as_bytes()), Err(TelemetryError::TooLong { line: 1 }));
    }
}

//! `cargo xtask bench`: runs the measurements of `bitproof-benches` in a release build and prints, keeps or compares them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, ensure, Context as _, Result};
use serde_json::{json, Value};

use crate::workspace::Workspace;
use crate::{Usage, Verdict};

/// What to measure, and what to do with it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these areas; all of them otherwise.
    areas: Vec<String>,
    /// Print one JSON object for each measurement.
    #[arg(long)]
    json: bool,
    /// Measure other people's programs beside ours: crates, and numpy, torch and DVC where `scripts/peers/setup` put them.
    #[arg(long)]
    peers: bool,
    /// Keep the measurements under this name, in target/bench.
    #[arg(long, value_name = "NAME", value_parser = file_name)]
    save: Option<String>,
    /// Show the ratio to measurements kept under this name. Above 1: it is faster now.
    #[arg(long, value_name = "NAME", value_parser = file_name)]
    against: Option<String>,
}

fn file_name(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
        return Err("a name is made of letters, digits, '.', '_' and '-'".to_owned());
    }
    Ok(name.to_owned())
}

/// Fails when a result is not the one that was kept: a measurement of other bits is not comparable.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<Verdict> {
    let kept = match &arguments.against {
        Some(name) => Some((name.as_str(), read_kept(&path_of(&workspace.target, name), name)?)),
        None => None,
    };
    let mut child = Command::new("cargo")
        .args(["run", "--release", "--package", "bitproof-benches", "--bin", "bench"])
        .args(if arguments.peers { &["--features", "peers", "--", "--peers"][..] } else { &["--"] })
        .args(&arguments.areas)
        .current_dir(&workspace.root)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo")?;
    let mut lines = Vec::new();
    let mut same_results = true;
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line.context("reading the measurements")?;
        let measurement = Measurement::parse(&line)?;
        let before = kept
            .as_ref()
            .and_then(|(name, kept)| Some((*name, kept.iter().find(|k| k.is_same(&measurement))?)));
        same_results &= before.is_none_or(|(_, before)| before.result_digest == measurement.result_digest);
        if arguments.json {
            println!("{}", measurement.with_ratio(before));
        } else {
            println!("{}", measurement.row(before));
        }
        lines.push(line);
    }
    match child.wait()?.code() {
        Some(0) => {}
        Some(2) => return Err(Usage("the benches do not know that area; see above".to_owned()).into()),
        code => bail!("the benches ended with {code:?}"),
    }
    ensure!(!lines.is_empty(), "nothing was measured");
    if let Some(name) = &arguments.save {
        let path = path_of(&workspace.target, name);
        fs::create_dir_all(workspace.target.join("bench"))?;
        fs::write(&path, lines.join("\n") + "\n").with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(Verdict::of(same_results))
}

fn path_of(target: &Path, name: &str) -> PathBuf {
    target.join("bench").join(format!("{name}.jsonl"))
}

fn read_kept(path: &Path, name: &str) -> Result<Vec<Measurement>> {
    let Ok(text) = fs::read_to_string(path) else {
        let message = format!("nothing is kept under {name}\n  hint: cargo xtask bench --save {name}");
        return Err(Usage(message).into());
    };
    text.lines().map(Measurement::parse).collect()
}

/// One line of the one format.
#[derive(Debug, Clone, PartialEq)]
struct Measurement {
    bench: String,
    threads: u64,
    wall_ns: u64,
    wall_ns_p95: u64,
    memory_delta_bytes: i64,
    peak_rss_bytes: u64,
    result_digest: String,
    object: Value,
}

impl Measurement {
    fn parse(line: &str) -> Result<Measurement> {
        let object: Value =
            serde_json::from_str(line).with_context(|| format!("not a measurement: {line}"))?;
        let missing = |name: &str| format!("a measurement without {name}: {line}");
        let text = |name| object[name].as_str().map(str::to_owned).with_context(|| missing(name));
        let count = |name| object[name].as_u64().with_context(|| missing(name));
        Ok(Measurement {
            bench: text("bench")?,
            threads: count("threads")?,
            wall_ns: count("wall_ns")?,
            wall_ns_p95: count("wall_ns_p95")?,
            memory_delta_bytes: object["memory_delta_bytes"]
                .as_i64()
                .with_context(|| missing("memory_delta_bytes"))?,
            peak_rss_bytes: count("peak_rss_bytes")?,
            result_digest: text("result_digest")?,
            object,
        })
    }

    fn is_same(&self, other: &Measurement) -> bool {
        self.bench == other.bench && self.threads == other.threads
    }

    /// How many times faster this is than `before`.
    fn ratio(&self, before: &Measurement) -> f64 {
        before.wall_ns as f64 / self.wall_ns.max(1) as f64
    }

    fn with_ratio(&self, before: Option<(&str, &Measurement)>) -> Value {
        let mut object = self.object.clone();
        if let Some((name, before)) = before {
            object["against"] = json!(name);
            object["against_wall_ns"] = json!(before.wall_ns);
            object["against_ratio"] = json!(self.ratio(before));
            object["against_result_equal"] = json!(self.result_digest == before.result_digest);
        }
        object
    }

    fn row(&self, before: Option<(&str, &Measurement)>) -> String {
        let compared = before.map_or_else(String::new, |(name, before)| {
            let other = if self.result_digest == before.result_digest { "" } else { "  RESULT DIFFERS" };
            format!("  {:.2}x against {name}{other}", self.ratio(before))
        });
        let each = match (self.object["items"].as_f64(), self.object["item"].as_str()) {
            (Some(items), Some(rate @ ("flop" | "byte"))) if items > 0.0 => {
                let unit = if rate == "flop" { "GFLOP/s" } else { "GB/s" };
                let of_peak = self.object["of_peak"]
                    .as_f64()
                    .map_or_else(String::new, |of| format!(", {of:.2} of the peak"));
                format!("  {:.1} {unit}{of_peak}", items / self.wall_ns.max(1) as f64)
            }
            (Some(items), Some(item)) if items > 0.0 => {
                format!("  {:.3} ns a {item}", self.wall_ns as f64 / items)
            }
            _ => String::new(),
        };
        let peer = match (self.object["peer"].as_str(), self.object["ratio"].as_f64()) {
            (Some(peer), Some(ratio)) => format!("  {ratio:.2}x against {peer}"),
            _ => String::new(),
        };
        let exponent = self.object["exponent"]
            .as_f64()
            .map_or_else(String::new, |exponent| format!("  grows with size^{exponent:.2}"));
        format!(
            "{:32} {:2} threads  {:>11}  p95 {:>11}  memory {:>+9.2} MiB  peak {:>8.2} MiB  {}{each}{exponent}{peer}{compared}",
            self.bench,
            self.threads,
            milliseconds(self.wall_ns),
            milliseconds(self.wall_ns_p95),
            self.memory_delta_bytes as f64 / 1_048_576.0,
            self.peak_rss_bytes as f64 / 1_048_576.0,
            self.result_digest.get(..16).unwrap_or(&self.result_digest),
        )
    }
}

fn milliseconds(ns: u64) -> String {
    format!("{:.4} ms", ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"bench":"matmul/64x64x64","threads":2,"wall_ns":2000000,"wall_ns_p95":2500000,"memory_delta_bytes":-1048576,"peak_rss_bytes":4194304,"result_digest":"0123456789abcdef01"}"#;

    fn kept(wall_ns: u64, result_digest: &str) -> Measurement {
        Measurement { wall_ns, result_digest: result_digest.to_owned(), ..Measurement::parse(LINE).unwrap() }
    }

    #[test]
    fn one_row_for_each_measurement() {
        let now = Measurement::parse(LINE).unwrap();
        assert_eq!(
            now.row(None),
            "matmul/64x64x64                   2 threads    2.0000 ms  p95   2.5000 ms  memory     -1.00 MiB  peak     4.00 MiB  0123456789abcdef"
        );
        let before = kept(3_000_000, "0123456789abcdef01");
        assert!(now.row(Some(("before", &before))).ends_with("  1.50x against before"));
        assert!(now.row(Some(("before", &kept(3_000_000, "f")))).ends_with("before  RESULT DIFFERS"));
    }

    #[test]
    fn a_row_says_what_each_took_and_how_a_peer_did() {
        let mut object: Value = serde_json::from_str(LINE).unwrap();
        object["items"] = json!(1000);
        object["item"] = json!("leaf");
        object["peer"] = json!("sha2");
        object["ratio"] = json!(0.875);
        let row = Measurement::parse(&object.to_string()).unwrap().row(None);
        assert!(row.ends_with("0123456789abcdef  2000.000 ns a leaf  0.88x against sha2"), "{row}");
    }

    #[test]
    fn a_row_says_how_the_cost_grows() {
        let mut object: Value = serde_json::from_str(LINE).unwrap();
        object["exponent"] = json!(2.954);
        let row = Measurement::parse(&object.to_string()).unwrap().row(None);
        assert!(row.ends_with("0123456789abcdef  grows with size^2.95"), "{row}");
    }

    #[test]
    fn json_keeps_the_line_and_adds_the_comparison() {
        let now = Measurement::parse(LINE).unwrap();
        assert_eq!(now.with_ratio(None), serde_json::from_str::<Value>(LINE).unwrap());
        let compared = now.with_ratio(Some(("before", &kept(1_000_000, "f"))));
        assert_eq!(
            (&compared["against_ratio"], &compared["against_result_equal"]),
            (&json!(0.5), &json!(false))
        );
    }

    #[test]
    fn a_line_without_a_field_is_refused() {
        for field in ["bench", "threads", "wall_ns", "memory_delta_bytes", "peak_rss_bytes", "result_digest"]
        {
            let bad = LINE.replace(&format!("\"{field}\""), "\"other\"");
            assert!(Measurement::parse(&bad).unwrap_err().to_string().contains(field), "{field}");
        }
    }

    #[test]
    fn names_are_file_names() {
        assert!(file_name("before-1.2_x").is_ok());
        for bad in ["", "../x", ".x", "a/b", "a b"] {
            assert!(file_name(bad).is_err(), "{bad:?}");
        }
    }
}

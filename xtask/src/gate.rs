//! The release gates: what the release build must show before it is released. Each holds a negative control, so that a gate
//! that cannot fail does not pass.

mod replay;
mod scene;

use anyhow::{bail, Context as _, Result};
use clap::ValueEnum;
use serde_json::{json, Value};
use std::process::{Command, Stdio};

use crate::workspace::Workspace;
use crate::{in_ci, Verdict};

/// A release gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Workers, threads, instruction sets and surroundings change no recorded byte, and a replay is identical.
    Replay,
}

/// Builds the binary and judges it by one gate or by all.
pub(crate) fn run(workspace: &Workspace, only: Option<Name>, json: bool) -> Result<Verdict> {
    let gates = only.map_or_else(|| Name::value_variants().to_vec(), |name| vec![name]);
    let mut reports = Vec::new();
    for name in gates {
        let report = match name {
            Name::Replay => {
                let binaries =
                    replay::Binaries { release: build(workspace, true)?, debug: build(workspace, false)? };
                Report {
                    gate: "replay",
                    checks: replay::check(&binaries, &workspace.root.join("examples/digits"))?,
                }
            }
        };
        if !json {
            println!("{}", report.table(in_ci()));
        }
        reports.push(report);
    }
    if json {
        println!("{}", to_json(&reports, in_ci()));
    }
    Ok(Verdict::of(reports.iter().all(|report| report.passes(in_ci()))))
}

fn build(workspace: &Workspace, release: bool) -> Result<std::path::PathBuf> {
    let profile = if release { &["--release"][..] } else { &[] };
    let status = Command::new("cargo")
        .args(["build", "--package", "bitproof"])
        .args(profile)
        .current_dir(&workspace.root)
        .stdout(Stdio::null())
        .status()
        .context("starting cargo")?;
    if !status.success() {
        bail!(
            "the binary does not build: cargo build --package bitproof {} ended with {status}",
            profile.join(" ")
        );
    }
    Ok(workspace.target.join(if release { "release" } else { "debug" }).join("bitproof"))
}

/// One thing that a gate looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    name: String,
    outcome: Outcome,
    detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Pass,
    Fail,
    /// A tool is missing. In CI, where it can be installed, that is a failure.
    Skipped,
    /// The hardware lacks it.
    NotHere,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Pass => "pass",
            Outcome::Fail => "fail",
            Outcome::Skipped => "skipped",
            Outcome::NotHere => "not_here",
        }
    }
}

impl Check {
    fn of(name: impl Into<String>, passes: bool, detail: impl Into<String>) -> Check {
        let outcome = if passes { Outcome::Pass } else { Outcome::Fail };
        Check { name: name.into(), outcome, detail: detail.into() }
    }

    fn without(name: impl Into<String>, outcome: Outcome, why: impl Into<String>) -> Check {
        Check { name: name.into(), outcome, detail: why.into() }
    }

    fn is_tolerable(&self, ci: bool) -> bool {
        match self.outcome {
            Outcome::Pass | Outcome::NotHere => true,
            Outcome::Fail => false,
            Outcome::Skipped => !ci,
        }
    }
}

#[derive(Debug)]
struct Report {
    gate: &'static str,
    checks: Vec<Check>,
}

impl Report {
    fn passes(&self, ci: bool) -> bool {
        let compared = self.checks.iter().any(|check| check.outcome == Outcome::Pass);
        compared && self.checks.iter().all(|check| check.is_tolerable(ci))
    }

    fn verdict(&self, ci: bool) -> &'static str {
        if self.passes(ci) {
            "PASS"
        } else {
            "FAIL"
        }
    }

    fn table(&self, ci: bool) -> String {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
        let rows = self.checks.iter().map(|check| {
            let outcome = match check.outcome {
                Outcome::Skipped => "SKIPPED".to_owned(),
                Outcome::Fail => "FAIL".to_owned(),
                other => other.word().replace('_', " "),
            };
            format!("  {outcome:8} {:width$}  {}\n", check.name, check.detail)
        });
        format!("{}gate {}: {}", rows.collect::<String>(), self.gate, self.verdict(ci))
    }
}

fn to_json(reports: &[Report], ci: bool) -> Value {
    let gate = |report: &Report| {
        let check = |check: &Check| json!({ "check": check.name, "outcome": check.outcome.word(), "detail": check.detail });
        json!({
            "name": report.gate,
            "outcome": report.verdict(ci).to_lowercase(),
            "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
        })
    };
    json!({ "schema": "bitproof/gate-release/v1", "gates": reports.iter().map(gate).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: &[Outcome]) -> Report {
        let checks = outcomes.iter().map(|outcome| Check::without("a check", *outcome, "why")).collect();
        Report { gate: "replay", checks }
    }

    #[test]
    fn one_failure_or_no_check_at_all_fails_the_gate() {
        assert!(report(&[Outcome::Pass, Outcome::Pass]).passes(true));
        assert!(!report(&[Outcome::Pass, Outcome::Fail]).passes(false));
        assert!(!report(&[]).passes(false));
        assert!(!report(&[Outcome::Skipped, Outcome::NotHere]).passes(false));
    }

    #[test]
    fn a_missing_tool_fails_in_ci_and_missing_hardware_does_not() {
        assert!(report(&[Outcome::Pass, Outcome::Skipped]).passes(false));
        assert!(!report(&[Outcome::Pass, Outcome::Skipped]).passes(true));
        assert!(report(&[Outcome::Pass, Outcome::NotHere]).passes(true));
    }

    #[test]
    fn what_is_printed() {
        let report = report(&[Outcome::Pass, Outcome::Fail]);
        let table = "  pass     a check  why\n  FAIL     a check  why\ngate replay: FAIL";
        assert_eq!(report.table(false), table);
        let expected = json!({
            "schema": "bitproof/gate-release/v1",
            "gates": [{ "name": "replay", "outcome": "fail", "checks": [
                { "check": "a check", "outcome": "pass", "detail": "why" },
                { "check": "a check", "outcome": "fail", "detail": "why" },
            ]}],
        });
        assert_eq!(to_json(&[report], false), expected);
    }
}

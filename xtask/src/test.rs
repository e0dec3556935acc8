//! `cargo xtask test`: the steps that CI runs, each of which can be repeated alone.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::isa::instruction_sets;
use crate::workspace::Workspace;
use crate::{in_ci, tidy, Usage, Verdict};

/// Runs every step, or those of one area, to the end, and then says which failed and how to repeat them.
pub(crate) fn run(workspace: &Workspace, area: Option<&str>) -> Result<Verdict> {
    let ci = in_ci();
    let members: Vec<(&str, bool)> =
        workspace.members.iter().map(|m| (m.name.as_str(), m.published)).collect();
    let available = instruction_sets().into_iter().filter(|(_, available)| *available);
    let available: Vec<&str> = available.map(|(name, _)| name).collect();
    let steps = steps(&members, &available, area, ci)?;
    let mut outcomes = Vec::new();
    for step in &steps {
        println!("\n== {}: {step}", step.area);
        let started = Instant::now();
        outcomes.push((step, execute(workspace, step, ci)?, started.elapsed()));
    }
    println!();
    for (step, outcome, took) in &outcomes {
        println!("{}", line(step, outcome, *took));
    }
    let passes = !outcomes.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)));
    println!("test: {}", if passes { "PASS" } else { "FAIL" });
    Ok(Verdict::of(passes))
}

/// One step.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    area: &'static str,
    action: Action,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Tidy,
    Cargo { arguments: Vec<String>, environment: Option<(&'static str, &'static str)> },
}

/// The command that repeats the step.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.action {
            Action::Tidy => f.write_str("cargo xtask tidy"),
            Action::Cargo { arguments, environment } => {
                if let Some((name, value)) = environment {
                    write!(f, "{name}=\"{value}\" ")?;
                }
                write!(f, "cargo {}", arguments.join(" "))
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed(String),
    Failed(String),
    Skipped(String),
}

fn line(step: &Step, outcome: &Outcome, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match outcome {
        Outcome::Passed(detail) => {
            format!("{:8} passed   {seconds:7.1} s  {detail}", step.area).trim_end().to_owned()
        }
        Outcome::Skipped(why) => format!("{:8} SKIPPED  {why}", step.area),
        Outcome::Failed(why) => {
            format!("{:8} FAILED   {seconds:7.1} s  {why}\n         repeat: {step}", step.area)
        }
    }
}

/// What an area means for members, given as name and whether they are published, on a processor with these instruction sets.
fn steps(
    members: &[(&str, bool)],
    instruction_sets: &[&'static str],
    area: Option<&str>,
    ci: bool,
) -> Result<Vec<Step>> {
    const AREAS: [&str; 9] = ["fmt", "clippy", "tidy", "unit", "doc", "package", "deny", "shuttle", "isa"];
    let package = area.filter(|area| members.iter().any(|(name, _)| name == area));
    if let Some(area) = area.filter(|area| package.is_none() && !AREAS.contains(area)) {
        let packages: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
        let message = format!(
            "no area {area:?}\n  hint: one of {}; or a package: {}",
            AREAS.join(", "),
            packages.join(", ")
        );
        return Err(Usage(message).into());
    }
    let cargo = |area, text: &str, environment| {
        let arguments = text.split_whitespace().map(str::to_owned).collect();
        Step { area, action: Action::Cargo { arguments, environment } }
    };
    let (whole, one) = ("--workspace".to_owned(), package.map(|name| format!("--package {name}")));
    let scope = one.as_ref().unwrap_or(&whole);
    // In CI a test that skips itself must be seen; otherwise its output is shown only when it fails.
    let shown = if ci { " -- --show-output" } else { "" };
    let excluded: Vec<String> = members
        .iter()
        .filter(|(_, published)| !published)
        .map(|(name, _)| format!("--exclude {name}"))
        .collect();
    let mut all = vec![
        cargo("fmt", &format!("fmt {} --check", one.as_deref().unwrap_or("--all")), None),
        cargo("clippy", &format!("clippy {scope} --all-targets -- -D warnings"), None),
        Step { area: "tidy", action: Action::Tidy },
        cargo("unit", &format!("test {scope}{shown}"), None),
        cargo("doc", &format!("doc {scope} --no-deps"), Some(("RUSTDOCFLAGS", "-D warnings"))),
        // Offline: what it needs of the index is there once the workspace was resolved.
        cargo(
            "package",
            &format!("package {whole} {} --no-verify --allow-dirty --offline", excluded.join(" ")),
            None,
        ),
        cargo("deny", "deny check licenses bans sources advisories", None),
        // The dispatcher with the locks and threads of a checker: another build of it than the one above.
        cargo(
            "shuttle",
            &format!("test --package bitproof-scheduler --features shuttle --test shuttle{shown}"),
            None,
        ),
    ];
    // The kernels' tests choose paths themselves; forced, the choice at the start is tested too.
    for &name in instruction_sets {
        let command = format!("test --package bitproof-kernels --lib --tests{shown}");
        all.push(cargo("isa", &command, Some(("BITPROOF_ISA", name))));
    }
    let wanted = |step: &Step| match (area, package) {
        (_, Some("bitproof-kernels")) => ["fmt", "clippy", "unit", "doc", "isa"].contains(&step.area),
        (_, Some("bitproof-scheduler")) => ["fmt", "clippy", "unit", "doc", "shuttle"].contains(&step.area),
        (_, Some(_)) => ["fmt", "clippy", "unit", "doc"].contains(&step.area),
        (Some(area), None) => step.area == area,
        (None, None) => true,
    };
    Ok(all.into_iter().filter(wanted).collect())
}

fn execute(workspace: &Workspace, step: &Step, ci: bool) -> Result<Outcome> {
    let Action::Cargo { arguments, environment } = &step.action else {
        return Ok(match tidy::run(workspace)? {
            Verdict::Holds => Outcome::Passed(String::new()),
            Verdict::Fails => Outcome::Failed("the findings are above".to_owned()),
        });
    };
    if step.area == "deny" && !cargo_deny_is_installed() {
        let why =
            "cargo-deny is not installed: advisories were not checked (tidy checked licences and origins)";
        return Ok(Outcome::Skipped(why.to_owned()));
    }
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(&workspace.root).envs(*environment);
    if !["unit", "shuttle", "isa"].contains(&step.area) {
        let status = command.status().context("starting cargo")?;
        return Ok(if status.success() {
            Outcome::Passed(String::new())
        } else {
            Outcome::Failed(format!("cargo ended with {status}"))
        });
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let mut totals = Totals::default();
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line.context("reading what the tests print")?;
        println!("{line}");
        totals.read(&line);
    }
    Ok(totals.outcome(child.wait()?.success(), ci))
}

fn cargo_deny_is_installed() -> bool {
    let version = Command::new("cargo")
        .args(["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// The sum over all test binaries.
#[derive(Debug, Default)]
struct Totals {
    binaries: usize,
    passed: usize,
    failed: usize,
    ignored: usize,
    skipped: Vec<String>,
}

impl Totals {
    fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            // "ok. 12 passed; 0 failed; …"
            let count = |what: &str| {
                let counted = |part: &str| {
                    let mut words = part.split_whitespace().rev();
                    (words.next()? == what).then(|| words.next()?.parse().ok())?
                };
                result.split(';').find_map(counted).unwrap_or(0usize)
            };
            self.binaries += 1;
            self.passed += count("passed");
            self.failed += count("failed");
            self.ignored += count("ignored");
        } else if line.starts_with("SKIPPED") {
            self.skipped.push(line.to_owned());
        }
    }

    fn outcome(&self, succeeded: bool, ci: bool) -> Outcome {
        let Totals { binaries, passed, failed, ignored, skipped } = self;
        let counts =
            format!("{passed} passed, {failed} failed, {ignored} ignored in {binaries} test binaries");
        if !succeeded {
            Outcome::Failed(counts)
        } else if ci && !skipped.is_empty() {
            Outcome::Failed(format!("{counts}; skipped, which CI does not allow: {}", skipped.join("; ")))
        } else if *passed == 0 {
            Outcome::Failed(format!("{counts}: nothing was tested"))
        } else {
            Outcome::Passed(counts)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [(&str, bool); 2] = [("bitproof", true), ("xtask", false)];

    fn commands(area: Option<&str>, ci: bool) -> Vec<String> {
        steps(&MEMBERS, &["scalar"], area, ci).unwrap().iter().map(Step::to_string).collect()
    }

    #[test]
    fn all_steps_and_one_area() {
        assert_eq!(
            commands(None, false),
            [
                "cargo fmt --all --check",
                "cargo clippy --workspace --all-targets -- -D warnings",
                "cargo xtask tidy",
                "cargo test --workspace",
                "RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --no-deps",
                "cargo package --workspace --exclude xtask --no-verify --allow-dirty --offline",
                "cargo deny check licenses bans sources advisories",
                "cargo test --package bitproof-scheduler --features shuttle --test shuttle",
                "BITPROOF_ISA=\"scalar\" cargo test --package bitproof-kernels --lib --tests",
            ]
        );
        assert_eq!(commands(Some("tidy"), false), ["cargo xtask tidy"]);
        assert_eq!(commands(Some("unit"), true), ["cargo test --workspace -- --show-output"]);
    }

    #[test]
    fn a_package_is_an_area() {
        assert_eq!(
            commands(Some("bitproof"), false),
            [
                "cargo fmt --package bitproof --check",
                "cargo clippy --package bitproof --all-targets -- -D warnings",
                "cargo test --package bitproof",
                "RUSTDOCFLAGS=\"-D warnings\" cargo doc --package bitproof --no-deps",
            ]
        );
    }

    #[test]
    fn an_unknown_area_is_bad_usage() {
        let error = steps(&MEMBERS, &["scalar"], Some("units"), false).unwrap_err();
        assert!(
            error.is::<Usage>() && error.to_string().contains("unit") && error.to_string().contains("xtask")
        );
    }

    fn totals(lines: &[&str]) -> Totals {
        let mut totals = Totals::default();
        lines.iter().for_each(|line| totals.read(line));
        totals
    }

    const GOOD: &str =
        "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s";

    #[test]
    fn summaries_are_added_up() {
        let counts = "24 passed, 0 failed, 2 ignored in 2 test binaries".to_owned();
        assert_eq!(
            totals(&[GOOD, "running 3 tests", GOOD]).outcome(true, true),
            Outcome::Passed(counts.clone())
        );
        assert_eq!(totals(&[GOOD, GOOD]).outcome(false, false), Outcome::Failed(counts));
        assert!(matches!(totals(&[]).outcome(true, false), Outcome::Failed(_)), "no test is no proof");
    }

    #[test]
    fn what_skips_itself_fails_in_ci_alone() {
        let skipped = totals(&[GOOD, "SKIPPED: no taskset"]);
        assert!(matches!(skipped.outcome(true, false), Outcome::Passed(_)));
        assert!(matches!(skipped.outcome(true, true), Outcome::Failed(why) if why.contains("no taskset")));
    }

    #[test]
    fn a_failure_names_itself_and_how_to_repeat_it() {
        let step = &steps(&MEMBERS, &["scalar"], Some("doc"), false).unwrap()[0];
        let text = line(step, &Outcome::Failed("cargo ended with 101".to_owned()), Duration::from_secs(2));
        assert!(text.starts_with("doc ") && text.contains("FAILED"));
        assert!(text.ends_with("repeat: RUSTDOCFLAGS=\"-D warnings\" cargo doc --workspace --no-deps"));
    }
}

//! The gate `replay`: one plan gives one ledger, whatever carries it out, and a recorded run can be repeated.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::scene::{copy, RunError, Scene, Setting, Traces};
use super::{Check, Outcome};
use crate::isa::instruction_sets;

/// Two builds of the `bitproof` command.
#[derive(Debug)]
pub(super) struct Binaries {
    pub(super) release: PathBuf,
    pub(super) debug: PathBuf,
}

/// What every comparison looks at.
const ALL: &str = "plan, ledger and result roots, metrics, manifest and model are equal";
/// A shorter training, for what is slow.
const SHORT: [&str; 2] = ["--set", "train.epochs=2"];

/// Works on a copy of all three, so that an edit or a build during the gate does not pass for a difference.
pub(super) fn check(binaries: &Binaries, example: &Path) -> Result<Vec<Check>> {
    let copies = tempfile::Builder::new().prefix("bitproof-gate-").tempdir()?;
    let at = |name: &str| copies.path().join(name);
    for (from, to) in [(&binaries.release, at("release")), (&binaries.debug, at("debug"))] {
        fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
    }
    copy(example, &at("example"))?;
    check_copies(&Binaries { release: at("release"), debug: at("debug") }, &at("example"))
}

fn check_copies(binaries: &Binaries, example: &Path) -> Result<Vec<Check>> {
    let first = Scene::new(&binaries.release, example, Setting::default())?;
    let traces = match ran(first.run(&["--workers", "1", "--threads", "1"]))? {
        Ok(traces) => traces,
        Err(why) => return Ok(vec![Check::of("1 worker", false, why)]),
    };
    let mut checks = full_runs(binaries, example, &traces)?;
    checks.extend(short_runs(binaries, example)?);
    checks.extend(replay_and_verify(&first)?);
    Ok(checks)
}

/// Tells a run that failed, which a check reports, from a machine that cannot run it, which ends the gate.
fn ran(outcome: Result<Traces, RunError>) -> Result<Result<Traces, String>> {
    match outcome {
        Ok(traces) => Ok(Ok(traces)),
        Err(RunError::Failed(why)) => Ok(Err(why)),
        Err(RunError::CouldNot(error)) => Err(error),
    }
}

/// The pipeline as it stands, elsewhere and otherwise.
fn full_runs(binaries: &Binaries, example: &Path, expected: &Traces) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let mut compare = |name: &str, setting: Setting, arguments: &[&str]| -> Result<()> {
        let outcome = ran(Scene::new(&binaries.release, example, setting)?.run(arguments))?;
        checks.push(equal(format!("{name}, against 1 worker"), expected, &outcome));
        Ok(())
    };
    compare("2 workers", Setting::default(), &["--workers", "2", "--threads", "2"])?;
    compare("8 workers", Setting::default(), &["--workers", "8", "--threads", "3"])?;
    let environment = vec![("TZ", "Pacific/Kiritimati"), ("LANG", "de_DE.UTF-8"), ("USER", "somebody")];
    let elsewhere = Setting { environment, elsewhere: true, ..Setting::default() };
    compare("other folder, user, TZ, LANG, HOME", elsewhere, &["--workers", "2"])?;
    let name = "on one processor (taskset)";
    match taskset()? {
        Some(prefix) => compare(name, Setting { prefix, ..Setting::default() }, &["--workers", "2"])?,
        None => checks.push(Check::without(
            name,
            Outcome::Skipped,
            "taskset is not installed (package util-linux)",
        )),
    }
    Ok(checks)
}

/// A short training on every instruction set and from a debug build; and with another learning rate, which must be seen.
fn short_runs(binaries: &Binaries, example: &Path) -> Result<Vec<Check>> {
    let run = |binary: &Path, environment: Vec<(&'static str, &'static str)>, more: &[&str]| {
        let setting = Setting { environment, ..Setting::default() };
        ran(Scene::new(binary, example, setting)?.run(&[&SHORT[..], more].concat()))
    };
    let expected = match run(&binaries.release, vec![], &[])? {
        Ok(traces) => traces,
        Err(why) => return Ok(vec![Check::of("a short training", false, why)]),
    };
    let mut checks = Vec::new();
    for (name, available) in instruction_sets() {
        let title = format!("BITPROOF_ISA={name}, against the default");
        checks.push(if available {
            equal(title, &expected, &run(&binaries.release, vec![("BITPROOF_ISA", name)], &[])?)
        } else {
            Check::without(title, Outcome::NotHere, "this processor lacks it")
        });
    }
    checks.push(equal(
        "debug build, against release".to_owned(),
        &expected,
        &run(&binaries.debug, vec![], &[])?,
    ));
    let other = run(&binaries.release, vec![], &["--set", "train.learning_rate=0.002"])?;
    checks.push(unequal("control: another learning rate".to_owned(), &expected, &other));
    Ok(checks)
}

/// The run of `scene` replays and verifies; and with one bit of its ledger changed it does not verify, which is the control.
fn replay_and_verify(scene: &Scene) -> Result<Vec<Check>> {
    let replay = scene.replay()?;
    let same_root = replay.object["ledger_root_recorded"].is_string()
        && replay.object["ledger_root_recorded"] == replay.object["ledger_root_replayed"];
    let identical = replay.exit == Some(0) && replay.object["outcome"] == "identical" && same_root;
    let detail = match replay.object["outcome"].as_str() {
        Some(outcome) => format!("{}, outcome {outcome}", replay.ending()),
        None => format!("{}: {}{}", replay.ending(), replay.object, replay.said),
    };
    let mut checks = vec![Check::of("replay latest", identical, detail)];

    let verify = scene.verify()?;
    let sound = verify.exit == Some(0) && verify.object["ok"] == true;
    let findings = &verify.object["findings"];
    let detail = format!("{}, ok {}, findings {findings}", verify.ending(), verify.object["ok"]);
    checks.push(Check::of("verify latest", sound, detail));

    let place = scene.damage_ledger()?;
    let verify = scene.verify()?;
    let refused = verify.exit == Some(1) && verify.object["findings"].to_string().contains("ledger.log");
    let before = if sound { "" } else { ", but it did not verify before either" };
    let detail = format!("{place}: {}, ok {}{before}", verify.ending(), verify.object["ok"]);
    checks.push(Check::of("control: one bit of the ledger is changed", sound && refused, detail));
    Ok(checks)
}

fn equal(name: String, expected: &Traces, outcome: &Result<Traces, String>) -> Check {
    let got = match outcome {
        Ok(traces) => traces,
        Err(why) => return Check::of(name, false, why.as_str()),
    };
    let differences = expected.differences(got);
    let root = short(&got.ledger_root);
    let detail = if differences.is_empty() {
        format!("{ALL} (ledger root {root})")
    } else {
        let other = short(&expected.ledger_root);
        format!("not equal: {} (ledger root {root}, not {other})", differences.join(", "))
    };
    Check::of(name, differences.is_empty(), detail)
}

/// The negative control of [`equal`]: the same comparison must tell a run of another plan apart.
fn unequal(name: String, expected: &Traces, outcome: &Result<Traces, String>) -> Check {
    let differences = match outcome {
        Ok(traces) => expected.differences(traces),
        Err(why) => return Check::of(name, false, why.as_str()),
    };
    let needed = ["plan digest", "ledger root", "result root", "manifest.json", "model.safetensors"];
    let unseen: Vec<&str> = needed.into_iter().filter(|name| !differences.contains(name)).collect();
    let detail = if unseen.is_empty() {
        format!("is told apart: {}", differences.join(", "))
    } else {
        format!("is not told apart by: {}", unseen.join(", "))
    };
    Check::of(name, unseen.is_empty(), detail)
}

fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

/// `taskset` with the first processor that this process may use: in a container that need not be number 0.
fn taskset() -> Result<Option<Vec<String>>> {
    let found = Command::new("taskset").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let status = fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    Ok(Some(vec!["taskset".to_owned(), "-c".to_owned(), first_processor(&status).to_owned()]))
}

fn first_processor(status: &str) -> &str {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("0").trim();
    list.split([',', '-']).next().unwrap_or("0")
}

#[cfg(test)]
mod tests;

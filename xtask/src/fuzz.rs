//! `cargo xtask fuzz`: libFuzzer on every decoder, from the golden vectors and the kept corpus, on a nightly compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{bail, ensure, Context as _, Result};
use serde_json::json;

use crate::workspace::Workspace;
use crate::{Usage, Verdict};

/// Longer inputs are slower and reach nothing that shorter ones do not: no format here has a field that long.
const MAX_INPUT_BYTES: usize = 4096;
const MAX_MEMORY_MIB: usize = 2048;
const MAX_SECONDS_FOR_ONE: usize = 10;
/// What a kept corpus has at the most for each target: its smallest inputs, and none that is larger.
const KEPT_INPUTS: usize = 64;
const KEPT_INPUT_BYTES: u64 = 1024;

/// What to fuzz, for how long, and what to keep.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these targets; all of them otherwise.
    targets: Vec<String>,
    /// How long each is fuzzed.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// How many are fuzzed at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    jobs: u32,
    /// Renew the kept corpus from what was found: of the fewest inputs that cover as much the smallest 64.
    #[arg(long)]
    keep: bool,
    /// Print one JSON object for each target.
    #[arg(long)]
    json: bool,
}

/// Fails when a target has a finding, which lies in `target/fuzz/artifacts/<target>`.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<Verdict> {
    let house = House { root: &workspace.root, work: workspace.target.join("fuzz") };
    let manifest =
        fs::read_to_string(house.root.join("fuzz/Cargo.toml")).context("reading fuzz/Cargo.toml")?;
    let targets = chosen(&targets(&manifest), &arguments.targets)?;
    house.build()?;
    let mut verdict = Verdict::Holds;
    for group in targets.chunks(arguments.jobs as usize) {
        let outcomes: Vec<Result<Outcome>> = thread::scope(|scope| {
            let started: Vec<_> = group
                .iter()
                .map(|target| scope.spawn(|| house.fuzz(target, arguments.seconds, arguments.keep)))
                .collect();
            started.into_iter().map(|fuzzer| fuzzer.join().expect("a fuzzer does not panic")).collect()
        });
        for (target, outcome) in group.iter().zip(outcomes) {
            let outcome = outcome.with_context(|| format!("fuzzing {target}"))?;
            println!("{}", outcome.line(target, arguments));
            if outcome.finding.is_some() {
                verdict = Verdict::Fails;
            }
        }
    }
    Ok(verdict)
}

/// The names of the binaries of the manifest.
fn targets(manifest: &str) -> Vec<String> {
    let names = manifest.split("[[bin]]").skip(1).filter_map(|bin| {
        let line = bin.lines().find(|line| line.starts_with("name = "))?;
        line.split('"').nth(1).map(str::to_owned)
    });
    names.collect()
}

fn chosen(all: &[String], wanted: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        let message = format!("no fuzz target {unknown:?}\n  hint: one of {}", all.join(", "));
        return Err(Usage(message).into());
    }
    Ok(if wanted.is_empty() { all } else { wanted }.to_vec())
}

struct House<'a> {
    root: &'a Path,
    work: PathBuf,
}

/// How a target fared.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    executions: u64,
    /// How many inputs the kept corpus has.
    corpus: usize,
    /// The input that broke a promise, or the end of what the fuzzer said.
    finding: Option<String>,
}

impl Outcome {
    fn line(&self, target: &str, arguments: &Arguments) -> String {
        let Self { executions, corpus, finding } = self;
        let seconds = arguments.seconds;
        if arguments.json {
            let object = json!({
                "fuzz": target, "seconds": seconds, "executions": executions, "corpus": corpus, "finding": finding,
            });
            return object.to_string();
        }
        let said = finding.as_ref().map_or("no finding".to_owned(), |finding| format!("FINDING {finding}"));
        format!("{target:20} {seconds:6} s  {executions:>12} executions  {corpus:4} in the corpus  {said}")
    }
}

impl House<'_> {
    fn build(&self) -> Result<()> {
        let build = Command::new("rustup")
            .args(["run", "nightly", "cargo", "fuzz", "build"])
            .current_dir(self.root.join("fuzz"))
            .env("CARGO_TARGET_DIR", &self.work)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting rustup, which has to find a nightly compiler")?;
        let output = build.wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let end: Vec<&str> = said.lines().rev().take(20).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            bail!(
                "the fuzz targets were not built:\n{}\n  hint: rustup toolchain install nightly; cargo install cargo-fuzz",
                end.join("\n")
            );
        }
        Ok(())
    }

    fn program(&self, target: &str) -> Result<Command> {
        let host = fs::read_dir(&self.work)?
            .filter_map(|entry| Some(entry.ok()?.path().join("release").join(target)))
            .find(|path| path.is_file())
            .with_context(|| format!("{target} was built, but is not in {}", self.work.display()))?;
        Ok(Command::new(host))
    }

    fn fuzz(&self, target: &str, seconds: u64, keep: bool) -> Result<Outcome> {
        let folder = |name: &str| -> Result<PathBuf> {
            let path = self.work.join(name).join(target);
            fs::create_dir_all(&path)?;
            Ok(path)
        };
        let (found, artifacts) = (folder("corpus")?, folder("artifacts")?);
        let (kept, vectors) =
            (self.root.join("fuzz/corpus").join(target), self.root.join("tests/vectors").join(target));
        fs::create_dir_all(&kept)?;
        let output = self
            .program(target)?
            .args([&found, &kept, &vectors])
            .args([
                format!("-max_total_time={seconds}"),
                format!("-max_len={MAX_INPUT_BYTES}"),
                format!("-rss_limit_mb={MAX_MEMORY_MIB}"),
                format!("-timeout={MAX_SECONDS_FOR_ONE}"),
                "-print_final_stats=1".to_owned(),
                format!("-artifact_prefix={}/", artifacts.display()),
            ])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        let finding = (!output.status.success()).then(|| finding(&said));
        if keep && finding.is_none() {
            self.keep(target, &found, &kept, &vectors)?;
        }
        Ok(Outcome { executions: executions(&said)?, corpus: fs::read_dir(&kept)?.count(), finding })
    }

    /// Replaces the kept corpus by the smallest of the fewest inputs that cover, beside the vectors, as much as everything that was
    /// found.
    fn keep(&self, target: &str, found: &Path, kept: &Path, vectors: &Path) -> Result<()> {
        let fresh = self.work.join("kept").join(target);
        if fresh.exists() {
            fs::remove_dir_all(&fresh)?;
        }
        fs::create_dir_all(&fresh)?;
        for vector in fs::read_dir(vectors)? {
            let vector = vector?;
            fs::copy(vector.path(), fresh.join(vector.file_name()))?;
        }
        let merged = self
            .program(target)?
            .arg("-set_cover_merge=1")
            .args([&fresh, &kept.to_owned(), &found.to_owned()])
            .output()?;
        ensure!(merged.status.success(), "merging: {}", String::from_utf8_lossy(&merged.stderr));
        fs::remove_dir_all(kept)?;
        fs::create_dir_all(kept)?;
        let mut inputs = Vec::new();
        for input in fs::read_dir(&fresh)? {
            let input = input?;
            if !vectors.join(input.file_name()).exists() {
                inputs.push((input.metadata()?.len(), input.file_name()));
            }
        }
        for name in smallest(inputs) {
            fs::copy(fresh.join(&name), kept.join(&name))?;
        }
        Ok(())
    }
}

/// The names of the inputs that a corpus keeps, given with their sizes.
fn smallest<N: Ord>(mut inputs: Vec<(u64, N)>) -> Vec<N> {
    inputs.sort();
    let small = inputs.into_iter().filter(|(bytes, _)| *bytes <= KEPT_INPUT_BYTES);
    small.take(KEPT_INPUTS).map(|(_, name)| name).collect()
}

/// What libFuzzer counted; it says so at its end, also after a finding.
fn executions(said: &str) -> Result<u64> {
    let line = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    line.and_then(|n| n.trim().parse().ok())
        .with_context(|| format!("libFuzzer did not say what it did: {said}"))
}

/// The file that libFuzzer wrote, else the last that it said.
fn finding(said: &str) -> String {
    let written =
        said.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path));
    written.or_else(|| said.lines().last()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_manifest() {
        let manifest =
            "[package]\nname = \"p\"\n[[bin]]\nname = \"a\"\npath = \"x.rs\"\n\n[[bin]]\nname = \"b\"\n";
        let all = targets(manifest);
        assert_eq!(all, ["a", "b"]);
        assert_eq!(chosen(&all, &[]).unwrap(), all);
        assert_eq!(chosen(&all, &["b".to_owned()]).unwrap(), ["b"]);
        assert!(chosen(&all, &["c".to_owned()]).unwrap_err().is::<Usage>());
    }

    #[test]
    fn a_corpus_keeps_few_and_small_inputs() {
        assert_eq!(smallest(vec![(9, "b"), (2000, "c"), (9, "a"), (1, "d")]), ["d", "a", "b"]);
        let many: Vec<(u64, usize)> = (0..100).map(|i| (100 - i as u64, i)).collect();
        let kept = smallest(many);
        assert_eq!((kept.len(), kept[0]), (KEPT_INPUTS, 99));
    }

    #[test]
    fn what_the_fuzzer_says_is_read() {
        let said = "#1 INITED\nstat::number_of_executed_units: 2048\nstat::peak_rss_mb: 50\n";
        assert_eq!(executions(said).unwrap(), 2048);
        assert!(executions("Killed").is_err());
        let crash = "panicked\nartifact_prefix='a/'; Test unit written to a/crash-1\nBase64: AA==\n";
        assert_eq!(finding(crash), "a/crash-1");
        assert_eq!(finding("x\nout of memory"), "out of memory");
    }
}

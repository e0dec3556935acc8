//! `cargo xtask vectors`: the golden vectors of the formats, and the kernels against CORE-MATH on every input.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;
use crate::Verdict;

/// What to hold against what.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write the golden vectors anew, after a format changed on purpose.
    #[arg(long, conflicts_with = "exhaustive")]
    write: bool,
    /// Compare these functions with CORE-MATH on all 2³² inputs instead.
    #[arg(long, value_name = "FN", num_args = 1..)]
    exhaustive: Vec<String>,
}

/// Fails when a vector is not what this version writes, a decoder takes what it must not, or a bit differs.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<Verdict> {
    let mut command = Command::new("cargo");
    command.current_dir(&workspace.root);
    if !arguments.exhaustive.is_empty() {
        command.args([
            "run",
            "--release",
            "--quiet",
            "--package",
            "bitproof-kernels",
            "--example",
            "exhaustive",
            "--",
        ]);
        command.args(&arguments.exhaustive);
    } else if arguments.write {
        command.args(["run", "--quiet", "--package", "bitproof-tests", "--bin", "vectors"]);
    } else {
        command.args(["test", "--package", "bitproof-tests", "--test", "integration", "vectors::"]);
    }
    Ok(Verdict::of(command.status().context("starting cargo")?.success()))
}

//! What is done to the workspace as a whole: `cargo xtask test`, `tidy`, `gate`, `bench`, `fuzz` and `vectors`.
//!
//! It depends on no crate of the workspace, so that it builds in seconds and can judge a tree that does not compile.
//! Exit codes are those of the `bitproof` command: 0 it holds, 1 it does not, 2 bad usage, 3 it could not be found out.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a task runner prints")]
#![expect(
    clippy::disallowed_methods,
    reason = "it reads PATH and CI and times its steps; nothing here reaches a recorded byte"
)]

mod bench;
mod fuzz;
mod gate;
mod isa;
mod test;
mod tidy;
mod vectors;
mod workspace;

use std::fmt;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

fn main() -> ExitCode {
    let arguments = Xtask::parse();
    match run(&arguments.task) {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::Fails) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 2 } else { 3 })
        }
    }
}

fn run(task: &Task) -> anyhow::Result<Verdict> {
    let workspace = Workspace::load()?;
    match task {
        Task::Test { area } => test::run(&workspace, area.as_deref()),
        Task::Tidy => tidy::run(&workspace),
        Task::Gate { only, json } => gate::run(&workspace, *only, *json),
        Task::Bench(arguments) => bench::run(&workspace, arguments),
        Task::Fuzz(arguments) => fuzz::run(&workspace, arguments),
        Task::Vectors(arguments) => vectors::run(&workspace, arguments),
    }
}

/// Tasks of the Bitproof workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Xtask {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Check everything that CI checks about correctness.
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test clippy\n  cargo xtask test bitproof-kernels"
    )]
    Test {
        /// One of fmt, clippy, tidy, unit, doc, package, deny, isa; or a package, for its own format, lints, tests and docs.
        area: Option<String>,
    },
    /// Check what the compiler cannot: layers, manifests, the code map, sources, licences.
    #[command(after_help = "Example:\n  cargo xtask tidy")]
    Tidy,
    /// Judge the release build by the release gates. Each has a negative control.
    #[command(after_help = "Example:\n  cargo xtask gate --only replay --json")]
    Gate {
        /// Judge by this one alone.
        #[arg(long, value_enum)]
        only: Option<gate::Name>,
        /// Print one JSON object on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Measure time and memory, one line for each measurement.
    #[command(
        after_help = "Examples:\n  cargo xtask bench kernels --save before\n  cargo xtask bench kernels --against before"
    )]
    Bench(bench::Arguments),
    /// Fuzz the decoders, from the golden vectors and the kept corpus. Needs cargo-fuzz and a nightly compiler.
    #[command(
        after_help = "Examples:\n  cargo xtask fuzz note tlog_proof\n  cargo xtask fuzz --seconds 600 --jobs 2 --keep"
    )]
    Fuzz(fuzz::Arguments),
    /// Hold the golden vectors and the decoders against each other, or functions against CORE-MATH on every input.
    #[command(after_help = "Examples:\n  cargo xtask vectors\n  cargo xtask vectors --exhaustive exp log")]
    Vectors(vectors::Arguments),
}

/// What a task found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Holds,
    Fails,
}

impl Verdict {
    fn of(holds: bool) -> Verdict {
        if holds {
            Verdict::Holds
        } else {
            Verdict::Fails
        }
    }
}

/// An argument that clap could not judge.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Whether this is a CI machine, where what is skipped on a laptop has to be there.
fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

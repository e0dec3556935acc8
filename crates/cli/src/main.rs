//! The `bitproof` command: arguments, output and exit codes. What it does lives in the crates below it.

mod args;
mod commands;
mod context;
mod controls;
mod divergence;
mod exit;
mod inputs;
mod output;
mod progress;

fn main() -> std::process::ExitCode {
    context::main().code()
}

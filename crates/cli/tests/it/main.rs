//! The binary as a user meets it.
#![expect(clippy::print_stdout, reason = "a test that skips a tier says so")]

mod audit;
mod commands;
mod controls;
mod examples;
mod exec;
mod interrupt;
mod matrix;
mod process;
mod project;
mod reference;
mod replay;
mod steps;
mod tools;
mod training;
mod venv;

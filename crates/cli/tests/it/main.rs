//! The binary as a user meets it.

mod audit;
mod examples;
mod process;
mod project;
mod reference;
mod venv;

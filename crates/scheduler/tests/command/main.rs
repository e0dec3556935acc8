//! Commands as a user may write them, and as one may not: what each tier keeps from them, what they leave, how they end.

#![expect(clippy::print_stdout, reason = "a test that skips a tier says so")]

#[cfg(target_os = "linux")]
mod isolation;
mod outputs;
#[cfg(target_os = "linux")]
mod processes;
mod stage;
mod surroundings;

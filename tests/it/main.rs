//! Integration tests across the crates, in-process.

mod replay;
mod tamper;

//! Integration tests across the crates, in-process.
#![expect(clippy::print_stdout, reason = "exhaustive tests print how many cases they tried")]

mod accuracy;
mod attestation;
mod crash;
mod forge;
mod forgery;
mod formats;
mod gc;
mod governance;
mod models;
mod oracles;
mod replay;
mod statements;
mod steps;
mod tamper;
mod torch;
mod vectors;

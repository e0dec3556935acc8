//! Measurements of the crates in one format: wall time, memory and the digest of what was computed, so that a number is
//! never compared with a number for other bits.
//!
//! # Invariants
//! - What is measured repeats: a result that differs from the repetition before it is an error, not a measurement.
//! - Inputs come from fixed random streams: a digest is the same on every machine.
//!
//! # Where to start
//! [`Harness::measure`] takes one measurement; [`areas`] lists what `cargo xtask bench` runs. The Criterion benches under
//! `benches/` time the same inputs with statistics over many samples.
//!
//! ```
//! use bitproof_benches::{Budget, Harness};
//! use bitproof_telemetry::SystemMonotonic;
//!
//! let clock = SystemMonotonic::new();
//! let harness = Harness::new(&clock, Budget { repetitions: 3..=3, wall_ns: 0, calls: 1 });
//! let sum = harness.measure("sum/1000", 1, || (0..1000u64).sum::<u64>(), |sum| sum.to_le_bytes().to_vec())?;
//! assert_eq!(sum.to_json()["bench"], "sum/1000");
//! # Ok::<(), bitproof_benches::Unrepeatable>(())
//! ```

mod areas;
mod harness;
pub mod inputs;
pub mod peers;

pub use areas::{areas, Area};
pub use harness::{Budget, Contender, Harness, InProcess, Items, Measurement, Peer, Unrepeatable};

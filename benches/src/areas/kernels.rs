//! The kernels that a training spends its time in.

mod attention;
mod broadcasts;
mod case;
mod convolutions;
mod elementary;
mod products;
mod reductions;
mod rows;
mod scaling;
mod updates;

use bitproof_kernels::{fused_multiply_add_peak, permutation};
use bitproof_telemetry::{Monotonic as _, SystemMonotonic};

use super::{emit_all, thread_counts, Emit};
use crate::harness::{Harness, Unrepeatable};
use crate::inputs::{self, PERMUTATION_LENGTHS};

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let peak = peak_of_core();
    products::run(harness, peak, emit)?;
    reductions::run(harness, emit)?;
    elementary::run(harness, emit)?;
    rows::run(harness, emit)?;
    updates::run(harness, emit)?;
    convolutions::run(harness, peak, emit)?;
    attention::run(harness, peak, emit)?;
    broadcasts::run(harness, emit)?;
    permutations(harness, emit)?;
    scaling::run(harness, emit)
}

/// Floating-point operations a nanosecond that one core does at the most: the best of several rounds of a millisecond or so.
fn peak_of_core() -> f64 {
    let clock = SystemMonotonic::new();
    let rate = |_| {
        let started = clock.now_ns();
        let (operations, sum) = fused_multiply_add_peak(300_000);
        assert!(sum.is_finite());
        operations as f64 / (clock.now_ns() - started).max(1) as f64
    };
    (0..50).map(rate).fold(0.0, f64::max)
}

fn permutations(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for length in PERMUTATION_LENGTHS {
        let work = || permutation(length, inputs::key(b"shuffle "));
        let bytes = |order: &Vec<u32>| order.iter().flat_map(|item| item.to_le_bytes()).collect();
        // A shuffle is one chain of draws: more threads are of no use to it.
        emit_all([harness.measure(&format!("permutation/{length}"), 1, work, bytes)], emit)?;
    }
    Ok(())
}

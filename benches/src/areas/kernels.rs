//! The kernels that a training spends its time in.

use bitproof_kernels::{
    fused_multiply_add_peak, matmul_into, permutation, softmax_cross_entropy, with_threads, Start,
};
use bitproof_telemetry::{Monotonic as _, SystemMonotonic};
use ndarray::Array2;
use std::sync::Mutex;

use super::{emit_all, thread_counts, Emit};
use crate::harness::{Harness, Items, Measurement, Unrepeatable};
use crate::inputs::{self, MATMUL_CASES, PERMUTATION_LENGTHS, SOFTMAX_SHAPES};
use crate::peers::ProductCase;

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    products(harness, emit)?;
    for (rows, classes) in SOFTMAX_SHAPES {
        let (logits, labels) = (inputs::matrix(rows, classes, b"logits  "), inputs::labels(rows, classes));
        let name = format!("softmax_cross_entropy/{rows}x{classes}");
        let work = || softmax_cross_entropy(logits.view(), &labels).expect("the labels fit");
        let bytes = |(losses, gradient): &(Vec<f32>, _)| {
            let gradient: &ndarray::Array2<f32> = gradient;
            floats(losses.iter().chain(gradient))
        };
        on_every_thread_count(harness, &name, work, bytes, emit)?;
    }
    for length in PERMUTATION_LENGTHS {
        let work = || permutation(length, inputs::key(b"shuffle "));
        let bytes = |order: &Vec<u32>| order.iter().flat_map(|item| item.to_le_bytes()).collect();
        // A shuffle is one chain of draws: more threads are of no use to it.
        emit_all([harness.measure(&format!("permutation/{length}"), 1, work, bytes)], emit)?;
    }
    Ok(())
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

/// The products of the design, and two that meet every edge of tiles and blocks.
fn products(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let peak = peak_of_core();
    for (shape, form) in MATMUL_CASES {
        let case = ProductCase::new(shape, form);
        let (m, k, n) = shape;
        let items = Items { count: 2 * (m * k * n) as u64, of: "flop" };
        let name = format!("matmul/{}", case.name);
        // Shared with the closure that reads the result.
        let c = Mutex::new(Array2::zeros((m, n)));
        let lock = || c.lock().expect("nobody panics while multiplying");
        let mut digest = None;
        for threads in thread_counts() {
            let mut peers = harness.peers().map_or_else(Vec::new, |pythons| case.peers(threads, pythons));
            let measured = with_threads(threads, || {
                let work = || {
                    matmul_into(case.a(), case.b(), Start::Zero, lock().view_mut()).expect("the shapes fit");
                };
                let bytes = |()| floats(lock().iter());
                harness.measure_against_all((&name, threads, items), work, |&()| bytes(()), &mut peers)
            })?;
            let on_threads = |one: Measurement| Measurement { peak: Some(peak * threads as f64), ..one };
            for one in measured.into_iter().map(on_threads) {
                let expected = *digest.get_or_insert(one.result_digest);
                if one.result_digest != expected {
                    let (bench, got) = (one.bench, one.result_digest);
                    return Err(Unrepeatable { bench, threads, expected, got });
                }
                emit(one);
            }
        }
    }
    Ok(())
}

fn on_every_thread_count<R: Send>(
    harness: &Harness<'_>,
    name: &str,
    work: impl Fn() -> R + Sync,
    bytes: impl Fn(&R) -> Vec<u8> + Sync,
    emit: &mut Emit<'_>,
) -> Result<(), Unrepeatable> {
    let measure = |threads| with_threads(threads, || harness.measure(name, threads, &work, &bytes));
    emit_all(thread_counts().into_iter().map(measure), emit)
}

fn floats<'a>(values: impl Iterator<Item = &'a f32>) -> Vec<u8> {
    values.flat_map(|value| value.to_le_bytes()).collect()
}

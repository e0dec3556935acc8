//! The kernels that a training spends its time in.

use bitproof_kernels::{matmul, permutation, softmax_cross_entropy, with_threads};

use super::{emit_all, thread_counts, Emit};
use crate::harness::{Harness, Unrepeatable};
use crate::inputs::{self, MATMUL_SHAPES, PERMUTATION_LENGTHS, SOFTMAX_SHAPES};

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for (m, k, n) in MATMUL_SHAPES {
        let (a, b) = (inputs::matrix(m, k, b"operandA"), inputs::matrix(k, n, b"operandB"));
        let name = format!("matmul/{m}x{k}x{n}");
        let work = || matmul(a.view(), b.view()).expect("the shapes fit");
        on_every_thread_count(harness, &name, work, |c| floats(c.iter()), emit)?;
    }
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

//! Matrix products: those of the design, and two that meet every edge of tiles and blocks.

use std::sync::Mutex;

use bitproof_kernels::{matmul_into, with_threads, Start};
use ndarray::Array2;

use super::case::{each_number_of_threads, floats};
use super::Emit;
use crate::harness::{Harness, Items, Unrepeatable};
use crate::inputs::MATMUL_CASES;
use crate::peers::ProductCase;

pub(super) fn run(harness: &Harness<'_>, peak: f64, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    for (shape, form) in MATMUL_CASES {
        let case = ProductCase::new(shape, form);
        let (m, k, n) = shape;
        let items = Items { count: 2 * (m * k * n) as u64, of: "flop" };
        let name = format!("matmul/{}", case.name);
        // Shared with the closure that reads the result.
        let c = Mutex::new(Array2::zeros((m, n)));
        let on = |threads: usize| {
            let mut peers = harness.peers().map_or_else(Vec::new, |pythons| case.peers(threads, pythons));
            with_threads(threads, || {
                let lock = || c.lock().expect("nobody panics while multiplying");
                let work = || {
                    matmul_into(case.a(), case.b(), Start::Zero, lock().view_mut()).expect("the shapes fit");
                };
                harness.measure_against_all(
                    (&name, threads, items),
                    work,
                    |&()| floats(lock().iter()),
                    &mut peers,
                )
            })
        };
        each_number_of_threads(Some(peak), on, emit)?;
    }
    Ok(())
}

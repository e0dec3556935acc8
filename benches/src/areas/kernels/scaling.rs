//! How the cost grows with the size, on one thread: each size is measured, and the exponent is fitted to all of them.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use bitproof_kernels::{
    binary_into, embedding_into, matmul_into, with_threads, Batches, Binary, LastBatch, PrefetchBatches,
    Start,
};
use ndarray::{s, Array2};

use super::case::pieces;
use super::{emit_all, Emit};
use crate::harness::{Budget, Harness, Measurement, Unrepeatable};
use crate::inputs;

/// Each size is that of the first, times one of these.
const FACTORS: [usize; 5] = [1, 2, 4, 8, 16];
/// Columns of the matrices that are broadcast over.
const COLUMNS: usize = 256;
/// Columns of a dataset.
const FEATURES: usize = 16;
/// Rows of a batch.
const BATCH: usize = 64;

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let budget = Budget { wall_ns: 200_000_000, ..Budget::default() };
    let harness = &harness.within(budget);
    family("scaling/broadcast", 64, |name, rows| broadcast(harness, name, rows), emit)?;
    family("scaling/matmul", 64, |name, side| product(harness, name, side), emit)?;
    family("scaling/batches", 4096, |name, rows| batches(harness, name, rows), emit)?;
    family("scaling/prefetch", 4096, |name, rows| prefetched(harness, name, rows), emit)
}

/// Measures the sizes, and after them passes on the largest once more under the family's own name, with the exponent.
fn family(
    name: &str,
    first: usize,
    measure: impl Fn(&str, usize) -> Result<Measurement, Unrepeatable>,
    emit: &mut Emit<'_>,
) -> Result<(), Unrepeatable> {
    let mut points = Vec::new();
    let mut largest = None;
    for size in FACTORS.map(|factor| first * factor) {
        let measured = measure(&format!("{name}/{size}"), size)?;
        points.push((size as f64, measured.wall_ns.max(1) as f64));
        largest = Some(measured.clone());
        emit_all([Ok(measured)], emit)?;
    }
    let fitted = |one| Ok(Measurement { bench: name.to_owned(), exponent: Some(exponent(&points)), ..one });
    emit_all(largest.map(fitted), emit)
}

/// The slope of log time over log size by least squares: p for a time of c·sizeᵖ.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let logarithm = |x: f64| f64::from(bitproof_kernels::elementary::log(x as f32));
    let logs: Vec<(f64, f64)> =
        points.iter().map(|&(size, time)| (logarithm(size), logarithm(time))).collect();
    let mean = |values: &dyn Fn(&(f64, f64)) -> f64| logs.iter().map(values).sum::<f64>() / logs.len() as f64;
    let (mean_x, mean_y) = (mean(&|point| point.0), mean(&|point| point.1));
    let covariance = mean(&|(x, y)| (x - mean_x) * (y - mean_y));
    covariance / mean(&|(x, _)| (x - mean_x) * (x - mean_x))
}

fn broadcast(harness: &Harness<'_>, name: &str, rows: usize) -> Result<Measurement, Unrepeatable> {
    let (matrix, row) = (inputs::matrix(rows, COLUMNS, b"features"), inputs::tensor(COLUMNS, b"bias    "));
    let work = |out: &mut Array2<f32>| {
        binary_into(Binary::Add, matrix.view(), row.view(), out.view_mut()).expect("the shapes fit");
    };
    into(harness, name, Array2::zeros(matrix.dim()), work)
}

fn product(harness: &Harness<'_>, name: &str, side: usize) -> Result<Measurement, Unrepeatable> {
    let [a, b] = [b"operandA", b"operandB"].map(|name| inputs::matrix(side, side, name));
    let work = |c: &mut Array2<f32>| {
        matmul_into(a.view(), b.view(), Start::Zero, c.view_mut()).expect("the shapes fit");
    };
    into(harness, name, Array2::zeros((side, side)), work)
}

/// An epoch: the shuffle, and every batch gathered.
fn batches(harness: &Harness<'_>, name: &str, rows: usize) -> Result<Measurement, Unrepeatable> {
    let dataset = inputs::matrix(rows, FEATURES, b"features");
    let work = |epoch: &mut Array2<f32>| {
        for (number, batch) in shuffled(rows).iter().enumerate() {
            let first = number * BATCH;
            let out = epoch.slice_mut(s![first..first + batch.len(), ..]);
            embedding_into(dataset.view(), batch, out).expect("the rows are there");
        }
    };
    into(harness, name, Array2::zeros((rows, FEATURES)), work)
}

/// The same, two batches ahead on a thread of its own.
fn prefetched(harness: &Harness<'_>, name: &str, rows: usize) -> Result<Measurement, Unrepeatable> {
    let dataset = Arc::new(inputs::matrix(rows, FEATURES, b"features"));
    let work = |epoch: &mut Array2<f32>| {
        let source = Arc::clone(&dataset);
        let gather = move |batch: &[u32]| {
            let mut out = Array2::zeros((batch.len(), FEATURES));
            embedding_into(source.view(), batch, out.view_mut()).expect("the rows are there");
            out
        };
        let ahead = NonZeroUsize::new(2).expect("two is not zero");
        let made = PrefetchBatches::new(shuffled(rows), 0, ahead, gather).expect("the system has a thread");
        for (number, batch) in made.enumerate() {
            let first = number * BATCH;
            epoch.slice_mut(s![first..first + batch.nrows(), ..]).assign(&batch);
        }
    };
    into(harness, name, Array2::zeros((rows, FEATURES)), work)
}

fn shuffled(rows: usize) -> Batches {
    let size = NonZeroUsize::new(BATCH).expect("it is not zero");
    let rows = u32::try_from(rows).expect("the sizes are small");
    Batches::shuffled(rows, size, LastBatch::Keep, inputs::key(b"shuffle "))
}

fn into(
    harness: &Harness<'_>,
    name: &str,
    out: Array2<f32>,
    work: impl Fn(&mut Array2<f32>) + Sync,
) -> Result<Measurement, Unrepeatable> {
    // Shared with the closure that reads the result.
    let out = Mutex::new(out);
    let lock = || out.lock().expect("nobody panics while working");
    with_threads(1, || harness.measure(name, 1, || work(&mut lock()), |&()| pieces(lock().iter())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_telemetry::ManualClock;

    fn of(time: impl Fn(f64) -> f64) -> f64 {
        exponent(&FACTORS.map(|factor| (factor as f64 * 100.0, time(factor as f64))))
    }

    #[test]
    fn the_exponent_of_a_power_law_is_its_power() {
        for power in [0, 1, 2, 3] {
            let found = of(|size| (0..power).fold(7.0, |time, _| time * size));
            assert!((found - f64::from(power)).abs() < 1e-5, "{found} for {power}");
        }
        assert!((of(f64::sqrt) - 0.5).abs() < 1e-5);
        let mixed = of(|size| 20.0 * size + size * size);
        assert!(mixed > 1.1 && mixed < 1.9, "neither linear nor quadratic: {mixed}");
    }

    #[test]
    fn a_family_ends_with_its_exponent() {
        let clock = ManualClock::default();
        let harness = Harness::new(&clock, Budget { repetitions: 1..=1, wall_ns: 0, calls: 1 });
        let squared = |name: &str, size: usize| {
            harness.measure(name, 1, || clock.advance_ns((size * size) as u64), |()| Vec::new())
        };
        let mut seen = Vec::new();
        family("square", 10, squared, &mut |one| seen.push(one)).unwrap();
        let names: Vec<&str> = seen.iter().map(|one| one.bench.as_str()).collect();
        assert_eq!(names, ["square/10", "square/20", "square/40", "square/80", "square/160", "square"]);
        let last = &seen[5];
        assert!((last.exponent.unwrap() - 2.0).abs() < 1e-5 && last.wall_ns == 25_600);
        assert!(seen[..5].iter().all(|one| one.exponent.is_none()));
    }

    #[test]
    fn both_ways_to_make_batches_make_the_same_ones() {
        let clock = ManualClock::default();
        let harness = Harness::new(&clock, Budget { repetitions: 1..=1, wall_ns: 0, calls: 1 });
        let digest = |found: Result<Measurement, Unrepeatable>| found.unwrap().result_digest;
        let one = digest(batches(&harness, "x", 200));
        assert_eq!(one, digest(prefetched(&harness, "x", 200)));
        assert_ne!(one, digest(batches(&harness, "x", 201)));
    }
}

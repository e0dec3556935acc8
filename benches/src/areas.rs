//! What `cargo xtask bench` can measure.

mod audit;
mod chain;
mod kernels;
mod ledger;
mod scheduler;
mod training;

use std::num::NonZeroUsize;

use crate::harness::{Harness, Measurement, Unrepeatable};

/// A group of measurements.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    /// Its name on the command line.
    pub name: &'static str,
    run: fn(&Harness<'_>, &mut Emit<'_>) -> Result<(), Unrepeatable>,
}

/// Takes each measurement as soon as it is there.
type Emit<'a> = dyn FnMut(Measurement) + 'a;

impl Area {
    /// Measures everything in it and hands each measurement over as soon as it is there.
    ///
    /// # Errors
    /// [`Unrepeatable`] when two repetitions give different bits, on one number of threads or on two.
    pub fn run(&self, harness: &Harness<'_>, mut emit: impl FnMut(Measurement)) -> Result<(), Unrepeatable> {
        (self.run)(harness, &mut emit)
    }
}

/// All areas, in the order in which they run.
pub fn areas() -> Vec<Area> {
    vec![
        Area { name: "kernels", run: kernels::run },
        Area { name: "audit", run: audit::run },
        Area { name: "ledger", run: ledger::run },
        Area { name: "scheduler", run: scheduler::run },
        Area { name: "training", run: training::run },
    ]
}

/// One thread, and as many as there are processors if that is more.
fn thread_counts() -> Vec<usize> {
    let all = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if all > 1 {
        vec![1, all]
    } else {
        vec![1]
    }
}

/// Passes measurements on and holds each against the one before: threads must not change a bit.
fn emit_all(
    measurements: impl IntoIterator<Item = Result<Measurement, Unrepeatable>>,
    emit: &mut Emit<'_>,
) -> Result<(), Unrepeatable> {
    let mut before = None;
    for measurement in measurements {
        let measurement = measurement?;
        let (got, threads) = (measurement.result_digest, measurement.threads);
        let expected = *before.get_or_insert(got);
        if got != expected {
            return Err(Unrepeatable { bench: measurement.bench, threads, expected, got });
        }
        emit(measurement);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budget;
    use bitproof_core_ledger::digest::Digest;
    use bitproof_telemetry::ManualClock;

    #[test]
    fn threads_that_change_a_bit_are_an_error() {
        let clock = ManualClock::default();
        let harness = Harness::new(&clock, Budget { repetitions: 1..=1, wall_ns: 0, calls: 1 });
        let on = |threads: usize, result: u8| harness.measure("x", threads, || result, |&byte| vec![byte]);
        let mut seen = Vec::new();
        emit_all([on(1, 5), on(2, 5)], &mut |m| seen.push(m.threads)).unwrap();
        assert_eq!(seen, [1, 2]);
        let error = emit_all([on(1, 5), on(2, 6)], &mut |_| ()).unwrap_err();
        assert_eq!((error.threads, error.got), (2, Digest::of_bytes(&[6])));
    }

    #[test]
    fn names_differ() {
        let names: std::collections::BTreeSet<&str> = areas().iter().map(|area| area.name).collect();
        assert_eq!(names.len(), areas().len());
    }
}

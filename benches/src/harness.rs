//! Repeats a piece of work and says what it took.

use std::error::Error;
use std::fmt;
use std::hint::black_box;
use std::ops::RangeInclusive;

use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_telemetry::{peak_rss_bytes, rss_bytes, Monotonic};
use serde_json::{json, Value};

/// Takes measurements with one clock and one budget.
pub struct Harness<'a> {
    clock: &'a dyn Monotonic,
    budget: Budget,
}

/// How often a piece of work is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// At least and at most so many times, after one repetition that is not counted.
    pub repetitions: RangeInclusive<usize>,
    /// Between the two, until this much time was measured, in nanoseconds.
    pub wall_ns: u64,
}

impl Default for Budget {
    /// 10 to 200 repetitions, about a second.
    fn default() -> Self {
        Self { repetitions: 10..=200, wall_ns: 1_000_000_000 }
    }
}

/// What one piece of work took, and what it computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// Area and size: `matmul/512x512x512`.
    pub bench: String,
    /// Threads that it ran on.
    pub threads: usize,
    /// The median over all repetitions, in nanoseconds.
    pub wall_ns: u64,
    /// The 95th percentile (nearest rank), in nanoseconds.
    pub wall_ns_p95: u64,
    /// By how much the resident set grew from the warm-up's end to the last repetition's; 0 where it cannot be read.
    pub memory_delta_bytes: i64,
    /// The largest resident set of the process so far; 0 where it cannot be read.
    pub peak_rss_bytes: u64,
    /// BLAKE3 of the result's bytes.
    pub result_digest: Digest<Content>,
}

/// Two repetitions gave different bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrepeatable {
    /// Which measurement.
    pub bench: String,
    /// On how many threads.
    pub threads: usize,
    /// The digest before.
    pub expected: Digest<Content>,
    /// The digest of the repetition that differed.
    pub got: Digest<Content>,
}

impl fmt::Display for Unrepeatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bench, threads, expected, got } = self;
        write!(
            f,
            "{bench} on {threads} threads gave {got} after {expected}: the same work must give the same bits"
        )
    }
}

impl Error for Unrepeatable {}

impl<'a> Harness<'a> {
    /// A harness that reads `clock`.
    pub fn new(clock: &'a dyn Monotonic, budget: Budget) -> Self {
        Self { clock, budget }
    }

    /// Repeats `work` and times it. `bytes` gives the little-endian bytes of its result, outside the measured time.
    ///
    /// # Errors
    /// [`Unrepeatable`] when a repetition gives other bytes than the warm-up.
    pub fn measure<R>(
        &self,
        bench: &str,
        threads: usize,
        mut work: impl FnMut() -> R,
        bytes: impl Fn(&R) -> Vec<u8>,
    ) -> Result<Measurement, Unrepeatable> {
        let digest = |result: &R| Digest::of_bytes(&bytes(result));
        let expected = digest(&work());
        let rss_before = rss_bytes();
        let mut walls = Vec::new();
        let mut total_ns = 0u64;
        while walls.len() < *self.budget.repetitions.start()
            || (walls.len() < *self.budget.repetitions.end() && total_ns < self.budget.wall_ns)
        {
            let started = self.clock.now_ns();
            let result = black_box(work());
            let wall_ns = self.clock.now_ns() - started;
            let got = digest(&result);
            if got != expected {
                return Err(Unrepeatable { bench: bench.to_owned(), threads, expected, got });
            }
            walls.push(wall_ns);
            total_ns += wall_ns;
        }
        walls.sort_unstable();
        let delta = |before: u64| rss_bytes().unwrap_or(before).cast_signed() - before.cast_signed();
        Ok(Measurement {
            bench: bench.to_owned(),
            threads,
            wall_ns: nearest_rank(&walls, 50),
            wall_ns_p95: nearest_rank(&walls, 95),
            memory_delta_bytes: rss_before.map_or(0, delta),
            peak_rss_bytes: peak_rss_bytes().unwrap_or(0),
            result_digest: expected,
        })
    }
}

/// The smallest value that is not below `percent` of all; 0 of none.
fn nearest_rank(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

impl Measurement {
    /// The line that `cargo xtask bench --json` prints.
    pub fn to_json(&self) -> Value {
        json!({
            "bench": self.bench,
            "threads": self.threads,
            "wall_ns": self.wall_ns,
            "wall_ns_p95": self.wall_ns_p95,
            "memory_delta_bytes": self.memory_delta_bytes,
            "peak_rss_bytes": self.peak_rss_bytes,
            "result_digest": self.result_digest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_telemetry::ManualClock;

    #[test]
    fn median_percentile_and_digest_of_work_on_a_moved_clock() {
        let clock = ManualClock::default();
        let harness = Harness::new(&clock, Budget { repetitions: 20..=20, wall_ns: 0 });
        let mut round = 0;
        let work = || {
            clock.advance_ns(round);
            round += 1;
            7u8
        };
        // The warm-up takes 0 ns and is not counted; then come 1 to 20 ns.
        let found = harness.measure("count/20", 3, work, |&seven| vec![seven]).unwrap();
        assert_eq!((found.wall_ns, found.wall_ns_p95, found.threads), (10, 19, 3));
        assert_eq!(found.result_digest, Digest::of_bytes(&[7]));
        let object = found.to_json();
        assert_eq!(object["bench"], "count/20");
        assert_eq!(object["result_digest"], found.result_digest.to_string());
        assert!(object.get("peer").is_none());
    }

    #[test]
    fn repetitions_end_with_the_time_or_the_number() {
        let clock = ManualClock::default();
        for (wall_ns, expected) in [(0, 2), (35, 4), (1_000, 6)] {
            let mut runs = 0;
            let work = || {
                clock.advance_ns(10);
                runs += 1;
            };
            let harness = Harness::new(&clock, Budget { repetitions: 2..=6, wall_ns });
            harness.measure("x", 1, work, |()| Vec::new()).unwrap();
            assert_eq!(runs, expected + 1, "and the warm-up");
        }
    }

    #[test]
    fn other_bits_are_no_measurement() {
        let clock = ManualClock::default();
        let harness = Harness::new(&clock, Budget { repetitions: 5..=5, wall_ns: 0 });
        let mut round = 0u8;
        let work = || {
            round += 1;
            round / 4
        };
        let error = harness.measure("drift", 2, work, |&byte| vec![byte]).unwrap_err();
        assert_eq!((error.expected, error.got), (Digest::of_bytes(&[0]), Digest::of_bytes(&[1])));
        assert!(error.to_string().starts_with("drift on 2 threads"));
    }
}

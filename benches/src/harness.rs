//! Repeats a piece of work and says what it took.

use std::error::Error;
use std::fmt;
use std::hint::black_box;
use std::ops::RangeInclusive;

use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_telemetry::{peak_rss_bytes, rss_bytes, Monotonic};
use serde_json::{json, Value};

use crate::peers::Python;

/// Takes measurements with one clock and one budget.
pub struct Harness<'a> {
    clock: &'a dyn Monotonic,
    budget: Budget,
    pythons: Option<Vec<Python>>,
}

/// How often a piece of work is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// At least and at most so many times, after one repetition that is not counted.
    pub repetitions: RangeInclusive<usize>,
    /// Between the two, until this much time was measured, in nanoseconds.
    pub wall_ns: u64,
    /// How many times the work is done in one repetition, which is then divided by it: work of less than a microsecond is shorter
    /// than a clock can tell.
    pub calls: usize,
}

impl Default for Budget {
    /// 10 to 200 repetitions, about a second.
    fn default() -> Self {
        Self { repetitions: 10..=200, wall_ns: 1_000_000_000, calls: 1 }
    }
}

/// What one piece of work took, and what it computed.
#[derive(Debug, Clone, PartialEq)]
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
    /// What the work consists of, where it is many of the same.
    pub items: Option<Items>,
    /// How long another program took for the same.
    pub peer: Option<Peer>,
    /// How many items a nanosecond this machine can do at the most, on as many threads, where that was measured.
    pub peak: Option<f64>,
    /// The power of the size that the time grows with, where several sizes were measured.
    pub exponent: Option<f64>,
}

/// How many of what a piece of work consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Items {
    /// How many.
    pub count: u64,
    /// Of what: `record`, `leaf`, `byte`.
    pub of: &'static str,
}

/// What another program took, its repetitions interleaved with ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it is.
    pub name: &'static str,
    /// The median over all repetitions, in nanoseconds.
    pub wall_ns: u64,
}

/// Another program that does the same.
pub trait Contender: Send {
    /// What it is.
    fn name(&self) -> &'static str;
    /// Does it so many times, and says how long one took, in nanoseconds.
    fn wall_ns(&mut self, calls: usize, clock: &dyn Monotonic) -> u64;
}

/// A contender in this process.
pub struct InProcess<F> {
    /// What it is.
    pub name: &'static str,
    /// Its work; what the last call returns is thrown away outside the measured time.
    pub work: F,
}

impl<P, F: FnMut() -> P + Send> Contender for InProcess<F> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn wall_ns(&mut self, calls: usize, clock: &dyn Monotonic) -> u64 {
        let started = clock.now_ns();
        let result = repeated(calls, &mut self.work);
        let wall_ns = clock.now_ns() - started;
        drop(result);
        wall_ns / calls.max(1) as u64
    }
}

/// The result of the last of so many calls, one at the least.
fn repeated<R>(calls: usize, mut work: impl FnMut() -> R) -> R {
    for _ in 1..calls {
        black_box(work());
    }
    black_box(work())
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
        Self { clock, budget, pythons: None }
    }

    /// The same, which also measures other people's programs for the same work, where they are there.
    #[must_use]
    pub fn asking_peers(self, pythons: Vec<Python>) -> Self {
        Self { pythons: Some(pythons), ..self }
    }

    /// The same clock and peers with another budget.
    #[must_use]
    pub fn within(&self, budget: Budget) -> Self {
        Self { clock: self.clock, budget, pythons: self.pythons.clone() }
    }

    /// The Python libraries to measure against; `None` where no peers are asked.
    pub fn peers(&self) -> Option<&[Python]> {
        self.pythons.as_deref()
    }

    /// Repeats `work` and times it. `bytes` gives the little-endian bytes of its result, outside the measured time.
    ///
    /// # Errors
    /// [`Unrepeatable`] when a repetition gives other bytes than the warm-up.
    pub fn measure<R>(
        &self,
        bench: &str,
        threads: usize,
        work: impl FnMut() -> R,
        bytes: impl Fn(&R) -> Vec<u8>,
    ) -> Result<Measurement, Unrepeatable> {
        let measured = self.interleaved(bench, threads, work, bytes, &mut [])?;
        Ok(measured.0)
    }

    /// As [`Harness::measure`]; after each repetition `peer` does the same in its own way.
    ///
    /// # Errors
    /// As [`Harness::measure`].
    pub fn measure_against<R, P>(
        &self,
        (bench, threads, items): (&str, usize, Items),
        work: impl FnMut() -> R,
        bytes: impl Fn(&R) -> Vec<u8>,
        name: &'static str,
        peer: impl FnMut() -> P + Send,
    ) -> Result<Measurement, Unrepeatable> {
        let mut peers: [Box<dyn Contender + '_>; 1] = [Box::new(InProcess { name, work: peer })];
        let mut measured = self.measure_against_all((bench, threads, items), work, bytes, &mut peers)?;
        Ok(measured.remove(0))
    }

    /// As [`Harness::measure`]; after each repetition every peer does the same in its own way and says how long it took. One
    /// measurement for each peer, or one without a peer when there is none.
    ///
    /// # Errors
    /// As [`Harness::measure`].
    pub fn measure_against_all<R>(
        &self,
        (bench, threads, items): (&str, usize, Items),
        work: impl FnMut() -> R,
        bytes: impl Fn(&R) -> Vec<u8>,
        peers: &mut [Box<dyn Contender + '_>],
    ) -> Result<Vec<Measurement>, Unrepeatable> {
        let (ours, walls) = self.interleaved(bench, threads, work, bytes, peers)?;
        let ours = Measurement { items: Some(items), ..ours };
        if peers.is_empty() {
            return Ok(vec![ours]);
        }
        let named = peers.iter().zip(walls).map(|(peer, wall_ns)| Peer { name: peer.name(), wall_ns });
        Ok(named.map(|peer| Measurement { peer: Some(peer), ..ours.clone() }).collect())
    }

    /// The measurement, and each peer's median.
    fn interleaved<R>(
        &self,
        bench: &str,
        threads: usize,
        mut work: impl FnMut() -> R,
        bytes: impl Fn(&R) -> Vec<u8>,
        peers: &mut [Box<dyn Contender + '_>],
    ) -> Result<(Measurement, Vec<u64>), Unrepeatable> {
        let digest = |result: &R| Digest::of_bytes(&bytes(result));
        let calls = self.budget.calls;
        let expected = digest(&repeated(calls, &mut work));
        let rss_before = rss_bytes();
        // Before the peer has run: what it takes is not ours.
        let peak = peak_rss_bytes();
        for peer in peers.iter_mut() {
            peer.wall_ns(calls, self.clock);
        }
        let mut walls = Vec::new();
        let mut peer_walls = vec![Vec::new(); peers.len()];
        let mut total_ns = 0u64;
        while walls.len() < *self.budget.repetitions.start()
            || (walls.len() < *self.budget.repetitions.end() && total_ns < self.budget.wall_ns)
        {
            let started = self.clock.now_ns();
            let result = repeated(calls, &mut work);
            let wall_ns = self.clock.now_ns() - started;
            let got = digest(&result);
            if got != expected {
                return Err(Unrepeatable { bench: bench.to_owned(), threads, expected, got });
            }
            walls.push(wall_ns / calls.max(1) as u64);
            total_ns += wall_ns;
            drop(result);
            for (peer, walls) in peers.iter_mut().zip(&mut peer_walls) {
                walls.push(peer.wall_ns(calls, self.clock));
            }
        }
        walls.sort_unstable();
        peer_walls.iter_mut().for_each(|walls| walls.sort_unstable());
        let delta = |before: u64| rss_bytes().unwrap_or(before).cast_signed() - before.cast_signed();
        let measurement = Measurement {
            bench: bench.to_owned(),
            threads,
            wall_ns: nearest_rank(&walls, 50),
            wall_ns_p95: nearest_rank(&walls, 95),
            memory_delta_bytes: rss_before.map_or(0, delta),
            peak_rss_bytes: if peers.is_empty() { peak_rss_bytes() } else { peak }.unwrap_or(0),
            result_digest: expected,
            items: None,
            peer: None,
            peak: None,
            exponent: None,
        };
        Ok((measurement, peer_walls.iter().map(|walls| nearest_rank(walls, 50)).collect()))
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
        let mut object = json!({
            "bench": self.bench,
            "threads": self.threads,
            "wall_ns": self.wall_ns,
            "wall_ns_p95": self.wall_ns_p95,
            "memory_delta_bytes": self.memory_delta_bytes,
            "peak_rss_bytes": self.peak_rss_bytes,
            "result_digest": self.result_digest,
        });
        if let Some(items) = &self.items {
            object["items"] = json!(items.count);
            object["item"] = json!(items.of);
        }
        if let (Some(items), Some(peak)) = (&self.items, self.peak) {
            object["of_peak"] = json!(items.count as f64 / self.wall_ns.max(1) as f64 / peak);
        }
        if let Some(peer) = &self.peer {
            object["peer"] = json!(peer.name);
            object["peer_wall_ns"] = json!(peer.wall_ns);
            object["ratio"] = json!(peer.wall_ns as f64 / self.wall_ns.max(1) as f64);
        }
        if let Some(exponent) = self.exponent {
            object["exponent"] = json!(exponent);
        }
        object
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_telemetry::ManualClock;

    #[test]
    fn median_percentile_and_digest_of_work_on_a_moved_clock() {
        let clock = ManualClock::default();
        let harness = Harness::new(&clock, Budget { repetitions: 20..=20, wall_ns: 0, calls: 1 });
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
    fn a_peer_is_timed_beside_and_its_time_over_ours_is_the_ratio() {
        let clock = ManualClock::default();
        let harness = Harness::new(&clock, Budget { repetitions: 4..=4, wall_ns: 0, calls: 1 });
        let order = std::sync::Mutex::new(String::new());
        let ours = || {
            clock.advance_ns(20);
            order.lock().unwrap().push('o');
        };
        let theirs = || {
            clock.advance_ns(10);
            order.lock().unwrap().push('p');
        };
        let items = Items { count: 3, of: "leaf" };
        let found = harness.measure_against(("x", 1, items), ours, |()| Vec::new(), "other", theirs).unwrap();
        assert_eq!(*order.lock().unwrap(), "opopopopop");
        assert_eq!((found.wall_ns, found.peer.as_ref().unwrap().wall_ns), (20, 10));
        let object = found.to_json();
        assert_eq!((&object["ratio"], &object["peer"]), (&json!(0.5), &json!("other")));
        assert_eq!((&object["items"], &object["item"]), (&json!(3), &json!("leaf")));
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
            let harness = Harness::new(&clock, Budget { repetitions: 2..=6, wall_ns, calls: 1 });
            harness.measure("x", 1, work, |()| Vec::new()).unwrap();
            assert_eq!(runs, expected + 1, "and the warm-up");
        }
    }

    #[test]
    fn short_work_is_done_many_times_and_one_of_them_is_what_counts() {
        let clock = ManualClock::default();
        let none = Harness::new(&clock, Budget::default());
        let harness = none.within(Budget { repetitions: 3..=3, wall_ns: 0, calls: 8 });
        let (mut ours, mut theirs) = (0u8, 0);
        let work = || {
            clock.advance_ns(5);
            ours += 1;
        };
        let peer = || {
            clock.advance_ns(10);
            theirs += 1;
        };
        let items = Items { count: 1, of: "element" };
        let found = harness.measure_against(("x", 1, items), work, |()| Vec::new(), "other", peer).unwrap();
        assert_eq!((found.wall_ns, found.peer.unwrap().wall_ns), (5, 10));
        assert_eq!((ours, theirs), (32, 32), "three repetitions and the warm-up");
    }

    #[test]
    fn an_exponent_stands_in_the_line_where_there_is_one() {
        let clock = ManualClock::default();
        let harness = Harness::new(&clock, Budget { repetitions: 1..=1, wall_ns: 0, calls: 1 });
        let found = harness.measure("x", 1, || (), |()| Vec::new()).unwrap();
        assert!(found.to_json().get("exponent").is_none());
        let fitted = Measurement { exponent: Some(2.5), ..found };
        assert_eq!(fitted.to_json()["exponent"], 2.5);
    }

    #[test]
    fn other_bits_are_no_measurement() {
        let clock = ManualClock::default();
        let harness = Harness::new(&clock, Budget { repetitions: 5..=5, wall_ns: 0, calls: 1 });
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

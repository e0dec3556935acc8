//! One kernel on one size: measured on one thread and on all, each time beside everybody else who does the same.

use std::sync::Mutex;

use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_kernels::with_threads;

use super::{emit_all, thread_counts, Emit};
use crate::harness::{Budget, Contender, Harness, InProcess, Items, Measurement, Unrepeatable};

/// What is measured, apart from the work itself.
pub(super) struct Case<'a> {
    name: String,
    items: Items,
    budget: Budget,
    request: Option<String>,
    peers: Vec<Box<dyn Contender + 'a>>,
    peak: Option<f64>,
}

impl<'a> Case<'a> {
    /// `count` of the item: `byte`, `flop`, `element`.
    pub(super) fn new(name: impl Into<String>, count: u64, of: &'static str) -> Self {
        Self {
            name: name.into(),
            items: Items { count, of },
            budget: Budget { wall_ns: 200_000_000, ..Budget::default() },
            request: None,
            peers: Vec::new(),
            peak: None,
        }
    }

    /// Work on so few elements that one call is shorter than a clock can tell.
    pub(super) fn on_elements(mut self, elements: usize) -> Self {
        self.budget.calls = (65_536 / elements.max(1)).clamp(1, 64);
        self
    }

    /// At most so many repetitions, and few enough where each takes long.
    pub(super) fn at_most(mut self, repetitions: usize) -> Self {
        self.budget.repetitions = repetitions.min(3)..=repetitions;
        self
    }

    /// What the libraries of Python are asked for: the kernel's name, and its sizes.
    pub(super) fn asking(mut self, kernel: &str, sizes: &[usize]) -> Self {
        let sizes: String = sizes.iter().map(|size| format!(" {size}")).collect();
        self.request = Some(format!("{kernel} {{threads}}{sizes}"));
        self
    }

    /// As [`Case::asking`] for an elementary function between two bounds.
    pub(super) fn asking_function(mut self, name: &str, (low, high): (f32, f32), length: usize) -> Self {
        self.request = Some(format!("unary {{threads}} {name} {low} {high} {length}"));
        self
    }

    /// A peer in this process, which has one thread.
    pub(super) fn beside<P: 'a>(mut self, name: &'static str, work: impl FnMut() -> P + Send + 'a) -> Self {
        self.peers.push(Box::new(InProcess { name, work }));
        self
    }

    /// Items a nanosecond that one core does at the most.
    pub(super) fn of_peak(mut self, peak: f64) -> Self {
        self.peak = Some(peak);
        self
    }

    /// `work` changes the state, `result` gives its bytes and may put the state back; the result must be the same on any number of
    /// threads.
    ///
    /// # Errors
    /// [`Unrepeatable`] when it is not.
    pub(super) fn measure<S: Send>(
        self,
        harness: &Harness<'_>,
        state: S,
        work: impl Fn(&mut S) + Sync,
        result: impl Fn(&mut S) -> Vec<u8> + Sync,
        emit: &mut Emit<'_>,
    ) -> Result<(), Unrepeatable> {
        let Self { name, items, budget, request, peers: mut in_process, peak } = self;
        let harness = harness.within(budget);
        // Shared with the closure that reads the result.
        let state = Mutex::new(state);
        let on = |threads: usize| {
            let mut peers = Vec::new();
            if let Some(pythons) = harness.peers() {
                let request =
                    request.as_ref().map(|request| request.replace("{threads}", &threads.to_string()));
                let contenders = pythons.iter().filter_map(|python| python.contender(request.as_deref()?));
                peers.extend(contenders.map(|contender| contender as Box<dyn Contender + 'a>));
                // They have one thread: the first number of threads is 1.
                peers.append(&mut in_process);
            }
            with_threads(threads, || {
                let lock = || state.lock().expect("nobody panics while working");
                let case = (name.as_str(), threads, items);
                harness.measure_against_all(case, || work(&mut lock()), |&()| result(&mut lock()), &mut peers)
            })
        };
        each_number_of_threads(peak, on, emit)
    }
}

/// Passes on what is measured on each number of threads, with the peak of that many, and holds the digests against each other.
pub(super) fn each_number_of_threads(
    peak_of_core: Option<f64>,
    mut measure: impl FnMut(usize) -> Result<Vec<Measurement>, Unrepeatable>,
    emit: &mut Emit<'_>,
) -> Result<(), Unrepeatable> {
    let measured = thread_counts().into_iter().flat_map(|threads| {
        let peak = peak_of_core.map(|peak| peak * threads as f64);
        match measure(threads) {
            Ok(all) => all.into_iter().map(|one| Ok(Measurement { peak, ..one })).collect(),
            Err(error) => vec![Err(error)],
        }
    });
    emit_all(measured, emit)
}

/// The little-endian bytes of numbers.
pub(super) fn floats<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u8> {
    values.into_iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// What stands for the bytes of very many numbers: a digest of each piece. All their bytes at once would take as much memory as
/// the numbers, and drive them out of the caches between two repetitions.
pub(super) fn pieces<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u8> {
    let mut values = values.into_iter().peekable();
    let mut digests = Vec::new();
    while values.peek().is_some() {
        let piece = floats(values.by_ref().take(1 << 14));
        digests.extend(Digest::<Content>::of_bytes(&piece).to_string().into_bytes());
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_telemetry::ManualClock;

    fn harness(clock: &ManualClock) -> Harness<'_> {
        Harness::new(clock, Budget::default())
    }

    #[test]
    fn a_kernel_in_place_is_measured_on_every_number_of_threads_from_the_same_state() {
        let clock = ManualClock::default();
        let case = Case::new("double/2", 8, "byte").of_peak(2.0).beside("other", || ()).at_most(4);
        let double = |values: &mut Vec<f32>| {
            clock.advance_ns(5);
            values.iter_mut().for_each(|value| *value *= 2.0);
        };
        let doubled = |values: &mut Vec<f32>| floats(&std::mem::replace(values, vec![1.0, 3.0]));
        let mut seen = Vec::new();
        case.measure(&harness(&clock), vec![1.0, 3.0], double, doubled, &mut |one| seen.push(one)).unwrap();
        let threads: Vec<usize> = seen.iter().map(|one| one.threads).collect();
        assert_eq!(threads, thread_counts());
        for one in &seen {
            assert_eq!((one.wall_ns, one.peak), (5, Some(2.0 * one.threads as f64)));
            assert_eq!(one.result_digest, Digest::of_bytes(&floats(&[2.0, 6.0])));
            assert_eq!(one.peer, None, "nobody asked for peers");
        }
    }

    #[test]
    fn every_number_of_every_piece_counts() {
        let numbers: Vec<f32> = (0..20_000_u16).map(f32::from).collect();
        let whole = pieces(&numbers);
        assert_eq!(whole.len(), 2 * 64);
        for changed in [0, 16_383, 16_384, 19_999] {
            let mut other = numbers.clone();
            other[changed] += 0.5;
            assert_ne!(pieces(&other), whole, "number {changed}");
        }
        assert_ne!(pieces(&numbers[..19_999]), whole);
        assert!(pieces(&[]).is_empty());
    }

    #[test]
    fn a_kernel_in_place_that_goes_on_from_its_result_is_an_error() {
        let clock = ManualClock::default();
        let case = Case::new("double/1", 4, "byte");
        let double = |value: &mut f32| *value *= 2.0;
        let error = case.measure(&harness(&clock), 1.0, double, |value| floats([&*value]), &mut |_| ());
        assert_eq!(error.unwrap_err().bench, "double/1");
    }

    #[test]
    fn peers_of_one_thread_stand_beside_the_measurement_on_one() {
        let clock = ManualClock::default();
        let asking = harness(&clock).asking_peers(Vec::new());
        let peer = || clock.advance_ns(30);
        let case = Case::new("nothing/4096", 4096, "element").on_elements(4096).beside("other", peer);
        let mut seen = Vec::new();
        let work = |(): &mut ()| clock.advance_ns(10);
        case.measure(&asking, (), work, |()| Vec::new(), &mut |one| seen.push(one)).unwrap();
        let ratios: Vec<_> = seen.iter().map(|one| one.to_json()["ratio"].as_f64()).collect();
        assert_eq!(ratios.first(), Some(&Some(3.0)));
        assert!(ratios.iter().skip(1).all(Option::is_none), "{ratios:?}");
    }

    #[test]
    fn bits_that_depend_on_the_number_of_threads_are_an_error() {
        let clock = ManualClock::default();
        let harness = harness(&clock);
        let on = |threads: usize| {
            let digest = |_: &()| vec![u8::try_from(threads).unwrap_or(0)];
            harness.measure("x", threads, || (), digest).map(|one| vec![one])
        };
        let found = each_number_of_threads(None, on, &mut |_| ());
        assert_eq!(found.is_err(), thread_counts().len() > 1);
    }
}

//! One root, whatever happens: random plans on a virtual clock, with delays, faults, duplicates and power failures, are held
//! against what a plain loop over the plan gives.

mod simulated {
    pub(super) mod plans;
    pub(super) mod world;
}

use std::panic::{catch_unwind, AssertUnwindSafe};

use simulated::world::{simulate, Defect, Flaw};

const CASES: u64 = 2_400;

/// `BITPROOF_SIMULATION_SEED=n cargo test …` runs this case alone.
const ONE_SEED: Option<&str> = option_env!("BITPROOF_SIMULATION_SEED");

#[test]
fn every_schedule_gives_the_sequential_root() {
    let all: Vec<u64> = match ONE_SEED {
        Some(seed) => vec![seed.parse().expect("a number")],
        None => (0..CASES).collect(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seen: Seen = std::thread::scope(|scope| {
        let seeds = |first: usize| all.iter().copied().skip(first).step_by(threads);
        let workers: Vec<_> = (0..threads).map(|i| scope.spawn(move || seeds(i).map(case).sum())).collect();
        workers.into_iter().map(|worker| worker.join().expect("its case is named above")).sum()
    });
    if ONE_SEED.is_none() {
        // The simulation would prove little if it were a calm one.
        let Seen { tasks, crashes, duplicates, faults, skipped, stopped, lost } = seen;
        assert!(tasks > 100 * CASES / 2, "{seen:?}");
        for rare in [crashes, duplicates, faults, skipped, stopped, lost] {
            assert!(rare > CASES / 20, "{seen:?}");
        }
    }
}

fn case(seed: u64) -> Seen {
    let outcome = catch_unwind(AssertUnwindSafe(|| simulate(seed, Defect::None)));
    let problem = match outcome {
        Ok(Ok(seen)) => return seen,
        Ok(Err(flaw)) => flaw.to_string(),
        Err(_) => "it panicked, as shown above".to_owned(),
    };
    panic!(
        "seed {seed}: {problem}\n  repeat: BITPROOF_SIMULATION_SEED={seed} cargo test -p bitproof-scheduler --test simulation"
    );
}

/// What happened in a simulation.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    tasks: u64,
    crashes: u64,
    duplicates: u64,
    faults: u64,
    skipped: u64,
    stopped: u64,
    lost: u64,
}

impl std::iter::Sum for Seen {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |a, b| Self {
            tasks: a.tasks + b.tasks,
            crashes: a.crashes + b.crashes,
            duplicates: a.duplicates + b.duplicates,
            faults: a.faults + b.faults,
            skipped: a.skipped + b.skipped,
            stopped: a.stopped + b.stopped,
            lost: a.lost + b.lost,
        })
    }
}

/// How many of some cases with a defect end with a flaw.
fn found(defect: Defect, is_it: impl Fn(&Flaw) -> bool) -> usize {
    (0..100).filter_map(|seed| simulate(seed, defect).err()).filter(|flaw| is_it(flaw)).count()
}

#[test]
fn code_that_cannot_be_repeated_is_found() {
    assert!(found(Defect::Unrepeatable, |flaw| matches!(flaw, Flaw::Divergence(_))) > 0);
    assert!(found(Defect::Unrepeatable, |flaw| matches!(flaw, Flaw::OtherEntries { .. })) > 0);
}

#[test]
fn commits_in_the_order_of_arrival_are_found() {
    assert!(found(Defect::ArrivalOrder, |flaw| matches!(flaw, Flaw::Ledger(_))) > 0);
}

#[test]
fn outputs_that_are_not_settled_are_found() {
    assert!(found(Defect::Unsettled, |flaw| matches!(flaw, Flaw::OutputGone(_))) > 0);
}

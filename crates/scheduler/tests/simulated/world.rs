//! A machine with workers, a clock and a disk, none of them real.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Mutex;

use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::objects::{ObjectId, Objects};
use bitproof_core_ledger::storage::sim::{Fault, SimDisk};
use bitproof_scheduler::board::{Board, Divergence, End, Finished, Misfit, Work};
use bitproof_scheduler::commit::Commits;
use bitproof_scheduler::dispatch::{DispatchError, Outputs, Runner, SettleError, Settled, TaskError};
use bitproof_scheduler::ledger::{ledger_root, result_root, Entry, Ledger, LedgerError, LedgerView, Outcome};
use bitproof_scheduler::{action_digest, ActionDigest, Plan, PlannedTask};

use super::plans::{made, plan, reference, FailureRate, Random};
use crate::Seen;

/// What is wrong with the simulated program, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    None,
    /// What a task makes differs each time.
    Unrepeatable,
    /// Entries are written as they come.
    ArrivalOrder,
    /// Outputs are not made durable before they are committed.
    Unsettled,
}

/// What a simulation found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Flaw {
    #[error(transparent)]
    Divergence(Divergence),
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error("the ledger cannot be read: {0}")]
    Ledger(LedgerError),
    #[error("the entries differ at {place} of {expected}; there are {got}")]
    OtherEntries { place: usize, expected: usize, got: usize },
    #[error("the output {0} of a committed task is gone")]
    OutputGone(ObjectId),
    #[error("nothing runs and nothing ends")]
    Stuck,
    #[error("two tasks at once on lane {0}")]
    TwoOnLane(u32),
}

const LEDGER: &str = "/run/ledger";

/// Runs one random plan to its end, through as many power failures as come, and holds it against the reference.
pub(crate) fn simulate(seed: u64, defect: Defect) -> Result<Seen, Flaw> {
    let mut random = Random(seed);
    let plan = plan(&mut random);
    let rate = [0, 0, 8, 40][random.below(4)];
    let expected = reference(&plan, rate);
    let mut world = World {
        workers: (1 + random.below(32)).min(plan.spec().lanes.len()),
        // Objects on the disk cost most of the time.
        keeps: plan.len() <= 60,
        plan: &plan,
        rate,
        defect,
        random,
        seen: Seen::default(),
    };
    let mut disk = SimDisk::new();
    let files = Files::on(disk.clone());
    for dir in ["/run", "/run/objects", "/run/tmp"] {
        files.create_dir(Path::new(dir)).expect("nothing fails yet");
    }
    files.sync_dir(Path::new("/run")).expect("nothing fails yet");
    let mut failures_left = world.random.below(5);
    let entries = loop {
        if failures_left > 0 {
            let operation = disk.operations() + world.random.below(60) as u64;
            let fault = if world.random.one_in(6) { Fault::Error } else { Fault::PowerOff };
            disk = disk.failing(operation, fault);
        }
        match world.session(&disk)? {
            Session::Done(entries) => break entries,
            // Whoever started the program does it again.
            Session::Lost => world.seen.lost += 1,
            Session::Crashed => {
                failures_left -= 1;
                world.seen.crashes += 1;
                let crashes = disk.crashes();
                disk = disk.after(crashes[world.random.below(crashes.len())]);
            }
        }
    };
    let read = LedgerView::read(&Files::on(disk.clone()), Path::new(LEDGER), &plan).map_err(Flaw::Ledger)?;
    for got in [&entries, &read.entries] {
        if *got != expected {
            let place = got.iter().zip(&expected).take_while(|(a, b)| a == b).count();
            return Err(Flaw::OtherEntries { place, expected: expected.len(), got: got.len() });
        }
    }
    assert_eq!(read.root, ledger_root(&plan, &expected));
    assert_eq!(result_root(&entries), result_root(&expected));
    let mut seen = world.seen;
    seen.tasks += entries.len() as u64;
    seen.skipped += entries.iter().filter(|e| matches!(e.outcome, Outcome::Skipped { .. })).count() as u64;
    seen.stopped += u64::from(entries.len() < plan.len());
    Ok(seen)
}

enum Session {
    Done(Vec<Entry>),
    Lost,
    Crashed,
}

struct World<'a> {
    plan: &'a Plan,
    workers: usize,
    keeps: bool,
    rate: FailureRate,
    defect: Defect,
    random: Random,
    seen: Seen,
}

/// What happens at a time; the number tells two of one time apart.
type Event = Reverse<(u64, u64)>;

impl World<'_> {
    /// One process, from its start to its end or the machine's.
    fn session(&mut self, disk: &SimDisk) -> Result<Session, Flaw> {
        let files = Files::on(disk.clone());
        let opened = Ledger::open(&files, Path::new(LEDGER), self.plan);
        let (mut ledger, committed) = match opened {
            Ok(opened) => opened,
            Err(_) if disk.has_failed() => return Ok(Session::Crashed),
            Err(error) => return Err(Flaw::Ledger(error)),
        };
        let objects = Objects::new(files, "/run/objects".into(), "/run/tmp".into(), NonZeroUsize::MIN);
        let keeper = Keeper { objects, made: Mutex::default(), keeps: self.keeps, defect: self.defect };
        keeper.check(&committed)?;
        let mut board = Board::new(self.plan, &committed)?;
        let mut commits = Commits::new(self.plan, &mut ledger, committed);
        let mut events: BinaryHeap<Event> = BinaryHeap::new();
        let mut messages: BTreeMap<u64, (Option<u32>, Finished)> = BTreeMap::new();
        let (mut now, mut number, mut free) = (0u64, 0u64, self.workers);
        let mut busy_lanes = vec![false; self.plan.spec().lanes.len()];
        // The disk is busy until then; what comes meanwhile is the next group.
        let mut disk_free = 0u64;
        loop {
            while free > 0 {
                let Some(work) = board.take() else { break };
                let lane = self.plan.task(work.sequence).slot.lane;
                if std::mem::replace(&mut busy_lanes[lane as usize], true) {
                    return Err(Flaw::TwoOnLane(lane));
                }
                free -= 1;
                let finished = self.attempt(&work, &keeper);
                let longest = [1, 10, 1_000][self.random.below(3)];
                let took = 1 + self.random.below(longest) as u64;
                messages.insert(number, (Some(lane), finished.clone()));
                events.push(Reverse((now + took, number)));
                number += 1;
                while self.random.one_in(6) {
                    self.seen.duplicates += 1;
                    let late = now + took + self.random.below(2_000) as u64;
                    // The same message once more, or that of somebody who did the same work.
                    let again =
                        if self.random.one_in(2) { finished.clone() } else { self.attempt(&work, &keeper) };
                    messages.insert(number, (None, again));
                    events.push(Reverse((late, number)));
                    number += 1;
                }
            }
            if now >= disk_free && board.has_turn() {
                let mut turns = board.turns(1 + self.random.below(20));
                if self.defect == Defect::ArrivalOrder {
                    turns.reverse();
                }
                match commits.commit(&keeper, turns) {
                    Ok(()) => disk_free = now + self.random.below(300) as u64,
                    Err(_) if disk.has_failed() => return Ok(Session::Crashed),
                    Err(DispatchError::Ledger(error)) => return Err(Flaw::Ledger(error)),
                    Err(other) => panic!("{other}"),
                }
            }
            match board.end() {
                Some(End::Complete) => return Ok(Session::Done(commits.into_parts().0)),
                Some(End::Lost(_)) => return Ok(Session::Lost),
                Some(End::Cancelled) => panic!("nobody cancels"),
                None => {}
            }
            let next = events.pop();
            let Some(Reverse((time, message))) = next else {
                if board.has_turn() {
                    now = now.max(disk_free);
                    continue;
                }
                return Err(Flaw::Stuck);
            };
            now = now.max(time);
            let (lane, finished) = messages.remove(&message).expect("each event has a message");
            if let Some(lane) = lane {
                busy_lanes[lane as usize] = false;
                free += 1;
            }
            board.finish(finished).map_err(Flaw::Divergence)?;
        }
    }

    fn attempt(&mut self, work: &Work, keeper: &Keeper) -> Finished {
        let task = self.plan.task(work.sequence);
        let spec = self.plan.spec();
        let action = action_digest(task.spec, &work.inputs, spec.seed, spec.numerics);
        if self.random.one_in(12) {
            self.seen.faults += 1;
            let result = Err(TaskError::Infrastructure { message: "a fault".to_owned() });
            return Finished::new(task, work.attempt, action, result);
        }
        let result = match made(task.spec, &action, self.rate) {
            Ok(mut made) => {
                if self.defect == Defect::Unrepeatable {
                    made.iter_mut().for_each(|(_, bytes)| bytes.push(self.random.next() as u8));
                }
                Ok(keeper.make(made))
            }
            Err(how) => Err(TaskError::Failed { how, message: "it fails".to_owned() }),
        };
        Finished::new(task, work.attempt, action, result)
    }
}

/// Keeps outputs in memory until they are settled.
struct Keeper {
    objects: Objects,
    made: Mutex<BTreeMap<ObjectId, Vec<u8>>>,
    keeps: bool,
    defect: Defect,
}

impl Keeper {
    fn make(&self, outputs: Vec<(String, Vec<u8>)>) -> Outputs {
        let mut made = self.made.lock().expect("one thread");
        let mut keep = |(name, bytes): (String, Vec<u8>)| {
            let id = ObjectId::of_bytes(&bytes);
            made.insert(id, bytes);
            (name, id)
        };
        outputs.into_iter().map(&mut keep).collect()
    }

    /// Every output of a committed task survives.
    fn check(&self, committed: &[Entry]) -> Result<(), Flaw> {
        for entry in committed.iter().filter(|_| self.keeps) {
            if let Outcome::Done { outputs } = &entry.outcome {
                let gone = outputs.iter().find(|(_, id)| self.objects.verify(id).is_err());
                gone.map_or(Ok(()), |(_, id)| Err(Flaw::OutputGone(*id)))?;
            }
        }
        Ok(())
    }
}

impl Runner for Keeper {
    fn run(&self, _: PlannedTask<'_>, _: &ActionDigest, _: &[ObjectId]) -> Result<Outputs, TaskError> {
        unreachable!("the world runs tasks")
    }

    fn settle(&self, group: &[Settled<'_>]) -> Result<(), SettleError> {
        if !self.keeps || self.defect == Defect::Unsettled {
            return Ok(());
        }
        for Settled { entry, .. } in group {
            let Outcome::Done { outputs } = &entry.outcome else { continue };
            for (_, id) in outputs {
                let bytes = self.made.lock().expect("one thread")[id].clone();
                self.objects.put(&bytes).map_err(SettleError::new)?;
            }
        }
        Ok(())
    }
}

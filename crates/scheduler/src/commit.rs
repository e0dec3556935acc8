//! Commits in plan order: what a runner made is settled, then the entries are appended, a group at a time.

use bitproof_core_ledger::canon;
use bitproof_core_ledger::chain::{Chain, ChainHead};

use crate::board::Turn;
use crate::dispatch::{DispatchError, Runner};
use crate::ledger::{Entry, Ledger, LedgerError, Outcome};
use crate::plan::{Plan, PlannedTask};
use crate::task::TaskId;

/// Takes the entries of one execution, in commit order.
pub trait CommitSink {
    /// Appends entries and returns when they are as safe as this sink makes them.
    ///
    /// # Errors
    /// [`LedgerError`]; then none of them is acknowledged.
    fn append(&mut self, entries: &[Entry]) -> Result<(), LedgerError>;

    /// The head of the chain of everything that was appended.
    fn root(&self) -> ChainHead;
}

impl CommitSink for Ledger {
    fn append(&mut self, entries: &[Entry]) -> Result<(), LedgerError> {
        Ledger::append(self, entries)
    }

    fn root(&self) -> ChainHead {
        Ledger::root(self)
    }
}

/// A ledger without a file: it has the root that a [`Ledger`] would have, and ends with the process.
#[derive(Debug, Clone)]
pub struct MemoryLedger {
    chain: Chain,
}

impl MemoryLedger {
    /// An empty ledger of `plan`.
    pub fn new(plan: &Plan) -> Self {
        Self { chain: Chain::bound_to(plan.digest().as_bytes()) }
    }
}

impl CommitSink for MemoryLedger {
    fn append(&mut self, entries: &[Entry]) -> Result<(), LedgerError> {
        entries.iter().for_each(|entry| drop(self.chain.push(&canon::encode(entry))));
        Ok(())
    }

    fn root(&self) -> ChainHead {
        self.chain.head()
    }
}

/// An entry that is about to be committed, with its task.
#[derive(Debug, Clone, Copy)]
pub struct Settled<'a> {
    /// The task.
    pub task: PlannedTask<'a>,
    /// Its entry.
    pub entry: &'a Entry,
}

/// What a runner made could not be made durable.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct SettleError(Box<dyn std::error::Error + Send + Sync>);

impl SettleError {
    /// For this reason.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// Everything that was committed, and where more goes to.
pub struct Commits<'a> {
    plan: &'a Plan,
    sink: &'a mut dyn CommitSink,
    entries: Vec<Entry>,
    failures: Vec<(TaskId, String)>,
}

impl<'a> Commits<'a> {
    /// After `committed`, which `sink` has already.
    pub fn new(plan: &'a Plan, sink: &'a mut dyn CommitSink, committed: Vec<Entry>) -> Self {
        Self { plan, sink, entries: committed, failures: Vec::new() }
    }

    /// Commits turns, which come in order, as one group: `runner` settles them first.
    ///
    /// # Errors
    /// [`DispatchError::Settle`] and [`DispatchError::Ledger`]; then none of them is acknowledged.
    pub fn commit(&mut self, runner: &dyn Runner, turns: Vec<Turn>) -> Result<(), DispatchError> {
        let first = self.entries.len();
        for turn in turns {
            let (sequence, action, outcome) = match turn {
                Turn::Ended { sequence, action, outcome, message } => {
                    let id = || self.plan.task(sequence).spec.id.clone();
                    self.failures.extend(message.map(|message| (id(), message)));
                    (sequence, Some(action), outcome)
                }
                Turn::Skipped { sequence, cause } => {
                    (sequence, None, Outcome::Skipped { cause: self.plan.task(cause).spec.id.clone() })
                }
            };
            let task = self.plan.task(sequence);
            let (lane, tick) = (task.slot.lane, task.slot.tick);
            self.entries.push(Entry { task: task.spec.id.clone(), lane, tick, action, outcome });
        }
        let settled = self.append(runner, first);
        if settled.is_err() {
            self.entries.truncate(first);
        }
        settled
    }

    fn append(&mut self, runner: &dyn Runner, first: usize) -> Result<(), DispatchError> {
        let group = &self.entries[first..];
        let settled: Vec<Settled<'_>> = (first..)
            .zip(group)
            .map(|(sequence, entry)| Settled { task: self.plan.task(sequence), entry })
            .collect();
        runner.settle(&settled)?;
        self.sink.append(group)?;
        for Entry { task, lane, tick, .. } in group {
            tracing::debug!(target: "bitproof::commit", %task, lane, tick, "committed");
        }
        Ok(())
    }

    /// The entries that are committed, and why tasks failed since [`Commits::new`].
    pub fn into_parts(self) -> (Vec<Entry>, Vec<(TaskId, String)>) {
        (self.entries, self.failures)
    }
}

//! Lanes at work: threads carry lanes, and what they finish is committed in plan order.
//!
//! Which task a free thread takes, and whose turn it is, a [`Board`] says. The calling thread commits: everything that
//! is ready when it comes back from the disk is one group. Threads do not wait for it.

use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use bitproof_core_ledger::objects::ObjectId;

use crate::board::{self, Board, Divergence, Finished, Misfit, Work};
use crate::cancel::Cancel;
use crate::commit::Commits;
pub use crate::commit::{CommitSink, MemoryLedger, SettleError, Settled};
use crate::ledger::{Entry, Failure, LedgerError};
use crate::plan::{Plan, PlannedTask};
use crate::sync::{thread, AtomicBool, Condvar, Mutex, MutexGuard, PATIENCE};
use crate::task::{action_digest, ActionDigest, TaskId};

/// The target of the span around each attempt at a task.
pub const TASK: &str = "bitproof::task";

/// The most entries that are committed at once.
const GROUP: usize = 8192;

/// What a task makes: the content of each output, by name.
pub type Outputs = BTreeMap<String, ObjectId>;

/// A task that did not make its outputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It failed by itself: the same inputs fail again. Recorded.
    #[error("{message}")]
    Failed {
        /// How; this is recorded.
        how: Failure,
        /// Why, for people.
        message: String,
    },
    /// Something around it failed: worth another try. Not recorded.
    #[error("{message}")]
    Infrastructure {
        /// Why, for people.
        message: String,
    },
}

/// Executes tasks. Called from many threads at once, for different tasks.
pub trait Runner: Sync {
    /// Makes the outputs of `task` from `inputs`. Tasks that depend on it may read them as soon as it returns; durable
    /// they need to be only once [`Runner::settle`] has returned.
    ///
    /// # Errors
    /// [`TaskError`].
    fn run(
        &self,
        task: PlannedTask<'_>,
        action: &ActionDigest,
        inputs: &[ObjectId],
    ) -> Result<Outputs, TaskError>;

    /// Makes the outputs of all of `group` durable: they are committed when it returns. Called by the committing thread, in
    /// commit order, each entry once, while other tasks run. A runner whose [`Runner::run`] returns when everything is
    /// durable has nothing to do here.
    ///
    /// # Errors
    /// [`SettleError`]; nothing of the group is committed then, and the execution ends.
    fn settle(&self, group: &[Settled<'_>]) -> Result<(), SettleError> {
        let _ = group;
        Ok(())
    }
}

/// An execution that could not go on. What was committed stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// An entry could not be made durable.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What tasks made could not be made durable.
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// The entries to go on from cannot be of this plan.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// A task ended twice, and differently.
    #[error("task {task}: {source}")]
    Divergence {
        /// The task.
        task: TaskId,
        /// How.
        source: Divergence,
    },
}

/// Why an execution ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything that the plan and its failures leave is committed.
    Complete,
    /// A task met, on every attempt, a failure that is not its own. Nothing at or past it is committed, and no other task was
    /// begun after that; the same call goes on from there.
    Incomplete {
        /// The task; of several the one with the lowest place in the commit order.
        task: TaskId,
        /// What went wrong the last time.
        message: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// Somebody asked to stop before everything was committed; the same call goes on from there.
    Cancelled,
}

/// What was executed.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The entries of the ledger, in commit order.
    pub entries: Vec<Entry>,
    /// Why tasks failed by themselves, in commit order, for people.
    pub failures: Vec<(TaskId, String)>,
    /// How often each task was begun that was begun more than once.
    pub attempts: BTreeMap<TaskId, u32>,
    /// Why it ended.
    pub end: End,
}

/// Executes what `committed` lacks of `plan`, with at most `workers` threads and no more than there are lanes, and commits to
/// `sink`, which has `committed` already.
///
/// A task whose failure is not its own is tried again as often as its plan allows. After that nothing is begun any more: what
/// runs may end, and what is then a prefix of the plan is committed. [`Cancel::cancel`] does the same; a runner that blocks
/// heeds it by itself.
///
/// # Errors
/// [`DispatchError`]; what was committed before stays.
pub fn execute(
    plan: &Plan,
    runner: &dyn Runner,
    sink: &mut dyn CommitSink,
    committed: Vec<Entry>,
    workers: usize,
    cancel: &Cancel,
) -> Result<Execution, DispatchError> {
    let shared = Arc::new(Shared::new(Board::new(plan, &committed)?));
    let cancelled = Arc::clone(&shared);
    let _subscription = cancel.subscribe(move || cancelled.cancel());
    let mut commits = Commits::new(plan, sink, committed);
    let tracing = tracing::dispatcher::get_default(Clone::clone);
    let end = thread::scope(|scope| {
        // Whatever ends this early, the workers must not wait for ever.
        let _stop = Stop(&shared);
        for _ in 0..workers.clamp(1, plan.spec().lanes.len()) {
            let (shared, tracing) = (&shared, tracing.clone());
            scope.spawn(move || {
                tracing::dispatcher::with_default(&tracing, || shared.work(plan, runner, cancel));
            });
        }
        shared.follow(plan, runner, &mut commits)
    })?;
    let id = |sequence: usize| plan.task(sequence).spec.id.clone();
    let attempts = shared.lock().board.attempts().iter().map(|(&task, &n)| (id(task), n)).collect();
    let (entries, failures) = commits.into_parts();
    let end = match end {
        board::End::Complete => End::Complete,
        board::End::Cancelled => End::Cancelled,
        board::End::Lost(board::Lost { sequence, attempts, message }) => {
            End::Incomplete { task: id(sequence), message, attempts }
        }
    };
    Ok(Execution { entries, failures, attempts, end })
}

/// What the threads share.
struct Shared {
    state: Mutex<State>,
    /// Woken when there is something to do.
    work: Condvar,
    /// Woken when there is something to commit, or nothing more to come.
    turn: Condvar,
    /// A hint to look at the state before sleeping.
    news: AtomicBool,
}

struct State {
    board: Board,
    /// How many workers wait for work.
    idle: usize,
    /// Whether the committing thread waits for a turn.
    waiting: bool,
    divergence: Option<Divergence>,
    stopped: bool,
}

struct Stop<'a>(&'a Shared);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.work.notify_all();
    }
}

impl Shared {
    fn new(board: Board) -> Self {
        let state = State { board, idle: 0, waiting: false, divergence: None, stopped: false };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            turn: Condvar::new(),
            news: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the board")
    }

    fn cancel(&self) {
        self.lock().board.cancel();
        self.turn.notify_one();
    }

    /// Carries lanes until there is nothing more to do.
    fn work(&self, plan: &Plan, runner: &dyn Runner, cancel: &Cancel) {
        let mut state = self.lock();
        while !state.stopped {
            let Some(work) = state.board.take() else {
                state.idle += 1;
                state = self.work.wait(state).expect("no thread panics while it holds the board");
                state.idle -= 1;
                continue;
            };
            // Each who finds more than one task wakes one other up, who does the same.
            let more = state.idle > 0 && state.board.has_work();
            drop(state);
            if more {
                self.work.notify_one();
            }
            let finished = attempt(plan, runner, work);
            state = self.lock();
            if cancel.is_cancelled() {
                // The runner may have heard of it earlier than the board.
                state.board.cancel();
            }
            if let Err(divergence) = state.board.finish(finished) {
                state.divergence.get_or_insert(divergence);
            }
            if state.news() {
                self.news.store(true, Ordering::Release);
                if state.waiting {
                    self.turn.notify_one();
                }
            }
        }
    }

    /// Commits what has its turn until nothing more will come.
    fn follow(
        &self,
        plan: &Plan,
        runner: &dyn Runner,
        commits: &mut Commits<'_>,
    ) -> Result<board::End, DispatchError> {
        let mut state = self.lock();
        loop {
            if let Some(source) = state.divergence.take() {
                let task = plan.task(source.sequence).spec.id.clone();
                return Err(DispatchError::Divergence { task, source });
            }
            let turns = state.board.turns(GROUP);
            if !turns.is_empty() {
                drop(state);
                commits.commit(runner, turns)?;
                state = self.lock();
            } else if let Some(end) = state.board.end() {
                return Ok(end);
            } else {
                state = self.await_news(state);
            }
        }
    }

    fn await_news<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.news.store(false, Ordering::Release);
        drop(state);
        for _ in 0..PATIENCE {
            if self.news.load(Ordering::Acquire) {
                break;
            }
            thread::yield_now();
        }
        let mut state = self.lock();
        while !state.news() {
            state.waiting = true;
            state = self.turn.wait(state).expect("no thread panics while it holds the board");
            state.waiting = false;
        }
        state
    }
}

impl State {
    /// Whether the committing thread has something to do.
    fn news(&self) -> bool {
        self.divergence.is_some() || self.board.has_turn() || self.board.end().is_some()
    }
}

/// Does one piece of work, whatever comes.
fn attempt(plan: &Plan, runner: &dyn Runner, work: Work) -> Finished {
    let Work { sequence, attempt, inputs } = work;
    let task = plan.task(sequence);
    let action = action_digest(task.spec, &inputs, plan.spec().seed, plan.spec().numerics);
    let (lane, tick) = (task.slot.lane, task.slot.tick);
    let span = tracing::info_span!(target: TASK, "task", task = %task.spec.id, lane, tick, attempt);
    let _entered = span.enter();
    let result = catch_unwind(AssertUnwindSafe(|| runner.run(task, &action, &inputs))).unwrap_or_else(|_| {
        Err(TaskError::Infrastructure { message: "its code panicked; this is a defect".to_owned() })
    });
    if let Err(TaskError::Infrastructure { message }) = &result {
        tracing::warn!(task = %task.spec.id, attempt, message, "an attempt failed");
    }
    Finished::new(task, attempt, action, result)
}

#[cfg(test)]
mod tests;

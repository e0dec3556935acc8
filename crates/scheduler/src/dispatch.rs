//! Lanes at work: workers carry lanes, a reorder buffer commits in plan order.
//!
//! A lane runs its tasks in sequence, one at a time, so at most as many tasks run at once as there are lanes.
//! A free worker takes, of the lanes whose next task has its inputs, the one with the lowest sequence. Finished
//! tasks are committed in sequence, as one durable group for all that are ready.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{mpsc, Condvar, Mutex, MutexGuard};

use bitproof_core_ledger::objects::ObjectId;

use crate::ledger::{Entry, Failure, Ledger, LedgerError, Outcome};
use crate::plan::{OnFailure, Plan, PlannedTask};
use crate::task::{action_digest, ActionDigest, InputSource, TaskId};

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
    /// Makes the outputs of `task` from `inputs`, durable before it returns.
    ///
    /// # Errors
    /// [`TaskError`].
    fn run(
        &self,
        task: PlannedTask<'_>,
        action: &ActionDigest,
        inputs: &[ObjectId],
    ) -> Result<Outputs, TaskError>;
}

/// A run that stopped before its plan's end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DispatchError {
    /// An entry could not be made durable.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A task met a failure that is not its own. What is committed stays; the run can be resumed.
    #[error("task {task}: {message}")]
    Infrastructure {
        /// The task.
        task: TaskId,
        /// Why.
        message: String,
    },
}

/// What was executed.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The entries of the ledger, in commit order.
    pub entries: Vec<Entry>,
    /// Why tasks failed by themselves, in commit order, for people.
    pub failures: Vec<(TaskId, String)>,
}

/// Executes what `committed` lacks of `plan`, with `workers` threads, and commits to `ledger`.
///
/// # Errors
/// [`DispatchError`]; what was committed before stays.
///
/// # Panics
/// When `committed` is longer than the plan.
pub fn execute(
    plan: &Plan,
    runner: &dyn Runner,
    ledger: &mut Ledger,
    committed: Vec<Entry>,
    workers: usize,
) -> Result<Execution, DispatchError> {
    assert!(committed.len() <= plan.len(), "a ledger has no more entries than its plan has tasks");
    let workers = workers.clamp(1, plan.spec().lanes.len());
    let board = Board { state: Mutex::new(State::new(plan, &committed)), changed: Condvar::new() };
    let mut commits =
        Commits { plan, ledger, entries: committed, finished: BTreeMap::new(), failures: Vec::new() };
    let (sender, receiver) = mpsc::channel();
    let tracing = tracing::dispatcher::get_default(Clone::clone);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (board, sender, tracing) = (&board, sender.clone(), tracing.clone());
            scope.spawn(move || {
                tracing::dispatcher::with_default(&tracing, || work(plan, runner, board, &sender))
            });
        }
        drop(sender);
        // Whatever ends the loop early, the workers must not wait for ever.
        let outcome = commits.follow(&receiver, &board);
        board.lock().stopped = true;
        board.changed.notify_all();
        outcome
    })?;
    Ok(Execution { entries: commits.entries, failures: commits.failures })
}

struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the board")
    }
}

/// What the workers share.
struct State {
    /// For each lane its tasks that have not started, the next one last.
    lanes: Vec<Vec<usize>>,
    /// For each lane whether a worker carries it now.
    busy: Vec<bool>,
    /// How many dependencies of each task have not ended well.
    waiting: Vec<usize>,
    followers: Vec<Vec<usize>>,
    outputs: Vec<Option<Outputs>>,
    /// Tasks that depend on a failed one, with the failed one of the lowest sequence.
    skipped: BTreeMap<usize, usize>,
    /// With [`OnFailure::Stop`], nothing at or past this sequence starts any more.
    limit: usize,
    stopped: bool,
}

impl State {
    fn new(plan: &Plan, committed: &[Entry]) -> Self {
        let sequences = plan.sequences();
        let mut lanes = vec![Vec::new(); plan.spec().lanes.len()];
        let mut waiting = Vec::with_capacity(plan.len());
        let mut followers = vec![Vec::new(); plan.len()];
        for task in plan.tasks() {
            lanes[task.slot.lane as usize].push(task.sequence);
            let before: BTreeSet<usize> = task.spec.dependencies().map(|d| sequences[d]).collect();
            waiting.push(before.len());
            before.into_iter().for_each(|d| followers[d].push(task.sequence));
        }
        lanes.iter_mut().for_each(|lane| lane.reverse());
        let mut state = Self {
            busy: vec![false; lanes.len()],
            lanes,
            waiting,
            followers,
            outputs: vec![None; plan.len()],
            skipped: BTreeMap::new(),
            limit: plan.len(),
            stopped: false,
        };
        for (sequence, entry) in committed.iter().enumerate() {
            state.lanes[entry.lane as usize].retain(|&s| s != sequence);
            match &entry.outcome {
                Outcome::Done { outputs } => state.done(sequence, outputs.iter().cloned().collect()),
                Outcome::Failed { .. } => state.failed(sequence, plan.spec().on_failure),
                Outcome::Skipped { .. } => {}
            }
        }
        state
    }

    fn done(&mut self, sequence: usize, outputs: Outputs) {
        self.outputs[sequence] = Some(outputs);
        for i in 0..self.followers[sequence].len() {
            self.waiting[self.followers[sequence][i]] -= 1;
        }
    }

    fn failed(&mut self, sequence: usize, on_failure: OnFailure) {
        if on_failure == OnFailure::Stop {
            self.limit = self.limit.min(sequence + 1);
            return;
        }
        let mut reached = self.followers[sequence].clone();
        while let Some(task) = reached.pop() {
            let cause = self.skipped.entry(task).or_insert(usize::MAX);
            if sequence < *cause {
                *cause = sequence;
                reached.extend(&self.followers[task]);
            }
        }
    }

    /// The ready lane head with the lowest sequence; the lane becomes busy.
    fn take(&mut self) -> Option<usize> {
        for lane in &mut self.lanes {
            while lane.last().is_some_and(|s| self.skipped.contains_key(s)) {
                lane.pop();
            }
        }
        let ready = |lane: usize| {
            self.lanes[lane]
                .last()
                .copied()
                .filter(|&s| !self.busy[lane] && self.waiting[s] == 0 && s < self.limit)
        };
        let (sequence, lane) =
            (0..self.lanes.len()).filter_map(|lane| ready(lane).map(|s| (s, lane))).min()?;
        self.lanes[lane].pop();
        self.busy[lane] = true;
        Some(sequence)
    }

    fn inputs(
        &self,
        plan: &Plan,
        sequences: &BTreeMap<&TaskId, usize>,
        task: PlannedTask<'_>,
    ) -> Vec<ObjectId> {
        let content = |input: &InputSource| match input {
            InputSource::Data(name) => {
                plan.spec().data.iter().find(|d| d.name == *name).expect("a plan names its data").digest
            }
            InputSource::Output { task, output } => {
                self.outputs[sequences[task]].as_ref().expect("a ready task has its inputs")[output]
            }
        };
        task.spec.inputs.iter().map(content).collect()
    }
}

struct Finished {
    sequence: usize,
    action: ActionDigest,
    result: Result<Outputs, TaskError>,
}

fn work(plan: &Plan, runner: &dyn Runner, board: &Board, sender: &mpsc::Sender<Finished>) {
    let sequences = plan.sequences();
    loop {
        let (sequence, inputs) = {
            let mut state = board.lock();
            loop {
                if state.stopped {
                    return;
                }
                if let Some(sequence) = state.take() {
                    break (sequence, state.inputs(plan, &sequences, plan.task(sequence)));
                }
                state = board.changed.wait(state).expect("no thread panics while it holds the board");
            }
        };
        let task = plan.task(sequence);
        let action = action_digest(task.spec, &inputs, plan.spec().seed, plan.spec().numerics);
        let result =
            catch_unwind(AssertUnwindSafe(|| runner.run(task, &action, &inputs))).unwrap_or_else(|_| {
                Err(TaskError::Infrastructure { message: "its code panicked; this is a defect".to_owned() })
            });
        let result = result.and_then(|outputs| exactly_declared(task, outputs));
        {
            let mut state = board.lock();
            state.busy[task.slot.lane as usize] = false;
            match &result {
                Ok(outputs) => state.done(sequence, outputs.clone()),
                Err(TaskError::Failed { .. }) => state.failed(sequence, plan.spec().on_failure),
                Err(TaskError::Infrastructure { .. }) => state.stopped = true,
            }
        }
        board.changed.notify_all();
        if sender.send(Finished { sequence, action, result }).is_err() {
            return;
        }
    }
}

fn exactly_declared(task: PlannedTask<'_>, outputs: Outputs) -> Result<Outputs, TaskError> {
    if outputs.keys().eq(&task.spec.outputs) {
        return Ok(outputs);
    }
    let made: Vec<&str> = outputs.keys().map(String::as_str).collect();
    let message = format!("it made [{}], but declares [{}]", made.join(", "), task.spec.outputs.join(", "));
    Err(TaskError::Failed { how: Failure::Refused, message })
}

/// The reorder buffer: finished tasks wait here until every task before them is committed.
struct Commits<'a> {
    plan: &'a Plan,
    ledger: &'a mut Ledger,
    entries: Vec<Entry>,
    finished: BTreeMap<usize, Finished>,
    failures: Vec<(TaskId, String)>,
}

impl Commits<'_> {
    fn follow(&mut self, receiver: &mpsc::Receiver<Finished>, board: &Board) -> Result<(), DispatchError> {
        let mut infrastructure: Option<(usize, String)> = None;
        self.commit(board)?;
        while self.entries.len() < board.lock().limit {
            let Ok(first) = receiver.recv() else { break };
            for finished in std::iter::once(first).chain(receiver.try_iter()) {
                match finished.result {
                    Err(TaskError::Infrastructure { message })
                        if infrastructure.as_ref().is_none_or(|(s, _)| finished.sequence < *s) =>
                    {
                        infrastructure = Some((finished.sequence, message));
                    }
                    Err(TaskError::Infrastructure { .. }) => {}
                    _ => drop(self.finished.insert(finished.sequence, finished)),
                }
            }
            self.commit(board)?;
        }
        match infrastructure {
            Some((sequence, message)) if self.entries.len() <= sequence => {
                let task = self.plan.task(sequence).spec.id.clone();
                Err(DispatchError::Infrastructure { task, message })
            }
            _ => Ok(()),
        }
    }

    /// Commits every entry whose turn has come, as one group.
    fn commit(&mut self, board: &Board) -> Result<(), DispatchError> {
        let (skipped, limit) = {
            let state = board.lock();
            (state.skipped.clone(), state.limit)
        };
        let mut group = Vec::new();
        loop {
            let sequence = self.entries.len() + group.len();
            if sequence >= limit {
                break;
            }
            let task = self.plan.task(sequence);
            let (action, outcome) = if let Some(&cause) = skipped.get(&sequence) {
                (None, Outcome::Skipped { cause: self.plan.task(cause).spec.id.clone() })
            } else if let Some(finished) = self.finished.remove(&sequence) {
                let outcome = match finished.result {
                    Ok(outputs) => Outcome::Done { outputs: outputs.into_iter().collect() },
                    Err(TaskError::Failed { how, message }) => {
                        self.failures.push((task.spec.id.clone(), message));
                        Outcome::Failed { how }
                    }
                    Err(TaskError::Infrastructure { .. }) => unreachable!("such a task is not finished"),
                };
                (Some(finished.action), outcome)
            } else {
                break;
            };
            let (lane, tick) = (task.slot.lane, task.slot.tick);
            group.push(Entry { task: task.spec.id.clone(), lane, tick, action, outcome });
        }
        if !group.is_empty() {
            self.ledger.append(&group)?;
            for entry in &group {
                tracing::debug!(target: "bitproof::commit", task = %entry.task, lane = entry.lane, tick = entry.tick, "committed");
            }
            self.entries.extend(group);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The dispatcher without threads and time: what may run next, and whose turn it is to be committed.
//!
//! Whoever drives a [`Board`] takes work from it, does it anywhere, in any order, even more than once, and tells how it
//! ended; the turns that come out are the same. [`crate::dispatch`] drives one with threads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bitproof_core_ledger::objects::ObjectId;

use crate::dispatch::{Outputs, TaskError};
use crate::ledger::{Entry, Failure, Outcome};
use crate::plan::{Graph, OnFailure, Plan, PlannedTask};
use crate::task::{ActionDigest, TaskId};

/// The state of one execution of a plan.
///
/// A lane gives out its tasks in order, one at a time; of the lanes whose next task has its inputs, the one with the
/// lowest sequence goes first. Taking and finishing a task take O(log lanes) and its edges.
#[derive(Debug)]
pub struct Board {
    graph: Arc<Graph>,
    on_failure: OnFailure,
    retries: Vec<u32>,
    lanes: Vec<Lane>,
    /// Heads of lanes that may start. One that was finished from elsewhere since is passed over when it is taken.
    ready: BinaryHeap<Reverse<u32>>,
    /// How many dependencies of each task have not ended well.
    waiting: Vec<u32>,
    states: Vec<State>,
    /// What was made so far, by the numbers of the graph.
    contents: Vec<ObjectId>,
    failures: BTreeMap<u32, Failure>,
    /// For each task that was skipped and whose turn came, the failed one of the lowest sequence before it.
    causes: BTreeMap<u32, u32>,
    /// How many attempts at a task failed for what is around it.
    faults: BTreeMap<usize, u32>,
    attempts: BTreeMap<usize, u32>,
    /// The reorder buffer: what ended, from the place of the next turn on.
    ended: VecDeque<Option<Ended>>,
    next: usize,
    /// With [`OnFailure::Stop`], nothing at or past this sequence is kept.
    limit: usize,
    running: usize,
    lost: Option<Lost>,
    cancelled: bool,
}

#[derive(Debug)]
struct Lane {
    /// How many of its tasks are behind it.
    next: usize,
    running: Option<(usize, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It has not ended; it may be running.
    Open,
    Done,
    Failed,
    Skipped,
}

/// A task to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Its place in the commit order.
    pub sequence: usize,
    /// The how-manieth time it is begun, from 1.
    pub attempt: u32,
    /// Its inputs, in the order in which its code takes them.
    pub inputs: Vec<ObjectId>,
}

/// How an attempt at a task ended.
#[derive(Debug, Clone)]
pub struct Finished {
    sequence: usize,
    attempt: u32,
    /// Or what was wrong around it.
    ended: Result<Ended, String>,
}

#[derive(Debug, Clone)]
struct Ended {
    action: ActionDigest,
    outcome: Outcome,
    message: Option<String>,
}

impl Finished {
    /// An attempt at `task` that gave `result`. Outputs other than the declared ones are a failure of the task.
    pub fn new(
        task: PlannedTask<'_>,
        attempt: u32,
        action: ActionDigest,
        result: Result<Outputs, TaskError>,
    ) -> Self {
        let (outcome, message) = match result.and_then(|outputs| exactly_declared(task, outputs)) {
            Ok(outputs) => (Outcome::Done { outputs: outputs.into_iter().collect() }, None),
            Err(TaskError::Failed { how, message }) => (Outcome::Failed { how }, Some(message)),
            Err(TaskError::Infrastructure { message }) => {
                return Self { sequence: task.sequence, attempt, ended: Err(message) }
            }
        };
        Self { sequence: task.sequence, attempt, ended: Ok(Ended { action, outcome, message }) }
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

/// A task whose turn it is to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It ended by itself.
    Ended {
        /// Its place in the commit order.
        sequence: usize,
        /// What its result depends on.
        action: ActionDigest,
        /// How it ended.
        outcome: Outcome,
        /// Why it failed, for people.
        message: Option<String>,
    },
    /// A task that it depends on failed.
    Skipped {
        /// Its place in the commit order.
        sequence: usize,
        /// The failed task with the lowest place in the commit order.
        cause: usize,
    },
}

/// Why nothing more will come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything that the plan and its failures leave had its turn.
    Complete,
    /// A task met, on every attempt, a failure that is not its own.
    Lost(Lost),
    /// Somebody asked to stop.
    Cancelled,
}

/// A task without a result; of several the one with the lowest sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Its place in the commit order.
    pub sequence: usize,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong the last time.
    pub message: String,
}

/// One task ended twice, and differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it ended twice, and differently: first with {first}, then with {second}\n  hint: it depends on something that it does not declare")]
pub struct Divergence {
    /// Its place in the commit order.
    pub sequence: usize,
    /// How it ended first.
    pub first: Ending,
    /// How it ended then.
    pub second: Ending,
}

/// What two ends of one task are compared by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Its outputs, in order.
    Made(Vec<ObjectId>),
    /// How it failed by itself.
    Failed(Failure),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Made(contents) => {
                let short: Vec<String> = contents.iter().map(ObjectId::short).collect();
                write!(f, "outputs [{}]", short.join(", "))
            }
            Self::Failed(how) => write!(f, "a failure ({how:?})"),
        }
    }
}

/// An entry of a ledger that an execution of its plan cannot have made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {sequence} of the ledger, for task {task}, cannot be of this plan: {what}")]
pub struct Misfit {
    /// Its place in the ledger.
    pub sequence: usize,
    /// The task that it names.
    pub task: TaskId,
    /// What is wrong.
    pub what: &'static str,
}

impl Board {
    /// The state after `committed`, which are the first entries of the plan's ledger.
    ///
    /// # Errors
    /// [`Misfit`] when they cannot be.
    pub fn new(plan: &Plan, committed: &[Entry]) -> Result<Self, Misfit> {
        let graph = Arc::clone(plan.graph());
        let mut contents = vec![ObjectId::from_bytes([0; 32]); graph.contents()];
        for (content, data) in contents.iter_mut().zip(&plan.spec().data) {
            *content = data.digest;
        }
        let mut board = Self {
            on_failure: plan.spec().on_failure,
            retries: plan.tasks().map(|task| task.spec.retries).collect(),
            lanes: plan.spec().lanes.iter().map(|_| Lane { next: 0, running: None }).collect(),
            ready: BinaryHeap::new(),
            waiting: (0..graph.len()).map(|task| graph.dependencies(task).len() as u32).collect(),
            states: vec![State::Open; graph.len()],
            contents,
            failures: BTreeMap::new(),
            causes: BTreeMap::new(),
            faults: BTreeMap::new(),
            attempts: BTreeMap::new(),
            ended: VecDeque::new(),
            next: 0,
            limit: graph.len(),
            running: 0,
            lost: None,
            cancelled: false,
            graph,
        };
        for (sequence, entry) in committed.iter().enumerate() {
            let misfit = |what| Misfit { sequence, task: entry.task.clone(), what };
            board.adopt(plan, sequence, entry).map_err(misfit)?;
        }
        for lane in 0..board.lanes.len() {
            if let Some(&task) = board.graph.lane(lane).get(board.lanes[lane].next) {
                board.offer(lane, task as usize);
            }
        }
        Ok(board)
    }

    fn adopt(&mut self, plan: &Plan, sequence: usize, entry: &Entry) -> Result<(), &'static str> {
        if sequence >= self.limit {
            return Err("nothing follows where the plan ends or a failure stops it");
        }
        let task = plan.task(sequence);
        if (&task.spec.id, task.slot.lane, task.slot.tick) != (&entry.task, entry.lane, entry.tick) {
            return Err("the plan has another task, lane or tick there");
        }
        match &entry.outcome {
            Outcome::Skipped { cause } => {
                let due = self.states[sequence] == State::Skipped;
                let cause_is = |s: usize| plan.task(s).spec.id == *cause;
                if !due || !cause_is(self.cause(sequence)) {
                    return Err("no such failure comes before what was skipped");
                }
            }
            outcome => {
                if self.states[sequence] != State::Open || self.waiting[sequence] > 0 {
                    return Err("it ended without its inputs");
                }
                if let Outcome::Done { outputs } = outcome {
                    if !outputs.iter().map(|(name, _)| name).eq(&task.spec.outputs) {
                        return Err("it has other outputs than the plan declares");
                    }
                }
                self.close(sequence, outcome);
            }
        }
        self.next += 1;
        Ok(())
    }

    /// The next task to be done, if there is one now. Its lane is taken until [`Board::finish`] hears of this attempt.
    pub fn take(&mut self) -> Option<Work> {
        if self.cancelled || self.lost.is_some() {
            return None;
        }
        while let Some(Reverse(task)) = self.ready.pop() {
            let sequence = task as usize;
            let lane = &mut self.lanes[self.graph.lane_of(sequence)];
            if self.states[sequence] != State::Open || lane.running.is_some() || sequence >= self.limit {
                continue;
            }
            let attempt = 1 + self.faults.get(&sequence).copied().unwrap_or(0);
            if attempt > 1 {
                self.attempts.insert(sequence, attempt);
            }
            lane.running = Some((sequence, attempt));
            self.running += 1;
            let inputs = self.graph.inputs(sequence).iter().map(|&i| self.contents[i as usize]).collect();
            return Some(Work { sequence, attempt, inputs });
        }
        None
    }

    /// Whether there may be something to take.
    pub fn has_work(&self) -> bool {
        !self.ready.is_empty() && !self.cancelled && self.lost.is_none()
    }

    /// Takes note of how an attempt ended. What ended before is not changed by hearing of it again.
    ///
    /// # Errors
    /// [`Divergence`] when the task ended before in another way. Nothing that was given out can be trusted then.
    ///
    /// # Panics
    /// When the attempt is at a task of another plan, or at one that has no inputs yet.
    pub fn finish(&mut self, finished: Finished) -> Result<(), Divergence> {
        let Finished { sequence, attempt, ended } = finished;
        let lane = self.graph.lane_of(sequence);
        let its_turn = self.lanes[lane].running == Some((sequence, attempt));
        if its_turn {
            self.lanes[lane].running = None;
            self.running -= 1;
        }
        let open = self.states[sequence] == State::Open;
        match ended {
            Ok(ended) if open => {
                assert_eq!(self.waiting[sequence], 0, "a task ends after it had its inputs");
                self.close(sequence, &ended.outcome);
                let place = sequence - self.next;
                if self.ended.len() <= place {
                    self.ended.resize_with(place + 1, || None);
                }
                self.ended[place] = Some(ended);
            }
            Ok(ended) => self.hold_against(sequence, &ended.outcome)?,
            Err(message) if open && its_turn => self.fault(sequence, attempt, message),
            Err(_) => {}
        }
        self.offer(lane, sequence);
        Ok(())
    }

    /// Nothing more is given out. What is running may still end, and have its turn.
    pub fn cancel(&mut self) {
        self.cancelled = true;
    }

    /// Whether the next turn is there.
    pub fn has_turn(&self) -> bool {
        self.next < self.limit && self.states[self.next] != State::Open
    }

    /// The next turns that are there, at most `most`.
    pub fn turns(&mut self, most: usize) -> Vec<Turn> {
        let mut turns = Vec::new();
        while turns.len() < most && self.has_turn() {
            let sequence = self.next;
            self.next += 1;
            let ended = self.ended.pop_front().flatten();
            turns.push(match ended {
                Some(Ended { action, outcome, message }) => {
                    Turn::Ended { sequence, action, outcome, message }
                }
                None => Turn::Skipped { sequence, cause: self.cause(sequence) },
            });
        }
        turns
    }

    /// Why there will be no further turn; `None` as long as one may come.
    pub fn end(&self) -> Option<End> {
        if self.next >= self.limit {
            return Some(End::Complete);
        }
        if self.running > 0 || self.has_turn() {
            return None;
        }
        match &self.lost {
            Some(lost) => Some(End::Lost(lost.clone())),
            None => self.cancelled.then_some(End::Cancelled),
        }
    }

    /// How often each task was begun that was begun more than once.
    pub fn attempts(&self) -> &BTreeMap<usize, u32> {
        &self.attempts
    }

    /// Takes note of how a task ended for the first time.
    fn close(&mut self, sequence: usize, outcome: &Outcome) {
        let graph = Arc::clone(&self.graph);
        match outcome {
            Outcome::Done { outputs } => {
                let made = &mut self.contents[graph.outputs(sequence)];
                assert_eq!(made.len(), outputs.len(), "a task makes what its plan declares");
                made.iter_mut().zip(outputs).for_each(|(content, (_, id))| *content = *id);
                self.states[sequence] = State::Done;
                for &follower in graph.followers(sequence) {
                    let waiting = &mut self.waiting[follower as usize];
                    *waiting -= 1;
                    if *waiting == 0 {
                        self.offer(graph.lane_of(follower as usize), follower as usize);
                    }
                }
            }
            Outcome::Failed { how } => {
                self.states[sequence] = State::Failed;
                self.failures.insert(sequence as u32, *how);
                match self.on_failure {
                    OnFailure::Stop => self.limit = self.limit.min(sequence + 1),
                    OnFailure::Continue => self.skip_after(sequence),
                }
            }
            Outcome::Skipped { .. } => unreachable!("a skipped task is never begun"),
        }
    }

    fn skip_after(&mut self, sequence: usize) {
        let graph = Arc::clone(&self.graph);
        let mut reached = graph.followers(sequence).to_vec();
        while let Some(task) = reached.pop() {
            let task = task as usize;
            if self.states[task] == State::Open {
                self.states[task] = State::Skipped;
                reached.extend(graph.followers(task));
                self.offer(graph.lane_of(task), task);
            }
        }
    }

    /// The failed task of the lowest sequence that a skipped one depends on. Called in commit order, when all of them are
    /// known.
    fn cause(&mut self, sequence: usize) -> usize {
        let cause_of = |&task: &u32| match self.states[task as usize] {
            State::Failed => Some(task),
            State::Skipped => self.causes.get(&task).copied(),
            State::Open | State::Done => None,
        };
        let causes = self.graph.dependencies(sequence).iter().filter_map(cause_of);
        let cause = causes.min().expect("a task is skipped after a failure");
        self.causes.insert(sequence as u32, cause);
        cause as usize
    }

    fn hold_against(&self, sequence: usize, outcome: &Outcome) -> Result<(), Divergence> {
        let first = match self.failures.get(&(sequence as u32)) {
            Some(how) => Ending::Failed(*how),
            None => Ending::Made(self.contents[self.graph.outputs(sequence)].to_vec()),
        };
        let second = match outcome {
            Outcome::Failed { how } => Ending::Failed(*how),
            Outcome::Done { outputs } => Ending::Made(outputs.iter().map(|(_, id)| *id).collect()),
            Outcome::Skipped { .. } => unreachable!("a skipped task is never begun"),
        };
        if first == second {
            Ok(())
        } else {
            Err(Divergence { sequence, first, second })
        }
    }

    fn fault(&mut self, sequence: usize, attempt: u32, message: String) {
        self.faults.insert(sequence, attempt);
        if attempt > self.retries[sequence]
            && !self.cancelled
            && self.lost.as_ref().is_none_or(|lost| sequence < lost.sequence)
        {
            self.lost = Some(Lost { sequence, attempts: attempt, message });
        }
    }

    /// After `changed` ended, was released or got its inputs: if that was what its lane waited for, the lane's next task may
    /// be taken now.
    fn offer(&mut self, lane: usize, changed: usize) {
        let tasks = self.graph.lane(lane);
        let Lane { next, running } = &mut self.lanes[lane];
        if tasks.get(*next) != Some(&(changed as u32)) || running.is_some() {
            return;
        }
        let ended = |task: &&u32| self.states[**task as usize] != State::Open;
        *next += tasks[*next..].iter().take_while(ended).count();
        if let Some(&head) = tasks.get(*next).filter(|&&head| self.waiting[head as usize] == 0) {
            self.ready.push(Reverse(head));
        }
    }
}

//! The dispatcher's threads under a checker that chooses, again and again, which of them goes on at each lock and wake-up.
//!
//! `cargo test -p bitproof-scheduler --features shuttle --test shuttle`; a failure prints the schedule that repeats it with
//! `shuttle::replay`.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bitproof_core_ledger::objects::ObjectId;
use bitproof_scheduler::dispatch::{
    execute, CommitSink as _, End, Execution, MemoryLedger, Outputs, Runner, TaskError,
};
use bitproof_scheduler::ledger::{ledger_root, Entry, Failure};
use bitproof_scheduler::sync::FORGETFUL;
use bitproof_scheduler::{
    ActionDigest, Cancel, Code, InputSource, Native, OnFailure, Plan, PlanSpec, PlannedTask, TaskId, TaskSpec,
};

const SCHEDULES: usize = 1_000;
/// Changes of thread in a schedule that the systematic search chooses.
const DEPTH: usize = 3;

/// One test at a time: whether the checked code is broken is said by a flag of the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn check(scenario: fn()) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    shuttle::check_random(scenario, SCHEDULES);
    shuttle::check_pct(scenario, SCHEDULES, DEPTH);
}

fn task(id: &str, before: &[&str]) -> TaskSpec {
    let input = |id: &&str| InputSource::Output { task: TaskId((*id).to_owned()), output: "out".to_owned() };
    TaskSpec {
        id: TaskId(id.to_owned()),
        stage: id.to_owned(),
        code: Code::Native(Native { kind: "toy".to_owned(), version: 1 }),
        params: BTreeMap::new(),
        inputs: before.iter().map(input).collect(),
        after: Vec::new(),
        outputs: vec!["out".to_owned()],
        cost: 1,
        lane: None,
        retries: 1,
    }
}

fn plan(on_failure: OnFailure) -> Plan {
    let tasks = vec![
        task("a", &[]),
        task("b", &[]),
        task("c", &["a"]),
        task("d", &["a", "b"]),
        task("e", &["c"]),
        task("f", &["d", "e"]),
    ];
    Plan::new(PlanSpec {
        pipeline: "checked".to_owned(),
        seed: 1,
        lanes: (0..3).map(|lane| lane.to_string()).collect(),
        on_failure,
        numerics: 1,
        data: Vec::new(),
        tasks,
        policy: BTreeMap::new(),
    })
    .unwrap()
}

#[derive(Default)]
struct Toy {
    fails: Option<&'static str>,
    /// Something around this task fails, once.
    faulty: Option<&'static str>,
    /// Something around this task always fails.
    lost: Option<&'static str>,
    faulted: AtomicBool,
}

impl Runner for Toy {
    fn run(
        &self,
        task: PlannedTask<'_>,
        action: &ActionDigest,
        _: &[ObjectId],
    ) -> Result<Outputs, TaskError> {
        let id = Some(task.spec.id.0.as_str());
        if self.fails == id {
            return Err(TaskError::Failed { how: Failure::Refused, message: "told to".to_owned() });
        }
        if self.lost == id || (self.faulty == id && !self.faulted.swap(true, Ordering::SeqCst)) {
            return Err(TaskError::Infrastructure { message: "told to".to_owned() });
        }
        Ok([("out".to_owned(), ObjectId::of_bytes(action.as_bytes()))].into())
    }
}

fn run(plan: &Plan, toy: &Toy, committed: Vec<Entry>, workers: usize, cancel: &Cancel) -> Execution {
    let mut ledger = MemoryLedger::new(plan);
    ledger.append(&committed).unwrap();
    let execution = execute(plan, toy, &mut ledger, committed, workers, cancel).unwrap();
    assert_eq!(ledger.root(), ledger_root(plan, &execution.entries));
    execution
}

/// What one worker alone commits.
fn expected(plan: &Plan, fails: Option<&'static str>) -> Vec<Entry> {
    let toy = Toy { fails, ..Toy::default() };
    run(plan, &toy, Vec::new(), 1, &Cancel::new()).entries
}

fn three_workers() {
    let plan = plan(OnFailure::Stop);
    let execution = run(&plan, &Toy::default(), Vec::new(), 3, &Cancel::new());
    assert_eq!((&execution.entries, execution.end), (&expected(&plan, None), End::Complete));
}

#[test]
fn three_workers_commit_what_one_does() {
    check(three_workers);
}

#[test]
fn a_failure_stops_or_skips_the_same_tasks() {
    check(|| {
        for on_failure in [OnFailure::Stop, OnFailure::Continue] {
            let plan = plan(on_failure);
            let toy = Toy { fails: Some("c"), faulty: Some("b"), ..Toy::default() };
            let execution = run(&plan, &toy, Vec::new(), 2, &Cancel::new());
            assert_eq!(execution.end, End::Complete);
            assert_eq!(execution.entries, expected(&plan, Some("c")));
        }
    });
}

#[test]
fn a_lost_task_leaves_a_prefix_from_which_the_run_goes_on() {
    check(|| {
        let plan = plan(OnFailure::Stop);
        let toy = Toy { lost: Some("d"), ..Toy::default() };
        let execution = run(&plan, &toy, Vec::new(), 3, &Cancel::new());
        assert!(matches!(&execution.end, End::Incomplete { task, attempts: 2, .. } if task.0 == "d"));
        let whole = expected(&plan, None);
        assert_eq!(execution.entries, whole[..execution.entries.len()]);
        let resumed = run(&plan, &Toy::default(), execution.entries, 2, &Cancel::new());
        assert_eq!((resumed.entries, resumed.end), (whole, End::Complete));
    });
}

#[test]
fn a_cancel_at_any_time_ends_the_run_with_a_prefix() {
    check(|| {
        let plan = plan(OnFailure::Stop);
        let cancel = Cancel::new();
        let other = cancel.clone();
        let canceller = shuttle::thread::spawn(move || other.cancel());
        let execution = run(&plan, &Toy::default(), Vec::new(), 2, &cancel);
        canceller.join().unwrap();
        let whole = expected(&plan, None);
        assert_eq!(execution.entries, whole[..execution.entries.len()]);
        let complete = execution.entries.len() == whole.len();
        assert_eq!(execution.end, if complete { End::Complete } else { End::Cancelled });
    });
}

#[test]
fn a_lost_wake_up_is_found() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    FORGETFUL.store(true, Ordering::SeqCst);
    let checked = catch_unwind(|| shuttle::check_random(three_workers, SCHEDULES));
    FORGETFUL.store(false, Ordering::SeqCst);
    let panic = checked.expect_err("a dispatcher that loses wake-ups was taken for a good one");
    let message = panic.downcast_ref::<String>().expect("the checker says what it found");
    assert!(message.contains("deadlock"), "{message}");
}

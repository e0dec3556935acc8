use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use bitproof_core_ledger::files::Files;
use proptest::prelude::*;

use super::*;
use crate::ledger::{ledger_root, result_root, Ledger, LedgerView, Outcome};
use crate::plan::tests::{spec, task};
use crate::plan::{OnFailure, PlanSpec};

/// Makes an output from the inputs alone; fails where it is told to; counts how many tasks run at once.
#[derive(Default)]
struct Toy {
    fail: Vec<&'static str>,
    /// A task around which something fails, and how often.
    infrastructure: Option<(&'static str, usize)>,
    faults: AtomicUsize,
    /// A task that asks to stop, and then ends well.
    cancel: Option<(&'static str, Cancel)>,
    settled: std::sync::Mutex<Vec<String>>,
    running: AtomicUsize,
    most: AtomicUsize,
    runs: AtomicUsize,
}

impl Runner for Toy {
    fn run(
        &self,
        task: PlannedTask<'_>,
        action: &ActionDigest,
        _: &[ObjectId],
    ) -> Result<Outputs, TaskError> {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.runs.fetch_add(1, Ordering::SeqCst);
        for _ in 0..task.spec.cost * 20 {
            std::thread::yield_now();
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        let id = task.spec.id.0.as_str();
        if self.fail.contains(&id) {
            return Err(TaskError::Failed { how: Failure::Refused, message: "told to".to_owned() });
        }
        if self
            .infrastructure
            .is_some_and(|(at, times)| at == id && self.faults.fetch_add(1, Ordering::SeqCst) < times)
        {
            return Err(TaskError::Infrastructure { message: "told to".to_owned() });
        }
        if let Some((_, cancel)) = self.cancel.as_ref().filter(|(at, _)| *at == id) {
            cancel.cancel();
        }
        Ok([("out".to_owned(), ObjectId::of_bytes(action.as_bytes()))].into())
    }

    fn settle(&self, group: &[Settled<'_>]) -> Result<(), SettleError> {
        let mut settled = self.settled.lock().unwrap();
        for Settled { task, entry } in group {
            assert_eq!(task.spec.id, entry.task);
            settled.push(entry.task.0.clone());
        }
        Ok(())
    }
}

fn run_in(dir: &std::path::Path, plan: &Plan, toy: &Toy, workers: usize) -> Result<Execution, DispatchError> {
    let (mut ledger, committed) = Ledger::open(&Files::on_disk(), &dir.join("ledger"), plan).unwrap();
    let before = committed.len();
    let cancel = toy.cancel.as_ref().map_or_else(Cancel::new, |(_, cancel)| cancel.clone());
    let execution = execute(plan, toy, &mut ledger, committed, workers, &cancel)?;
    assert_eq!(ledger.root(), ledger_root(plan, &execution.entries));
    let ids: Vec<String> = execution.entries[before..].iter().map(|e| e.task.0.clone()).collect();
    assert_eq!(*toy.settled.lock().unwrap(), ids, "what is committed was settled, once and in order");
    Ok(execution)
}

fn outcomes(execution: &Execution) -> Vec<String> {
    execution
        .entries
        .iter()
        .map(|e| match &e.outcome {
            Outcome::Done { .. } => format!("{} done", e.task),
            Outcome::Failed { .. } => format!("{} failed", e.task),
            Outcome::Skipped { cause } => format!("{} skipped by {cause}", e.task),
        })
        .collect()
}

fn random_plan(edges: &[Vec<usize>], costs: &[u64], lanes: usize) -> Plan {
    let name = |i: usize| format!("t{i:02}");
    let tasks = edges.iter().enumerate().map(|(i, deps)| {
        let deps: Vec<String> = deps.iter().filter(|&&d| d < i).map(|&d| name(d)).collect();
        task(&name(i), costs[i], &deps.iter().map(String::as_str).collect::<Vec<_>>())
    });
    Plan::new(spec(lanes, tasks.collect())).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn one_root_for_every_number_of_workers_and_every_interruption(
        edges in prop::collection::vec(prop::collection::vec(0usize..24, 0..3), 1..24),
        costs in prop::collection::vec(1u64..4, 24),
        lanes in 1usize..5,
        cut in 0usize..400,
    ) {
        let plan = random_plan(&edges, &costs, lanes);
        let dir = tempfile::tempdir().unwrap();
        let mut roots = BTreeSet::new();
        for workers in [1, 2, 8, 32] {
            let dir = dir.path().join(workers.to_string());
            std::fs::create_dir(&dir).unwrap();
            let toy = Toy::default();
            let execution = run_in(&dir, &plan, &toy, workers).unwrap();
            prop_assert!(toy.most.load(Ordering::SeqCst) <= lanes.min(workers), "more tasks at once than lanes");
            roots.insert((ledger_root(&plan, &execution.entries), result_root(&execution.entries)));
        }
        // A kill in the middle: the ledger is cut anywhere after its header, and the same plan is run again.
        let path = dir.path().join("1/ledger");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..(32 + cut).min(bytes.len())]).unwrap();
        let execution = run_in(&dir.path().join("1"), &plan, &Toy::default(), 2).unwrap();
        roots.insert((ledger_root(&plan, &execution.entries), result_root(&execution.entries)));
        prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        prop_assert_eq!(LedgerView::read(&Files::on_disk(), &path, &plan).unwrap().entries, execution.entries);
        prop_assert_eq!(roots.len(), 1);
    }
}

fn forked(on_failure: OnFailure) -> Plan {
    let tasks = vec![
        task("a", 1, &[]),
        task("b", 2, &["a"]),
        task("c", 2, &["a"]),
        task("d", 3, &["b"]),
        task("e", 1, &["c"]),
        task("f", 1, &["d", "e"]),
    ];
    Plan::new(PlanSpec { on_failure, ..spec(2, tasks) }).unwrap()
}

fn run_once(plan: &Plan, toy: &Toy, workers: usize) -> Result<Execution, DispatchError> {
    run_in(tempfile::tempdir().unwrap().path(), plan, toy, workers)
}

#[test]
fn continue_runs_everything_that_does_not_depend_on_the_failure() {
    for workers in [1, 2] {
        let toy = Toy { fail: vec!["b"], ..Toy::default() };
        let execution = run_once(&forked(OnFailure::Continue), &toy, workers).unwrap();
        let expected = ["a done", "b failed", "c done", "d skipped by b", "e done", "f skipped by b"];
        assert_eq!(outcomes(&execution), expected);
        assert_eq!(execution.failures, [(TaskId("b".to_owned()), "told to".to_owned())]);
    }
}

#[test]
fn stop_keeps_nothing_past_the_first_failure_in_commit_order() {
    for workers in [1, 2] {
        let toy = Toy { fail: vec!["b", "c"], ..Toy::default() };
        let execution = run_once(&forked(OnFailure::Stop), &toy, workers).unwrap();
        assert_eq!(outcomes(&execution), ["a done", "b failed"]);
    }
}

#[test]
fn a_failure_of_the_infrastructure_is_not_recorded_and_the_run_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    let plan = forked(OnFailure::Stop);
    let toy = Toy { infrastructure: Some(("c", 1)), ..Toy::default() };
    let execution = run_in(dir.path(), &plan, &toy, 2).unwrap();
    let end = End::Incomplete { task: TaskId("c".to_owned()), message: "told to".to_owned(), attempts: 1 };
    assert_eq!(execution.end, end);
    let recorded = execution.entries.len();
    assert!(recorded <= 2, "c is the third of the commit order");
    let toy = Toy::default();
    let execution = run_in(dir.path(), &plan, &toy, 2).unwrap();
    assert_eq!((execution.entries.len(), execution.end), (plan.len(), End::Complete));
    assert_eq!(toy.runs.load(Ordering::SeqCst), plan.len() - recorded, "what was committed is not run again");
}

#[test]
fn a_task_is_tried_again_as_often_as_its_plan_allows() {
    let with_retries = |retries| {
        let mut spec = forked(OnFailure::Stop).spec().clone();
        spec.tasks.iter_mut().for_each(|task| task.retries = retries);
        Plan::new(spec).unwrap()
    };
    for workers in [1, 2] {
        let toy = || Toy { infrastructure: Some(("c", 2)), ..Toy::default() };
        let plan = with_retries(2);
        let execution = run_once(&plan, &toy(), workers).unwrap();
        assert_eq!(execution.end, End::Complete);
        assert_eq!(execution.attempts, [(TaskId("c".to_owned()), 3)].into());
        let calm = run_once(&plan, &Toy::default(), workers).unwrap();
        assert_eq!(execution.entries, calm.entries, "attempts reach no entry");
        let execution = run_once(&with_retries(1), &toy(), workers).unwrap();
        assert!(matches!(execution.end, End::Incomplete { attempts: 2, .. }), "{:?}", execution.end);
        // A failure by itself is not tried again.
        let toy = Toy { fail: vec!["c"], ..Toy::default() };
        let execution = run_once(&plan, &toy, workers).unwrap();
        assert_eq!((execution.end, execution.attempts.len()), (End::Complete, 0));
    }
}

#[test]
fn a_cancelled_run_keeps_what_is_done_and_goes_on_later() {
    for workers in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let plan = forked(OnFailure::Stop);
        let toy = Toy { cancel: Some(("a", Cancel::new())), ..Toy::default() };
        let execution = run_in(dir.path(), &plan, &toy, workers).unwrap();
        assert_eq!((outcomes(&execution), execution.end), (vec!["a done".to_owned()], End::Cancelled));
        // Asked to stop before it begins, it begins nothing.
        let toy = Toy { cancel: Some(("a", Cancel::new())), ..Toy::default() };
        toy.cancel.as_ref().unwrap().1.cancel();
        let execution = run_in(dir.path(), &plan, &toy, workers).unwrap();
        assert_eq!((execution.entries.len(), execution.end), (1, End::Cancelled));
        assert_eq!(toy.runs.load(Ordering::SeqCst), 0);
        let execution = run_in(dir.path(), &plan, &Toy::default(), workers).unwrap();
        assert_eq!((execution.entries.len(), execution.end), (plan.len(), End::Complete));
    }
}

#[test]
fn a_runner_that_blocks_until_it_is_cancelled_is_no_loss() {
    struct Blocking(Cancel);
    impl Runner for Blocking {
        fn run(&self, _: PlannedTask<'_>, _: &ActionDigest, _: &[ObjectId]) -> Result<Outputs, TaskError> {
            let (sender, receiver) = std::sync::mpsc::channel();
            let _subscription = self.0.subscribe(move || sender.send(()).unwrap_or_default());
            let inner = self.0.clone();
            std::thread::scope(|scope| {
                scope.spawn(move || inner.cancel());
                receiver.recv().unwrap();
            });
            Err(TaskError::Infrastructure { message: "stopped".to_owned() })
        }
    }
    let plan = forked(OnFailure::Stop);
    let cancel = Cancel::new();
    let mut ledger = MemoryLedger::new(&plan);
    let execution = execute(&plan, &Blocking(cancel.clone()), &mut ledger, Vec::new(), 2, &cancel).unwrap();
    assert_eq!((execution.entries.len(), execution.end), (0, End::Cancelled));
}

#[test]
fn what_cannot_be_settled_is_not_committed() {
    struct Unsettled;
    impl Runner for Unsettled {
        fn run(
            &self,
            _: PlannedTask<'_>,
            action: &ActionDigest,
            _: &[ObjectId],
        ) -> Result<Outputs, TaskError> {
            Ok([("out".to_owned(), ObjectId::of_bytes(action.as_bytes()))].into())
        }
        fn settle(&self, _: &[Settled<'_>]) -> Result<(), SettleError> {
            Err(SettleError::new("the disk is full"))
        }
    }
    let plan = forked(OnFailure::Stop);
    let mut ledger = MemoryLedger::new(&plan);
    let empty = ledger.root();
    let error = execute(&plan, &Unsettled, &mut ledger, Vec::new(), 2, &Cancel::new()).unwrap_err();
    assert_eq!((error.to_string(), ledger.root()), ("the disk is full".to_owned(), empty));
}

#[test]
fn a_panic_of_a_runner_is_a_failure_around_the_task() {
    struct Panicking;
    impl Runner for Panicking {
        fn run(&self, _: PlannedTask<'_>, _: &ActionDigest, _: &[ObjectId]) -> Result<Outputs, TaskError> {
            panic!("told to")
        }
    }
    let plan = forked(OnFailure::Stop);
    let mut ledger = MemoryLedger::new(&plan);
    let execution = execute(&plan, &Panicking, &mut ledger, Vec::new(), 2, &Cancel::new()).unwrap();
    assert!(matches!(&execution.end, End::Incomplete { message, .. } if message.contains("panicked")));
}

#[test]
fn many_workers_run_no_more_than_one_task_of_a_lane() {
    struct Lanes(Vec<AtomicUsize>, AtomicUsize, AtomicUsize);
    impl Runner for Lanes {
        fn run(
            &self,
            task: PlannedTask<'_>,
            action: &ActionDigest,
            _: &[ObjectId],
        ) -> Result<Outputs, TaskError> {
            let lane = &self.0[task.slot.lane as usize];
            assert_eq!(lane.fetch_add(1, Ordering::SeqCst), 0, "two tasks on one lane");
            assert!(task.spec.lane.is_none_or(|pinned| pinned == task.slot.lane));
            let now = self.1.fetch_add(1, Ordering::SeqCst) + 1;
            self.2.fetch_max(now, Ordering::SeqCst);
            // Long enough that every worker gets its turn, without a clock.
            (0..50).for_each(|_| std::thread::yield_now());
            self.1.fetch_sub(1, Ordering::SeqCst);
            lane.fetch_sub(1, Ordering::SeqCst);
            Ok([("out".to_owned(), ObjectId::of_bytes(action.as_bytes()))].into())
        }
    }
    for lanes in [1, 3, 8] {
        let mut tasks: Vec<_> = (0..200).map(|i| task(&format!("t{i:03}"), 1 + i % 3, &[])).collect();
        tasks.iter_mut().step_by(5).for_each(|task| task.lane = Some(lanes - 1));
        let plan = Plan::new(spec(lanes as usize, tasks)).unwrap();
        let runner = Lanes((0..lanes).map(|_| AtomicUsize::new(0)).collect(), 0.into(), 0.into());
        let mut ledger = MemoryLedger::new(&plan);
        let execution = execute(&plan, &runner, &mut ledger, Vec::new(), 32, &Cancel::new()).unwrap();
        assert_eq!(execution.end, End::Complete, "no assertion of the runner failed");
        let most = runner.2.into_inner();
        assert!(most <= lanes as usize, "{most} tasks at once on {lanes} lanes");
        assert!(execution.entries.iter().all(|e| {
            let sequence = plan.sequences()[&e.task];
            plan.task(sequence).spec.lane.is_none_or(|lane| lane == e.lane)
        }));
    }
}

#[test]
fn outputs_other_than_the_declared_ones_fail_the_task() {
    struct Other;
    impl Runner for Other {
        fn run(&self, _: PlannedTask<'_>, _: &ActionDigest, _: &[ObjectId]) -> Result<Outputs, TaskError> {
            Ok([("other".to_owned(), ObjectId::of_bytes(b""))].into())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan::new(spec(1, vec![task("a", 1, &[])])).unwrap();
    let (mut ledger, committed) = Ledger::open(&Files::on_disk(), &dir.path().join("ledger"), &plan).unwrap();
    let execution = execute(&plan, &Other, &mut ledger, committed, 1, &Cancel::new()).unwrap();
    assert_eq!(execution.failures[0].1, "it made [other], but declares [out]");
}

#[test]
fn the_ledger_of_another_plan_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    run_in(dir.path(), &forked(OnFailure::Stop), &Toy::default(), 1).unwrap();
    let error = Ledger::open(&Files::on_disk(), &dir.path().join("ledger"), &forked(OnFailure::Continue))
        .unwrap_err();
    assert!(matches!(error, LedgerError::Chain { offset: 32, .. }), "{error}");
}

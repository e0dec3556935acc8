use std::sync::atomic::{AtomicUsize, Ordering};

use bitproof_core_ledger::files::Files;
use proptest::prelude::*;

use super::*;
use crate::ledger::{ledger_root, result_root, LedgerView};
use crate::plan::tests::{spec, task};
use crate::plan::PlanSpec;

/// Makes an output from the inputs alone; fails where it is told to; counts how many tasks run at once.
#[derive(Default)]
struct Toy {
    fail: Vec<&'static str>,
    infrastructure: Option<&'static str>,
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
        if self.infrastructure == Some(id) {
            return Err(TaskError::Infrastructure { message: "told to".to_owned() });
        }
        Ok([("out".to_owned(), ObjectId::of_bytes(action.as_bytes()))].into())
    }
}

fn run_in(dir: &std::path::Path, plan: &Plan, toy: &Toy, workers: usize) -> Result<Execution, DispatchError> {
    let (mut ledger, committed) = Ledger::open(&Files::on_disk(), &dir.join("ledger"), plan).unwrap();
    let execution = execute(plan, toy, &mut ledger, committed, workers)?;
    assert_eq!(ledger.root(), ledger_root(plan, &execution.entries));
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
    let toy = Toy { infrastructure: Some("c"), ..Toy::default() };
    let error = run_in(dir.path(), &plan, &toy, 2).unwrap_err();
    assert_eq!(error.to_string(), "task c: told to");
    let recorded =
        LedgerView::read(&Files::on_disk(), &dir.path().join("ledger"), &plan).unwrap().entries.len();
    assert!(recorded <= 2, "c is the third of the commit order");
    let toy = Toy::default();
    let execution = run_in(dir.path(), &plan, &toy, 2).unwrap();
    assert_eq!(execution.entries.len(), plan.len());
    assert_eq!(toy.runs.load(Ordering::SeqCst), plan.len() - recorded, "what was committed is not run again");
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
    let execution = execute(&plan, &Other, &mut ledger, committed, 1).unwrap();
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

//! Planning and dispatching many tasks that do nothing, and a chain of commands that do little.

use std::collections::BTreeMap;

use bitproof_core_ledger::chain::ChainHead;
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::objects::ObjectId;
use bitproof_scheduler::dispatch::{
    execute, CommitSink, Execution, MemoryLedger, Outputs, Runner, TaskError,
};
use bitproof_scheduler::ledger::{ledger_root, Ledger};
use bitproof_scheduler::{
    ActionDigest, Cancel, Code, InputSource, Native, OnFailure, Plan, PlanSpec, PlannedTask, TaskId, TaskSpec,
};
use bitproof_telemetry::rss_bytes;

use super::ledger::scratch;
use super::{chain, emit_all, thread_counts, Emit};
use crate::harness::{Harness, Items, Measurement, Unrepeatable};

const TASKS: u64 = 100_000;
const LANES: usize = 16;
const ITEMS: Items = Items { count: TASKS, of: "task" };

pub(super) fn run(harness: &Harness<'_>, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    // First, as a command line does it: the memory of a process makes it slow to fork.
    chain::run(harness, emit)?;
    let rss_before = rss_bytes();
    let plan = Plan::new(spec()).expect("the tasks have an order");
    let once = dispatch(&plan, &mut MemoryLedger::new(&plan), 1);
    // The plan, the board, and every entry.
    let kept = rss_before.zip(rss_bytes()).map_or(0, |(before, after)| after as i64 - before as i64);
    drop(once);
    planning(harness, plan.clone(), emit)?;
    in_memory(harness, &plan, kept, emit)?;
    durable(harness, &plan, emit)
}

/// Tasks that each wait for up to two of the 400 before them.
fn spec() -> PlanSpec {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let id = |i: u64| TaskId(format!("task-{i:06}"));
    let mut tasks = Vec::new();
    for i in 0..TASKS {
        let inputs = (0..random(3).min(i))
            .map(|_| InputSource::Output { task: id(i - 1 - random(i.min(400))), output: "out".to_owned() })
            .collect();
        tasks.push(TaskSpec {
            id: id(i),
            stage: "nothing".to_owned(),
            code: Code::Native(Native { kind: "nothing".to_owned(), version: 1 }),
            params: BTreeMap::new(),
            inputs,
            after: Vec::new(),
            outputs: vec!["out".to_owned()],
            cost: 1 + random(9),
            lane: None,
            retries: 0,
        });
    }
    PlanSpec {
        pipeline: "nothing".to_owned(),
        seed: 1,
        lanes: (0..LANES).map(|lane| lane.to_string()).collect(),
        on_failure: OnFailure::Stop,
        numerics: 1,
        data: Vec::new(),
        tasks,
        policy: BTreeMap::new(),
    }
}

struct Nothing;

impl Runner for Nothing {
    fn run(&self, _: PlannedTask<'_>, action: &ActionDigest, _: &[ObjectId]) -> Result<Outputs, TaskError> {
        Ok([("out".to_owned(), ObjectId::from_bytes(*action.as_bytes()))].into())
    }
}

fn dispatch(plan: &Plan, sink: &mut dyn CommitSink, workers: usize) -> Execution {
    let execution = execute(plan, &Nothing, sink, Vec::new(), workers, &Cancel::new());
    execution.expect("nothing can fail")
}

fn planning(harness: &Harness<'_>, plan: Plan, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    // What a plan was made of is planned again: a copy would take as long.
    let mut spec = Some(plan.into_spec());
    let work = || {
        let plan = Plan::new(spec.take().expect("it was put back")).expect("the tasks have an order");
        let digest = plan.digest();
        spec = Some(plan.into_spec());
        digest
    };
    let measured = harness.measure("scheduler/plan-100000", 1, work, |digest| digest.as_bytes().to_vec())?;
    emit(Measurement { items: Some(ITEMS), ..measured });
    Ok(())
}

fn in_memory(harness: &Harness<'_>, plan: &Plan, kept: i64, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let measure = |workers: usize| {
        let work = || {
            let mut ledger = MemoryLedger::new(plan);
            (dispatch(plan, &mut ledger, workers), ledger.root())
        };
        let bytes = |(_, root): &(Execution, ChainHead)| root.as_bytes().to_vec();
        let measured = harness.measure("scheduler/dispatch-in-memory", workers, work, bytes)?;
        Ok(Measurement { items: Some(ITEMS), memory_delta_bytes: kept, ..measured })
    };
    emit_all(thread_counts().into_iter().map(measure), emit)
}

fn durable(harness: &Harness<'_>, plan: &Plan, emit: &mut Emit<'_>) -> Result<(), Unrepeatable> {
    let dir = scratch();
    let path = dir.path().join("ledger");
    let work = || {
        let _ = std::fs::remove_file(&path);
        let (mut ledger, _) = Ledger::open(&Files::on_disk(), &path, plan).expect("the folder is writable");
        (dispatch(plan, &mut ledger, 1), ledger.root())
    };
    let bytes = |(execution, root): &(Execution, ChainHead)| {
        assert_eq!(*root, ledger_root(plan, &execution.entries));
        root.as_bytes().to_vec()
    };
    let measured = harness.measure("scheduler/dispatch-durable", 1, work, bytes)?;
    emit(Measurement { items: Some(ITEMS), ..measured });
    Ok(())
}

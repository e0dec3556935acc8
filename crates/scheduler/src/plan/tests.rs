use super::*;
use crate::param::ParamValue;
use crate::task::{Code, InputSource, Native};
use proptest::prelude::*;

pub(crate) fn task(id: &str, cost: u64, deps: &[&str]) -> TaskSpec {
    TaskSpec {
        id: TaskId(id.to_owned()),
        stage: id.to_owned(),
        code: Code::Native(Native { kind: "test".to_owned(), version: 1 }),
        params: BTreeMap::new(),
        inputs: deps
            .iter()
            .map(|d| InputSource::Output { task: TaskId((*d).to_owned()), output: "out".to_owned() })
            .collect(),
        after: Vec::new(),
        outputs: vec!["out".to_owned()],
        cost,
        lane: None,
        retries: 0,
    }
}

pub(crate) fn spec(lanes: usize, tasks: Vec<TaskSpec>) -> PlanSpec {
    PlanSpec {
        pipeline: "p".to_owned(),
        seed: 0,
        lanes: (0..lanes).map(|i| i.to_string()).collect(),
        on_failure: OnFailure::Stop,
        numerics: 1,
        data: Vec::new(),
        tasks,
        policy: BTreeMap::new(),
    }
}

fn layout(plan: &Plan) -> Vec<(String, u32, u64)> {
    plan.tasks().map(|t| (t.spec.id.0.clone(), t.slot.lane, t.slot.tick)).collect()
}

#[test]
fn a_diamond_on_two_lanes() {
    let tasks =
        vec![task("d", 1, &["b", "c"]), task("b", 2, &["a"]), task("c", 5, &["a"]), task("a", 1, &[])];
    let plan = Plan::new(spec(2, tasks)).unwrap();
    let expected = [("a", 0, 0), ("c", 0, 1), ("b", 1, 1), ("d", 0, 6)];
    assert_eq!(layout(&plan), expected.map(|(id, lane, tick)| (id.to_owned(), lane, tick)));
    assert_eq!((plan.makespan(), plan.critical_path()), (7, 7));
    assert_eq!(Plan::decode(&plan.encode()).unwrap(), plan);
}

#[test]
fn a_pinned_task_keeps_its_lane() {
    let mut tasks = vec![task("a", 1, &[]), task("b", 1, &[])];
    tasks[0].lane = Some(1);
    tasks[1].lane = Some(1);
    let plan = Plan::new(spec(2, tasks.clone())).unwrap();
    assert_eq!(layout(&plan), [("a".to_owned(), 1, 0), ("b".to_owned(), 1, 1)]);
    tasks[0].lane = Some(2);
    assert!(matches!(Plan::new(spec(2, tasks)), Err(PlanError::UnknownLane { lane: 2, lanes: 2, .. })));
}

#[test]
fn ids_with_one_beginning_are_sorted_like_any_others() {
    let ids = ["b", "a\0", "a", "a-long-beginning-2", "a-long-beginning-10", "a-long-beginnin", "", "\u{e9}"];
    let tasks: Vec<TaskSpec> = ids.map(|id| task(id, 1, &[])).into();
    let sorted: Vec<&str> = sorted_by_id(&tasks).iter().map(|&i| ids[i as usize]).collect();
    let mut expected = ids;
    expected.sort_unstable();
    assert_eq!(sorted, expected);
}

#[test]
fn bad_graphs_are_refused() {
    let cycle = vec![task("a", 1, &["c"]), task("b", 1, &["a"]), task("c", 1, &["b"]), task("x", 1, &["a"])];
    let error = Plan::new(spec(1, cycle)).unwrap_err().to_string();
    assert_eq!(error, "the tasks wait for each other: a -> b -> c -> a");
    let unknown = Plan::new(spec(1, vec![task("a", 1, &["z"])]));
    assert!(matches!(unknown, Err(PlanError::UnknownInput { .. })));
    assert!(matches!(Plan::new(spec(1, vec![task("a", 1, &[]); 2])), Err(PlanError::Duplicate { .. })));
    assert!(matches!(Plan::new(spec(0, vec![task("a", 1, &[])])), Err(PlanError::Range { .. })));
    assert!(matches!(Plan::new(spec(1, vec![task("a", 0, &[])])), Err(PlanError::Range { .. })));
    assert!(matches!(Plan::new(spec(1, vec![])), Err(PlanError::Range { .. })));
    let mut twice = task("a", 1, &[]);
    twice.outputs = vec!["out".to_owned(); 2];
    assert!(matches!(Plan::new(spec(1, vec![twice])), Err(PlanError::Outputs { .. })));
}

#[test]
fn a_plan_above_the_limit_is_refused() {
    let long = |bytes: usize| {
        let mut task = task("a", 1, &[]);
        task.params.insert("p".to_owned(), ParamValue::Text("x".repeat(bytes)));
        Plan::new(spec(1, vec![task]))
    };
    let rest = long(0).unwrap().encode().len();
    assert_eq!(long(CANON_BYTES - rest).unwrap().encode().len(), CANON_BYTES);
    let error = long(CANON_BYTES - rest + 1).unwrap_err();
    assert_eq!(error, PlanError::TooLarge { tasks: 1, len: CANON_BYTES as u64 + 1 });
}

#[test]
fn the_critical_path_and_the_use_of_each_lane() {
    let tasks =
        vec![task("d", 1, &["b", "c"]), task("b", 2, &["a"]), task("c", 5, &["a"]), task("a", 1, &[])];
    let plan = Plan::new(spec(2, tasks)).unwrap();
    let path: Vec<&str> = plan.critical_path_tasks().iter().map(|t| t.spec.id.0.as_str()).collect();
    assert_eq!(path, ["a", "c", "d"]);
    let used: Vec<(&str, u64, u64)> =
        plan.lane_use().iter().map(|lane| (lane.name, lane.busy, lane.per_mille())).collect();
    assert_eq!(used, [("0", 7, 1000), ("1", 2, 285)]);
}

#[test]
fn a_made_up_slot_is_refused() {
    let mut plan = Plan::new(spec(2, vec![task("a", 1, &[]), task("b", 1, &["a"])])).unwrap();
    plan.slots[1].tick += 1;
    assert_eq!(Plan::decode(&plan.encode()), Err(PlanError::NotAsPlanned));
    plan.slots[1].tick -= 1;
    plan.spec.tasks.swap(0, 1);
    assert_eq!(Plan::decode(&plan.encode()), Err(PlanError::NotAsPlanned));
}

proptest! {
    #[test]
    fn plans_respect_the_graph_and_ignore_the_order_of_the_file(
        edges in prop::collection::vec(prop::collection::vec(0usize..40, 0..4), 1..40),
        costs in prop::collection::vec(1u64..9, 40),
        lanes in 1usize..6,
    ) {
        let name = |i: usize| format!("t{i:02}");
        let tasks: Vec<TaskSpec> = edges.iter().enumerate().map(|(i, deps)| {
            let deps: Vec<String> = deps.iter().filter(|&&d| d < i).map(|&d| name(d)).collect();
            task(&name(i), costs[i], &deps.iter().map(String::as_str).collect::<Vec<_>>())
        }).collect();
        let plan = Plan::new(spec(lanes, tasks.clone())).unwrap();
        let reversed = Plan::new(spec(lanes, tasks.into_iter().rev().collect())).unwrap();
        prop_assert_eq!(plan.digest(), reversed.digest());
        let sequences = plan.sequences();
        let mut lane_free = vec![0; lanes];
        for t in plan.tasks() {
            for d in t.spec.dependencies() {
                let d = plan.task(sequences[d]);
                prop_assert!(d.sequence < t.sequence && d.slot.tick + d.spec.cost <= t.slot.tick);
            }
            let free = &mut lane_free[t.slot.lane as usize];
            prop_assert!(*free <= t.slot.tick, "a lane runs one task at a time");
            *free = t.slot.tick + t.spec.cost;
        }
        prop_assert!(plan.critical_path() <= plan.makespan());
    }
}

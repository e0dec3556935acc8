//! Random plans, and what a plain loop over one gives.

use std::collections::BTreeMap;

use bitproof_core_ledger::objects::ObjectId;
use bitproof_scheduler::ledger::{Entry, Failure, Outcome};
use bitproof_scheduler::{
    action_digest, ActionDigest, Code, DataInput, InputSource, Native, OnFailure, Plan, PlanSpec, TaskId,
    TaskSpec,
};

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// At most 500 tasks; most plans are small.
pub(crate) fn plan(random: &mut Random) -> Plan {
    let most = [8, 40, 40, 120, 120, 500][random.below(6)];
    let tasks = 1 + random.below(most);
    let lanes = 1 + random.below(16);
    let reach = 1 + random.below(30);
    let name = |i: usize| TaskId(format!("t{i}"));
    let mut specs: Vec<TaskSpec> = Vec::new();
    for i in 0..tasks {
        let mut spec = TaskSpec {
            id: name(i),
            stage: "s".to_owned(),
            code: Code::Native(Native { kind: "toy".to_owned(), version: 1 }),
            params: BTreeMap::new(),
            inputs: Vec::new(),
            after: Vec::new(),
            outputs: ["a", "b", "c"][..1 + random.below(3)].iter().map(|&o| o.to_owned()).collect(),
            cost: 1 + random.below(9) as u64,
            lane: random.one_in(10).then(|| random.below(lanes) as u32),
            retries: random.below(3) as u32,
        };
        for _ in 0..random.below(4) {
            if i == 0 || random.one_in(8) {
                spec.inputs.push(InputSource::Data("d".to_owned()));
                continue;
            }
            let before = i - 1 - random.below(reach.min(i));
            if random.one_in(5) {
                spec.after.push(name(before));
            } else {
                let outputs: &[String] = &specs[before].outputs;
                let output = outputs[random.below(outputs.len())].clone();
                spec.inputs.push(InputSource::Output { task: name(before), output });
            }
        }
        specs.push(spec);
    }
    let (digest, bytes) = (ObjectId::of_bytes(b"data"), 4);
    Plan::new(PlanSpec {
        pipeline: "simulated".to_owned(),
        seed: random.next(),
        lanes: (0..lanes).map(|lane| lane.to_string()).collect(),
        on_failure: if random.one_in(2) { OnFailure::Stop } else { OnFailure::Continue },
        numerics: 1,
        data: vec![DataInput { name: "d".to_owned(), digest, bytes, folder: false }],
        tasks: specs,
        policy: BTreeMap::new(),
    })
    .expect("it has no cycle")
}

/// One task in so many fails by itself; 0 stands for none.
pub(crate) type FailureRate = u64;

/// What a task makes, a pure function of its action: its outputs' bytes, or a failure.
pub(crate) fn made(
    task: &TaskSpec,
    action: &ActionDigest,
    rate: FailureRate,
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let draw = u64::from_le_bytes(action.as_bytes()[..8].try_into().expect("eight bytes"));
    if rate > 0 && draw % rate == 0 {
        return Err(Failure::Exited((draw >> 60) as i32));
    }
    Ok(task.outputs.iter().map(|name| (name.clone(), format!("{name} of {action}").into_bytes())).collect())
}

/// The entries that the plan has, one task after the other.
pub(crate) fn reference(plan: &Plan, rate: FailureRate) -> Vec<Entry> {
    let sequences = plan.sequences();
    let mut entries: Vec<Entry> = Vec::new();
    for task in plan.tasks() {
        let cause = task.spec.dependencies().filter_map(|id| {
            let before = &entries[sequences[id]];
            match &before.outcome {
                Outcome::Failed { .. } => Some(sequences[id]),
                Outcome::Skipped { cause } => Some(sequences[cause]),
                Outcome::Done { .. } => None,
            }
        });
        let (action, outcome) = if let Some(cause) = cause.min() {
            (None, Outcome::Skipped { cause: plan.task(cause).spec.id.clone() })
        } else {
            let input = |source: &InputSource| match source {
                InputSource::Data(_) => plan.spec().data[0].digest,
                InputSource::Output { task, output } => {
                    entries[sequences[task]].output(output).expect("it is done")
                }
            };
            let inputs: Vec<ObjectId> = task.spec.inputs.iter().map(input).collect();
            let action = action_digest(task.spec, &inputs, plan.spec().seed, plan.spec().numerics);
            let outcome = match made(task.spec, &action, rate) {
                Ok(made) => Outcome::Done {
                    outputs: made.into_iter().map(|(name, b)| (name, ObjectId::of_bytes(&b))).collect(),
                },
                Err(how) => Outcome::Failed { how },
            };
            (Some(action), outcome)
        };
        let stops = matches!(outcome, Outcome::Failed { .. }) && plan.spec().on_failure == OnFailure::Stop;
        let (lane, tick) = (task.slot.lane, task.slot.tick);
        entries.push(Entry { task: task.spec.id.clone(), lane, tick, action, outcome });
        if stops {
            break;
        }
    }
    entries
}

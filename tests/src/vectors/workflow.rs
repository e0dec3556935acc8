//! The vectors of what `scheduler`, `experiment-graph`, `telemetry` and `training` read.

use std::collections::BTreeMap;

use bitproof_core_ledger::canon;
use bitproof_core_ledger::chain::Chain;
use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_core_ledger::log::LogKind;
use bitproof_experiment_graph::{Better, Gate, GateReceipt, MetricSet, OnMissing, OnNoBaseline, RunFacts};
use bitproof_scheduler::command::{CodeFile, CommandOutput, CommandSpec, Isolation, ReplayMode};
use bitproof_scheduler::ledger::{Entry, Outcome};
use bitproof_scheduler::{
    Code, Native, OnFailure, ParamValue, Plan, PlanSpec, PlannedTask, TaskId, TaskSpec,
};
use bitproof_telemetry::{write_jsonl, Record, Unit, MAX_LINE_BYTES};
use bitproof_training::evidence::GitState;
use bitproof_training::governance::{
    chain, compile, Control, ControlPoint, Entry as GovernanceEntry, Evidence, InputEvidence,
    Outcome as ControlOutcome, Policy, SignedArtifact, VerdictSeen, GOVERNANCE,
};
use bitproof_training::manifest::Manifest;
use bitproof_training::models::{self, DataShape, ModelSpec};
use bitproof_training::safetensors::{self as tensors, Metadata, Tensor, Tensors};
use bitproof_training::step_roots::StepRoots;

use super::{Book, Chapter};
use crate::decoders::written;

pub(super) const BOOKS: &[Chapter] = &[
    ("plan", two_tasks),
    ("ledger", ledger),
    ("governance", governance),
    ("governance_policy", governance_policy),
    ("control_evidence", control_evidence),
    ("manifest", manifest),
    ("metrics", metrics),
    ("receipt", receipt),
    ("safetensors", safetensors),
    ("model", model),
    ("pipeline", pipeline),
    ("gate_policy", gate_policy),
    ("rules", rules),
    ("telemetry", telemetry),
];

/// The plan of the vectors: a part of this program and a command on two lanes.
///
/// # Panics
/// Never: the plan is valid.
pub fn plan() -> Plan {
    let command = CommandSpec {
        argv: ["python", "fit.py", "{out:model}"].map(str::to_owned).to_vec(),
        code: vec![CodeFile {
            path: "fit.py".to_owned(),
            content: Digest::of_bytes(b"print()"),
            executable: false,
        }],
        inputs: Vec::new(),
        outputs: vec![CommandOutput { name: "model".to_owned(), path: "model".to_owned(), folder: true }],
        metrics: Vec::new(),
        env: BTreeMap::from([("CUDA_VISIBLE_DEVICES".to_owned(), None)]),
        tools: BTreeMap::from([("python".to_owned(), Some(Digest::of_bytes(b"numpy==2.4.6")))]),
        threads: 1,
        isolation: Isolation::Best,
        replay: ReplayMode::Tolerance { rtol: 1e-4f64.to_bits(), atol: 0 },
        timeout_ns: Some(1_000_000_000),
    };
    let task = |id: &str, code: Code, after: &[&str]| TaskSpec {
        id: TaskId(id.to_owned()),
        stage: id.to_owned(),
        code,
        params: BTreeMap::from([("epochs".to_owned(), ParamValue::Int(3))]),
        inputs: Vec::new(),
        after: after.iter().map(|id| TaskId((*id).to_owned())).collect(),
        lane: None,
        retries: 0,
        cost: 2,
        outputs: vec!["model".to_owned()],
    };
    let spec = PlanSpec {
        pipeline: "vectors".to_owned(),
        seed: 7,
        lanes: vec!["0".to_owned(), "1".to_owned()],
        on_failure: OnFailure::Stop,
        numerics: 1,
        data: Vec::new(),
        tasks: vec![
            task("first", Code::Native(Native { kind: "train".to_owned(), version: 1 }), &[]),
            task("second", Code::Command(Box::new(command)), &["first"]),
        ],
        policy: BTreeMap::from([("gates".to_owned(), vec![0; 8])]),
    };
    Plan::new(spec).expect("the plan is valid")
}

fn two_tasks(book: &mut Book<'_>) {
    book.strict("two-tasks", plan().encode());
}

fn entries(plan: &Plan) -> Vec<Entry> {
    let entry = |task: PlannedTask<'_>| Entry {
        task: task.spec.id.clone(),
        lane: task.slot.lane,
        tick: task.slot.tick,
        action: Some(Digest::from_bytes([9; 32])),
        outcome: Outcome::Done {
            outputs: vec![("model".to_owned(), Digest::of_bytes(task.spec.id.0.as_bytes()))],
        },
    };
    plan.tasks().map(entry).collect()
}

fn ledger(book: &mut Book<'_>) {
    let plan = plan();
    let mut chain = Chain::bound_to(plan.digest().as_bytes());
    let records: Vec<Vec<u8>> =
        entries(&plan).iter().map(|entry| chain.push(&canon::encode(entry))).collect();
    let log = |records: &[&[u8]]| written(LogKind::LEDGER, records);
    book.add("both-tasks", log(&[&records[0], &records[1]]));
    book.add("the-first-task", log(&[&records[0]]));
    book.add("not-the-second-task-alone", log(&[&records[1]]));
    book.add("not-swapped", log(&[&records[1], &records[0]]));
    book.add("not-a-task-twice", log(&[&records[0], &records[0]]));
}

/// The run of the vectors.
pub const UID: [u8; 16] = [6; 16];

/// The plan of the vectors, under three controls.
///
/// # Panics
/// Never: the plan is valid.
pub fn governed_plan() -> Plan {
    let mut spec = plan().into_spec();
    let policy = Policy::new(&[Control::Gates, Control::CleanSource, Control::Budgets], []);
    spec.policy.insert(GOVERNANCE.to_owned(), policy.encode().expect("it demands something"));
    Plan::new(spec).expect("the plan is valid")
}

fn governance(book: &mut Book<'_>) {
    let plan = governed_plan();
    let points = compile(&plan).expect("the plan is valid");
    let entry = |point: &ControlPoint| GovernanceEntry {
        control: point.control,
        position: point.position,
        task: point.task.clone(),
        lane: point.lane,
        tick: point.tick,
        evidence: Some(Digest::of_bytes(point.control.name().as_bytes())),
        outcome: ControlOutcome::Passed,
        reason: String::new(),
    };
    let mut entries: Vec<GovernanceEntry> = points.iter().map(entry).collect();
    entries[2].outcome = ControlOutcome::Failed;
    entries[2].reason = "gate failed: m".to_owned();
    let log = |entries: &[&GovernanceEntry], uid: [u8; 16], kind: LogKind| {
        let mut links = chain(&plan, &uid);
        let records: Vec<Vec<u8>> = entries.iter().map(|entry| links.push(&canon::encode(*entry))).collect();
        written(kind, &records.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    let (all, kind) = (entries.iter().collect::<Vec<_>>(), LogKind::GOVERNANCE);
    book.add("three-controls", log(&all, UID, kind));
    book.add("not-without-the-last", log(&all[..2], UID, kind));
    book.add("not-without-the-first", log(&all[1..], UID, kind));
    book.add("not-swapped", log(&[all[0], all[2], all[1]], UID, kind));
    book.add("not-one-too-many", log(&[all[0], all[1], all[2], all[2]], UID, kind));
    book.add("not-of-another-run", log(&all, [7; 16], kind));
    book.add("not-a-ledger", log(&all, UID, LogKind::LEDGER));
    let moved = GovernanceEntry { tick: 1, ..entries[1].clone() };
    book.add("not-at-another-tick", log(&[all[0], &moved, all[2]], UID, kind));
}

fn governance_policy(book: &mut Book<'_>) {
    let all = Control::ALL.map(|(_, control)| control);
    let policy = Policy::new(&all, ["digits".to_owned()]).encode().expect("it demands something");
    book.strict("every-control", policy.clone());
    let changed = |at: usize, byte: u8| {
        let mut bytes = policy.clone();
        bytes[at] = byte;
        bytes
    };
    book.add("not-of-another-schema", changed(0, 2));
    book.add("not-an-unknown-control", changed(28, 5));
    book.add("not-out-of-order", changed(12, 2));
    book.add("not-empty", [&policy[..4], &[0; 16]].concat());
    let unpinned = Policy::new(&[Control::Gates], ["digits".to_owned()]).encode().expect("it demands it");
    book.add("gates-alone", unpinned.clone());
    // Pins are bound only where a control asks for them.
    let pins = &policy[policy.len() - 22..];
    book.add("not-pins-that-nobody-asks-for", [&unpinned[..unpinned.len() - 8], pins].concat());
}

fn control_evidence(book: &mut Book<'_>) {
    let digest = Digest::of_bytes(b"digits");
    let input = InputEvidence { name: "digits".to_owned(), digest, pinned: true };
    let inputs = Evidence::Inputs(vec![input]).encode();
    let mut other = inputs.clone();
    other[0] = 2;
    book.strict("a-pinned-input", inputs);
    book.add("not-of-another-schema", other);
    let tree = GitState { commit: "c0ffee".to_owned(), dirty: true };
    book.add("a-dirty-work-tree", Evidence::WorkTree(Some(tree)).encode());
    book.add("no-work-tree", Evidence::WorkTree(None).encode());
    let path = "artifacts/package/model.safetensors".to_owned();
    let artifact = SignedArtifact { path, object: digest, signature: Some(Digest::of_bytes(b"note")) };
    book.add("a-signed-artifact", Evidence::Artifacts(vec![artifact]).encode());
    let (metric, outcome) = ("evaluate/accuracy".to_owned(), "pass".to_owned());
    book.add(
        "a-verdict",
        Evidence::Verdicts(vec![VerdictSeen { metric, outcome, verdict: digest }]).encode(),
    );
}

fn facts(run: &str, accuracy: f64) -> RunFacts {
    RunFacts {
        run: run.to_owned(),
        uid: "06".repeat(16),
        plan_digest: plan().digest().to_string(),
        data: BTreeMap::from([("digits".to_owned(), Digest::<Content>::of_bytes(b"digits").to_string())]),
        params: BTreeMap::from([("first.epochs".to_owned(), "3".to_owned())]),
        code: BTreeMap::from([("first".to_owned(), "train v1".to_owned())]),
        seed: 7,
        kernels_spec: 1,
        metrics: BTreeMap::from([("evaluate/accuracy".to_owned(), accuracy)]),
    }
}

fn receipt(book: &mut Book<'_>) {
    let rule = |text: &str| text.parse().expect("a rule");
    let receipt = GateReceipt {
        gate: Gate {
            metric: "evaluate/accuracy".to_owned(),
            better: Better::Higher,
            baseline: Some("latest".to_owned()),
            on_no_baseline: OnNoBaseline::Skip,
            on_missing: OnMissing::Fail,
            fail: vec![rule("value >= 0.95"), rule("regress <= 0.01")],
            warn: vec![rule("regress <= 0.002")],
        },
        candidate: facts("vectors-2", 0.96),
        baseline: Some(facts("vectors-1", 0.965)),
    };
    let good = String::from_utf8(receipt.to_json()).expect("JSON is UTF-8");
    let bits = |value: f64| format!("{:016x}", value.to_bits());
    book.replaced("a-verdict-that-nobody-reached", &good, "\"warn\",", "\"pass\",");
    book.replaced("another-value-of-the-candidate", &good, &bits(0.96), &bits(0.97));
    book.replaced("an-unknown-field", &good, "\"receipt\":", "\"more\": 1,\n  \"receipt\":");
    book.replaced("bits-in-capitals", &good, &bits(0.96), &bits(0.96).to_uppercase());
    book.strict("warns", good);
}

fn metrics(book: &mut Book<'_>) {
    let mut set = MetricSet::default();
    for (step, value) in [(1, 2.5), (2, f64::NAN), (3, -0.0)] {
        set.push("train/loss", step, value);
    }
    let good = String::from_utf8(set.to_json()).expect("JSON is UTF-8");
    book.replaced("a-value-that-its-bits-are-not", &good, "2.5", "2.6");
    book.replaced("steps-out-of-order", &good, "\"step\":1", "\"step\":4");
    book.replaced("a-point-twice", &good, "\"step\":2", "\"step\":1");
    book.replaced("a-name-without-its-stage", &good, "train/loss", "loss");
    book.strict("three-points", good);
}

fn manifest(book: &mut Book<'_>) {
    let plan = plan();
    let mut metrics = MetricSet::default();
    metrics.push("first/loss", 1, 0.1);
    let good = Manifest::new(&plan, &entries(&plan), &metrics, &StepRoots::new()).encode();
    let good = String::from_utf8(good).expect("JSON is UTF-8");
    book.replaced("another-schema", &good, "manifest/v3", "manifest/v2");
    book.replaced("an-unknown-field", &good, "\"seed\"", "\"more\": 1,\n  \"seed\"");
    book.replaced("a-field-twice", &good, "\"seed\": 7", "\"seed\": 7,\n  \"seed\": 7");
    book.replaced("a-space-more", &good, "\"seed\": 7", "\"seed\":  7");
    book.replaced("an-outcome-that-its-root-does-not-cover", &good, "\"done\"", "\"skipped\"");
    book.replaced("an-outcome-without-its-cause", &good, "\"done\"", "\"failed\"");
    book.replaced("another-seed-than-its-plan", &good, "\"seed\": 7", "\"seed\": 8");
    let root = format!(
        "\"step_roots\": {{\n    \"first\": {{\n      \"root\": \"{}\",\n      \"segments\": 1,\n      \"steps\": 1\n    }}\n  }}",
        "0".repeat(64)
    );
    book.replaced("a-step-root-of-a-task-without-segments", &good, "\"step_roots\": {}", &root);
    book.replaced("a-plan-that-is-no-base64", &good, "\"plan\": \"", "\"plan\": \"!");
    let digest = plan.digest().to_string();
    book.replaced("another-plan-digest", &good, &digest, &"0".repeat(64));
    book.replaced("a-digest-in-capitals", &good, &digest, &digest.to_uppercase());
    book.strict("two-tasks", good);
}

fn safetensors(book: &mut Book<'_>) {
    let tensor = |shape: &[usize], data: &[f32]| Tensor { shape: shape.to_vec(), data: data.to_vec() };
    let weights = Tensors::from([
        ("0.bias".to_owned(), tensor(&[2], &[0.5, f32::NAN])),
        ("0.weight".to_owned(), tensor(&[2, 1], &[1.0, -0.0])),
    ]);
    let good = tensors::encode(&weights);
    let edit = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = good.windows(from.len()).position(|w| w == from.as_bytes()).expect("the text is there");
        [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
    };
    book.add("not-a-huge-header", [&u64::MAX.to_le_bytes(), &good[8..]].concat());
    book.add("not-overlapping-tensors", edit("[8,16]", "[4,12]"));
    book.add("not-a-tensor-outside-the-file", edit("[8,16]", "[9,17]"));
    book.add("not-a-shape-that-its-bytes-do-not-fill", edit("[2,1]", "[2,3]"));
    book.add("not-another-type", edit("F32", "F16"));
    book.add("not-names-out-of-order", edit("0.bias", "2.bias"));
    book.strict("two-tensors", good.clone());
    let said = |pairs: &[(&str, &str)]| -> Metadata {
        pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    let with = |pairs: &[(&str, &str)]| tensors::encode_with_metadata(&weights, &said(pairs));
    book.add("with-metadata", with(&[("title", "two \"tensors\""), ("a", "")]));
    let other = with(&[("title", "two")]);
    let at = other.windows(5).position(|w| w == b"\"two\"").expect("the text is there");
    let number = [&other[..at], b"12345", &other[at + 5..]].concat();
    book.add("not-a-number-in-its-metadata", number);
}

fn model(book: &mut Book<'_>) {
    let tensor = |shape: &[usize], data: &[f32]| Tensor { shape: shape.to_vec(), data: data.to_vec() };
    let weights = Tensors::from([
        ("bias".to_owned(), tensor(&[1], &[0.5])),
        ("weight".to_owned(), tensor(&[1, 2], &[1.0, -0.0])),
    ]);
    let data = DataShape::Classes { shape: vec![2], classes: 2 };
    let said = models::metadata(&ModelSpec::Logistic, &data);
    let with = |change: &dyn Fn(&mut Metadata)| {
        let mut said = said.clone();
        change(&mut said);
        tensors::encode_with_metadata(&weights, &said)
    };
    let set = |key: &'static str, value: &'static str| {
        with(&|said| drop(said.insert(format!("bitproof.{key}"), value.to_owned())))
    };
    book.add("two-classes", with(&|_| ()));
    book.add("of-pytorch", tensors::encode(&weights));
    book.add("not-without-its-data", with(&|said| drop(said.remove("bitproof.data"))));
    book.add("not-another-model", set("model", "mlp"));
    book.add("not-an-unknown-model", set("model", "resnet"));
    book.add("not-a-key-too-many", set("hidden", "3"));
    book.add("not-a-number-written-otherwise", set("classes", "02"));
    book.add("not-a-shape-that-its-tensors-do-not-have", set("shape", "3"));
    book.add("not-more-classes-than-outputs", set("classes", "3"));
    book.add("not-a-huge-model", set("classes", "18446744073709551615"));
}

const PIPELINE: &str = "[pipeline]
name = \"tiny\"
seed = 7
lanes = [\"a\", \"b\"]

[data.digits]
path = \"digits.csv\"

[[stage]]
name = \"split\"
uses = \"dataset\"
inputs = [\"data:digits\"]
with = { format = \"csv\", label = \"last\", valid_fraction = 0.1, test_fraction = 0.2, scale = \"1/16\" }

[[stage]]
name = \"train\"
uses = \"train\"
inputs = [\"split:train\", \"split:valid\"]
cost = 10
with = { model = \"mlp\", hidden = [8], epochs = 2, batch = 16, optimizer = \"adamw\", learning_rate = 0.01 }
";
const GATES: &str = "
[[gate]]
metric = \"evaluate/accuracy\"
better = \"higher\"
baseline = \"latest\"
on_no_baseline = \"skip\"
fail = [\"value >= 0.5\", \"regress <= 0.5\"]
";

fn pipeline(book: &mut Book<'_>) {
    let budget = "\n[[budget]]\nmetric = \"stage/wall_ns\"\nfail = [\"max <= 60s\"]\n";
    book.add("two-stages", PIPELINE);
    book.add("with-a-budget", format!("{PIPELINE}{budget}"));
    book.replaced("an-unknown-key", PIPELINE, "cost", "costs");
    book.replaced("a-key-twice", PIPELINE, "seed = 7", "seed = 7\nseed = 7");
    book.replaced("a-stage-twice", PIPELINE, "name = \"train\"", "name = \"split\"");
    book.replaced("an-input-from-nowhere", PIPELINE, "split:valid", "splat:valid");
    book.replaced("a-path-upwards", PIPELINE, "digits.csv", "../digits.csv");
    book.replaced("an-absolute-path", PIPELINE, "digits.csv", "/digits.csv");
    book.replaced("a-fraction-of-everything", PIPELINE, "0.2,", "1.2,");
    book.replaced("a-cost-of-nothing", PIPELINE, "cost = 10", "cost = 0");
    book.replaced("a-lane-twice", PIPELINE, "[\"a\", \"b\"]", "[\"a\", \"a\"]");
    book.replaced("a-negative-seed", PIPELINE, "seed = 7", "seed = -7");
    book.add("not-nested-too-deep", format!("a = {}", "[".repeat(1000)));
    book.add("not-utf-8", [PIPELINE.as_bytes(), b"\xff"].concat());
}

fn gate_policy(book: &mut Book<'_>) {
    book.add("one-gate", GATES);
    book.replaced("an-unknown-key", GATES, "better", "beter");
    book.replaced("an-unknown-direction", GATES, "higher", "up");
    book.replaced("a-percentage", GATES, "0.5\"]", "1%\"]");
    book.add("not-a-stage-beside-it", format!("{PIPELINE}{GATES}"));
}

fn telemetry(book: &mut Book<'_>) {
    let tags = BTreeMap::from([("task".to_owned(), "train".to_owned())]);
    let record = |name: &str, value, unit, at_ns| Record {
        name: name.to_owned(),
        value,
        unit,
        at_ns,
        tags: tags.clone(),
    };
    let records = [
        record("stage/wall_ns", 1_000_000, Unit::Nanoseconds, 5),
        record("stage/memory_delta_bytes", -4096, Unit::Bytes, 6),
    ];
    let mut good = Vec::new();
    write_jsonl(&records, &mut good).expect("a vector takes what it is given");
    let good = String::from_utf8(good).expect("JSON is UTF-8");
    book.add("two-records", good.clone());
    book.add("not-without-its-last-line-feed", good.trim_end());
    book.replaced("an-unknown-unit", &good, "\"ns\"", "\"us\"");
    book.replaced("an-unknown-field", &good, "\"value\"", "\"more\":1,\"value\"");
    book.replaced("a-fraction", &good, "-4096", "-0.5");
    book.replaced("a-negative-time", &good, "\"at_ns\":5", "\"at_ns\":-5");
    book.add("not-a-line-that-is-too-long", format!("{}\n", " ".repeat(MAX_LINE_BYTES)));
}

fn rules(book: &mut Book<'_>) {
    book.add("rule", "regress <= 0.01");
    book.add("limit", "p95 <= 50ms");
    book.add("not-another-comparator", "value == 0.5");
    book.add("not-a-nan", "value >= nan");
    book.add("not-an-infinity", "value >= inf");
    book.add("not-trailing-text", "value >= 0.5 x");
    book.add("not-a-limit-beyond-any-clock", "max <= 99999999999999999999s");
}

//! What `scheduler`, `experiment-graph`, `telemetry` and `training` read.

use std::path::Path;
use std::sync::LazyLock;

use bitproof_core_ledger::canon;
use bitproof_experiment_graph::{verify_receipt, GateReceipt, MetricSet, Rule};
use bitproof_scheduler::ledger::{ledger_root, result_root, LedgerView};
use bitproof_scheduler::Plan;
use bitproof_telemetry::{read_jsonl, write_jsonl, Limit};
use bitproof_training::governance::{compile, governance_root, Evidence, GovernanceView, Policy};
use bitproof_training::manifest::Manifest;
use bitproof_training::models;
use bitproof_training::pipeline::{parse, parse_gates};
use bitproof_training::safetensors as tensors;

use super::integrity::disk;
use crate::vectors;

pub(super) fn plan(bytes: &[u8]) -> bool {
    let Ok(plan) = Plan::decode(bytes) else { return false };
    assert_eq!(plan.encode(), bytes);
    let mut free = vec![0; plan.spec().lanes.len()];
    for task in plan.tasks() {
        let next = &mut free[task.slot.lane as usize];
        assert!(task.slot.tick >= *next, "two tasks of one lane at once");
        *next = task.slot.tick + task.spec.cost;
    }
    true
}

/// The ledger of one fixed plan.
pub(super) fn ledger(bytes: &[u8]) -> bool {
    static PLAN: LazyLock<Plan> = LazyLock::new(vectors::plan);
    let disk = disk(&[("ledger.log", bytes)]);
    let Ok(view) = LedgerView::read(&disk, Path::new("ledger.log"), &PLAN) else { return false };
    assert_eq!(ledger_root(&PLAN, &view.entries), view.root);
    assert!(view.entries.len() <= PLAN.len());
    let _ = result_root(&view.entries);
    for entry in &view.entries {
        assert_eq!(canon::decode(&canon::encode(entry)).as_ref(), Ok(entry));
    }
    !view.entries.is_empty()
}

/// The governance ledger of one fixed run.
pub(super) fn governance(bytes: &[u8]) -> bool {
    static PLAN: LazyLock<Plan> = LazyLock::new(vectors::governed_plan);
    let disk = disk(&[("governance.log", bytes)]);
    let path = Path::new("governance.log");
    let Ok(view) = GovernanceView::read(&disk, path, &PLAN, &vectors::UID) else { return false };
    assert_eq!(governance_root(&PLAN, &vectors::UID, &view.entries), view.root);
    let points = compile(&PLAN).expect("the plan is valid").len();
    assert!(view.entries.len() <= points && view.offsets.len() == view.entries.len());
    view.entries.len() == points
}

pub(super) fn governance_policy(bytes: &[u8]) -> bool {
    Policy::decode(bytes).is_ok_and(|policy| {
        assert_eq!(policy.encode().as_deref(), Some(bytes));
        true
    })
}

pub(super) fn control_evidence(bytes: &[u8]) -> bool {
    match Evidence::decode(bytes) {
        Ok(Some(evidence)) => {
            assert_eq!(evidence.encode(), bytes);
            true
        }
        _ => false,
    }
}

pub(super) fn manifest(bytes: &[u8]) -> bool {
    Manifest::decode(bytes).is_ok_and(|manifest| {
        assert_eq!(manifest.encode(), bytes);
        let _ = manifest.metric_values();
        manifest.execution().is_ok()
    })
}

pub(super) fn metrics(bytes: &[u8]) -> bool {
    MetricSet::from_json(bytes).is_ok_and(|set| {
        assert_eq!(set.to_json(), bytes);
        true
    })
}

pub(super) fn receipt(bytes: &[u8]) -> bool {
    let receipt = GateReceipt::from_json(bytes);
    let verdict = verify_receipt(bytes);
    assert_eq!(receipt.is_ok(), verdict.is_ok());
    receipt.is_ok_and(|receipt| {
        assert_eq!(receipt.to_json(), bytes);
        assert_eq!(Some(receipt.judge()), verdict.ok());
        true
    })
}

pub(super) fn safetensors(bytes: &[u8]) -> bool {
    tensors::decode_with_metadata(bytes).is_ok_and(|(read, metadata)| {
        assert_eq!(tensors::encode_with_metadata(&read, &metadata), bytes);
        true
    })
}

/// What is a model has the tensors and the metadata of one.
pub(super) fn model(bytes: &[u8]) -> bool {
    models::load(bytes).is_ok_and(|loaded| {
        let said = tensors::decode_with_metadata(bytes).expect("what was loaded can be read").1;
        if said.keys().any(|key| key.starts_with("bitproof.")) {
            assert_eq!(loaded.params.layout(), loaded.model.layout());
            let again = models::encode(&loaded.spec, &loaded.data, &loaded.params);
            let foreign = said.keys().any(|key| !key.starts_with("bitproof."));
            assert!(foreign || again == bytes);
        }
        true
    })
}

pub(super) fn pipeline(bytes: &[u8]) -> bool {
    match parse("fuzzed", bytes) {
        Ok(pipeline) => {
            assert!(!pipeline.stages.is_empty());
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

pub(super) fn gate_policy(bytes: &[u8]) -> bool {
    parse_gates("fuzzed", bytes).is_ok()
}

/// A rule of a gate, which is shown as it is read, or a limit of a budget.
pub(super) fn rules(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let rule = text.parse::<Rule>().map(|rule| {
        assert_eq!(rule.to_string().parse::<Rule>().as_ref(), Ok(&rule), "{rule}");
    });
    rule.is_ok() || text.parse::<Limit>().is_ok()
}

pub(super) fn telemetry(bytes: &[u8]) -> bool {
    let Ok(records) = read_jsonl(bytes) else { return false };
    let mut again = Vec::new();
    write_jsonl(&records, &mut again).expect("a vector takes what it is given");
    // Spellings differ: these files are evidence by their digest, not by their form.
    assert_eq!(read_jsonl(&again), Ok(records));
    true
}

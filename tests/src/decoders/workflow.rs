//! What `scheduler`, `experiment-graph`, `telemetry` and `training` read.

use std::path::Path;
use std::sync::LazyLock;

use bitproof_core_ledger::canon;
use bitproof_experiment_graph::{verify_receipt, GateReceipt, MetricSet, Rule};
use bitproof_scheduler::ledger::{ledger_root, result_root, LedgerView};
use bitproof_scheduler::Plan;
use bitproof_telemetry::{read_jsonl, write_jsonl, Limit};
use bitproof_training::data::{read_csv, CsvOptions, Part};
use bitproof_training::governance::{compile, governance_root, Evidence, GovernanceView, Policy};
use bitproof_training::manifest::Manifest;
use bitproof_training::pipeline::{parse, parse_gates, LabelColumn};
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

pub(super) fn dataset_part(bytes: &[u8]) -> bool {
    Part::decode(bytes).is_ok_and(|part| {
        assert_eq!(part.encode(), bytes);
        assert_eq!(part.features.nrows(), part.labels.len());
        true
    })
}

pub(super) fn safetensors(bytes: &[u8]) -> bool {
    tensors::decode(bytes).is_ok_and(|read| {
        assert_eq!(tensors::encode(&read), bytes);
        true
    })
}

/// One byte says how the file is read; then the file.
pub(super) fn csv(bytes: &[u8]) -> bool {
    let Some((&how, file)) = bytes.split_first() else { return false };
    let label = match how >> 3 & 3 {
        0 => LabelColumn::First,
        1 => LabelColumn::Last,
        2 => LabelColumn::Index(usize::from(how >> 5)),
        _ => LabelColumn::Name("label".to_owned()),
    };
    let separator = [None, Some(','), Some(';'), Some('\t')][usize::from(how >> 1 & 3)];
    let options = CsvOptions { header: how & 1 == 1, separator, label };
    let Ok(table) = read_csv(file, &options) else { return false };
    assert_eq!(table.features.nrows(), table.labels.len());
    assert_eq!(table.features.ncols(), table.columns.len());
    assert!(table.labels.iter().all(|&label| (label as usize) < table.classes.len()));
    assert!(table.features.iter().all(|x| x.is_finite()), "a number that is none");
    true
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

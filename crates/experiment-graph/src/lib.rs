//! Runs, metrics and provenance: what differs between runs, what it did to the metrics, and whether a gate lets it pass.
//!
//! # Invariants
//! - Values in, verdicts out: nothing is read from or written to disk.
//! - Every list has one order; values are compared exactly, by their bits where it matters.
//! - A rule that cannot be judged is never a pass. A receipt, judged again, gives the same bytes.
//!
//! # Where to start
//! [`MetricSet`] holds what a task measured; [`compare()`] says what differs between [`RunFacts`]; [`judge`] judges one
//! by a [`Gate`], and a [`GateReceipt`] keeps what the verdict depends on.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bitproof_experiment_graph::{
//!     verify_receipt, Better, Gate, GateOutcome, GateReceipt, MetricSet, OnMissing, OnNoBaseline, RunFacts,
//! };
//!
//! let facts = |run: &str, epochs: &str, accuracy: f64| {
//!     let mut metrics = MetricSet::default();
//!     metrics.push("evaluate/accuracy", 0, accuracy);
//!     RunFacts {
//!         run: run.to_owned(),
//!         uid: String::new(),
//!         plan_digest: String::new(),
//!         data: BTreeMap::new(),
//!         params: [("train.epochs".to_owned(), epochs.to_owned())].into(),
//!         code: BTreeMap::new(),
//!         seed: 42,
//!         kernels_spec: 1,
//!         metrics: metrics.finals(),
//!     }
//! };
//! let gate = Gate {
//!     metric: "evaluate/accuracy".to_owned(),
//!     better: Better::Higher,
//!     baseline: Some("digits-1".to_owned()),
//!     on_no_baseline: OnNoBaseline::Skip,
//!     on_missing: OnMissing::Fail,
//!     fail: vec!["regress <= 0.01".parse()?],
//!     warn: vec![],
//! };
//! let baseline = Some(facts("digits-1", "30", 0.9722));
//! let receipt = GateReceipt { gate, candidate: facts("digits-2", "1", 0.6111), baseline };
//! let verdict = verify_receipt(&receipt.to_json())?;
//! assert_eq!(verdict.outcome, GateOutcome::Fail);
//! assert_eq!(
//!     verdict.findings[0].message,
//!     "evaluate/accuracy fell from 0.9722 (digits-1) to 0.6111: regress 0.3611 > 0.01; \
//!      changed: params train.epochs: 30 -> 1"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compare;
mod exact;
mod gate;
mod metric;
mod receipt;
mod rule;
mod run;

pub use compare::{compare, factors, CompareError, Comparison, Delta, Factor, FactorKind, Pair};
pub use exact::{BitsSyntax, ExactF64};
pub use gate::{
    judge, Better, Gate, GateFinding, GateOutcome, GateSeverity, GateVerdict, OnMissing, OnNoBaseline,
};
pub use metric::{
    MetricError, MetricSet, MAX_METRICS_BYTES, MAX_NAME_BYTES, MAX_POINTS, SCHEMA as METRICS_SCHEMA,
};
pub use receipt::{verify_receipt, GateReceipt, ReceiptError, MAX_RECEIPT_BYTES, RECEIPT_SCHEMA};
pub use rule::{Comparator, Quantity, Rule, RuleProblem, RuleSyntax};
pub use run::RunFacts;

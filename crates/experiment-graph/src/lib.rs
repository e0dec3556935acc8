//! Runs, metrics and provenance: what differs between runs, what it did to the metrics, and whether a gate lets it pass.
//!
//! # Invariants
//! - Values in, verdicts out: nothing is read from or written to disk.
//! - Every list has one order; values are compared exactly, by their bits where it matters.
//! - A rule that cannot be judged is never a pass. A receipt, judged again, gives the same bytes.
//!
//! # Where to start
//! [`compare`] says what differs between [`RunFacts`]; [`GateReceipt::judge`] judges one by a [`Gate`].
//!
//! ```
//! use bitproof_experiment_graph::MetricSet;
//!
//! let mut metrics = MetricSet::default();
//! metrics.push("train/loss", 1, 0.7);
//! metrics.push("train/loss", 2, 0.5);
//! assert_eq!(metrics.last("train/loss"), Some(0.5));
//! assert_eq!(MetricSet::from_json(&metrics.to_json())?, metrics);
//! # Ok::<(), bitproof_experiment_graph::MetricError>(())
//! ```

mod compare;
mod gate;
mod metric;
mod run;

pub use compare::{compare, factors, CompareError, Comparison, Delta, Factor, FactorKind, Pair};
pub use gate::{
    verify_receipt, Better, Comparator, Gate, GateFinding, GateOutcome, GateReceipt, GateSeverity,
    GateVerdict, OnMissing, OnNoBaseline, Quantity, ReceiptError, Rule, RuleSyntax, RECEIPT_SCHEMA,
};
pub use metric::{MetricError, MetricSet, MAX_NAME_BYTES, MAX_POINTS, SCHEMA as METRICS_SCHEMA};
pub use run::RunFacts;

//! Tagged measurements of time and memory through `tracing`, and budgets on them.
//!
//! # Invariants
//! - Telemetry never feeds anything back into a result.
//! - Memory is bounded: what finds no room is dropped and counted.
//! - Budgets are judged in integers. A budget on something that was not measured is not a pass.
//!
//! # Where to start
//! Make [`Collector::layer`] part of the subscriber, open spans with the targets [`STAGE`] and [`STEP`], and judge what
//! [`Collector::take`] gives with [`judge`].
//!
//! ```
//! use bitproof_telemetry::{judge, Budget, BudgetOutcome, Collector, STAGE};
//! use tracing_subscriber::layer::SubscriberExt as _;
//!
//! let collector = Collector::system();
//! let subscriber = tracing_subscriber::registry().with(collector.layer());
//! tracing::subscriber::with_default(subscriber, || {
//!     tracing::info_span!(target: STAGE, "stage", task = "train").in_scope(|| { /* work */ });
//! });
//! let records = collector.take("task", "train");
//! let budget = Budget::new("stage/wall_ns".parse()?, vec!["max <= 1h".parse()?], vec![])?;
//! assert_eq!(judge(&budget, &records).outcome, BudgetOutcome::Pass);
//! # Ok::<(), bitproof_telemetry::BudgetSyntax>(())
//! ```

#[cfg(feature = "counting-allocator")]
mod allocator;
mod budget;
mod clock;
mod collector;
mod memory;
mod record;

#[cfg(feature = "counting-allocator")]
pub use allocator::{allocations, peak_of_thread, CountingAllocator};
pub use budget::{
    judge, Budget, BudgetFinding, BudgetOutcome, BudgetSyntax, BudgetVerdict, Limit, MetricSelector,
    Statistic,
};
pub use clock::{ManualClock, Monotonic, SystemMonotonic};
pub use collector::{Collector, TelemetryLayer, DROPPED, MAX_RECORDS, METRIC, STAGE, STEP};
pub use memory::{peak_rss_bytes, rss_bytes};
pub use record::{read_jsonl, write_jsonl, Record, TelemetryError, Unit, MAX_LINE_BYTES};

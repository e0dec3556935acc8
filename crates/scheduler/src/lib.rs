//! A DAG becomes an explicit plan of lanes and ticks; the plan is executed, cached, resumed and committed.
//!
//! # Invariants
//! - The same tasks give the same plan on every machine, and the same plan the same ledger: no time, host, worker,
//!   attempt or thread reaches a recorded byte.
//! - A lane runs one task at a time, in order. Commits happen in plan order; what is acknowledged is durable.
//! - The crate does not know what a task computes.
//!
//! # Where to start
//! [`jobs::Jobs`] runs a DAG of closures. Below it, [`Plan::new`] plans a [`PlanSpec`]; [`dispatch::execute`] runs a plan with
//! a [`dispatch::Runner`] and commits to a [`dispatch::CommitSink`], as a [`ledger::Ledger`] is. What has no threads of
//! this crate, a cluster or a simulation, drives a [`board::Board`] itself. Each attempt at a task is a span of `tracing`
//! with the target [`dispatch::TASK`].
//!
//! ```
//! use std::collections::BTreeMap;
//! use bitproof_scheduler::{Code, Native, OnFailure, Plan, PlanSpec, TaskId, TaskSpec};
//!
//! let task = TaskSpec {
//!     id: TaskId("hello".into()),
//!     stage: "hello".into(),
//!     code: Code::Native(Native { kind: "greet".into(), version: 1 }),
//!     params: BTreeMap::new(),
//!     inputs: vec![],
//!     after: vec![],
//!     outputs: vec!["text".into()],
//!     cost: 1,
//!     lane: None,
//!     retries: 0,
//! };
//! let plan = Plan::new(PlanSpec {
//!     pipeline: "greetings".into(),
//!     seed: 42,
//!     lanes: vec!["0".into()],
//!     on_failure: OnFailure::Stop,
//!     numerics: 1,
//!     data: vec![],
//!     tasks: vec![task],
//!     policy: BTreeMap::new(),
//! })?;
//! assert_eq!(plan.task(0).slot.tick, 0);
//! # Ok::<(), bitproof_scheduler::PlanError>(())
//! ```

pub mod board;
pub mod cache;
mod cancel;
pub mod chart;
pub mod command;
pub mod commit;
pub mod dispatch;
pub mod jobs;
pub mod ledger;
mod param;
mod plan;
pub mod stat_cache;
#[cfg(feature = "shuttle")]
pub mod sync;
#[cfg(not(feature = "shuttle"))]
mod sync;
mod task;

pub use cancel::{Cancel, Subscription};
pub use param::ParamValue;
pub use plan::{
    DataInput, LaneUse, OnFailure, Plan, PlanDigest, PlanError, PlanSpec, PlannedTask, Slot, MAX_COST,
    MAX_LANES, MAX_TASKS,
};
pub use task::{action_digest, ActionDigest, Code, InputSource, Native, TaskId, TaskSpec};

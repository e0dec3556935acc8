//! Models, data, the pipeline file, and the workflow that runs, records, seals and judges a training.
//!
//! # Invariants
//! - A stage is a function of its parameters, the seed and its inputs: it reads no clock and no unseeded random number.
//! - [`workflow::prepare`] writes nothing; [`workflow::run`] acknowledges nothing before a signed tree head covers it.
//! - The manifest is equal on every machine; what was observed of a machine is evidence and flows back into nothing.
//!
//! # Where to start
//! [`pipeline::parse`] reads a pipeline file, [`workflow::run`] runs it; [`stages`] are what it runs.
//!
//! ```
//! let text = br#"
//! [pipeline]
//! name = "demo"
//! [data.rows]
//! path = "rows.csv"
//! [[stage]]
//! name = "split"
//! uses = "dataset"
//! inputs = ["data:rows"]
//! with = { format = "csv", label = "last", test_fraction = 0.2 }
//! "#;
//! let pipeline = bitproof_training::pipeline::parse("demo.toml", text)?;
//! assert_eq!(pipeline.lanes, ["0"]);
//! let error = bitproof_training::pipeline::parse("demo.toml", b"[pipelin]").unwrap_err();
//! assert_eq!(error.place, bitproof_training::pipeline::Place::File { line: 1, column: 2 });
//! # Ok::<(), bitproof_training::pipeline::PipelineError>(())
//! ```

pub mod adopt;
pub mod arrays;
pub mod batches;
pub mod checkpoint;
pub mod data;
pub mod evidence;
pub mod governance;
pub mod judge;
pub mod keeper;
pub mod manifest;
pub mod metrics_file;
pub mod models;
pub mod observed;
pub mod optimizer;
pub mod params;
pub mod pipeline;
pub mod recorder;
pub mod run_folder;
pub mod safetensors;
pub mod sample;
pub mod schedule;
pub mod shard;
pub mod stages;
pub mod step_roots;
pub mod steps;
pub mod streams;
pub mod tape;
pub mod trainable;
pub mod trainer;
pub mod workflow;

//! Every decoder of bytes that come from outside, behind one signature.
//!
//! The fuzz targets in `fuzz/` and the test over their corpus (`tests/it/corpus.rs`) call the same functions. Each says
//! whether it took the bytes, and panics when what it took breaks a promise: usually that the value encodes to the very
//! bytes that it was read from.

mod datasets;
mod integrity;
pub(crate) use integrity::{disk, written};
mod replay;
mod training;
mod workflow;

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    /// Its name: that of the fuzz target and of its corpus.
    pub name: &'static str,
    /// Whether it takes the bytes. Panics when it takes what it must not.
    pub takes: fn(&[u8]) -> bool,
}

/// Every decoder.
pub const DECODERS: &[Decoder] = &[
    Decoder { name: "canonical", takes: integrity::canonical },
    Decoder { name: "chain", takes: integrity::chain },
    Decoder { name: "log_file", takes: integrity::log_file },
    Decoder { name: "log_recovery", takes: integrity::log_recovery },
    Decoder { name: "audit_log", takes: integrity::audit_log },
    Decoder { name: "event_leaf", takes: integrity::event_leaf },
    Decoder { name: "note", takes: integrity::note },
    Decoder { name: "tree_head", takes: integrity::tree_head },
    Decoder { name: "vkey", takes: integrity::vkey },
    Decoder { name: "tlog_proof", takes: integrity::tlog_proof },
    Decoder { name: "growth_proof", takes: integrity::growth_proof },
    Decoder { name: "inventory", takes: integrity::inventory },
    Decoder { name: "folder", takes: integrity::folder },
    Decoder { name: "detached_signature", takes: integrity::detached_signature },
    Decoder { name: "statement", takes: integrity::statement },
    Decoder { name: "private_key", takes: integrity::private_key },
    Decoder { name: "public_key", takes: integrity::public_key },
    Decoder { name: "store_toml", takes: integrity::store_toml },
    Decoder { name: "attestation", takes: integrity::attestation },
    Decoder { name: "json", takes: integrity::json },
    Decoder { name: "witness_policy", takes: integrity::witness_policy },
    Decoder { name: "plan", takes: workflow::plan },
    Decoder { name: "ledger", takes: workflow::ledger },
    Decoder { name: "governance", takes: workflow::governance },
    Decoder { name: "governance_policy", takes: workflow::governance_policy },
    Decoder { name: "control_evidence", takes: workflow::control_evidence },
    Decoder { name: "manifest", takes: workflow::manifest },
    Decoder { name: "metrics", takes: workflow::metrics },
    Decoder { name: "receipt", takes: workflow::receipt },
    Decoder { name: "dataset_part", takes: datasets::dataset_part },
    Decoder { name: "safetensors", takes: workflow::safetensors },
    Decoder { name: "model", takes: workflow::model },
    Decoder { name: "steps", takes: training::steps },
    Decoder { name: "checkpoint_state", takes: training::checkpoint_state },
    Decoder { name: "checkpoints", takes: training::checkpoints },
    Decoder { name: "csv", takes: datasets::csv },
    Decoder { name: "idx", takes: datasets::idx },
    Decoder { name: "npy", takes: datasets::npy },
    Decoder { name: "tensors", takes: datasets::tensors },
    Decoder { name: "text", takes: datasets::text },
    Decoder { name: "pipeline", takes: workflow::pipeline },
    Decoder { name: "gate_policy", takes: workflow::gate_policy },
    Decoder { name: "rules", takes: workflow::rules },
    Decoder { name: "telemetry", takes: workflow::telemetry },
    Decoder { name: "comparison", takes: replay::comparison },
];

/// The decoder of a name.
///
/// # Panics
/// When there is none.
pub fn decoder(name: &str) -> Decoder {
    *DECODERS.iter().find(|d| d.name == name).unwrap_or_else(|| panic!("there is no decoder {name:?}"))
}

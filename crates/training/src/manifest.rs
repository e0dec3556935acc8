//! The manifest: what is needed to replay a run, equal on every machine. `docs/formats/manifest.md` is normative.

use std::collections::BTreeMap;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;
use bitproof_core_ledger::chain::ChainHead;
use bitproof_core_ledger::digest::{Digest, ResultKind};
use bitproof_core_ledger::objects::ObjectId;
use bitproof_experiment_graph::{ExactF64, MetricSet};
use bitproof_scheduler::ledger::{ledger_root, result_root, Entry, Outcome};
use bitproof_scheduler::{ActionDigest, Plan, PlanDigest, PlanError, PlannedTask, TaskId};
use serde::{Deserialize, Serialize};

use crate::step_roots::{is_training, StepRoots};

/// The schema that this version writes and reads.
pub const SCHEMA: &str = "bitproof/manifest/v3";

/// A manifest that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is not JSON of the expected form.
    #[error("the manifest is malformed at line {line}, column {column}: {reason}")]
    Malformed {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// It is of another version.
    #[error("the manifest has the schema {got:?}; this version reads {SCHEMA:?}")]
    Schema {
        /// Its schema.
        got: String,
    },
    /// Its plan is not base64.
    #[error("the manifest's plan is not base64: {reason}")]
    Base64 {
        /// What is wrong.
        reason: String,
    },
    /// Its plan cannot be read.
    #[error("the manifest's plan: {0}")]
    Plan(#[from] PlanError),
    /// Its parts contradict each other.
    #[error("the manifest contradicts itself: {what} is not what its plan and its tasks give")]
    Inconsistent {
        /// Which part.
        what: &'static str,
    },
    /// It has another encoding than the one it is written in.
    #[error("the manifest is not canonical: its encoding differs at byte {offset}")]
    NotCanonical {
        /// The first byte that differs.
        offset: usize,
    },
}

/// A data input by content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestData {
    /// Its content.
    pub blake3: ObjectId,
    /// Its length.
    pub bytes: u64,
}

/// What a task was and made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestTask {
    /// Its name.
    pub task: String,
    /// What it ran: kind and version.
    pub code: String,
    /// The name of its lane.
    pub lane: String,
    /// Its planned start.
    pub tick: u64,
    /// Its action digest; absent for a skipped task.
    pub action: Option<ActionDigest>,
    /// How it ended.
    pub outcome: ManifestOutcome,
    /// For a failed task, how; for a skipped one, the task that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The content of each output.
    pub outputs: BTreeMap<String, ObjectId>,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManifestOutcome {
    /// It made its outputs.
    Done,
    /// It failed by itself.
    Failed,
    /// A task that it depends on failed.
    Skipped,
}

/// A metric's last value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestMetric {
    /// For people; `null` where it is not finite.
    pub value: Option<f64>,
    /// The value, exactly.
    pub bits: ExactF64,
}

/// A run as every machine writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The root of every random stream.
    pub seed: u64,
    /// The version of the numeric specification.
    pub kernels_spec: u32,
    /// The plan.
    pub plan_digest: PlanDigest,
    /// The head of the ledger.
    pub ledger_root: ChainHead,
    /// The digest of the outcome.
    pub result_root: Digest<ResultKind>,
    /// Data inputs by name.
    pub data: BTreeMap<String, ManifestData>,
    /// Tasks in commit order.
    pub tasks: Vec<ManifestTask>,
    /// The last value of each metric.
    pub metrics: BTreeMap<String, ManifestMetric>,
    /// The step tree of each training that was done, by task.
    pub step_roots: StepRoots,
    /// The plan's canonical bytes in base64: what is needed to execute it again.
    pub plan: String,
}

impl Manifest {
    /// The manifest of what was executed of a plan.
    pub fn new(plan: &Plan, entries: &[Entry], metrics: &MetricSet, step_roots: &StepRoots) -> Self {
        let spec = plan.spec();
        let task = |(sequence, entry): (usize, &Entry)| {
            let planned = plan.task(sequence);
            let (outcome, cause, outputs) = match &entry.outcome {
                Outcome::Done { outputs } => (ManifestOutcome::Done, None, outputs.iter().cloned().collect()),
                Outcome::Failed { how } => (ManifestOutcome::Failed, Some(how.to_string()), BTreeMap::new()),
                Outcome::Skipped { cause } => {
                    (ManifestOutcome::Skipped, Some(cause.to_string()), BTreeMap::new())
                }
            };
            ManifestTask {
                task: entry.task.to_string(),
                code: planned.spec.code.to_string(),
                lane: spec.lanes[entry.lane as usize].clone(),
                tick: entry.tick,
                action: entry.action,
                outcome,
                cause,
                outputs,
            }
        };
        let data =
            spec.data.iter().map(|d| (d.name.clone(), ManifestData { blake3: d.digest, bytes: d.bytes }));
        let metric =
            |value: f64| ManifestMetric { value: value.is_finite().then_some(value), bits: value.into() };
        Self {
            schema: SCHEMA.to_owned(),
            pipeline: spec.pipeline.clone(),
            seed: spec.seed,
            kernels_spec: spec.numerics,
            plan_digest: plan.digest(),
            ledger_root: ledger_root(plan, entries),
            result_root: result_root(entries),
            data: data.collect(),
            tasks: entries.iter().enumerate().map(task).collect(),
            metrics: metrics.finals().into_iter().map(|(name, value)| (name, metric(value))).collect(),
            step_roots: step_roots.clone(),
            plan: STANDARD.encode(plan.encode()),
        }
    }

    /// Its one encoding: JSON with two spaces of indentation and a line feed at the end.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest has only text keys");
        bytes.push(b'\n');
        bytes
    }

    /// Reads what [`Manifest::encode`] wrote.
    ///
    /// # Errors
    /// [`ManifestError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| ManifestError::Malformed {
            line: e.line(),
            column: e.column(),
            reason: e.to_string(),
        })?;
        if manifest.schema != SCHEMA {
            return Err(ManifestError::Schema { got: manifest.schema });
        }
        let again = manifest.encode();
        if again == bytes {
            return Ok(manifest);
        }
        let offset =
            again.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(bytes.len().min(again.len()));
        Err(ManifestError::NotCanonical { offset })
    }

    /// The plan, and the entries of the ledger that its tasks tell, with the very roots that it names.
    ///
    /// # Errors
    /// [`ManifestError::Plan`], [`ManifestError::Inconsistent`].
    pub fn execution(&self) -> Result<(Plan, Vec<Entry>), ManifestError> {
        let bytes =
            STANDARD.decode(&self.plan).map_err(|e| ManifestError::Base64 { reason: e.to_string() })?;
        let plan = Plan::decode(&bytes)?;
        let inconsistent = |what: &'static str| ManifestError::Inconsistent { what };
        if plan.digest() != self.plan_digest {
            return Err(inconsistent("plan_digest"));
        }
        if self.tasks.len() > plan.len() {
            return Err(inconsistent("tasks"));
        }
        let entry = |(task, told): (PlannedTask<'_>, &ManifestTask)| {
            let outcome = match (told.outcome, &told.cause) {
                (ManifestOutcome::Done, None) => {
                    Outcome::Done { outputs: told.outputs.iter().map(|(n, id)| (n.clone(), *id)).collect() }
                }
                (ManifestOutcome::Failed, Some(how)) => {
                    Outcome::Failed { how: how.parse().map_err(|_| inconsistent("cause"))? }
                }
                (ManifestOutcome::Skipped, Some(cause)) => Outcome::Skipped { cause: TaskId(cause.clone()) },
                _ => return Err(inconsistent("cause")),
            };
            let (lane, tick) = (task.slot.lane, task.slot.tick);
            Ok(Entry { task: task.spec.id.clone(), lane, tick, action: told.action, outcome })
        };
        let entries = plan.tasks().zip(&self.tasks).map(entry).collect::<Result<Vec<_>, _>>()?;
        let trained: Vec<&str> = (plan.tasks().zip(&entries))
            .filter(|(task, entry)| is_training(task.spec, entry))
            .map(|(task, _)| task.spec.id.0.as_str())
            .collect();
        if trained.len() != self.step_roots.len() || !trained.iter().all(|t| self.step_roots.contains_key(*t))
        {
            return Err(inconsistent("step_roots"));
        }
        let mut again = Self::new(&plan, &entries, &MetricSet::default(), &self.step_roots);
        again.metrics.clone_from(&self.metrics);
        if again != *self {
            return Err(inconsistent("ledger_root, or what the plan tells of its tasks,"));
        }
        Ok((plan, entries))
    }

    /// The last value of each metric.
    pub fn metric_values(&self) -> BTreeMap<String, f64> {
        self.metrics.iter().map(|(name, metric)| (name.clone(), metric.bits.get())).collect()
    }
}

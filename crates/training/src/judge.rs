//! Gates and budgets of a run: judged, kept as objects, and named in the audit log.

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon::{self, CanonError};
use bitproof_core_ledger::events::{EventBody, VerdictKind};
use bitproof_core_ledger::objects::{ObjectError, ObjectId, Objects};
use bitproof_core_ledger::store::{hex, Store};
use bitproof_experiment_graph::{
    verify_receipt, Gate, GateOutcome, GateReceipt, GateVerdict, MetricError, MetricSet, RunFacts,
};
use bitproof_scheduler::ledger::Entry;
use bitproof_scheduler::Plan;
use bitproof_telemetry::{
    judge, Budget, BudgetOutcome, BudgetSyntax, BudgetVerdict, Limit, MetricSelector, Record,
};
use serde::{Deserialize, Serialize};

use crate::run_folder::{pretty, RecordedVerdict, RunError, RunFolder, RunIndex, RunRow};
use crate::stages;

/// The names under which a plan binds its gates and budgets.
pub const GATES: &str = "gates";
/// See [`GATES`].
pub const BUDGETS: &str = "budgets";

/// A budget as the plan binds it: the texts of the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetPolicy {
    /// The metric, with its tags.
    pub metric: String,
    /// Limits whose breach fails the run.
    pub fail: Vec<String>,
    /// Limits whose breach is a warning.
    pub warn: Vec<String>,
}

impl BudgetPolicy {
    /// The budget that these texts state.
    ///
    /// # Errors
    /// What [`Limit`] or [`MetricSelector`] say of a text.
    pub fn parse(&self) -> Result<Budget, BudgetSyntax> {
        let limits =
            |texts: &[String]| texts.iter().map(|t| t.parse::<Limit>()).collect::<Result<Vec<_>, _>>();
        let selector: MetricSelector = self.metric.parse()?;
        Budget::new(selector, limits(&self.fail)?, limits(&self.warn)?)
    }
}

/// A run that cannot be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JudgeError {
    /// The plan's policy is not what this version writes.
    #[error("the plan's {what} are damaged: {source}")]
    Policy {
        /// [`GATES`] or [`BUDGETS`].
        what: &'static str,
        /// What is wrong.
        source: CanonError,
    },
    /// A budget's text does not parse.
    #[error("the budget on {metric:?}: {source}")]
    Budget {
        /// Its metric.
        metric: String,
        /// What is wrong.
        source: BudgetSyntax,
    },
    /// What a task recorded as its metrics is not a set of metrics.
    #[error("task {task}: {source}")]
    Metrics {
        /// The task.
        task: String,
        /// What is wrong.
        source: MetricError,
    },
    /// A run could not be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A verdict could not be kept.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// A gate's verdict and where it is kept.
#[derive(Debug, Clone)]
pub struct JudgedGate {
    /// The verdict.
    pub verdict: GateVerdict,
    /// The object that holds its receipt.
    pub receipt: ObjectId,
}

/// A budget's verdict and where it is kept.
#[derive(Debug, Clone)]
pub struct JudgedBudget {
    /// The verdict.
    pub verdict: BudgetVerdict,
    /// The object that holds it.
    pub object: ObjectId,
}

/// A budget's verdict as it is kept. `docs/formats/verdicts.md` is normative.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetRecord {
    schema: String,
    run: String,
    uid: String,
    policy: BudgetPolicy,
    verdict: BudgetVerdict,
}

const BUDGET_SCHEMA: &str = "bitproof/budget-verdict/v1";

/// The gates that a plan binds.
///
/// # Errors
/// [`JudgeError::Policy`].
pub fn plan_gates(plan: &Plan) -> Result<Vec<Gate>, JudgeError> {
    policy(plan, GATES)
}

/// The budgets that a plan binds.
///
/// # Errors
/// [`JudgeError::Policy`].
pub fn plan_budgets(plan: &Plan) -> Result<Vec<BudgetPolicy>, JudgeError> {
    policy(plan, BUDGETS)
}

fn policy<T: Encode + Decode<()>>(plan: &Plan, what: &'static str) -> Result<Vec<T>, JudgeError> {
    match plan.spec().policy.get(what) {
        None => Ok(Vec::new()),
        Some(bytes) => canon::decode(bytes).map_err(|source| JudgeError::Policy { what, source }),
    }
}

/// Judges a run by gates, in their order. A gate's baseline is looked up unless `baseline` gives one for all.
///
/// # Errors
/// [`JudgeError`].
pub fn judge_gates(
    store: &Store,
    index: &RunIndex,
    run: &RunFolder,
    candidate: &RunFacts,
    gates: &[Gate],
    baseline: Option<&str>,
) -> Result<Vec<JudgedGate>, JudgeError> {
    let mut judged = Vec::with_capacity(gates.len());
    for gate in gates {
        let selector = baseline.or(gate.baseline.as_deref());
        let row = selector.and_then(|s| index.baseline(s, &run.uid));
        let baseline = match row {
            Some(row) => Some(sealed_facts(store, row)?),
            None => None,
        };
        let receipt = GateReceipt { gate: gate.clone(), candidate: candidate.clone(), baseline };
        let verdict = receipt.judge();
        let receipt = store.objects().put(&receipt.to_json())?;
        tracing::info!(metric = gate.metric, outcome = outcome_word(verdict.outcome), "gate judged");
        judged.push(JudgedGate { verdict, receipt });
    }
    Ok(judged)
}

/// Judges a run's telemetry by budgets, in their order.
///
/// # Errors
/// [`JudgeError`].
pub fn judge_budgets(
    store: &Store,
    run: &RunFolder,
    records: &[Record],
    budgets: &[BudgetPolicy],
) -> Result<Vec<JudgedBudget>, JudgeError> {
    let mut judged = Vec::with_capacity(budgets.len());
    for policy in budgets {
        let record = budget_record(run, policy, records)?;
        let verdict = record.verdict.clone();
        let object = store.objects().put(&pretty(&record))?;
        tracing::info!(metric = policy.metric, outcome = budget_word(verdict.outcome), "budget judged");
        judged.push(JudgedBudget { verdict, object });
    }
    Ok(judged)
}

fn budget_record(
    run: &RunFolder,
    policy: &BudgetPolicy,
    records: &[Record],
) -> Result<BudgetRecord, JudgeError> {
    let metric = policy.metric.clone();
    let budget = policy.parse().map_err(|source| JudgeError::Budget { metric, source })?;
    Ok(BudgetRecord {
        schema: BUDGET_SCHEMA.to_owned(),
        run: run.name.clone(),
        uid: run.uid_hex(),
        policy: policy.clone(),
        verdict: judge(&budget, records),
    })
}

/// By which policy a run was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgedBy {
    /// The gates and budgets of its own plan, when it was run. These decide whether it passed.
    ItsPlan,
    /// Another policy or baseline, or its own again later.
    Another,
}

/// The events that name these verdicts, gates and budgets each in the order of their policy.
pub fn verdict_events(
    uid: [u8; 16],
    by: JudgedBy,
    gates: &[JudgedGate],
    budgets: &[JudgedBudget],
) -> Vec<EventBody> {
    let event = |kind, policy: usize, metric: &str, outcome: &str, verdict| EventBody::VerdictRecorded {
        uid,
        kind,
        policy: (by == JudgedBy::ItsPlan).then_some(policy as u32),
        metric: metric.to_owned(),
        outcome: outcome.to_owned(),
        verdict,
    };
    let gates = gates.iter().enumerate().map(|(i, g)| {
        event(VerdictKind::Gate, i, &g.verdict.metric, outcome_word(g.verdict.outcome), g.receipt)
    });
    let budgets = budgets.iter().enumerate().map(|(i, b)| {
        event(VerdictKind::Budget, i, &b.verdict.metric, budget_word(b.verdict.outcome), b.object)
    });
    gates.chain(budgets).collect()
}

/// Holds a recorded verdict against the run that it is about: its inputs must be the run's and, where the store has
/// it, the baseline's own; the policy the plan's; and judged again they must give the same bytes.
///
/// # Errors
/// What does not fit, in words.
pub fn check_verdict(
    store: &Store,
    folder: &RunFolder,
    row: &RunRow,
    rows: &[RunRow],
    recorded: &RecordedVerdict,
    bytes: &[u8],
) -> Result<(), String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let (metric, outcome) = match recorded.kind {
        VerdictKind::Gate => {
            let verdict = verify_receipt(bytes).map_err(|e| told(&e))?;
            let receipt = GateReceipt::from_json(bytes).map_err(|e| told(&e))?;
            let own = plan_gates(&folder.plan).map_err(|e| told(&e))?;
            if recorded.policy.is_some_and(|i| own.get(i as usize) != Some(&receipt.gate)) {
                return Err("a gate that the plan does not have at this place".to_owned());
            }
            check_facts(store, row, &receipt.candidate)?;
            if let Some(baseline) = &receipt.baseline {
                match rows.iter().find(|r| hex(&r.uid) == baseline.uid) {
                    Some(row) => check_facts(store, row, baseline)?,
                    None => return Err(format!("a baseline {} that the log does not hold", baseline.run)),
                }
            }
            (verdict.metric, outcome_word(verdict.outcome))
        }
        VerdictKind::Budget => {
            let record: BudgetRecord = serde_json::from_slice(bytes).map_err(|e| told(&e))?;
            let own = plan_budgets(&folder.plan).map_err(|e| told(&e))?;
            if recorded.policy.is_some_and(|i| own.get(i as usize) != Some(&record.policy)) {
                return Err("a budget that the plan does not have at this place".to_owned());
            }
            let again = budget_record(folder, &record.policy, &folder.telemetry().map_err(|e| told(&e))?)
                .map_err(|e| told(&e))?;
            if pretty(&again) != bytes {
                return Err("a verdict that the run's telemetry does not give".to_owned());
            }
            (record.verdict.metric, budget_word(record.verdict.outcome))
        }
    };
    if (metric.as_str(), outcome) != (recorded.metric.as_str(), recorded.outcome.as_str()) {
        return Err(format!(
            "{metric} {outcome}, where the log says {} {}",
            recorded.metric, recorded.outcome
        ));
    }
    Ok(())
}

fn check_facts(store: &Store, row: &RunRow, facts: &RunFacts) -> Result<(), String> {
    let own = sealed_facts(store, row).map_err(|e| e.to_string())?;
    if own == *facts {
        Ok(())
    } else {
        Err(format!("facts of {} that are not what it recorded", row.run))
    }
}

/// The facts of a sealed run, from what the seal covers: the plan, the ledger and the objects it names.
///
/// # Errors
/// [`JudgeError`] when the run is not what was sealed.
pub fn sealed_facts(store: &Store, row: &RunRow) -> Result<RunFacts, JudgeError> {
    let folder = RunFolder::open_recorded(store, row)?;
    let ledger = folder.sealed_ledger(row)?;
    let metrics = collect_metrics(&store.objects(), &ledger.entries)?;
    Ok(folder.facts_with(metrics.finals()))
}

/// The metrics that the tasks of a run recorded, merged.
///
/// # Errors
/// [`JudgeError`] when an object is missing or damaged.
pub fn collect_metrics(objects: &Objects, entries: &[Entry]) -> Result<MetricSet, JudgeError> {
    let mut all = MetricSet::default();
    for entry in entries {
        if let Some(id) = entry.output(stages::METRICS) {
            let set = MetricSet::from_json(&objects.get(&id)?)
                .map_err(|source| JudgeError::Metrics { task: entry.task.to_string(), source })?;
            all.merge(&set);
        }
    }
    Ok(all)
}

/// The outcome of a gate in a word.
pub fn outcome_word(outcome: GateOutcome) -> &'static str {
    match outcome {
        GateOutcome::Pass => "pass",
        GateOutcome::Warn => "warn",
        GateOutcome::Fail => "fail",
        GateOutcome::NoBaseline => "no_baseline",
    }
}

/// The outcome of a budget in a word. A metric that was not measured fails.
pub fn budget_word(outcome: BudgetOutcome) -> &'static str {
    match outcome {
        BudgetOutcome::Pass => "pass",
        BudgetOutcome::Warn => "warn",
        BudgetOutcome::Fail | BudgetOutcome::Missing => "fail",
    }
}

//! Gates and budgets of a run: judged, kept as objects, and named in the audit log.

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon::{self, CanonError};
use bitproof_core_ledger::events::{EventBody, VerdictKind};
use bitproof_core_ledger::objects::{ObjectError, ObjectId};
use bitproof_core_ledger::store::Store;
use bitproof_experiment_graph::{Gate, GateOutcome, GateReceipt, GateVerdict, RunFacts};
use bitproof_scheduler::Plan;
use bitproof_telemetry::{
    judge, Budget, BudgetOutcome, BudgetSyntax, BudgetVerdict, Limit, MetricSelector, Record,
};
use serde::{Deserialize, Serialize};

use crate::run_folder::{pretty, RunError, RunFolder, RunIndex};

/// The names under which a plan binds its gates and budgets.
pub const GATES: &str = "gates";
/// See [`GATES`].
pub const BUDGETS: &str = "budgets";

/// A budget as the plan binds it: the texts of the pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
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
            Some(row) => Some(RunFolder::open(store, &row.run)?.facts()?),
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
        let metric = policy.metric.clone();
        let budget = policy.parse().map_err(|source| JudgeError::Budget { metric, source })?;
        let verdict = judge(&budget, records);
        let record = BudgetRecord {
            schema: BUDGET_SCHEMA.to_owned(),
            run: run.name.clone(),
            uid: run.uid_hex(),
            verdict: verdict.clone(),
        };
        let object = store.objects().put(&pretty(&record))?;
        tracing::info!(metric = policy.metric, outcome = budget_word(verdict.outcome), "budget judged");
        judged.push(JudgedBudget { verdict, object });
    }
    Ok(judged)
}

/// The events that name these verdicts.
pub fn verdict_events(uid: [u8; 16], gates: &[JudgedGate], budgets: &[JudgedBudget]) -> Vec<EventBody> {
    let event = |kind, metric: &str, outcome: &str, verdict| EventBody::VerdictRecorded {
        uid,
        kind,
        metric: metric.to_owned(),
        outcome: outcome.to_owned(),
        verdict,
    };
    let gates = gates
        .iter()
        .map(|g| event(VerdictKind::Gate, &g.verdict.metric, outcome_word(g.verdict.outcome), g.receipt));
    let budgets = budgets
        .iter()
        .map(|b| event(VerdictKind::Budget, &b.verdict.metric, budget_word(b.verdict.outcome), b.object));
    gates.chain(budgets).collect()
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

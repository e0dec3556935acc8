//! What controls are judged by, and what they say of it.

use std::collections::BTreeMap;

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon::{self, CanonError};
use bitproof_core_ledger::chain::ChainHead;
use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_core_ledger::limits::NOTE_BYTES;
use bitproof_core_ledger::note::NoteKey;
use bitproof_core_ledger::objects::{ObjectId, StagedObject};
use bitproof_core_ledger::signature;
use bitproof_core_ledger::Store;
use bitproof_scheduler::ledger::{Entry as LedgerEntry, Outcome as TaskOutcome};
use bitproof_scheduler::{InputSource, Plan, PlannedTask};

use super::ledger::{self, governance_root, Entry, GovernanceError, Outcome};
use super::plan::{compile, ControlPoint, Policy};
use super::{Control, Position};
use crate::evidence::GitState;
use crate::judge::{self, JudgedBudget, JudgedGate};
use crate::run_folder::{RunFolder, ARTIFACTS, GOVERNANCE_LEDGER, SIGNATURE_SUFFIX};
use crate::stages;

const SCHEMA: u32 = 1;

/// What a control was judged by: kept as an object, in canonical bytes, and named by the entry.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Evidence {
    /// The data inputs of a task, in their order.
    Inputs(Vec<InputEvidence>),
    /// The work tree that holds the pipeline; absent where there is none, or nothing was committed to it.
    WorkTree(Option<GitState>),
    /// The signed files of a package.
    Artifacts(Vec<SignedArtifact>),
    /// The verdicts of the plan's budgets or gates, in their order.
    Verdicts(Vec<VerdictSeen>),
}

/// A data input of a task.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct InputEvidence {
    /// Its name.
    pub name: String,
    /// Its content.
    pub digest: ObjectId,
    /// Whether the pipeline demands that content.
    pub pinned: bool,
}

/// A file of a package that has a signature beside it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedArtifact {
    /// Its path in the folder of the run.
    pub path: String,
    /// The output that it is, by the ledger.
    pub object: ObjectId,
    /// The bytes of its signature; absent where there is none.
    pub signature: Option<Digest<Content>>,
}

/// A file of a package, and whether its signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactSeen {
    /// The file.
    pub artifact: SignedArtifact,
    /// Why its signature does not hold.
    pub fault: Option<String>,
}

/// The verdict of a budget or a gate.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct VerdictSeen {
    /// What was judged.
    pub metric: String,
    /// The outcome in a word.
    pub outcome: String,
    /// The object that holds the whole verdict.
    pub verdict: ObjectId,
}

impl VerdictSeen {
    /// The verdicts of budgets.
    pub fn of_budgets(budgets: &[JudgedBudget]) -> Vec<Self> {
        let seen = |b: &JudgedBudget| Self {
            metric: b.verdict.metric.clone(),
            outcome: judge::budget_word(b.verdict.outcome).to_owned(),
            verdict: b.object,
        };
        budgets.iter().map(seen).collect()
    }

    /// The verdicts of gates.
    pub fn of_gates(gates: &[JudgedGate]) -> Vec<Self> {
        let seen = |g: &JudgedGate| Self {
            metric: g.verdict.metric.clone(),
            outcome: judge::outcome_word(g.verdict.outcome).to_owned(),
            verdict: g.receipt,
        };
        gates.iter().map(seen).collect()
    }
}

#[derive(Encode, Decode)]
struct StoredEvidence {
    schema: u32,
    evidence: Evidence,
}

impl Evidence {
    /// Its canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        canon::encode(&StoredEvidence { schema: SCHEMA, evidence: self.clone() })
    }

    /// Reads what [`Evidence::encode`] wrote; `None` for another schema.
    ///
    /// # Errors
    /// [`CanonError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, CanonError> {
        let stored: StoredEvidence = canon::decode(bytes)?;
        Ok((stored.schema == SCHEMA).then_some(stored.evidence))
    }
}

/// What is known when the execution has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The entries of the ledger.
    pub entries: &'a [LedgerEntry],
    /// The files of each package, by the place of its task in the commit order.
    pub artifacts: &'a BTreeMap<usize, Vec<ArtifactSeen>>,
    /// The verdicts of the plan's budgets.
    pub budgets: &'a [VerdictSeen],
    /// The verdicts of its gates.
    pub gates: &'a [VerdictSeen],
}

/// The controls of a run, with what each has said so far.
#[derive(Debug, Clone)]
pub struct Governance {
    points: Vec<ControlPoint>,
    entries: Vec<Entry>,
    evidence: BTreeMap<ObjectId, Evidence>,
}

impl Governance {
    /// Judges the controls before tasks, all at once: what they look at is there before anything is executed. Those after tasks
    /// are not reached yet.
    ///
    /// # Errors
    /// [`GovernanceError::Policy`].
    pub fn before(plan: &Plan, work_tree: Option<&GitState>) -> Result<Self, GovernanceError> {
        let (points, policy) = (compile(plan)?, Policy::of(plan)?);
        let entries = points.iter().map(|point| Entry::new(point, None, Outcome::NotReached, "")).collect();
        let mut governance = Self { points, entries, evidence: BTreeMap::new() };
        governance.judge(Position::Before, |point| {
            let evidence = match point.control {
                Control::CleanSource => Evidence::WorkTree(work_tree.cloned()),
                _ => inputs(plan, &policy, plan.task(point.sequence)),
            };
            let fault = fault_before(&evidence);
            Some((evidence, fault.map_or(Ok(String::new()), Err)))
        });
        if governance.refused() {
            let reason = "a control before a task failed";
            let after = |entry: &&mut Entry| entry.position == Position::After;
            governance.entries.iter_mut().filter(after).for_each(|entry| entry.reason = reason.to_owned());
        }
        Ok(governance)
    }

    /// Whether a control before a task failed: then nothing more is executed, and nothing after a task is judged.
    pub fn refused(&self) -> bool {
        is_refused(&self.entries)
    }

    /// Judges the controls after tasks, unless the run was refused.
    ///
    /// # Errors
    /// [`GovernanceError::Policy`] when the plan's budgets or gates are not what this version writes.
    pub fn after(&mut self, plan: &Plan, ended: Ended<'_>) -> Result<(), GovernanceError> {
        if self.refused() {
            return Ok(());
        }
        let damaged = |e: judge::JudgeError| GovernanceError::Policy { reason: e.to_string() };
        let budgets = judge::plan_budgets(plan).map_err(damaged)?.len();
        let gates = judge::plan_gates(plan).map_err(damaged)?.len();
        self.judge(Position::After, |point| match point.control {
            Control::Budgets => Some(verdicts("budget", ended.budgets, budgets)),
            Control::Gates => Some(verdicts("gate", ended.gates, gates)),
            _ => {
                let entry = ended.entries.get(point.sequence)?;
                matches!(entry.outcome, TaskOutcome::Done { .. }).then(|| artifacts(point, ended))
            }
        });
        for entry in self.entries.iter_mut().filter(|entry| entry.outcome == Outcome::NotReached) {
            entry.reason = format!("{} made nothing", entry.task);
        }
        Ok(())
    }

    fn judge(&mut self, position: Position, said: impl Fn(&ControlPoint) -> Option<(Evidence, Said)>) {
        for (point, entry) in self.points.iter().zip(&mut self.entries) {
            if point.position != position {
                continue;
            }
            let Some((evidence, said)) = said(point) else { continue };
            let id = ObjectId::of_bytes(&evidence.encode());
            self.evidence.insert(id, evidence);
            let (outcome, reason) = match said {
                Ok(remark) => (Outcome::Passed, remark),
                Err(why) => (Outcome::Failed, why),
            };
            tracing::info!(control = %point.control, task = %point.task, outcome = outcome.name(), reason, "control judged");
            *entry = Entry::new(point, Some(id), outcome, &reason);
        }
    }

    /// Whether no control failed.
    pub fn passed(&self) -> bool {
        has_passed(&self.entries)
    }

    /// What each control said, in the order of the plan.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The objects that hold the evidence.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectId> {
        self.evidence.keys()
    }

    /// The head of the chain in the run's folder; `None` for a plan that demands no control.
    pub fn root(&self, folder: &RunFolder) -> Option<ChainHead> {
        (!self.points.is_empty()).then(|| governance_root(&folder.plan, &folder.uid, &self.entries))
    }

    /// Keeps the evidence and writes the ledger anew; for a plan that demands no control nothing.
    ///
    /// # Errors
    /// [`GovernanceError`].
    pub fn write(&self, store: &Store, folder: &RunFolder) -> Result<(), GovernanceError> {
        if self.points.is_empty() {
            return Ok(());
        }
        let objects = store.objects();
        let staged = self.evidence.values().map(|e| objects.stage(&mut e.encode().as_slice()));
        let staged = staged.collect::<Result<Vec<StagedObject>, _>>()?;
        objects.settle(&staged)?;
        let path = folder.path(GOVERNANCE_LEDGER);
        ledger::write(store.files(), &path, &folder.plan, &folder.uid, &self.entries)
    }
}

/// Whether a control before a task failed.
pub(super) fn is_refused(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| entry.position == Position::Before && entry.outcome == Outcome::Failed)
}

/// Whether no control failed.
pub(super) fn has_passed(entries: &[Entry]) -> bool {
    entries.iter().all(|entry| entry.outcome != Outcome::Failed)
}

/// A remark on a control that passed, or why it failed.
type Said = Result<String, String>;

fn inputs(plan: &Plan, policy: &Policy, task: PlannedTask<'_>) -> Evidence {
    let named = task.spec.inputs.iter().filter_map(|input| match input {
        InputSource::Data(name) => {
            // A plan has its data sorted by name.
            let data = &plan.spec().data;
            data.binary_search_by(|data| data.name.cmp(name)).ok().map(|at| &data[at])
        }
        InputSource::Output { .. } => None,
    });
    let input = |data: &bitproof_scheduler::DataInput| InputEvidence {
        name: data.name.clone(),
        digest: data.digest,
        pinned: policy.pins(&data.name),
    };
    Evidence::Inputs(named.map(input).collect())
}

fn fault_before(evidence: &Evidence) -> Option<String> {
    match evidence {
        Evidence::Inputs(inputs) => {
            let open: Vec<String> = inputs
                .iter()
                .filter(|input| !input.pinned)
                .map(|input| format!("the data input {} has no pin; it is {}", input.name, input.digest))
                .collect();
            (!open.is_empty()).then(|| open.join("; "))
        }
        Evidence::WorkTree(None) => {
            Some("there is no git work tree with a commit around the pipeline file".to_owned())
        }
        Evidence::WorkTree(Some(tree)) => {
            tree.dirty.then(|| format!("files of the work tree differ from commit {}", tree.commit))
        }
        Evidence::Artifacts(_) | Evidence::Verdicts(_) => None,
    }
}

fn artifacts(point: &ControlPoint, ended: Ended<'_>) -> (Evidence, Said) {
    let seen = ended.artifacts.get(&point.sequence).map_or(&[][..], Vec::as_slice);
    let evidence = Evidence::Artifacts(seen.iter().map(|seen| seen.artifact.clone()).collect());
    let fault = seen.iter().find_map(|seen| Some((&seen.artifact.path, seen.fault.as_ref()?)));
    let said = match fault {
        Some((path, fault)) => Err(format!("{path}: {fault}")),
        None if seen.is_empty() => Err("the package has no file that is signed".to_owned()),
        None => Ok(String::new()),
    };
    (evidence, said)
}

fn verdicts(what: &str, seen: &[VerdictSeen], planned: usize) -> (Evidence, Said) {
    let of = |word: &str| -> Vec<&str> {
        seen.iter().filter(|v| v.outcome == word).map(|v| v.metric.as_str()).collect()
    };
    let told = |word: &str, metrics: Vec<&str>| {
        (!metrics.is_empty()).then(|| format!("{word}: {}", metrics.join(", ")))
    };
    let known = |v: &VerdictSeen| matches!(v.outcome.as_str(), "pass" | "warn" | "no_baseline");
    let said = if let Some(failed) = told(&format!("{what} failed"), of("fail")) {
        Err(failed)
    } else if seen.len() != planned || !seen.iter().all(known) {
        Err(format!("{} of {planned} {what}s have a verdict", seen.iter().filter(|v| known(v)).count()))
    } else if planned == 0 {
        Ok(format!("the plan has no {what}"))
    } else {
        let remarks = [told("warned", of("warn")), told("no baseline", of("no_baseline"))];
        Ok(remarks.into_iter().flatten().collect::<Vec<_>>().join("; "))
    };
    (Evidence::Verdicts(seen.to_vec()), said)
}

/// The signed files of every package that the ledger names, as they lie in the folder of the run, by the place of the task;
/// none where no control asks for them. A signature holds when one of `keys` made it over the bytes of the output.
pub fn signed_artifacts(
    store: &Store,
    folder: &RunFolder,
    entries: &[LedgerEntry],
    keys: &[NoteKey],
) -> BTreeMap<usize, Vec<ArtifactSeen>> {
    let mut seen = BTreeMap::new();
    if !Policy::of(&folder.plan).is_ok_and(|policy| policy.demands(Control::ArtifactsSigned)) {
        return seen;
    }
    let objects = store.objects();
    for (task, entry) in folder.plan.tasks().zip(entries) {
        if task.spec.code.native().is_none_or(|native| native.kind != stages::PACKAGE) {
            continue;
        }
        let Some(object) = entry.output(stages::MODEL) else { continue };
        let name = stages::package_file(stages::MODEL);
        let path = format!("{ARTIFACTS}/{}/{name}", task.spec.id);
        let note = folder.path(&format!("{path}{SIGNATURE_SUFFIX}"));
        let note = store.files().read_bounded(&note, NOTE_BYTES as u64);
        let fault = match (&note, objects.get(&object)) {
            (Err(error), _) => Some(format!("its signature cannot be read: {}", error.source)),
            // No path of a machine is recorded.
            (_, Err(_)) => Some(format!("its object {object} is not whole")),
            (Ok(note), Ok(bytes)) => {
                signature::verify(note, name, &bytes, keys).err().map(|error| error.to_string())
            }
        };
        let signature = note.ok().map(|note| Digest::of_bytes(&note));
        let artifact = SignedArtifact { path, object, signature };
        seen.insert(task.sequence, vec![ArtifactSeen { artifact, fault }]);
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::governance::GOVERNANCE;
    use crate::pipeline::parse;
    use crate::workflow::policy_of;
    use bitproof_scheduler::{Code, OnFailure, PlanSpec, TaskId, TaskSpec};

    /// A plan with one task that packages, under the controls after it.
    fn plan() -> Plan {
        let task = TaskSpec {
            id: TaskId("package".to_owned()),
            stage: "package".to_owned(),
            code: Code::Native(stages::native(stages::PACKAGE)),
            params: BTreeMap::new(),
            inputs: Vec::new(),
            after: Vec::new(),
            outputs: vec!["model".to_owned()],
            cost: 1,
            lane: None,
            retries: 0,
        };
        let text = b"[pipeline]\nname = \"p\"\n[[stage]]\nname = \"s\"\ncommand = [\"true\"]\n\
            outputs = { o = \"o\" }\nmetrics = [\"m.json\"]\n\
            [[gate]]\nmetric = \"s/m\"\nbetter = \"higher\"\nfail = [\"value >= 1\"]\n\
            [[budget]]\nmetric = \"s/wall_ns\"\nfail = [\"max <= 1s\"]\n";
        let mut policy = policy_of(&parse("p.toml", text).unwrap());
        let controls = [Control::ArtifactsSigned, Control::Budgets, Control::Gates];
        policy.insert(GOVERNANCE.to_owned(), Policy::new(&controls, []).encode().unwrap());
        let spec = PlanSpec {
            pipeline: "p".to_owned(),
            seed: 0,
            lanes: vec!["0".to_owned()],
            on_failure: OnFailure::Stop,
            numerics: 1,
            data: Vec::new(),
            tasks: vec![task],
            policy,
        };
        Plan::new(spec).unwrap()
    }

    /// The outcome and reason of each control, when a task ended so, with these files and verdicts.
    fn said(
        done: bool,
        artifacts: Vec<ArtifactSeen>,
        budgets: &[VerdictSeen],
        gates: &[VerdictSeen],
    ) -> Vec<(Outcome, String)> {
        let plan = plan();
        let outcome = match done {
            true => TaskOutcome::Done { outputs: Vec::new() },
            false => TaskOutcome::Failed { how: bitproof_scheduler::ledger::Failure::Refused },
        };
        let task = TaskId("package".to_owned());
        let entries = [LedgerEntry { task, lane: 0, tick: 0, action: None, outcome }];
        let mut governance = Governance::before(&plan, None).unwrap();
        let artifacts = BTreeMap::from([(0, artifacts)]);
        governance.after(&plan, Ended { entries: &entries, artifacts: &artifacts, budgets, gates }).unwrap();
        assert_eq!(governance.passed(), governance.entries().iter().all(|e| e.outcome != Outcome::Failed));
        governance.entries().iter().map(|e| (e.outcome, e.reason.clone())).collect()
    }

    fn artifact(fault: Option<&str>) -> ArtifactSeen {
        let artifact =
            SignedArtifact { path: "m".to_owned(), object: Digest::of_bytes(b"m"), signature: None };
        ArtifactSeen { artifact, fault: fault.map(str::to_owned) }
    }

    fn verdict(outcome: &str) -> VerdictSeen {
        let (metric, outcome) = ("s/m".to_owned(), outcome.to_owned());
        VerdictSeen { metric, outcome, verdict: Digest::of_bytes(b"v") }
    }

    #[test]
    fn each_control_after_a_task_fails_for_what_it_is_there_for() {
        let passed = |reason: &str| (Outcome::Passed, reason.to_owned());
        let failed = |reason: &str| (Outcome::Failed, reason.to_owned());
        let (whole, pass) = (|| vec![artifact(None)], [verdict("pass")]);
        assert_eq!(said(true, whole(), &pass, &pass), [passed(""), passed(""), passed("")]);
        let unsigned = vec![artifact(None), artifact(Some("not signed"))];
        assert_eq!(said(true, unsigned, &pass, &pass)[0], failed("m: not signed"));
        assert_eq!(said(true, vec![], &pass, &pass)[0], failed("the package has no file that is signed"));
        let not_made = (Outcome::NotReached, "package made nothing".to_owned());
        assert_eq!(said(false, vec![], &pass, &pass)[0], not_made);
        for (outcome, says) in [
            ("warn", passed("warned: s/m")),
            ("no_baseline", passed("no baseline: s/m")),
            ("fail", failed("budget failed: s/m")),
            ("fine", failed("0 of 1 budgets have a verdict")),
        ] {
            assert_eq!(said(true, whole(), &[verdict(outcome)], &pass)[1], says);
        }
        assert_eq!(said(true, whole(), &pass, &[])[2], failed("0 of 1 gates have a verdict"));
        let both = [verdict("pass"), verdict("pass")];
        assert_eq!(said(true, whole(), &pass, &both)[2], failed("2 of 1 gates have a verdict"));
    }
}

//! From the controls that a plan binds to the places where they stand.

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon;
use bitproof_scheduler::{InputSource, Plan, PlannedTask, TaskId};

use super::{Control, GovernanceError, Position, GOVERNANCE};
use crate::stages;

const SCHEMA: u32 = 1;

/// The controls that a pipeline demands, as its plan binds them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Policy {
    schema: u32,
    /// The controls of the run, in their order.
    run: Vec<Control>,
    /// The data inputs that have a pin, sorted; empty where no control asks for them.
    pinned: Vec<String>,
}

impl Policy {
    /// The policy that demands `controls`; `pinned` are the data inputs with a pin.
    pub fn new(controls: &[Control], pinned: impl IntoIterator<Item = String>) -> Self {
        let mut run = controls.to_vec();
        run.sort_unstable();
        run.dedup();
        let mut pinned: Vec<String> = match run.contains(&Control::InputsPinned) {
            true => pinned.into_iter().collect(),
            false => Vec::new(),
        };
        pinned.sort_unstable();
        pinned.dedup();
        Self { schema: SCHEMA, run, pinned }
    }

    /// The canonical bytes that a plan holds as `governance`; a policy that demands nothing has none.
    pub fn encode(&self) -> Option<Vec<u8>> {
        (!self.run.is_empty()).then(|| canon::encode(self))
    }

    /// The policy that a plan binds; one that demands nothing where the plan has none.
    ///
    /// # Errors
    /// As [`Policy::decode`].
    pub fn of(plan: &Plan) -> Result<Self, GovernanceError> {
        plan.spec().policy.get(GOVERNANCE).map_or_else(|| Ok(Self::default()), |bytes| Self::decode(bytes))
    }

    /// Reads what [`Policy::encode`] gave.
    ///
    /// # Errors
    /// [`GovernanceError::Policy`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, GovernanceError> {
        let bad = |reason: String| GovernanceError::Policy { reason };
        let policy: Self = canon::decode(bytes).map_err(|e| bad(e.to_string()))?;
        if policy.schema != SCHEMA {
            return Err(bad(format!("it has schema {}; this version reads {SCHEMA}", policy.schema)));
        }
        if Self::new(&policy.run, policy.pinned.iter().cloned()).encode().as_deref() != Some(bytes) {
            return Err(bad("its controls or pins are empty, out of order or listed twice".to_owned()));
        }
        Ok(policy)
    }

    /// Whether a control is demanded.
    pub fn demands(&self, control: Control) -> bool {
        self.run.contains(&control)
    }

    /// Whether a data input has a pin.
    pub fn pins(&self, data: &str) -> bool {
        self.pinned.binary_search_by(|name| name.as_str().cmp(data)).is_ok()
    }
}

/// A place at which a control stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPoint {
    /// The control.
    pub control: Control,
    /// On which side of the task.
    pub position: Position,
    /// The place of the task in the commit order.
    pub sequence: usize,
    /// The task.
    pub task: TaskId,
    /// Its lane.
    pub lane: u32,
    /// Its tick.
    pub tick: u64,
}

/// Every place at which a control of the plan stands, in the order of tick, lane, side and control. A function of the plan.
///
/// # Errors
/// [`GovernanceError::Policy`].
pub fn compile(plan: &Plan) -> Result<Vec<ControlPoint>, GovernanceError> {
    let policy = Policy::of(plan)?;
    let mut points = Vec::new();
    // Tasks commit in the order of tick and lane, and the order of controls has those before a task first.
    for task in plan.tasks() {
        for &control in policy.run.iter().filter(|&&control| stands_at(control, task, plan)) {
            points.push(ControlPoint {
                control,
                position: control.position(),
                sequence: task.sequence,
                task: task.spec.id.clone(),
                lane: task.slot.lane,
                tick: task.slot.tick,
            });
        }
    }
    Ok(points)
}

fn stands_at(control: Control, task: PlannedTask<'_>, plan: &Plan) -> bool {
    match control {
        Control::InputsPinned => task.spec.inputs.iter().any(|input| matches!(input, InputSource::Data(_))),
        Control::CleanSource => task.sequence == 0,
        Control::ArtifactsSigned => {
            task.spec.code.native().is_some_and(|native| native.kind == stages::PACKAGE)
        }
        Control::Budgets | Control::Gates => task.sequence + 1 == plan.len(),
    }
}

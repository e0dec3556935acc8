//! The table `[governance]`: which controls a run must meet.

use bitproof_experiment_graph::Gate;

use super::node::{nearest_hint, Keys, Node, Reporter};
use super::{BudgetSpec, InputRef, Params, PipelineError, Stage};
use crate::governance::Control;

/// Reads the table. A control that would stand nowhere is an error: it would promise what nobody checks.
pub(super) fn read(
    r: Reporter<'_>,
    node: Option<&Node>,
    stages: &[Stage],
    gates: &[Gate],
    budgets: &[BudgetSpec],
) -> Result<Vec<Control>, PipelineError> {
    let Some(node) = node else { return Ok(Vec::new()) };
    let keys = Keys::new(r, &node.place, "[governance]", r.table(node, "[governance]")?);
    let mut controls = Vec::new();
    let run = keys.required("run")?;
    for (name, place) in r.texts(run, "run")? {
        let Some(&(_, control)) = Control::ALL.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = Control::ALL.iter().map(|(name, _)| *name).collect();
            return Err(r.error(&place, format!("unknown control {name:?}"), nearest_hint(&name, &known)));
        };
        if controls.contains(&control) {
            return Err(r.error(&place, format!("the control {name} is listed twice"), "list it once"));
        }
        let missing = match control {
            Control::InputsPinned => {
                let takes_data = |s: &Stage| s.inputs.iter().any(|i| matches!(i, InputRef::Data(_)));
                (!stages.iter().any(takes_data)).then_some("no stage takes a data input")
            }
            Control::CleanSource => None,
            Control::ArtifactsSigned => {
                let packages = |s: &Stage| matches!(s.params, Params::Package(_));
                (!stages.iter().any(packages)).then_some("no stage uses \"package\"")
            }
            Control::Budgets => budgets.is_empty().then_some("there is no [[budget]]"),
            Control::Gates => gates.is_empty().then_some("there is no [[gate]]"),
        };
        if let Some(missing) = missing {
            let message = format!("the control {name} has nothing to judge: {missing}");
            return Err(r.error(&place, message, "add what it is to judge, or leave it out"));
        }
        controls.push(control);
    }
    keys.finish()?;
    controls.sort_unstable();
    Ok(controls)
}

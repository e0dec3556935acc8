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

#[cfg(test)]
mod tests {
    use crate::governance::Control;
    use crate::pipeline::parse;

    const COMMAND: &str = "[pipeline]\nname = \"p\"\n[data.d]\npath = \"d\"\n[[stage]]\nname = \"s\"\n\
        command = [\"true\"]\noutputs = { o = \"o\" }\n";

    fn controls(text: &str, run: &str) -> Result<Vec<Control>, String> {
        let text = format!("{text}[governance]\nrun = [{run}]\n");
        parse("p.toml", text.as_bytes()).map(|pipeline| pipeline.governance).map_err(|e| e.to_string())
    }

    #[test]
    fn a_control_that_stands_nowhere_is_refused() {
        assert_eq!(controls(COMMAND, ""), Ok(vec![]));
        assert_eq!(controls(COMMAND, "\"clean-source\""), Ok(vec![Control::CleanSource]));
        for (name, missing) in [
            ("inputs-pinned", "no stage takes a data input"),
            ("artifacts-signed", "no stage uses \"package\""),
            ("budgets", "there is no [[budget]]"),
            ("gates", "there is no [[gate]]"),
        ] {
            let error = controls(COMMAND, &format!("\"{name}\"")).unwrap_err();
            let expected = format!("p.toml:10:8: the control {name} has nothing to judge: {missing}");
            assert!(error.starts_with(&expected), "{error}");
        }
        let takes = COMMAND.replace("outputs", "inputs = { d = \"data:d\" }\noutputs");
        let both = controls(&takes, "\"clean-source\", \"inputs-pinned\"");
        assert_eq!(both, Ok(vec![Control::InputsPinned, Control::CleanSource]), "in their own order");
    }
}

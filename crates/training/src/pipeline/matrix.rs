//! From stages as they are written to tasks: a stage with a matrix becomes a task for each combination of its values, and so
//! does every stage that takes an output of one of them.

use std::collections::{BTreeMap, BTreeSet};

use bitproof_scheduler::command::CommandInput;

use super::node::{Node, Reporter, Value};
use super::stage::{Axis, Family, Source};
use super::{InputRef, PipelineError, Stage};

/// The most tasks of a pipeline.
const MAX_TASKS: usize = 100_000;
/// The longest name of a task: it names files.
const MAX_TASK_NAME_BYTES: usize = 200;

/// An axis of a stage's tasks, with the stage that declares it.
#[derive(Debug, Clone, Copy)]
struct AxisOf<'a> {
    family: &'a str,
    axis: &'a Axis,
}

/// For each axis of a task, in the order of its stage's axes, which value it has.
type Choice = Vec<usize>;

/// Every task of every stage, in the order of the file and of the combinations; the last axis varies fastest.
///
/// The stages are known to have no cycle, and to refer only to what exists.
pub(super) fn expand(r: Reporter<'_>, families: &[Family<'_>]) -> Result<Vec<Stage>, PipelineError> {
    let by_name: BTreeMap<&str, &Family<'_>> = families.iter().map(|f| (f.name.as_str(), f)).collect();
    let mut axes: BTreeMap<&str, Vec<AxisOf<'_>>> = BTreeMap::new();
    for family in families {
        axes_of(family, &by_name, &mut axes);
    }
    let mut labels: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    for (family, axes) in &axes {
        let of_family = axes.iter().map(|a| self::labels(r, a.axis)).collect::<Result<Vec<_>, _>>()?;
        labels.insert(family, of_family);
    }
    let mut stages = Vec::new();
    for family in families {
        let own = &axes[family.name.as_str()];
        let combinations = own.iter().try_fold(1usize, |n, a| n.checked_mul(a.axis.values.len()));
        let total = combinations.and_then(|n| n.checked_add(stages.len()));
        if total.is_none_or(|total| total > MAX_TASKS) {
            let message = format!("with stage {:?} there are more than {MAX_TASKS} tasks", family.name);
            return Err(r.error(&family.place, message, "use a smaller matrix"));
        }
        for choice in choices(own, &|_| None) {
            stages.push(task(r, family, &choice, &axes, &labels, &by_name)?);
        }
    }
    Ok(stages)
}

/// Those of the stages that it takes one task's output of, then its own.
fn axes_of<'a>(
    family: &'a Family<'a>,
    by_name: &BTreeMap<&'a str, &'a Family<'a>>,
    known: &mut BTreeMap<&'a str, Vec<AxisOf<'a>>>,
) {
    // Stages wait here until those that they inherit from are known; depth does not use the stack.
    let mut open = vec![family];
    while let Some(family) = open.last().copied() {
        let sources = family.inputs.iter().filter_map(|input| match &input.source {
            Source::Output { stage, all: false, .. } => Some(by_name[stage.as_str()]),
            _ => None,
        });
        let sources: Vec<&Family<'_>> = sources.collect();
        let missing: Vec<_> =
            sources.iter().filter(|f| !known.contains_key(f.name.as_str())).copied().collect();
        if !missing.is_empty() {
            open.extend(missing);
            continue;
        }
        let mut axes: Vec<AxisOf<'_>> = Vec::new();
        let own = family.axes.iter().map(|axis| AxisOf { family: &family.name, axis });
        let inherited = sources.iter().flat_map(|source| known[source.name.as_str()].clone());
        for axis in inherited.chain(own) {
            if !axes.iter().any(|a| (a.family, &a.axis.key) == (axis.family, &axis.axis.key)) {
                axes.push(axis);
            }
        }
        known.insert(&family.name, axes);
        open.pop();
    }
}

/// Every combination of values, or of those that are pinned along some axes.
fn choices(axes: &[AxisOf<'_>], pinned: &dyn Fn(&AxisOf<'_>) -> Option<usize>) -> Vec<Choice> {
    axes.iter().fold(vec![Vec::new()], |choices, axis| {
        let values = pinned(axis).map_or(0..axis.axis.values.len(), |value| value..value + 1);
        let longer = |choice: &Choice| {
            let choice = choice.clone();
            values.clone().map(move |i| [&choice[..], &[i]].concat())
        };
        choices.iter().flat_map(longer).collect()
    })
}

fn task(
    r: Reporter<'_>,
    family: &Family<'_>,
    choice: &[usize],
    axes: &BTreeMap<&str, Vec<AxisOf<'_>>>,
    labels: &BTreeMap<&str, Vec<Vec<String>>>,
    by_name: &BTreeMap<&str, &Family<'_>>,
) -> Result<Stage, PipelineError> {
    let own = &axes[family.name.as_str()];
    let name = task_name(r, family, own, choice, &labels[family.name.as_str()])?;
    // The tasks of another stage that agree with this one where they have an axis in common.
    let tasks_of = |stage: &str| -> Result<Vec<String>, PipelineError> {
        let theirs = &axes[stage];
        let mine = |axis: &AxisOf<'_>| {
            let same = |m: &AxisOf<'_>| (m.family, &m.axis.key) == (axis.family, &axis.axis.key);
            own.iter().position(same).map(|at| choice[at])
        };
        let found = choices(theirs, &mine).into_iter();
        found.map(|choice| task_name(r, by_name[stage], theirs, &choice, &labels[stage])).collect()
    };
    let mut inputs = Vec::new();
    let mut command_inputs = Vec::new();
    for input in &family.inputs {
        match &input.source {
            Source::Data(data) => {
                inputs.push(InputRef::Data(data.clone()));
                command_inputs.extend(input.to_command.clone());
            }
            Source::Output { stage, output, all } => {
                for task in tasks_of(stage)? {
                    let mut to_command = input.to_command.clone();
                    if let Some(CommandInput { name, path }) = to_command.as_mut().filter(|_| *all) {
                        let combination = task.split_once('@').map_or(task.as_str(), |(_, c)| c);
                        *name = format!("{name}/{combination}");
                        *path = format!("{path}/{combination}");
                    }
                    command_inputs.extend(to_command);
                    inputs.push(InputRef::Output { stage: task, output: output.clone() });
                }
            }
        }
    }
    let mut after = Vec::new();
    for (stage, _) in &family.after {
        after.extend(tasks_of(stage)?);
    }
    let along: Vec<(&str, &Node)> = own
        .iter()
        .zip(choice)
        .filter(|(axis, _)| axis.family == family.name)
        .map(|(axis, &value)| (axis.axis.key.as_str(), &axis.axis.values[value]))
        .collect();
    Ok(Stage {
        name,
        family: family.name.clone(),
        inputs,
        command_inputs,
        after,
        cost: family.cost,
        lane: family.lane,
        retries: family.retries,
        params: family.params(r, &along)?,
        place: family.place.clone(),
    })
}

/// `train@batch=32,learning_rate=0.001`.
fn task_name(
    r: Reporter<'_>,
    family: &Family<'_>,
    axes: &[AxisOf<'_>],
    choice: &[usize],
    labels: &[Vec<String>],
) -> Result<String, PipelineError> {
    let part = |((axis, &value), labels): ((&AxisOf<'_>, &usize), &Vec<String>)| {
        let alone = axes.iter().filter(|a| a.axis.key == axis.axis.key).count() == 1;
        let owner = if alone { String::new() } else { format!("{}.", axis.family) };
        format!("{owner}{}={}", axis.axis.key, labels[value])
    };
    if axes.is_empty() {
        return Ok(family.name.clone());
    }
    let parts: Vec<String> = axes.iter().zip(choice).zip(labels).map(part).collect();
    let name = format!("{}@{}", family.name, parts.join(","));
    if name.len() <= MAX_TASK_NAME_BYTES {
        return Ok(name);
    }
    let message = format!("the task {name:?} has a name of more than {MAX_TASK_NAME_BYTES} bytes");
    Err(r.error(&family.place, message, "use a matrix of fewer or shorter keys"))
}

/// What each value is called in the name of a task.
fn labels(r: Reporter<'_>, axis: &Axis) -> Result<Vec<String>, PipelineError> {
    let (mut labels, mut seen) = (Vec::new(), BTreeSet::new());
    for (i, node) in axis.values.iter().enumerate() {
        let label = label(node).unwrap_or_else(|| format!("#{i}"));
        if !seen.insert(label.clone()) {
            let message = format!("{} has the value {label} twice", axis.key);
            return Err(r.error(&node.place, message, "keep one of them"));
        }
        labels.push(label);
    }
    Ok(labels)
}

fn label(node: &Node) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    match &node.value {
        Value::Bool(v) => Some(v.to_string()),
        Value::Int(v) => Some(v.to_string()),
        Value::Float(v) => Some(format!("{v:?}")),
        Value::Text(v) => (!v.is_empty() && v.len() <= 64 && v.chars().all(plain)).then(|| v.clone()),
        Value::List(items) => {
            let parts: Option<Vec<String>> = items.iter().map(label).collect();
            parts.map(|parts| parts.join("x")).filter(|text| !text.is_empty() && text.len() <= 64)
        }
        Value::Table(_) | Value::Other(_) => None,
    }
}

//! What can only be checked on the whole: names, inputs, cycles.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{nearest_hint, Reporter};
use super::{InputRef, Params, Pipeline, PipelineError, Stage};

/// Every stage has a name of its own.
pub(super) fn check_names(r: Reporter<'_>, stages: &[Stage]) -> Result<(), PipelineError> {
    let mut seen = BTreeSet::new();
    for stage in stages {
        if stage.name == "data" || stage.name == "pipeline" {
            let message = format!("a stage cannot be named {:?}", stage.name);
            return Err(r.error(
                &stage.place,
                message,
                "choose another name; this one has a meaning of its own",
            ));
        }
        if !seen.insert(&stage.name) {
            let message = format!("there are two stages named {:?}", stage.name);
            return Err(r.error(&stage.place, message, "give each stage its own name"));
        }
    }
    Ok(())
}

pub(super) fn check(r: Reporter<'_>, pipeline: &Pipeline) -> Result<(), PipelineError> {
    let by_name: BTreeMap<&str, &Stage> = pipeline.stages.iter().map(|s| (s.name.as_str(), s)).collect();
    for stage in &pipeline.stages {
        for input in &stage.inputs {
            check_input(r, pipeline, &by_name, stage, input)?;
        }
        if let Some(unknown) = stage.after.iter().find(|name| !by_name.contains_key(name.as_str())) {
            let message = format!("stage {:?} comes after {unknown:?}, which does not exist", stage.name);
            let known: Vec<&str> = by_name.keys().copied().collect();
            return Err(r.error(&stage.place, message, nearest_hint(unknown, &known)));
        }
    }
    check_cycles(r, pipeline, &by_name)?;
    for stage in &pipeline.stages {
        check_kinds(r, &by_name, stage)?;
    }
    Ok(())
}

fn check_input(
    r: Reporter<'_>,
    pipeline: &Pipeline,
    by_name: &BTreeMap<&str, &Stage>,
    stage: &Stage,
    input: &InputRef,
) -> Result<(), PipelineError> {
    let unknown = |what: String, wrong: &str, known: Vec<&str>| {
        let message = format!("stage {:?} takes {what}, which does not exist", stage.name);
        Err(r.error(&stage.place, message, nearest_hint(wrong, &known)))
    };
    match input {
        InputRef::Data(name) if !pipeline.data.contains_key(name) => {
            unknown(format!("data:{name}"), name, pipeline.data.keys().map(String::as_str).collect())
        }
        InputRef::Data(_) => Ok(()),
        InputRef::Output { stage: from, output } => match by_name.get(from.as_str()) {
            None => unknown(format!("{from}:{output}"), from, by_name.keys().copied().collect()),
            Some(source) if !source.params.outputs().contains(&output.as_str()) => {
                let message =
                    format!("stage {:?} takes {from}:{output}, but {from} has no such output", stage.name);
                let hint = nearest_hint(output, source.params.outputs());
                Err(r.error(&stage.place, message, hint))
            }
            Some(_) => Ok(()),
        },
    }
}

/// Walks the stages in depth; a stage that is met while it is open closes a cycle.
fn check_cycles(
    r: Reporter<'_>,
    pipeline: &Pipeline,
    by_name: &BTreeMap<&str, &Stage>,
) -> Result<(), PipelineError> {
    let mut done: BTreeMap<&str, bool> = BTreeMap::new();
    for start in &pipeline.stages {
        if done.contains_key(start.name.as_str()) {
            continue;
        }
        // A path of stages, each with the sources that are still to be walked.
        let mut path: Vec<(&str, Vec<&str>)> = vec![(&start.name, sources(start))];
        done.insert(&start.name, false);
        while let Some((name, left)) = path.last_mut() {
            let Some(next) = left.pop() else {
                done.insert(name, true);
                path.pop();
                continue;
            };
            match done.get(next) {
                Some(true) => {}
                Some(false) => {
                    let from = path.iter().position(|(n, _)| *n == next).unwrap_or(0);
                    let mut cycle: Vec<&str> = path[from..].iter().map(|(n, _)| *n).chain([next]).collect();
                    cycle.reverse();
                    let message = format!("the stages wait for each other: {}", cycle.join(" -> "));
                    let hint = "take an input or an `after` out of the circle";
                    return Err(r.error(&by_name[next].place, message, hint));
                }
                None => {
                    done.insert(next, false);
                    path.push((next, sources(by_name[next])));
                }
            }
        }
    }
    Ok(())
}

fn sources(stage: &Stage) -> Vec<&str> {
    let inputs = stage.inputs.iter().filter_map(|input| match input {
        InputRef::Output { stage, .. } => Some(stage.as_str()),
        InputRef::Data(_) => None,
    });
    inputs.chain(stage.after.iter().map(String::as_str)).collect()
}

/// Each kind of stage takes certain inputs.
fn check_kinds(
    r: Reporter<'_>,
    by_name: &BTreeMap<&str, &Stage>,
    stage: &Stage,
) -> Result<(), PipelineError> {
    let part = |input: &InputRef, parts: &[&str]| is_output(by_name, input, "dataset", parts);
    let model = |input: &InputRef| is_output(by_name, input, "train", &["model"]);
    let (fits, wanted) = match (&stage.params, stage.inputs.as_slice()) {
        (Params::Dataset(_), inputs) => {
            (matches!(inputs, [InputRef::Data(_)]), "one data input, like [\"data:digits\"]")
        }
        (Params::Train(_), inputs) => {
            let fits = match inputs {
                [train] => part(train, &["train"]),
                [train, valid] => part(train, &["train"]) && part(valid, &["valid"]),
                _ => false,
            };
            (
                fits,
                "a dataset's train part and perhaps its valid part, like [\"split:train\", \"split:valid\"]",
            )
        }
        (Params::Evaluate, inputs) => {
            let fits = matches!(inputs, [m, p] if model(m) && part(p, &["train", "valid", "test"]));
            (fits, "a model and a dataset part, like [\"train:model\", \"split:test\"]")
        }
        (Params::Package(_), inputs) => {
            let metrics = |input: &InputRef| {
                ["train", "evaluate"].iter().any(|kind| is_output(by_name, input, kind, &["metrics"]))
            };
            let fits =
                inputs.split_first().is_some_and(|(first, rest)| model(first) && rest.iter().all(metrics));
            (fits, "a model and any metrics, like [\"train:model\", \"evaluate:metrics\"]")
        }
    };
    if fits {
        return Ok(());
    }
    let message = format!("stage {:?} ({}) cannot work with these inputs", stage.name, stage.params.kind());
    Err(r.error(&stage.place, message, format!("it takes {wanted}")))
}

fn is_output(by_name: &BTreeMap<&str, &Stage>, input: &InputRef, kind: &str, outputs: &[&str]) -> bool {
    match input {
        InputRef::Output { stage, output } => {
            by_name.get(stage.as_str()).is_some_and(|s| s.params.kind() == kind)
                && outputs.contains(&output.as_str())
        }
        InputRef::Data(_) => false,
    }
}

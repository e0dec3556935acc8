//! What can only be checked on the whole: names, inputs, cycles.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{nearest_hint, Reporter};
use super::stage::{Family, FamilyCode, Input, Source};
use super::{DataInput, InputRef, Params, PipelineError, Stage, Tool};

type ByName<'a> = BTreeMap<&'a str, &'a Family<'a>>;

/// Every stage has a name of its own, refers to what there is, and waits for none that waits for it.
pub(super) fn check_families(
    r: Reporter<'_>,
    families: &[Family<'_>],
    data: &BTreeMap<String, DataInput>,
    tools: &BTreeMap<String, Tool>,
) -> Result<(), PipelineError> {
    check_names(r, families)?;
    let by_name: ByName<'_> = families.iter().map(|f| (f.name.as_str(), f)).collect();
    for family in families {
        for input in &family.inputs {
            check_input(r, data, &by_name, family, input)?;
        }
        if let Some((unknown, place)) = family.after.iter().find(|(n, _)| !by_name.contains_key(n.as_str())) {
            let message = format!("stage {:?} comes after {unknown:?}, which does not exist", family.name);
            let known: Vec<&str> = by_name.keys().copied().collect();
            return Err(r.error(place, message, nearest_hint(unknown, &known)));
        }
        let FamilyCode::Command(table) = &family.code else { continue };
        if let Some(unknown) = table.tools().iter().find(|name| !tools.contains_key(*name)) {
            let message =
                format!("stage {:?} runs with the tool {unknown:?}, which does not exist", family.name);
            let known: Vec<&str> = tools.keys().map(String::as_str).collect();
            let hint = match known.as_slice() {
                [] => format!("add [tools.{unknown}] with its path"),
                known => nearest_hint(unknown, known),
            };
            return Err(r.error(&family.place, message, hint));
        }
    }
    check_cycles(r, families, &by_name)
}

fn check_names(r: Reporter<'_>, families: &[Family<'_>]) -> Result<(), PipelineError> {
    let mut seen = BTreeSet::new();
    for family in families {
        if family.name == "data" || family.name == "pipeline" {
            let message = format!("a stage cannot be named {:?}", family.name);
            let hint = "choose another name; this one has a meaning of its own";
            return Err(r.error(&family.place, message, hint));
        }
        if !seen.insert(&family.name) {
            let message = format!("there are two stages named {:?}", family.name);
            return Err(r.error(&family.place, message, "give each stage its own name"));
        }
    }
    Ok(())
}

fn check_input(
    r: Reporter<'_>,
    data: &BTreeMap<String, DataInput>,
    by_name: &ByName<'_>,
    family: &Family<'_>,
    input: &Input,
) -> Result<(), PipelineError> {
    let unknown = |what: String, wrong: &str, known: Vec<&str>| {
        let message = format!("stage {:?} takes {what}, which does not exist", family.name);
        Err(r.error(&input.place, message, nearest_hint(wrong, &known)))
    };
    match &input.source {
        Source::Data(name) if !data.contains_key(name) => {
            unknown(format!("data:{name}"), name, data.keys().map(String::as_str).collect())
        }
        Source::Data(_) => Ok(()),
        Source::Output { stage: from, output, .. } => match by_name.get(from.as_str()) {
            None => unknown(format!("{from}:{output}"), from, by_name.keys().copied().collect()),
            Some(source) if !source.outputs().contains(&output.as_str()) => {
                let message =
                    format!("stage {:?} takes {from}:{output}, but {from} has no such output", family.name);
                let hint = nearest_hint(output, &source.outputs());
                Err(r.error(&input.place, message, hint))
            }
            Some(_) => Ok(()),
        },
    }
}

/// Walks the stages in depth; a stage that is met while it is open closes a cycle.
fn check_cycles(r: Reporter<'_>, families: &[Family<'_>], by_name: &ByName<'_>) -> Result<(), PipelineError> {
    let mut done: BTreeMap<&str, bool> = BTreeMap::new();
    for start in families {
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

fn sources<'a>(family: &'a Family<'_>) -> Vec<&'a str> {
    let inputs = family.inputs.iter().filter_map(|input| match &input.source {
        Source::Output { stage, .. } => Some(stage.as_str()),
        Source::Data(_) => None,
    });
    inputs.chain(family.after.iter().map(|(name, _)| name.as_str())).collect()
}

/// Each kind of stage takes certain inputs.
pub(super) fn check_kinds(r: Reporter<'_>, stages: &[Stage]) -> Result<(), PipelineError> {
    let by_name: BTreeMap<&str, &Stage> = stages.iter().map(|s| (s.name.as_str(), s)).collect();
    stages.iter().try_for_each(|stage| check_kind(r, &by_name, stage))
}

fn check_kind(r: Reporter<'_>, by_name: &BTreeMap<&str, &Stage>, stage: &Stage) -> Result<(), PipelineError> {
    let command = |input: &InputRef| is_command(by_name, input);
    let part =
        |input: &InputRef, parts: &[&str]| command(input) || is_output(by_name, input, "dataset", parts);
    let model = |input: &InputRef| command(input) || is_output(by_name, input, "train", &["model"]);
    let (fits, wanted) = match (&stage.params, stage.inputs.as_slice()) {
        (Params::Command(_), _) => return Ok(()),
        (Params::Dataset(params), inputs) => {
            let file = |input: &InputRef| matches!(input, InputRef::Data(_)) || command(input);
            (params.takes(inputs.len()) && inputs.iter().all(file), params.wanted_inputs())
        }
        (Params::Train(_), inputs) => {
            let fits = match inputs {
                [train, rest @ ..] => {
                    let valid = |i: &InputRef| part(i, &["valid"]);
                    part(train, &["train"])
                        && match rest {
                            [] => true,
                            [one] => valid(one) || model(one),
                            [one, start] => valid(one) && model(start),
                            _ => false,
                        }
                }
                [] => false,
            };
            let wanted =
                "a dataset's train part, perhaps its valid part and perhaps a model to begin with, like \
                          [\"split:train\", \"split:valid\"]";
            (fits, wanted.to_owned())
        }
        (Params::Evaluate, inputs) => {
            let fits = matches!(inputs, [m, p] if model(m) && part(p, &["train", "valid", "test"]));
            (fits, "a model and a dataset part, like [\"train:model\", \"split:test\"]".to_owned())
        }
        (Params::Generate(_), inputs) => {
            let fits = matches!(inputs, [m, s] if model(m) && part(s, &["schema"]));
            (fits, "a model and the schema of its text, like [\"train:model\", \"split:schema\"]".to_owned())
        }
        (Params::Package(_), inputs) => {
            let metrics = |input: &InputRef| {
                let measures = |kind: &&str| is_output(by_name, input, kind, &["metrics"]);
                ["train", "evaluate", "command"].iter().any(measures)
            };
            let fits =
                inputs.split_first().is_some_and(|(first, rest)| model(first) && rest.iter().all(metrics));
            (fits, "a model and any metrics, like [\"train:model\", \"evaluate:metrics\"]".to_owned())
        }
    };
    if fits {
        return Ok(());
    }
    let message = format!("stage {:?} ({}) cannot work with these inputs", stage.name, stage.params.kind());
    Err(r.error(&stage.place, message, format!("it takes {wanted}")))
}

/// Whether it is a file that a command makes. What is in it shows when it is there.
fn is_command(by_name: &BTreeMap<&str, &Stage>, input: &InputRef) -> bool {
    let InputRef::Output { stage, output } = input else { return false };
    by_name.get(stage.as_str()).is_some_and(|s| match &s.params {
        Params::Command(command) => command.outputs.iter().any(|o| o.name == *output && !o.folder),
        _ => false,
    })
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

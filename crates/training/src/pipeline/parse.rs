//! From text to a checked pipeline.

use std::collections::BTreeMap;

use bitproof_experiment_graph::{Better, Gate, OnMissing, OnNoBaseline, Quantity, Rule};
use bitproof_scheduler::{MAX_COST, MAX_LANES};
use toml::de::{DeTable, DeValue};

use super::node::{self, nearest_hint, place_at, Entry, Keys, Node, Reporter, Value};
use super::params::{self, KINDS};
use super::{
    check, BudgetSpec, DataInput, InputRef, OnFailure, Pipeline, PipelineError, Place, Stage, MAX_FILE_BYTES,
    MAX_NAME_BYTES, MAX_STAGES,
};

const START: Place = Place::File { line: 1, column: 1 };

/// Reads and checks a pipeline file.
///
/// # Errors
/// [`PipelineError`] for the first thing that is wrong.
pub fn parse(source: &str, text: &[u8]) -> Result<Pipeline, PipelineError> {
    parse_with_overrides(source, text, &[])
}

/// As [`parse`], with keys changed: `pipeline.seed`, or `STAGE.KEY` for a key of a stage's `with`. A value is read as TOML,
/// and as a text where it is none.
///
/// # Errors
/// [`PipelineError`] for the first thing that is wrong.
pub fn parse_with_overrides(
    source: &str,
    text: &[u8],
    overrides: &[(String, String)],
) -> Result<Pipeline, PipelineError> {
    let reporter = Reporter { source };
    let mut tree = read_tree(reporter, text)?;
    for (key, value) in overrides {
        apply(reporter, &mut tree, key, value)?;
    }
    let pipeline = pipeline(reporter, &tree)?;
    check::check(reporter, &pipeline)?;
    Ok(pipeline)
}

/// Reads the `[[gate]]` tables of a policy file.
///
/// # Errors
/// [`PipelineError`] for the first thing that is wrong.
pub fn parse_gates(source: &str, text: &[u8]) -> Result<Vec<Gate>, PipelineError> {
    let reporter = Reporter { source };
    let tree = read_tree(reporter, text)?;
    let keys = Keys::new(reporter, &START, "the policy file", &tree);
    let gates = tables(reporter, keys.optional("gate"), "[[gate]]", gate)?;
    keys.finish()?;
    Ok(gates)
}

fn read_tree(reporter: Reporter<'_>, text: &[u8]) -> Result<Vec<Entry>, PipelineError> {
    if text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes; the limit is {MAX_FILE_BYTES}", text.len());
        return Err(reporter.error(&START, message, "is it the right file?"));
    }
    let text = std::str::from_utf8(text).map_err(|e| {
        let valid = std::str::from_utf8(&text[..e.valid_up_to()]).unwrap_or("");
        reporter.error(&place_at(valid, valid.len()), "the file is not UTF-8", "save it as UTF-8")
    })?;
    let place = |offset: usize| place_at(text, offset);
    let table = DeTable::parse(text).map_err(|e| {
        let at = place(e.span().map_or(0, |span| span.start));
        reporter.error(&at, e.message().replace('\n', " "), "see docs/reference/pipeline.md")
    })?;
    Ok(node::table(table.get_ref(), &place))
}

fn apply(reporter: Reporter<'_>, tree: &mut Vec<Entry>, key: &str, value: &str) -> Result<(), PipelineError> {
    let place = Place::Set { key: key.to_owned() };
    let hint = "write pipeline.KEY=VALUE or STAGE.KEY=VALUE";
    let Some((owner, field)) = key.split_once('.').filter(|(o, f)| !o.is_empty() && !f.is_empty()) else {
        return Err(reporter.error(&place, format!("{key:?} is not a key that can be set"), hint));
    };
    let at = |_: usize| place.clone();
    let new = match DeValue::parse(value) {
        Ok(parsed) => node::node(parsed.get_ref(), 0, &at),
        Err(_) => Node { place: place.clone(), value: Value::Text(value.to_owned()) },
    };
    let entries = if owner == "pipeline" {
        child_table(tree, "pipeline", &place)
    } else {
        let names: Vec<String> = stage_nodes(tree).iter().filter_map(|s| stage_name(s)).collect();
        let found = stage_nodes(tree).into_iter().find(|s| stage_name(s).as_deref() == Some(owner));
        let Some(Node { value: Value::Table(stage), .. }) = found else {
            let known: Vec<&str> = names.iter().map(String::as_str).chain(["pipeline"]).collect();
            let message = format!("there is no stage {owner:?}");
            return Err(reporter.error(&place, message, nearest_hint(owner, &known)));
        };
        child_table(stage, "with", &place)
    };
    match entries {
        Some(entries) => {
            entries.retain(|e| e.key != field);
            entries.push(Entry { key: field.to_owned(), place: place.clone(), node: new });
            Ok(())
        }
        None => Err(reporter.error(&place, format!("{owner} is not a table"), hint)),
    }
}

fn child_table<'t>(entries: &'t mut Vec<Entry>, key: &str, place: &Place) -> Option<&'t mut Vec<Entry>> {
    if !entries.iter().any(|e| e.key == key) {
        let node = Node { place: place.clone(), value: Value::Table(Vec::new()) };
        entries.push(Entry { key: key.to_owned(), place: place.clone(), node });
    }
    match entries.iter_mut().find(|e| e.key == key) {
        Some(Entry { node: Node { value: Value::Table(inner), .. }, .. }) => Some(inner),
        _ => None,
    }
}

fn stage_nodes(tree: &mut [Entry]) -> Vec<&mut Node> {
    match tree.iter_mut().find(|e| e.key == "stage").map(|e| &mut e.node.value) {
        Some(Value::List(stages)) => stages.iter_mut().collect(),
        _ => Vec::new(),
    }
}

fn stage_name(node: &Node) -> Option<String> {
    let Value::Table(entries) = &node.value else { return None };
    match entries.iter().find(|e| e.key == "name").map(|e| &e.node.value) {
        Some(Value::Text(name)) => Some(name.clone()),
        _ => None,
    }
}

fn pipeline(r: Reporter<'_>, tree: &[Entry]) -> Result<Pipeline, PipelineError> {
    let keys = Keys::new(r, &START, "the pipeline file", tree);
    let head = keys.required("pipeline")?;
    let head_keys = Keys::new(r, &head.place, "[pipeline]", r.table(head, "pipeline")?);
    let name = name_of(r, head_keys.required("name")?, "the pipeline's name")?;
    let seed = head_keys.optional("seed").map_or(Ok(0), |n| r.int(n, "seed", 0, i64::MAX))? as u64;
    let lanes = head_keys.optional("lanes").map_or(Ok(vec!["0".to_owned()]), |n| lanes(r, n))?;
    let on_failure = head_keys.optional("on_failure").map_or(Ok(OnFailure::Stop), |n| {
        r.word(n, "on_failure", &[("stop", OnFailure::Stop), ("continue", OnFailure::Continue)])
    })?;
    head_keys.finish()?;
    let mut data = BTreeMap::new();
    if let Some(node) = keys.optional("data") {
        for entry in r.table(node, "data")? {
            check_name(r, &entry.key, &entry.place, "a data input's name")?;
            data.insert(entry.key.clone(), data_input(r, entry)?);
        }
    }
    let stages =
        tables(r, keys.optional("stage"), "[[stage]]", |r, place, entries| stage(r, place, entries, &lanes))?;
    if stages.is_empty() {
        return Err(r.error(&START, "the pipeline has no stage", "add a [[stage]]"));
    }
    if stages.len() > MAX_STAGES {
        let message = format!("the pipeline has {} stages; the limit is {MAX_STAGES}", stages.len());
        return Err(r.error(&START, message, "use fewer stages"));
    }
    check::check_names(r, &stages)?;
    let gates = tables(r, keys.optional("gate"), "[[gate]]", |r, place, entries| {
        let gate = gate(r, place, entries)?;
        known_metric_stage(r, place, &gate.metric, &stages)?;
        Ok(gate)
    })?;
    let budgets = tables(r, keys.optional("budget"), "[[budget]]", budget)?;
    keys.finish()?;
    Ok(Pipeline { source: r.source.to_owned(), name, seed, lanes, on_failure, data, stages, gates, budgets })
}

/// Every table of an array of tables.
fn tables<T>(
    r: Reporter<'_>,
    node: Option<&Node>,
    name: &str,
    read: impl Fn(Reporter<'_>, &Place, &[Entry]) -> Result<T, PipelineError>,
) -> Result<Vec<T>, PipelineError> {
    let Some(node) = node else { return Ok(Vec::new()) };
    let Value::List(items) = &node.value else {
        let message = format!("{name} must be an array of tables");
        return Err(r.error(&node.place, message, format!("write {name}, with two brackets")));
    };
    items.iter().map(|item| read(r, &item.place, r.table(item, name)?)).collect()
}

fn name_of(r: Reporter<'_>, node: &Node, what: &str) -> Result<String, PipelineError> {
    let name = r.text(node, what)?;
    check_name(r, name, &node.place, what)?;
    Ok(name.to_owned())
}

fn check_name(r: Reporter<'_>, name: &str, place: &Place, what: &str) -> Result<(), PipelineError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let first = name.chars().next().is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    if first && name.len() <= MAX_NAME_BYTES && name.chars().all(plain) {
        return Ok(());
    }
    let hint = format!("up to {MAX_NAME_BYTES} of a-z 0-9 . _ -, beginning with a letter or digit");
    Err(r.error(place, format!("{what} cannot be {name:?}"), hint))
}

fn lanes(r: Reporter<'_>, node: &Node) -> Result<Vec<String>, PipelineError> {
    let Value::List(items) = &node.value else {
        let count = r.int(node, "lanes", 1, MAX_LANES as i64)?;
        return Ok((0..count).map(|i| i.to_string()).collect());
    };
    if items.is_empty() || items.len() > MAX_LANES {
        let message = format!("lanes must be from 1 to {MAX_LANES} names, got {}", items.len());
        return Err(r.error(&node.place, message, "write a number of lanes, or their names"));
    }
    let mut names = Vec::new();
    for item in items {
        let name = name_of(r, item, "a lane's name")?;
        if names.contains(&name) {
            return Err(r.error(
                &item.place,
                format!("there are two lanes named {name:?}"),
                "give each its own name",
            ));
        }
        names.push(name);
    }
    Ok(names)
}

fn data_input(r: Reporter<'_>, entry: &Entry) -> Result<DataInput, PipelineError> {
    let name = format!("[data.{}]", entry.key);
    let keys = Keys::new(r, &entry.place, &name, r.table(&entry.node, &name)?);
    let node = keys.required("path")?;
    let path = r.text(node, "path")?;
    if !bitproof_core_ledger::inventory::is_plain_relative(path) {
        let hint =
            "use a path below the pipeline's folder; supply a file from elsewhere with --data NAME=PATH";
        return Err(r.error(
            &node.place,
            format!("path {path:?} does not stay inside the pipeline's folder"),
            hint,
        ));
    }
    let blake3 = keys.optional("blake3").map(|n| -> Result<_, PipelineError> {
        let text = r.text(n, "blake3")?;
        let digest: Result<bitproof_core_ledger::Digest<bitproof_core_ledger::Content>, _> = text.parse();
        digest.map_err(|e| r.error(&n.place, e.to_string(), "print it with b3sum FILE"))?;
        Ok((text.to_owned(), n.place.clone()))
    });
    let store = keys.optional("store").map_or(Ok(false), |n| r.bool(n, "store"))?;
    let input =
        DataInput { path: path.to_owned(), blake3: blake3.transpose()?, store, place: node.place.clone() };
    keys.finish()?;
    Ok(input)
}

fn stage(
    r: Reporter<'_>,
    place: &Place,
    entries: &[Entry],
    lanes: &[String],
) -> Result<Stage, PipelineError> {
    let keys = Keys::new(r, place, "[[stage]]", entries);
    let name = name_of(r, keys.required("name")?, "a stage's name")?;
    let uses = keys.required("uses")?;
    let kind_text = r.text(uses, "uses")?;
    let Some((kind, _)) = KINDS.iter().find(|(kind, _)| *kind == kind_text) else {
        let message = format!("there is no built-in stage {kind_text:?}");
        return Err(r.error(&uses.place, message, params::kind_hint(kind_text)));
    };
    let inputs = r.texts(keys.required("inputs")?, "inputs")?;
    let inputs = inputs.iter().map(|(text, at)| input_ref(r, text, at)).collect::<Result<Vec<_>, _>>()?;
    let after = keys.optional("after").map_or(Ok(Vec::new()), |n| r.texts(n, "after"))?;
    let cost = keys.optional("cost").map_or(Ok(1), |n| r.int(n, "cost", 1, MAX_COST as i64))? as u64;
    let lane = keys.optional("lane").map(|n| lane_index(r, n, lanes)).transpose()?;
    let params = match keys.optional("with") {
        Some(node) => params::parse(r, kind, r.table(node, "with")?, &node.place)?,
        None => params::parse(r, kind, &[], place)?,
    };
    keys.finish()?;
    let after = after.into_iter().map(|(name, _)| name).collect();
    Ok(Stage { name, inputs, after, cost, lane, params, place: place.clone() })
}

fn input_ref(r: Reporter<'_>, text: &str, place: &Place) -> Result<InputRef, PipelineError> {
    match text.split_once(':') {
        Some(("data", name)) if !name.is_empty() => Ok(InputRef::Data(name.to_owned())),
        Some((stage, output)) if !stage.is_empty() && !output.is_empty() => {
            Ok(InputRef::Output { stage: stage.to_owned(), output: output.to_owned() })
        }
        _ => {
            let hint = "write \"data:NAME\" or \"STAGE:OUTPUT\"";
            Err(r.error(place, format!("{text:?} is not an input"), hint))
        }
    }
}

fn lane_index(r: Reporter<'_>, node: &Node, lanes: &[String]) -> Result<u32, PipelineError> {
    if let Value::Int(_) = node.value {
        return Ok(r.int(node, "lane", 0, lanes.len() as i64 - 1)? as u32);
    }
    let name = r.text(node, "lane")?;
    lanes.iter().position(|lane| lane == name).map(|i| i as u32).ok_or_else(|| {
        let known: Vec<&str> = lanes.iter().map(String::as_str).collect();
        r.error(&node.place, format!("there is no lane {name:?}"), nearest_hint(name, &known))
    })
}

fn gate(r: Reporter<'_>, place: &Place, entries: &[Entry]) -> Result<Gate, PipelineError> {
    let keys = Keys::new(r, place, "[[gate]]", entries);
    let metric = r.text(keys.required("metric")?, "metric")?.to_owned();
    let better =
        r.word(keys.required("better")?, "better", &[("higher", Better::Higher), ("lower", Better::Lower)])?;
    let baseline = keys.optional("baseline").map(|n| r.text(n, "baseline").map(str::to_owned)).transpose()?;
    let on_no_baseline = keys.optional("on_no_baseline").map_or(Ok(OnNoBaseline::Skip), |n| {
        r.word(n, "on_no_baseline", &[("skip", OnNoBaseline::Skip), ("fail", OnNoBaseline::Fail)])
    })?;
    let on_missing = keys.optional("on_missing").map_or(Ok(OnMissing::Fail), |n| {
        r.word(n, "on_missing", &[("fail", OnMissing::Fail), ("warn", OnMissing::Warn)])
    })?;
    let (fail, warn) = (rules(&keys, "fail")?, rules(&keys, "warn")?);
    keys.finish()?;
    if fail.is_empty() && warn.is_empty() {
        let hint = "add for example fail = [\"value >= 0.95\"]";
        return Err(r.error(place, format!("the gate on {metric:?} has no rule"), hint));
    }
    if baseline.is_none() && fail.iter().chain(&warn).any(|rule| rule.quantity == Quantity::Regress) {
        let hint = "add baseline = \"latest\", \"latest:NAME\" or a run's name";
        return Err(r.error(
            place,
            format!("the gate on {metric:?} has a regress rule, but no baseline"),
            hint,
        ));
    }
    Ok(Gate { metric, better, baseline, on_no_baseline, on_missing, fail, warn })
}

fn rules(keys: &Keys<'_>, key: &'static str) -> Result<Vec<Rule>, PipelineError> {
    let Some(node) = keys.optional(key) else { return Ok(Vec::new()) };
    let r = keys.reporter;
    let read = |(text, place): &(String, Place)| {
        text.parse().map_err(|_| {
            let hint = "write for example \"value >= 0.95\" or \"regress <= 0.01\"";
            r.error(place, format!("{text:?} is not a rule"), hint)
        })
    };
    r.texts(node, key)?.iter().map(read).collect()
}

fn known_metric_stage(
    r: Reporter<'_>,
    place: &Place,
    metric: &str,
    stages: &[Stage],
) -> Result<(), PipelineError> {
    let names: Vec<&str> = stages.iter().map(|s| s.name.as_str()).collect();
    match metric.split_once('/') {
        Some((stage, key)) if !key.is_empty() && names.contains(&stage) => Ok(()),
        Some((stage, _)) => {
            let message = format!("the gate's metric {metric:?} is of no stage of this pipeline");
            Err(r.error(place, message, nearest_hint(stage, &names)))
        }
        None => Err(r.error(
            place,
            format!("{metric:?} is not a metric"),
            "write STAGE/KEY, like \"evaluate/accuracy\"",
        )),
    }
}

fn budget(r: Reporter<'_>, place: &Place, entries: &[Entry]) -> Result<BudgetSpec, PipelineError> {
    let keys = Keys::new(r, place, "[[budget]]", entries);
    let metric = r.text(keys.required("metric")?, "metric")?.to_owned();
    let texts = |key| -> Result<Vec<String>, PipelineError> {
        let Some(node) = keys.optional(key) else { return Ok(Vec::new()) };
        Ok(r.texts(node, key)?.into_iter().map(|(text, _)| text).collect())
    };
    let (fail, warn) = (texts("fail")?, texts("warn")?);
    keys.finish()?;
    let spec = BudgetSpec { metric, fail, warn, place: place.clone() };
    if spec.fail.is_empty() && spec.warn.is_empty() {
        let message = format!("the budget on {:?} has no limit", spec.metric);
        return Err(r.error(place, message, "add for example fail = [\"max <= 5s\"]"));
    }
    crate::judge::BudgetPolicy {
        metric: spec.metric.clone(),
        fail: spec.fail.clone(),
        warn: spec.warn.clone(),
    }
    .parse()
    .map_err(|e| r.error(place, e.to_string(), "write for example \"p95 <= 50ms\" or \"max <= 2GiB\""))?;
    Ok(spec)
}

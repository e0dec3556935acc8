//! From text to a checked pipeline.

use std::collections::BTreeMap;

use bitproof_experiment_graph::{Better, Gate, OnMissing, OnNoBaseline, Quantity, Rule};
use bitproof_scheduler::MAX_LANES;
use toml::de::{DeTable, DeValue};

use super::node::{self, nearest_hint, Entry, Keys, Lines, Node, Reporter, Value};
use super::stage::Family;
use super::{
    check, governance, matrix, BudgetSpec, DataInput, OnFailure, Pipeline, PipelineError, Place, Stage, Tool,
    MAX_FILE_BYTES, MAX_NAME_BYTES, MAX_STAGES,
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
    pipeline(reporter, &tree)
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
        reporter.error(&Lines::of(valid).place_at(valid.len()), "the file is not UTF-8", "save it as UTF-8")
    })?;
    let lines = Lines::of(text);
    let place = |offset: usize| lines.place_at(offset);
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
        // A value that is set takes the place of the axis of that name.
        if let Some(axes) = stage.iter_mut().find(|e| e.key == "matrix") {
            if let Value::Table(axes) = &mut axes.node.value {
                axes.retain(|e| e.key != field);
            }
        }
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
    let mut tools = BTreeMap::new();
    if let Some(node) = keys.optional("tools") {
        for entry in r.table(node, "tools")? {
            check_name(r, &entry.key, &entry.place, "a tool's name")?;
            tools.insert(entry.key.clone(), tool(r, entry)?);
        }
    }
    let families = tables(r, keys.optional("stage"), "[[stage]]", |r, place, entries| {
        Family::read(r, place, entries, &lanes)
    })?;
    if families.is_empty() {
        return Err(r.error(&START, "the pipeline has no stage", "add a [[stage]]"));
    }
    if families.len() > MAX_STAGES {
        let message = format!("the pipeline has {} stages; the limit is {MAX_STAGES}", families.len());
        return Err(r.error(&START, message, "use fewer stages"));
    }
    check::check_families(r, &families, &data, &tools)?;
    let stages = matrix::expand(r, &families)?;
    check::check_kinds(r, &stages)?;
    let gates = tables(r, keys.optional("gate"), "[[gate]]", |r, place, entries| {
        let gate = gate(r, place, entries)?;
        known_metric_stage(r, place, &gate.metric, &stages)?;
        Ok(gate)
    })?;
    let budgets = tables(r, keys.optional("budget"), "[[budget]]", budget)?;
    let governance = governance::read(r, keys.optional("governance"), &stages, &gates, &budgets)?;
    keys.finish()?;
    Ok(Pipeline {
        source: r.source.to_owned(),
        name,
        seed,
        lanes,
        on_failure,
        data,
        tools,
        stages,
        gates,
        budgets,
        governance,
    })
}

/// Every table of an array of tables.
fn tables<'a, T>(
    r: Reporter<'a>,
    node: Option<&'a Node>,
    name: &str,
    read: impl Fn(Reporter<'a>, &'a Place, &'a [Entry]) -> Result<T, PipelineError>,
) -> Result<Vec<T>, PipelineError> {
    let Some(node) = node else { return Ok(Vec::new()) };
    let Value::List(items) = &node.value else {
        let message = format!("{name} must be an array of tables");
        return Err(r.error(&node.place, message, format!("write {name}, with two brackets")));
    };
    items.iter().map(|item| read(r, &item.place, r.table(item, name)?)).collect()
}

pub(super) fn name_of(r: Reporter<'_>, node: &Node, what: &str) -> Result<String, PipelineError> {
    let name = r.text(node, what)?;
    check_name(r, name, &node.place, what)?;
    Ok(name.to_owned())
}

pub(super) fn check_name(
    r: Reporter<'_>,
    name: &str,
    place: &Place,
    what: &str,
) -> Result<(), PipelineError> {
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

/// A path that stays inside the pipeline's folder; `flag` supplies another.
fn local_path<'n>(r: Reporter<'_>, node: &'n Node, flag: &str) -> Result<&'n str, PipelineError> {
    let path = r.text(node, "path")?;
    if bitproof_core_ledger::inventory::is_plain_relative(path.trim_end_matches('/')) {
        return Ok(path);
    }
    let message = format!("path {path:?} does not stay inside the pipeline's folder");
    let hint =
        format!("use a path below the pipeline's folder; supply one from elsewhere with {flag} NAME=PATH");
    Err(r.error(&node.place, message, hint))
}

fn tool(r: Reporter<'_>, entry: &Entry) -> Result<Tool, PipelineError> {
    let name = format!("[tools.{}]", entry.key);
    let keys = Keys::new(r, &entry.place, &name, r.table(&entry.node, &name)?);
    let path = local_path(r, keys.required("path")?, "--tool")?.to_owned();
    let lock = keys.optional("lock").map(|n| -> Result<_, PipelineError> {
        Ok((local_path(r, n, "--tool")?.to_owned(), n.place.clone()))
    });
    let tool = Tool { path, lock: lock.transpose()?, place: entry.place.clone() };
    keys.finish()?;
    Ok(tool)
}

fn data_input(r: Reporter<'_>, entry: &Entry) -> Result<DataInput, PipelineError> {
    let name = format!("[data.{}]", entry.key);
    let keys = Keys::new(r, &entry.place, &name, r.table(&entry.node, &name)?);
    let node = keys.required("path")?;
    let path = local_path(r, node, "--data")?;
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

//! A `[[stage]]` table as it is written, before a matrix makes several tasks of it.

use std::collections::BTreeMap;

use bitproof_scheduler::command::CommandInput;
use bitproof_scheduler::{ParamValue, MAX_COST};

use super::command::{self, CommandTable};
use super::dataset::{self, DatasetParams};
use super::node::{nearest_hint, Entry, Keys, Node, Reporter, Value};
use super::params::{self, KINDS};
use super::parse::{check_name, name_of};
use super::{Params, PipelineError, Place};

/// The most times that a stage is tried again.
const MAX_RETRIES: i64 = 100;
/// The most values along one axis of a matrix.
const MAX_AXIS: usize = 10_000;

/// A stage as it is written.
#[derive(Debug)]
pub(super) struct Family<'a> {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) inputs: Vec<Input>,
    inputs_place: Place,
    pub(super) after: Vec<(String, Place)>,
    pub(super) cost: u64,
    pub(super) lane: Option<u32>,
    pub(super) retries: u32,
    pub(super) axes: Vec<Axis>,
    pub(super) code: FamilyCode,
    with: &'a [Entry],
    with_place: Place,
}

/// What a stage runs.
#[derive(Debug)]
pub(super) enum FamilyCode {
    Native(&'static str, &'static [&'static str]),
    Command(Box<CommandTable>),
}

/// An input as it is written.
#[derive(Debug, Clone)]
pub(super) struct Input {
    /// What it is to a command.
    pub(super) to_command: Option<CommandInput>,
    /// What it is to a dataset of several.
    pub(super) to_dataset: Option<&'static str>,
    pub(super) source: Source,
    pub(super) place: Place,
}

#[derive(Debug, Clone)]
pub(super) enum Source {
    Data(String),
    Output {
        stage: String,
        output: String,
        /// Of every task of the stage, not of the one that fits.
        all: bool,
    },
}

/// A key of a matrix with its values.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) key: String,
    pub(super) values: Vec<Node>,
}

impl<'a> Family<'a> {
    pub(super) fn read(
        r: Reporter<'a>,
        place: &'a Place,
        entries: &'a [Entry],
        lanes: &[String],
    ) -> Result<Self, PipelineError> {
        let keys = Keys::new(r, place, "[[stage]]", entries);
        let name = name_of(r, keys.required("name")?, "a stage's name")?;
        let code = match (keys.optional("uses"), keys.optional("command")) {
            (Some(_), Some(command)) => {
                let message = format!("stage {name:?} has both `uses` and `command`");
                return Err(r.error(&command.place, message, "keep one of them"));
            }
            (_, Some(_)) => FamilyCode::Command(Box::new(command::read(&keys)?)),
            (_, None) => {
                let uses = keys.required("uses")?;
                let kind = r.text(uses, "uses")?;
                let Some((kind, outputs)) = KINDS.iter().find(|(known, _)| *known == kind) else {
                    let message = format!("there is no built-in stage {kind:?}");
                    return Err(r.error(&uses.place, message, params::kind_hint(kind)));
                };
                FamilyCode::Native(kind, outputs)
            }
        };
        let inputs = match &code {
            FamilyCode::Native(kind, _) => native_inputs(r, kind, keys.required("inputs")?)?,
            FamilyCode::Command(_) => {
                keys.optional("inputs").map_or(Ok(Vec::new()), |n| named_inputs(r, n))?
            }
        };
        let inputs_place = keys.optional("inputs").map_or(place, |node| &node.place).clone();
        let after = keys.optional("after").map_or(Ok(Vec::new()), |n| r.texts(n, "after"))?;
        let cost = keys.optional("cost").map_or(Ok(1), |n| r.int(n, "cost", 1, MAX_COST as i64))? as u64;
        let lane = keys.optional("lane").map(|n| lane_index(r, n, lanes)).transpose()?;
        let retries = keys.optional("retries").map_or(Ok(0), |n| r.int(n, "retries", 0, MAX_RETRIES))? as u32;
        let (with, with_place) = match keys.optional("with") {
            Some(node) => (r.table(node, "with")?, node.place.clone()),
            None => (&[][..], place.clone()),
        };
        let axes = keys.optional("matrix").map_or(Ok(Vec::new()), |n| axes(r, n, with))?;
        keys.finish()?;
        let place = place.clone();
        Ok(Self {
            name,
            place,
            inputs,
            inputs_place,
            after,
            cost,
            lane,
            retries,
            axes,
            code,
            with,
            with_place,
        })
    }

    /// The names of its outputs, sorted.
    pub(super) fn outputs(&self) -> Vec<&str> {
        match &self.code {
            FamilyCode::Native(_, outputs) => outputs.to_vec(),
            FamilyCode::Command(table) => table.output_names(),
        }
    }

    /// The parameters with these values along the axes of its own.
    pub(super) fn params(&self, r: Reporter<'_>, along: &[(&str, &Node)]) -> Result<Params, PipelineError> {
        let axis = |(key, node): &(&str, &Node)| Entry {
            key: (*key).to_owned(),
            place: node.place.clone(),
            node: (*node).clone(),
        };
        let with: Vec<Entry> = self.with.iter().cloned().chain(along.iter().map(axis)).collect();
        match &self.code {
            FamilyCode::Native(kind, _) => {
                let params = params::parse(r, kind, &with, &self.with_place)?;
                if let Params::Dataset(dataset) = &params {
                    self.check_dataset_inputs(r, dataset)?;
                }
                Ok(params)
            }
            FamilyCode::Command(table) => {
                let values = with.iter().map(|e| Ok((e.key.clone(), value(r, &e.node, &e.key)?)));
                let values = values.collect::<Result<BTreeMap<_, _>, PipelineError>>()?;
                let inputs: Vec<&CommandInput> =
                    self.inputs.iter().filter_map(|i| i.to_command.as_ref()).collect();
                table.with(r, values, &inputs).map(|command| Params::Command(Box::new(command)))
            }
        }
    }

    fn check_dataset_inputs(&self, r: Reporter<'_>, params: &DatasetParams) -> Result<(), PipelineError> {
        let names: Vec<&'static str> = self.inputs.iter().filter_map(|input| input.to_dataset).collect();
        dataset::check_inputs(params, &names).map_err(|bad| {
            let named = self.inputs.iter().find(|input| bad.name.is_some() && input.to_dataset == bad.name);
            let place = named.map_or(&self.inputs_place, |input| &input.place);
            r.error(place, format!("stage {:?}: {}", self.name, bad.message), bad.hint)
        })
    }
}

/// A parameter of a command.
fn value(r: Reporter<'_>, node: &Node, key: &str) -> Result<ParamValue, PipelineError> {
    Ok(match &node.value {
        Value::Bool(v) => ParamValue::Bool(*v),
        Value::Int(v) => ParamValue::Int(*v),
        Value::Float(v) if v.is_finite() => ParamValue::float(*v),
        Value::Text(v) => ParamValue::Text(v.clone()),
        Value::List(items) => {
            ParamValue::List(items.iter().map(|i| value(r, i, key)).collect::<Result<_, _>>()?)
        }
        _ => {
            let message = format!("{key} cannot be a parameter of a command");
            return Err(r.error(&node.place, message, "use a number, a text, true or false, or a list"));
        }
    })
}

fn native_inputs(r: Reporter<'_>, kind: &str, node: &Node) -> Result<Vec<Input>, PipelineError> {
    let input = |text: &str, place: &Place, to_dataset| match source(r, text, place)? {
        Source::Output { all: true, .. } => {
            let hint = "only a command takes the outputs of every task of a matrix";
            Err(r.error(place, format!("{text:?} is not an input of a built-in stage"), hint))
        }
        source => Ok(Input { to_command: None, to_dataset, source, place: place.clone() }),
    };
    let Value::Table(entries) = &node.value else {
        return r.texts(node, "inputs")?.iter().map(|(text, place)| input(text, place, None)).collect();
    };
    if kind != "dataset" {
        let hint =
            "write inputs = [\"STAGE:OUTPUT\", …]; only a dataset of several files and a command name theirs";
        return Err(r.error(&node.place, format!("the inputs of a {kind} stage are a list"), hint));
    }
    let mut named = Vec::new();
    for entry in entries {
        let (rank, name) = dataset::input_name(&entry.key)
            .map_err(|hint| r.error(&entry.place, format!("a dataset has no input {:?}", entry.key), hint))?;
        named.push((rank, input(r.text(&entry.node, name)?, &entry.node.place, Some(name))?));
    }
    named.sort_by_key(|(rank, _)| *rank);
    Ok(named.into_iter().map(|(_, input)| input).collect())
}

fn named_inputs(r: Reporter<'_>, node: &Node) -> Result<Vec<Input>, PipelineError> {
    if let Value::List(_) = node.value {
        let hint = "write inputs = { data = \"data:NAME\" }: the command finds it as {in:data}";
        return Err(r.error(&node.place, "the inputs of a command need names", hint));
    }
    let input = |entry: &Entry| {
        check_name(r, &entry.key, &entry.place, "an input's name")?;
        let place = entry.node.place.clone();
        let (from, at) = match &entry.node.value {
            Value::Table(table) => {
                let keys = Keys::new(r, &place, "the input", table);
                let from = r.text(keys.required("from")?, "from")?;
                let at = keys.required("at")?;
                keys.finish()?;
                (from, Some(command::path(r, at, "at")?))
            }
            _ => (r.text(&entry.node, "an input")?, None),
        };
        let path = at.unwrap_or_else(|| format!("{}/{}", command::INPUTS, entry.key));
        let to_command = Some(CommandInput { name: entry.key.clone(), path });
        Ok(Input { to_command, to_dataset: None, source: source(r, from, &place)?, place })
    };
    let mut inputs = r.table(node, "inputs")?.iter().map(input).collect::<Result<Vec<_>, _>>()?;
    inputs.sort_by(|a, b| a.to_command.cmp(&b.to_command));
    Ok(inputs)
}

fn source(r: Reporter<'_>, text: &str, place: &Place) -> Result<Source, PipelineError> {
    match text.split_once(':') {
        Some(("data", name)) if !name.is_empty() => Ok(Source::Data(name.to_owned())),
        Some((stage, output)) if !stage.is_empty() && !output.is_empty() => {
            let (stage, all) = stage.strip_suffix("[*]").map_or((stage, false), |stage| (stage, true));
            Ok(Source::Output { stage: stage.to_owned(), output: output.to_owned(), all })
        }
        _ => {
            let hint = "write \"data:NAME\", \"STAGE:OUTPUT\" or, for all of a matrix, \"STAGE[*]:OUTPUT\"";
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

fn axes(r: Reporter<'_>, node: &Node, with: &[Entry]) -> Result<Vec<Axis>, PipelineError> {
    let axis = |entry: &Entry| {
        check_name(r, &entry.key, &entry.place, "a key of a matrix")?;
        if with.iter().any(|e| e.key == entry.key) {
            let message = format!("{:?} stands in `with` and in `matrix`", entry.key);
            return Err(r.error(&entry.place, message, "keep one of them"));
        }
        let values = r.list(&entry.node, &entry.key)?;
        if values.is_empty() || values.len() > MAX_AXIS {
            let message = format!("{} must be from 1 to {MAX_AXIS} values, got {}", entry.key, values.len());
            return Err(r.error(&entry.node.place, message, "write key = [value, value, …]"));
        }
        Ok(Axis { key: entry.key.clone(), values: values.to_vec() })
    };
    let mut axes = r.table(node, "matrix")?.iter().map(axis).collect::<Result<Vec<_>, _>>()?;
    axes.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(axes)
}

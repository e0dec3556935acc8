//! The parameters and inputs of `dataset`.

use std::fmt;

use bitproof_scheduler::ParamValue;

use super::node::{nearest_hint, Keys, Node, Reporter, Value};
use super::params::{int_within, or, Canonical, FromPlan, ParamError};
use super::PipelineError;
use crate::data::{CsvOptions, TargetKind};

/// The largest window of a text.
pub const MAX_WINDOW: i64 = 65_536;
const MAX_COLUMN: i64 = 1 << 20;
const MAX_ONE_HOT: usize = 1024;
const DEFAULT_WINDOW: u32 = 64;
const KIND: &str = "dataset";

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnRef {
    /// The one at this index, from 0.
    Index(usize),
    /// The one of this name in the header.
    Name(String),
}

/// Which column holds the label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelColumn {
    /// The first.
    First,
    /// The last.
    Last,
    /// This one.
    Column(ColumnRef),
}

/// `dataset`.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetParams {
    /// What the files hold.
    pub content: Content,
    /// The share of the rows or characters that becomes `valid`.
    pub valid_fraction: f64,
    /// The share of the rows or characters that becomes `test`.
    pub test_fraction: f64,
}

/// What the files of a dataset hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Rows of numbers, each with what is to be learned of it.
    Examples(ExamplesParams),
    /// Characters, of which a model sees a window at once.
    Text {
        /// How many characters.
        window: u32,
    },
}

/// How rows of numbers are read and changed.
#[derive(Debug, Clone, PartialEq)]
pub struct ExamplesParams {
    /// What the files are.
    pub format: Format,
    /// Whether labels are classes or numbers.
    pub targets: TargetKind,
    /// Whether each class is split by itself.
    pub stratify: bool,
    /// What each feature is multiplied by.
    pub scale: f64,
    /// Whether each feature gets mean 0 and deviation 1 over the training part.
    pub standardise: bool,
}

/// What the files of a dataset of examples are.
#[derive(Debug, Clone, PartialEq)]
pub enum Format {
    /// A table.
    Csv(CsvOptions),
    /// Images and labels.
    Idx,
    /// Features and labels.
    Npy,
    /// Two tensors of a file.
    Safetensors {
        /// The tensor with the features.
        features: String,
        /// The tensor with the labels.
        labels: String,
    },
}

/// The names that the formats give their inputs, in the order in which a plan has them.
const INPUT_ORDER: [&str; 6] =
    ["images", "features", "labels", "test_images", "test_features", "test_labels"];
const IDX_INPUTS: [&str; 4] = ["images", "labels", "test_images", "test_labels"];
const NPY_INPUTS: [&str; 4] = ["features", "labels", "test_features", "test_labels"];

/// The formats, with the keys that each has besides those of every dataset.
const FORMATS: [(&str, &[&str]); 5] = [
    ("csv", &["header", "separator", "label", "one_hot", "task", "stratify", "scale", "standardise"]),
    ("idx", &["task", "stratify", "scale", "standardise"]),
    ("npy", &["task", "stratify", "scale", "standardise"]),
    ("safetensors", &["features", "labels", "task", "stratify", "scale", "standardise"]),
    ("text", &["window"]),
];

impl DatasetParams {
    /// What the pipeline file calls the format.
    pub fn format_name(&self) -> &'static str {
        let index = match &self.content {
            Content::Examples(ExamplesParams { format: Format::Csv(_), .. }) => 0,
            Content::Examples(ExamplesParams { format: Format::Idx, .. }) => 1,
            Content::Examples(ExamplesParams { format: Format::Npy, .. }) => 2,
            Content::Examples(ExamplesParams { format: Format::Safetensors { .. }, .. }) => 3,
            Content::Text { .. } => 4,
        };
        FORMATS[index].0
    }

    /// The names of its inputs in their order: the last two, with the rows of the test part, may be absent. None where the format takes
    /// one file.
    pub fn input_names(&self) -> Option<[&'static str; 4]> {
        match &self.content {
            Content::Examples(ExamplesParams { format: Format::Idx, .. }) => Some(IDX_INPUTS),
            Content::Examples(ExamplesParams { format: Format::Npy, .. }) => Some(NPY_INPUTS),
            _ => None,
        }
    }

    /// Whether so many files make a dataset. Two that are a test part take the place of `test_fraction`.
    pub fn takes(&self, files: usize) -> bool {
        match self.input_names() {
            None => files == 1,
            Some(_) => files == 2 || files == 4 && self.test_fraction == 0.0,
        }
    }

    /// What the inputs are to be, for a hint.
    pub(super) fn wanted_inputs(&self) -> String {
        match self.input_names() {
            None => "one data input, like [\"data:digits\"], or a command's output".to_owned(),
            Some([features, labels, test_features, test_labels]) => format!(
                "{{ {features} = \"data:…\", {labels} = \"data:…\" }}, perhaps with {test_features} and {test_labels} in place of test_fraction"
            ),
        }
    }

    /// The parameters that a plan holds.
    ///
    /// # Errors
    /// [`ParamError`].
    pub fn from_canonical(map: &Canonical) -> Result<Self, ParamError> {
        let plan = FromPlan { kind: KIND, map };
        let unknown = |key: &str| ParamError { kind: KIND, key: key.to_owned() };
        let format = plan.text("format")?;
        let content = if format == "text" {
            let window = plan.int("window", MAX_WINDOW)? as u32;
            Content::Text { window: Some(window).filter(|&w| w > 0).ok_or_else(|| unknown("window"))? }
        } else {
            let format = match format {
                "csv" => Format::Csv(csv_from_plan(&plan)?),
                "idx" => Format::Idx,
                "npy" => Format::Npy,
                "safetensors" => Format::Safetensors {
                    features: plan.text("features")?.to_owned(),
                    labels: plan.text("labels")?.to_owned(),
                },
                _ => return Err(unknown("format")),
            };
            let task = plan.text("task")?;
            let targets = TARGETS.into_iter().find(|targets| targets.name() == task);
            Content::Examples(ExamplesParams {
                format,
                targets: targets.ok_or_else(|| unknown("task"))?,
                stratify: plan.bool("stratify")?,
                scale: plan.float("scale")?,
                standardise: plan.bool("standardise")?,
            })
        };
        let (valid_fraction, test_fraction) = (plan.float("valid_fraction")?, plan.float("test_fraction")?);
        Ok(Self { content, valid_fraction, test_fraction })
    }

    /// Every parameter of its format by name.
    pub(super) fn pairs(&self) -> Vec<(&'static str, ParamValue)> {
        let text = |s: &str| ParamValue::Text(s.to_owned());
        let mut pairs = vec![
            ("format", text(self.format_name())),
            ("valid_fraction", ParamValue::float(self.valid_fraction)),
            ("test_fraction", ParamValue::float(self.test_fraction)),
        ];
        let examples = match &self.content {
            Content::Text { window } => {
                pairs.push(("window", ParamValue::Int((*window).into())));
                return pairs;
            }
            Content::Examples(examples) => examples,
        };
        match &examples.format {
            Format::Csv(csv) => pairs.extend([
                ("header", ParamValue::Bool(csv.header)),
                ("separator", text(&csv.separator.map(String::from).unwrap_or_default())),
                ("label", csv.label.value()),
                ("one_hot", ParamValue::List(csv.one_hot.iter().map(ColumnRef::value).collect())),
            ]),
            Format::Idx | Format::Npy => (),
            Format::Safetensors { features, labels } => {
                pairs.extend([("features", text(features)), ("labels", text(labels))]);
            }
        }
        pairs.extend([
            ("task", text(examples.targets.name())),
            ("stratify", ParamValue::Bool(examples.stratify)),
            ("scale", ParamValue::float(examples.scale)),
            ("standardise", ParamValue::Bool(examples.standardise)),
        ]);
        pairs
    }
}

const TARGETS: [TargetKind; 2] = [TargetKind::Classes, TargetKind::Values];

fn csv_from_plan(plan: &FromPlan<'_>) -> Result<CsvOptions, ParamError> {
    let column = |value: &ParamValue| match value {
        ParamValue::Text(name) => Some(ColumnRef::Name(name.clone())),
        _ => int_within(value, MAX_COLUMN).map(|index| ColumnRef::Index(index as usize)),
    };
    Ok(CsvOptions {
        header: plan.bool("header")?,
        separator: plan.text("separator")?.chars().next(),
        label: plan.get("label", |v| column(v).map(label_of))?,
        one_hot: plan.get("one_hot", |v| match v {
            ParamValue::List(items) if items.len() <= MAX_ONE_HOT => items.iter().map(column).collect(),
            _ => None,
        })?,
    })
}

impl ColumnRef {
    fn value(&self) -> ParamValue {
        match self {
            Self::Index(index) => ParamValue::Int(*index as i64),
            Self::Name(name) => ParamValue::Text(name.clone()),
        }
    }
}

impl fmt::Display for ColumnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

impl LabelColumn {
    fn value(&self) -> ParamValue {
        match self {
            Self::First => ParamValue::Text("first".to_owned()),
            Self::Last => ParamValue::Text("last".to_owned()),
            Self::Column(column) => column.value(),
        }
    }
}

fn label_of(column: ColumnRef) -> LabelColumn {
    match column {
        ColumnRef::Name(word) if word == "first" => LabelColumn::First,
        ColumnRef::Name(word) if word == "last" => LabelColumn::Last,
        column => LabelColumn::Column(column),
    }
}

/// Reads the `with` of a dataset.
pub(super) fn parse(keys: &Keys<'_>) -> Result<DatasetParams, PipelineError> {
    let r = keys.reporter;
    let words = FORMATS.map(|(name, own)| (name, (name, own)));
    let (format, own) = r.word(keys.required("format")?, "format", &words)?;
    refuse_foreign_keys(keys, format, own)?;
    let fraction = |key| {
        or(keys.optional(key), 0.0, |n| r.number(n, key, "from 0 to below 1", |f| (0.0..1.0).contains(&f)))
    };
    let (valid_fraction, test_fraction) = (fraction("valid_fraction")?, fraction("test_fraction")?);
    if valid_fraction + test_fraction >= 1.0 {
        let message = "valid_fraction and test_fraction leave nothing for train";
        return Err(r.error(keys.place, message, "let them add up to less than 1"));
    }
    let format = match format {
        "csv" => Format::Csv(csv(keys)?),
        "idx" => Format::Idx,
        "npy" => Format::Npy,
        "safetensors" => {
            let name = |key| or(keys.optional(key), key.to_owned(), |n| Ok(r.text(n, key)?.to_owned()));
            Format::Safetensors { features: name("features")?, labels: name("labels")? }
        }
        _ => {
            let window = |n: &Node| r.int(n, "window", 1, MAX_WINDOW).map(|w| w as u32);
            let content = Content::Text { window: or(keys.optional("window"), DEFAULT_WINDOW, window)? };
            return Ok(DatasetParams { content, valid_fraction, test_fraction });
        }
    };
    let words = TARGETS.map(|targets| (targets.name(), targets));
    let targets = or(keys.optional("task"), TargetKind::Classes, |n| r.word(n, "task", &words))?;
    let is_classes = targets == TargetKind::Classes;
    let stratify = or(keys.optional("stratify"), is_classes, |n| match r.bool(n, "stratify")? {
        true if !is_classes => {
            let message = "stratify splits each class by itself, and regression has no classes";
            Err(r.error(&n.place, message, "remove stratify, or set task = \"classification\""))
        }
        stratify => Ok(stratify),
    })?;
    let content = Content::Examples(ExamplesParams {
        format,
        targets,
        stratify,
        scale: or(keys.optional("scale"), 1.0, |n| scale(r, n))?,
        standardise: or(keys.optional("standardise"), false, |n| r.bool(n, "standardise"))?,
    });
    Ok(DatasetParams { content, valid_fraction, test_fraction })
}

/// A key that another format has is told as such, not as one that is unknown.
fn refuse_foreign_keys(keys: &Keys<'_>, format: &str, own: &[&str]) -> Result<(), PipelineError> {
    for &key in FORMATS.iter().flat_map(|(_, keys)| *keys).filter(|key| !own.contains(key)) {
        if let Some(node) = keys.given(key) {
            let having: Vec<&str> =
                FORMATS.iter().filter(|(_, k)| k.contains(&key)).map(|(n, _)| *n).collect();
            let message = format!("a dataset of the format {format:?} has no {key}");
            let hint = format!("remove {key}; it is for {}", having.join(", "));
            return Err(keys.reporter.error(&node.place, message, hint));
        }
    }
    Ok(())
}

fn csv(keys: &Keys<'_>) -> Result<CsvOptions, PipelineError> {
    let r = keys.reporter;
    let separator = or(keys.optional("separator"), None, |n| {
        let text = r.text(n, "separator")?;
        match text.chars().collect::<Vec<_>>()[..] {
            [c] if c.is_ascii() && !c.is_ascii_alphanumeric() && !"\"\r\n.-+".contains(c) => Ok(Some(c)),
            _ => Err(r.error(
                &n.place,
                format!("separator cannot be {text:?}"),
                "one of \",\" \";\" \"\\t\" \"|\"",
            )),
        }
    })?;
    let header = or(keys.optional("header"), false, |n| r.bool(n, "header"))?;
    let column = |node: &Node, name: &str| match &node.value {
        Value::Int(_) => Ok(ColumnRef::Index(r.int(node, name, 0, MAX_COLUMN)? as usize)),
        _ => Ok(ColumnRef::Name(r.text(node, name)?.to_owned())),
    };
    let has_header = |node: &Node, name: &str, known: &str| match header {
        true => Ok(()),
        false => {
            let message = format!("{name} names a column, but the data has no header");
            Err(r.error(&node.place, message, format!("set header = true, or use {known}an index from 0")))
        }
    };
    let label_node = keys.required("label")?;
    let label = label_of(column(label_node, "label")?);
    if let LabelColumn::Column(ColumnRef::Name(_)) = label {
        has_header(label_node, "label", "\"first\", \"last\" or ")?;
    }
    let one_hot = or(keys.optional("one_hot"), Vec::new(), |n| {
        let items = r.list(n, "one_hot")?;
        if items.len() > MAX_ONE_HOT {
            let message = format!("one_hot has {} columns; the limit is {MAX_ONE_HOT}", items.len());
            return Err(r.error(&n.place, message, "name fewer columns"));
        }
        let mut columns: Vec<ColumnRef> = Vec::new();
        for item in items {
            let column = column(item, "each of one_hot")?;
            if let ColumnRef::Name(_) = column {
                has_header(item, "one_hot", "")?;
            }
            if columns.contains(&column) {
                let message = format!("one_hot has the column {column} twice");
                return Err(r.error(&item.place, message, "keep one of them"));
            }
            columns.push(column);
        }
        Ok(columns)
    })?;
    Ok(CsvOptions { header, separator, label, one_hot })
}

/// A number, or a ratio like "1/16".
fn scale(r: Reporter<'_>, node: &Node) -> Result<f64, PipelineError> {
    let bounds = "above 0";
    let Value::Text(text) = &node.value else { return r.number(node, "scale", bounds, |s| s > 0.0) };
    let ratio = text.split_once('/').and_then(|(a, b)| {
        let (a, b): (f64, f64) = (a.trim().parse().ok()?, b.trim().parse().ok()?);
        Some(a / b).filter(|s| s.is_finite() && *s > 0.0)
    });
    ratio.ok_or_else(|| {
        r.error(
            &node.place,
            format!("scale cannot be {text:?}"),
            "a number above 0, or a ratio like \"1/16\"",
        )
    })
}

/// A name that some format gives an input, and its place among them.
///
/// # Errors
/// A hint, when there is no such name.
pub(super) fn input_name(name: &str) -> Result<(usize, &'static str), String> {
    let known = INPUT_ORDER.into_iter().enumerate().find(|(_, known)| *known == name);
    known.ok_or_else(|| nearest_hint(name, &INPUT_ORDER))
}

/// Inputs that do not fit the format.
pub(super) struct BadInputs {
    /// The name that is wrong, if it is one.
    pub(super) name: Option<&'static str>,
    pub(super) message: String,
    pub(super) hint: String,
}

/// Holds the names of a dataset's inputs, which a list does not have, against its format.
pub(super) fn check_inputs(params: &DatasetParams, names: &[&'static str]) -> Result<(), BadInputs> {
    let format = params.format_name();
    let hint = || format!("it takes {}", params.wanted_inputs());
    let bad = |message, hint| Err(BadInputs { name: None, message, hint });
    let known = match params.input_names() {
        None if names.is_empty() => return Ok(()),
        None => {
            let message =
                format!("a dataset of the format {format:?} takes its input in a list, without a name");
            return bad(message, hint());
        }
        Some(_) if names.is_empty() => {
            return bad(format!("the inputs of a dataset of the format {format:?} need names"), hint());
        }
        Some(known) => known,
    };
    if let Some(&name) = names.iter().find(|name| !known.contains(name)) {
        let message = format!("a dataset of the format {format:?} has no input {name:?}");
        return Err(BadInputs { name: Some(name), message, hint: nearest_hint(name, &known) });
    }
    let own_test = names.iter().any(|name| known[2..].contains(name));
    let wanted = if own_test { &known[..] } else { &known[..2] };
    if let Some(missing) = wanted.iter().find(|name| !names.contains(name)) {
        return bad(format!("the dataset has no input {missing:?}"), hint());
    }
    if own_test && params.test_fraction > 0.0 {
        let message = "the test part has files of its own, which leave nothing for test_fraction";
        return bad(message.to_owned(), "remove test_fraction, or the inputs of the test part".to_owned());
    }
    Ok(())
}

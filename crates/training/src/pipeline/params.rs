//! The parameters of each native stage: typed for the code, and as an ordered map for plan and comparison.

use std::collections::BTreeMap;

use bitproof_scheduler::ParamValue;

use super::command::CommandParams;
use super::dataset::{self, DatasetParams};
use super::node::{nearest_hint, Entry, Keys, Node, Reporter};
use super::train::{self, TrainParams};
use super::{PipelineError, Place};

const MAX_CARD_BYTES: usize = 64 << 10;
const MAX_PROMPT_BYTES: usize = 64 << 10;
/// The most characters that are generated.
pub const MAX_CHARACTERS: i64 = 1_000_000;
const MAX_TOP_K: i64 = 0x11_0000;
const MAX_TEMPERATURE: f64 = 100.0;

/// `package`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageParams {
    /// What the model card begins with.
    pub card: String,
}

/// `generate`.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateParams {
    /// What the text begins with.
    pub prompt: String,
    /// How many characters follow.
    pub characters: u32,
    /// What scores are divided by; 0 takes the likeliest character.
    pub temperature: f64,
    /// How many of the likeliest characters may follow; 0 for all.
    pub top_k: u32,
}

/// What a stage runs, with its parameters.
#[derive(Debug, Clone, PartialEq)]
pub enum Params {
    /// A file becomes train, valid and test.
    Dataset(DatasetParams),
    /// A model is trained.
    Train(TrainParams),
    /// A model is measured.
    Evaluate,
    /// A language model goes on with a text.
    Generate(GenerateParams),
    /// A model is packaged.
    Package(PackageParams),
    /// A program runs.
    Command(Box<CommandParams>),
}

/// The kinds of stages with their outputs, sorted.
pub(super) const KINDS: [(&str, &[&str]); 5] = [
    ("dataset", &["schema", "test", "train", "valid"]),
    ("train", &["checkpoints", "metrics", "model", "steps"]),
    ("evaluate", &["metrics", "predictions"]),
    ("generate", &["text"]),
    ("package", &["card", "model"]),
];

/// Parameters of a plan that are not those of their stage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plan's parameter {key} of {kind} is missing or of another type")]
pub struct ParamError {
    /// The kind of stage.
    pub kind: &'static str,
    /// The parameter.
    pub key: String,
}

pub(super) type Canonical = BTreeMap<String, ParamValue>;

impl Params {
    /// The kind of stage.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Dataset(_) => KINDS[0].0,
            Self::Train(_) => KINDS[1].0,
            Self::Evaluate => KINDS[2].0,
            Self::Generate(_) => KINDS[3].0,
            Self::Package(_) => KINDS[4].0,
            Self::Command(_) => "command",
        }
    }

    /// The names of its outputs, sorted.
    pub fn outputs(&self) -> Vec<&str> {
        match self {
            Self::Command(command) => command.output_names(),
            native => {
                KINDS.iter().find(|(kind, _)| *kind == native.kind()).map_or(Vec::new(), |(_, o)| o.to_vec())
            }
        }
    }

    /// Every parameter by name, defaults filled in.
    pub fn canonical(&self) -> Canonical {
        let text = |s: &str| ParamValue::Text(s.to_owned());
        let float = ParamValue::float;
        let pairs = match self {
            Self::Dataset(p) => p.pairs(),
            Self::Train(p) => p.canonical(),
            Self::Evaluate => vec![],
            Self::Generate(p) => vec![
                ("prompt", text(&p.prompt)),
                ("characters", ParamValue::Int(p.characters.into())),
                ("temperature", float(p.temperature)),
                ("top_k", ParamValue::Int(p.top_k.into())),
            ],
            Self::Package(p) => vec![("card", text(&p.card))],
            Self::Command(command) => return command.with.clone(),
        };
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// Reads typed values back out of a plan's map.
pub(super) struct FromPlan<'a> {
    pub(super) kind: &'static str,
    pub(super) map: &'a Canonical,
}

impl<'a> FromPlan<'a> {
    pub(super) fn get<T>(
        &self,
        key: &str,
        read: impl Fn(&'a ParamValue) -> Option<T>,
    ) -> Result<T, ParamError> {
        self.map.get(key).and_then(read).ok_or_else(|| ParamError { kind: self.kind, key: key.to_owned() })
    }
    pub(super) fn float(&self, key: &str) -> Result<f64, ParamError> {
        self.get(key, |v| if let ParamValue::Float(bits) = v { Some(f64::from_bits(*bits)) } else { None })
    }
    pub(super) fn text(&self, key: &str) -> Result<&'a str, ParamError> {
        self.get(key, |v| if let ParamValue::Text(text) = v { Some(text.as_str()) } else { None })
    }
    pub(super) fn bool(&self, key: &str) -> Result<bool, ParamError> {
        self.get(key, |v| if let ParamValue::Bool(value) = v { Some(*value) } else { None })
    }
    pub(super) fn int(&self, key: &str, max: i64) -> Result<i64, ParamError> {
        self.get(key, |v| int_within(v, max))
    }
}

pub(super) fn int_within(value: &ParamValue, max: i64) -> Option<i64> {
    match value {
        ParamValue::Int(value) if (0..=max).contains(value) => Some(*value),
        _ => None,
    }
}

impl GenerateParams {
    /// The parameters that a plan holds.
    ///
    /// # Errors
    /// [`ParamError`].
    pub fn from_canonical(map: &Canonical) -> Result<Self, ParamError> {
        let plan = FromPlan { kind: "generate", map };
        Ok(Self {
            prompt: plan.text("prompt")?.to_owned(),
            characters: plan.int("characters", MAX_CHARACTERS)? as u32,
            temperature: plan.float("temperature")?,
            top_k: plan.int("top_k", MAX_TOP_K)? as u32,
        })
    }
}

impl PackageParams {
    /// The parameters that a plan holds.
    ///
    /// # Errors
    /// [`ParamError`].
    pub fn from_canonical(map: &Canonical) -> Result<Self, ParamError> {
        Ok(Self { card: FromPlan { kind: "package", map }.text("card")?.to_owned() })
    }
}

/// Reads a stage's `with`.
pub(super) fn parse(
    reporter: Reporter<'_>,
    kind: &'static str,
    with: &[Entry],
    place: &Place,
) -> Result<Params, PipelineError> {
    let name = format!("the `with` of a {kind} stage");
    let keys = Keys::new(reporter, place, &name, with);
    let params = match kind {
        "dataset" => Params::Dataset(dataset::parse(&keys)?),
        "train" => Params::Train(train::read(&keys)?),
        "evaluate" => Params::Evaluate,
        "generate" => Params::Generate(generate(&keys)?),
        _ => Params::Package(package(&keys)?),
    };
    keys.finish()?;
    Ok(params)
}

pub(super) fn or<T>(
    node: Option<&Node>,
    default: T,
    read: impl FnOnce(&Node) -> Result<T, PipelineError>,
) -> Result<T, PipelineError> {
    node.map_or(Ok(default), read)
}

fn generate(keys: &Keys<'_>) -> Result<GenerateParams, PipelineError> {
    let r = keys.reporter;
    let node = keys.required("prompt")?;
    let prompt = r.text(node, "prompt")?;
    if prompt.is_empty() || prompt.len() > MAX_PROMPT_BYTES {
        let message = format!("prompt must be from 1 to {MAX_PROMPT_BYTES} bytes, got {}", prompt.len());
        return Err(r.error(&node.place, message, "write what the text begins with, such as \"\\n\""));
    }
    let bounds = "0, or from 0.01 to 100";
    let warmth = |t: f64| t == 0.0 || (0.01..=MAX_TEMPERATURE).contains(&t);
    let count =
        |key, default, min, max| or(keys.optional(key), default, |n| Ok(r.int(n, key, min, max)? as u32));
    Ok(GenerateParams {
        prompt: prompt.to_owned(),
        characters: count("characters", 500, 1, MAX_CHARACTERS)?,
        temperature: or(keys.optional("temperature"), 0.8, |n| r.number(n, "temperature", bounds, warmth))?,
        top_k: count("top_k", 0, 0, MAX_TOP_K)?,
    })
}

fn package(keys: &Keys<'_>) -> Result<PackageParams, PipelineError> {
    let r = keys.reporter;
    let card = or(keys.optional("card"), String::new(), |n| {
        let text = r.text(n, "card")?;
        if text.len() <= MAX_CARD_BYTES {
            return Ok(text.to_owned());
        }
        Err(r.error(&n.place, format!("card is longer than {MAX_CARD_BYTES} bytes"), "shorten it"))
    })?;
    Ok(PackageParams { card })
}

/// The hint for a stage of an unknown kind.
pub(super) fn kind_hint(wrong: &str) -> String {
    nearest_hint(wrong, &KINDS.map(|(kind, _)| kind))
}

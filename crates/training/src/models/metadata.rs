//! What a model's file says of the model. `docs/formats/model.md` is normative.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use super::{build, DataShape, ModelError, ModelSpec};
use crate::params::ParamSet;
use crate::safetensors::{self, Metadata, Tensors};
use crate::trainable::Trainable;

/// What every key of a model begins with.
const PREFIX: &str = "bitproof.";
/// The longest list of numbers.
const MAX_LIST: usize = super::MAX_LAYERS as usize;

/// A model with its parameters.
pub struct Loaded {
    /// The model.
    pub spec: ModelSpec,
    /// What it learned from.
    pub data: DataShape,
    /// The model on the tape.
    pub model: Box<dyn Trainable + Send>,
    /// Its parameters.
    pub params: ParamSet,
}

/// The file of a model: its tensors, and [`metadata`].
pub fn encode(spec: &ModelSpec, data: &DataShape, params: &ParamSet) -> Vec<u8> {
    safetensors::encode_with_metadata(&params.to_tensors(), &metadata(spec, data))
}

/// The model of a file.
///
/// # Errors
/// [`ModelError`] when the file cannot be read, says of no model what it is, or holds other tensors than this model's.
pub fn load(bytes: &[u8]) -> Result<Loaded, ModelError> {
    let (tensors, metadata) = safetensors::decode_with_metadata(bytes)?;
    let (spec, data) = from_metadata(&metadata, &tensors)?;
    let model = build(&spec, &data)?;
    let params = ParamSet::from_tensors(model.layout(), tensors)?;
    Ok(Loaded { spec, data, model, params })
}

/// What is needed to make the model of a file again: keys that begin with `bitproof.`.
pub fn metadata(spec: &ModelSpec, data: &DataShape) -> Metadata {
    let mut said = Metadata::new();
    let mut say = |key: &str, value: String| drop(said.insert(format!("{PREFIX}{key}"), value));
    say("model", spec.kind().to_owned());
    say("data", data.kind().to_owned());
    match spec {
        ModelSpec::Linear | ModelSpec::Logistic | ModelSpec::Lenet { image: None } => {}
        ModelSpec::Mlp { hidden } => say("hidden", joined(hidden)),
        ModelSpec::Lenet { image: Some(image) } => say("image", joined(image)),
        ModelSpec::Gpt { layers, heads, width, dropout } => {
            say("layers", layers.to_string());
            say("heads", heads.to_string());
            say("width", width.to_string());
            say("dropout", dropout.to_string());
        }
    }
    match data {
        DataShape::Classes { shape, classes } => {
            say("shape", joined(shape));
            say("classes", classes.to_string());
        }
        DataShape::Values { shape } => say("shape", joined(shape)),
        DataShape::Text { vocabulary, window } => {
            say("vocabulary", vocabulary.to_string());
            say("window", window.to_string());
        }
    }
    said
}

fn joined<T: Display>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

/// What [`metadata`] said of a model. Where it said nothing, linear and logistic regression and MLPs are told from their tensors.
///
/// # Errors
/// [`ModelError::Metadata`] when a key is missing, superfluous or not as [`metadata`] writes it; [`ModelError::Tensors`]. Whether the sizes
/// make a model, and the tensors are its, says [`build`] and [`ParamSet::from_tensors`].
pub fn from_metadata(
    metadata: &BTreeMap<String, String>,
    tensors: &Tensors,
) -> Result<(ModelSpec, DataShape), ModelError> {
    let said: BTreeMap<&str, &str> = metadata
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str())))
        .collect();
    if said.is_empty() {
        return from_tensors(tensors);
    }
    let said = Said(said);
    let spec = match said.text("model")? {
        "linear" => ModelSpec::Linear,
        "logistic" => ModelSpec::Logistic,
        "mlp" => ModelSpec::Mlp { hidden: said.list("hidden")? },
        "lenet" => ModelSpec::Lenet { image: said.image()? },
        "gpt" => ModelSpec::Gpt {
            layers: said.number("layers")?,
            heads: said.number("heads")?,
            width: said.number("width")?,
            dropout: said.number("dropout")?,
        },
        _ => return Err(bad("model", "there is no such model")),
    };
    let data = match said.text("data")? {
        "classes" => DataShape::Classes { shape: said.list("shape")?, classes: said.number("classes")? },
        "values" => DataShape::Values { shape: said.list("shape")? },
        "text" => DataShape::Text { vocabulary: said.number("vocabulary")?, window: said.number("window")? },
        _ => return Err(bad("data", "there is no such kind of data")),
    };
    // Each model has one way to be said, so that equal models are equal bytes.
    let again = self::metadata(&spec, &data);
    let other = said
        .0
        .iter()
        .find(|(key, value)| again.get(&format!("{PREFIX}{key}")).map(String::as_str) != Some(value));
    match other {
        Some((key, _)) => {
            Err(bad(key, "it does not belong to this model, or is not written as it has to be"))
        }
        None => Ok((spec, data)),
    }
}

fn bad(key: &str, reason: &'static str) -> ModelError {
    ModelError::Metadata { key: format!("{PREFIX}{key}"), reason }
}

/// What a file says, by key.
struct Said<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Said<'a> {
    fn text(&self, key: &str) -> Result<&'a str, ModelError> {
        self.0.get(key).copied().ok_or_else(|| bad(key, "it is missing"))
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<T, ModelError> {
        self.text(key)?.parse().map_err(|_| bad(key, "it is not a number of the kind that is expected"))
    }

    fn list<T: FromStr>(&self, key: &str) -> Result<Vec<T>, ModelError> {
        let text = self.text(key)?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let numbers = text.split(',').take(MAX_LIST + 1).map(T::from_str).collect::<Result<Vec<T>, _>>();
        let numbers = numbers.map_err(|_| bad(key, "it is not a list of numbers"))?;
        if numbers.len() > MAX_LIST {
            return Err(bad(key, "the list is too long"));
        }
        Ok(numbers)
    }

    fn image(&self) -> Result<Option<[u32; 3]>, ModelError> {
        if !self.0.contains_key("image") {
            return Ok(None);
        }
        let image = self.list("image")?.try_into().map_err(|_| bad("image", "it is not three numbers"))?;
        Ok(Some(image))
    }
}

/// The model of a file that PyTorch saved, told by names and shapes.
fn from_tensors(tensors: &Tensors) -> Result<(ModelSpec, DataShape), ModelError> {
    let none = |reason: String| Err(ModelError::Tensors { reason });
    let shape = |name: &str| tensors.get(name).map(|tensor| tensor.shape.as_slice());
    if let (2, Some(&[outputs, inputs]), Some(_)) = (tensors.len(), shape("weight"), shape("bias")) {
        let shape = vec![inputs];
        return match outputs {
            1 => Ok((ModelSpec::Linear, DataShape::Values { shape })),
            2 => none("a logistic regression of two classes has one output".to_owned()),
            classes => Ok((ModelSpec::Logistic, DataShape::Classes { shape, classes })),
        };
    }
    let layers = tensors.len().div_ceil(2);
    if layers == 0 || layers > MAX_LIST {
        return none(format!("there are {} tensors", tensors.len()));
    }
    let mut widths = Vec::with_capacity(layers + 1);
    for layer in 0..layers {
        let name = format!("{}.weight", 2 * layer);
        let Some(&[outputs, inputs]) = shape(&name) else {
            return none(format!("an MLP would have a tensor {name} with two axes"));
        };
        widths.push(inputs);
        if layer + 1 == layers {
            widths.push(outputs);
        }
    }
    let (shape, outputs) = (vec![widths[0]], widths[layers]);
    let hidden = widths[1..layers].iter().map(|&width| u32::try_from(width)).collect::<Result<Vec<u32>, _>>();
    let Ok(hidden) = hidden else { return none("a layer is too wide".to_owned()) };
    let data = match outputs {
        1 => DataShape::Values { shape },
        classes => DataShape::Classes { shape, classes },
    };
    Ok((ModelSpec::Mlp { hidden }, data))
}

//! Models on the tape, with PyTorch's names and layouts.
//!
//! A [`ModelSpec`] and the [`DataShape`] it learns from make a [`Trainable`]; a file says both in its metadata.
//!
//! ```
//! use bitproof_training::models::{build, DataShape, ModelSpec};
//! let data = DataShape::Classes { shape: vec![64], classes: 10 };
//! let model = build(&ModelSpec::Lenet { image: Some([1, 8, 8]) }, &data)?;
//! assert_eq!(model.layout().entries()[1].name, "conv1.weight");
//! let error = build(&ModelSpec::Lenet { image: None }, &data).map(drop).unwrap_err();
//! assert!(error.to_string().contains("image = [channels, height, width]"));
//! # Ok::<(), bitproof_training::models::ModelError>(())
//! ```

mod architecture;
mod evaluate;
mod generate;
mod gpt;
mod lenet;
mod linear;
mod logistic;
mod metadata;
mod mlp;

pub use evaluate::{
    evaluate, evaluate_part, example_batches, text_batches, Measured, Measures, EXAMPLES_A_BATCH,
    WINDOWS_A_BATCH,
};
pub use generate::{GenerateError, Generator, Sampling};
pub use metadata::{encode, from_metadata, load, metadata, Loaded};

use crate::data::{Part, Targets};
use crate::params::{ParamSetError, MAX_PARAMETERS};
use crate::safetensors::SafetensorsError;
use crate::trainable::Trainable;
use architecture::{Architecture, Head, Model};
use gpt::Gpt;
use lenet::Lenet;
use linear::Linear;
use logistic::logistic;
use mlp::Mlp;

/// The most hidden layers of an MLP, and blocks of a GPT.
pub const MAX_LAYERS: u64 = 256;
/// The largest width of a layer, and the longest window of a text.
pub const MAX_WIDTH: u64 = 1 << 16;
/// The most characters of a vocabulary: as many as Unicode has.
const MAX_VOCABULARY: u64 = 0x11_0000;

/// A model, apart from what the data says.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelSpec {
    /// Linear regression: `weight`, `bias`.
    Linear,
    /// Logistic regression: `weight`, `bias`, with one output for two classes and one for each class otherwise.
    Logistic,
    /// Linear layers with ReLU between them: `0.weight`, `0.bias`, `2.weight`, …
    Mlp {
        /// The widths of the hidden layers.
        hidden: Vec<u32>,
    },
    /// Two convolutions and three linear layers: `conv1`, `conv2`, `fc1`, `fc2`, `fc3`.
    Lenet {
        /// What an example is seen as: channels, height and width. Where it is not said, examples have two or three axes.
        image: Option<[u32; 3]>,
    },
    /// A transformer on characters: `wte`, `wpe`, `h.0.ln_1`, `h.0.attn.c_attn`, …, `ln_f`.
    Gpt {
        /// Blocks.
        layers: u32,
        /// Heads of attention; they divide the width.
        heads: u32,
        /// Numbers a token.
        width: u32,
        /// The share that is dropped after the embeddings, the attention and the MLP, from 0 to below 1.
        dropout: f32,
    },
}

/// What a model learns from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataShape {
    /// Examples of this shape, each of one of some classes.
    Classes {
        /// The shape of an example.
        shape: Vec<usize>,
        /// How many classes there are.
        classes: usize,
    },
    /// Examples of this shape, each with a number.
    Values {
        /// The shape of an example.
        shape: Vec<usize>,
    },
    /// Windows of a text.
    Text {
        /// How many characters there are.
        vocabulary: usize,
        /// How many tokens a model sees at once.
        window: usize,
    },
}

impl DataShape {
    /// That of examples of this shape.
    pub fn of_examples(shape: Vec<usize>, targets: &Targets) -> Self {
        match targets {
            Targets::Classes { classes, .. } => Self::Classes { shape, classes: *classes as usize },
            Targets::Values(_) => Self::Values { shape },
        }
    }

    /// That of a part of a dataset.
    pub fn of_part(part: &Part) -> Self {
        match part {
            Part::Examples(examples) => Self::of_examples(examples.shape.clone(), &examples.targets),
            Part::Text(text) => {
                Self::Text { vocabulary: text.vocabulary.len(), window: text.window as usize }
            }
        }
    }
}

/// A model that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The data is not of the kind that it learns from.
    #[error("{model} learns {expected}, but the data has {got}")]
    Data {
        /// The model.
        model: &'static str,
        /// What it learns.
        expected: &'static str,
        /// What there is.
        got: &'static str,
    },
    /// A size lies outside its bounds.
    #[error("{what} must be from {min} to {max}, got {got}")]
    Size {
        /// Of what.
        what: &'static str,
        /// The least.
        min: u64,
        /// The largest.
        max: u64,
        /// What it is, at most `u64::MAX`.
        got: u64,
    },
    /// The heads do not divide the width.
    #[error("the width of {width} cannot be divided among {heads} heads: make it a multiple")]
    Heads {
        /// The width.
        width: u32,
        /// The heads.
        heads: u32,
    },
    /// Dropout is no share.
    #[error("dropout must be from 0 to below 1, got {got}")]
    Dropout {
        /// What it is.
        got: f32,
    },
    /// Examples are no images.
    #[error("lenet takes images, but the examples have the shape {shape:?}: say image = [channels, height, width]")]
    NoImage {
        /// The shape of an example.
        shape: Vec<usize>,
    },
    /// An image has another number of elements than an example.
    #[error("an image of {image:?} does not hold the {elements} elements of an example")]
    Image {
        /// Channels, height, width.
        image: [u32; 3],
        /// What an example has.
        elements: usize,
    },
    /// The tensors are not the model's, or too many.
    #[error(transparent)]
    Params(#[from] ParamSetError),
    /// A file says of no model what it is.
    #[error("the model file's {key}: {reason}")]
    Metadata {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file without metadata holds tensors of a model that cannot be told.
    #[error("the file does not say which model it holds, and its tensors are of none that can be told without: {reason}")]
    Tensors {
        /// Why.
        reason: String,
    },
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] SafetensorsError),
}

impl ModelSpec {
    /// What it is called in a pipeline file and in a model file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Logistic => "logistic",
            Self::Mlp { .. } => "mlp",
            Self::Lenet { .. } => "lenet",
            Self::Gpt { .. } => "gpt",
        }
    }
}

impl DataShape {
    /// `classes`, `values` or `text`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Classes { .. } => "classes",
            Self::Values { .. } => "values",
            Self::Text { .. } => "text",
        }
    }
}

/// The model of a specification for data of this shape.
///
/// # Errors
/// [`ModelError`] when the data is of another kind, a size lies outside its bounds, or there would be more than
/// [`MAX_PARAMETERS`] parameters. Nothing large is allocated before that is known.
pub fn build(spec: &ModelSpec, data: &DataShape) -> Result<Box<dyn Trainable + Send>, ModelError> {
    let refused = |expected| Err(ModelError::Data { model: spec.kind(), expected, got: data.kind() });
    match (spec, data) {
        (ModelSpec::Linear, DataShape::Values { shape }) => {
            check_examples(shape)?;
            boxed(Linear::regression(shape))
        }
        (ModelSpec::Linear, _) => refused("values"),
        (ModelSpec::Logistic, DataShape::Classes { shape, classes }) => {
            check_examples(shape)?;
            check_classes(*classes)?;
            boxed(logistic(shape, *classes))
        }
        (ModelSpec::Logistic, _) => refused("classes"),
        (ModelSpec::Mlp { hidden }, DataShape::Classes { shape, classes }) => {
            check_classes(*classes)?;
            mlp(shape, hidden, *classes, Head::Classes)
        }
        (ModelSpec::Mlp { hidden }, DataShape::Values { shape }) => mlp(shape, hidden, 1, Head::Value),
        (ModelSpec::Mlp { .. }, _) => refused("classes or values"),
        (ModelSpec::Lenet { image }, DataShape::Classes { shape, classes }) => {
            check_examples(shape)?;
            check_classes(*classes)?;
            boxed(Lenet::new(shape, image_of(*image, shape)?, *classes))
        }
        (ModelSpec::Lenet { .. }, _) => refused("classes"),
        (ModelSpec::Gpt { .. }, DataShape::Text { .. }) => Ok(Box::new(gpt(spec, data)?)),
        (ModelSpec::Gpt { .. }, _) => refused("text"),
    }
}

fn boxed(architecture: impl Architecture + 'static) -> Result<Box<dyn Trainable + Send>, ModelError> {
    Ok(Box::new(Model::new(architecture)?))
}

fn mlp(
    shape: &[usize],
    hidden: &[u32],
    classes: usize,
    head: Head,
) -> Result<Box<dyn Trainable + Send>, ModelError> {
    check_examples(shape)?;
    check_size("the number of hidden layers", 0, MAX_LAYERS, hidden.len() as u64)?;
    hidden.iter().try_for_each(|&width| check_size("the width of a layer", 1, MAX_WIDTH, width.into()))?;
    boxed(Mlp::new(shape, hidden, head.outputs(classes), head))
}

/// A GPT with its type, as the generator needs it.
fn gpt(spec: &ModelSpec, data: &DataShape) -> Result<Model<Gpt>, ModelError> {
    let (&ModelSpec::Gpt { layers, heads, width, dropout }, &DataShape::Text { vocabulary, window }) =
        (spec, data)
    else {
        return Err(ModelError::Data { model: spec.kind(), expected: "text", got: data.kind() });
    };
    check_size("the number of layers", 1, MAX_LAYERS, layers.into())?;
    check_size("the width", 1, MAX_WIDTH, width.into())?;
    check_size("the number of heads", 1, width.into(), heads.into())?;
    if width % heads != 0 {
        return Err(ModelError::Heads { width, heads });
    }
    if !(0.0..1.0).contains(&dropout) {
        return Err(ModelError::Dropout { got: dropout });
    }
    check_size("the vocabulary", 2, MAX_VOCABULARY, vocabulary as u64)?;
    check_size("the window", 1, MAX_WIDTH, window as u64)?;
    Ok(Model::new(Gpt::new([layers, heads, width], dropout, vocabulary, window))?)
}

fn check_size(what: &'static str, min: u64, max: u64, got: u64) -> Result<(), ModelError> {
    if (min..=max).contains(&got) {
        return Ok(());
    }
    Err(ModelError::Size { what, min, max, got })
}

fn check_examples(shape: &[usize]) -> Result<(), ModelError> {
    let elements = shape.iter().fold(1u64, |n, &axis| n.saturating_mul(axis as u64));
    check_size("the number of axes of an example", 1, crate::tape::MAX_AXES as u64 - 1, shape.len() as u64)?;
    check_size("the elements of an example", 1, MAX_PARAMETERS, elements)
}

fn check_classes(classes: usize) -> Result<(), ModelError> {
    check_size("the number of classes", 2, MAX_PARAMETERS, classes as u64)
}

fn image_of(image: Option<[u32; 3]>, shape: &[usize]) -> Result<[usize; 3], ModelError> {
    let found = match (image, shape) {
        (Some(image), _) => {
            let elements = image.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis as usize));
            let wanted = shape.iter().product();
            if elements != Some(wanted) {
                return Err(ModelError::Image { image, elements: wanted });
            }
            image.map(|axis| axis as usize)
        }
        (None, &[channels, height, width]) => [channels, height, width],
        (None, &[height, width]) => [1, height, width],
        (None, _) => return Err(ModelError::NoImage { shape: shape.to_vec() }),
    };
    for (what, side) in [("the height of an image", found[1]), ("the width of an image", found[2])] {
        check_size(what, lenet::MIN_SIDE.into(), MAX_WIDTH, side as u64)?;
    }
    Ok(found)
}

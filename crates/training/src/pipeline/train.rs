//! The parameters of a `train` stage.

use std::collections::BTreeMap;

use bitproof_kernels::{AdamW, Sgd};
use bitproof_scheduler::ParamValue;

use super::node::{Keys, Node, Reporter};
use super::params::{int_within, or, FromPlan};
use super::{ParamError, PipelineError};
use crate::models::ModelSpec;
use crate::optimizer::OptimizerKind;
use crate::schedule::{Decay, Schedule};

/// The most epochs.
pub const MAX_EPOCHS: i64 = 100_000;
/// The most steps.
const MAX_TRAIN_STEPS: i64 = 1 << 40;
/// The largest batch.
pub const MAX_BATCH: i64 = 65_536;
/// The most shards.
pub const MAX_SHARDS: i64 = 1024;
/// The most checkpoints that are kept.
const MAX_KEPT: i64 = 1000;
/// The most hidden layers.
pub const MAX_HIDDEN_LAYERS: usize = 8;
/// The widest layer.
const MAX_WIDTH: i64 = 65_536;
/// The most layers and heads of a transformer.
const MAX_LAYERS: i64 = 256;
const MAX_IMAGE_AXIS: i64 = 1 << 16;

/// How long a training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many visits of every row.
    Epochs(u64),
    /// So many steps.
    Steps(u64),
}

/// The optimizer with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerParams {
    /// AdamW with PyTorch's β₁, β₂ and ε.
    AdamW {
        /// Decoupled weight decay.
        weight_decay: f64,
    },
    /// Stochastic gradient descent.
    Sgd {
        /// Momentum.
        momentum: f64,
        /// Weight decay, added to the gradient.
        weight_decay: f64,
    },
}

/// `train`.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainParams {
    /// What is trained.
    pub model: ModelSpec,
    /// How long.
    pub length: Length,
    /// How many rows make a step.
    pub batch: u32,
    /// Into how many shards a batch is cut.
    pub shards: u32,
    /// What updates the weights.
    pub optimizer: OptimizerParams,
    /// The full step size.
    pub learning_rate: f64,
    /// Steps over which the step size rises.
    pub warmup_steps: u64,
    /// Where a cosine brings the step size in the end; it is constant without.
    pub cosine_to: Option<f64>,
    /// The largest norm of a gradient.
    pub clip_norm: Option<f64>,
    /// After how many steps there is a checkpoint; one at the end alone without.
    pub checkpoint_every: Option<u64>,
    /// How many checkpoints the output holds at most, evenly spread.
    pub keep_checkpoints: u32,
    /// After how many steps a segment ends; the rule of [`crate::steps::leaf_interval`] without.
    pub leaf_every: Option<u64>,
    /// After how many steps the losses are recorded; an epoch, or 100 steps, without.
    pub eval_every: Option<u64>,
}

impl TrainParams {
    /// The optimizer as the loop takes it.
    pub fn optimizer_kind(&self) -> OptimizerKind {
        let learning_rate = self.learning_rate as f32;
        match self.optimizer {
            OptimizerParams::AdamW { weight_decay } => {
                let weight_decay = weight_decay as f32;
                OptimizerKind::AdamW(AdamW { learning_rate, weight_decay, ..AdamW::default() })
            }
            OptimizerParams::Sgd { momentum, weight_decay } => {
                let (momentum, weight_decay) = (momentum as f32, weight_decay as f32);
                OptimizerKind::Sgd(Sgd { learning_rate, momentum, weight_decay })
            }
        }
    }

    /// The schedule as the loop takes it.
    pub fn schedule(&self) -> Schedule {
        let decay = match self.cosine_to {
            None => Decay::Constant,
            Some(last) => Decay::Cosine { floor: last / self.learning_rate },
        };
        Schedule { warmup_steps: self.warmup_steps, decay }
    }

    /// Every parameter by name, defaults filled in.
    pub(super) fn canonical(&self) -> Vec<(&'static str, ParamValue)> {
        let text = |s: &str| ParamValue::Text(s.to_owned());
        let int = |n: u64| ParamValue::Int(n as i64);
        let float = ParamValue::float;
        let list = |items: &[u32]| ParamValue::List(items.iter().map(|&n| int(n.into())).collect());
        let mut pairs = vec![
            ("batch", int(self.batch.into())),
            ("shards", int(self.shards.into())),
            ("learning_rate", float(self.learning_rate)),
            ("warmup_steps", int(self.warmup_steps)),
            ("keep_checkpoints", int(self.keep_checkpoints.into())),
        ];
        match &self.model {
            ModelSpec::Linear => pairs.push(("model", text("linear"))),
            ModelSpec::Logistic => pairs.push(("model", text("logistic"))),
            ModelSpec::Mlp { hidden } => pairs.extend([("model", text("mlp")), ("hidden", list(hidden))]),
            ModelSpec::Lenet { image } => {
                pairs.push(("model", text("lenet")));
                pairs.extend(image.as_ref().map(|image| ("image", list(image))));
            }
            ModelSpec::Gpt { layers, heads, width, dropout } => pairs.extend([
                ("model", text("gpt")),
                ("layers", int((*layers).into())),
                ("heads", int((*heads).into())),
                ("width", int((*width).into())),
                ("dropout", float(f64::from(*dropout))),
            ]),
        }
        pairs.push(match self.length {
            Length::Epochs(n) => ("epochs", int(n)),
            Length::Steps(n) => ("steps", int(n)),
        });
        match self.optimizer {
            OptimizerParams::AdamW { weight_decay } => {
                pairs.extend([("optimizer", text("adamw")), ("weight_decay", float(weight_decay))]);
            }
            OptimizerParams::Sgd { momentum, weight_decay } => pairs.extend([
                ("optimizer", text("sgd")),
                ("momentum", float(momentum)),
                ("weight_decay", float(weight_decay)),
            ]),
        }
        pairs.push(("schedule", text(if self.cosine_to.is_some() { "cosine" } else { "constant" })));
        pairs.extend(self.cosine_to.map(|rate| ("final_learning_rate", float(rate))));
        pairs.extend(self.clip_norm.map(|norm| ("clip_norm", float(norm))));
        pairs.extend(self.checkpoint_every.map(|n| ("checkpoint_every", int(n))));
        pairs.extend(self.leaf_every.map(|n| ("leaf_every", int(n))));
        pairs.extend(self.eval_every.map(|n| ("eval_every", int(n))));
        pairs
    }

    /// The parameters that a plan holds.
    ///
    /// # Errors
    /// [`ParamError`].
    pub fn from_canonical(map: &BTreeMap<String, ParamValue>) -> Result<Self, ParamError> {
        let plan = FromPlan { kind: "train", map };
        let bad = |key: &str| ParamError { kind: "train", key: key.to_owned() };
        let within = |key: &str, min: i64, max: i64| {
            plan.int(key, max).and_then(|n| if n < min { Err(bad(key)) } else { Ok(n) })
        };
        let has = |key: &str| map.contains_key(key);
        let steps = |key: &str| {
            if has(key) {
                within(key, 1, MAX_TRAIN_STEPS).map(|n| Some(n as u64))
            } else {
                Ok(None)
            }
        };
        let number = |key: &str| if has(key) { plan.float(key).map(Some) } else { Ok(None) };
        let list = |key: &str, most: usize, max: i64| {
            plan.get(key, |v| match v {
                ParamValue::List(items) if items.len() <= most => {
                    items.iter().map(|v| int_within(v, max).map(|h| h as u32)).collect::<Option<Vec<_>>>()
                }
                _ => None,
            })
        };
        let model = match plan.text("model")? {
            "linear" => ModelSpec::Linear,
            "logistic" => ModelSpec::Logistic,
            "mlp" => ModelSpec::Mlp { hidden: list("hidden", MAX_HIDDEN_LAYERS, MAX_WIDTH)? },
            "lenet" if has("image") => {
                let image = list("image", 3, MAX_IMAGE_AXIS)?;
                ModelSpec::Lenet { image: Some(image.try_into().map_err(|_| bad("image"))?) }
            }
            "lenet" => ModelSpec::Lenet { image: None },
            "gpt" => ModelSpec::Gpt {
                layers: within("layers", 1, MAX_LAYERS)? as u32,
                heads: within("heads", 1, MAX_LAYERS)? as u32,
                width: within("width", 1, MAX_WIDTH)? as u32,
                dropout: Some(plan.float("dropout")? as f32)
                    .filter(|p| (0.0..1.0).contains(p))
                    .ok_or_else(|| bad("dropout"))?,
            },
            _ => return Err(bad("model")),
        };
        let length = match steps("steps")? {
            Some(n) => Length::Steps(n),
            None => Length::Epochs(within("epochs", 1, MAX_EPOCHS)? as u64),
        };
        let weight_decay = plan.float("weight_decay")?;
        let optimizer = match plan.text("optimizer")? {
            "adamw" => OptimizerParams::AdamW { weight_decay },
            "sgd" => OptimizerParams::Sgd { momentum: plan.float("momentum")?, weight_decay },
            _ => return Err(bad("optimizer")),
        };
        Ok(Self {
            model,
            length,
            batch: within("batch", 1, MAX_BATCH)? as u32,
            shards: within("shards", 1, MAX_SHARDS)? as u32,
            optimizer,
            learning_rate: plan.float("learning_rate")?,
            warmup_steps: plan.int("warmup_steps", MAX_TRAIN_STEPS)? as u64,
            cosine_to: number("final_learning_rate")?,
            clip_norm: number("clip_norm")?,
            checkpoint_every: steps("checkpoint_every")?,
            keep_checkpoints: within("keep_checkpoints", 1, MAX_KEPT)? as u32,
            leaf_every: steps("leaf_every")?,
            eval_every: steps("eval_every")?,
        })
    }
}

/// Reads the `with` of a `train` stage.
pub(super) fn read(keys: &Keys<'_>) -> Result<TrainParams, PipelineError> {
    let r = keys.reporter;
    let steps = |key: &'static str| {
        keys.optional(key).map(|n| Ok(r.int(n, key, 1, MAX_TRAIN_STEPS)? as u64)).transpose()
    };
    let rate = keys.required("learning_rate")?;
    let learning_rate =
        r.number(rate, "learning_rate", "above 0 and at most 10", |v| v > 0.0 && v <= 10.0)?;
    let clip = |n: &Node| r.number(n, "clip_norm", "above 0", |v| v > 0.0 && (v as f32).is_finite());
    Ok(TrainParams {
        model: model(keys)?,
        length: length(keys)?,
        batch: or(keys.optional("batch"), 32, |n| r.int(n, "batch", 1, MAX_BATCH))? as u32,
        shards: or(keys.optional("shards"), 1, |n| r.int(n, "shards", 1, MAX_SHARDS))? as u32,
        optimizer: optimizer(keys)?,
        learning_rate,
        warmup_steps: or(keys.optional("warmup_steps"), 0, |n| r.int(n, "warmup_steps", 0, MAX_TRAIN_STEPS))?
            as u64,
        cosine_to: cosine_to(keys, learning_rate)?,
        clip_norm: keys.optional("clip_norm").map(clip).transpose()?,
        checkpoint_every: steps("checkpoint_every")?,
        keep_checkpoints: or(keys.optional("keep_checkpoints"), 4, |n| {
            r.int(n, "keep_checkpoints", 1, MAX_KEPT)
        })? as u32,
        leaf_every: steps("leaf_every")?,
        eval_every: steps("eval_every")?,
    })
}

fn model(keys: &Keys<'_>) -> Result<ModelSpec, PipelineError> {
    let r = keys.reporter;
    let count = |key: &'static str, default: i64, max: i64| {
        or(keys.optional(key), default, |n| r.int(n, key, 1, max)).map(|n| n as u32)
    };
    let words = [("linear", 0), ("logistic", 1), ("mlp", 2), ("lenet", 3), ("gpt", 4)];
    Ok(match r.word(keys.required("model")?, "model", &words)? {
        0 => ModelSpec::Linear,
        1 => ModelSpec::Logistic,
        2 => {
            let hidden = or(keys.optional("hidden"), vec![128, 64], |n| widths(r, n))?;
            ModelSpec::Mlp { hidden }
        }
        3 => ModelSpec::Lenet { image: keys.optional("image").map(|n| image(r, n)).transpose()? },
        _ => {
            let fits = |p: f64| (0.0..1.0).contains(&(p as f32));
            let dropout =
                or(keys.optional("dropout"), 0.0, |n| r.number(n, "dropout", "from 0 to below 1", fits))?;
            ModelSpec::Gpt {
                layers: count("layers", 4, MAX_LAYERS)?,
                heads: count("heads", 4, MAX_LAYERS)?,
                width: count("width", 128, MAX_WIDTH)?,
                dropout: dropout as f32,
            }
        }
    })
}

fn widths(r: Reporter<'_>, node: &Node) -> Result<Vec<u32>, PipelineError> {
    let items = r.list(node, "hidden")?;
    if items.len() > MAX_HIDDEN_LAYERS {
        let message = format!("hidden has {} layers; the limit is {MAX_HIDDEN_LAYERS}", items.len());
        return Err(r.error(&node.place, message, "use fewer layers"));
    }
    items.iter().map(|i| Ok(r.int(i, "each of hidden", 1, MAX_WIDTH)? as u32)).collect()
}

fn image(r: Reporter<'_>, node: &Node) -> Result<[u32; 3], PipelineError> {
    let axis = |i: &Node| Ok(r.int(i, "each of image", 1, MAX_IMAGE_AXIS)? as u32);
    let axes = r.list(node, "image")?.iter().map(axis).collect::<Result<Vec<_>, PipelineError>>()?;
    axes.try_into().map_err(|axes: Vec<u32>| {
        let message = format!("image has {} numbers", axes.len());
        r.error(&node.place, message, "write image = [channels, height, width]")
    })
}

fn length(keys: &Keys<'_>) -> Result<Length, PipelineError> {
    let r = keys.reporter;
    match (keys.optional("epochs"), keys.optional("steps")) {
        (Some(_), Some(n)) => {
            let message = "a training has epochs or steps, not both";
            Err(r.error(&n.place, message, "keep one of them"))
        }
        (None, Some(n)) => Ok(Length::Steps(r.int(n, "steps", 1, MAX_TRAIN_STEPS)? as u64)),
        _ => Ok(Length::Epochs(r.int(keys.required("epochs")?, "epochs", 1, MAX_EPOCHS)? as u64)),
    }
}

fn optimizer(keys: &Keys<'_>) -> Result<OptimizerParams, PipelineError> {
    let r = keys.reporter;
    let adamw =
        or(keys.optional("optimizer"), true, |n| r.word(n, "optimizer", &[("adamw", true), ("sgd", false)]))?;
    let decay = |n: &Node| r.number(n, "weight_decay", "from 0 to 1", |v| (0.0..=1.0).contains(&v));
    let weight_decay = or(keys.optional("weight_decay"), if adamw { 0.01 } else { 0.0 }, decay)?;
    match (adamw, keys.optional("momentum")) {
        (true, Some(n)) => {
            let hint = "remove momentum, or set optimizer = \"sgd\"";
            Err(r.error(&n.place, "adamw has no momentum of this kind", hint))
        }
        (true, None) => Ok(OptimizerParams::AdamW { weight_decay }),
        (false, node) => {
            let fits = |v: f64| (0.0..1.0).contains(&v);
            let momentum = or(node, 0.0, |n| r.number(n, "momentum", "from 0 to below 1", fits))?;
            Ok(OptimizerParams::Sgd { momentum, weight_decay })
        }
    }
}

fn cosine_to(keys: &Keys<'_>, learning_rate: f64) -> Result<Option<f64>, PipelineError> {
    let r = keys.reporter;
    let words = [("constant", false), ("cosine", true)];
    let cosine = or(keys.optional("schedule"), false, |n| r.word(n, "schedule", &words))?;
    match (cosine, keys.optional("final_learning_rate")) {
        (true, node) => {
            let fits = |v: f64| (0.0..=learning_rate).contains(&v);
            let bounds = "from 0 to learning_rate";
            Ok(Some(or(node, 0.0, |n| r.number(n, "final_learning_rate", bounds, fits))?))
        }
        (false, Some(n)) => {
            let hint = "remove final_learning_rate, or set schedule = \"cosine\"";
            Err(r.error(&n.place, "a constant schedule has no final_learning_rate", hint))
        }
        (false, None) => Ok(None),
    }
}

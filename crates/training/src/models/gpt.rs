//! A language model as GPT-2 (Radford, Wu, Child, Luan, Amodei, Sutskever, "Language models are unsupervised multitask learners", 2019), on
//! characters.

use bitproof_kernels::{normal, Stream, StreamKey};

use super::architecture::{Architecture, Head, Seen, Takes, Weights};
use crate::params::ParamSet;
use crate::streams::site_key;
use crate::tape::{Tape, TapeError, Var};

/// What is added to a variance in layer normalisation.
const EPS: f32 = 1e-5;
/// The standard deviation of initial weights.
const DEVIATION: f64 = 0.02;
const NORMS: [&str; 2] = ["ln_1", "ln_2"];

/// Embeddings of tokens (`wte`) and positions (`wpe`); then for each block `h.N` `x + c_proj(attention(c_attn(ln_1(x))))` and
/// `x + c_proj(gelu(c_fc(ln_2(x))))`; `ln_f`; and scores by the rows of `wte`, without a bias. Linear layers are (outputs, inputs).
///
/// Initial weights are normal with deviation 0.02, those that lead back to the residual `0.02 / √(2·layers)` (an f64 square root and
/// quotient, rounded to f32); biases are 0, norms 1 and 0. They are drawn from one stream in the order `wte`, `wpe`, then block by block
/// `attn.c_attn`, `attn.c_proj`, `mlp.c_fc`, `mlp.c_proj`.
///
/// Dropout stands after the embeddings (site 0) and after `attn.c_proj` and `mlp.c_proj` of block `n` (sites `2n + 1` and `2n + 2`), each
/// site with the stream of [`site_key`].
pub(crate) struct Gpt {
    layers: usize,
    heads: usize,
    width: usize,
    dropout: f32,
    vocabulary: usize,
    positions: Vec<u32>,
}

impl Gpt {
    /// `width` is a multiple of `heads`, and `dropout` lies in [0, 1).
    pub(crate) fn new(
        [layers, heads, width]: [u32; 3],
        dropout: f32,
        vocabulary: usize,
        window: usize,
    ) -> Self {
        let [layers, heads, width] = [layers, heads, width].map(|n| n as usize);
        Self { layers, heads, width, dropout, vocabulary, positions: (0..window as u32).collect() }
    }

    pub(crate) fn window(&self) -> usize {
        self.positions.len()
    }

    pub(crate) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The linear layers of a block, with inputs and outputs.
    fn linears(&self) -> [(&'static str, usize, usize); 4] {
        let width = self.width;
        [
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ]
    }

    fn dropped(
        &self,
        tape: &mut Tape<'_>,
        x: Var,
        random: Option<StreamKey>,
        site: usize,
    ) -> Result<Var, TapeError> {
        match random {
            Some(key) if self.dropout > 0.0 => tape.dropout(x, self.dropout, site_key(key, site as u32)),
            _ => Ok(x),
        }
    }
}

fn layer_norm(tape: &mut Tape<'_>, weights: &Weights<'_>, name: &str, x: Var) -> Result<Var, TapeError> {
    let beta = weights.get(&format!("{name}.bias"));
    tape.layer_norm(x, weights.get(&format!("{name}.weight")), beta, EPS)
}

impl Architecture for Gpt {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let width = self.width;
        let mut tensors = vec![
            ("wte.weight".to_owned(), vec![self.vocabulary, width]),
            ("wpe.weight".to_owned(), vec![self.window(), width]),
        ];
        let norms = (0..self.layers).flat_map(|n| NORMS.map(|norm| format!("h.{n}.{norm}")));
        for norm in norms.chain(["ln_f".to_owned()]) {
            tensors.push((format!("{norm}.weight"), vec![width]));
            tensors.push((format!("{norm}.bias"), vec![width]));
        }
        for n in 0..self.layers {
            for (name, inputs, outputs) in self.linears() {
                tensors.push((format!("h.{n}.{name}.weight"), vec![outputs, inputs]));
                tensors.push((format!("h.{n}.{name}.bias"), vec![outputs]));
            }
        }
        tensors
    }

    fn init(&self, params: &mut ParamSet, key: StreamKey) {
        let mut stream = Stream::new(key);
        let residual = (DEVIATION / (2.0 * self.layers as f64).sqrt()) as f32;
        for name in ["wte.weight", "wpe.weight"] {
            normal(0.0, DEVIATION as f32, params.get_mut(name), &mut stream);
        }
        for n in 0..self.layers {
            for (name, ..) in self.linears() {
                let deviation = if name.ends_with("c_proj") { residual } else { DEVIATION as f32 };
                normal(0.0, deviation, params.get_mut(&format!("h.{n}.{name}.weight")), &mut stream);
            }
            for norm in NORMS {
                params.get_mut(&format!("h.{n}.{norm}.weight")).fill(1.0);
            }
        }
        params.get_mut("ln_f.weight").fill(1.0);
    }

    fn takes(&self) -> Takes<'_> {
        Takes::Tokens { window: self.window() }
    }

    fn head(&self) -> Head {
        Head::Classes
    }

    fn scores<'p>(
        &'p self,
        tape: &mut Tape<'p>,
        weights: &Weights<'_>,
        seen: Seen<'p>,
        random: Option<StreamKey>,
    ) -> Result<Var, TapeError> {
        let Seen::Tokens { ids, rows, columns } = seen else { unreachable!("the batch was checked") };
        let wte = weights.get("wte.weight");
        let tokens = tape.embedding(wte, ids, &[rows, columns])?;
        let positions = tape.embedding(weights.get("wpe.weight"), &self.positions[..columns], &[columns])?;
        let x = tape.add(tokens, positions)?;
        let mut x = self.dropped(tape, x, random, 0)?;
        for n in 0..self.layers {
            let name = |part: &str| format!("h.{n}.{part}");
            let mut y = layer_norm(tape, weights, &name("ln_1"), x)?;
            y = weights.linear(tape, &name("attn.c_attn"), y)?;
            y = tape.causal_attention(y, self.heads)?;
            y = weights.linear(tape, &name("attn.c_proj"), y)?;
            y = self.dropped(tape, y, random, 2 * n + 1)?;
            x = tape.add(x, y)?;
            y = layer_norm(tape, weights, &name("ln_2"), x)?;
            y = weights.linear(tape, &name("mlp.c_fc"), y)?;
            y = tape.gelu(y)?;
            y = weights.linear(tape, &name("mlp.c_proj"), y)?;
            y = self.dropped(tape, y, random, 2 * n + 2)?;
            x = tape.add(x, y)?;
        }
        let x = layer_norm(tape, weights, "ln_f", x)?;
        tape.linear(x, wte, None)
    }

    /// Of a whole window. A query meets the keys up to its own: `T(T + 1)/2` pairs, each with two products over the width.
    fn multiply_adds(&self) -> u64 {
        let [window, width, layers] = [self.window(), self.width, self.layers].map(|n| n as u64);
        let linears: u64 = self.linears().iter().map(|&(_, inputs, outputs)| (inputs * outputs) as u64).sum();
        let attention = window * (window + 1) * width;
        layers * (window * linears + attention) + window * width * self.vocabulary as u64
    }
}

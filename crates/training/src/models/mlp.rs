//! The multi-layer perceptron: linear layers with ReLU between them, named as `torch.nn.Sequential(Linear, ReLU, Linear, …)`.

use bitproof_kernels::{Stream, StreamKey};

use super::architecture::{init_layer, Architecture, Head, Seen, Takes, Weights};
use crate::params::ParamSet;
use crate::tape::{Tape, TapeError, Var};

/// `0.weight`, `0.bias`, `2.weight`, … for layers of `widths[i]` inputs and `widths[i + 1]` outputs; drawn layer by layer, the weight
/// before the bias, from one stream.
pub(crate) struct Mlp {
    widths: Vec<usize>,
    head: Head,
}

impl Mlp {
    /// Layers of these widths between examples of this shape and `outputs` scores.
    pub(crate) fn new(shape: &[usize], hidden: &[u32], outputs: usize, head: Head) -> Self {
        let hidden = hidden.iter().map(|&width| width as usize);
        let widths = [shape.iter().product()].into_iter().chain(hidden).chain([outputs]).collect();
        Self { widths, head }
    }

    /// The name of each layer, with its inputs and outputs.
    fn layers(&self) -> impl Iterator<Item = (String, usize, usize)> + '_ {
        self.widths.windows(2).enumerate().map(|(i, w)| ((2 * i).to_string(), w[0], w[1]))
    }
}

impl Architecture for Mlp {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let pair = |(name, inputs, outputs): (String, usize, usize)| {
            [(format!("{name}.weight"), vec![outputs, inputs]), (format!("{name}.bias"), vec![outputs])]
        };
        self.layers().flat_map(pair).collect()
    }

    fn init(&self, params: &mut ParamSet, key: StreamKey) {
        let mut stream = Stream::new(key);
        for (name, inputs, _) in self.layers() {
            init_layer(params, &name, inputs, &mut stream);
        }
    }

    fn takes(&self) -> Takes<'_> {
        Takes::Examples(&self.widths[..1])
    }

    fn head(&self) -> Head {
        self.head
    }

    fn scores<'p>(
        &'p self,
        tape: &mut Tape<'p>,
        weights: &Weights<'_>,
        seen: Seen<'p>,
        _: Option<StreamKey>,
    ) -> Result<Var, TapeError> {
        let mut x = seen.examples(tape, &self.widths[..1])?;
        for (i, (name, ..)) in self.layers().enumerate() {
            if i > 0 {
                x = tape.relu(x)?;
            }
            x = weights.linear(tape, &name, x)?;
        }
        Ok(x)
    }

    fn multiply_adds(&self) -> u64 {
        self.widths.windows(2).map(|w| w[0] as u64 * w[1] as u64).sum()
    }
}

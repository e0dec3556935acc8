//! LeNet-5 for images of any size (LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998), with
//! ReLU, maximum pooling and padding, as it is usually written today.

use bitproof_kernels::{Conv2d, Pool2d, Stream, StreamKey};

use super::architecture::{init_layer, Architecture, Head, Seen, Takes, Weights};
use crate::params::ParamSet;
use crate::tape::{Shape, Tape, TapeError, Var};

const CHANNELS: [usize; 2] = [6, 16];
const KERNEL: usize = 5;
const WIDTHS: [usize; 2] = [120, 84];
const CONV: Conv2d = Conv2d { stride: [1, 1], padding: [2, 2] };
const POOL: Pool2d = Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 0] };
/// The least height and width: below, pooling twice leaves nothing.
pub(super) const MIN_SIDE: u32 = 4;

/// `conv1` and `conv2`, each of 5×5 with padding 2 and followed by ReLU and pooling of 2×2; then `fc1`, `fc2` and `fc3` with ReLU between
/// them. Drawn in this order, each weight before its bias, from one stream.
pub(crate) struct Lenet {
    shape: Vec<usize>,
    /// Channels, height, width.
    image: [usize; 3],
    classes: usize,
}

impl Lenet {
    /// For examples of this shape, which are seen as images of (channels, height, width).
    pub(crate) fn new(shape: &[usize], image: [usize; 3], classes: usize) -> Self {
        Self { shape: shape.to_vec(), image, classes }
    }

    /// Input and output channels of each convolution.
    fn convolutions(&self) -> [(&'static str, usize, usize); 2] {
        [("conv1", self.image[0], CHANNELS[0]), ("conv2", CHANNELS[0], CHANNELS[1])]
    }

    /// Inputs and outputs of each linear layer.
    fn layers(&self) -> [(&'static str, usize, usize); 3] {
        let [_, height, width] = self.image;
        let flat = CHANNELS[1] * (height / 4) * (width / 4);
        [("fc1", flat, WIDTHS[0]), ("fc2", WIDTHS[0], WIDTHS[1]), ("fc3", WIDTHS[1], self.classes)]
    }
}

impl Architecture for Lenet {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let convolutions =
            self.convolutions().map(|(name, from, to)| (name, vec![to, from, KERNEL, KERNEL], to));
        let layers = self.layers().map(|(name, inputs, outputs)| (name, vec![outputs, inputs], outputs));
        let pair = |(name, weight, outputs): (&str, Vec<usize>, usize)| {
            [(format!("{name}.weight"), weight), (format!("{name}.bias"), vec![outputs])]
        };
        convolutions.into_iter().chain(layers).flat_map(pair).collect()
    }

    fn init(&self, params: &mut ParamSet, key: StreamKey) {
        let mut stream = Stream::new(key);
        for (name, from, _) in self.convolutions() {
            init_layer(params, name, from * KERNEL * KERNEL, &mut stream);
        }
        for (name, inputs, _) in self.layers() {
            init_layer(params, name, inputs, &mut stream);
        }
    }

    fn takes(&self) -> Takes<'_> {
        Takes::Examples(&self.shape)
    }

    fn head(&self) -> Head {
        Head::Classes
    }

    fn scores<'p>(
        &'p self,
        tape: &mut Tape<'p>,
        weights: &Weights<'_>,
        seen: Seen<'p>,
        _: Option<StreamKey>,
    ) -> Result<Var, TapeError> {
        let mut x = seen.examples(tape, &self.image)?;
        for name in ["conv1", "conv2"] {
            let bias = weights.get(&format!("{name}.bias"));
            x = tape.conv2d(x, weights.get(&format!("{name}.weight")), bias, CONV)?;
            x = tape.relu(x)?;
            x = tape.max_pool2d(x, POOL)?;
        }
        let images = tape.shape(x)[0];
        x = tape.reshape(x, Shape::new(&[images, self.layers()[0].1])?)?;
        for name in ["fc1", "fc2"] {
            x = weights.linear(tape, name, x)?;
            x = tape.relu(x)?;
        }
        weights.linear(tape, "fc3", x)
    }

    fn multiply_adds(&self) -> u64 {
        let [_, height, width] = self.image;
        let places = [height * width, (height / 2) * (width / 2)];
        let window = KERNEL * KERNEL;
        let convolutions = self.convolutions().into_iter().zip(places);
        let convolutions =
            convolutions.map(|((_, from, to), places)| (from * to * window) as u64 * places as u64);
        let layers = self.layers().map(|(_, inputs, outputs)| inputs as u64 * outputs as u64);
        convolutions.chain(layers).sum()
    }
}

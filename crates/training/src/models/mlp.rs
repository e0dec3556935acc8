//! The multi-layer perceptron: linear layers with ReLU between them, softmax cross-entropy at the end.

use bitproof_kernels::{self as kernels, KernelError, Start, Stream, StreamKey};
use ndarray::{Array1, Array2, ArrayView2};

use crate::safetensors::{Tensor, Tensors};

/// The most parameters a model may have.
pub const MAX_PARAMETERS: u64 = 1 << 28;

/// Tensors that are not an MLP, or a batch that does not fit it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The tensors are not those of an MLP.
    #[error("the model's tensors are not those of an MLP: {reason}")]
    Tensors {
        /// Why.
        reason: String,
    },
    /// The model would be too large.
    #[error("the model would have {parameters} parameters; the limit is {MAX_PARAMETERS}")]
    TooLarge {
        /// How many it would have.
        parameters: u64,
    },
    /// The batch has another number of features.
    #[error("the model takes {expected} features, the data has {got}")]
    Features {
        /// What the model takes.
        expected: usize,
        /// What the batch has.
        got: usize,
    },
    /// A kernel refused its operands.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A linear layer: `y = x Wᵀ + b`, with W of shape (outputs, inputs) as PyTorch keeps it.
#[derive(Debug, Clone, PartialEq)]
struct Linear {
    weight: Array2<f32>,
    bias: Array1<f32>,
}

/// An MLP. Its tensors are named as those of `torch.nn.Sequential(Linear, ReLU, Linear, …)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    /// A new model with layer widths `inputs`, `hidden…`, `outputs`.
    ///
    /// Weights and biases of a layer with `n` inputs are uniform on [−1/√n, 1/√n) (He et al. 2015 with a = √5, as in
    /// `torch.nn.Linear`), drawn in the order weight, bias, layer by layer from one stream.
    ///
    /// # Errors
    /// [`ModelError::TooLarge`].
    pub fn new(inputs: usize, hidden: &[usize], outputs: usize, key: StreamKey) -> Result<Self, ModelError> {
        let widths: Vec<usize> = [&[inputs], hidden, &[outputs]].concat();
        let parameters = Self::count_parameters(inputs, hidden, outputs);
        if parameters > MAX_PARAMETERS {
            return Err(ModelError::TooLarge { parameters });
        }
        let mut stream = Stream::new(key);
        let layers = widths.windows(2).map(|w| {
            let mut weight = vec![0.0; w[0] * w[1]];
            let mut bias = vec![0.0; w[1]];
            kernels::kaiming_uniform(w[0], &mut weight, &mut stream);
            kernels::kaiming_uniform(w[0], &mut bias, &mut stream);
            let weight = Array2::from_shape_vec((w[1], w[0]), weight).expect("the shape holds the weights");
            Linear { weight, bias: Array1::from_vec(bias) }
        });
        Ok(Self { layers: layers.collect() })
    }

    /// How many parameters a model of these widths has, at most `u64::MAX`.
    pub fn count_parameters(inputs: usize, hidden: &[usize], outputs: usize) -> u64 {
        let widths: Vec<u64> = [&[inputs], hidden, &[outputs]].concat().iter().map(|&w| w as u64).collect();
        let layers = widths.windows(2).map(|w| (w[0] + 1).saturating_mul(w[1]));
        layers.fold(0, u64::saturating_add)
    }

    /// The number of parameters.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|l| l.weight.len() + l.bias.len()).sum()
    }

    /// The logits of a batch: (rows, features) to (rows, classes).
    ///
    /// # Errors
    /// [`ModelError::Features`].
    pub fn forward(&self, x: ArrayView2<'_, f32>) -> Result<Array2<f32>, ModelError> {
        Ok(self.activations(x)?.pop().expect("a model has a layer"))
    }

    /// The output of every layer, ReLU applied to all but the last.
    fn activations(&self, x: ArrayView2<'_, f32>) -> Result<Vec<Array2<f32>>, ModelError> {
        let expected = self.layers[0].weight.ncols();
        if x.ncols() != expected {
            return Err(ModelError::Features { expected, got: x.ncols() });
        }
        let mut outputs: Vec<Array2<f32>> = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            let input = outputs.last().map_or(x.view(), |y| y.view());
            let mut y = Array2::zeros((x.nrows(), layer.bias.len()));
            kernels::matmul_into(input, layer.weight.t(), Start::Bias(layer.bias.view()), y.view_mut())?;
            if i + 1 < self.layers.len() {
                let before = y;
                y = Array2::zeros(before.raw_dim());
                kernels::relu_into(flat(&before), y.as_slice_mut().expect("a new array is row-major"))?;
            }
            outputs.push(y);
        }
        Ok(outputs)
    }

    /// The loss of each row and the gradient of their mean, in the order of [`Mlp::parameter_slices`].
    ///
    /// With g = (softmax(logits) − onehot) · (1/rows) at the last layer, each layer gives dW = gᵀ·input,
    /// db = Σ rows of g, and passes on g·W where its input was positive.
    ///
    /// # Errors
    /// [`ModelError`] when the batch does not fit.
    pub fn loss_and_gradient(
        &self,
        x: ArrayView2<'_, f32>,
        labels: &[u32],
    ) -> Result<(Vec<f32>, Vec<Vec<f32>>), ModelError> {
        let outputs = self.activations(x)?;
        let logits = outputs.last().expect("a model has a layer");
        let (losses, mut g) = kernels::softmax_cross_entropy(logits.view(), labels)?;
        let scale = 1.0 / labels.len() as f32;
        g.mapv_inplace(|v| v * scale);
        let mut gradients = Vec::with_capacity(2 * self.layers.len());
        for (i, layer) in self.layers.iter().enumerate().rev() {
            let input = if i == 0 { x.view() } else { outputs[i - 1].view() };
            gradients.push(kernels::sum_axis0(g.view())?.to_vec());
            gradients.push(row_major(kernels::matmul(g.t(), input)?));
            if i > 0 {
                let passed = kernels::matmul(g.view(), layer.weight.view())?;
                g = Array2::zeros(passed.raw_dim());
                let into = g.as_slice_mut().expect("a new array is row-major");
                kernels::relu_grad_into(flat(&outputs[i - 1]), flat(&passed), into)?;
            }
        }
        gradients.reverse();
        Ok((losses, gradients))
    }

    /// The parameters: weight and bias of each layer in turn, row-major.
    pub fn parameter_slices(&mut self) -> Vec<&mut [f32]> {
        self.layers
            .iter_mut()
            .flat_map(|l| [l.weight.as_slice_mut(), l.bias.as_slice_mut()])
            .map(|slice| slice.expect("parameters are row-major"))
            .collect()
    }

    /// The parameters as tensors: `0.weight`, `0.bias`, `2.weight`, …
    pub fn to_tensors(&self) -> Tensors {
        let tensor = |shape: &[usize], data: Vec<f32>| Tensor { shape: shape.to_vec(), data };
        let layers = self.layers.iter().enumerate();
        let pair = |(i, l): (usize, &Linear)| {
            let (weight, bias) = (l.weight.iter().copied().collect(), l.bias.to_vec());
            [
                (format!("{}.weight", 2 * i), tensor(l.weight.shape(), weight)),
                (format!("{}.bias", 2 * i), tensor(l.bias.shape(), bias)),
            ]
        };
        layers.flat_map(pair).collect()
    }

    /// The model that [`Mlp::to_tensors`] gave.
    ///
    /// # Errors
    /// [`ModelError::Tensors`] when a tensor is missing, superfluous or of a shape that does not follow the one before.
    pub fn from_tensors(mut tensors: Tensors) -> Result<Self, ModelError> {
        let bad = |reason: String| ModelError::Tensors { reason };
        let mut layers: Vec<Linear> = Vec::new();
        while !tensors.is_empty() {
            let i = 2 * layers.len();
            let mut take =
                |name: String| tensors.remove(&name).ok_or_else(|| bad(format!("{name} is missing")));
            let (weight, bias) = (take(format!("{i}.weight"))?, take(format!("{i}.bias"))?);
            let [rows, columns] = weight.shape[..] else {
                return Err(bad(format!("{i}.weight does not have two axes")));
            };
            let follows = layers.last().is_none_or(|l| l.bias.len() == columns);
            if bias.shape != [rows] || !follows || rows == 0 || columns == 0 {
                return Err(bad(format!("the shapes of {i}.weight and {i}.bias do not fit")));
            }
            let weight = Array2::from_shape_vec((rows, columns), weight.data)
                .map_err(|e| bad(format!("{i}.weight: {e}")))?;
            layers.push(Linear { weight, bias: Array1::from_vec(bias.data) });
        }
        if layers.is_empty() {
            Err(bad("there are none".to_owned()))
        } else {
            Ok(Self { layers })
        }
    }
}

fn flat(array: &Array2<f32>) -> &[f32] {
    array.as_slice().expect("kernels return row-major arrays")
}

fn row_major(array: Array2<f32>) -> Vec<f32> {
    array.as_standard_layout().into_owned().into_raw_vec_and_offset().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn small() -> Mlp {
        Mlp::new(3, &[5, 4], 2, StreamKey::from_bytes([1; 8])).unwrap()
    }

    /// The mean loss in f64, computed without the kernels.
    fn mean_loss_f64(model: &mut Mlp, x: &Array2<f32>, labels: &[u32]) -> f64 {
        let widths = [3, 5, 4, 2];
        let parameters: Vec<Vec<f64>> =
            model.parameter_slices().iter().map(|s| s.iter().map(|&v| f64::from(v)).collect()).collect();
        let mut total = 0.0;
        for (row, &label) in x.rows().into_iter().zip(labels) {
            let mut h: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
            for layer in 0..3 {
                let (w, b) = (&parameters[2 * layer], &parameters[2 * layer + 1]);
                h = (0..widths[layer + 1])
                    .map(|o| {
                        let z = b[o] + h.iter().enumerate().map(|(i, v)| v * w[o * h.len() + i]).sum::<f64>();
                        if layer < 2 {
                            z.max(0.0)
                        } else {
                            z
                        }
                    })
                    .collect();
            }
            total += log_sum_exp(&h) - h[label as usize];
        }
        total / labels.len() as f64
    }

    /// ln Σ eᵛ by series, so that the oracle shares nothing with the kernels: eᵛ = (Σ (v/256)ⁿ/n!)^256 by squaring, and ln y
    /// by Newton's iteration on eˣ = y.
    fn log_sum_exp(values: &[f64]) -> f64 {
        fn exp(v: f64) -> f64 {
            let (x, mut term, mut sum) = (v / 256.0, 1.0, 1.0);
            for n in 1..20 {
                term *= x / f64::from(n);
                sum += term;
            }
            (0..8).fold(sum, |y, _| y * y)
        }
        let sum: f64 = values.iter().map(|&v| exp(v)).sum();
        (0..60).fold(0.0, |x, _| x + (sum - exp(x)) / (sum + exp(x)) * 2.0)
    }

    #[test]
    fn gradients_agree_with_finite_differences_in_f64() {
        let mut model = small();
        let x = array![[0.5, -1.0, 2.0], [1.5, 0.25, -0.75], [-0.3, 0.9, 0.1]];
        let labels = [0, 1, 1];
        let (losses, gradients) = model.loss_and_gradient(x.view(), &labels).unwrap();
        let mean: f64 = losses.iter().map(|&l| f64::from(l)).sum::<f64>() / 3.0;
        assert!((mean - mean_loss_f64(&mut model, &x, &labels)).abs() < 1e-6);
        let step = 1.0 / 1024.0;
        for (p, gradient) in gradients.iter().enumerate() {
            for (i, &analytic) in gradient.iter().enumerate() {
                let original = model.parameter_slices()[p][i];
                let mut loss_at = |v: f32| {
                    model.parameter_slices()[p][i] = v;
                    (mean_loss_f64(&mut model, &x, &labels), f64::from(v))
                };
                let ((up, high), (down, low)) = (loss_at(original + step), loss_at(original - step));
                model.parameter_slices()[p][i] = original;
                let numeric = (up - down) / (high - low);
                assert!(
                    (numeric - f64::from(analytic)).abs() < 1e-4,
                    "parameter {p}[{i}]: {numeric} {analytic}"
                );
            }
        }
    }

    #[test]
    fn tensors_round_trip_and_others_are_refused() {
        let model = small();
        assert_eq!(Mlp::from_tensors(model.to_tensors()).unwrap(), model);
        for name in model.to_tensors().keys() {
            let mut missing = model.to_tensors();
            missing.remove(name);
            assert!(Mlp::from_tensors(missing).is_err(), "{name} missing");
        }
        let wrong = model.forward(Array2::zeros((1, 4)).view());
        assert_eq!(wrong, Err(ModelError::Features { expected: 3, got: 4 }));
        assert!(Mlp::new(1 << 20, &[1 << 16], 2, StreamKey::from_bytes([0; 8])).is_err());
    }
}

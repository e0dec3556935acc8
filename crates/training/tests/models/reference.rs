//! The models in f64, as loops.

use std::cell::Cell;
use std::collections::BTreeMap;

use bitproof_kernels::{Stream, StreamKey};
use bitproof_training::models::{DataShape, ModelSpec};
use bitproof_training::params::ParamSet;
use bitproof_training::streams::site_key;
use bitproof_training::trainable::{Batch, BatchTargets, Inputs};

/// Parameters by name.
pub(crate) type Wide = BTreeMap<String, Vec<f64>>;

pub(crate) fn widened(params: &ParamSet) -> Wide {
    let entries = params.layout().entries().iter().enumerate();
    let wide = |i: usize| params.tensor(i).iter().map(|&v| f64::from(v)).collect();
    entries.map(|(i, entry)| (entry.name.clone(), wide(i))).collect()
}

/// `eᵛ = (Σ (v/256)ⁿ/n!)^256`.
pub(crate) fn exp(v: f64) -> f64 {
    let (x, mut term, mut sum) = (v / 256.0, 1.0, 1.0);
    for n in 1..20 {
        term *= x / f64::from(n);
        sum += term;
    }
    (0..8).fold(sum, |y, _| y * y)
}

/// Newton's iteration on `eˣ = y`.
fn ln(y: f64) -> f64 {
    (0..20).fold(0.0, |x, _| {
        let e = exp(x);
        x + 2.0 * (y - e) / (y + e)
    })
}

/// `2/√π · Σ (−1)ⁿ x²ⁿ⁺¹ / (n!·(2n + 1))`.
fn erf(x: f64) -> f64 {
    let (mut power, mut sum) = (x, x);
    for n in 1..60 {
        power *= -x * x / f64::from(n);
        sum += power / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x / 2.0f64.sqrt()))
}

/// A model with the loops that it runs.
pub(crate) struct Reference<'a> {
    pub(crate) spec: &'a ModelSpec,
    pub(crate) data: &'a DataShape,
    /// The key of what is random in it.
    pub(crate) random: Option<StreamKey>,
    /// How many products its matrix products and convolutions took.
    pub(crate) products: Cell<u64>,
}

impl<'a> Reference<'a> {
    pub(crate) fn new(spec: &'a ModelSpec, data: &'a DataShape, random: Option<StreamKey>) -> Self {
        Self { spec, data, random, products: Cell::new(0) }
    }

    /// The sum of the losses of a batch.
    pub(crate) fn loss(&self, p: &Wide, batch: &Batch<'_>) -> f64 {
        self.losses(p, batch).iter().sum()
    }

    pub(crate) fn losses(&self, p: &Wide, batch: &Batch<'_>) -> Vec<f64> {
        let rows = self.scores(p, &batch.inputs);
        match batch.targets {
            BatchTargets::Values(targets) => {
                let error = |(y, &t): (&Vec<f64>, &f32)| (y[0] - f64::from(t)) * (y[0] - f64::from(t));
                rows.iter().zip(targets).map(error).collect()
            }
            BatchTargets::Classes(labels) => {
                let of = |(z, &label): (&Vec<f64>, &u32)| match z[..] {
                    // −ln sigmoid(z) of class 1, −ln(1 − sigmoid(z)) of class 0
                    [z] => ln(1.0 + exp(if label == 1 { -z } else { z })),
                    _ => ln(z.iter().map(|&v| exp(v)).sum()) - z[label as usize],
                };
                rows.iter().zip(labels).map(of).collect()
            }
        }
    }

    /// A row of scores for each prediction.
    pub(crate) fn scores(&self, p: &Wide, inputs: &Inputs<'_>) -> Vec<Vec<f64>> {
        match inputs {
            Inputs::Examples { values, .. } => {
                let row = |row: ndarray::ArrayView1<'_, f32>| {
                    let x: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
                    match self.spec {
                        ModelSpec::Linear | ModelSpec::Logistic => {
                            self.linear(&x, &p["weight"], Some(&p["bias"]))
                        }
                        ModelSpec::Mlp { hidden } => self.mlp(p, hidden.len(), x),
                        ModelSpec::Lenet { image } => self.lenet(p, *image, x),
                        ModelSpec::Gpt { .. } => panic!("a gpt takes tokens"),
                    }
                };
                values.rows().into_iter().map(row).collect()
            }
            Inputs::Tokens(ids) => {
                let row = |(i, row): (usize, ndarray::ArrayView1<'_, u32>)| self.gpt(p, &row.to_vec(), i);
                ids.rows().into_iter().enumerate().flat_map(row).collect()
            }
        }
    }

    fn product(&self, a: f64, b: f64) -> f64 {
        self.products.set(self.products.get() + 1);
        a * b
    }

    fn linear(&self, x: &[f64], weight: &[f64], bias: Option<&Vec<f64>>) -> Vec<f64> {
        let outputs = weight.len() / x.len();
        let output = |o: usize| {
            let sum: f64 = (0..x.len()).map(|i| self.product(x[i], weight[o * x.len() + i])).sum();
            sum + bias.map_or(0.0, |bias| bias[o])
        };
        (0..outputs).map(output).collect()
    }

    fn layer(&self, p: &Wide, name: &str, x: &[f64]) -> Vec<f64> {
        self.linear(x, &p[&format!("{name}.weight")], Some(&p[&format!("{name}.bias")]))
    }

    fn mlp(&self, p: &Wide, hidden: usize, mut x: Vec<f64>) -> Vec<f64> {
        for layer in 0..=hidden {
            x = self.layer(p, &(2 * layer).to_string(), &x);
            if layer < hidden {
                x.iter_mut().for_each(|v| *v = v.max(0.0));
            }
        }
        x
    }

    fn lenet(&self, p: &Wide, image: Option<[u32; 3]>, mut x: Vec<f64>) -> Vec<f64> {
        let DataShape::Classes { shape, .. } = self.data else { panic!("lenet learns classes") };
        let image = image.map_or_else(|| shape.clone(), |image| image.map(|n| n as usize).to_vec());
        let (mut channels, mut height, mut width) = (image[0], image[1], image[2]);
        for (name, outputs) in [("conv1", 6), ("conv2", 16)] {
            let (weight, bias) = (&p[&format!("{name}.weight")], &p[&format!("{name}.bias")]);
            let mut y = vec![0.0; outputs * height * width];
            for (at, y) in y.iter_mut().enumerate() {
                let (o, i, j) = (at / (height * width), at / width % height, at % width);
                let mut sum = bias[o];
                for (k, w) in weight[o * channels * 25..][..channels * 25].iter().enumerate() {
                    let (c, u, v) = (k / 25, i + k / 5 % 5, j + k % 5);
                    let inside = (2..height + 2).contains(&u) && (2..width + 2).contains(&v);
                    let seen = if inside { x[(c * height + u - 2) * width + v - 2] } else { 0.0 };
                    sum += self.product(*w, seen);
                }
                *y = sum.max(0.0);
            }
            let (h, w) = (height / 2, width / 2);
            x = vec![0.0; outputs * h * w];
            for (at, pooled) in x.iter_mut().enumerate() {
                let (o, i, j) = (at / (h * w), at / w % h, at % w);
                let place = |d: usize| y[(o * height + 2 * i + d / 2) * width + 2 * j + d % 2];
                *pooled = (0..4).map(place).fold(f64::MIN, f64::max);
            }
            (channels, height, width) = (outputs, h, w);
        }
        for name in ["fc1", "fc2"] {
            x = self.layer(p, name, &x);
            x.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        self.layer(p, "fc3", &x)
    }

    /// Of one window, the row `row` of a batch.
    fn gpt(&self, p: &Wide, ids: &[u32], row: usize) -> Vec<Vec<f64>> {
        let &ModelSpec::Gpt { layers, heads, width, dropout } = self.spec else { panic!("a gpt") };
        let (heads, width) = (heads as usize, width as usize);
        let dropped = |x: &mut [Vec<f64>], site: u32| {
            let Some(key) = self.random.filter(|_| dropout > 0.0) else { return };
            let first = (row * ids.len() * width) as u64;
            let mut stream = Stream::at(site_key(key, site), first);
            for v in x.iter_mut().flatten() {
                *v *= if stream.uniform_f32() >= dropout { 1.0 / (1.0 - f64::from(dropout)) } else { 0.0 };
            }
        };
        let embed = |(t, &id): (usize, &u32)| -> Vec<f64> {
            (0..width)
                .map(|c| p["wte.weight"][id as usize * width + c] + p["wpe.weight"][t * width + c])
                .collect()
        };
        let mut x: Vec<Vec<f64>> = ids.iter().enumerate().map(embed).collect();
        dropped(&mut x, 0);
        let norm = |name: &str, x: &[f64]| -> Vec<f64> {
            let (gamma, beta) = (&p[&format!("{name}.weight")], &p[&format!("{name}.bias")]);
            let mean = x.iter().sum::<f64>() / width as f64;
            let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / width as f64;
            (0..width).map(|c| (x[c] - mean) / (variance + 1e-5).sqrt() * gamma[c] + beta[c]).collect()
        };
        let add = |x: &mut [Vec<f64>], y: &[Vec<f64>]| {
            x.iter_mut().flatten().zip(y.iter().flatten()).for_each(|(x, y)| *x += y);
        };
        for n in 0..layers {
            let name = |part: &str| format!("h.{n}.{part}");
            let qkv: Vec<Vec<f64>> =
                x.iter().map(|x| self.layer(p, &name("attn.c_attn"), &norm(&name("ln_1"), x))).collect();
            let mixed = self.attention(&qkv, heads, width);
            let mut y: Vec<Vec<f64>> = mixed.iter().map(|y| self.layer(p, &name("attn.c_proj"), y)).collect();
            dropped(&mut y, 2 * n + 1);
            add(&mut x, &y);
            let wide = |x: &Vec<f64>| -> Vec<f64> {
                let y = self.layer(p, &name("mlp.c_fc"), &norm(&name("ln_2"), x));
                self.layer(p, &name("mlp.c_proj"), &y.into_iter().map(gelu).collect::<Vec<f64>>())
            };
            let mut y: Vec<Vec<f64>> = x.iter().map(wide).collect();
            dropped(&mut y, 2 * n + 2);
            add(&mut x, &y);
        }
        x.iter().map(|x| self.linear(&norm("ln_f", x), &p["wte.weight"], None)).collect()
    }

    fn attention(&self, qkv: &[Vec<f64>], heads: usize, width: usize) -> Vec<Vec<f64>> {
        let size = width / heads;
        let mut mixed = vec![vec![0.0; width]; qkv.len()];
        for head in 0..heads {
            for (t, mixed) in mixed.iter_mut().enumerate() {
                let at = |part: usize, d: usize| part * width + head * size + d;
                let score = |s: usize| -> f64 {
                    let dot: f64 = (0..size).map(|d| self.product(qkv[t][at(0, d)], qkv[s][at(1, d)])).sum();
                    exp(dot / (size as f64).sqrt())
                };
                let scores: Vec<f64> = (0..=t).map(score).collect();
                let sum: f64 = scores.iter().sum();
                for d in 0..size {
                    let seen = |s: usize| self.product(scores[s] / sum, qkv[s][at(2, d)]);
                    mixed[head * size + d] = (0..=t).map(seen).sum();
                }
            }
        }
        mixed
    }
}

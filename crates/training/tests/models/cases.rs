//! Small models with data.

use bitproof_kernels::{Stream, StreamKey};
use bitproof_training::models::{build, DataShape, ModelSpec};
use bitproof_training::params::ParamSet;
use bitproof_training::trainable::{Batch, BatchTargets, Inputs, Trainable};
use ndarray::Array2;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) spec: ModelSpec,
    pub(crate) data: DataShape,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Array2<f32>,
    pub(crate) tokens: Array2<u32>,
    pub(crate) labels: Vec<u32>,
    pub(crate) numbers: Vec<f32>,
}

/// What is drawn for a test.
pub(crate) fn key(purpose: &[u8; 8]) -> StreamKey {
    StreamKey::from_bytes(*purpose)
}

impl Case {
    fn new(name: &'static str, spec: ModelSpec, data: DataShape, rows: usize) -> Self {
        let mut stream = Stream::new(key(b"casedata"));
        let shape = match &data {
            DataShape::Classes { shape, .. } | DataShape::Values { shape } => shape.clone(),
            DataShape::Text { .. } => Vec::new(),
        };
        let columns: usize = shape.iter().product();
        let values = Array2::from_shape_simple_fn((rows, columns), || 4.0 * stream.uniform_f32() - 2.0);
        let mut below = |count: usize, n: usize| -> Vec<u32> {
            (0..count).map(|_| stream.bounded(n as u64) as u32).collect()
        };
        let (tokens, labels) = match data {
            DataShape::Classes { classes, .. } => (Array2::zeros((0, 0)), below(rows, classes)),
            DataShape::Values { .. } => (Array2::zeros((0, 0)), Vec::new()),
            DataShape::Text { vocabulary, window } => {
                let ids = below(rows * window, vocabulary);
                let ids = Array2::from_shape_vec((rows, window), ids).unwrap();
                (ids, below(rows * window, vocabulary))
            }
        };
        let numbers = (0..rows).map(|_| 6.0 * stream.uniform_f32() - 3.0).collect();
        Self { name, spec, data, shape, values, tokens, labels, numbers }
    }

    pub(crate) fn model(&self) -> Box<dyn Trainable + Send> {
        build(&self.spec, &self.data).unwrap()
    }

    /// Initial parameters with something added to each, so that none is 0 or 1.
    pub(crate) fn params(&self) -> ParamSet {
        let mut params = self.model().init(key(b"initials"));
        let mut stream = Stream::new(key(b"changing"));
        params.values_mut().iter_mut().for_each(|p| *p += 0.5 * stream.uniform_f32() - 0.25);
        params
    }

    pub(crate) fn inputs(&self) -> Inputs<'_> {
        match self.data {
            DataShape::Text { .. } => Inputs::Tokens(self.tokens.view()),
            _ => Inputs::Examples { shape: &self.shape, values: self.values.view() },
        }
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        let targets = match self.data {
            DataShape::Values { .. } => BatchTargets::Values(&self.numbers),
            _ => BatchTargets::Classes(&self.labels),
        };
        Batch { inputs: self.inputs(), targets }
    }
}

pub(crate) fn all() -> Vec<Case> {
    let classes = |shape: &[usize], classes| DataShape::Classes { shape: shape.to_vec(), classes };
    let values = |shape: &[usize]| DataShape::Values { shape: shape.to_vec() };
    let gpt = |dropout| ModelSpec::Gpt { layers: 2, heads: 2, width: 4, dropout };
    let text = || DataShape::Text { vocabulary: 5, window: 6 };
    vec![
        Case::new("linear", ModelSpec::Linear, values(&[3]), 5),
        Case::new("logistic of two classes", ModelSpec::Logistic, classes(&[4], 2), 6),
        Case::new("logistic of three classes", ModelSpec::Logistic, classes(&[2, 2], 3), 6),
        Case::new("mlp", ModelSpec::Mlp { hidden: vec![5, 4] }, classes(&[3], 3), 6),
        Case::new("mlp of values", ModelSpec::Mlp { hidden: vec![4] }, values(&[3]), 5),
        Case::new("mlp without hidden layers", ModelSpec::Mlp { hidden: vec![] }, classes(&[3], 2), 4),
        Case::new("lenet of rows", ModelSpec::Lenet { image: Some([1, 4, 5]) }, classes(&[20], 3), 2),
        Case::new("lenet of channels", ModelSpec::Lenet { image: None }, classes(&[2, 6, 4], 2), 2),
        Case::new("gpt", gpt(0.0), text(), 3),
        Case::new("gpt with dropout", gpt(0.25), text(), 2),
    ]
}

//! PyTorch loads the model files, and says the same. What it says is also kept in `crates/training/tests/goldens/`, for machines without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use bitproof_kernels::elementary::{exp, log};
use bitproof_kernels::{argmax, max, Stream, StreamKey};
use bitproof_training::models::{build, encode, DataShape, ModelSpec};
use bitproof_training::params::ParamSet;
use bitproof_training::safetensors::{self, Tensor, Tensors};
use bitproof_training::trainable::{Batch, BatchTargets, Inputs, Predictions};
use ndarray::Array2;

const ROWS: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn python() -> Command {
    let mut command = Command::new(root().join("target/peers/bin/python"));
    command.env_clear().env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Whether PyTorch and the safetensors library are there.
fn installed() -> bool {
    python().args(["-c", "import torch, safetensors.torch"]).output().is_ok_and(|o| o.status.success())
}

/// What PyTorch says of a model file.
enum Answer {
    /// The scores, and how many a prediction has.
    Scores(Vec<f32>, usize),
    Refused(String),
}

/// Asks PyTorch about files of models, each with its inputs.
fn ask(files: &[(Vec<u8>, Tensor)]) -> Vec<Answer> {
    let folder = tempfile::tempdir().unwrap();
    let path = |i: usize, kind: &str| folder.path().join(format!("{i}.{kind}"));
    for (i, (model, x)) in files.iter().enumerate() {
        let inputs = Tensors::from([("x".to_owned(), x.clone())]);
        std::fs::write(path(i, "model"), model).unwrap();
        std::fs::write(path(i, "inputs"), safetensors::encode(&inputs)).unwrap();
    }
    let script = root().join("scripts/oracles/torch_logits.py");
    let output = python().arg(script).arg(folder.path()).arg(files.len().to_string()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let answer = |(i, line): (usize, &str)| match line.strip_prefix("refused ") {
        Some(why) => Answer::Refused(why.to_owned()),
        None => scores(&std::fs::read(path(i, "scores")).unwrap()),
    };
    said.lines().enumerate().map(answer).collect()
}

/// Their JSON is spaced and ordered otherwise than ours, so the file is read by hand.
fn scores(bytes: &[u8]) -> Answer {
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let data = bytes[8 + length..].chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    Answer::Scores(data.collect(), header["scores"]["shape"][1].as_u64().unwrap() as usize)
}

/// A model with parameters and inputs, and what we say of these.
struct Case {
    spec: ModelSpec,
    data: DataShape,
    params: ParamSet,
    x: Tensor,
    labels: Vec<u32>,
    losses: Vec<f32>,
    predicted: Vec<u32>,
}

impl Case {
    fn new(spec: ModelSpec, data: DataShape) -> Self {
        let model = build(&spec, &data).unwrap();
        let mut stream = Stream::new(StreamKey::from_bytes(*b"examples"));
        let mut params = model.init(StreamKey::from_bytes(*b"initials"));
        // Biases and norms that a reader could leave out unnoticed are changed, too.
        params.values_mut().iter_mut().for_each(|p| *p += 0.1 * stream.uniform_f32() - 0.05);
        let (shape, columns, outputs) = match &data {
            DataShape::Classes { shape, classes } => (shape.clone(), shape.iter().product(), *classes),
            DataShape::Text { vocabulary, window } => (Vec::new(), *window, *vocabulary),
            DataShape::Values { .. } => unreachable!("none of these"),
        };
        let text = shape.is_empty();
        let values = Array2::from_shape_simple_fn((ROWS, columns), || 2.0 * stream.uniform_f32() - 1.0);
        let ids = values.map(|v| ((v + 1.0) / 2.0 * outputs as f32) as u32);
        let count = if text { ROWS * columns } else { ROWS };
        let labels: Vec<u32> = (0..count).map(|i| (i % outputs) as u32).collect();
        let inputs = match text {
            true => Inputs::Tokens(ids.view()),
            false => Inputs::Examples { shape: &shape, values: values.view() },
        };
        let batch = Batch { inputs, targets: BatchTargets::Classes(&labels) };
        let ours = model.eval(&params, &batch).unwrap();
        let Predictions::Classes(predicted) = ours.predictions else { panic!("classes") };
        let seen = if text { ids.map(|&id| id as f32) } else { values };
        let x = Tensor { shape: vec![ROWS, columns], data: seen.into_raw_vec_and_offset().0 };
        Self { spec, data, params, x, labels, losses: ours.losses, predicted }
    }

    /// The model's file; one with another weight; and one without a tensor.
    fn files(&self) -> [(Vec<u8>, Tensor); 3] {
        let good = encode(&self.spec, &self.data, &self.params);
        let mut other = self.params.clone();
        other.tensor_mut(0)[0] += 0.5;
        let (mut tensors, metadata) = safetensors::decode_with_metadata(&good).unwrap();
        tensors.remove(self.first_tensor());
        let less = safetensors::encode_with_metadata(&tensors, &metadata);
        [good, encode(&self.spec, &self.data, &other), less].map(|model| (model, self.x.clone()))
    }

    fn first_tensor(&self) -> &str {
        &self.params.layout().entries()[0].name
    }

    /// How far our losses are from those of these scores, which are functions of all scores of a row; and whether our predictions are theirs.
    fn apart(&self, scores: &[f32], outputs: usize) -> (f32, bool) {
        assert_eq!(scores.len(), outputs * self.losses.len(), "{:?}", self.spec);
        let rows = scores.chunks_exact(outputs).enumerate();
        let apart = rows.clone().map(|(i, row)| (loss(row, self.labels[i] as usize) - self.losses[i]).abs());
        let mut same = rows.map(|(i, row)| match row {
            [z] => u32::from(*z > 0.0) == self.predicted[i],
            row => argmax(row) == Some(self.predicted[i] as usize),
        });
        (apart.fold(0.0, f32::max), same.all(|same| same))
    }
}

fn loss(row: &[f32], label: usize) -> f32 {
    match row {
        [z] => z.max(0.0) - z * label as f32 + log(1.0 + exp(-z.abs())),
        row => {
            let largest = max(row);
            log(row.iter().map(|z| exp(z - largest)).sum()) - (row[label] - largest)
        }
    }
}

#[test]
#[ignore = "PyTorch is 5 GB: scripts/peers/setup --torch && cargo test -p bitproof-tests --test integration -- --ignored pytorch"]
fn pytorch_loads_our_models_and_says_the_same() {
    assert!(installed(), "there is no PyTorch in target/peers: scripts/peers/setup --torch installs it");
    let classes = |shape: &[usize], classes| DataShape::Classes { shape: shape.to_vec(), classes };
    let gpt = ModelSpec::Gpt { layers: 4, heads: 4, width: 128, dropout: 0.2 };
    let cases = [
        Case::new(ModelSpec::Logistic, classes(&[30], 2)),
        Case::new(ModelSpec::Logistic, classes(&[30], 5)),
        Case::new(ModelSpec::Mlp { hidden: vec![128, 64] }, classes(&[64], 10)),
        Case::new(ModelSpec::Lenet { image: Some([1, 8, 8]) }, classes(&[64], 10)),
        Case::new(gpt, DataShape::Text { vocabulary: 65, window: 64 }),
    ];
    let files: Vec<_> = cases.iter().flat_map(Case::files).collect();
    let answers = ask(&files);
    assert_eq!(answers.len(), files.len());
    for (case, answers) in cases.iter().zip(answers.chunks(3)) {
        let [Answer::Scores(good, outputs), Answer::Scores(other, _), Answer::Refused(why)] = answers else {
            panic!("{:?} was not loaded, or was although it misses a tensor", case.spec)
        };
        let (apart, same) = case.apart(good, *outputs);
        assert!(apart < 1e-5 && same, "{:?}: {apart:e} {same}", case.spec);
        assert!(case.apart(other, *outputs).0 > 1e-4, "{:?}: another weight goes unnoticed", case.spec);
        assert!(why.contains(&format!("\"{}\"", case.first_tensor())), "{why}");
    }
}

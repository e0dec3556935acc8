//! PyTorch loads the model files, and says the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use bitproof_kernels::{argmax, Stream, StreamKey};
use bitproof_training::models::{build, encode, DataShape, ModelSpec};
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

/// The scores of every prediction as PyTorch computes them, a row each.
fn scores(folder: &Path, model: &[u8], x: Tensor) -> Result<Tensor, String> {
    let path = |name: &str| folder.join(name);
    std::fs::write(path("model"), model).unwrap();
    std::fs::write(path("inputs"), safetensors::encode(&Tensors::from([("x".to_owned(), x)]))).unwrap();
    let output = python()
        .arg(root().join("scripts/oracles/torch_logits.py"))
        .args([path("model"), path("inputs"), path("out")])
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    // Their header is another JSON than ours: its length, its one tensor's shape, and its data are read by hand.
    let bytes = std::fs::read(path("out")).unwrap();
    let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let axes = header["scores"]["shape"].as_array().unwrap();
    let shape = axes.iter().map(|axis| axis.as_u64().unwrap() as usize).collect();
    let data = bytes[8 + length..].chunks_exact(4);
    Ok(Tensor { shape, data: data.map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect() })
}

#[test]
fn pytorch_loads_our_models_and_says_the_same() {
    if !installed() {
        println!("SKIPPED: no PyTorch in target/peers; scripts/peers/setup --torch installs it");
        return;
    }
    let classes = |shape: &[usize], classes| DataShape::Classes { shape: shape.to_vec(), classes };
    let models = [
        (ModelSpec::Logistic, classes(&[30], 2)),
        (ModelSpec::Logistic, classes(&[30], 5)),
        (ModelSpec::Mlp { hidden: vec![128, 64] }, classes(&[64], 10)),
        (ModelSpec::Lenet { image: Some([1, 8, 8]) }, classes(&[64], 10)),
        (
            ModelSpec::Gpt { layers: 4, heads: 4, width: 128, dropout: 0.2 },
            DataShape::Text { vocabulary: 65, window: 64 },
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let mut stream = Stream::new(StreamKey::from_bytes(*b"examples"));
    for (spec, data) in models {
        let model = build(&spec, &data).unwrap();
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

        let seen = if text { ids.map(|&id| id as f32) } else { values.clone() };
        let x = Tensor { shape: vec![ROWS, columns], data: seen.into_raw_vec_and_offset().0 };
        let file = encode(&spec, &data, &params);
        let theirs = scores(folder.path(), &file, x.clone()).unwrap();
        let rows: Vec<&[f32]> = theirs.data.chunks_exact(*theirs.shape.last().unwrap()).collect();
        assert_eq!((rows.len(), predicted.len()), (count, count), "{spec:?}");
        // A loss is a function of all scores of its row.
        let mut apart = 0.0f32;
        for (i, row) in rows.iter().enumerate() {
            match row {
                [z] => assert_eq!(u32::from(*z > 0.0), predicted[i], "{spec:?}"),
                row => assert_eq!(argmax(row), Some(predicted[i] as usize), "{spec:?}"),
            }
            apart = apart.max((loss(row, labels[i] as usize) - ours.losses[i]).abs());
        }
        assert!(apart < 1e-5, "{spec:?}: {apart:e}");

        // The negative controls: another weight, and a file without one of its tensors.
        let mut other = params.clone();
        other.tensor_mut(1)[0] += 0.5;
        let changed = scores(folder.path(), &encode(&spec, &data, &other), x.clone()).unwrap();
        assert_ne!(changed.data, theirs.data, "{spec:?}");
        let (mut tensors, metadata) = safetensors::decode_with_metadata(&file).unwrap();
        let first = params.layout().entries()[0].name.clone();
        tensors.remove(&first);
        let refused = scores(folder.path(), &safetensors::encode_with_metadata(&tensors, &metadata), x);
        assert!(refused.unwrap_err().contains(&format!("\"{first}\"")), "{spec:?}");
    }
}

fn loss(row: &[f32], label: usize) -> f32 {
    use bitproof_kernels::elementary::{exp, log};
    match row {
        [z] => z.max(0.0) - z * label as f32 + log(1.0 + exp(-z.abs())),
        row => {
            let largest = bitproof_kernels::max(row);
            log(row.iter().map(|z| exp(z - largest)).sum()) - (row[label] - largest)
        }
    }
}

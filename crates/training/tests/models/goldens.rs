//! What PyTorch computed in double precision: `scripts/goldens/models.py` made the files.

use std::path::Path;

use bitproof_kernels::StreamKey;
use bitproof_training::models::{build, from_metadata, DataShape};
use bitproof_training::params::ParamSet;
use bitproof_training::safetensors::{decode_with_metadata, Tensor, Tensors};
use bitproof_training::trainable::{Batch, BatchTargets, Inputs};
use ndarray::ArrayView2;

const MODELS: [&str; 6] = ["linear", "logistic-2", "logistic-3", "mlp", "lenet", "gpt"];

/// The largest differences of losses and gradients from a golden file's: of each loss relative to the larger of it and 1, of each element
/// of a gradient relative to the largest of its tensor. `change` changes what we compute with.
fn differences(name: &str, change: impl Fn(&mut ParamSet)) -> (f64, f64) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/{name}.safetensors"));
    let (tensors, metadata) = decode_with_metadata(&std::fs::read(path).unwrap()).unwrap();
    let of = |prefix: &str| -> Tensors {
        let named = |(name, tensor): (&String, &Tensor)| {
            Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()))
        };
        tensors.iter().filter_map(named).collect()
    };
    let (spec, data) = from_metadata(&metadata, &tensors).unwrap();
    let model = build(&spec, &data).unwrap();
    let mut params = ParamSet::from_tensors(model.layout(), of("param.")).unwrap();
    change(&mut params);
    let expected = ParamSet::from_tensors(model.layout(), of("grad.")).unwrap();

    let (x, targets) = (&tensors["x"], &tensors["targets"].data);
    let labels: Vec<u32> = targets.iter().map(|&t| t as u32).collect();
    let ids: Vec<u32> = x.data.iter().map(|&id| id as u32).collect();
    let shape = (x.shape[0], x.data.len() / x.shape[0]);
    let inputs = match data {
        DataShape::Text { .. } => Inputs::Tokens(ArrayView2::from_shape(shape, &ids).unwrap()),
        _ => {
            let values = ArrayView2::from_shape(shape, &x.data).unwrap();
            Inputs::Examples { shape: &x.shape[1..], values }
        }
    };
    let targets = match data {
        DataShape::Values { .. } => BatchTargets::Values(targets),
        _ => BatchTargets::Classes(&labels),
    };
    let batch = Batch { inputs, targets };
    let losses = model.eval(&params, &batch).unwrap().losses;
    let theirs = &tensors["losses"].data;
    assert_eq!(losses.len(), theirs.len());
    let apart = |a: f32, b: f32, scale: f32| f64::from((a - b).abs()) / f64::from(scale);
    let loss = losses.iter().zip(theirs).map(|(&a, &b)| apart(a, b, b.max(1.0))).fold(0.0, f64::max);

    let shard = model.shard_grad(&params, &batch, StreamKey::from_bytes([0; 8])).unwrap();
    let gradient = (0..expected.layout().entries().len()).map(|index| {
        let (ours, theirs) = (shard.gradient.tensor(index), expected.tensor(index));
        let scale = theirs.iter().fold(f32::MIN_POSITIVE, |max, g| max.max(g.abs()));
        ours.iter().zip(theirs).map(|(&a, &b)| apart(a, b, scale)).fold(0.0, f64::max)
    });
    (loss, gradient.fold(0.0, f64::max))
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    for name in MODELS {
        let (loss, gradient) = differences(name, |_| {});
        assert!(loss < 2e-6 && gradient < 2e-6, "{name}: losses {loss:.1e}, gradients {gradient:.1e}");
        // The negative control: a weight that is a hundredth larger.
        let (loss, gradient) = differences(name, |params| params.tensor_mut(1)[0] *= 1.01);
        assert!(loss.max(gradient) > 1e-4, "{name}: losses {loss:.1e}, gradients {gradient:.1e}");
    }
}

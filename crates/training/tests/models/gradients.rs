//! Losses and gradients against the loops in f64.

use bitproof_training::params::ParamSet;
use bitproof_training::trainable::{BatchTargets, Predictions};

use super::cases::{all, key, Case};
use super::reference::{widened, Reference};

/// Every how many parameters of a large model one is checked; a prime, so that they lie in all rows and columns.
const STRIDE: usize = 23;
const STEP: f64 = 1e-5;

/// Central differences of the loops: tensor, element and slope. The first element of a tensor is always among them.
fn slopes(case: &Case) -> Vec<(usize, usize, f64)> {
    let params = case.params();
    let batch = case.batch();
    let reference = Reference::new(&case.spec, &case.data, Some(key(b"shardkey")));
    let mut wide = widened(&params);
    let stride = if params.values().len() > 5000 { STRIDE } else { 1 };
    let mut slopes = Vec::new();
    for (index, entry) in params.layout().entries().iter().enumerate() {
        for i in (0..entry.len).step_by(stride) {
            let mut at = |value: f64| {
                wide.get_mut(&entry.name).unwrap()[i] = value;
                reference.loss(&wide, &batch)
            };
            let middle = f64::from(params.tensor(index)[i]);
            slopes.push((index, i, (at(middle + STEP) - at(middle - STEP)) / (2.0 * STEP)));
            wide.get_mut(&entry.name).unwrap()[i] = middle;
        }
    }
    slopes
}

/// The largest difference between a gradient and slopes, in units of what is allowed: 2·10⁻⁵ of the largest element of the tensor, and of 1
/// where all are smaller.
fn worst(slopes: &[(usize, usize, f64)], gradient: &ParamSet) -> f64 {
    let scale = |index| gradient.tensor(index).iter().fold(1.0f64, |max, &g| max.max(f64::from(g.abs())));
    let scales: Vec<f64> = (0..gradient.layout().entries().len()).map(scale).collect();
    let apart = |&(index, i, slope): &(usize, usize, f64)| {
        (slope - f64::from(gradient.tensor(index)[i])).abs() / (2e-5 * scales[index])
    };
    slopes.iter().map(apart).fold(0.0, f64::max)
}

#[test]
fn every_model_agrees_with_finite_differences() {
    for case in all() {
        let (model, params, batch) = (case.model(), case.params(), case.batch());
        let shard = model.shard_grad(&params, &batch, key(b"shardkey")).unwrap();
        let reference = Reference::new(&case.spec, &case.data, Some(key(b"shardkey")));
        let loss = reference.loss(&widened(&params), &batch);
        assert!((shard.loss - loss).abs() < 1e-5 * loss.max(1.0), "{}: {} {loss}", case.name, shard.loss);
        assert_eq!(shard.count as usize, batch.targets.len());
        let slopes = slopes(&case);
        let found = worst(&slopes, &shard.gradient);
        assert!(found < 1.0, "{}: {found}", case.name);

        // The negative control: one element of any tensor is a little off, or the mask of dropout is another.
        for index in 0..shard.gradient.layout().entries().len() {
            let mut bad = shard.gradient.clone();
            let scale = bad.tensor(index).iter().fold(1.0f32, |max, g| max.max(g.abs()));
            bad.tensor_mut(index)[0] += 1e-4 * scale;
            let found = worst(&slopes, &bad);
            assert!(found > 1.0, "{}, tensor {index}: {found}", case.name);
        }
        let other = model.shard_grad(&params, &batch, key(b"otherkey")).unwrap();
        assert_eq!(worst(&slopes, &other.gradient) > 1.0, case.name == "gpt with dropout");
    }
}

#[test]
fn multiply_adds_are_those_of_the_loops() {
    for case in all() {
        let reference = Reference::new(&case.spec, &case.data, None);
        reference.scores(&widened(&case.params()), &case.inputs());
        let rows = case.values.nrows().max(case.tokens.nrows()) as u64;
        assert_eq!(case.model().multiply_adds() * rows, reference.products.get(), "{}", case.name);
    }
}

#[test]
fn an_evaluation_has_the_losses_and_predictions_of_the_loops() {
    for case in all() {
        let (params, batch) = (case.params(), case.batch());
        let found = case.model().eval(&params, &batch).unwrap();
        let reference = Reference::new(&case.spec, &case.data, None);
        let losses = reference.losses(&widened(&params), &batch);
        assert_eq!(found.losses.len(), losses.len());
        for (ours, theirs) in found.losses.iter().zip(&losses) {
            assert!(
                (f64::from(*ours) - theirs).abs() < 2e-5 * theirs.max(1.0),
                "{}: {ours} {theirs}",
                case.name
            );
        }
        let scores = reference.scores(&widened(&params), &batch.inputs);
        match (found.predictions, batch.targets) {
            (Predictions::Values(values), BatchTargets::Values(_)) => {
                assert!(values.iter().zip(&scores).all(|(y, z)| (f64::from(*y) - z[0]).abs() < 1e-5));
            }
            (Predictions::Classes(classes), BatchTargets::Classes(_)) => {
                let best = |z: &Vec<f64>| match z[..] {
                    [z] => u32::from(z > 0.0),
                    _ => (0..z.len()).max_by(|&a, &b| z[a].total_cmp(&z[b])).unwrap() as u32,
                };
                assert_eq!(classes, scores.iter().map(best).collect::<Vec<u32>>(), "{}", case.name);
            }
            other => panic!("{other:?}"),
        }
    }
}

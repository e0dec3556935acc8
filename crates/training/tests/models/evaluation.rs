//! A whole part in batches is what it is at once.

use bitproof_kernels::{sum_f64, Stream};
use bitproof_training::models::{
    build, evaluate, example_batches, text_batches, DataShape, Measures, ModelSpec,
};
use bitproof_training::trainable::{Batch, BatchTargets, Inputs, Predictions};
use ndarray::Array2;

use super::cases::{all, key};
use super::generation::{params, DATA, SPEC};
use super::reference::{exp, widened, Reference};

#[test]
fn examples_in_batches_are_measured_as_at_once() {
    let mut stream = Stream::new(key(b"examples"));
    let values = Array2::from_shape_simple_fn((600, 3), || 4.0 * stream.uniform_f32() - 2.0);
    for case in all().iter().filter(|case| case.shape == [3]) {
        let (model, params) = (case.model(), case.params());
        let labels: Vec<u32> = (0..600).map(|_| stream.bounded(2) as u32).collect();
        let numbers: Vec<f32> = (0..600).map(|_| stream.uniform_f32()).collect();
        let targets = match case.data {
            DataShape::Values { .. } => BatchTargets::Values(&numbers),
            _ => BatchTargets::Classes(&labels),
        };
        let measured =
            evaluate(&*model, &params, example_batches(&[3], values.view(), targets)).unwrap().unwrap();
        let inputs = Inputs::Examples { shape: &[3], values: values.view() };
        let once = model.eval(&params, &Batch { inputs, targets }).unwrap();
        assert_eq!(measured.predictions, once.predictions, "{}", case.name);
        let losses: Vec<f64> = once.losses.iter().map(|&loss| f64::from(loss)).collect();
        assert_eq!((measured.loss, measured.count), (sum_f64(&losses) / 600.0, 600));
        match (measured.measures, &once.predictions) {
            (Measures::Classes { accuracy }, Predictions::Classes(found)) => {
                let right = found.iter().zip(&labels).filter(|(a, b)| a == b).count();
                assert_eq!(accuracy, right as f64 / 600.0);
                assert_eq!(measured.metrics(), [("accuracy", accuracy), ("loss", measured.loss)]);
            }
            (Measures::Values { rmse, .. }, Predictions::Values(_)) => {
                // A loss is rounded to f32, an error is not.
                assert!((rmse * rmse - measured.loss).abs() < 1e-6 * measured.loss, "{rmse}");
            }
            other => panic!("{other:?}"),
        }
    }
    let mlp = build(&ModelSpec::Linear, &DataShape::Values { shape: vec![3] }).unwrap();
    let none = Array2::zeros((0, 3));
    let batches = example_batches(&[3], none.view(), BatchTargets::Values(&[]));
    assert_eq!(evaluate(&*mlp, &mlp.init(key(b"initials")), batches), Ok(None));
}

#[test]
fn a_text_is_measured_over_all_its_windows() {
    let mut stream = Stream::new(key(b"thetext!"));
    // More windows than are evaluated at once, and a rest.
    let tokens: Vec<u32> = (0..5 * 64 + 5 * 9 + 4).map(|_| stream.bounded(7) as u32).collect();
    let model = build(&SPEC, &DATA).unwrap();
    let measured = evaluate(&*model, &params(), text_batches(&tokens, 5)).unwrap().unwrap();
    assert_eq!(measured.count as usize, tokens.len() - 1);
    let reference = Reference::new(&SPEC, &DATA, None);
    let wide = widened(&params());
    let mean: f64 = text_batches(&tokens, 5).map(|batch| reference.loss(&wide, &batch)).sum::<f64>()
        / (tokens.len() - 1) as f64;
    assert!((measured.loss - mean).abs() < 1e-6, "{} {mean}", measured.loss);
    let Measures::Text { perplexity } = measured.measures else { panic!("{measured:?}") };
    assert!((perplexity / exp(mean) - 1.0).abs() < 1e-5, "{perplexity}");
    assert_eq!(measured.metrics(), [("loss", measured.loss), ("perplexity", perplexity)]);
    assert_eq!(evaluate(&*model, &params(), text_batches(&tokens[..1], 5)), Ok(None));
}

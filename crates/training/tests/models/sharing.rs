//! What a model keeps between calls changes nothing, and what does not fit it is refused.

use bitproof_kernels::with_threads;
use bitproof_training::trainable::{Batch, BatchTargets, Inputs, ShardGrad, TrainableError};
use ndarray::{s, Array2, Axis};

use super::cases::{all, key, Case};

fn case(name: &str) -> Case {
    all().into_iter().find(|case| case.name == name).unwrap()
}

fn bits(shard: &ShardGrad) -> (Vec<u32>, u64, u64) {
    let gradient = shard.gradient.values().iter().map(|g| g.to_bits()).collect();
    (gradient, shard.loss.to_bits(), shard.count)
}

#[test]
fn memory_that_is_used_again_changes_no_bit() {
    for case in all() {
        let (params, batch) = (case.params(), case.batch());
        let first = bits(&case.model().shard_grad(&params, &batch, key(b"shardkey")).unwrap());
        let model = case.model();
        for round in 0..4 {
            let other = model.shard_grad(&params, &batch, key(b"otherkey")).unwrap();
            let shard = model.shard_grad(&params, &batch, key(b"shardkey")).unwrap();
            assert_eq!(bits(&shard), first, "{} in round {round}", case.name);
            model.eval(&params, &batch).unwrap();
            model.recycle(other);
            if round % 2 == 0 {
                model.recycle(shard);
            }
        }
        let (model, params, batch) = (&model, &params, &batch);
        let in_parallel = with_threads(4, move || {
            std::thread::scope(|scope| {
                let shard = move || bits(&model.shard_grad(params, batch, key(b"shardkey")).unwrap());
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(shard)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            })
        });
        assert!(in_parallel.iter().all(|shard| *shard == first), "{}", case.name);
    }
}

/// Kernels reduce over rows in a tree, so that a batch and its parts need not have the same bits; their sums are close.
#[test]
fn the_shards_of_a_batch_add_up_to_it() {
    let case = case("mlp");
    let (model, params) = (case.model(), case.params());
    let whole = model.shard_grad(&params, &case.batch(), key(b"shardkey")).unwrap();
    let part = |rows: std::ops::Range<usize>| {
        let inputs = Inputs::Examples { shape: &case.shape, values: case.values.slice(s![rows.clone(), ..]) };
        let batch = Batch { inputs, targets: BatchTargets::Classes(&case.labels[rows]) };
        model.shard_grad(&params, &batch, key(b"shardkey")).unwrap()
    };
    let (a, b) = (part(0..2), part(2..6));
    assert_eq!(a.count + b.count, whole.count);
    assert!((a.loss + b.loss - whole.loss).abs() < 1e-5);
    let sums = a.gradient.values().iter().zip(b.gradient.values()).map(|(a, b)| a + b);
    assert!(sums.zip(whole.gradient.values()).all(|(sum, w)| (sum - w).abs() < 1e-5));
    assert!(a.gradient.values().iter().zip(whole.gradient.values()).any(|(a, w)| (a - w).abs() > 1e-3));
}

#[test]
fn rows_that_do_not_lie_in_order_are_the_same_rows() {
    let case = case("logistic of two classes");
    let (model, params) = (case.model(), case.params());
    let mut turned = Array2::zeros((case.values.ncols(), case.values.nrows()));
    turned.assign(&case.values.t());
    let inputs = Inputs::Examples { shape: &case.shape, values: turned.t() };
    let batch = Batch { inputs, ..case.batch() };
    let of = |batch: &Batch<'_>| bits(&model.shard_grad(&params, batch, key(b"shardkey")).unwrap());
    assert_eq!(of(&batch), of(&case.batch()));
}

#[test]
fn a_trace_names_operations_and_parameters_and_changes_nothing() {
    for case in all() {
        let (model, params, batch) = (case.model(), case.params(), case.batch());
        let plain = model.shard_grad(&params, &batch, key(b"shardkey")).unwrap();
        let mut seen: Vec<(String, Vec<f32>)> = Vec::new();
        let mut see = |t: bitproof_training::trainable::Traced<'_>| {
            seen.push((t.operation.to_owned(), t.values.to_vec()));
        };
        let traced = model.trace(&params, &batch, key(b"shardkey"), &mut see).unwrap();
        assert_eq!(bits(&traced), bits(&plain), "{}", case.name);
        let entries = params.layout().entries();
        let (operations, gradients) = seen.split_at(seen.len() - entries.len());
        for (index, (entry, (operation, values))) in entries.iter().zip(gradients).enumerate() {
            assert_eq!(*operation, format!("the gradient of {}", entry.name));
            assert_eq!(values, plain.gradient.tensor(index));
        }
        assert!(operations.iter().any(|(operation, _)| operation.contains("(linear)")), "{}", case.name);
        assert!(operations.iter().any(|(operation, _)| operation.starts_with("the gradient of operation")));
    }
}

#[test]
fn the_first_operation_that_is_not_finite_is_seen() {
    let case = case("mlp");
    let (model, mut params) = (case.model(), case.params());
    params.get_mut("2.weight")[0] = f32::INFINITY;
    let mut first = None;
    let mut see = |t: bitproof_training::trainable::Traced<'_>| {
        if first.is_none() && t.values.iter().any(|v| !v.is_finite()) {
            first = Some(t.operation.to_owned());
        }
    };
    model.trace(&params, &case.batch(), key(b"shardkey"), &mut see).unwrap();
    // Six parameters and the examples stand before: 7 linear, 8 relu, 9 linear.
    assert_eq!(first.as_deref(), Some("operation 9 (linear)"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let mlp = case("mlp");
    let (model, params) = (mlp.model(), mlp.params());
    let said = |batch: Batch<'_>| {
        let evaluated = model.eval(&params, &batch).unwrap_err().to_string();
        assert_eq!(model.shard_grad(&params, &batch, key(b"shardkey")).unwrap_err().to_string(), evaluated);
        evaluated
    };
    let wide = Array2::zeros((6, 4));
    let of = |shape| Batch { inputs: Inputs::Examples { shape, values: wide.view() }, ..mlp.batch() };
    let columns = "the model takes examples of the shape [3], the data has [4]";
    assert_eq!((said(of(&[4])), said(of(&[3]))), (columns.to_owned(), columns.to_owned()));
    let ids = Array2::zeros((2, 3));
    let text = Batch { inputs: Inputs::Tokens(ids.view()), ..mlp.batch() };
    assert_eq!(said(text), "the model takes examples, the data has text");
    let with = |targets| said(Batch { inputs: mlp.inputs(), targets });
    assert_eq!(with(BatchTargets::Values(&mlp.numbers)), "the model takes classes, the data has values");
    assert!(with(BatchTargets::Classes(&[0, 1])).contains("labels"));
    assert!(with(BatchTargets::Classes(&[0, 1, 2, 3, 0, 0])).contains("label 3 at row 3"));
    let other = case("mlp of values").params();
    let foreign = model.eval(&other, &mlp.batch());
    assert!(matches!(foreign, Err(TrainableError::Params(_))), "{foreign:?}");

    let two = case("logistic of two classes");
    let batch = Batch { targets: BatchTargets::Classes(&[0, 1, 2, 0, 0, 0]), ..two.batch() };
    let refused = two.model().eval(&two.params(), &batch).unwrap_err().to_string();
    assert!(refused.contains("label 2 at row 2"), "{refused}");
    let linear = case("linear");
    let batch = Batch { targets: BatchTargets::Classes(&[0; 5]), ..linear.batch() };
    let refused = linear.model().eval(&linear.params(), &batch).unwrap_err().to_string();
    assert_eq!(refused, "the model takes values, the data has classes");

    let gpt = case("gpt");
    let long = Array2::zeros((1, 7));
    let refused = |inputs| {
        let batch = Batch { inputs, targets: BatchTargets::Classes(&[0; 7]) };
        gpt.model().eval(&gpt.params(), &batch).unwrap_err().to_string()
    };
    assert!(refused(Inputs::Tokens(long.view())).contains("[6], the data has [7]"));
    assert_eq!(refused(mlp.inputs()), "the model takes text, the data has examples");
    assert!(refused(Inputs::Tokens(Array2::from_elem((1, 1), 5).view())).contains("index 5"));
}

/// A window that is shorter than the model's sees the same as the beginning of a longer one.
#[test]
fn a_character_sees_only_those_before_it() {
    let gpt = case("gpt");
    let (model, params) = (gpt.model(), gpt.params());
    let whole = model.eval(&params, &gpt.batch()).unwrap();
    let first = gpt.tokens.slice(s![.., ..3]);
    let labels: Vec<u32> = gpt.labels.chunks(6).flat_map(|row| row[..3].iter().copied()).collect();
    let batch = Batch { inputs: Inputs::Tokens(first), targets: BatchTargets::Classes(&labels) };
    let short = model.eval(&params, &batch).unwrap();
    for (row, losses) in short.losses.chunks(3).enumerate() {
        assert_eq!(losses, &whole.losses[6 * row..][..3]);
    }
    assert_eq!(first.len_of(Axis(1)), 3);
}

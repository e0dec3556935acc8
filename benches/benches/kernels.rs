//! The kernels under Criterion: `cargo bench -p bitproof-benches`.

use bitproof_benches::inputs::{
    key, labels, matrix, tensor, Convolution, ATTENTION_HEADS, ATTENTION_STEPS, CONVOLUTIONS,
    FUNCTION_LENGTHS, MATMUL_SHAPES, PERMUTATION_LENGTHS, SOFTMAX_SHAPES, SUM_LENGTHS,
};
use bitproof_kernels::elementary::{unary_into, Unary};
use bitproof_kernels::{
    attention_into, conv2d_into, matmul, permutation, softmax_cross_entropy, sum, with_threads, Attention,
    Conv2d,
};
use criterion::{BenchmarkId, Criterion, Throughput};
use ndarray::{Array1, Array3, Array4};

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    products(&mut criterion);
    sums(&mut criterion);
    functions(&mut criterion);
    convolutions(&mut criterion);
    attentions(&mut criterion);
    losses(&mut criterion);
    permutations(&mut criterion);
    criterion.final_summary();
}

/// Elements a second are multiply-adds a second.
fn products(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("matmul");
    for (m, k, n) in MATMUL_SHAPES {
        let (a, b) = (matrix(m, k, b"operandA"), matrix(k, n, b"operandB"));
        group.throughput(Throughput::Elements((m * k * n) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{m}x{k}x{n}")), |bencher| {
            with_threads(1, || bencher.iter(|| matmul(a.view(), b.view())));
        });
    }
    group.finish();
}

fn sums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sum");
    for length in SUM_LENGTHS {
        let values = tensor(length, b"summands").to_vec();
        group.throughput(Throughput::Bytes(4 * length as u64));
        group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
            with_threads(1, || bencher.iter(|| sum(&values)));
        });
    }
    group.finish();
}

fn functions(criterion: &mut Criterion) {
    let [length, _] = FUNCTION_LENGTHS;
    let mut group = criterion.benchmark_group("elementary");
    group.throughput(Throughput::Elements(length as u64));
    // In (0, 2), where every function is defined.
    let x = tensor(length, b"argument") + 1.0;
    let mut y = Array1::zeros(length);
    for function in Unary::ALL {
        group.bench_function(BenchmarkId::from_parameter(function.name()), |bencher| {
            with_threads(1, || bencher.iter(|| unary_into(function, x.view(), y.view_mut())));
        });
    }
    group.finish();
}

/// Elements a second are operations a second.
fn convolutions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv2d");
    for shape in CONVOLUTIONS {
        let Convolution { batch, channels, side, outputs, kernel, padding } = shape;
        let conv = Conv2d { stride: [1, 1], padding: [padding, padding] };
        let x = tensor((batch, channels, side, side), b"images  ");
        let weight = tensor((outputs, channels, kernel, kernel), b"weights ");
        let mut y = Array4::zeros((batch, outputs, shape.places(), shape.places()));
        group.throughput(Throughput::Elements(shape.operations()));
        let name = format!("{batch}x{channels}x{side}x{side}-{outputs}-{kernel}x{kernel}");
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            with_threads(1, || {
                bencher.iter(|| conv2d_into(x.view(), weight.view(), None, &conv, y.view_mut()))
            });
        });
    }
    group.finish();
}

fn attentions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention");
    let (heads, width) = ATTENTION_HEADS;
    let causal = Attention { causal: true, scale: 0.125 };
    for steps in ATTENTION_STEPS {
        let [q, k, v] =
            [b"queries ", b"keys    ", b"values  "].map(|name| tensor((1, heads, steps, width), name));
        let (mut y, mut log_sums) = (Array4::zeros(q.dim()), Array3::zeros((1, heads, steps)));
        group.bench_function(BenchmarkId::from_parameter(steps), |bencher| {
            with_threads(1, || {
                let (q, k, v) = (q.view(), k.view(), v.view());
                bencher.iter(|| attention_into(q, k, v, &causal, y.view_mut(), log_sums.view_mut()));
            });
        });
    }
    group.finish();
}

fn losses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("softmax_cross_entropy");
    for (rows, classes) in SOFTMAX_SHAPES {
        let (logits, labels) = (matrix(rows, classes, b"logits  "), labels(rows, classes));
        group.throughput(Throughput::Elements((rows * classes) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{rows}x{classes}")), |bencher| {
            with_threads(1, || bencher.iter(|| softmax_cross_entropy(logits.view(), &labels)));
        });
    }
    group.finish();
}

fn permutations(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("permutation");
    for length in PERMUTATION_LENGTHS {
        group.throughput(Throughput::Elements(u64::from(length)));
        group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
            bencher.iter(|| permutation(length, key(b"shuffle ")));
        });
    }
    group.finish();
}

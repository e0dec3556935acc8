//! The kernels under Criterion: `cargo bench -p bitproof-benches`.

use bitproof_benches::inputs::{key, labels, matrix, MATMUL_SHAPES, PERMUTATION_LENGTHS, SOFTMAX_SHAPES};
use bitproof_kernels::{matmul, permutation, softmax_cross_entropy, with_threads};
use criterion::{BenchmarkId, Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    products(&mut criterion);
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

//! Bits that another processor has to give too: a fixed list of kernel calls, a 64-bit digest of the output of each, and the digests
//! that an x86-64 machine gave. `scripts/arm64/test` runs this on aarch64.
//!
//! After a change that moves [`SPEC`](bitproof_kernels::SPEC): `cargo test -p bitproof-kernels --test digests -- --ignored
//! --nocapture`, and the lines between the marks go into `digests.txt`.

use std::collections::BTreeSet;

use bitproof_kernels::{
    adamw_step, axpy_in_place, binary_into, canonical_nan, elementary, log_softmax, matmul, mean, normal,
    permutation, relu_into, sgd_step, softmax_cross_entropy, sum, sum_axis0, sum_f64, with_threads, AdamW,
    BiasCorrection, Binary, Sgd, Stream, StreamKey,
};
use ndarray::{s, Array2, ArrayView1, ArrayViewMut1};

const RECORDED: &str = include_str!("digests.txt");

#[test]
fn outputs_have_the_recorded_bits() {
    let mut recorded = RECORDED.lines();
    for (name, digest) in with_threads(2, digests) {
        assert_eq!(recorded.next(), Some(line(&name, digest).as_str()), "{name}");
    }
    assert_eq!(recorded.next(), None, "a call that is not made any more");
}

#[test]
#[ignore = "prints digests.txt: cargo test -p bitproof-kernels --test digests -- --ignored --nocapture"]
#[expect(clippy::print_stdout, reason = "what it prints is the file")]
fn print_the_digests() {
    let lines: Vec<String> = digests().iter().map(|(name, digest)| line(name, *digest)).collect();
    println!("--- digests.txt\n{}\n---", lines.join("\n"));
    let distinct: BTreeSet<&str> = lines.iter().map(|line| &line[..16]).collect();
    assert_eq!(distinct.len(), lines.len(), "two calls have the same output, so one of them shows nothing");
}

/// The negative control: one bit of one element, a zero's sign or the order of two elements changes the digest; a NaN's payload
/// does not.
#[test]
fn a_digest_notices_one_bit() {
    let values = numbers(1000, 0);
    let mut other = values.clone();
    other[999] = f32::from_bits(other[999].to_bits() ^ 1);
    assert_ne!(digest(&values), digest(&other));
    assert_ne!(digest(&[0.0]), digest(&[-0.0]));
    assert_ne!(digest(&[1.0, 2.0]), digest(&[2.0, 1.0]));
    assert_eq!(digest(&[f32::NAN]), digest(&[-f32::from_bits(0x7f80_0001)]));
}

fn line(name: &str, digest: u64) -> String {
    format!("{digest:016x} {name}")
}

fn digests() -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut add = |name: String, values: &[f32]| found.push((name, digest(values)));

    for (m, k, n) in [(1, 1, 1), (4, 7, 5), (3, 700, 15), (17, 64, 33), (64, 784, 256), (130, 257, 131)] {
        let (a, b) = (matrix(m, k, 1), matrix(k, n, 2));
        let product = matmul(a.view(), b.view()).unwrap();
        add(format!("matmul {m}x{k}x{n}"), product.as_slice().unwrap());
    }
    let (a, b) = (matrix(90, 64, 3), matrix(70, 90, 4));
    let product = matmul(a.t(), b.t()).unwrap();
    add("matmul transposed 64x90x70".to_owned(), product.as_slice().unwrap());

    for count in [0, 1, 63, 65, 16_385, 100_003] {
        add(format!("sum {count}"), &[sum(&numbers(count, 5)), mean(&numbers(count, 6))]);
        let wide: Vec<f64> = numbers(count, 7).into_iter().map(f64::from).collect();
        let bits = sum_f64(&wide).to_bits();
        // The halves as numbers would meet the rule for NaN.
        add(format!("sum_f64 {count}"), &[0, 16, 32, 48].map(|shift| (bits >> shift & 0xffff) as f32));
    }
    add("sum_axis0 300x37".to_owned(), &sum_axis0(matrix(300, 37, 8).view()).unwrap().to_vec());

    let logits = matrix(65, 130, 9);
    let labels: Vec<u32> = (0..65).map(|row| row * 2).collect();
    let (losses, gradient) = softmax_cross_entropy(logits.view(), &labels).unwrap();
    add("softmax_cross_entropy losses 65x130".to_owned(), &losses);
    add("softmax_cross_entropy gradient 65x130".to_owned(), gradient.as_slice().unwrap());
    let stepped = log_softmax(logits.slice(s![..;2, ..;-3]));
    add("log_softmax stepped 33x44".to_owned(), &stepped.iter().copied().collect::<Vec<f32>>());

    let everything: Vec<f32> = (0..=u32::MAX).step_by(65_537).map(f32::from_bits).collect();
    type Function = fn(f32) -> f32;
    let functions: [(&str, Function); 3] =
        [("exp", elementary::exp), ("log", elementary::log), ("tanh", elementary::tanh)];
    for (name, function) in functions {
        add(name.to_owned(), &everything.iter().map(|&x| function(x)).collect::<Vec<f32>>());
    }
    let mut rectified = vec![0.0; everything.len()];
    relu_into(&everything, &mut rectified).unwrap();
    add("relu".to_owned(), &rectified);

    let gradient = numbers(1003, 10);
    let (mut p, mut m, mut v) = (numbers(1003, 11), vec![0.0; 1003], vec![0.0; 1003]);
    let (config, mut correction) = (AdamW::default(), BiasCorrection::default());
    for _ in 0..3 {
        correction.advance(&config);
        adamw_step(&config, &correction, &mut p, &gradient, &mut m, &mut v).unwrap();
    }
    add("adamw 3 steps".to_owned(), &[p, m, v].concat());
    let (mut p, mut u) = (numbers(1003, 12), vec![0.0; 1003]);
    let config = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 1e-3 };
    for _ in 0..3 {
        sgd_step(&config, &mut p, &gradient, &mut u).unwrap();
    }
    add("sgd 3 steps".to_owned(), &[p, u].concat());

    let reversed: Vec<f32> = everything.iter().rev().copied().collect();
    let (x, y) = (ArrayView1::from(&everything), ArrayView1::from(&reversed));
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min] {
        let mut out = vec![0.0; everything.len()];
        binary_into(op, x, y, ArrayViewMut1::from(&mut out)).unwrap();
        add(format!("{op:?}").to_lowercase(), &out);
    }
    let mut scaled = reversed.clone();
    axpy_in_place(0.3, x, ArrayViewMut1::from(&mut scaled)).unwrap();
    add("axpy".to_owned(), &scaled);
    let mut variates = vec![0.0; 10_000];
    normal(0.25, 2.0, &mut variates, &mut Stream::new(StreamKey::from_bytes(*b"digests!")));
    add("normal 10000".to_owned(), &variates);

    let order = permutation(10_000, StreamKey::from_bytes(*b"digests!"));
    add("permutation 10000".to_owned(), &order.iter().map(|&row| row as f32).collect::<Vec<f32>>());
    found
}

/// FNV-1a of the little-endian bytes, every NaN as `0x7fc00000`.
fn digest(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|&value| canonical_nan(value).to_bits().to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Multiples of 2⁻²⁴ in [−½, ½), scaled by 10⁻³, 1 or 100; now and then a zero of either sign or a denormal.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut stream = Stream::new(StreamKey::from_bytes(seed.to_le_bytes()));
    let number = |_| match stream.bounded(16) {
        0 => f32::from_bits(stream.next_u32() & 0x8000_0000),
        1 => f32::from_bits(stream.next_u32() & 0x807f_ffff),
        class => (stream.uniform_f32() - 0.5) * [1e-3, 1.0, 100.0][class as usize % 3],
    };
    (0..count).map(number).collect()
}

fn matrix(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
    Array2::from_shape_vec((rows, columns), numbers(rows * columns, seed)).unwrap()
}

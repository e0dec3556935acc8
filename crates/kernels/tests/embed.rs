//! Embedding and batched products against naive loops, bit for bit, on every instruction set of this processor, for any
//! strides and number of threads.

use bitproof_kernels::{
    batched_matmul_into, batched_matmul_into_with, canonical_nan, embedding_grad_into,
    embedding_grad_into_with, embedding_into, with_threads, Isa, KernelError, Start,
};
use ndarray::{s, Array1, Array2, Array3, Axis};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn bits<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
    values.into_iter().map(|&value| canonical_nan(value).to_bits()).collect()
}

/// Mostly ordinary numbers, with zeros, denormals and any bits among them.
fn value(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let raw = (*state >> 8) as u32;
    match (*state >> 33) % 64 {
        0..=3 => f32::from_bits(raw & 0x8000_0000),
        4..=7 => f32::from_bits(raw & 0x807f_ffff),
        8 => f32::from_bits(raw),
        _ => raw as f32 / 2e9 - 1.0,
    }
}

fn matrix(shape: (usize, usize), seed: u64) -> Array2<f32> {
    let mut state = seed;
    Array2::from_shape_simple_fn(shape, || value(&mut state))
}

fn ids(count: usize, rows: usize, seed: u64) -> Vec<u32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % rows as u32
    };
    (0..count).map(|_| next()).collect()
}

/// The definition of the gradient.
fn summed(dy: &Array2<f32>, ids: &[u32], start: &Array2<f32>) -> Array2<f32> {
    let mut dw = start.clone();
    for (p, &id) in ids.iter().enumerate() {
        for j in 0..dy.ncols() {
            dw[[id as usize, j]] += dy[[p, j]];
        }
    }
    dw
}

fn embeds((rows, width, count, seed, flip): (usize, usize, usize, u64, bool)) -> Result<(), TestCaseError> {
    let (weight, dy) = (matrix((rows, width), seed), matrix((count, width), seed ^ 1));
    let ids = ids(count, rows, seed);
    let laid = |matrix: &Array2<f32>| {
        if flip {
            matrix.t().as_standard_layout().into_owned().reversed_axes()
        } else {
            matrix.clone()
        }
    };
    let mut y = laid(&Array2::from_elem((count, width), 7.0));
    embedding_into(laid(&weight).view(), &ids, y.view_mut()).unwrap();
    for (p, &id) in ids.iter().enumerate() {
        prop_assert_eq!(bits(y.row(p)), bits(weight.row(id as usize)));
    }
    let expected = bits(&summed(&dy, &ids, &weight));
    for isa in Isa::available() {
        let mut dw = laid(&weight);
        embedding_grad_into_with(isa, laid(&dy).view(), &ids, dw.view_mut()).unwrap();
        prop_assert_eq!(&bits(&dw), &expected, "{}", isa.name());
    }
    Ok(())
}

/// Products, rows, depth, columns, seed, whether each operand lies transposed, and the start.
type Case = ([usize; 4], u64, [bool; 3], u8);

fn multiplies(
    ([products, rows, depth, columns], seed, transposed, start): Case,
) -> Result<(), TestCaseError> {
    let mut state = seed;
    let mut stack = |rows: usize, columns: usize, transposed: bool| {
        let shape = if transposed { (products, columns, rows) } else { (products, rows, columns) };
        let stack = Array3::from_shape_simple_fn(shape, || value(&mut state));
        if transposed {
            stack.permuted_axes([0, 2, 1])
        } else {
            stack
        }
    };
    let a = stack(rows, depth, transposed[0]);
    let b = stack(depth, columns, transposed[1]);
    let held = stack(rows, columns, transposed[2]);
    let bias = Array1::from(matrix((1, columns), seed ^ 1).into_raw_vec_and_offset().0);
    let expected = Array3::from_shape_fn(held.dim(), |(p, i, j)| {
        let from = [0.0, bias[j], held[[p, i, j]]][usize::from(start)];
        (0..depth).fold(from, |chain, k| a[[p, i, k]].mul_add(b[[p, k, j]], chain))
    });
    for isa in Isa::available() {
        let mut c = held.clone();
        let start = [Start::Zero, Start::Bias(bias.view()), Start::Accumulate][usize::from(start)];
        batched_matmul_into_with(isa, a.view(), b.view(), start, c.view_mut()).unwrap();
        prop_assert_eq!(bits(&c), bits(&expected), "{}", isa.name());
    }
    Ok(())
}

fn config(cases: u32, seed: u64) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn tables() -> impl Strategy<Value = (usize, usize, usize, u64, bool)> {
    (1usize..20, 0usize..70, 0usize..90, any::<u64>(), any::<bool>())
}

fn stacks() -> impl Strategy<Value = Case> {
    ([0usize..5, 0usize..12, 0usize..30, 0usize..40], any::<u64>(), any::<[bool; 3]>(), 0u8..3)
}

proptest! {
    #![proptest_config(config(400, 41))]
    #[test]
    fn embeddings_are_the_naive_loop(case in tables()) {
        embeds(case)?;
    }
    #[test]
    fn batches_are_the_naive_loop(case in stacks()) {
        multiplies(case)?;
    }
}

proptest! {
    #![proptest_config(config(10_000, 42))]
    #[test]
    #[ignore = "slow: cargo test --release -p bitproof-kernels --test embed -- --ignored"]
    fn embeddings_are_the_naive_loop_often(case in tables()) {
        embeds(case)?;
    }
    #[test]
    #[ignore = "slow: cargo test --release -p bitproof-kernels --test embed -- --ignored"]
    fn batches_are_the_naive_loop_often(case in stacks()) {
        multiplies(case)?;
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (dy, start) = (matrix((4000, 65), 1), matrix((50, 65), 2));
    let ids = ids(4000, 50, 3);
    let expected = bits(&summed(&dy, &ids, &start));
    let a = Array3::from_shape_vec((7, 40, 65), matrix((280, 65), 4).into_raw_vec_and_offset().0).unwrap();
    let b = Array3::from_shape_vec((7, 65, 130), matrix((455, 130), 5).into_raw_vec_and_offset().0).unwrap();
    let product = Array3::from_shape_fn((7, 40, 130), |(p, i, j)| {
        (0..65).fold(0.0f32, |chain, k| a[[p, i, k]].mul_add(b[[p, k, j]], chain))
    });
    for threads in [1, 2, 3, 8] {
        let mut dw = start.clone();
        with_threads(threads, || embedding_grad_into(dy.view(), &ids, dw.view_mut()).unwrap());
        assert_eq!(bits(&dw), expected, "{threads} threads");
        let mut c = Array3::zeros((7, 40, 130));
        with_threads(threads, || batched_matmul_into(a.view(), b.view(), Start::Zero, c.view_mut()).unwrap());
        assert_eq!(bits(&c), bits(&product), "{threads} threads");
        let (one, other) = (s![..1, .., ..], s![1.., .., ..]);
        let mut c = Array3::from_elem((7, 40, 130), 7.0);
        let few = c.slice_mut(one);
        with_threads(threads, || batched_matmul_into(a.slice(one), b.slice(one), Start::Zero, few).unwrap());
        assert_eq!(bits(c.slice(one)), bits(product.slice(one)), "{threads} threads by rows");
        assert!(c.slice(other).iter().all(|&c| c == 7.0));
    }
}

/// The negative control: positions in falling order round differently.
#[test]
fn other_orders_differ() {
    let (mut dy, start) = (matrix((300, 9), 6), matrix((3, 9), 7));
    let mut ids = ids(300, 3, 8);
    let expected = bits(&summed(&dy, &ids, &start));
    ids.reverse();
    dy.invert_axis(Axis(0));
    let mut dw = start.clone();
    embedding_grad_into(dy.view(), &ids, dw.view_mut()).unwrap();
    assert_ne!(bits(&dw), expected);
}

#[test]
fn rows_are_copied_bit_by_bit_from_where_they_lie() {
    let mut source = Array2::from_shape_fn((9, 5), |(i, j)| (i * 10 + j) as f32);
    source[[4, 2]] = f32::from_bits(0x7fa0_0001); // a signalling NaN
    source[[4, 3]] = -0.0;
    let rows = [4, 0, 8, 4];
    let column_major = source.t().as_standard_layout().into_owned();
    for view in [source.view(), source.slice(s![.., ..;-1]), source.slice(s![..;-1, ..]), column_major.t()] {
        let mut wide = Array2::from_elem((4, 11), 7.0f32);
        embedding_into(view, &rows, wide.slice_mut(s![.., ..10;2])).unwrap();
        for (i, &row) in rows.iter().enumerate() {
            for j in 0..5 {
                assert_eq!(wide[[i, 2 * j]].to_bits(), view[[row as usize, j]].to_bits());
            }
        }
        assert!(wide.slice(s![.., 1..;2]).iter().all(|&gap| gap == 7.0));
    }
}

#[test]
fn ids_and_shapes_are_checked() {
    let weight = Array2::<f32>::zeros((4, 2));
    let mut y = Array2::from_elem((3, 2), 7.0f32);
    assert_eq!(
        embedding_into(weight.view(), &[0, 4, 9], y.view_mut()).unwrap_err(),
        KernelError::IndexOutOfRange { kernel: "embedding", at: 1, index: 4, length: 4 }
    );
    let refusal = embedding_into(weight.view(), &[0], y.view_mut()).unwrap_err();
    assert!(matches!(refusal, KernelError::ShapeMismatch { right_name: "y", .. }));
    assert!(y.iter().all(|&y| y == 7.0));
    let mut dw = Array2::from_elem((4, 2), 7.0f32);
    assert_eq!(
        embedding_grad_into(y.view(), &[0, 1, 4], dw.view_mut()).unwrap_err().to_string(),
        "embedding_grad: index 4 at place 2 is out of range; there are 4, counted from 0"
    );
    assert!(dw.iter().all(|&dw| dw == 7.0));
    let stack = |shape| Array3::<f32>::zeros(shape);
    let mut c = stack((2, 3, 5));
    let refused =
        batched_matmul_into(stack((2, 3, 4)).view(), stack((2, 3, 5)).view(), Start::Zero, c.view_mut());
    assert!(matches!(refused.unwrap_err(), KernelError::ShapeMismatch { right_name: "b", .. }));
    let refused =
        batched_matmul_into(stack((2, 3, 4)).view(), stack((2, 4, 6)).view(), Start::Zero, c.view_mut());
    assert!(matches!(refused.unwrap_err(), KernelError::ShapeMismatch { right_name: "c", .. }));
    let bias = Array1::zeros(4);
    let start = Start::Bias(bias.view());
    let refused = batched_matmul_into(stack((2, 3, 4)).view(), stack((2, 4, 5)).view(), start, c.view_mut());
    assert!(matches!(refused.unwrap_err(), KernelError::ShapeMismatch { left_name: "bias", .. }));
}

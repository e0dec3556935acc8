//! The matrix product against a naive triple loop, bit for bit, on every instruction set of this processor, for any strides
//! and number of threads.

use bitproof_kernels::{matmul, matmul_into, matmul_into_with, with_threads, Isa, KernelError, Start};
use ndarray::{s, Array1, Array2, ArrayView2, ShapeBuilder};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The definition, with nothing but the standard library.
fn naive(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, start: &Array2<f32>) -> Array2<f32> {
    let mut c = start.clone();
    for i in 0..a.nrows() {
        for j in 0..b.ncols() {
            for k in 0..a.ncols() {
                c[[i, j]] = a[[i, k]].mul_add(b[[k, j]], c[[i, j]]);
            }
        }
    }
    c
}

/// Bits, with every NaN the same: positions count, payloads do not.
fn bits(c: ArrayView2<'_, f32>) -> Vec<u32> {
    c.iter().map(|&value| bitproof_kernels::canonical_nan(value).to_bits()).collect()
}

/// A value for any 64 bits: mostly ordinary numbers, often zeros and denormals, rarely infinities, NaN and any bits.
fn value(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let (class, raw) = ((*state >> 33) % 64, (*state >> 8) as u32);
    match class {
        0..=3 => f32::from_bits(raw & 0x8000_0000),
        4..=7 => f32::from_bits(raw & 0x807f_ffff),
        8..=9 => f32::from_bits(raw),
        10 if raw % 8 == 0 => f32::INFINITY,
        10 if raw % 8 == 1 => f32::NEG_INFINITY,
        10 if raw % 8 == 2 => f32::NAN,
        11..=14 => 1e-22 * (raw as f32 / 2e9 - 1.0), // products are denormal
        _ => raw as f32 / 2e9 - 1.0,
    }
}

/// A matrix of that shape behind one of six layouts: row-major, column-major, sliced, stepped, reversed, transposed slice.
struct Laid {
    data: Array2<f32>,
    layout: u8,
    shape: (usize, usize),
}

impl Laid {
    fn new(shape: (usize, usize), layout: u8, seed: u64) -> Laid {
        let mut state = seed;
        let (rows, columns) = shape;
        let held = match layout {
            2 => (rows + 3, columns + 5),
            3 => (rows * 2 + 1, columns * 3 + 1),
            5 => (columns + 2, rows + 1),
            _ => shape,
        };
        let mut data = if layout == 1 { Array2::zeros(held.f()) } else { Array2::zeros(held) };
        data.iter_mut().for_each(|element| *element = value(&mut state));
        Laid { data, layout, shape }
    }

    fn view(&self) -> ArrayView2<'_, f32> {
        let (rows, columns) = self.shape;
        match self.layout {
            2 => self.data.slice(s![2..2 + rows, 3..3 + columns]),
            3 => self.data.slice(s![..rows * 2;2, ..columns * 3;3]),
            4 => self.data.slice(s![..;-1, ..;-1]),
            5 => self.data.slice(s![1..1 + columns, ..rows]).reversed_axes(),
            _ => self.data.view(),
        }
    }
}

/// Rows, depth and columns, layouts, seed and start.
type Case = ([usize; 3], [u8; 3], u64, u8);

fn is_the_naive_loop(([m, k, n], layouts, seed, start): Case) -> Result<(), TestCaseError> {
    let a = Laid::new((m, k), layouts[0] % 6, seed);
    let b = Laid::new((k, n), layouts[1] % 6, seed ^ 1);
    let held = Laid::new((m, n), 0, seed ^ 2).data;
    let bias: Array1<f32> = Laid::new((1, n), 0, seed ^ 3).data.row(0).to_owned();
    let from = match start {
        0 => Array2::zeros((m, n)),
        1 => bias.broadcast((m, n)).unwrap().to_owned(),
        _ => held.clone(),
    };
    let expected = naive(a.view(), b.view(), &from);
    for isa in Isa::available() {
        // The result goes into a row-major and into a stepped matrix, whose gaps must stay untouched.
        let mut wide = Array2::from_elem((m, n * 2 + 1), 7.0f32);
        wide.slice_mut(s![.., ..n * 2;2]).assign(&held);
        let mut dense = held.clone();
        for c in [dense.view_mut(), wide.slice_mut(s![.., ..n * 2;2])] {
            let start = match start {
                0 => Start::Zero,
                1 => Start::Bias(bias.view()),
                _ => Start::Accumulate,
            };
            matmul_into_with(isa, a.view(), b.view(), start, c).unwrap();
        }
        prop_assert_eq!(bits(dense.view()), bits(expected.view()), "{}", isa.name());
        prop_assert_eq!(bits(wide.slice(s![.., ..n * 2;2])), bits(expected.view()), "{}", isa.name());
        prop_assert!(wide.slice(s![.., 1..;2]).iter().all(|&gap| gap == 7.0));
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

fn small_shapes() -> impl Strategy<Value = [usize; 3]> {
    (0usize..11, 0usize..40, 0usize..45).prop_map(|(m, k, n)| [m, k, n])
}

/// Rows and columns within one of a multiple of the tiles, 6x16 on AVX2, 8x48 on AVX-512 and 8x12 on NEON; now and then as deep as
/// a block, and then large enough for packing.
fn shapes_at_edges() -> impl Strategy<Value = [usize; 3]> {
    let depth = prop_oneof![19 => 0usize..24, 1 => near_a_multiple(&[256, 512], 512)];
    (near_a_multiple(&[6, 8], 24), depth, near_a_multiple(&[12, 16, 48], 96)).prop_map(|(m, k, n)| [m, k, n])
}

/// A multiple of one of the sides, `most` being the largest, or a neighbour of it.
fn near_a_multiple(sides: &'static [usize], most: usize) -> impl Strategy<Value = usize> {
    (prop::sample::select(sides), 0..=most, 0usize..3)
        .prop_map(move |(side, below, off)| (below / side * side + off).saturating_sub(1))
}

proptest! {
    #![proptest_config(config(600, 2))]
    #[test]
    fn every_path_is_the_naive_loop(shape in small_shapes(), layouts: [u8; 3], seed: u64, start in 0u8..3) {
        is_the_naive_loop((shape, layouts, seed, start))?;
    }
}

proptest! {
    #![proptest_config(config(10_000, 3))]
    #[test]
    #[ignore = "slow: cargo test --release -p bitproof-kernels --test matmul -- --ignored"]
    fn every_path_is_the_naive_loop_often(
        shape in shapes_at_edges(), layouts: [u8; 3], seed: u64, start in 0u8..3,
    ) {
        is_the_naive_loop((shape, layouts, seed, start))?;
    }
}

/// Shapes around the tile of 4 rows and the strips of 16, 8 and 1 columns, and a depth beyond any block.
#[test]
fn tile_edges_agree() {
    for (m, k, n) in
        [(3, 700, 15), (4, 1, 16), (5, 65, 17), (7, 64, 24), (8, 257, 25), (64, 64, 128), (1, 1000, 1)]
    {
        let (a, b) = (Laid::new((m, k), 0, 5), Laid::new((k, n), 0, 6));
        let expected = naive(a.view(), b.view(), &Array2::zeros((m, n)));
        for isa in Isa::available() {
            let mut c = Array2::zeros((m, n));
            matmul_into_with(isa, a.view(), b.view(), Start::Zero, c.view_mut()).unwrap();
            assert_eq!(bits(c.view()), bits(expected.view()), "{m}x{k}x{n} on {}", isa.name());
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let (a, b) = (Laid::new((203, 150), 0, 7), Laid::new((150, 131), 5, 8));
    let expected = naive(a.view(), b.view(), &Array2::zeros((203, 131)));
    for threads in [0, 1, 2, 3, 8] {
        let c = with_threads(threads, || matmul(a.view(), b.view()).unwrap());
        assert_eq!(bits(c.view()), bits(expected.view()), "{threads} threads");
    }
}

/// The negative control: another order of the same sum, or a skipped zero, is seen.
#[test]
fn other_orders_differ() {
    let (a, b) = (Laid::new((8, 100), 0, 9), Laid::new((100, 8), 0, 10));
    let c = matmul(a.view(), b.view()).unwrap();
    let backwards =
        naive(a.view().slice(s![.., ..;-1]), b.view().slice(s![..;-1, ..]), &Array2::zeros((8, 8)));
    assert_ne!(bits(c.view()), bits(backwards.view()));

    let zero_times_infinity =
        matmul(Array2::zeros((1, 1)).view(), Array2::from_elem((1, 1), f32::INFINITY).view()).unwrap();
    assert!(zero_times_infinity[[0, 0]].is_nan());
    let mut negative_zero = Array2::from_elem((1, 20), -0.0f32);
    let (a, b) = (Array2::<f32>::zeros((1, 0)), Array2::<f32>::zeros((0, 20)));
    matmul_into(a.view(), b.view(), Start::Accumulate, negative_zero.view_mut()).unwrap();
    assert!(negative_zero.iter().all(|value| value.to_bits() == 0x8000_0000), "K is never padded with zeros");
}

#[test]
fn shapes_are_checked() {
    let a = Array2::<f32>::zeros((2, 3));
    let b = Array2::<f32>::zeros((4, 5));
    let refusal = matmul(a.view(), b.view()).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "matmul: a has shape [2, 3] but b has shape [4, 5]; a needs as many columns as b has rows"
    );
    let b = Array2::<f32>::zeros((3, 5));
    let mut wrong = Array2::from_elem((2, 4), 1.0f32);
    let refusal = matmul_into(a.view(), b.view(), Start::Zero, wrong.view_mut()).unwrap_err();
    assert!(
        matches!(refusal, KernelError::ShapeMismatch { left, right, .. } if left == [2, 5] && right == [2, 4])
    );
    assert_eq!(wrong, Array2::from_elem((2, 4), 1.0), "a refused product writes nothing");
    let bias = Array1::zeros(4);
    let refusal = matmul_into(a.view(), b.view(), Start::Bias(bias.view()), Array2::zeros((2, 5)).view_mut())
        .unwrap_err();
    assert!(matches!(refusal, KernelError::ShapeMismatch { left_name: "bias", .. }));
    let huge = Array2::<f32>::zeros((1, 1));
    let (tall, wide) = (huge.broadcast((1 << 31, 1)).unwrap(), huge.broadcast((1, 1 << 31)).unwrap());
    assert_eq!(
        matmul(tall, wide).unwrap_err(),
        KernelError::SizeOverflow { kernel: "matmul", rows: 1 << 31, columns: 1 << 31 }
    );
}

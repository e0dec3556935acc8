//! Reductions against their definition, bit for bit, on every instruction set of this processor, over any axis of arrays with
//! any strides, for any number of threads.

use bitproof_kernels::*;
use ndarray::{s, Array, Array1, ArrayD, ArrayViewD, Axis, IxDyn, Zip};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// The documented tree, written as recursion over index sets.
fn tree(values: &[f64], add: fn(f64, f64) -> f64) -> f64 {
    fn fold(chunk: &[f64], first: usize, half: usize, add: fn(f64, f64) -> f64) -> f64 {
        if half == 64 {
            return chunk.iter().skip(first).step_by(64).fold(0.0, |sum, &value| add(sum, value));
        }
        add(fold(chunk, first, half * 2, add), fold(chunk, first + half, half * 2, add))
    }
    let mut level: Vec<f64> = values.chunks(16_384).map(|chunk| fold(chunk, 0, 1, add)).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| if pair.len() == 2 { add(pair[0], pair[1]) } else { pair[0] })
            .collect();
    }
    level.first().copied().unwrap_or(0.0)
}

/// f32 sums: the f64 sum of two f32 rounded to f32 is their f32 sum (53 ≥ 2·24 + 2).
fn tree32(values: &[f32]) -> f32 {
    let wide: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
    tree(&wide, |a, b| f64::from((a + b) as f32)) as f32
}

fn first_largest(values: &[f32]) -> Option<usize> {
    let nan = values.iter().position(|value| value.is_nan());
    nan.or_else(|| (0..values.len()).find(|&index| values.iter().all(|&other| other <= values[index])))
}

fn bits(value: f32) -> u32 {
    canonical_nan(value).to_bits()
}

/// A value for any 64 bits: mostly ordinary numbers, often zeros and denormals, with `wild` also infinities and NaN.
fn value(state: &mut u64, wild: bool) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let (class, raw) = ((*state >> 33) % 64, (*state >> 8) as u32);
    match class {
        0..=3 => f32::from_bits(raw & 0x8000_0000),
        4..=7 => f32::from_bits(raw & 0x807f_ffff),
        8 if wild => f32::from_bits(raw),
        9 if wild => [f32::INFINITY, f32::NEG_INFINITY, f32::NAN][raw as usize % 3],
        10..=12 => 1e20 * (raw as f32 / 2e9 - 1.0),
        _ => raw as f32 / 2e9 - 1.0,
    }
}

fn values(count: usize, seed: u64, wild: bool) -> Vec<f32> {
    let mut state = seed;
    (0..count).map(|_| value(&mut state, wild)).collect()
}

fn on_every_path(check: impl Fn(&str)) {
    for isa in Isa::available() {
        isa.force(|| check(isa.name()));
    }
}

/// Around every register, row of lanes and chunk.
const LENGTHS: [usize; 31] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    47,
    63,
    64,
    65,
    71,
    80,
    127,
    128,
    129,
    1000,
    16_383,
    16_384,
    16_385,
    49_153,
    16_384 * 5 + 7,
    16_384 * 7 + 64,
];

fn check_slice(x: &[f32], path: &str) {
    let count = x.len();
    assert_eq!(bits(sum(x)), bits(tree32(x)), "sum of {count} on {path}");
    let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let squares: Vec<f64> = wide.iter().map(|x| x * x).collect();
    let same =
        |got: f64, expected: f64| got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
    assert!(same(sum_f64(&wide), tree(&wide, |a, b| a + b)), "sum_f64 of {count} on {path}");
    assert!(same(sum_of_squares(x), tree(&squares, |a, b| a + b)), "squares of {count} on {path}");
    let first = first_largest(x);
    assert_eq!(argmax(x), first, "argmax of {count} on {path}");
    let largest = first.map_or(f32::NEG_INFINITY, |index| canonical_nan(x[index]));
    assert_eq!(max(x).to_bits(), largest.to_bits(), "max of {count} on {path}");
}

#[test]
fn slices_of_all_lengths() {
    on_every_path(|path| {
        for (seed, length) in LENGTHS.into_iter().enumerate() {
            for wild in [false, true] {
                check_slice(&values(length, seed as u64, wild), path);
            }
            let zeros: Vec<f32> = (0..length).map(|index| if index % 3 == 1 { 0.0 } else { -0.0 }).collect();
            check_slice(&zeros, path);
        }
        let mut late = vec![1.0; 300];
        late[299] = f32::NAN;
        assert_eq!(argmax(&late), Some(299), "{path}");
        assert_eq!(max(&late).to_bits(), 0x7fc0_0000, "{path}");
    });
}

/// The negative control: another order, or one element moved to another lane, is seen.
#[test]
fn other_orders_differ() {
    let x: Vec<f32> = values(5000, 3, false).into_iter().map(|x| x.clamp(-1.0, 0.9)).collect();
    let in_order = x.iter().fold(0.0f32, |sum, value| sum + value);
    let mut moved = x.clone();
    moved.swap(0, 70);
    on_every_path(|path| {
        assert_ne!(bits(sum(&x)), bits(in_order), "{path}");
        assert_ne!(bits(sum(&x)), bits(sum(&moved)), "{path}");
    });
}

#[test]
fn threads_change_nothing() {
    let x = values(16_384 * 150 + 11, 4, false);
    let expected = bits(tree32(&x));
    let matrix = Array::from_shape_vec((601, 1000), x[..601_000].to_vec()).unwrap();
    for threads in [1, 2, 3, 8] {
        with_threads(threads, || {
            assert_eq!(bits(sum(&x)), expected, "{threads} threads");
            for axis in [0, 1] {
                check_axis(matrix.view().into_dyn(), Axis(axis), &format!("{threads} threads"));
            }
        });
    }
}

fn reduced<T: Clone + Default>(
    x: &ArrayViewD<'_, f32>,
    axis: Axis,
    stepped: bool,
    into: impl FnOnce(ndarray::ArrayViewMutD<'_, T>),
) -> Vec<T> {
    let mut shape = x.shape().to_vec();
    shape.remove(axis.index());
    if !stepped || shape.is_empty() {
        let mut out = ArrayD::from_elem(IxDyn(&shape), T::default());
        into(out.view_mut());
        return out.iter().cloned().collect();
    }
    let mut wide = shape.clone();
    wide[0] = wide[0] * 2 + 1;
    let mut out = ArrayD::from_elem(IxDyn(&wide), T::default());
    let mut places = out.slice_axis_mut(Axis(0), ndarray::Slice::new(0, Some(shape[0] as isize * 2), 2));
    into(places.view_mut());
    places.iter().cloned().collect()
}

/// All reductions of every lane along the axis.
fn check_axis(x: ArrayViewD<'_, f32>, axis: Axis, context: &str) {
    let lanes: Vec<Vec<f32>> = x.lanes(axis).into_iter().map(|lane| lane.to_vec()).collect();
    for stepped in [false, true] {
        let all = |got: Vec<f32>, expected: &dyn Fn(&[f32]) -> f32, name: &str| {
            let got: Vec<u32> = got.into_iter().map(bits).collect();
            let expected: Vec<u32> = lanes.iter().map(|lane| bits(expected(lane))).collect();
            assert!(got == expected, "{name} over {axis:?} of {:?} {context}", x.shape());
        };
        all(reduced(&x, axis, stepped, |out| sum_axis_into(x.view(), axis, out).unwrap()), &tree32, "sum");
        let mean = |lane: &[f32]| (f64::from(tree32(lane)) / lane.len() as f64) as f32;
        all(reduced(&x, axis, stepped, |out| mean_axis_into(x.view(), axis, out).unwrap()), &mean, "mean");
        let largest = |lane: &[f32]| first_largest(lane).map_or(f32::NEG_INFINITY, |at| lane[at]);
        all(reduced(&x, axis, stepped, |out| max_axis_into(x.view(), axis, out).unwrap()), &largest, "max");
        if x.len_of(axis) > 0 {
            let got: Vec<u32> =
                reduced(&x, axis, stepped, |out| argmax_axis_into(x.view(), axis, out).unwrap());
            let expected: Vec<u32> =
                lanes.iter().map(|lane| first_largest(lane).expect("there are elements") as u32).collect();
            assert_eq!(got, expected, "argmax over {axis:?} of {:?} {context}", x.shape());
        }
    }
}

fn any_axis(shape: &[usize], layout: u8, axis: usize, seed: u64, wild: bool) {
    let mut x = Array::from_shape_vec(IxDyn(shape), values(shape.iter().product(), seed, wild)).unwrap();
    let mut view = x.view_mut();
    match layout {
        1 => view.invert_axis(Axis(0)),
        2 => view = view.reversed_axes(),
        3 => view.slice_axis_inplace(Axis(shape.len() - 1), ndarray::Slice::new(0, None, 2)),
        4 => view.swap_axes(0, shape.len() / 2),
        _ => {}
    }
    for isa in Isa::available() {
        isa.force(|| check_axis(view.view(), Axis(axis % shape.len()), isa.name()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(5),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn any_axis_of_any_layout(
        shape in prop::collection::vec(0usize..12, 1..4), long in 0usize..150, place: usize,
        layout in 0u8..5, axis: u8, seed: u64, wild: bool,
    ) {
        let mut shape = shape;
        let place = place % shape.len();
        shape[place] = long;
        any_axis(&shape, layout, axis.into(), seed, wild);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        rng_seed: RngSeed::Fixed(6),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    #[ignore = "a minute: cargo test --release -p bitproof-kernels --test reduce -- --ignored"]
    fn any_axis_of_any_layout_at_length(
        shape in prop::collection::vec(0usize..9, 1..5), long in 0usize..200, place: usize,
        layout in 0u8..5, axis: u8, seed: u64, wild: bool,
    ) {
        let mut shape = shape;
        let place = place % shape.len();
        shape[place] = long;
        any_axis(&shape, layout, axis.into(), seed, wild);
    }
}

#[test]
fn columns_beyond_a_chunk() {
    let x = Array::from_shape_vec((16_384 * 3 + 70, 19), values((16_384 * 3 + 70) * 19, 8, false)).unwrap();
    on_every_path(|path| check_axis(x.slice(s![.., ..18]).into_dyn(), Axis(0), path));
}

/// `ln Σ exp` of a few numbers, from tables, and of every special row.
#[test]
fn logsumexp_of_known_rows() {
    let x = ndarray::array![
        [0.0, 0.0],
        [1000.0, 0.0],
        [f32::NEG_INFINITY, f32::NEG_INFINITY],
        [f32::INFINITY, 0.0],
        [f32::NAN, f32::INFINITY],
        [-3.0, f32::NEG_INFINITY],
    ];
    let expected =
        [std::f32::consts::LN_2, 1000.0, f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -3.0].map(f32::to_bits);
    on_every_path(|path| {
        let mut out = Array1::zeros(6);
        logsumexp_axis_into(x.view(), Axis(1), out.view_mut()).unwrap();
        assert_eq!(out.mapv(f32::to_bits).to_vec(), expected, "{path}");
        let columns = x.t().as_standard_layout().into_owned();
        out.fill(7.0);
        logsumexp_axis_into(columns.view(), Axis(0), out.view_mut()).unwrap();
        assert_eq!(out.mapv(f32::to_bits).to_vec(), expected, "{path}");
        let mut none = Array1::zeros(3);
        logsumexp_axis_into(ndarray::Array2::zeros((3, 0)).view(), Axis(1), none.view_mut()).unwrap();
        assert!(none.iter().all(|&value| value == f32::NEG_INFINITY));
    });
}

#[test]
fn logsumexp_is_the_same_on_every_path() {
    for length in [1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 63, 64, 65, 130, 1000, 16_390] {
        let x = Array::from_shape_vec((3, length), values(3 * length, 11, false)).unwrap() * 20.0;
        let on = |isa: Isa| {
            isa.force(|| {
                let mut out = Array1::zeros(3);
                logsumexp_axis_into(x.view(), Axis(1), out.view_mut()).unwrap();
                out.mapv(f32::to_bits)
            })
        };
        let expected = on(Isa::available()[0]);
        Isa::available()
            .into_iter()
            .for_each(|isa| assert_eq!(on(isa), expected, "{length} on {}", isa.name()));
        let mut near = Array1::zeros(3);
        logsumexp_axis_into(x.view(), Axis(1), near.view_mut()).unwrap();
        Zip::from(&near).and(x.rows()).for_each(|&got, row| {
            let largest = row.iter().copied().fold(f32::MIN, f32::max);
            assert!(got >= largest && got <= largest + (length as f32).log10() * 2.31 + 0.01);
        });
    }
}

#[test]
fn shapes_are_checked() {
    let x = ndarray::Array3::<f32>::zeros((2, 0, 4));
    let mut wrong = ndarray::Array2::zeros((2, 3));
    let refusal = sum_axis_into(x.view(), Axis(1), wrong.view_mut()).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "sum_axis: x has shape [2, 0, 4] but out has shape [2, 3]; out needs the shape of x without the axis"
    );
    let mut positions = ndarray::Array2::zeros((2, 4));
    assert_eq!(
        argmax_axis_into(x.view(), Axis(1), positions.view_mut()),
        Err(KernelError::NoColumns { kernel: "argmax_axis", rows: 8 })
    );
    let mut sums = ndarray::Array2::from_elem((2, 4), 1.0);
    sum_axis_into(x.view(), Axis(1), sums.view_mut()).unwrap();
    assert_eq!(sums, ndarray::Array2::<f32>::zeros((2, 4)), "the sum of nothing is +0");
    argmax_axis_into(x.view(), Axis(0), ndarray::Array2::zeros((0, 4)).view_mut()).unwrap();
}

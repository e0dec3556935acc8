//! Convolution, its gradients and pooling against naive loops, bit for bit, on every instruction set of this processor, for
//! any strides and number of threads.

use bitproof_kernels::{
    conv2d_bias_grad_into_with, conv2d_input_grad_into_with, conv2d_into, conv2d_into_with,
    conv2d_weight_grad_into_with, with_threads, Conv2d, Isa, KernelError,
};
use ndarray::{Array1, Array4, ArrayView4};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Bits, with every NaN the same: positions count, payloads do not.
fn bits<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
    values.into_iter().map(|&value| bitproof_kernels::canonical_nan(value).to_bits()).collect()
}

/// A value for any 64 bits: mostly ordinary numbers, often zeros and denormals, rarely infinities and NaN.
fn value(state: &mut u64, specials: bool) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let (class, raw) = ((*state >> 33) % 256, (*state >> 8) as u32);
    match class {
        0..=15 => f32::from_bits(raw & 0x8000_0000),
        16..=31 => f32::from_bits(raw & 0x807f_ffff),
        32..=40 => 1e-22 * (raw as f32 / 2e9 - 1.0), // products are denormal
        41 if specials && raw.is_multiple_of(4) => f32::INFINITY,
        41 if specials && raw % 4 == 1 => f32::NAN,
        _ => raw as f32 / 2e9 - 1.0,
    }
}

fn array(shape: (usize, usize, usize, usize), seed: u64, specials: bool) -> Array4<f32> {
    let mut state = seed;
    Array4::from_shape_simple_fn(shape, || value(&mut state, specials))
}

/// The same elements in another layout: row-major, channels last, all axes backwards.
fn laid(array: &Array4<f32>, layout: u8) -> Array4<f32> {
    match layout % 3 {
        1 => array
            .view()
            .permuted_axes([0, 2, 3, 1])
            .as_standard_layout()
            .into_owned()
            .permuted_axes([0, 3, 1, 2]),
        2 => {
            let mut other = Array4::zeros(array.raw_dim());
            (0..4).for_each(|axis| other.invert_axis(ndarray::Axis(axis)));
            other.assign(array);
            other
        }
        _ => array.clone(),
    }
}

/// One problem, and the definition of its four results with nothing but the standard library.
#[derive(Debug)]
struct Problem {
    x: Array4<f32>,
    w: Array4<f32>,
    bias: Array1<f32>,
    dy: Array4<f32>,
    conv: Conv2d,
}

impl Problem {
    /// `None` where the kernel does not fit.
    fn new(
        (images, channels, outputs): (usize, usize, usize),
        input: [usize; 2],
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        seed: u64,
        specials: bool,
    ) -> Option<Problem> {
        let places = |axis: usize| {
            (input[axis] + 2 * padding[axis]).checked_sub(kernel[axis]).map(|room| room / stride[axis] + 1)
        };
        let output = [places(0)?, places(1)?];
        Some(Problem {
            x: array((images, channels, input[0], input[1]), seed, specials),
            w: array((outputs, channels, kernel[0], kernel[1]), seed ^ 1, specials && seed.is_multiple_of(3)),
            bias: array((1, 1, 1, outputs), seed ^ 2, specials).into_iter().collect(),
            dy: array((images, outputs, output[0], output[1]), seed ^ 3, specials),
            conv: Conv2d { stride, padding },
        })
    }

    /// The element of the padded input that tap `(u, v)` of place `(i, j)` meets.
    fn input(&self, n: usize, c: usize, [i, j]: [usize; 2], [u, v]: [usize; 2]) -> f32 {
        let ([sy, sx], [py, px]) = (self.conv.stride, self.conv.padding);
        let (row, column) = ((i * sy + u) as i64 - py as i64, (j * sx + v) as i64 - px as i64);
        let (_, _, height, width) = self.x.dim();
        if row < 0 || column < 0 || row >= height as i64 || column >= width as i64 {
            return 0.0;
        }
        self.x[[n, c, row as usize, column as usize]]
    }

    fn forward(&self) -> Array4<f32> {
        let (_, channels, kh, kw) = self.w.dim();
        Array4::from_shape_fn(self.dy.raw_dim(), |(n, o, i, j)| {
            let mut chain = self.bias[o];
            for c in 0..channels {
                for u in 0..kh {
                    for v in 0..kw {
                        chain = self.w[[o, c, u, v]].mul_add(self.input(n, c, [i, j], [u, v]), chain);
                    }
                }
            }
            chain
        })
    }

    fn input_gradient(&self) -> Array4<f32> {
        let (outputs, _, kh, kw) = self.w.dim();
        let ([sy, sx], [py, px]) = (self.conv.stride, self.conv.padding);
        let (_, _, oh, ow) = self.dy.dim();
        Array4::from_shape_fn(self.x.raw_dim(), |(n, c, h, l)| {
            let mut chain = 0.0f32;
            for o in 0..outputs {
                for u in 0..kh {
                    for v in 0..kw {
                        let (down, right) = ((h + py) as i64 - u as i64, (l + px) as i64 - v as i64);
                        if down.rem_euclid(sy as i64) != 0 || right.rem_euclid(sx as i64) != 0 {
                            continue;
                        }
                        let (i, j) = (down.div_euclid(sy as i64), right.div_euclid(sx as i64));
                        let inside = i >= 0 && j >= 0 && i < oh as i64 && j < ow as i64;
                        let dy = if inside { self.dy[[n, o, i as usize, j as usize]] } else { 0.0 };
                        chain = self.w[[o, c, u, v]].mul_add(dy, chain);
                    }
                }
            }
            chain
        })
    }

    fn weight_gradient(&self) -> Array4<f32> {
        let (images, _, oh, ow) = self.dy.dim();
        Array4::from_shape_fn(self.w.raw_dim(), |(o, c, u, v)| {
            let mut chain = 0.0f32;
            for n in 0..images {
                for i in 0..oh {
                    for j in 0..ow {
                        chain = self.input(n, c, [i, j], [u, v]).mul_add(self.dy[[n, o, i, j]], chain);
                    }
                }
            }
            chain
        })
    }

    fn bias_gradient(&self) -> Vec<f32> {
        self.dy.axis_iter(ndarray::Axis(1)).map(|o| o.iter().fold(0.0, |sum, dy| sum + dy)).collect()
    }

    /// All four, on one instruction set, in a layout.
    fn results(&self, isa: Isa, layout: u8) -> [Vec<u32>; 4] {
        let (x, w, dy) = (laid(&self.x, layout), laid(&self.w, layout / 3), laid(&self.dy, layout / 9));
        let blank = |like: ArrayView4<'_, f32>| laid(&Array4::from_elem(like.raw_dim(), 7.0), layout / 27);
        let (mut y, mut dx, mut dw) = (blank(dy.view()), blank(x.view()), blank(w.view()));
        let mut db = Array1::from_elem(self.bias.len(), 7.0);
        let bias = Some(self.bias.view());
        conv2d_into_with(isa, x.view(), w.view(), bias, &self.conv, y.view_mut()).unwrap();
        conv2d_input_grad_into_with(isa, dy.view(), w.view(), &self.conv, dx.view_mut()).unwrap();
        conv2d_weight_grad_into_with(isa, x.view(), dy.view(), &self.conv, dw.view_mut()).unwrap();
        conv2d_bias_grad_into_with(isa, dy.view(), db.view_mut()).unwrap();
        [bits(&y), bits(&dx), bits(&dw), bits(&db)]
    }

    fn expected(&self) -> [Vec<u32>; 4] {
        [
            bits(&self.forward()),
            bits(&self.input_gradient()),
            bits(&self.weight_gradient()),
            bits(&self.bias_gradient()),
        ]
    }
}

/// Extents, image, kernel, stride, padding, seed, layout.
type Case = ((usize, usize, usize), [usize; 2], [usize; 2], [usize; 2], [usize; 2], u64, u8);

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (0usize..3, 0usize..4, 0usize..19);
    let pair = |low: usize, high: usize| [low..high, low..high];
    (sizes, pair(0, 21), pair(1, 5), pair(1, 4), pair(0, 4), any::<u64>(), any::<u8>())
}

fn holds((sizes, input, kernel, stride, padding, seed, layout): Case) -> Result<(), TestCaseError> {
    let Some(problem) = Problem::new(sizes, input, kernel, stride, padding, seed, seed.is_multiple_of(4))
    else {
        return Ok(());
    };
    let expected = problem.expected();
    for isa in Isa::available() {
        let results = problem.results(isa, layout);
        for (name, (result, expected)) in ["y", "dx", "dw", "db"].iter().zip(results.iter().zip(&expected)) {
            prop_assert_eq!(result, expected, "{} on {}", name, isa.name());
        }
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

proptest! {
    #![proptest_config(config(400, 11))]
    #[test]
    fn every_path_is_the_naive_loop(case in cases()) {
        holds(case)?;
    }
}

proptest! {
    #![proptest_config(config(10_000, 12))]
    #[test]
    #[ignore = "slow: cargo test --release -p bitproof-kernels --test conv -- --ignored"]
    fn every_path_is_the_naive_loop_often(case in cases()) {
        holds(case)?;
    }
}

/// Channels around the rows of a tile, widths around registers, and images of more than one band.
#[test]
fn tile_and_band_edges_agree() {
    let edges = [
        ((2, 1, 6), [28, 28], [5, 5], [1, 1], [2, 2]),
        ((2, 6, 16), [14, 14], [5, 5], [1, 1], [0, 0]),
        ((1, 3, 33), [9, 31], [3, 3], [1, 1], [1, 1]),
        ((1, 5, 64), [8, 65], [1, 1], [1, 1], [0, 0]),
        ((1, 17, 15), [11, 11], [7, 7], [2, 2], [3, 3]),
        ((1, 9, 5), [300, 200], [3, 2], [1, 2], [1, 1]),
        ((1, 2, 3), [300, 1000], [2, 3], [2, 1], [0, 1]),
        ((1, 2, 3), [4, 5], [2, 3], [5, 7], [3, 4]),
    ];
    for (case, (sizes, input, kernel, stride, padding)) in edges.into_iter().enumerate() {
        let problem = Problem::new(sizes, input, kernel, stride, padding, case as u64, false).unwrap();
        let expected = problem.expected();
        for isa in Isa::available() {
            assert!(problem.results(isa, 0) == expected, "case {case} on {}", isa.name());
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let problem = Problem::new((3, 16, 40), [28, 28], [3, 3], [1, 1], [1, 1], 5, false).unwrap();
    let expected = problem.expected();
    for threads in [1, 2, 3, 8] {
        assert!(with_threads(threads, || problem.results(Isa::get(), 0)) == expected, "{threads} threads");
    }
}

/// The negative control: taps in another order, or one input a bit larger, are seen.
#[test]
fn other_orders_and_inputs_differ() {
    let problem = Problem::new((1, 3, 4), [9, 9], [3, 3], [1, 1], [1, 1], 6, false).unwrap();
    let expected = problem.expected();
    let mut changed = Problem::new((1, 3, 4), [9, 9], [3, 3], [1, 1], [1, 1], 6, false).unwrap();
    changed.x.invert_axis(ndarray::Axis(1));
    changed.w.invert_axis(ndarray::Axis(1));
    let backwards = changed.results(Isa::get(), 0);
    assert_ne!(backwards[0], expected[0], "channels in falling order");
    let mut changed = Problem::new((1, 3, 4), [9, 9], [3, 3], [1, 1], [1, 1], 6, false).unwrap();
    changed.dy[[0, 1, 4, 4]] += 1.0;
    let results = changed.results(Isa::get(), 0);
    assert_eq!(results[0], expected[0]);
    assert!((1..4).all(|result| results[result] != expected[result]));
}

/// Padding takes part: an infinite weight makes NaN of it.
#[test]
fn padding_takes_part() {
    let (x, w) = (Array4::ones((1, 1, 2, 2)), Array4::from_elem((1, 1, 2, 2), f32::INFINITY));
    let conv = Conv2d { stride: [1, 1], padding: [1, 1] };
    for isa in Isa::available() {
        let mut y = Array4::zeros((1, 1, 3, 3));
        conv2d_into_with(isa, x.view(), w.view(), None, &conv, y.view_mut()).unwrap();
        let nan: Vec<bool> = y.iter().map(|y: &f32| y.is_nan()).collect();
        assert_eq!(nan, [true, true, true, true, false, true, true, true, true], "{}", isa.name());
    }
}

#[test]
fn shapes_are_checked() {
    let (x, w) = (Array4::<f32>::zeros((1, 2, 4, 4)), Array4::<f32>::zeros((3, 2, 5, 5)));
    let mut y = Array4::from_elem((1, 3, 1, 1), 7.0);
    let conv = Conv2d::default();
    let refusal = conv2d_into(x.view(), w.view(), None, &conv, y.view_mut()).unwrap_err();
    assert!(matches!(refusal, KernelError::Window { axis: 2, length: 4, window: 5, .. }));
    let conv = Conv2d { stride: [1, 0], padding: [1, 1] };
    let refusal = conv2d_into(x.view(), w.view(), None, &conv, y.view_mut()).unwrap_err();
    assert!(matches!(refusal, KernelError::Window { axis: 3, stride: 0, .. }));
    let conv = Conv2d { stride: [1, 1], padding: [1, 1] };
    let refusal = conv2d_into(x.view(), w.view(), None, &conv, y.view_mut()).unwrap_err();
    assert!(matches!(refusal, KernelError::ShapeMismatch { left, .. } if left == [1, 3, 2, 2]));
    let x = Array4::<f32>::zeros((1, 1, 4, 4));
    let refusal = conv2d_into(x.view(), w.view(), None, &conv, y.view_mut()).unwrap_err();
    assert!(matches!(refusal, KernelError::ShapeMismatch { right_name: "weight", .. }));
    let bias = Array1::<f32>::zeros(2);
    let x = Array4::<f32>::zeros((1, 2, 3, 3));
    let refusal = conv2d_into(x.view(), w.view(), Some(bias.view()), &conv, y.view_mut()).unwrap_err();
    assert!(matches!(refusal, KernelError::ShapeMismatch { left_name: "bias", .. }));
    assert!(y.iter().all(|&y| y == 7.0), "a refused convolution writes nothing");
}

//! Elementary functions: against CORE-MATH, every instruction set against the scalar specification, and over arrays of any
//! layout with any number of threads. `examples/exhaustive.rs` does the first two for all inputs.

use bitproof_kernels::elementary::{
    gelu, gelu_grad, gelu_with_grad_into_with, unary_into, unary_into_with, Unary,
};
use bitproof_kernels::{canonical_nan, with_threads, Isa, KernelError};
use ndarray::{s, Array1, Array2, Array3, ArrayView1, ArrayView2, ArrayViewD, ArrayViewMut1, Axis};
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseResult};

type Oracle = fn(f32) -> f32;

const CORRECTLY_ROUNDED: [(Unary, Oracle); 7] = [
    (Unary::Exp, core_math::expf),
    (Unary::Log, core_math::logf),
    (Unary::Tanh, core_math::tanhf),
    (Unary::Erf, core_math::erff),
    (Unary::Sin, core_math::sinf),
    (Unary::Cos, core_math::cosf),
    (Unary::Rsqrt, core_math::rsqrtf),
];

/// Where results turn, and inputs whose result is hard to round: by the tables of CORE-MATH's `sinf`, `cosf` and `rsqrtf`.
const EDGES: [u32; 30] = [
    0x0000_0000,
    0x0080_0000, // smallest normal
    0x3380_0000, // 2^-24, where exp leaves 1
    0x3f80_0000, // 1
    0x42b1_7218, // exp overflows
    0x42ae_ac50, // exp of minus this turns denormal
    0x42cf_f1b5, // exp of minus this underflows
    0x4110_2cb4, // tanh reaches 1
    0x3f34_0000, // 0.703125, the first interval of log
    0x407a_d444, // erf reaches 1
    0x40c0_0000, // 6, where erf is clamped
    0x3f49_0fdb, // π/4
    0x3fc9_0fdb, // π/2
    0x4049_0fdb, // π
    0x4600_0000, // 8192
    0x3f3a_dc51, // sin
    0x3fa7_832a, // sin
    0x4116_cbe4, // sin
    0x4619_9998, // sin
    0x4096_cbe4, // cos
    0x5922_aa80, // cos
    0x5aa4_542c, // cos
    0x5f18_b878, // cos
    0x6115_cb11, // cos
    0x002f_7e2a, // rsqrt
    0x0055_b7bd, // rsqrt
    0x3fa3_9422, // 1.278, where the derivative of SiLU is 0 on the negative side
    0x3f40_7ae1, // 0.752, where that of GELU is
    0x4168_0000, // 14.5, where the tail of GELU is clamped
    0x7f80_0000,
];

/// Every 4099th bit pattern, a prime stride that meets all exponents, and 2048 around each edge of either sign.
fn inputs() -> Vec<f32> {
    let around = |bits: u32| (0..2048u32).map(move |i| bits.wrapping_add(i).wrapping_sub(1024));
    let signed = EDGES.into_iter().flat_map(|bits| [bits, bits ^ 0x8000_0000]);
    (0..=u32::MAX).step_by(4099).chain(signed.flat_map(around)).map(f32::from_bits).collect()
}

fn bits<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
    values.into_iter().map(|value| value.to_bits()).collect()
}

/// Inputs where two functions do not agree to the bit.
fn mismatches(inputs: &[f32], ours: impl Fn(f32) -> f32, theirs: impl Fn(f32) -> f32) -> Vec<u32> {
    let differ = |&&x: &&f32| ours(x).to_bits() != theirs(x).to_bits();
    bits(inputs.iter().filter(differ))
}

#[test]
fn seven_are_correctly_rounded() {
    let inputs = inputs();
    for (function, oracle) in CORRECTLY_ROUNDED {
        let differing = mismatches(&inputs, |x| function.of(x), |x| canonical_nan(oracle(x)));
        assert_eq!(differing, [], "{}", function.name());
    }
}

/// The negative control: an error of 2^-40 is found.
#[test]
fn a_small_error_is_found() {
    let off = |x: f32| (core_math::exp(f64::from(x)) * (1.0 + 1e-12)) as f32;
    assert!(!mismatches(&inputs(), off, |x| canonical_nan(core_math::expf(x))).is_empty());
}

/// Within 0.501 units in the last place of the true value, which f64 knows well enough; in the two derivatives that pass through
/// zero 2⁻⁴³ comes on top.
#[test]
fn activations_are_near_the_true_value() {
    let phi = |x: f64| 0.5 * core_math::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
    let density = |x: f64| 0.398_942_280_401_432_7 * core_math::exp(-0.5 * x * x);
    let sigma = |x: f64| 1.0 / (1.0 + core_math::exp(-x));
    type Truth<'a> = &'a dyn Fn(f64) -> f64;
    let cases: [(Unary, Truth<'_>, f64); 6] = [
        (Unary::Sigmoid, &sigma, 0.0),
        (Unary::SigmoidGrad, &|x| sigma(x) * sigma(-x), 0.0),
        (Unary::Silu, &|x| x * sigma(x), 0.0),
        (Unary::SiluGrad, &|x| sigma(x) * (1.0 + x * sigma(-x)), 1.2e-13),
        (Unary::Gelu, &|x| x * phi(x), 0.0),
        (Unary::GeluGrad, &|x| phi(x) + x * density(x), 1.2e-13),
    ];
    let inputs = inputs();
    for (function, truth, near_zero) in cases {
        let far = inputs.iter().filter(|x| x.abs() < 1e4).find(|&&x| {
            let truth = truth(f64::from(x));
            let magnitude = (truth.abs() as f32).max(f32::MIN_POSITIVE);
            let unit = f64::from(f32::from_bits(magnitude.to_bits() + 1)) - f64::from(magnitude);
            (f64::from(function.of(x)) - truth).abs() > 0.501 * unit + near_zero
        });
        assert_eq!(far, None, "{} = {:?}", function.name(), far.map(|&x| function.of(x)));
    }
}

#[test]
fn activations_at_the_ends() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let cases = [
        (Unary::Sigmoid, [0.0, 0.5, 0.5, 1.0]),
        (Unary::SigmoidGrad, [0.0, 0.25, 0.25, 0.0]),
        (Unary::Silu, [-0.0, -0.0, 0.0, inf]),
        (Unary::SiluGrad, [-0.0, 0.5, 0.5, 1.0]),
        (Unary::Gelu, [-0.0, -0.0, 0.0, inf]),
        (Unary::GeluGrad, [-0.0, 0.5, 0.5, 1.0]),
    ];
    for (function, expected) in cases {
        let got = [-inf, -0.0, 0.0, inf].map(|x| function.of(x));
        assert_eq!(bits(&got), bits(&expected), "{}", function.name());
        assert_eq!(function.of(-nan).to_bits(), 0x7fc0_0000, "{}", function.name());
    }
}

#[test]
fn every_path_is_the_specification() {
    let inputs = inputs();
    for function in Unary::ALL {
        let expected: Vec<u32> = inputs.iter().map(|&x| function.of(x).to_bits()).collect();
        for isa in Isa::available() {
            let mut out = vec![9.0; inputs.len()];
            let views = (ArrayView1::from(&inputs), ArrayViewMut1::from(&mut out));
            unary_into_with(isa, function, views.0, views.1).unwrap();
            assert!(bits(&out) == expected, "{} on {}", function.name(), isa.name());
        }
    }
}

/// Both at once have the bits of each, for all inputs above and for every length of a tail, on any number of threads.
#[test]
fn gelu_with_its_derivative_is_both() {
    let inputs = inputs();
    for (length, threads) in (0..70).map(|length| (length, 1)).chain([(inputs.len(), 1), (inputs.len(), 3)]) {
        let x = &inputs[inputs.len() - length..];
        let values: Vec<u32> = x.iter().map(|&x| gelu(x).to_bits()).collect();
        let derivatives: Vec<u32> = x.iter().map(|&x| gelu_grad(x).to_bits()).collect();
        for isa in Isa::available() {
            let (mut y, mut slopes) = (vec![9.0; length], vec![9.0; length]);
            with_threads(threads, || gelu_with_grad_into_with(isa, x, &mut y, &mut slopes)).unwrap();
            let same = bits(&y) == values && bits(&slopes) == derivatives;
            assert!(same, "{length} on {} with {threads} threads", isa.name());
        }
    }
    // The negative control: they are not each other's.
    assert_ne!(gelu(1.0).to_bits(), gelu_grad(1.0).to_bits());
    for (y, slopes) in [(1, 2), (2, 1)] {
        let (mut y, mut slopes) = (vec![9.0; y], vec![9.0; slopes]);
        let refusal = gelu_with_grad_into_with(Isa::get(), &[1.0, 2.0], &mut y, &mut slopes);
        assert!(matches!(refusal, Err(KernelError::ShapeMismatch { .. })));
        assert!(y.iter().chain(&slopes).all(|&x| x == 9.0), "nothing is written");
    }
}

/// A value for any 64 bits: ordinary numbers, now and then any bits, zeros, denormals, infinities and NaN.
fn value(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let (class, raw) = ((*state >> 33) % 32, (*state >> 8) as u32);
    match class {
        0 => f32::from_bits(raw & 0x8000_0000),
        1 => f32::from_bits(raw & 0x807f_ffff),
        2..=4 => f32::from_bits(raw),
        5 => f32::from_bits(0x7f80_0000 | raw & 0x8000_0000),
        6 => f32::from_bits(0x7f80_0000 | raw),
        _ => raw as f32 / 2e8 - 10.7,
    }
}

fn values(count: usize, mut seed: u64) -> Vec<f32> {
    (0..count).map(|_| value(&mut seed)).collect()
}

/// Every length to beyond four registers: all positions of a lane in blocks and in tails.
#[test]
fn every_length_agrees() {
    for function in Unary::ALL {
        for length in 0..70 {
            let x = Array1::from(values(length, 11 + length as u64));
            let expected: Vec<u32> = x.iter().map(|&x| function.of(x).to_bits()).collect();
            for isa in Isa::available() {
                let mut out = Array1::from_elem(length, 9.0f32);
                unary_into_with(isa, function, x.view(), out.view_mut()).unwrap();
                assert_eq!(bits(&out), expected, "{} of {length} on {}", function.name(), isa.name());
            }
        }
    }
}

/// One random array in a random layout, to a result in another one whose gaps stay as they are.
fn check(shape: (usize, usize), layouts: (u8, u8), function: usize, seed: u64) -> TestCaseResult {
    let function = Unary::ALL[function % Unary::ALL.len()];
    let (rows, columns) = shape;
    let mut state = seed;
    let wide = Array2::from_shape_simple_fn((rows * 2 + 1, columns * 3 + 1), || value(&mut state));
    let tall = Array2::from_shape_simple_fn((columns, rows), || value(&mut state));
    let dense = Array2::from_shape_simple_fn(shape, || value(&mut state));
    let x: ArrayView2<'_, f32> = match layouts.0 % 4 {
        0 => dense.view(),
        1 => tall.t(),
        2 => wide.slice(s![..rows * 2;2, ..columns * 3;3]),
        _ => dense.slice(s![..;-1, ..;-1]),
    };
    let expected = bits(&x.mapv(|x| function.of(x)));
    for isa in Isa::available() {
        let (mut plain, mut turned) = (Array2::zeros(shape), Array2::zeros((columns, rows)));
        let mut gaps = Array2::from_elem((rows, columns * 2 + 1), 7.0f32);
        let out = match layouts.1 % 3 {
            0 => plain.view_mut(),
            1 => turned.view_mut().reversed_axes(),
            _ => gaps.slice_mut(s![.., ..columns * 2;2]),
        };
        let mut out = out;
        unary_into_with(isa, function, x, out.view_mut()).unwrap();
        prop_assert_eq!(bits(&out), &expected[..], "{} on {}", function.name(), isa.name());
        prop_assert!(gaps.slice(s![.., 1..;2]).iter().all(|&gap| gap == 7.0));
    }
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(6),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(500))]
    #[test]
    fn every_layout_agrees(
        shape in (0usize..20, 0usize..50), layouts: (u8, u8), function in 0usize..13, seed: u64,
    ) {
        check(shape, layouts, function, seed)?;
    }
}

proptest! {
    #![proptest_config(config(130_000))]
    #[test]
    #[ignore = "minutes: cargo test --release -p bitproof-kernels --test elementary -- --ignored"]
    fn every_layout_agrees_in_many_cases(
        shape in (0usize..40, 0usize..90), layouts: (u8, u8), function in 0usize..13, seed: u64,
    ) {
        check(shape, layouts, function, seed)?;
    }
}

#[test]
fn axes_of_any_number_and_size() {
    let x = Array3::from_shape_vec((3, 1, 5), values(15, 3)).unwrap();
    let expected: Vec<u32> = x.iter().map(|&x| Unary::Silu.of(x).to_bits()).collect();
    let mut out = Array3::zeros((3, 1, 5));
    unary_into(Unary::Silu, x.view(), out.view_mut()).unwrap();
    assert_eq!(bits(&out), expected);
    let mut out = Array3::zeros((3, 1, 5)).into_dyn();
    let view: ArrayViewD<'_, f32> = x.view().into_dyn();
    unary_into(Unary::Silu, view, out.view_mut()).unwrap();
    assert_eq!(bits(&out), expected);
    // One row for all of them: a stride of 0.
    let row = Array1::from(values(40, 4));
    let mut out = Array2::zeros((9, 40));
    unary_into(Unary::Tanh, row.broadcast((9, 40)).unwrap(), out.view_mut()).unwrap();
    for got in out.axis_iter(Axis(0)) {
        assert_eq!(bits(got), bits(&row.mapv(|x| Unary::Tanh.of(x))));
    }
    let mut scalar = ndarray::arr0(0.0);
    unary_into(Unary::Exp, ndarray::arr0(1.0).view(), scalar.view_mut()).unwrap();
    assert_eq!(scalar.into_scalar(), std::f32::consts::E);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let x = Array1::from(values(200_003, 5));
    for function in [Unary::Log, Unary::Sin, Unary::Gelu] {
        let expected: Vec<u32> = x.iter().map(|&x| function.of(x).to_bits()).collect();
        for threads in [1, 2, 3, 8] {
            let mut out = Array1::zeros(x.len());
            with_threads(threads, || unary_into(function, x.view(), out.view_mut())).unwrap();
            assert!(bits(&out) == expected, "{} with {threads} threads", function.name());
        }
    }
}

#[test]
fn shapes_are_checked() {
    let refusal =
        unary_into(Unary::Erf, Array2::zeros((2, 3)).view(), Array2::zeros((3, 2)).view_mut()).unwrap_err();
    assert!(matches!(&refusal, KernelError::ShapeMismatch { kernel: "erf", left, right, .. }
        if left == &[2, 3] && right == &[3, 2]));
    assert!(refusal.to_string().contains("the same shape"));
}

#[test]
fn names_are_those_of_the_variants() {
    for function in Unary::ALL {
        assert_eq!(function.name().replace('_', ""), format!("{function:?}").to_lowercase());
    }
}

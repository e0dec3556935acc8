//! Softmax, cross-entropy and layer norm: every instruction set against the scalar specification, bit for bit, and the
//! specification against plain sums and differences.

use bitproof_kernels::*;
use ndarray::{s, Array1, Array2, ArrayView1, ArrayView2};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// A value for any 64 bits: mostly ordinary numbers, often zeros and denormals, with `wild` also infinities and NaN.
fn value(state: &mut u64, wild: bool) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let (class, raw) = ((*state >> 33) % 1024, (*state >> 8) as u32);
    match class {
        0..=40 => f32::from_bits(raw & 0x8000_0000),
        41..=80 => f32::from_bits(raw & 0x807f_ffff),
        81 if wild => f32::from_bits(raw),
        82 if wild => [f32::INFINITY, f32::NEG_INFINITY, f32::NAN][raw as usize % 3],
        83..=90 => 900.0 * (raw as f32 / 2e9 - 1.0),
        _ => 4.0 * (raw as f32 / 2e9 - 1.0),
    }
}

fn matrix(rows: usize, columns: usize, seed: u64, wild: bool) -> Array2<f32> {
    let mut state = seed;
    Array2::from_shape_simple_fn((rows, columns), || value(&mut state, wild))
}

fn bits<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
    values.into_iter().map(|&value| canonical_nan(value).to_bits()).collect()
}

/// The operands of all kernels of this file, `x` in one of four layouts.
struct Operands {
    x: Array2<f32>,
    dy: Array2<f32>,
    layout: u8,
    shape: (usize, usize),
}

impl Operands {
    fn new(rows: usize, columns: usize, layout: u8, seed: u64, wild: bool) -> Operands {
        let x = match layout {
            1 => matrix(columns, rows, seed, wild),
            2 => matrix(rows, columns * 2 + 1, seed, wild),
            _ => matrix(rows, columns, seed, wild),
        };
        Operands { x, dy: matrix(rows, columns, seed ^ 1, wild), layout, shape: (rows, columns) }
    }

    fn x(&self) -> ArrayView2<'_, f32> {
        match self.layout {
            1 => self.x.t(),
            2 => self.x.slice(s![.., ..self.shape.1 * 2;2]),
            3 => self.x.slice(s![..;-1, ..;-1]),
            _ => self.x.view(),
        }
    }

    /// The bits of all results, by the name of the kernel. Results go into stepped matrices.
    fn results(&self) -> Vec<(&'static str, Vec<u32>)> {
        let (rows, columns) = self.shape;
        let x = self.x();
        let into = |kernel: &dyn Fn(ndarray::ArrayViewMut2<'_, f32>)| {
            let mut wide = Array2::from_elem((rows, columns * 2 + 1), 7.0);
            kernel(wide.slice_mut(s![.., ..columns * 2;2]));
            assert!(wide.slice(s![.., 1..;2]).iter().all(|&gap| gap == 7.0));
            let mut dense = Array2::from_elem((rows, columns), 7.0);
            kernel(dense.view_mut());
            assert_eq!(bits(wide.slice(s![.., ..columns * 2;2])), bits(&dense), "layout of the result");
            dense
        };
        let softmax = into(&|y| softmax_into(x, y).unwrap());
        let log = into(&|y| log_softmax_into(x, y).unwrap());
        let dy = self.dy.view();
        let softmax_grad = into(&|dx| softmax_grad_into(softmax.view(), dy, dx).unwrap());
        let log_grad = into(&|dx| log_softmax_grad_into(log.view(), dy, dx).unwrap());
        let of_any = into(&|dx| log_softmax_grad_into(x, dy, dx).unwrap());
        let (gamma, beta) = (matrix(1, columns, 3, false), matrix(1, columns, 4, false));
        let (gamma, beta) = (gamma.row(0), beta.row(0));
        let mut moments = vec![RowMoments::default(); rows];
        let mut norm = Array2::zeros((rows, columns));
        layer_norm_into(x, gamma, beta, 1e-5, norm.view_mut(), &mut moments).unwrap();
        let (mut dgamma, mut dbeta) = (Array1::zeros(columns), Array1::zeros(columns));
        let mut dx = Array2::zeros((rows, columns));
        layer_norm_grad_into(x, gamma, &moments, dy, dx.view_mut(), dgamma.view_mut(), dbeta.view_mut())
            .unwrap();
        let narrow: Vec<f32> = moments.iter().flat_map(|m| [m.mean as f32, m.inverse_std as f32]).collect();
        let mut all = vec![
            ("softmax", bits(&softmax)),
            ("log_softmax", bits(&log)),
            ("softmax_grad", bits(&softmax_grad)),
            ("log_softmax_grad", bits(&log_grad)),
            ("log_softmax_grad of any numbers", bits(&of_any)),
            ("layer_norm", bits(&norm)),
            ("moments", bits(&narrow)),
            ("layer_norm_grad", bits(&dx)),
            ("dgamma", bits(&dgamma)),
            ("dbeta", bits(&dbeta)),
        ];
        if columns > 0 {
            let labels: Vec<u32> = (0..rows).map(|row| (row * 5 % columns) as u32).collect();
            let mut losses = vec![0.0; rows];
            let gradient = into(&|gradient| {
                softmax_cross_entropy(x, &labels)
                    .map(|got| {
                        let mut gradient = gradient;
                        gradient.assign(&got.1)
                    })
                    .unwrap()
            });
            let mut again = Array2::zeros((rows, columns));
            softmax_cross_entropy_into(x, &labels, &mut losses, again.view_mut()).unwrap();
            assert_eq!(bits(&gradient), bits(&again));
            all.extend([("losses", bits(&losses)), ("cross-entropy gradient", bits(&gradient))]);
        }
        all
    }
}

fn every_path_is_scalar(rows: usize, columns: usize, layout: u8, seed: u64, wild: bool) {
    let operands = Operands::new(rows, columns, layout, seed, wild);
    let paths = Isa::available();
    let expected = paths[0].force(|| operands.results());
    for isa in &paths[1..] {
        let got = isa.force(|| operands.results());
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got, expected, "{rows}x{columns} on {}", isa.name());
        }
    }
}

#[test]
fn all_widths_around_registers_and_chunks() {
    for columns in (0..36).chain([47, 48, 49, 63, 64, 65, 66, 80, 127, 128, 129, 200, 1000]) {
        for wild in [false, true] {
            every_path_is_scalar(3, columns, 0, columns as u64, wild);
        }
    }
    for columns in [16_383, 16_384, 16_385, 16_384 * 3 + 5] {
        every_path_is_scalar(2, columns, 0, 9, false);
    }
    every_path_is_scalar(0, 5, 0, 0, false);
    every_path_is_scalar(300, 10, 1, 0, true);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(7),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn every_path_is_the_specification(
        rows in 0usize..8, columns in 0usize..90, layout in 0u8..4, seed: u64, wild: bool,
    ) {
        every_path_is_scalar(rows, columns, layout, seed, wild);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        rng_seed: RngSeed::Fixed(8),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    #[ignore = "a minute: cargo test --release -p bitproof-kernels --test rows -- --ignored"]
    fn every_path_is_the_specification_at_length(
        rows in 0usize..12, columns in 0usize..300, layout in 0u8..4, seed: u64, wild: bool,
    ) {
        every_path_is_scalar(rows, columns, layout, seed, wild);
    }
}

#[test]
fn threads_change_nothing() {
    let operands = Operands::new(700, 131, 0, 1, false);
    let expected = with_threads(1, || operands.results());
    for threads in [2, 3, 8] {
        assert!(with_threads(threads, || operands.results()) == expected, "{threads} threads");
    }
}

/// The negative control: one input moved by one unit in the last place changes some result of every kernel.
#[test]
fn one_bit_is_noticed() {
    let mut operands = Operands::new(2, 40, 0, 5, false);
    let before = operands.results();
    operands.x[[1, 7]] = 3.25;
    operands.dy[[1, 7]] = f32::from_bits(operands.dy[[1, 7]].to_bits() ^ 0x40_0000);
    for (before, after) in before.iter().zip(operands.results()) {
        assert_ne!(before.1, after.1, "{}", before.0);
    }
}

/// `Σ v_i`, element `i` in accumulator `i mod 16`, folded 8, 4, 2, 1.
fn sixteen(values: &[f64]) -> f64 {
    let chain = |first: usize| values.iter().skip(first).step_by(16).fold(0.0, |sum, value| sum + value);
    let eight = |l: usize| chain(l) + chain(l + 8);
    let four = |l: usize| eight(l) + eight(l + 4);
    let two = |l: usize| four(l) + four(l + 2);
    two(0) + two(1)
}

#[test]
fn layer_norm_is_its_formula() {
    let (rows, columns) = (5, 37);
    let x = matrix(rows, columns, 21, false);
    let dy = matrix(rows, columns, 22, false);
    let (gamma, beta) = (matrix(1, columns, 23, false), matrix(1, columns, 24, false));
    let mut moments = vec![RowMoments::default(); rows];
    let (mut y, mut dx) = (x.clone(), x.clone());
    let (mut dgamma, mut dbeta) = (Array1::zeros(columns), Array1::zeros(columns));
    layer_norm_into(x.view(), gamma.row(0), beta.row(0), 1e-3, y.view_mut(), &mut moments).unwrap();
    layer_norm_grad_into(
        x.view(),
        gamma.row(0),
        &moments,
        dy.view(),
        dx.view_mut(),
        dgamma.view_mut(),
        dbeta.view_mut(),
    )
    .unwrap();
    let wide = |row: ArrayView1<'_, f32>| -> Vec<f64> { row.iter().map(|&x| f64::from(x)).collect() };
    let (gamma, beta) = (wide(gamma.row(0)), wide(beta.row(0)));
    let mut column_sums = vec![(0.0, 0.0); columns];
    for row in 0..rows {
        let (x, dy) = (wide(x.row(row)), wide(dy.row(row)));
        let mean = sixteen(&x) / 37.0;
        let squares: Vec<f64> = x.iter().map(|x| (x - mean) * (x - mean)).collect();
        let inverse_std = 1.0 / (sixteen(&squares) / 37.0 + f64::from(1e-3f32)).sqrt();
        assert_eq!(moments[row], RowMoments { mean, inverse_std });
        let normal: Vec<f64> = x.iter().map(|x| (x - mean) * inverse_std).collect();
        let g: Vec<f64> = dy.iter().zip(&gamma).map(|(dy, gamma)| dy * gamma).collect();
        let products: Vec<f64> = g.iter().zip(&normal).map(|(g, x)| g * x).collect();
        let (a, b) = (sixteen(&g) / 37.0, sixteen(&products) / 37.0);
        for i in 0..columns {
            assert_eq!(y[[row, i]], (normal[i] * gamma[i] + beta[i]) as f32);
            assert_eq!(dx[[row, i]], (inverse_std * ((g[i] - a) - normal[i] * b)) as f32);
            column_sums[i].0 += dy[i] * normal[i];
            column_sums[i].1 += dy[i];
        }
    }
    for (i, sums) in column_sums.into_iter().enumerate() {
        assert_eq!((dgamma[i], dbeta[i]), (sums.0 as f32, sums.1 as f32));
    }
}

/// Gradients against central differences of a weighted sum of the results.
#[test]
fn gradients_are_slopes() {
    let x = matrix(1, 9, 31, false);
    let dy = matrix(1, 9, 32, false);
    let gamma = matrix(1, 9, 33, false);
    let beta = Array1::<f32>::zeros(9);
    let norm = |x: ArrayView2<'_, f32>, y: ndarray::ArrayViewMut2<'_, f32>| {
        layer_norm_into(x, gamma.row(0), beta.view(), 1e-1, y, &mut [RowMoments::default()]).unwrap();
    };
    let norm_grad = |x: ArrayView2<'_, f32>, dx: ndarray::ArrayViewMut2<'_, f32>| {
        let (mut y, mut moments) = (Array2::zeros((1, 9)), [RowMoments::default()]);
        layer_norm_into(x, gamma.row(0), beta.view(), 1e-1, y.view_mut(), &mut moments).unwrap();
        let (mut dgamma, mut dbeta) = (Array1::zeros(9), Array1::zeros(9));
        layer_norm_grad_into(x, gamma.row(0), &moments, dy.view(), dx, dgamma.view_mut(), dbeta.view_mut())
            .unwrap();
    };
    type Kernel<'a> = &'a dyn Fn(ArrayView2<'_, f32>, ndarray::ArrayViewMut2<'_, f32>);
    let of_result = |forward: Kernel<'_>, x: ArrayView2<'_, f32>| {
        let mut y = Array2::zeros((1, 9));
        forward(x, y.view_mut());
        y
    };
    let softmax: Kernel<'_> = &|x, y| softmax_into(x, y).unwrap();
    let log: Kernel<'_> = &|x, y| log_softmax_into(x, y).unwrap();
    let softmax_grad: Kernel<'_> =
        &|x, dx| softmax_grad_into(of_result(softmax, x).view(), dy.view(), dx).unwrap();
    let log_grad: Kernel<'_> =
        &|x, dx| log_softmax_grad_into(of_result(log, x).view(), dy.view(), dx).unwrap();
    for (forward, backward) in [(softmax, softmax_grad), (log, log_grad), (&norm, &norm_grad)] {
        let weighted = |x: &Array2<f32>| {
            let y = of_result(forward, x.view());
            y.iter().zip(&dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum::<f64>()
        };
        let mut dx = Array2::zeros((1, 9));
        backward(x.view(), dx.view_mut());
        for i in 0..9 {
            let (mut above, mut below) = (x.clone(), x.clone());
            above[[0, i]] += 1.0 / 128.0;
            below[[0, i]] -= 1.0 / 128.0;
            let slope = (weighted(&above) - weighted(&below)) * 64.0;
            assert!((slope - f64::from(dx[[0, i]])).abs() < 2e-3, "{i}: {slope} and {}", dx[[0, i]]);
        }
    }
}

#[test]
fn softmax_of_known_rows() {
    let x = ndarray::array![[0.0, 0.0, 0.0, 0.0], [1000.0, -1000.0, f32::NEG_INFINITY, 1000.0]];
    for isa in Isa::available() {
        let mut y = Array2::zeros((2, 4));
        isa.force(|| softmax_into(x.view(), y.view_mut()).unwrap());
        assert_eq!(y, ndarray::array![[0.25, 0.25, 0.25, 0.25], [0.5, 0.0, 0.0, 0.5]]);
    }
}

#[test]
fn shapes_are_checked() {
    let (x, mut y) = (Array2::zeros((2, 3)), Array2::zeros((3, 2)));
    assert_eq!(
        softmax_into(x.view(), y.view_mut()).unwrap_err().to_string(),
        "softmax: x has shape [2, 3] but y has shape [3, 2]; they must have the same shape"
    );
    assert!(log_softmax_into(x.view(), y.view_mut()).is_err());
    assert!(softmax_grad_into(x.view(), y.view(), x.clone().view_mut()).is_err());
    assert!(log_softmax_grad_into(x.view(), x.view(), y.view_mut()).is_err());
    assert!(softmax_cross_entropy_into(x.view(), &[0, 0], &mut [0.0], x.clone().view_mut()).is_err());
    assert!(softmax_cross_entropy_into(x.view(), &[0, 0], &mut [0.0; 2], y.view_mut()).is_err());
    let (three, two) = (Array1::zeros(3), Array1::zeros(2));
    let mut moments = [RowMoments::default(); 2];
    let mut out = x.clone();
    for refusal in [
        layer_norm_into(x.view(), two.view(), three.view(), 0.0, out.view_mut(), &mut moments),
        layer_norm_into(x.view(), three.view(), two.view(), 0.0, out.view_mut(), &mut moments),
        layer_norm_into(x.view(), three.view(), three.view(), 0.0, out.view_mut(), &mut moments[..1]),
        layer_norm_into(x.view(), three.view(), three.view(), 0.0, y.view_mut(), &mut moments),
    ] {
        assert!(matches!(refusal, Err(KernelError::ShapeMismatch { kernel: "layer_norm", .. })));
    }
    let refusal = layer_norm_grad_into(
        x.view(),
        three.view(),
        &moments,
        x.view(),
        out.view_mut(),
        three.clone().view_mut(),
        two.clone().view_mut(),
    );
    assert!(matches!(refusal, Err(KernelError::ShapeMismatch { right_name: "dbeta", .. })));
}

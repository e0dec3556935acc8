//! The floating-point state of the caller changes no bit of any kernel.

use super::*;
use crate::elementary::{unary_into, Unary};
use crate::*;
use ndarray::{Array1, Array2, Array3, Array4, Axis, Dimension, RemoveAxis};

/// FTZ and DAZ on, rounding towards zero.
const HOSTILE: u32 = 0x1f80 | 0xe040;

/// What the caller's own arithmetic gives: a denormal sum, which FTZ and DAZ lose.
fn denormal_survives() -> bool {
    black_box(black_box(f32::from_bits(3)) + black_box(f32::from_bits(2))) != 0.0
}

fn with_hostile_state<R>(f: impl FnOnce() -> R) -> R {
    let found = control::read_control();
    control::write_control(HOSTILE);
    let result = apart(f);
    let kept = control::read_control();
    control::write_control(found);
    assert_eq!(kept & control::CONTROL_MASK, HOSTILE & control::CONTROL_MASK);
    result
}

/// Numbers whose products, sums and steps round in every direction; every third is a denormal, whatever the state.
fn number(index: usize) -> f32 {
    let bits = (index as u32).wrapping_mul(2_654_435_761);
    match index % 3 {
        0 => f32::from_bits(bits & 0x807f_ffff),
        1 => f32::from_bits(0x3f00_0000 | bits >> 9 | bits & 0x8000_0000),
        // Down to 2⁻⁷⁰, so that products of two are denormal.
        _ => f32::from_bits((57 + bits % 70) << 23 | bits >> 9),
    }
}

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (seed..seed + count).map(number).collect()
}

fn matrix(rows: usize, columns: usize, seed: usize) -> Array2<f32> {
    Array2::from_shape_vec((rows, columns), numbers(rows * columns, seed)).unwrap()
}

fn images(shape: (usize, usize, usize, usize), seed: usize) -> Array4<f32> {
    let (n, c, h, w) = shape;
    Array4::from_shape_vec(shape, numbers(n * c * h * w, seed)).unwrap()
}

/// What kernels gave, by name.
#[derive(Default)]
struct Results(Vec<(&'static str, Vec<u64>)>);

impl Results {
    fn add<'a>(&mut self, kernel: &'static str, values: impl IntoIterator<Item = &'a f32>) {
        let bits = values.into_iter().map(|&value| canonical_nan(value).to_bits().into()).collect();
        self.0.push((kernel, bits));
    }

    fn add_f64(&mut self, kernel: &'static str, values: impl IntoIterator<Item = f64>) {
        self.0.push((kernel, values.into_iter().map(f64::to_bits).collect()));
    }

    /// What `fill` writes into an array of this shape, which holds numbers before.
    fn add_filled<D: Dimension>(
        &mut self,
        kernel: &'static str,
        shape: impl ndarray::ShapeBuilder<Dim = D>,
        fill: impl FnOnce(ndarray::ArrayViewMut<'_, f32, D>) -> Result<(), KernelError>,
    ) -> ndarray::Array<f32, D> {
        let mut out = ndarray::Array::zeros(shape);
        out.iter_mut().enumerate().for_each(|(index, value)| *value = number(index + 17));
        fill(out.view_mut()).unwrap();
        self.add(kernel, &out);
        out
    }

    /// The kernels of which something differs.
    fn unlike(&self, other: &Results) -> Vec<&'static str> {
        assert_eq!(self.0.len(), other.0.len());
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(one, other)| one != other).map(|(one, _)| one.0).collect()
    }
}

/// The results of every kernel. The operands have their own rows, so that no kernel passes what another made of a state on.
fn results(all: &mut Results) {
    products(all);
    elements(all);
    reductions(all);
    rows(all);
    steps(all);
    planes(all);
    tokens(all);
}

fn products(all: &mut Results) {
    let (a, b, bias) = (matrix(130, 70, 0), matrix(70, 90, 1), Array1::from(numbers(90, 2)));
    all.add("matmul", &matmul(a.view(), b.view()).unwrap());
    for (name, start) in [("bias", Start::Bias(bias.view())), ("accumulate", Start::Accumulate)] {
        all.add_filled(name, (130, 90), |c| matmul_into(a.view(), b.view(), start, c));
    }
    let (a, b) = (a.to_shape((2, 65, 70)).unwrap(), b.to_shape((1, 70, 90)).unwrap());
    let b = b.broadcast((2, 70, 90)).unwrap();
    all.add_filled("batched_matmul", (2, 65, 90), |c| batched_matmul_into(a.view(), b, Start::Zero, c));
}

fn elements(all: &mut Results) {
    let (a, b, row) = (matrix(30, 41, 3), matrix(30, 41, 5), Array1::from(numbers(41, 4)));
    let shape = (30, 41);
    for op in [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min] {
        all.add_filled("binary", shape, |out| binary_into(op, a.view(), b.view(), out));
        all.add_filled("binary, broadcast", shape, |out| binary_into(op, a.view(), row.view(), out));
        all.add_filled("binary, transposed", (41, 30), |out| binary_into(op, a.t(), b.t(), out));
        all.add_filled("binary_in_place", shape, |out| binary_in_place(op, out, a.view()));
    }
    all.add_filled("scale_in_place", shape, |out| {
        scale_in_place(0.3, out);
        Ok(())
    });
    all.add_filled("axpy_in_place", shape, |out| axpy_in_place(f32::from_bits(5), a.view(), out));
    all.add_filled("add_relu", shape, |out| add_relu_into(a.view(), row.view(), out));
    all.add_filled("add_to_residual", shape, |out| add_to_residual(a.view(), row.view(), out));
    all.add_filled("sum_to_shape", 41, |out| sum_to_shape_into(a.view(), out));
    all.add_filled("relu", 90, |mut out| relu_into(&numbers(90, 6), out.as_slice_mut().unwrap()));
    all.add_filled("relu_grad", 90, |mut out| {
        relu_grad_into(&numbers(90, 6), &numbers(90, 8), out.as_slice_mut().unwrap())
    });
    for function in Unary::ALL {
        all.add_filled(function.name(), shape, |out| unary_into(function, a.view(), out));
        all.add_filled(function.name(), (41, 30), |out| unary_into(function, a.t(), out));
    }
    let dropout = Dropout::new(StreamKey::from_bytes(*b"dropout1"), 0.3);
    all.add_filled("dropout", shape, |out| dropout_into(&dropout, a.view(), out));
    all.add_filled("dropout_grad", shape, |out| dropout_grad_into(&dropout, a.view(), out));
    let stream = || Stream::new(StreamKey::from_bytes(*b"weights1"));
    let mut fill = |name, draw: &dyn Fn(&mut [f32])| {
        all.add_filled(name, 300, |mut out| {
            draw(out.as_slice_mut().unwrap());
            Ok(())
        });
    };
    fill("normal", &|out| normal(0.1, 0.3, out, &mut stream()));
    fill("normal, denormal", &|out| {
        normal(f32::from_bits(3_000), f32::from_bits(70_000), out, &mut stream())
    });
    fill("kaiming_normal", &|out| kaiming_normal(7, out, &mut stream()));
    fill("kaiming_uniform", &|out| kaiming_uniform(7, out, &mut stream()));
}

fn reductions(all: &mut Results) {
    let (x, cube) = (numbers(40_000, 7), Array3::from_shape_vec((5, 70, 9), numbers(3150, 8)).unwrap());
    let wide: Vec<f64> = x.iter().map(|&x| f64::from_bits(u64::from(x.to_bits()) << 29 | 1)).collect();
    let denormals: Vec<f32> = (1..5_000).map(f32::from_bits).collect();
    for x in [&x, &denormals] {
        all.add("sum, mean and max", &[sum(x), mean(x), max(x)]);
        all.add_f64("sum_of_squares", [sum_of_squares(x)]);
        all.add_f64("argmax", argmax(x).map(|index| index as f64));
    }
    all.add_f64("sum_f64", [sum_f64(&wide)]);
    all.add("sum_axis0", &sum_axis0(matrix(70, 45, 8).view()).unwrap());
    let ranks = argmax_rows(matrix(70, 45, 8).view()).unwrap();
    all.add_f64("argmax_rows", ranks.into_iter().map(f64::from));
    for axis in [Axis(0), Axis(1), Axis(2)] {
        let shape = cube.raw_dim().remove_axis(axis);
        all.add_filled("sum_axis", shape, |out| sum_axis_into(cube.view(), axis, out));
        all.add_filled("mean_axis", shape, |out| mean_axis_into(cube.view(), axis, out));
        all.add_filled("max_axis", shape, |out| max_axis_into(cube.view(), axis, out));
        all.add_filled("logsumexp_axis", shape, |out| logsumexp_axis_into(cube.view(), axis, out));
        let mut ranks = Array2::zeros(shape);
        argmax_axis_into(cube.view(), axis, ranks.view_mut()).unwrap();
        all.add_f64("argmax_axis", ranks.into_iter().map(f64::from));
    }
}

fn rows(all: &mut Results) {
    let (x, dy, shape) = (matrix(40, 37, 9), matrix(40, 37, 10), (40, 37));
    all.add_filled("softmax", shape, |y| softmax_into(x.view(), y));
    all.add_filled("log_softmax", shape, |y| log_softmax_into(x.view(), y));
    all.add("log_softmax", &log_softmax(x.view()));
    all.add_filled("softmax_grad", shape, |dx| softmax_grad_into(x.view(), dy.view(), dx));
    all.add_filled("log_softmax_grad", shape, |dx| log_softmax_grad_into(x.view(), dy.view(), dx));
    let labels: Vec<u32> = (0..40).map(|row| row % 37).collect();
    let (losses, gradient) = softmax_cross_entropy(x.view(), &labels).unwrap();
    all.add("softmax_cross_entropy", losses.iter().chain(&gradient));
    // Rows of nothing but denormals, whose variance is smaller than a denormal ε.
    let small = x.mapv(|x| f32::from_bits(x.to_bits() & 0x807f_ffff));
    let (gamma, beta) = (Array1::from(numbers(37, 11)), Array1::from(numbers(37, 12)));
    for (x, eps) in [(&x, 1e-5), (&small, f32::from_bits(1))] {
        let mut moments = vec![RowMoments::default(); 40];
        all.add_filled("layer_norm", shape, |y| {
            layer_norm_into(x.view(), gamma.view(), beta.view(), eps, y, &mut moments)
        });
        all.add_f64("moments", moments.iter().flat_map(|row| [row.mean, row.inverse_std]));
        let (mut dgamma, mut dbeta) = (Array1::zeros(37), Array1::zeros(37));
        all.add_filled("layer_norm_grad", shape, |dx| {
            let (dgamma, dbeta) = (dgamma.view_mut(), dbeta.view_mut());
            layer_norm_grad_into(x.view(), gamma.view(), &moments, dy.view(), dx, dgamma, dbeta)
        });
        all.add("layer_norm_grad", dgamma.iter().chain(&dbeta));
    }
}

fn steps(all: &mut Results) {
    let gradient = numbers(70, 13);
    for rate in [1e-3, f32::from_bits(900)] {
        let config = AdamW { learning_rate: rate, ..AdamW::default() };
        let correction = BiasCorrection::after(3, &config);
        all.add_f64("BiasCorrection", <[f64; 2]>::from(correction.powers()));
        let (mut parameter, mut m, mut v) = (numbers(70, 14), numbers(70, 15), vec![0.01; 70]);
        adamw_step(&config, &correction, &mut parameter, &gradient, &mut m, &mut v).unwrap();
        all.add("adamw_step", parameter.iter().chain(&m).chain(&v));
        let config = Sgd { learning_rate: rate, momentum: 0.9, weight_decay: f32::from_bits(70) };
        let mut parameter: Vec<f32> =
            numbers(70, 14).iter().map(|x| f32::from_bits(x.to_bits() & 0x807f_ffff)).collect();
        let mut velocity = numbers(70, 15);
        sgd_step(&config, &mut parameter, &gradient, &mut velocity).unwrap();
        all.add("sgd_step", parameter.iter().chain(&velocity));
    }
    all.add_f64("gradient_norm", [gradient_norm([&gradient[..], &[0.1]])]);
    all.add_f64("gradient_norm", (2..40).map(|value| gradient_norm([&[value as f32][..], &[1.0]])));
    for most in [0.5, f32::from_bits(1_000)] {
        let mut clipped = gradient.clone();
        all.add_f64("clip_gradients", [clip_gradients(&mut [&mut clipped], most)]);
        all.add("clip_gradients", &clipped);
    }
}

fn planes(all: &mut Results) {
    let (x, w, dy) = (images((2, 3, 9, 8), 16), images((5, 3, 3, 2), 18), images((2, 5, 5, 4), 19));
    let conv = Conv2d { stride: [2, 2], padding: [1, 0] };
    let bias = Array1::from(numbers(5, 20));
    all.add_filled("conv2d", (2, 5, 5, 4), |y| conv2d_into(x.view(), w.view(), Some(bias.view()), &conv, y));
    all.add_filled("conv2d_input_grad", x.dim(), |dx| conv2d_input_grad_into(dy.view(), w.view(), &conv, dx));
    all.add_filled("conv2d_weight_grad", w.dim(), |dw| {
        conv2d_weight_grad_into(x.view(), dy.view(), &conv, dw)
    });
    all.add_filled("conv2d_bias_grad", 5, |db| conv2d_bias_grad_into(dy.view(), db));
    for (window, padding, shape) in [([2, 2], [0, 0], (2, 3, 4, 4)), ([3, 2], [1, 0], (2, 3, 5, 4))] {
        let pool = Pool2d { window, stride: [2, 2], padding };
        let (dy, mut indices) = (images(shape, 21), Array4::zeros(shape));
        all.add_filled("max_pool2d", shape, |y| max_pool2d_into(x.view(), &pool, y, indices.view_mut()));
        all.add_filled("max_pool2d_grad", x.dim(), |dx| max_pool2d_grad_into(dy.view(), indices.view(), dx));
        for over in [AverageOver::Window, AverageOver::Covered] {
            all.add_filled("avg_pool2d", shape, |y| avg_pool2d_into(x.view(), &pool, over, y));
            all.add_filled("avg_pool2d_grad", x.dim(), |dx| avg_pool2d_grad_into(dy.view(), &pool, over, dx));
        }
    }
}

fn tokens(all: &mut Results) {
    let shape = (1, 2, 70, 5);
    let [q, k, v, dy] = [22, 23, 24, 25].map(|seed| images(shape, seed));
    for causal in [false, true] {
        let attention = Attention { causal, scale: 0.4 };
        let mut log_sums = Array3::zeros((1, 2, 70));
        let y = all.add_filled("attention", shape, |y| {
            attention_into(q.view(), k.view(), v.view(), &attention, y, log_sums.view_mut())
        });
        all.add("attention", &log_sums);
        let (q, k, v, y, log_sums) = (q.view(), k.view(), v.view(), y.view(), log_sums.view());
        let operands = AttentionOperands { q, k, v, y, log_sums };
        let (mut dk, mut dv) = (Array4::zeros(shape), Array4::zeros(shape));
        all.add_filled("attention_grad", shape, |dq| {
            attention_grad_into(&operands, dy.view(), &attention, dq, dk.view_mut(), dv.view_mut())
        });
        all.add("attention_grad", dk.iter().chain(&dv));
    }
    let (ids, table) = ([2, 0, 2, 1], matrix(3, 11, 26));
    all.add_filled("embedding", (4, 11), |y| embedding_into(table.view(), &ids, y));
    all.add_filled("embedding_grad", (3, 11), |dw| embedding_grad_into(matrix(4, 11, 27).view(), &ids, dw));
}

#[test]
fn the_state_of_the_caller_changes_no_bit() {
    assert!(denormal_survives() && !with_hostile_state(denormal_survives), "the state has no effect");
    assert!(with_hostile_state(|| with_float_defaults(denormal_survives)));
    assert!(with_hostile_state(|| with_threads(2, denormal_survives)));
    for isa in Isa::available() {
        let run = || {
            let mut all = Results::default();
            isa.force(|| results(&mut all));
            all
        };
        let expected = run();
        assert_eq!(with_hostile_state(run).unlike(&expected), [""; 0], "{}", isa.name());
        assert_eq!(with_hostile_state(|| with_threads(3, run)).unlike(&expected), [""; 0], "{}", isa.name());
    }
}

/// The negative control: plain sums and products in the hostile state are other numbers.
#[test]
fn what_no_kernel_computes_is_noticed() {
    let run = || {
        let mut all = Results::default();
        let products: Vec<f32> = numbers(100, 0).iter().map(|x| black_box(*x) * black_box(0.3)).collect();
        all.add("products", &products);
        all.add("numbers", &numbers(100, 0));
        all
    };
    assert_eq!(with_hostile_state(run).unlike(&run()), ["products"]);
}

#[test]
fn the_state_is_restored_after_a_panic() {
    with_hostile_state(|| {
        let caught = std::panic::catch_unwind(|| with_float_defaults(|| panic!("on purpose")));
        assert!(caught.is_err());
    });
}

//! Kernels allocate nothing once they have run: counted, over all threads, with operands in row-major order.
//!
//! Exempt, because they make their results: `matmul`, `softmax_cross_entropy`, `log_softmax`, `sum_axis0`, `argmax_rows`,
//! `broadcast_shape`, `permutation`, `Batches` and `PrefetchBatches`. Exempt as well: calls from outside a pool, where rayon
//! allocates the jobs that it hands over; arrays of more than four dimensions, whose shapes `ndarray` allocates; and errors.
//!
//! One test, so that nothing else in the process allocates meanwhile.

#![expect(clippy::print_stdout, reason = "the test says how many kernels it counted")]

use bitproof_kernels::elementary::{gelu_with_grad_into, unary_into, Unary};
use bitproof_kernels::*;
use bitproof_telemetry::{allocations, CountingAllocator};
use ndarray::{Array1, Array2, Array3, Array4, Axis};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const CALLS: usize = 5;

/// A kernel with its operands, to be called again and again.
type Call = Box<dyn FnMut() + Send>;

#[test]
fn kernels_allocate_nothing_once_they_have_run() {
    let mut kernels = kernels();
    println!("{} kernels on {} instruction sets", kernels.len(), Isa::available().len());
    // One pool for all of them, since threads that begin and end allocate.
    for (threads, is_steady) in [(1, is_steady_after_two_calls as fn(&mut Call) -> bool), (2, becomes_steady)]
    {
        let allocating = with_threads(threads, || of_which_allocate(&mut kernels, is_steady));
        assert_eq!(allocating, [], "kernels that allocate, and the instruction set; {threads} threads");
        // The negative control: a kernel that makes its result.
        let (a, b) = (matrix(40, 30), matrix(30, 50));
        let call: Call = Box::new(move || drop(matmul(a.view(), b.view()).unwrap()));
        let noticed = with_threads(threads, || of_which_allocate(&mut [("matmul", call)], is_steady));
        assert_eq!(noticed.len(), Isa::available().len());
    }
}

/// The kernels that are not steady, with the instruction set.
fn of_which_allocate(
    kernels: &mut [(&'static str, Call)],
    is_steady: fn(&mut Call) -> bool,
) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for isa in Isa::available() {
        for (name, call) in &mut *kernels {
            if !isa.force(|| is_steady(call)) {
                found.push((*name, isa.name()));
            }
        }
    }
    found
}

fn is_steady_after_two_calls(call: &mut Call) -> bool {
    call();
    call();
    count(call) == 0
}

/// Which of two threads takes which part is chance, so a thread may meet its largest part late: five calls in a row have to be
/// without an allocation, but which five is open.
fn becomes_steady(call: &mut Call) -> bool {
    const TRIES: usize = 40;
    (0..TRIES).any(|_| count(call) == 0)
}

fn count(call: &mut Call) -> u64 {
    let before = allocations();
    (0..CALLS).for_each(|_| call());
    allocations() - before
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|index| (index % 97) as f32 * 0.03 - 1.4).collect()
}

fn vector(count: usize) -> Array1<f32> {
    Array1::from(numbers(count))
}

fn matrix(rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_vec((rows, columns), numbers(rows * columns)).unwrap()
}

fn cube(shape: (usize, usize, usize)) -> Array3<f32> {
    Array3::from_shape_vec(shape, numbers(shape.0 * shape.1 * shape.2)).unwrap()
}

fn images(shape: (usize, usize, usize, usize)) -> Array4<f32> {
    Array4::from_shape_vec(shape, numbers(shape.0 * shape.1 * shape.2 * shape.3)).unwrap()
}

/// Every kernel that writes into memory of its caller, of sizes that are divided over threads where it divides its work.
fn kernels() -> Vec<(&'static str, Call)> {
    [products(), elements(), reductions(), rows(), steps(), planes(), tokens()]
        .into_iter()
        .flatten()
        .collect()
}

/// Binds operands and makes the rest a kernel of that name.
macro_rules! kernel {
    ($all:ident, $name:expr, [$($operand:ident = $value:expr),* $(,)?], $call:expr) => {{
        $(#[allow(unused_mut, reason = "outputs are mutable, operands are not")] let mut $operand = $value;)*
        $all.push(($name, Box::new(move || { let _ = $call; })));
    }};
}

fn products() -> Vec<(&'static str, Call)> {
    let mut all: Vec<(&'static str, Call)> = Vec::new();
    for (name, rows) in [("matmul", 130), ("matmul of few rows", 3)] {
        kernel!(
            all,
            name,
            [a = matrix(rows, 600), b = matrix(600, 700), c = matrix(rows, 700), bias = vector(700)],
            {
                matmul_into(a.view(), b.view(), Start::Zero, c.view_mut()).unwrap();
                matmul_into(a.view(), b.view(), Start::Bias(bias.view()), c.view_mut()).unwrap();
                matmul_into(a.view(), b.view(), Start::Accumulate, c.view_mut()).unwrap();
            }
        );
    }
    kernel!(
        all,
        "matmul, transposed",
        [a = matrix(90, 130), b = matrix(200, 90), c = matrix(130, 200), d = matrix(200, 130)],
        {
            matmul_into(a.t(), b.t(), Start::Zero, c.view_mut()).unwrap();
            matmul_into(a.t(), b.t(), Start::Accumulate, d.view_mut().reversed_axes()).unwrap();
        }
    );
    kernel!(
        all,
        "batched_matmul",
        [a = cube((6, 70, 90)), b = cube((6, 90, 80)), c = cube((6, 70, 80))],
        batched_matmul_into(a.view(), b.view(), Start::Zero, c.view_mut()).unwrap()
    );
    all
}

fn elements() -> Vec<(&'static str, Call)> {
    const SHAPE: (usize, usize) = (500, 700);
    const COUNT: usize = SHAPE.0 * SHAPE.1;
    let mut all: Vec<(&'static str, Call)> = Vec::new();
    let operands = || (matrix(SHAPE.0, SHAPE.1), vector(SHAPE.1), matrix(SHAPE.0, SHAPE.1));
    kernel!(all, "binary", [o = operands()], {
        binary_into(Binary::Add, o.0.view(), o.1.view(), o.2.view_mut()).unwrap();
        binary_into(Binary::Max, o.0.t(), o.1.view().insert_axis(Axis(1)), o.2.view_mut().reversed_axes())
            .unwrap();
    });
    kernel!(
        all,
        "binary_in_place",
        [o = operands()],
        binary_in_place(Binary::Mul, o.2.view_mut(), o.1.view()).unwrap()
    );
    kernel!(all, "scale_in_place", [o = operands()], scale_in_place(1.5, o.2.view_mut()));
    kernel!(all, "axpy_in_place", [o = operands()], axpy_in_place(1.5, o.0.view(), o.2.view_mut()).unwrap());
    kernel!(all, "axpy_in_place, transposed", [o = operands()], {
        axpy_in_place(1.5, o.0.t(), o.2.view_mut().reversed_axes()).unwrap();
    });
    kernel!(
        all,
        "add_relu",
        [o = operands()],
        add_relu_into(o.0.view(), o.1.view(), o.2.view_mut()).unwrap()
    );
    kernel!(
        all,
        "add_to_residual",
        [o = operands()],
        add_to_residual(o.0.view(), o.1.view(), o.2.view_mut()).unwrap()
    );
    kernel!(all, "sum_to_shape", [o = operands(), column = matrix(SHAPE.0, 1)], {
        sum_to_shape_into(o.0.view(), o.1.view_mut()).unwrap();
        sum_to_shape_into(o.0.view(), column.view_mut()).unwrap();
    });
    let slices = || (numbers(COUNT), numbers(COUNT), numbers(COUNT));
    kernel!(all, "relu", [o = slices()], relu_into(&o.0, &mut o.1).unwrap());
    kernel!(all, "relu_grad", [o = slices()], relu_grad_into(&o.0, &o.1, &mut o.2).unwrap());
    for function in Unary::ALL {
        kernel!(
            all,
            function.name(),
            [o = operands()],
            unary_into(function, o.0.view(), o.2.view_mut()).unwrap()
        );
    }
    kernel!(all, "gelu_with_grad", [o = slices()], gelu_with_grad_into(&o.0, &mut o.1, &mut o.2).unwrap());
    let dropout = Dropout::new(StreamKey::from_bytes(*b"dropout1"), 0.3);
    kernel!(all, "dropout", [o = operands()], dropout_into(&dropout, o.0.view(), o.2.view_mut()).unwrap());
    kernel!(
        all,
        "dropout_grad",
        [o = operands()],
        dropout_grad_into(&dropout, o.0.view(), o.2.view_mut()).unwrap()
    );
    let stream = || Stream::new(StreamKey::from_bytes(*b"weights1"));
    kernel!(all, "normal", [o = numbers(COUNT), s = stream()], normal(0.0, 0.1, &mut o, &mut s));
    kernel!(all, "kaiming_normal", [o = numbers(COUNT), s = stream()], kaiming_normal(9, &mut o, &mut s));
    kernel!(all, "kaiming_uniform", [o = numbers(COUNT), s = stream()], kaiming_uniform(9, &mut o, &mut s));
    kernel!(all, "shuffle", [o = numbers(COUNT), s = stream()], shuffle(&mut o, &mut s));
    kernel!(all, "canonicalise", [o = numbers(COUNT)], canonicalise(&mut o));
    all
}

fn reductions() -> Vec<(&'static str, Call)> {
    const SHAPE: (usize, usize, usize) = (60, 90, 150);
    const COUNT: usize = SHAPE.0 * SHAPE.1 * SHAPE.2;
    let mut all: Vec<(&'static str, Call)> = Vec::new();
    kernel!(all, "sum", [x = numbers(2 * COUNT)], sum(&x));
    kernel!(all, "sum_f64", [x = vec![0.5_f64; 2 * COUNT]], sum_f64(&x));
    kernel!(all, "sum_of_squares", [x = numbers(2 * COUNT)], sum_of_squares(&x));
    kernel!(all, "mean", [x = numbers(2 * COUNT)], mean(&x));
    kernel!(all, "max", [x = numbers(COUNT)], max(&x));
    kernel!(all, "argmax", [x = numbers(COUNT)], argmax(&x));
    for axis in 0..3 {
        let mut shape = vec![SHAPE.0, SHAPE.1, SHAPE.2];
        shape.remove(axis);
        let operands = || (cube(SHAPE), matrix(shape[0], shape[1]));
        let axis = Axis(axis);
        kernel!(all, "sum_axis", [o = operands()], sum_axis_into(o.0.view(), axis, o.1.view_mut()).unwrap());
        kernel!(
            all,
            "mean_axis",
            [o = operands()],
            mean_axis_into(o.0.view(), axis, o.1.view_mut()).unwrap()
        );
        kernel!(all, "max_axis", [o = operands()], max_axis_into(o.0.view(), axis, o.1.view_mut()).unwrap());
        kernel!(
            all,
            "logsumexp_axis",
            [o = operands()],
            logsumexp_axis_into(o.0.view(), axis, o.1.view_mut()).unwrap()
        );
        let ranks = Array2::<u32>::zeros((shape[0], shape[1]));
        kernel!(
            all,
            "argmax_axis",
            [x = cube(SHAPE), y = ranks.clone()],
            argmax_axis_into(x.view(), axis, y.view_mut()).unwrap()
        );
    }
    all
}

fn rows() -> Vec<(&'static str, Call)> {
    const SHAPE: (usize, usize) = (400, 300);
    let mut all: Vec<(&'static str, Call)> = Vec::new();
    let one = || matrix(SHAPE.0, SHAPE.1);
    let three = || (one(), one(), one());
    kernel!(all, "softmax", [o = three()], softmax_into(o.0.view(), o.1.view_mut()).unwrap());
    kernel!(all, "log_softmax", [o = three()], log_softmax_into(o.0.view(), o.1.view_mut()).unwrap());
    kernel!(
        all,
        "softmax_grad",
        [o = three()],
        softmax_grad_into(o.0.view(), o.1.view(), o.2.view_mut()).unwrap()
    );
    kernel!(
        all,
        "log_softmax_grad",
        [o = three()],
        log_softmax_grad_into(o.0.view(), o.1.view(), o.2.view_mut()).unwrap()
    );
    let labels: Vec<u32> = (0..400).map(|row| row % 300).collect();
    kernel!(
        all,
        "softmax_cross_entropy",
        [x = one(), labels = labels, losses = numbers(SHAPE.0), gradient = one()],
        softmax_cross_entropy_into(x.view(), &labels, &mut losses, gradient.view_mut()).unwrap()
    );
    let moments = || vec![RowMoments { mean: 0.1, inverse_std: 2.0 }; SHAPE.0];
    kernel!(
        all,
        "layer_norm",
        [x = one(), y = one(), gamma = vector(SHAPE.1), beta = vector(SHAPE.1), moments = moments()],
        layer_norm_into(x.view(), gamma.view(), beta.view(), 1e-5, y.view_mut(), &mut moments).unwrap()
    );
    kernel!(
        all,
        "layer_norm_grad",
        [
            o = three(),
            gamma = vector(SHAPE.1),
            dgamma = vector(SHAPE.1),
            dbeta = vector(SHAPE.1),
            moments = moments()
        ],
        layer_norm_grad_into(
            o.0.view(),
            gamma.view(),
            &moments,
            o.1.view(),
            o.2.view_mut(),
            dgamma.view_mut(),
            dbeta.view_mut()
        )
        .unwrap()
    );
    all
}

fn steps() -> Vec<(&'static str, Call)> {
    const COUNT: usize = 300_000;
    let mut all: Vec<(&'static str, Call)> = Vec::new();
    let config = AdamW::default();
    let correction = BiasCorrection::after(3, &config);
    kernel!(
        all,
        "adamw_step",
        [p = numbers(COUNT), g = numbers(COUNT), m = numbers(COUNT), v = vec![0.1; COUNT]],
        adamw_step(&config, &correction, &mut p, &g, &mut m, &mut v).unwrap()
    );
    let config = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0 };
    kernel!(
        all,
        "sgd_step",
        [p = numbers(COUNT), g = numbers(COUNT), u = numbers(COUNT)],
        sgd_step(&config, &mut p, &g, &mut u).unwrap()
    );
    kernel!(all, "gradient_norm", [g = numbers(4 * COUNT)], gradient_norm([&g[..]]));
    kernel!(all, "clip_gradients", [g = numbers(COUNT)], clip_gradients(&mut [&mut g], 1.0));
    all
}

fn planes() -> Vec<(&'static str, Call)> {
    const X: (usize, usize, usize, usize) = (4, 12, 30, 28);
    const W: (usize, usize, usize, usize) = (40, 12, 3, 3);
    let mut all: Vec<(&'static str, Call)> = Vec::new();
    let cases = [
        ([1, 1], [1, 1], (4, 40, 30, 28)),
        ([1, 1], [0, 0], (4, 40, 28, 26)),
        ([2, 2], [1, 1], (4, 40, 15, 14)),
    ];
    for (stride, padding, shape) in cases {
        let conv = Conv2d { stride, padding };
        let operands = move || (images(X), images(W), images(shape));
        kernel!(
            all,
            "conv2d",
            [o = operands(), bias = vector(40)],
            conv2d_into(o.0.view(), o.1.view(), Some(bias.view()), &conv, o.2.view_mut()).unwrap()
        );
        kernel!(
            all,
            "conv2d_input_grad",
            [o = operands()],
            conv2d_input_grad_into(o.2.view(), o.1.view(), &conv, o.0.view_mut()).unwrap()
        );
        kernel!(
            all,
            "conv2d_weight_grad",
            [o = operands()],
            conv2d_weight_grad_into(o.0.view(), o.2.view(), &conv, o.1.view_mut()).unwrap()
        );
        kernel!(
            all,
            "conv2d_bias_grad",
            [o = operands(), db = vector(40)],
            conv2d_bias_grad_into(o.2.view(), db.view_mut()).unwrap()
        );
    }
    let pool = Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 0] };
    let pooled = (8, 40, 15, 14);
    let operands = move || (images((8, 40, 30, 28)), images(pooled), Array4::<u32>::zeros(pooled));
    kernel!(
        all,
        "max_pool2d",
        [o = operands()],
        max_pool2d_into(o.0.view(), &pool, o.1.view_mut(), o.2.view_mut()).unwrap()
    );
    kernel!(
        all,
        "max_pool2d_grad",
        [o = operands()],
        max_pool2d_grad_into(o.1.view(), o.2.view(), o.0.view_mut()).unwrap()
    );
    for over in [AverageOver::Window, AverageOver::Covered] {
        kernel!(
            all,
            "avg_pool2d",
            [o = operands()],
            avg_pool2d_into(o.0.view(), &pool, over, o.1.view_mut()).unwrap()
        );
        kernel!(
            all,
            "avg_pool2d_grad",
            [o = operands()],
            avg_pool2d_grad_into(o.1.view(), &pool, over, o.0.view_mut()).unwrap()
        );
    }
    all
}

fn tokens() -> Vec<(&'static str, Call)> {
    const SHAPE: (usize, usize, usize, usize) = (2, 3, 150, 20);
    let mut all: Vec<(&'static str, Call)> = Vec::new();
    let operands = || [(); 8].map(|()| images(SHAPE));
    for causal in [false, true] {
        let attention = Attention { causal, scale: 0.2 };
        kernel!(all, "attention", [o = operands(), log_sums = cube((2, 3, 150))], {
            let [q, k, v, y, ..] = &mut o;
            attention_into(q.view(), k.view(), v.view(), &attention, y.view_mut(), log_sums.view_mut())
                .unwrap();
        });
        kernel!(all, "attention_grad", [o = operands(), log_sums = cube((2, 3, 150))], {
            let [q, k, v, y, dy, dq, dk, dv] = &mut o;
            let (q, k, v, y, log_sums) = (q.view(), k.view(), v.view(), y.view(), log_sums.view());
            let operands = AttentionOperands { q, k, v, y, log_sums };
            let (dq, dk, dv) = (dq.view_mut(), dk.view_mut(), dv.view_mut());
            attention_grad_into(&operands, dy.view(), &attention, dq, dk, dv).unwrap();
        });
    }
    let ids = || (0..3000).map(|position| position % 500).collect::<Vec<u32>>();
    let operands = || (matrix(500, 60), matrix(3000, 60), ids());
    kernel!(all, "embedding", [o = operands()], embedding_into(o.0.view(), &o.2, o.1.view_mut()).unwrap());
    kernel!(
        all,
        "embedding_grad",
        [o = operands()],
        embedding_grad_into(o.1.view(), &o.2, o.0.view_mut()).unwrap()
    );
    all
}

//! Shapes that no training run has: axes without elements, views of one element repeated beyond all memory, negative strides,
//! strides and windows near the largest number. All of them give results or typed errors.

use bitproof_kernels::*;
use ndarray::{arr0, s, Array1, Array2, Array3, Array4, ArrayView4, Axis};

/// More elements than any memory has, few enough for `ndarray`.
const HUGE: usize = 1 << 60;
/// Its square root.
const LONG: usize = 1 << 30;

fn out_of_memory(kernel: &'static str) -> Result<(), KernelError> {
    Err(KernelError::OutOfMemory { kernel, elements: HUGE })
}

#[test]
fn operands_beyond_memory_are_refused() {
    let one = arr0(1.0_f32);
    let row = one.broadcast((1, HUGE)).unwrap();
    let column = one.broadcast((HUGE, 1)).unwrap();
    let plane = one.broadcast((1, 1, LONG, LONG)).unwrap();
    let mut y = Array2::from_elem((1, 1), 7.0);
    let mut y3 = Array3::zeros((1, 1, 1));
    let mut y4 = Array4::zeros((1, 1, 1, 1));
    assert_eq!(matmul_into(row, column, Start::Zero, y.view_mut()), out_of_memory("matmul"));
    let (a, b) = (row.insert_axis(Axis(0)), column.insert_axis(Axis(0)));
    assert_eq!(batched_matmul_into(a, b, Start::Zero, y3.view_mut()), out_of_memory("matmul"));
    let mut sums = Array1::from_elem(1, 7.0);
    assert_eq!(sum_axis_into(row, Axis(1), sums.view_mut()), out_of_memory("sum_axis"));
    assert_eq!(mean_axis_into(row, Axis(1), sums.view_mut()), out_of_memory("mean_axis"));
    assert_eq!(max_axis_into(row, Axis(1), sums.view_mut()), out_of_memory("max_axis"));
    assert_eq!(logsumexp_axis_into(row, Axis(1), sums.view_mut()), out_of_memory("logsumexp_axis"));
    assert_eq!(sum_to_shape_into(row, y.view_mut()), out_of_memory("sum_to_shape"));
    let conv = Conv2d::default();
    assert_eq!(conv2d_into(plane, plane, None, &conv, y4.view_mut()), out_of_memory("conv2d"));
    assert_eq!(
        conv2d_weight_grad_into(plane, plane, &conv, y4.view_mut()),
        out_of_memory("conv2d_weight_grad")
    );
    assert_eq!(conv2d_bias_grad_into(plane, sums.view_mut()), out_of_memory("conv2d_bias_grad"));
    let pool = Pool2d { window: [LONG, LONG], stride: [1, 1], padding: [0, 0] };
    let refusal = avg_pool2d_into(plane, &pool, AverageOver::Window, y4.view_mut());
    assert_eq!(refusal, out_of_memory("avg_pool2d"));
    assert_eq!((y, sums), (Array2::from_elem((1, 1), 7.0), Array1::from_elem(1, 7.0)), "nothing is written");
}

#[test]
fn results_beyond_memory_are_refused() {
    let one = arr0(1.0_f32);
    let (column, row) = (one.broadcast((LONG, 1)).unwrap(), one.broadcast((1, LONG)).unwrap());
    let overflow = |kernel, rows, columns| KernelError::SizeOverflow { kernel, rows, columns };
    assert_eq!(matmul(column, row), Err(overflow("matmul", LONG, LONG)));
    let (column, row) = (one.broadcast((1 << 40, 1)).unwrap(), one.broadcast((1, 1 << 40)).unwrap());
    assert_eq!(matmul(column, row), Err(overflow("matmul", 1 << 40, 1 << 40)));
    let tall = one.broadcast((HUGE, 1)).unwrap();
    assert_eq!(argmax_rows(tall), Err(overflow("argmax_rows", HUGE, 1)));
    let wide = one.broadcast((1, HUGE)).unwrap();
    assert_eq!(argmax_rows(wide), Err(overflow("argmax_rows", 1, HUGE)));
    assert_eq!(sum_axis0(wide), Err(overflow("sum_axis0", 1, HUGE)));
    assert_eq!(softmax_cross_entropy(wide, &[0]), Err(overflow("softmax_cross_entropy", 1, HUGE)));
    let plane = one.broadcast((1, 1, LONG, LONG)).unwrap();
    let pool = Pool2d { window: [LONG, LONG], stride: [1, 1], padding: [0, 0] };
    let (mut y, mut indices) = (Array4::zeros((1, 1, 1, 1)), Array4::zeros((1, 1, 1, 1)));
    assert_eq!(
        max_pool2d_into(plane, &pool, y.view_mut(), indices.view_mut()),
        Err(overflow("max_pool2d", LONG, LONG))
    );
}

/// Strides that leave one place, and padding so wide that it sees nothing but zeros.
#[test]
fn windows_near_the_largest_number_have_one_place() {
    let x = Array4::from_shape_fn((1, 2, 3, 4), |(_, c, i, j)| (c * 12 + i * 4 + j) as f32 - 7.5);
    let weight = Array4::from_shape_fn((2, 2, 2, 3), |(o, c, u, v)| (o + c + u + v) as f32 * 0.25 - 0.5);
    let bias = Array1::from(vec![0.5, -1.0]);
    let dy = Array4::from_shape_fn((1, 2, 1, 1), |(_, o, ..)| o as f32 + 1.0);
    let corner = x.slice(s![.., .., ..2, ..3]);
    let far = 1 << 61;
    for isa in Isa::available() {
        for stride in [4, far, usize::MAX / 2, usize::MAX] {
            let conv = Conv2d { stride: [stride; 2], padding: [0, 0] };
            let mut y = Array4::zeros((1, 2, 1, 1));
            conv2d_into_with(isa, x.view(), weight.view(), Some(bias.view()), &conv, y.view_mut()).unwrap();
            for (o, y) in y.iter().enumerate() {
                let product: f32 = corner.iter().zip(weight.index_axis(Axis(0), o)).map(|(x, w)| x * w).sum();
                assert_eq!(*y, bias[o] + product, "{} {stride}", isa.name());
            }
            let mut dx = Array4::from_elem(x.dim(), 9.0);
            conv2d_input_grad_into_with(isa, dy.view(), weight.view(), &conv, dx.view_mut()).unwrap();
            for ((_, c, i, j), dx) in dx.indexed_iter() {
                let covered = i < 2 && j < 3;
                let expected = if covered { weight[[0, c, i, j]] + 2.0 * weight[[1, c, i, j]] } else { 0.0 };
                assert_eq!(*dx, expected, "{} {stride}", isa.name());
            }
            let mut dw = Array4::from_elem(weight.dim(), 9.0);
            conv2d_weight_grad_into_with(isa, x.view(), dy.view(), &conv, dw.view_mut()).unwrap();
            for ((o, c, u, v), dw) in dw.indexed_iter() {
                assert_eq!(*dw, x[[0, c, u, v]] * (o as f32 + 1.0), "{} {stride}", isa.name());
            }
        }
        let conv = Conv2d { stride: [1 << 63; 2], padding: [far; 2] };
        let mut y = Array4::from_elem((1, 2, 1, 1), 9.0);
        conv2d_into_with(isa, x.view(), weight.view(), Some(bias.view()), &conv, y.view_mut()).unwrap();
        assert_eq!(y.into_raw_vec_and_offset().0, [0.5, -1.0], "{}", isa.name());
    }
    let pool = Pool2d { window: [far; 2], stride: [usize::MAX; 2], padding: [far - 1; 2] };
    let (mut y, mut indices) = (Array4::zeros((1, 2, 1, 1)), Array4::zeros((1, 2, 1, 1)));
    max_pool2d_into(x.view(), &pool, y.view_mut(), indices.view_mut()).unwrap();
    assert_eq!(y, x.slice(s![.., .., ..1, ..1]), "one element, in the corner, is covered");
    avg_pool2d_into(x.view(), &pool, AverageOver::Window, y.view_mut()).unwrap();
    let size = (far as f32) * (far as f32);
    assert_eq!(y, x.slice(s![.., .., ..1, ..1]).mapv(|x| x / size));
    let too_far = Conv2d { stride: [1, 1], padding: [usize::MAX; 2] };
    let refusal = conv2d_into(x.view(), weight.view(), None, &too_far, y.view_mut()).unwrap_err();
    assert!(matches!(refusal, KernelError::Window { axis: 2, padding: usize::MAX, .. }));
}

/// Reversed, transposed and repeated views give the bits of their copies.
#[test]
fn layouts_are_invisible() {
    let whole = Array4::from_shape_fn((3, 4, 5, 6), |(a, b, c, d)| {
        ((a * 131 + b * 17 + c * 5 + d) % 23) as f32 / 7.0 - 1.5
    });
    let first = whole.slice(s![..1, .., .., ..;-1]);
    let views: [ArrayView4<'_, f32>; 4] = [
        whole.slice(s![..;-1, .., ..;-1, ..]),
        whole.view().permuted_axes([1, 0, 3, 2]),
        first.broadcast((3, 4, 5, 6)).unwrap(),
        whole.slice(s![.., ..;2, 1..;3, ..;-2]),
    ];
    for view in views {
        let copy = view.to_owned();
        let (n, c, h, w) = view.dim();
        let mut pairs: Vec<(&str, Array4<f32>, Array4<f32>)> = Vec::new();
        let mut both = |name, run: &dyn Fn(ArrayView4<'_, f32>) -> Array4<f32>| {
            pairs.push((name, run(view), run(copy.view())));
        };
        both("conv2d", &|x| {
            let weight = x.slice(s![..1, .., ..1, ..1]);
            let mut y = Array4::zeros((n, 1, h, w));
            conv2d_into(x, weight, None, &Conv2d::default(), y.view_mut()).unwrap();
            y
        });
        both("attention", &|x| {
            let (mut y, mut sums) = (Array4::zeros(x.dim()), Array3::zeros((n, c, h)));
            let attention = Attention { causal: true, scale: 0.5 };
            attention_into(x, x, x, &attention, y.view_mut(), sums.view_mut()).unwrap();
            y
        });
        both("avg_pool2d", &|x| {
            let pool = Pool2d { window: [1, 2], stride: [1, 1], padding: [0, 1] };
            let mut y = Array4::zeros((n, c, h, w + 1));
            avg_pool2d_into(x, &pool, AverageOver::Covered, y.view_mut()).unwrap();
            y
        });
        both("dropout", &|x| {
            let mut y = Array4::zeros(x.dim());
            dropout_into(&Dropout::new(StreamKey::from_bytes([1; 8]), 0.5), x, y.view_mut()).unwrap();
            y
        });
        both("sum_to_shape", &|x| {
            let mut y = Array4::zeros((1, c, 1, w));
            sum_to_shape_into(x, y.view_mut()).unwrap();
            y
        });
        both("sum_axis", &|x| {
            let mut y = Array3::zeros((n, h, w));
            sum_axis_into(x, Axis(1), y.view_mut()).unwrap();
            y.insert_axis(Axis(1))
        });
        for (name, got, expected) in pairs {
            assert!(got.iter().map(|x| x.to_bits()).eq(expected.iter().map(|x| x.to_bits())), "{name}");
        }
    }
}

#[test]
fn axes_without_elements() {
    for shape in [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)] {
        let x = Array4::<f32>::zeros(shape);
        let mut sums = Array3::zeros((shape.0, shape.1, shape.2));
        let attended = attention_into(
            x.view(),
            x.view(),
            x.view(),
            &Attention { causal: false, scale: 1.0 },
            x.clone().view_mut(),
            sums.view_mut(),
        );
        assert_eq!(attended.is_err(), shape.3 == 0, "a softmax over scores of nothing has no value");
        let mut bias = Array4::from_elem((1, shape.1, 1, 1), 9.0);
        sum_to_shape_into(x.view(), bias.view_mut()).unwrap();
        assert!(bias.iter().all(|sum| sum.to_bits() == 0));
        let mut db = Array1::from_elem(shape.1, 9.0);
        conv2d_bias_grad_into(x.view(), db.view_mut()).unwrap();
        assert!(db.iter().all(|sum| sum.to_bits() == 0));
        let mut means = Array3::from_elem((shape.0, shape.2, shape.3), 9.0);
        mean_axis_into(x.view(), Axis(1), means.view_mut()).unwrap();
        assert!(means.iter().all(|mean| mean.is_nan()));
    }
    let (nothing, mut c) = (Array2::zeros((3, 0)), Array2::from_elem((3, 2), 9.0));
    matmul_into(nothing.view(), Array2::zeros((0, 2)).view(), Start::Zero, c.view_mut()).unwrap();
    assert_eq!(c, Array2::zeros((3, 2)));
    softmax_into(nothing.view(), nothing.clone().view_mut()).unwrap();
    assert_eq!(
        softmax_cross_entropy(nothing.view(), &[0; 3]).unwrap_err(),
        KernelError::LabelOutOfRange { row: 0, label: 0, classes: 0 }
    );
    embedding_into(nothing.view(), &[2, 0], Array2::zeros((2, 0)).view_mut()).unwrap();
    assert!(embedding_into(Array2::zeros((0, 5)).view(), &[0], Array2::zeros((1, 5)).view_mut()).is_err());
}

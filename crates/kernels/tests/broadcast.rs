//! Elementwise operations against loops over indices, bit for bit, on every instruction set of this processor, for any strides
//! and number of threads.

use bitproof_kernels::{
    add_relu_into_with, add_to_residual_with, axpy_in_place_with, binary_in_place_with, binary_into,
    binary_into_with, broadcast_shape, relu_grad_into_with, relu_into_with, scale_in_place, sum,
    sum_to_shape_into, with_threads, Binary, Isa, KernelError,
};
use ndarray::{array, s, Array1, Array2, ArrayD, ArrayViewD, Axis, IxDyn, Slice};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const OPS: [Binary; 6] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Max, Binary::Min];

/// The definition, with nothing but the standard library.
fn by_definition(op: Binary, a: f32, b: f32) -> f32 {
    let nan = a.is_nan() || b.is_nan();
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Max | Binary::Min if nan => f32::NAN,
        Binary::Max if b > a => b,
        Binary::Min if b < a => b,
        _ => a,
    }
}

fn rectified(x: f32) -> f32 {
    if x <= 0.0 {
        0.0
    } else {
        x
    }
}

/// `f(old, a, b)` at every index of `out`; axes of length 1 and missing ones are repeated.
fn loops(
    a: &ArrayViewD<'_, f32>,
    b: &ArrayViewD<'_, f32>,
    out: &mut ArrayD<f32>,
    f: impl Fn(f32, f32, f32) -> f32,
) {
    let at = |operand: &ArrayViewD<'_, f32>, index: &[usize]| {
        let missing = index.len() - operand.ndim();
        let own: Vec<usize> =
            (0..operand.ndim()).map(|axis| index[missing + axis] % operand.len_of(Axis(axis))).collect();
        operand[own.as_slice()]
    };
    for (index, out) in out.indexed_iter_mut() {
        let index: Vec<usize> = (0..index.ndim()).map(|axis| index[axis]).collect();
        *out = f(*out, at(a, &index), at(b, &index));
    }
}

use ndarray::Dimension as _;

fn bits<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
    values.into_iter().map(|&value| bitproof_kernels::canonical_nan(value).to_bits()).collect()
}

/// A value for any 64 bits: mostly ordinary numbers, often zeros, denormals, infinities, NaN and any bits.
fn value(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let (class, raw) = ((*state >> 33) % 16, (*state >> 8) as u32);
    match class {
        0 | 1 => f32::from_bits(raw & 0x8000_0000),
        2 => f32::from_bits(raw & 0x807f_ffff),
        3 => f32::from_bits(raw),
        4 => [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1.0][raw as usize % 4],
        5 => 1e-22 * (raw as f32 / 2e9 - 1.0), // products are denormal
        6 => (raw % 5) as f32 - 2.0,           // often equal
        _ => raw as f32 / 2e9 - 1.0,
    }
}

/// An array behind a layout: each axis is reversed and stepped or not, and axes lie in memory in an order of their own.
struct Laid {
    data: ArrayD<f32>,
    shape: Vec<usize>,
    layout: u32,
}

impl Laid {
    fn new(shape: &[usize], layout: u32, seed: u64) -> Laid {
        let mut state = seed;
        let mut held: Vec<usize> =
            shape.iter().enumerate().map(|(axis, n)| n * Laid::step(layout, axis)).collect();
        if layout & 1 == 1 {
            held.reverse();
        }
        let data = ArrayD::from_shape_simple_fn(IxDyn(&held), || value(&mut state));
        Laid { data, shape: shape.to_vec(), layout }
    }

    fn step(layout: u32, axis: usize) -> usize {
        1 + (layout >> (1 + 2 * axis) & 1) as usize
    }

    fn view_of<'a>(&self, data: ArrayViewD<'a, f32>) -> ArrayViewD<'a, f32> {
        let mut view = if self.layout & 1 == 1 { data.reversed_axes() } else { data };
        for axis in 0..self.shape.len() {
            let step = Laid::step(self.layout, axis) as isize;
            let reversed = self.layout >> (2 + 2 * axis) & 1 == 1;
            view.slice_axis_inplace(Axis(axis), Slice::new(0, None, if reversed { -step } else { step }));
        }
        view
    }

    fn view(&self) -> ArrayViewD<'_, f32> {
        self.view_of(self.data.view())
    }

    fn view_mut(&mut self) -> ndarray::ArrayViewMutD<'_, f32> {
        let (shape, layout) = (self.shape.clone(), self.layout);
        let mut view = self.data.view_mut();
        if layout & 1 == 1 {
            view = view.reversed_axes();
        }
        for axis in 0..shape.len() {
            let step = Laid::step(layout, axis) as isize;
            let reversed = layout >> (2 + 2 * axis) & 1 == 1;
            view.slice_axis_inplace(Axis(axis), Slice::new(0, None, if reversed { -step } else { step }));
        }
        view
    }
}

/// Every kernel on every instruction set against the loops.
fn check(shape: &[usize], drop: [u32; 2], layouts: [u32; 3], seed: u64) {
    // An operand lacks leading axes, and some of its axes have length 1.
    let operand = |drop: u32| -> Vec<usize> {
        let missing = (drop as usize >> 8) % (shape.len() + 1);
        shape
            .iter()
            .enumerate()
            .skip(missing)
            .map(|(axis, &n)| if drop >> axis & 1 == 1 { 1 } else { n })
            .collect()
    };
    let (a_shape, b_shape) = (operand(drop[0]), operand(drop[1]));
    let result = broadcast_shape(&a_shape, &b_shape).unwrap();
    let a = Laid::new(&a_shape, layouts[0], seed);
    let b = Laid::new(&b_shape, layouts[1], seed ^ 1);
    let held = Laid::new(&result, layouts[2], seed ^ 2);
    type Definition<'a> = &'a dyn Fn(f32, f32, f32) -> f32;
    let compare = |name: &str,
                   definition: Definition<'_>,
                   run: &dyn Fn(Isa, &mut Laid) -> Result<(), KernelError>| {
        let mut expected = held.view().to_owned();
        loops(&a.view(), &b.view(), &mut expected, definition);
        for isa in Isa::available() {
            let mut out = Laid::new(&result, layouts[2], seed ^ 2);
            run(isa, &mut out).unwrap();
            let at =
                format!("{name} on {}: {a_shape:?} and {b_shape:?} to {result:?}, {layouts:?}", isa.name());
            assert_eq!(bits(out.view()), bits(&expected), "{at}");
            // Only the elements of the view may have changed.
            out.view_mut().assign(&held.view());
            assert_eq!(bits(&out.data), bits(&held.data), "gaps after {at}");
        }
    };
    for op in OPS {
        compare(&format!("{op:?}"), &|_, a, b| by_definition(op, a, b), &|isa, out| {
            binary_into_with(isa, op, a.view(), b.view(), out.view_mut())
        });
        if a_shape.len() <= result.len() {
            compare(&format!("{op:?} in place"), &|old, a, _| by_definition(op, old, a), &|isa, out| {
                binary_in_place_with(isa, op, out.view_mut(), a.view())
            });
        }
    }
    compare("add_relu", &|_, a, b| rectified(a + b), &|isa, out| {
        add_relu_into_with(isa, a.view(), b.view(), out.view_mut())
    });
    compare("residual", &|old, a, b| (a + b) + old, &|isa, out| {
        add_to_residual_with(isa, a.view(), b.view(), out.view_mut())
    });
    compare("axpy", &|old, a, _| 0.3f32.mul_add(a, old), &|isa, out| {
        axpy_in_place_with(isa, 0.3, a.view(), out.view_mut())
    });
}

macro_rules! any_shapes {
    ($($(#[$attribute:meta])* $name:ident: $cases:expr;)*) => {$(
        proptest! {
            #![proptest_config(ProptestConfig {
                cases: $cases,
                rng_seed: RngSeed::Fixed(4),
                failure_persistence: None,
                ..ProptestConfig::default()
            })]
            #[test]
            $(#[$attribute])*
            fn $name(
                outer in prop::collection::vec(0usize..4, 0..4), inner in 0usize..70, swap: bool,
                drop: [u32; 2], layouts: [u32; 3], seed: u64,
            ) {
                let mut shape = outer;
                shape.push(inner);
                if swap {
                    shape.reverse();
                }
                check(&shape, drop, layouts, seed);
            }
        }
    )*};
}
any_shapes! {
    any_shape_and_layout: 300;
    #[ignore = "10,000 cases: cargo test --release -p bitproof-kernels --test broadcast -- --ignored"]
    any_shape_and_layout_at_length: 10_000;
}

/// Around every lane and every piece that is copied out.
#[test]
fn edges_of_lanes_agree() {
    for length in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000] {
        for layout in [0, 0b10, 0b100, 0b1010, 0b1_0000] {
            check(&[length], [0, 0], [layout, 0, 0], 1);
            check(&[3, length], [0, 0x100], [0, layout, 0], 2);
            check(&[3, length], [0, 2], [0, 0, layout], 3);
        }
    }
}

#[test]
fn relu_and_its_gradient_agree_at_every_length() {
    for length in (0..70).chain([1000]) {
        let (x, dy) = (Laid::new(&[length], 0, 5).data, Laid::new(&[length], 0, 6).data);
        let (x, dy) = (x.as_slice().unwrap(), dy.as_slice().unwrap());
        let gradient = |(&x, &dy): (&f32, &f32)| if x <= 0.0 { 0.0 } else { dy };
        let expected: Vec<f32> = x.iter().map(|&x| rectified(x)).collect();
        let expected_dx: Vec<f32> = x.iter().zip(dy).map(gradient).collect();
        for isa in Isa::available() {
            let (mut out, mut dx) = (vec![7.0; length], vec![7.0; length]);
            relu_into_with(isa, x, &mut out).unwrap();
            relu_grad_into_with(isa, x, dy, &mut dx).unwrap();
            assert_eq!(bits(&out), bits(&expected), "{length} on {}", isa.name());
            assert_eq!(bits(&dx), bits(&expected_dx), "{length} on {}", isa.name());
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for shape in [vec![700_001], vec![3, 250_001], vec![1001, 700], vec![2, 3, 5, 7, 3001]] {
        let (a, b) = (Laid::new(&shape, 0, 7), Laid::new(&shape[shape.len() - 1..], 0, 8));
        let mut expected = ArrayD::zeros(IxDyn(&shape));
        loops(&a.view(), &b.view(), &mut expected, |_, a, b| a + b);
        let run = || {
            let mut out = ArrayD::zeros(IxDyn(&shape));
            binary_into(Binary::Add, a.view(), b.view(), out.view_mut()).unwrap();
            bits(&out)
        };
        for threads in [1, 2, 3, 8] {
            assert!(with_threads(threads, run) == bits(&expected), "{shape:?}, {threads} threads");
        }
        assert!(run() == bits(&expected), "{shape:?}, the global pool");
    }
}

#[test]
fn zeros_and_nan_follow_the_rule() {
    let (a, b) =
        (array![-0.0f32, 0.0, f32::NAN, 1.0, f32::INFINITY], array![0.0f32, -0.0, 1.0, f32::NAN, 1.0]);
    let of = |op| {
        let mut out = Array1::zeros(5);
        binary_into(op, a.view(), b.view(), out.view_mut()).unwrap();
        bits(&out)
    };
    assert_eq!(of(Binary::Max), [0x8000_0000, 0, 0x7fc0_0000, 0x7fc0_0000, 0x7f80_0000]);
    assert_eq!(of(Binary::Min), [0x8000_0000, 0, 0x7fc0_0000, 0x7fc0_0000, 0x3f80_0000]);
}

/// The negative control: operands the other way round, another association and a second rounding are seen.
#[test]
fn other_orders_differ() {
    let shape = [1000];
    let (a, b, y) = (Laid::new(&shape, 0, 9), Laid::new(&shape, 0, 10), Laid::new(&shape, 0, 11));
    for op in [Binary::Sub, Binary::Div, Binary::Max, Binary::Min] {
        let mut out = ArrayD::zeros(IxDyn(&shape));
        binary_into(op, a.view(), b.view(), out.view_mut()).unwrap();
        let mut swapped = ArrayD::zeros(IxDyn(&shape));
        loops(&b.view(), &a.view(), &mut swapped, |_, b, a| by_definition(op, b, a));
        assert_ne!(bits(&out), bits(&swapped), "{op:?}");
    }
    let mut out = y.data.clone();
    add_to_residual_with(Isa::get(), a.view(), b.view(), out.view_mut()).unwrap();
    let mut other = y.data.clone();
    loops(&a.view(), &b.view(), &mut other, |old, a, b| a + (b + old));
    assert_ne!(bits(&out), bits(&other));
    let mut out = y.data.clone();
    axpy_in_place_with(Isa::get(), 0.3, a.view(), out.view_mut()).unwrap();
    let mut other = y.data.clone();
    loops(&a.view(), &b.view(), &mut other, |old, a, _| 0.3 * a + old);
    assert_ne!(bits(&out), bits(&other));
}

#[test]
fn scaling_multiplies() {
    let mut x = array![[1.0, -2.0], [0.0, 3.0]];
    scale_in_place(-0.5, x.slice_mut(s![.., ..;-1]));
    assert_eq!(bits(&x), bits(&array![[-0.5, 1.0], [-0.0, -1.5]]));
}

#[test]
fn gradients_are_sums_of_what_was_repeated() {
    let gradient = Laid::new(&[5, 4, 33], 0, 12);
    let plain = gradient.data.mapv(|x| if x.is_finite() { x } else { 1.0 });
    for shape in
        [vec![], vec![1], vec![33], vec![4, 1], vec![1, 4, 33], vec![5, 1, 1], vec![5, 1, 33], vec![5, 4, 33]]
    {
        for layout in 0..2 {
            let view = if layout == 0 { plain.view() } else { plain.slice(s![.., .., ..;-1]).into_dyn() };
            let mut out = ArrayD::from_elem(IxDyn(&shape), 7.0);
            sum_to_shape_into(view.view(), out.view_mut()).unwrap();
            for (index, got) in out.indexed_iter() {
                let belongs = |at: &IxDyn| {
                    let missing = 3 - shape.len();
                    (0..shape.len()).all(|axis| shape[axis] == 1 || at[missing + axis] == index[axis])
                };
                let repeated: Vec<f32> =
                    view.indexed_iter().filter(|(at, _)| belongs(at)).map(|(_, &x)| x).collect();
                assert_eq!(got.to_bits(), (sum(&repeated) + 0.0).to_bits(), "{shape:?} at {index:?}");
            }
        }
    }
    let mut none = array![7.0, 7.0];
    sum_to_shape_into(Array2::<f32>::zeros((0, 2)).view(), none.view_mut()).unwrap();
    assert_eq!(none, array![0.0, 0.0]);
}

#[test]
fn shapes_are_checked() {
    assert_eq!(broadcast_shape(&[], &[]), Ok(vec![]));
    assert_eq!(broadcast_shape(&[0], &[1]), Ok(vec![0]));
    assert_eq!(
        broadcast_shape(&[2, 3], &[2]).unwrap_err().to_string(),
        "broadcast: a has shape [2, 3] but b has shape [2]; from the last axis backwards, lengths must be equal or one of them 1"
    );
    let (a, b) = (Array2::<f32>::zeros((2, 3)), Array1::<f32>::zeros(3));
    let mut out = Array2::from_elem((3, 3), 7.0);
    let refusal = binary_into(Binary::Add, a.view(), b.view(), out.view_mut()).unwrap_err();
    assert!(
        matches!(refusal, KernelError::ShapeMismatch { left, right, .. } if left == [2, 3] && right == [3, 3])
    );
    assert!(binary_in_place_with(Isa::get(), Binary::Add, out.view_mut(), a.view()).is_err());
    assert!(sum_to_shape_into(a.view(), out.view_mut()).is_err());
    assert_eq!(out, Array2::from_elem((3, 3), 7.0), "a refused operation writes nothing");
}

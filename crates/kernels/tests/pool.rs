//! Pooling and its gradients against naive loops, bit for bit, for any strides and number of threads.

use bitproof_kernels::{
    avg_pool2d_grad_into, avg_pool2d_into, canonical_nan, max_pool2d_grad_into, max_pool2d_into,
    with_threads, AverageOver, KernelError, Pool2d,
};
use ndarray::{Array4, Axis};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn bits<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
    values.into_iter().map(|&value| canonical_nan(value).to_bits()).collect()
}

/// Few values, so that ties are frequent, with both zeros, denormals, infinities and NaN among them.
fn value(state: &mut u64) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let raw = (*state >> 33) as u32;
    match raw % 64 {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 | 3 => f32::NEG_INFINITY,
        4..=9 => 0.0,
        10..=15 => -0.0,
        16..=20 => f32::from_bits(raw >> 16),
        21..=40 => ((raw >> 8) % 5) as f32 - 2.0,
        _ => raw as f32 / 1e9 - 1.0,
    }
}

fn array(shape: (usize, usize, usize, usize), seed: u64) -> Array4<f32> {
    let mut state = seed;
    Array4::from_shape_simple_fn(shape, || value(&mut state))
}

/// The same elements with all axes backwards in memory.
fn backwards<T: Copy + Default>(array: &Array4<T>) -> Array4<T> {
    let mut other = Array4::default(array.raw_dim());
    (0..4).for_each(|axis| other.invert_axis(Axis(axis)));
    other.assign(array);
    other
}

#[derive(Debug)]
struct Problem {
    x: Array4<f32>,
    dy: Array4<f32>,
    pool: Pool2d,
}

/// Maxima, their indices and gradient, and averages over window and covered elements with their gradients.
type Results = (Vec<u32>, Vec<u32>, [Vec<u32>; 5]);

impl Problem {
    fn new(planes: (usize, usize), input: [usize; 2], pool: Pool2d, seed: u64) -> Option<Problem> {
        let places = |axis: usize| {
            let fits = pool.padding[axis] < pool.window[axis] && input[axis] > 0;
            let room = (input[axis] + 2 * pool.padding[axis]).checked_sub(pool.window[axis])?;
            fits.then_some(room / pool.stride[axis] + 1)
        };
        let dy = array((planes.0, planes.1, places(0)?, places(1)?), seed ^ 1);
        Some(Problem { x: array((planes.0, planes.1, input[0], input[1]), seed), dy, pool })
    }

    /// The elements of the plane under a window, in row-major order.
    fn under(&self, i: usize, j: usize) -> Vec<(usize, usize)> {
        let Pool2d { window, stride, padding } = self.pool;
        let (_, _, height, width) = self.x.dim();
        let axis = |place: usize, axis: usize, length: usize| {
            let first = (place * stride[axis]) as i64 - padding[axis] as i64;
            (first..first + window[axis] as i64).filter(move |&at| at >= 0 && at < length as i64)
        };
        axis(i, 0, height)
            .flat_map(|row| axis(j, 1, width).map(move |column| (row as usize, column as usize)))
            .collect()
    }

    fn expected(&self) -> Results {
        let (mut y, mut indices) = (Vec::new(), Vec::new());
        let mut gradients = [(); 3].map(|()| Array4::<f32>::zeros(self.x.raw_dim()));
        let mut averages = [Vec::new(), Vec::new()];
        let [window_height, window_width] = self.pool.window;
        for ((n, c, i, j), &dy) in self.dy.indexed_iter() {
            let under = self.under(i, j);
            let at = |&(row, column): &(usize, usize)| self.x[[n, c, row, column]];
            let best = under.iter().find(|place| at(place).is_nan()).unwrap_or_else(|| {
                let largest = under.iter().map(at).fold(f32::NEG_INFINITY, f32::max);
                under.iter().find(|place| at(place) == largest).unwrap()
            });
            y.push(at(best));
            indices.push((best.0 * self.x.dim().3 + best.1) as u32);
            gradients[0][[n, c, best.0, best.1]] += dy;
            let sum = under.iter().map(at).fold(0.0, |sum, x| sum + x);
            for (which, count) in [window_height * window_width, under.len()].into_iter().enumerate() {
                averages[which].push(sum / count as f32);
                for &(row, column) in &under {
                    gradients[which + 1][[n, c, row, column]] += dy / count as f32;
                }
            }
        }
        let [taken, window, covered] = gradients;
        let rest = [bits(&averages[0]), bits(&averages[1]), bits(&taken), bits(&window), bits(&covered)];
        (bits(&y), indices, rest)
    }

    fn results(&self, flip: bool) -> Results {
        let laid = |array: &Array4<f32>| if flip { backwards(array) } else { array.clone() };
        let (x, dy) = (laid(&self.x), laid(&self.dy));
        let blank = |like: &Array4<f32>| laid(&Array4::from_elem(like.raw_dim(), 7.0));
        let (mut y, mut taken) = (blank(&dy), blank(&x));
        let mut indices = Array4::from_elem(dy.raw_dim(), 7u32);
        if flip {
            indices = backwards(&indices);
        }
        max_pool2d_into(x.view(), &self.pool, y.view_mut(), indices.view_mut()).unwrap();
        max_pool2d_grad_into(dy.view(), indices.view(), taken.view_mut()).unwrap();
        let average = |over| {
            let (mut y, mut dx) = (blank(&dy), blank(&x));
            avg_pool2d_into(x.view(), &self.pool, over, y.view_mut()).unwrap();
            avg_pool2d_grad_into(dy.view(), &self.pool, over, dx.view_mut()).unwrap();
            (bits(&y), bits(&dx))
        };
        let (window, covered) = (average(AverageOver::Window), average(AverageOver::Covered));
        let rest = [window.0, covered.0, bits(&taken), window.1, covered.1];
        (bits(&y), indices.iter().copied().collect(), rest)
    }
}

fn problems() -> impl Strategy<Value = (Option<Problem>, bool)> {
    let pair = |low: usize, high: usize| [low..high, low..high];
    let pool = prop_oneof![
        1 => Just(Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 0] }),
        2 => (pair(1, 5), pair(1, 5), pair(0, 3))
            .prop_map(|(window, stride, padding)| Pool2d { window, stride, padding }),
    ];
    (0usize..3, 0usize..4, pair(0, 24), pool, any::<u64>(), any::<bool>()).prop_map(
        |(images, channels, input, pool, seed, flip)| {
            (Problem::new((images, channels), input, pool, seed), flip)
        },
    )
}

fn holds(problem: Option<Problem>, flip: bool) -> Result<(), TestCaseError> {
    if let Some(problem) = problem {
        prop_assert!(problem.results(flip) == problem.expected());
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
    #![proptest_config(config(600, 31))]
    #[test]
    fn pools_are_the_naive_loop((problem, flip) in problems()) {
        holds(problem, flip)?;
    }
}

proptest! {
    #![proptest_config(config(10_000, 32))]
    #[test]
    #[ignore = "slow: cargo test --release -p bitproof-kernels --test pool -- --ignored"]
    fn pools_are_the_naive_loop_often((problem, flip) in problems()) {
        holds(problem, flip)?;
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for pool in [
        Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 0] },
        Pool2d { window: [3, 3], stride: [2, 1], padding: [1, 1] },
    ] {
        let problem = Problem::new((5, 7), [61, 67], pool, 4).unwrap();
        let expected = problem.expected();
        for threads in [1, 2, 3, 8] {
            assert!(with_threads(threads, || problem.results(false)) == expected, "{threads} threads");
        }
    }
}

/// The negative control: with the window's elements in another order, the first of equal ones is another.
#[test]
fn ties_and_orders_are_seen() {
    let pool = Pool2d { window: [2, 2], stride: [1, 1], padding: [0, 0] };
    let mut problem = Problem::new((1, 1), [12, 12], pool, 5).unwrap();
    problem.x.fill(1.0);
    let ties = problem.results(false).1;
    assert_eq!(ties[..3], [0, 1, 2]);
    let mut problem = Problem::new((1, 1), [12, 12], pool, 6).unwrap();
    problem.x.mapv_inplace(|x| if x.is_finite() { x * 1.1 } else { 0.3 });
    let mut mirrored = Problem::new((1, 1), [12, 12], pool, 6).unwrap();
    mirrored.x = problem.x.clone();
    mirrored.x.invert_axis(Axis(3));
    let mut averages = mirrored.results(false).2[0].clone();
    averages.chunks_mut(11).for_each(<[u32]>::reverse);
    assert_ne!(averages, problem.results(false).2[0], "sums from right to left round differently");
}

#[test]
fn shapes_windows_and_indices_are_checked() {
    let x = Array4::<f32>::zeros((1, 1, 4, 4));
    let (mut y, mut indices) = (Array4::from_elem((1, 1, 2, 2), 7.0), Array4::zeros((1, 1, 2, 2)));
    for (pool, axis) in [
        (Pool2d { window: [5, 2], stride: [2, 2], padding: [0, 0] }, 2),
        (Pool2d { window: [2, 2], stride: [2, 0], padding: [0, 0] }, 3),
        (Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 2] }, 3),
        (Pool2d { window: [0, 2], stride: [2, 2], padding: [0, 0] }, 2),
    ] {
        let refusal = max_pool2d_into(x.view(), &pool, y.view_mut(), indices.view_mut()).unwrap_err();
        assert!(matches!(refusal, KernelError::Window { axis: found, .. } if found == axis), "{refusal}");
    }
    let pool = Pool2d { window: [2, 2], stride: [1, 1], padding: [0, 0] };
    let refusal = avg_pool2d_into(x.view(), &pool, AverageOver::Window, y.view_mut()).unwrap_err();
    assert!(matches!(refusal, KernelError::ShapeMismatch { left, .. } if left == [1, 1, 3, 3]));
    assert!(y.iter().all(|&y| y == 7.0), "refused pooling writes nothing");
    indices[[0, 0, 1, 0]] = 16;
    let mut dx = Array4::from_elem((1, 1, 4, 4), 7.0);
    assert_eq!(
        max_pool2d_grad_into(y.view(), indices.view(), dx.view_mut()).unwrap_err(),
        KernelError::IndexOutOfRange { kernel: "max_pool2d_grad", at: 2, index: 16, length: 16 }
    );
    assert!(dx.iter().all(|&dx| dx == 7.0));
}

//! Attention and its gradients against naive loops, bit for bit, on every instruction set of this processor, for any strides
//! and number of threads.

use bitproof_kernels::{
    attention_grad_into_with, attention_into, attention_into_with, canonical_nan, elementary, with_threads,
    Attention, AttentionOperands, Isa, KernelError,
};
use ndarray::{s, Array3, Array4};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Bits, with every NaN the same: positions count, payloads do not.
fn bits<'a>(values: impl IntoIterator<Item = &'a f32>) -> Vec<u32> {
    values.into_iter().map(|&value| canonical_nan(value).to_bits()).collect()
}

/// Mostly ordinary numbers, often zeros and denormals, rarely large ones, infinities and NaN.
fn value(state: &mut u64, specials: bool) -> f32 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let (class, raw) = ((*state >> 33) % 512, (*state >> 8) as u32);
    let ordinary = raw as f32 / 2e9 - 1.0;
    match class {
        0..=15 => f32::from_bits(raw & 0x8000_0000),
        16..=31 => f32::from_bits(raw & 0x807f_ffff),
        32..=63 => 1e-22 * ordinary,
        64..=95 => 60.0 * ordinary,
        96 if specials && raw.is_multiple_of(4) => f32::INFINITY,
        96 if specials && raw % 4 == 1 => f32::NAN,
        96 if specials && raw % 4 == 2 => 3e38 * ordinary,
        _ => ordinary,
    }
}

fn array(shape: (usize, usize, usize, usize), seed: u64, specials: bool) -> Array4<f32> {
    let mut state = seed;
    Array4::from_shape_simple_fn(shape, || value(&mut state, specials))
}

/// The same elements, row-major or with heads beside each other in a token.
fn laid(array: &Array4<f32>, layout: bool) -> Array4<f32> {
    if layout {
        array.view().permuted_axes([0, 2, 1, 3]).as_standard_layout().into_owned().permuted_axes([0, 2, 1, 3])
    } else {
        array.clone()
    }
}

#[derive(Debug)]
struct Problem {
    q: Array4<f32>,
    k: Array4<f32>,
    v: Array4<f32>,
    dy: Array4<f32>,
    attention: Attention,
}

/// Outputs, logarithms of sums and the three gradients.
struct Results {
    y: Array4<f32>,
    log_sums: Array3<f32>,
    gradients: [Array4<f32>; 3],
}

impl Results {
    fn bits(&self) -> [Vec<u32>; 5] {
        let [dq, dk, dv] = &self.gradients;
        [bits(&self.y), bits(&self.log_sums), bits(dq), bits(dk), bits(dv)]
    }
}

impl Problem {
    fn new(shape: (usize, usize, usize, usize), causal: bool, seed: u64, specials: bool) -> Problem {
        let of = |salt| array(shape, seed ^ salt, specials);
        let attention = Attention { causal, scale: 0.3 };
        Problem { q: of(1), k: of(2), v: of(3), dy: of(4), attention }
    }

    fn results(&self, isa: Isa, layout: bool) -> Results {
        let (q, k, v, dy) =
            (laid(&self.q, layout), laid(&self.k, !layout), laid(&self.v, layout), laid(&self.dy, layout));
        let blank = || laid(&Array4::from_elem(q.raw_dim(), 7.0), layout);
        let (batch, heads, tokens, _) = q.dim();
        let (mut y, mut log_sums) = (blank(), Array3::from_elem((batch, heads, tokens), 7.0));
        let (attention, [mut dq, mut dk, mut dv]) = (&self.attention, [blank(), blank(), blank()]);
        attention_into_with(isa, q.view(), k.view(), v.view(), attention, y.view_mut(), log_sums.view_mut())
            .unwrap();
        let operands = AttentionOperands {
            q: q.view(),
            k: k.view(),
            v: v.view(),
            y: y.view(),
            log_sums: log_sums.view(),
        };
        let (q_gradient, k_gradient, v_gradient) = (dq.view_mut(), dk.view_mut(), dv.view_mut());
        attention_grad_into_with(isa, &operands, dy.view(), attention, q_gradient, k_gradient, v_gradient)
            .unwrap();
        Results { y, log_sums, gradients: [dq, dk, dv] }
    }

    /// The definition. The logarithms of the sums are taken from `results`, after a comparison with the maximum and the sum: the
    /// gradients begin at them.
    fn expected(&self, results: &Results) -> [Vec<u32>; 5] {
        let (mut y, mut dq) = (Array4::zeros(self.q.raw_dim()), Array4::<f32>::zeros(self.q.raw_dim()));
        let (mut dk, mut dv) = (dq.clone(), dq.clone());
        let (batch, heads, tokens, width) = self.q.dim();
        let scale = self.attention.scale;
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let head = |all: &Array4<f32>| all.slice(s![b, h, .., ..]).to_owned();
            let (q, k, v, dy) = (head(&self.q), head(&self.k), head(&self.v), head(&self.dy));
            for i in 0..tokens {
                let seen = if self.attention.causal { i + 1 } else { tokens };
                let score = |j: usize| {
                    let mut chain = 0.0f32;
                    (0..width).for_each(|d| chain = k[[j, d]].mul_add(q[[i, d]], chain));
                    scale * chain
                };
                let (mut max, mut sum, mut row) = (f32::NEG_INFINITY, 0.0f32, vec![0.0f32; width]);
                for block in (0..seen).collect::<Vec<_>>().chunks(64) {
                    let before = max;
                    block.iter().for_each(|&j| max = if score(j) > max { score(j) } else { max });
                    let rescale = elementary::exp(before - max);
                    sum *= rescale;
                    row.iter_mut().for_each(|value| *value *= rescale);
                    for &j in block {
                        let p = elementary::exp(score(j) - max);
                        sum += p;
                        (0..width).for_each(|d| row[d] = v[[j, d]].mul_add(p, row[d]));
                    }
                }
                (0..width).for_each(|d| y[[b, h, i, d]] = row[d] / sum);
                let log_sum = results.log_sums[[b, h, i]];
                let near = (elementary::log(sum) + max - log_sum).abs() <= 1e-6 * (1.0 + max.abs());
                assert!(near || (log_sum.is_nan() && sum.is_nan()), "ln {sum} + {max} is not {log_sum}");
                let mut total = 0.0f32;
                (0..width).for_each(|d| total = dy[[i, d]].mul_add(y[[b, h, i, d]], total));
                for j in 0..seen {
                    let p = elementary::exp(score(j) - log_sum);
                    let mut chain = 0.0f32;
                    (0..width).for_each(|d| chain = v[[j, d]].mul_add(dy[[i, d]], chain));
                    let slope = (p * (chain - total)) * scale;
                    for d in 0..width {
                        dq[[b, h, i, d]] = k[[j, d]].mul_add(slope, dq[[b, h, i, d]]);
                        dk[[b, h, j, d]] = q[[i, d]].mul_add(slope, dk[[b, h, j, d]]);
                        dv[[b, h, j, d]] = dy[[i, d]].mul_add(p, dv[[b, h, j, d]]);
                    }
                }
            }
        }
        [bits(&y), bits(&results.log_sums), bits(&dq), bits(&dk), bits(&dv)]
    }
}

fn holds(problem: &Problem, layout: bool) -> Result<(), TestCaseError> {
    let scalar = problem.results(Isa::available()[0], false);
    let expected = problem.expected(&scalar);
    for isa in Isa::available() {
        let results = problem.results(isa, layout).bits();
        for (name, (result, expected)) in
            ["y", "log_sums", "dq", "dk", "dv"].iter().zip(results.iter().zip(&expected))
        {
            prop_assert!(result == expected, "{} on {}", name, isa.name());
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

fn problems() -> impl Strategy<Value = (Problem, bool)> {
    let shape = (0usize..3, 0usize..3, prop_oneof![4 => 0usize..40, 1 => 60usize..140], 1usize..34);
    (shape, any::<bool>(), any::<u64>(), any::<bool>()).prop_map(|(shape, causal, seed, layout)| {
        (Problem::new(shape, causal, seed, seed.is_multiple_of(3)), layout)
    })
}

proptest! {
    #![proptest_config(config(100, 21))]
    #[test]
    fn every_path_is_the_naive_loop((problem, layout) in problems()) {
        holds(&problem, layout)?;
    }
}

proptest! {
    #![proptest_config(config(10_000, 22))]
    #[test]
    #[ignore = "slow: cargo test --release -p bitproof-kernels --test attention -- --ignored"]
    fn every_path_is_the_naive_loop_often((problem, layout) in problems()) {
        holds(&problem, layout)?;
    }
}

/// Tokens around tiles of 64 and registers, widths around the rows of a tile.
#[test]
fn tile_edges_agree() {
    for (tokens, width) in
        [(1, 64), (15, 1), (16, 8), (17, 7), (63, 9), (64, 64), (65, 16), (127, 65), (129, 33), (200, 128)]
    {
        for causal in [false, true] {
            let problem = Problem::new((1, 1, tokens, width), causal, tokens as u64, false);
            holds(&problem, false).unwrap_or_else(|failure| panic!("{tokens}x{width} {causal}: {failure}"));
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for causal in [false, true] {
        let problem = Problem::new((2, 3, 150, 40), causal, 3, false);
        let expected = problem.expected(&problem.results(Isa::available()[0], false));
        for threads in [1, 2, 3, 8] {
            let results = with_threads(threads, || problem.results(Isa::get(), false));
            assert!(results.bits() == expected, "{threads} threads");
        }
    }
}

/// What a token does not see changes nothing, not even if it is NaN or infinite.
#[test]
fn the_future_is_invisible() {
    let mut problem = Problem::new((1, 1, 80, 12), true, 4, false);
    for isa in Isa::available() {
        let before = problem.results(isa, false);
        for array in [&mut problem.k, &mut problem.v] {
            array.slice_mut(s![.., .., 70, ..]).fill(f32::NAN);
            array.slice_mut(s![.., .., 75, ..]).fill(f32::INFINITY);
        }
        let after = problem.results(isa, false);
        let earlier = s![.., .., ..70, ..];
        assert_eq!(bits(before.y.slice(earlier)), bits(after.y.slice(earlier)), "{}", isa.name());
        let (before, after) = (&before.gradients[0], &after.gradients[0]);
        assert_eq!(bits(before.slice(earlier)), bits(after.slice(earlier)), "{}", isa.name());
        assert!(after.slice(s![.., .., 70.., ..]).iter().all(|value| value.is_nan()));
        problem = Problem::new((1, 1, 80, 12), true, 4, false);
    }
}

/// The negative control: keys in another order are seen.
#[test]
fn other_orders_differ() {
    let problem = Problem::new((1, 1, 100, 16), false, 5, false);
    let expected = problem.results(Isa::get(), false).bits();
    let mut backwards = Problem::new((1, 1, 100, 16), false, 5, false);
    backwards.k.invert_axis(ndarray::Axis(2));
    backwards.v.invert_axis(ndarray::Axis(2));
    let results = backwards.results(Isa::get(), false).bits();
    assert_ne!(results[0], expected[0]);
    assert_ne!(results[2], expected[2]);
}

/// The derivative by differences, in f64 where that matters: the formulas of the gradients are right.
#[test]
fn gradients_are_slopes() {
    let shape = (1, 2, 70, 5);
    let smooth = |salt: usize| {
        Array4::from_shape_fn(shape, |(_, h, t, d)| {
            ((h * 31 + t * 17 + d * 7 + salt * 13) % 23) as f32 / 11.5 - 1.0
        })
    };
    for causal in [false, true] {
        let attention = Attention { causal, scale: 0.5 };
        let mut problem = Problem { q: smooth(1), k: smooth(2), v: smooth(3), dy: smooth(4), attention };
        let gradients = problem.results(Isa::get(), false).gradients;
        let loss = |problem: &Problem| -> f64 {
            let y = problem.results(Isa::get(), false).y;
            y.iter().zip(&problem.dy).map(|(&y, &dy)| f64::from(y) * f64::from(dy)).sum()
        };
        for (which, at) in [(0, [0, 1, 33, 2]), (1, [0, 0, 20, 4]), (2, [0, 1, 64, 0]), (0, [0, 0, 69, 1])] {
            let mut moved = |step: f32| {
                let array = match which {
                    0 => &mut problem.q,
                    1 => &mut problem.k,
                    _ => &mut problem.v,
                };
                array[at] += step;
                let loss = loss(&problem);
                match which {
                    0 => problem.q = smooth(1),
                    1 => problem.k = smooth(2),
                    _ => problem.v = smooth(3),
                }
                loss
            };
            let slope = (moved(0.0625) - moved(-0.0625)) / 0.125;
            let gradient = f64::from(gradients[which][at]);
            assert!(
                (slope - gradient).abs() < 2e-3 * (1.0 + gradient.abs()),
                "{which} {at:?}: {slope} and {gradient}"
            );
        }
    }
}

#[test]
fn shapes_are_checked() {
    let (x, other) = (Array4::<f32>::zeros((1, 2, 3, 4)), Array4::<f32>::zeros((1, 2, 4, 4)));
    let attention = Attention { causal: false, scale: 1.0 };
    let (mut y, mut log_sums) = (Array4::from_elem((1, 2, 3, 4), 7.0), Array3::zeros((1, 2, 3)));
    let refusal =
        attention_into(x.view(), other.view(), x.view(), &attention, y.view_mut(), log_sums.view_mut());
    assert!(matches!(refusal.unwrap_err(), KernelError::ShapeMismatch { right_name: "k", .. }));
    let mut short = Array3::zeros((1, 2, 2));
    let refusal = attention_into(x.view(), x.view(), x.view(), &attention, y.view_mut(), short.view_mut());
    assert!(matches!(refusal.unwrap_err(), KernelError::ShapeMismatch { right_name: "log_sums", .. }));
    assert!(y.iter().all(|&y| y == 7.0), "refused attention writes nothing");
    let empty = Array4::<f32>::zeros((1, 2, 3, 0));
    let mut y = empty.clone();
    let refusal = attention_into(
        empty.view(),
        empty.view(),
        empty.view(),
        &attention,
        y.view_mut(),
        log_sums.view_mut(),
    );
    assert!(refusal.is_err());
}

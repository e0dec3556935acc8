//! AdamW: the written formula bit for bit on every instruction set and number of threads, and how close that formula is to the
//! step in real numbers.

use bitproof_kernels::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Draws of which all are reproduced by the seed.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 8
    }

    /// In [−1, 1).
    fn even(&mut self) -> f64 {
        (self.next() as u32) as f64 / 2_147_483_648.0 - 1.0
    }

    /// Of any sign, evenly distributed over the exponents in `2^-range .. 2^range`.
    fn scaled(&mut self, range: i32) -> f32 {
        let exponent = 127 - range + (self.next() % (2 * range as u64)) as i32;
        f32::from_bits(self.next() as u32 & 0x807f_ffff | (exponent as u32) << 23)
    }

    /// Mostly ordinary numbers, with zeros, denormals, infinities, NaN and any bits among them.
    fn wild(&mut self) -> f32 {
        let raw = self.next() as u32;
        match self.next() >> 25 & 63 {
            0..=3 => f32::from_bits(raw & 0x8000_0000),
            4..=7 => f32::from_bits(raw & 0x807f_ffff),
            8..=9 => f32::from_bits(raw),
            10 => [f32::INFINITY, f32::NEG_INFINITY, f32::NAN][raw as usize % 3],
            // Moments that the step takes below the smallest normal number, or not quite.
            11..=13 => f32::from_bits(raw & 0x807f_ffff | 0x0080_0000),
            _ => raw as f32 / 2e9 - 1.0,
        }
    }
}

/// Parameters, gradients, and both moments.
#[derive(Clone)]
struct Model {
    p: Vec<f32>,
    g: Vec<f32>,
    m: Vec<f32>,
    v: Vec<f32>,
}

impl Model {
    fn wild(length: usize, seed: u64) -> Model {
        let mut draws = Draws(seed);
        let mut values = || (0..length).map(|_| draws.wild()).collect::<Vec<f32>>();
        let (p, g, m, v) = (values(), values(), values(), values());
        Model { p, g, m, v: v.iter().map(|v| v.abs()).collect() }
    }

    fn step(&mut self, config: &AdamW, correction: &BiasCorrection) {
        adamw_step(config, correction, &mut self.p, &self.g, &mut self.m, &mut self.v).unwrap();
    }

    /// The step that the documentation writes down.
    fn formula(&mut self, config: &AdamW, steps: u64) {
        let [alpha, beta1, beta2, eps, lambda] =
            [config.learning_rate, config.beta1, config.beta2, config.eps, config.weight_decay]
                .map(f64::from);
        let [power1, power2] = powers(config, steps);
        let (gain1, gain2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32);
        let root = (1.0 - power2).sqrt();
        let (rho, eps, delta) =
            ((alpha * root / (1.0 - power1)) as f32, (eps * root) as f32, (alpha * lambda) as f32);
        for (((p, g), m), v) in self.p.iter_mut().zip(&self.g).zip(&mut self.m).zip(&mut self.v) {
            *m = config.beta1 * *m + gain1 * g;
            if m.abs() < f32::MIN_POSITIVE {
                *m = 0.0;
            }
            *v = config.beta2 * *v + (gain2 * g) * g;
            *p -= rho * (*m / (v.sqrt() + eps)) + delta * *p;
        }
    }

    fn bits(&self) -> [Vec<u32>; 3] {
        [&self.p, &self.m, &self.v]
            .map(|values| values.iter().map(|&value| canonical_nan(value).to_bits()).collect())
    }
}

/// `β₁ᵗ` and `β₂ᵗ`.
fn powers(config: &AdamW, steps: u64) -> [f64; 2] {
    [config.beta1, config.beta2].map(|beta| (0..steps).fold(1.0, |power, _| power * f64::from(beta)))
}

#[test]
fn every_path_is_the_formula() {
    let config = AdamW { weight_decay: 0.03, ..AdamW::default() };
    let correction = BiasCorrection::after(3, &config);
    for length in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000, 70_001] {
        let before = Model::wild(length, 1);
        let mut expected = before.clone();
        expected.formula(&config, 3);
        for isa in Isa::available() {
            for threads in [1, 2, 3, 8] {
                let mut got = before.clone();
                with_threads(threads, || isa.force(|| got.step(&config, &correction)));
                assert!(got.bits() == expected.bits(), "{length} on {}, {threads} threads", isa.name());
            }
        }
    }
}

fn configs() -> impl Strategy<Value = AdamW> {
    let beta = || prop::sample::select(vec![0.0, 0.3, 0.5, 0.9, 0.999, 1.0 - f32::EPSILON / 2.0]);
    let rate = prop::sample::select(vec![0.0, f32::from_bits(900), 1e-6, 1e-3, 0.5, 10.0]);
    let eps = prop::sample::select(vec![0.0, f32::from_bits(3), 1e-8, 1e-3]);
    let decay = prop::sample::select(vec![0.0, f32::from_bits(70), 1e-2, 1.0]);
    (rate, beta(), beta(), eps, decay).prop_map(|(learning_rate, beta1, beta2, eps, weight_decay)| AdamW {
        learning_rate,
        beta1,
        beta2,
        eps,
        weight_decay,
    })
}

/// Two steps from any state: what one of them leaves is what the next one finds.
fn holds(config: AdamW, steps: u64, length: usize, seed: u64) -> Result<(), TestCaseError> {
    let before = Model::wild(length, seed);
    let mut expected = before.clone();
    (steps..steps + 2).for_each(|steps| expected.formula(&config, steps));
    for isa in Isa::available() {
        let mut got = before.clone();
        for steps in steps..steps + 2 {
            isa.force(|| got.step(&config, &BiasCorrection::after(steps, &config)));
        }
        prop_assert_eq!(got.bits(), expected.bits(), "{}", isa.name());
    }
    Ok(())
}

fn cases(cases: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(51);
    ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]
    #[test]
    fn any_step_is_the_formula(config in configs(), steps in 1u64..2000, length in 0usize..140, seed: u64) {
        holds(config, steps, length, seed)?;
    }
}

proptest! {
    #![proptest_config(cases(10_000))]
    #[test]
    #[ignore = "10,000 cases: cargo test --release -p bitproof-kernels --test adamw -- --ignored"]
    fn any_step_is_the_formula_at_length(
        config in configs(), steps in 1u64..2000, length in 0usize..140, seed: u64,
    ) {
        holds(config, steps, length, seed)?;
    }
}

/// A step in f64 from `[p, g, m, v]` to `[p, m, v]`, and the largest error that `p'` may have: the documented bound.
fn exact(config: &AdamW, [power1, power2]: [f64; 2], [p, g, m, v]: [f64; 4]) -> ([f64; 3], f64) {
    let u = f64::from(f32::EPSILON) / 2.0;
    let [alpha, beta1, beta2, eps, lambda] =
        [config.learning_rate, config.beta1, config.beta2, config.eps, config.weight_decay].map(f64::from);
    let new_m = beta1 * m + (1.0 - beta1) * g;
    let new_v = beta2 * v + (1.0 - beta2) * g * g;
    let rate = alpha / (1.0 - power1) / ((new_v / (1.0 - power2)).sqrt() + eps);
    let new_p = (1.0 - alpha * lambda) * p - rate * new_m;
    let moved = rate * (beta1 * m.abs() + (1.0 - beta1) * g.abs()) + alpha * lambda * p.abs();
    ([new_p, new_m, new_v], u * new_p.abs() + 12.0 * u * moved)
}

/// The share of the allowed error that the worst of many elements takes up after one step of `step`.
fn worst_share(step: impl Fn(&AdamW, &BiasCorrection, &mut Model)) -> f64 {
    let mut worst: f64 = 0.0;
    let mut draws = Draws(7);
    for (learning_rate, beta1, beta2, eps) in [
        (1e-3, 0.9, 0.999, 1e-8),
        (1e-6, 0.95, 0.99, 1e-8),
        (0.1, 0.0, 0.9, 1e-3),
        (3e-4, 0.9, 0.99999, 1e-12),
    ] {
        let config = AdamW { learning_rate, beta1, beta2, eps, weight_decay: 0.01 };
        for steps in [1, 2, 10, 1000, 100_000] {
            let before = {
                let mut model = Model { p: vec![], g: vec![], m: vec![], v: vec![] };
                for _ in 0..3000 {
                    let g = draws.scaled(40);
                    let near = g * draws.scaled(5);
                    model.m.push(g * draws.scaled(5));
                    model.v.push(near * near);
                    model.p.push(draws.scaled(12));
                    model.g.push(g);
                }
                model
            };
            let (mut after, powers) = (before.clone(), powers(&config, steps));
            step(&config, &BiasCorrection::after(steps, &config), &mut after);
            for i in 0..before.p.len() {
                let operands = [before.p[i], before.g[i], before.m[i], before.v[i]].map(f64::from);
                let ([p, ..], allowed) = exact(&config, powers, operands);
                worst = worst.max((f64::from(after.p[i]) - p).abs() / allowed);
            }
        }
    }
    worst
}

#[test]
fn a_step_is_as_close_to_the_exact_one_as_documented() {
    let share = worst_share(|config, correction, model| model.step(config, correction));
    assert!((0.5..=1.0).contains(&share), "{share} of the bound");
    // The negative control: the decay by a rounded factor, as in PyTorch, costs more than is allowed.
    let share = worst_share(|config, correction, model| {
        let keep = (1.0 - f64::from(config.learning_rate) * f64::from(config.weight_decay)) as f32;
        model.p.iter_mut().for_each(|p| *p *= keep);
        model.step(&AdamW { weight_decay: 0.0, ..*config }, correction);
    });
    assert!(share > 1.0, "{share} of the bound");
}

/// 300 steps on the noisy gradient of a bowl: the largest difference to the same in f64 throughout. `late` is how many steps the
/// bias correction lags behind.
fn drift(late: u64) -> f64 {
    const STEPS: u64 = 300;
    let config = AdamW { weight_decay: 0.1, ..AdamW::default() };
    let mut draws = Draws(11);
    let p: Vec<f32> = (0..500).map(|_| draws.even() as f32).collect();
    let mut model = Model { g: vec![0.0; 500], m: vec![0.0; 500], v: vec![0.0; 500], p };
    let mut wide: Vec<[f64; 3]> = model.p.iter().map(|&p| [f64::from(p), 0.0, 0.0]).collect();
    for steps in 1..=STEPS {
        for (g, p) in model.g.iter_mut().zip(&model.p) {
            *g = p * 0.1 + draws.even() as f32 * 1e-2;
        }
        model.step(&config, &BiasCorrection::after(steps.saturating_sub(late).max(1), &config));
        let powers = powers(&config, steps);
        for (state, &g) in wide.iter_mut().zip(&model.g) {
            (*state, _) = exact(&config, powers, [state[0], f64::from(g), state[1], state[2]]);
        }
    }
    let differences = model.p.iter().zip(&wide).map(|(&p, wide)| (f64::from(p) - wide[0]).abs());
    differences.fold(0.0, f64::max)
}

/// Half a unit in the last place of 1 for each of the 300 steps.
#[test]
fn many_steps_stay_close_to_the_exact_ones() {
    let allowed = 300.0 * f64::from(f32::EPSILON) / 2.0;
    assert!(drift(0) < allowed, "{}", drift(0));
    assert!(drift(1) > allowed, "the negative control: {}", drift(1));
}

/// A unit that is never active again: its moments end at zero instead of staying denormal.
#[test]
fn moments_without_gradients_vanish() {
    let config = AdamW::default();
    let mut model = Model { p: vec![0.5; 20], g: vec![0.0; 20], m: vec![-1e-3; 20], v: vec![1e-6; 20] };
    let mut correction = BiasCorrection::default();
    for _ in 0..1000 {
        correction.advance(&config);
        model.step(&config, &correction);
        assert!(!model.m.iter().any(|m| m.is_subnormal()));
    }
    assert_eq!(model.m, [0.0; 20]);
    assert!(model.m[0].is_sign_positive());
    let plain = (0..1000).fold(-1e-3f32, |m, _| 0.9 * m);
    assert!(plain.is_subnormal(), "the negative control");
}

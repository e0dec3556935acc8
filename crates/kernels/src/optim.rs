//! Optimizer steps: each new value is one sequence of operations on the operands and on constants of the step.

mod clip;

use rayon::prelude::*;

use crate::error::{same_length, KernelError};
use crate::isa::Isa;
use crate::simd::{Simd, Vectorized};
use crate::spec::optim::{AdamWStep, SgdStep};
use crate::threads::{with_float_defaults, worth};

pub use clip::{clip_gradients, gradient_norm};

/// Constants of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019). The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Step size α.
    pub learning_rate: f32,
    /// Decay β₁ of the first moment.
    pub beta1: f32,
    /// Decay β₂ of the second moment.
    pub beta2: f32,
    /// ε, added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay λ; scaled by the learning rate.
    pub weight_decay: f32,
}

impl Default for AdamW {
    fn default() -> AdamW {
        AdamW { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 1e-2 }
    }
}

/// The powers `β₁ᵗ` and `β₂ᵗ` of AdamW's bias correction, as f64 products `((1·β)·β)·β …` that grow by one factor a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BiasCorrection {
    steps: u64,
    beta1_power: f64,
    beta2_power: f64,
}

impl Default for BiasCorrection {
    /// Before the first step: `t = 0`, both powers 1.
    fn default() -> BiasCorrection {
        BiasCorrection { steps: 0, beta1_power: 1.0, beta2_power: 1.0 }
    }
}

impl BiasCorrection {
    /// The state after `steps` steps with the same `config`: what [`advance`](Self::advance) reaches. O(steps).
    pub fn after(steps: u64, config: &AdamW) -> BiasCorrection {
        let mut state = BiasCorrection::default();
        for _ in 0..steps {
            state.advance(config);
        }
        state
    }

    /// Begins a step: once for each step, before [`adamw_step`] is called for its tensors.
    pub fn advance(&mut self, config: &AdamW) {
        with_float_defaults(|| {
            self.steps += 1;
            self.beta1_power *= f64::from(config.beta1);
            self.beta2_power *= f64::from(config.beta2);
        });
    }

    /// `β₁ᵗ` and `β₂ᵗ`.
    pub(crate) fn powers(&self) -> (f64, f64) {
        (self.beta1_power, self.beta2_power)
    }

    /// Steps begun so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }
}

/// One AdamW step on one tensor, in place. In f32, in this order and without fused operations:
///
/// `m₁ = β₁·m + (1 − β₁)·g`, `m' = |m₁| < 2⁻¹²⁶ ? +0 : m₁`, `v' = β₂·v + ((1 − β₂)·g)·g`,
/// `p' = p − (ρ·(m' / (√v' + ε̂)) + δ·p)`
///
/// with the constants of step t, computed in f64 from the f32 values of `config` and rounded once to f32: `1 − β₁`, `1 − β₂`,
/// `ρ = (α·√(1 − β₂ᵗ)) / (1 − β₁ᵗ)`, `ε̂ = ε·√(1 − β₂ᵗ)` and `δ = α·λ`. In real numbers that is the step of the paper,
/// `(1 − α·λ)·p − α·(m' / (1 − β₁ᵗ)) / (√(v' / (1 − β₂ᵗ)) + ε)`. With u = 2⁻²⁴, and where nothing overflows or is denormal, p' lies
/// within `u·|p'| + 12u·(ρ·(β₁·|m| + (1 − β₁)·|g|) / (√v' + ε̂) + δ·|p|)` of that. The decay is subtracted, since a rounded `1 − δ` would
/// lose what is small: all of it for α·λ = 10⁻⁸.
///
/// A first moment without gradients, as of a unit that is never active, would decay until it is denormal and stay so; processors are
/// many times slower with such numbers, hence `+0`. `m'` and `v'` enter `p'` as they are stored, so a step depends only on what a
/// checkpoint holds. Where `v'` overflows, with the default β₂ from `|g|` of 5.8·10²⁰ on, it stays infinite and `p` only decays from
/// then on. An infinite `p` becomes NaN, and so does, with ε = 0, one whose moments are 0.
///
/// Large tensors are divided over the current rayon pool.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the four slices are not equally long; nothing is changed then.
///
/// # Panics
/// If [`BiasCorrection::advance`] was never called: `1 − β⁰` is zero.
pub fn adamw_step(
    config: &AdamW,
    correction: &BiasCorrection,
    param: &mut [f32],
    grad: &[f32],
    m: &mut [f32],
    v: &mut [f32],
) -> Result<(), KernelError> {
    assert!(correction.steps > 0, "advance begins a step before adamw_step is called");
    same_length("adamw_step", ("param", param.len()), ("grad", grad.len()))?;
    same_length("adamw_step", ("param", param.len()), ("m", m.len()))?;
    same_length("adamw_step", ("param", param.len()), ("v", v.len()))?;
    let isa = Isa::get();
    let step = with_float_defaults(|| AdamWStep::new(config, correction));
    let part = part_length(param.len());
    let states = m.par_chunks_mut(part).zip(v.par_chunks_mut(part));
    let parts = param.par_chunks_mut(part).zip(grad.par_chunks(part)).zip(states);
    parts.for_each(|((param, grad), (m, v))| {
        with_float_defaults(|| {
            let part = AdamWPart { step: &step, param, grad, m, v };
            isa.vectorize(part).unwrap_or_else(AdamWPart::update);
        });
    });
    Ok(())
}

struct AdamWPart<'a> {
    step: &'a AdamWStep,
    param: &'a mut [f32],
    grad: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl AdamWPart<'_> {
    /// Elements have nothing to do with each other, so the specification is the code of every instruction set.
    #[inline(always)]
    fn update(self) {
        let states = self.m.iter_mut().zip(self.v);
        for ((p, &g), (m, v)) in self.param.iter_mut().zip(self.grad).zip(states) {
            (*p, *m, *v) = self.step.element(*p, g, *m, *v);
        }
    }
}

impl Vectorized for AdamWPart<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.update();
    }
}

/// Constants of stochastic gradient descent with (heavy-ball) momentum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Step size α.
    pub learning_rate: f32,
    /// Momentum μ; 0 is plain gradient descent.
    pub momentum: f32,
    /// Weight decay λ, added to the gradient as `λ·p`.
    pub weight_decay: f32,
}

/// One step on one tensor, in place. With all operands widened to f64, in this order and without fused operations:
/// `u' = f32(μ·u + (g + λ·p))`, `p' = f32(p − α·u')`. Velocities `u` begin at `+0`.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the three slices are not equally long; nothing is changed then.
pub fn sgd_step(
    config: &Sgd,
    param: &mut [f32],
    grad: &[f32],
    velocity: &mut [f32],
) -> Result<(), KernelError> {
    same_length("sgd_step", ("param", param.len()), ("grad", grad.len()))?;
    same_length("sgd_step", ("param", param.len()), ("velocity", velocity.len()))?;
    let isa = Isa::get();
    let step = with_float_defaults(|| SgdStep::new(config));
    let part = part_length(param.len());
    let parts = param.par_chunks_mut(part).zip(grad.par_chunks(part)).zip(velocity.par_chunks_mut(part));
    parts.for_each(|((param, grad), velocity)| {
        with_float_defaults(|| {
            let part = SgdPart { step: &step, param, grad, velocity };
            isa.vectorize(part).unwrap_or_else(SgdPart::update);
        });
    });
    Ok(())
}

struct SgdPart<'a> {
    step: &'a SgdStep,
    param: &'a mut [f32],
    grad: &'a [f32],
    velocity: &'a mut [f32],
}

impl SgdPart<'_> {
    #[inline(always)]
    fn update(self) {
        for ((p, &g), u) in self.param.iter_mut().zip(self.grad).zip(self.velocity) {
            (*p, *u) = self.step.element(*p, g, *u);
        }
    }
}

impl Vectorized for SgdPart<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.update();
    }
}

/// Elements that one thread updates of `length`.
fn part_length(length: usize) -> usize {
    /// Elements that are worth waking a thread for.
    const WORTH_A_THREAD: usize = 1 << 15;
    /// Parts end where cache lines do, if the tensors begin there.
    const GRAIN: usize = 16;
    length.div_ceil(worth(length, WORTH_A_THREAD)).next_multiple_of(GRAIN).max(GRAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adamw_equals_hand_computed_steps() {
        let config = AdamW { learning_rate: 0.5, beta1: 0.5, beta2: 0.75, eps: 0.25, weight_decay: 0.5 };
        let mut correction = BiasCorrection::default();
        let (mut p, mut m, mut v) = ([2.0], [0.0], [0.0]);
        correction.advance(&config);
        adamw_step(&config, &correction, &mut p, &[1.0], &mut m, &mut v).unwrap();
        // m = 0.5, v = 0.25, unbiased both 1: p = 2 - (0.5 * 1 / (1 + 0.25) + 0.25 * 2) = 1.1
        assert_eq!((m, v, p), ([0.5], [0.25], [1.1]));
        correction.advance(&config);
        assert_eq!(correction, BiasCorrection::after(2, &config));
        assert_eq!((correction.beta1_power, correction.beta2_power), (0.25, 0.5625));
        adamw_step(&config, &correction, &mut p, &[-3.0], &mut m, &mut v).unwrap();
        assert_eq!((m, v), ([-1.25], [2.4375]));
        let root = 0.4375f64.sqrt();
        let (rate, eps) = ((0.5 * root / 0.75) as f32, (0.25 * root) as f32);
        assert_eq!(p, [1.1 - (rate * (-1.25 / (2.4375f32.sqrt() + eps)) + 0.25 * 1.1)]);
        let unbiased = (-1.25 / 0.75, 2.4375f64 / 0.4375);
        let exact = 0.75 * f64::from(1.1f32) - 0.5 * unbiased.0 / (unbiased.1.sqrt() + 0.25);
        assert!((f64::from(p[0]) - exact).abs() < 1e-7, "{p:?} and {exact}");
    }

    #[test]
    fn a_split_tensor_gives_the_same_bits() {
        let config = AdamW::default();
        let correction = BiasCorrection::after(3, &config);
        let grad: Vec<f32> = (0..100).map(|i| (i as f32 - 50.0) * 1e-3).collect();
        let run = |cut: usize| {
            let (mut p, mut m, mut v) = (vec![0.3f32; 100], vec![0.01f32; 100], vec![0.02f32; 100]);
            for range in [0..cut, cut..100] {
                let (p, m, v) = (&mut p[range.clone()], &mut m[range.clone()], &mut v[range.clone()]);
                adamw_step(&config, &correction, p, &grad[range], m, v).unwrap();
            }
            [p, m, v].concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(run(0), run(37));
        assert_eq!(run(0), run(99));
    }

    #[test]
    fn sgd_equals_hand_computed_steps() {
        let config = Sgd { learning_rate: 0.5, momentum: 0.5, weight_decay: 0.25 };
        let (mut p, mut u) = ([2.0], [0.0]);
        sgd_step(&config, &mut p, &[1.0], &mut u).unwrap();
        assert_eq!((u, p), ([1.5], [1.25]));
        sgd_step(&config, &mut p, &[0.0], &mut u).unwrap();
        assert_eq!((u, p), ([1.0625], [0.71875]));
    }

    #[test]
    fn lengths_are_checked_before_anything_changes() {
        let config = AdamW::default();
        let correction = BiasCorrection::after(1, &config);
        let mut p = [1.0, 2.0];
        let refusal = adamw_step(&config, &correction, &mut p, &[1.0, 1.0], &mut [0.0, 0.0], &mut [0.0]);
        assert!(matches!(refusal, Err(KernelError::ShapeMismatch { right_name: "v", .. })));
        assert_eq!(p, [1.0, 2.0]);
        let sgd = Sgd { learning_rate: 1.0, momentum: 0.0, weight_decay: 0.0 };
        assert!(sgd_step(&sgd, &mut p, &[1.0], &mut [0.0, 0.0]).is_err());
    }

    #[test]
    #[should_panic(expected = "advance begins a step")]
    fn a_step_needs_to_be_begun() {
        let _ = adamw_step(&AdamW::default(), &BiasCorrection::default(), &mut [], &[], &mut [], &mut []);
    }
}

//! One element of an optimizer's step. AdamW is a sequence of f32 operations, SGD one of f64 operations whose stored values are
//! rounded once to f32; neither fuses any.

use crate::optim::{AdamW, BiasCorrection, Sgd};

/// The constants of one AdamW step, each computed in f64 and rounded once to f32.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWStep {
    beta1: f32,
    /// `1 − β₁`.
    gain1: f32,
    beta2: f32,
    /// `1 − β₂`.
    gain2: f32,
    /// `α·√(1 − β₂ᵗ) / (1 − β₁ᵗ)`.
    rate: f32,
    /// `ε·√(1 − β₂ᵗ)`.
    eps: f32,
    /// `α·λ`.
    decay: f32,
}

impl AdamWStep {
    pub(crate) fn new(config: &AdamW, correction: &BiasCorrection) -> AdamWStep {
        let rate = f64::from(config.learning_rate);
        let (beta1_power, beta2_power) = correction.powers();
        let root = (1.0 - beta2_power).sqrt();
        AdamWStep {
            beta1: config.beta1,
            gain1: (1.0 - f64::from(config.beta1)) as f32,
            beta2: config.beta2,
            gain2: (1.0 - f64::from(config.beta2)) as f32,
            rate: (rate * root / (1.0 - beta1_power)) as f32,
            eps: (f64::from(config.eps) * root) as f32,
            decay: (rate * f64::from(config.weight_decay)) as f32,
        }
    }

    /// `(p', m', v')`. The stored `m'` and `v'` enter `p'`.
    #[inline(always)]
    pub(crate) fn element(&self, p: f32, g: f32, m: f32, v: f32) -> (f32, f32, f32) {
        let m = normal_or_zero(self.beta1 * m + self.gain1 * g);
        let v = self.beta2 * v + self.gain2 * g * g;
        let step = self.rate * (m / (v.sqrt() + self.eps));
        let p = p - (step + self.decay * p);
        (p, m, v)
    }
}

/// `|x| < 2⁻¹²⁶ ? +0 : x`: neither denormal nor −0.
#[inline(always)]
fn normal_or_zero(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE {
        0.0
    } else {
        x
    }
}

/// The constants of SGD.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SgdStep {
    rate: f64,
    momentum: f64,
    decay: f64,
}

impl SgdStep {
    pub(crate) fn new(config: &Sgd) -> SgdStep {
        SgdStep {
            rate: f64::from(config.learning_rate),
            momentum: f64::from(config.momentum),
            decay: f64::from(config.weight_decay),
        }
    }

    /// `(p', u')`. The rounded `u'` enters `p'`.
    #[inline(always)]
    pub(crate) fn element(&self, p: f32, g: f32, u: f32) -> (f32, f32) {
        let before = f64::from(p);
        let u = (self.momentum * f64::from(u) + (f64::from(g) + self.decay * before)) as f32;
        let p = (before - self.rate * f64::from(u)) as f32;
        (p, u)
    }
}

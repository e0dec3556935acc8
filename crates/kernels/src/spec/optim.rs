//! One element of an optimizer's step: plain f64 operations, each stored value rounded once to f32.

use crate::optim::{AdamW, BiasCorrection, Sgd};

/// The constants of one AdamW step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdamWStep {
    rate: f64,
    eps: f64,
    beta1: f64,
    beta2: f64,
    /// `1 − α·λ`.
    keep: f64,
    /// `1 − β₁ᵗ`.
    unbias1: f64,
    /// `1 − β₂ᵗ`.
    unbias2: f64,
}

impl AdamWStep {
    pub(crate) fn new(config: &AdamW, correction: &BiasCorrection) -> AdamWStep {
        let rate = f64::from(config.learning_rate);
        let (beta1_power, beta2_power) = correction.powers();
        AdamWStep {
            rate,
            eps: f64::from(config.eps),
            beta1: f64::from(config.beta1),
            beta2: f64::from(config.beta2),
            keep: 1.0 - rate * f64::from(config.weight_decay),
            unbias1: 1.0 - beta1_power,
            unbias2: 1.0 - beta2_power,
        }
    }

    /// `(p', m', v')`. The rounded `m'` and `v'` enter `p'`.
    #[inline(always)]
    pub(crate) fn element(&self, p: f32, g: f32, m: f32, v: f32) -> (f32, f32, f32) {
        let g = f64::from(g);
        let m = (self.beta1 * f64::from(m) + (1.0 - self.beta1) * g) as f32;
        let v = (self.beta2 * f64::from(v) + (1.0 - self.beta2) * (g * g)) as f32;
        let root = (f64::from(v) / self.unbias2).sqrt();
        let step = self.rate * (f64::from(m) / self.unbias1) / (root + self.eps);
        let p = (self.keep * f64::from(p) - step) as f32;
        (p, m, v)
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

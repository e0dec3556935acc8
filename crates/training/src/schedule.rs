//! The step size as a function of the step.

use std::f64::consts::PI;

use bitproof_kernels::elementary::cos;

/// How the step size changes over a training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// After how many steps it has risen, in equal parts, to the full step size.
    pub warmup_steps: u64,
    /// What it does from there on.
    pub decay: Decay,
}

/// What the step size does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// It stays.
    Constant,
    /// It falls along half a cosine to this share of the full step size (Loshchilov and Hutter 2017, without restarts).
    Cosine {
        /// From 0 to 1.
        floor: f64,
    },
}

impl Schedule {
    /// The step size of step `step` of `steps`, counted from 1, where `full` is the whole one.
    ///
    /// With w warm-up steps: `full·(step / w)` for `step ≤ w`. After them, with `x = (step − w) / (steps − w)`, a cosine gives
    /// `full·(floor + (1 − floor)·(½ + ½·c))` with `c` the correctly rounded `cos` of `f32(π·x)`. All else in f64, rounded once to f32: nothing of it
    /// comes from libm.
    pub fn at(&self, full: f64, step: u64, steps: u64) -> f32 {
        let warmup = self.warmup_steps;
        if step <= warmup {
            return (full * (step as f64 / warmup as f64)) as f32;
        }
        match self.decay {
            Decay::Constant => full as f32,
            Decay::Cosine { floor } => {
                let x = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
                let c = f64::from(cos((PI * x.min(1.0)) as f32));
                (full * (floor + (1.0 - floor) * (0.5 + 0.5 * c))) as f32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_in_equal_parts_and_falls_along_a_cosine() {
        let schedule = Schedule { warmup_steps: 4, decay: Decay::Cosine { floor: 0.1 } };
        let at = |step| schedule.at(0.5, step, 12);
        assert_eq!([1, 2, 3, 4].map(at), [0.125, 0.25, 0.375, 0.5]);
        // cos 0.25π, 0.5π and π to more digits than f32 holds.
        let expected = |c: f64| (0.5 * (0.1 + 0.9 * (0.5 + 0.5 * c))) as f32;
        for (step, c) in [(6, std::f64::consts::FRAC_1_SQRT_2), (8, 0.0), (12, -1.0)] {
            assert!((at(step) - expected(c)).abs() < 1e-7, "step {step}");
        }
        let constant = Schedule { warmup_steps: 0, decay: Decay::Constant };
        assert_eq!([1, 7, 12].map(|step| constant.at(0.3, step, 12)), [0.3; 3]);
        assert!((1..12).all(|step| step < 4 || at(step + 1) < at(step)), "it falls after the warm-up");
    }
}

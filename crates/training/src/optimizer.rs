//! Optimizers over all parameters of a model at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitproof_kernels::{adamw_step, axpy_in_place, sgd_step, AdamW, BiasCorrection, KernelError, Sgd};

use ndarray::{ArrayView1, ArrayViewMut1};

use crate::params::{ParamLayout, ParamSet, ParamSetError};
use crate::safetensors::Tensors;

/// An optimizer with its constants; the step size comes with each step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerKind {
    /// AdamW; the order of operations is that of [`adamw_step`].
    AdamW(AdamW),
    /// Stochastic gradient descent. Without momentum and weight decay it remembers nothing, and a step is `p' = fma(−α, g, p)`; else the
    /// order of operations is that of [`sgd_step`].
    Sgd(Sgd),
}

/// An optimizer with what it remembers.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    kind: OptimizerKind,
    /// AdamW's first and second moments, or the velocity.
    moments: Vec<ParamSet>,
    correction: BiasCorrection,
}

impl OptimizerKind {
    /// The names of what it remembers of each parameter.
    pub fn moments(&self) -> &'static [&'static str] {
        match self {
            Self::AdamW(_) => &["first_moment", "second_moment"],
            Self::Sgd(Sgd { momentum: 0.0, weight_decay: 0.0, .. }) => &[],
            Self::Sgd(_) => &["velocity"],
        }
    }
}

impl Optimizer {
    /// An optimizer that has made no step.
    pub fn new(kind: OptimizerKind, layout: &Arc<ParamLayout>) -> Self {
        let moments = kind.moments().iter().map(|_| ParamSet::zeros(layout)).collect();
        Self { kind, moments, correction: BiasCorrection::default() }
    }

    /// What it remembers: a value for each parameter, in the order of [`OptimizerKind::moments`].
    pub fn moments(&self) -> &[ParamSet] {
        &self.moments
    }

    /// Changes the parameters by one step of this size. Element by element, so their order does not matter.
    ///
    /// # Errors
    /// [`KernelError`] when the layouts differ.
    pub fn step(
        &mut self,
        learning_rate: f32,
        params: &mut ParamSet,
        gradient: &ParamSet,
    ) -> Result<(), KernelError> {
        let (params, gradient) = (params.values_mut(), gradient.values());
        match (&self.kind, self.moments.as_mut_slice()) {
            (OptimizerKind::AdamW(config), [first, second]) => {
                let config = AdamW { learning_rate, ..*config };
                self.correction.advance(&config);
                let (first, second) = (first.values_mut(), second.values_mut());
                adamw_step(&config, &self.correction, params, gradient, first, second)
            }
            (OptimizerKind::Sgd(_), []) => {
                axpy_in_place(-learning_rate, ArrayView1::from(gradient), ArrayViewMut1::from(params))
            }
            (OptimizerKind::Sgd(config), [velocity]) => {
                let config = Sgd { learning_rate, ..*config };
                sgd_step(&config, params, gradient, velocity.values_mut())
            }
            _ => unreachable!("an optimizer has the moments of its kind"),
        }
    }

    /// What it remembers as tensors: `<moment>.<parameter>`.
    pub fn to_tensors(&self) -> Tensors {
        let named = self.kind.moments().iter().zip(&self.moments);
        let tensors = named.flat_map(|(moment, set)| {
            set.to_tensors().into_iter().map(move |(name, tensor)| (format!("{moment}.{name}"), tensor))
        });
        tensors.collect()
    }

    /// The optimizer that made `steps` steps and gave [`Optimizer::to_tensors`].
    ///
    /// # Errors
    /// [`ParamSetError`] when the tensors are not its own.
    pub fn from_tensors(
        kind: OptimizerKind,
        layout: &Arc<ParamLayout>,
        steps: u64,
        tensors: Tensors,
    ) -> Result<Self, ParamSetError> {
        let mut by_moment: BTreeMap<&str, Tensors> = BTreeMap::new();
        for (name, tensor) in tensors {
            let known =
                kind.moments().iter().find_map(|m| Some((*m, name.strip_prefix(m)?.strip_prefix('.')?)));
            let Some((moment, parameter)) = known else { return Err(ParamSetError::Superfluous { name }) };
            by_moment.entry(moment).or_default().insert(parameter.to_owned(), tensor);
        }
        let moment =
            |name: &&'static str| ParamSet::from_tensors(layout, by_moment.remove(name).unwrap_or_default());
        let moments = kind.moments().iter().map(moment).collect::<Result<_, _>>()?;
        let correction = match &kind {
            OptimizerKind::AdamW(config) => BiasCorrection::after(steps, config),
            OptimizerKind::Sgd(_) => BiasCorrection::default(),
        };
        Ok(Self { kind, moments, correction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> [OptimizerKind; 2] {
        let sgd = Sgd { learning_rate: 0.0, momentum: 0.9, weight_decay: 0.01 };
        [OptimizerKind::AdamW(AdamW::default()), OptimizerKind::Sgd(sgd)]
    }

    #[test]
    fn plain_descent_remembers_nothing() {
        let kind = OptimizerKind::Sgd(Sgd { learning_rate: 0.0, momentum: 0.0, weight_decay: 0.0 });
        let layout = ParamLayout::new([("w", vec![2])]).unwrap();
        let (mut params, mut gradient) = (ParamSet::zeros(&layout), ParamSet::zeros(&layout));
        params.values_mut().copy_from_slice(&[1.0, -3.0]);
        gradient.values_mut().copy_from_slice(&[0.1, 7.0]);
        let mut optimizer = Optimizer::new(kind, &layout);
        optimizer.step(0.3, &mut params, &gradient).unwrap();
        let fused = |p: f32, g: f32| (f64::from(p) - f64::from(0.3_f32) * f64::from(g)) as f32;
        assert_eq!(params.values(), [fused(1.0, 0.1), fused(-3.0, 7.0)]);
        assert!(optimizer.to_tensors().is_empty() && optimizer.moments().is_empty());
        assert!(Optimizer::from_tensors(kind, &layout, 1, Tensors::new()).is_ok());
    }

    #[test]
    fn one_that_is_read_back_goes_on_with_the_same_bits() {
        let layout = ParamLayout::new([("w", vec![2, 2]), ("b", vec![2])]).unwrap();
        let gradient = |k: usize| {
            let mut set = ParamSet::zeros(&layout);
            set.values_mut().iter_mut().enumerate().for_each(|(i, g)| *g = (i + k) as f32 * 0.3 - 1.0);
            set
        };
        for kind in kinds() {
            let mut optimizer = Optimizer::new(kind, &layout);
            let mut params = ParamSet::zeros(&layout);
            for k in 0..5 {
                optimizer.step(0.01, &mut params, &gradient(k)).unwrap();
            }
            let mut again = Optimizer::from_tensors(kind, &layout, 5, optimizer.to_tensors()).unwrap();
            assert_eq!(again.moments(), optimizer.moments());
            let mut other = params.clone();
            optimizer.step(0.01, &mut params, &gradient(5)).unwrap();
            again.step(0.01, &mut other, &gradient(5)).unwrap();
            assert_eq!(params, other);

            let mut fewer = optimizer.to_tensors();
            let first = fewer.keys().next().cloned().unwrap();
            let tensor = fewer.remove(&first).unwrap();
            assert!(Optimizer::from_tensors(kind, &layout, 5, fewer.clone()).is_err(), "{first} is missing");
            fewer.insert("momentum.w".to_owned(), tensor);
            assert!(
                Optimizer::from_tensors(kind, &layout, 5, fewer).is_err(),
                "a moment of another optimizer"
            );
        }
    }
}

//! Losses, one for each row: their sum is what is differentiated.

use bitproof_kernels::elementary::{exp, log, sigmoid};
use bitproof_kernels::{softmax_cross_entropy_into, with_float_defaults};

use super::super::{Gradients, Operation, Shape, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// Cross-entropy of softmax: `logits` is (…, classes), there is a label for each row, and the result is the loss of each, computed in f64
    /// as [`softmax_cross_entropy_into`] says.
    ///
    /// # Errors
    /// [`TapeError::Kernel`] when a label is not below the number of classes or there are not as many as rows.
    pub fn cross_entropy(&mut self, logits: Var, labels: &[u32]) -> Result<Var, TapeError> {
        let shape = self.shape(logits);
        let mut losses = self.buffer(shape.rows());
        let mut slope = self.buffer(shape.elements());
        softmax_cross_entropy_into(
            self.values().matrix(logits),
            labels,
            &mut losses,
            shape.as_matrix_mut(&mut slope),
        )?;
        self.record_losses("cross_entropy", logits, losses, slope)
    }

    /// Binary cross-entropy of the sigmoid of `logits`, one for each target of 0 or 1: `(max(z, 0) − z·t) + ln(1 + exp(−|z|))`, in f32 with the
    /// kernels' correctly rounded functions; its slope is `sigmoid(z) − t`.
    ///
    /// # Errors
    /// [`TapeError::Elements`] when there are not as many targets as logits.
    pub fn bce_with_logits(&mut self, logits: Var, targets: &[f32]) -> Result<Var, TapeError> {
        self.elementwise_loss("bce_with_logits", logits, targets, |z, t| {
            let loss = (z.max(0.0) - z * t) + log(1.0 + exp(-z.abs()));
            // `max` forgets a NaN; the slope does not, but the loss has to say it too.
            (if z.is_nan() { z } else { loss }, sigmoid(z) - t)
        })
    }

    /// The squared error `(y − t)²`, one for each target, in f32; its slope is `2·(y − t)`.
    ///
    /// # Errors
    /// As [`Tape::bce_with_logits`].
    pub fn squared_error(&mut self, outputs: Var, targets: &[f32]) -> Result<Var, TapeError> {
        self.elementwise_loss("squared_error", outputs, targets, |y, t| {
            let difference = y - t;
            (difference * difference, 2.0 * difference)
        })
    }

    fn elementwise_loss(
        &mut self,
        name: &'static str,
        outputs: Var,
        targets: &[f32],
        of: impl Fn(f32, f32) -> (f32, f32),
    ) -> Result<Var, TapeError> {
        let elements = self.shape(outputs).elements();
        if targets.len() != elements {
            return Err(TapeError::Elements { expected: elements, got: targets.len() });
        }
        let (mut losses, mut slope) = (self.buffer(elements), self.buffer(elements));
        let each = losses.iter_mut().zip(&mut slope).zip(self.value(outputs).iter().zip(targets));
        with_float_defaults(|| each.for_each(|((loss, slope), (&y, &t))| (*loss, *slope) = of(y, t)));
        self.record_losses(name, outputs, losses, slope)
    }

    fn record_losses(
        &mut self,
        name: &'static str,
        of: Var,
        losses: Vec<f32>,
        slope: Vec<f32>,
    ) -> Result<Var, TapeError> {
        let slope = self.record_constant(self.shape(of), slope);
        let shape = Shape::new(&[losses.len()])?;
        Ok(self.record(shape, losses, &[of], Loss { name, of, slope }))
    }
}

/// A loss a row whose slope was found on the way forward.
struct Loss {
    name: &'static str,
    of: Var,
    slope: Var,
}

impl Operation for Loss {
    fn name(&self) -> &'static str {
        self.name
    }
    /// `d = slope · dy` of the row: one product, which for `dy` of 1 keeps every bit.
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let slope = values.get(self.slope);
        let columns = (slope.len() / dy.len().max(1)).max(1);
        gradients.fill(self.of, slope.len(), |d| {
            let rows = d.chunks_exact_mut(columns).zip(slope.chunks_exact(columns)).zip(&dy);
            with_float_defaults(|| {
                for ((d, slope), &dy) in rows {
                    d.iter_mut().zip(slope).for_each(|(d, &s)| *d = s * dy);
                }
            });
            Ok(())
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

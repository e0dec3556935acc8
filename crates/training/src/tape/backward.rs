//! The way back: gradients, from the last operation to the first.

use bitproof_kernels::{binary_in_place, Binary};
use ndarray::{ArrayView1, ArrayViewMut1};

use super::{Buffers, Node, Tape, TapeError, Values, Var};
use crate::trainable::Traced;

/// Gradients on their way back.
pub struct Gradients<'t, 'p> {
    /// Of each value, as far as its consumers were walked.
    found: Vec<Gradient<'p>>,
    buffers: &'t mut Buffers,
}

enum Gradient<'p> {
    /// Nobody asks for it.
    Unwanted,
    /// No consumer was walked yet.
    Zero,
    Owned(Vec<f32>),
    /// Of a variable, and whether something stands there.
    Lent(&'p mut [f32], bool),
}

impl<'p> Gradient<'p> {
    fn of(node: &mut Node<'p>) -> Self {
        match node.gradient.take() {
            Some(into) => Self::Lent(into, false),
            None if node.learns => Self::Zero,
            None => Self::Unwanted,
        }
    }
}

impl Gradients<'_, '_> {
    /// Whether a gradient of this value is wanted.
    pub(super) fn wanted(&self, var: Var) -> bool {
        !matches!(self.found[var.0 as usize], Gradient::Unwanted)
    }

    /// Memory for a gradient, holding whatever was there before.
    pub(super) fn buffer(&mut self, elements: usize) -> Vec<f32> {
        self.buffers.take(elements)
    }

    /// Takes back memory that is no longer needed.
    pub(super) fn give_back(&mut self, spent: Vec<f32>) {
        self.buffers.give_back(spent);
    }

    /// Adds a part of a value's gradient: `old + new`.
    pub(super) fn add(&mut self, var: Var, new: Vec<f32>) {
        match &mut self.found[var.0 as usize] {
            slot @ Gradient::Zero => {
                *slot = Gradient::Owned(new);
                return;
            }
            Gradient::Owned(old) => add_to(old, &new),
            Gradient::Lent(old, true) => add_to(old, &new),
            Gradient::Lent(old, written) => {
                old.copy_from_slice(&new);
                *written = true;
            }
            Gradient::Unwanted => {}
        }
        self.buffers.give_back(new);
    }

    /// As [`Gradients::add`] of what `fill` writes, which has to write every element; straight to where it is kept if nothing stands
    /// there yet.
    pub(super) fn fill(
        &mut self,
        var: Var,
        elements: usize,
        fill: impl FnOnce(&mut [f32]) -> Result<(), TapeError>,
    ) -> Result<(), TapeError> {
        match &mut self.found[var.0 as usize] {
            Gradient::Unwanted => Ok(()),
            Gradient::Lent(into, written @ false) => {
                *written = true;
                fill(into)
            }
            _ => {
                let mut new = self.buffers.take(elements);
                fill(&mut new)?;
                self.add(var, new);
                Ok(())
            }
        }
    }
}

fn add_to(old: &mut [f32], new: &[f32]) {
    binary_in_place(Binary::Add, ArrayViewMut1::from(old), ArrayView1::from(new))
        .expect("a gradient has the shape of its value");
}

impl Tape<'_> {
    /// The gradient of the sum of a value's elements with respect to every variable, into the place that the variable named.
    ///
    /// # Errors
    /// [`TapeError`] when a kernel refuses an operand.
    pub fn backward(mut self, of: Var) -> Result<(), TapeError> {
        let mut see = self.see.take();
        let found = self.nodes.iter_mut().map(Gradient::of).collect();
        let mut gradients = Gradients { found, buffers: &mut *self.buffers };
        let mut ones = gradients.buffer(self.nodes[of.0 as usize].shape.elements());
        ones.fill(1.0);
        gradients.add(of, ones);
        for index in (0..=of.0).rev() {
            let at = index as usize;
            let Some(operation) = self.nodes[at].operation.take() else { continue };
            let Gradient::Owned(dy) = std::mem::replace(&mut gradients.found[at], Gradient::Unwanted) else {
                continue;
            };
            if let Some(see) = &mut see {
                let name = format!("the gradient of operation {index} ({})", operation.name());
                see(Traced { operation: &name, values: &dy });
            }
            operation.backward(&Values(&self.nodes), dy, &mut gradients)?;
        }
        for (index, gradient) in gradients.found.into_iter().enumerate() {
            match gradient {
                Gradient::Owned(spent) => gradients.buffers.give_back(spent),
                Gradient::Lent(into, written) => {
                    if !written {
                        into.fill(0.0);
                    }
                    if let Some(see) = &mut see {
                        see(Traced { operation: &format!("the gradient of variable {index}"), values: into });
                    }
                }
                Gradient::Unwanted | Gradient::Zero => {}
            }
        }
        Ok(())
    }
}

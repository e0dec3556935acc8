//! Logistic regression: `torch.nn.Linear(inputs, 1)` with binary cross-entropy for two classes, `torch.nn.Linear(inputs, classes)` with
//! the cross-entropy of softmax for more. The tensors are those of [`Linear`].

use super::architecture::Head;
use super::linear::Linear;

/// Logistic regression on examples of this shape.
pub(crate) fn logistic(shape: &[usize], classes: usize) -> Linear {
    let head = if classes == 2 { Head::TwoClasses } else { Head::Classes };
    Linear::new(shape, head.outputs(classes), head)
}

//! Models: parameters by name, a forward pass and its gradients, on the kernels alone.

mod mlp;

pub use mlp::{Mlp, ModelError, MAX_PARAMETERS};

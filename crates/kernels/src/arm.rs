//! aarch64: the control register of floating point. Fused multiply-add belongs to the base architecture, so the scalar
//! code needs no second compilation.

pub(crate) mod neon;

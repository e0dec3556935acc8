//! aarch64: lanes of NEON, and the control register of floating point. Fused multiply-add belongs to the base architecture, so
//! scalar code needs no second compilation.

pub(crate) mod fpcr;
pub(crate) mod neon;

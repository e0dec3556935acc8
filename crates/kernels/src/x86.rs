//! x86-64: the same scalar code compiled for AVX2 and FMA, and the control register of floating point.

pub(crate) mod avx2;

//! x86-64: lanes of AVX2 and AVX-512, and what scalar code needs of the processor.

pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod fma;
pub(crate) mod mxcsr;

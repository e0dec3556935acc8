//! The specification: scalar code that defines the bits. It is compiled once for each instruction set where that matters
//! (`matmul`), and only once where plain IEEE operations do (`elementary`).

pub(crate) mod elementary;
pub(crate) mod fma;
pub(crate) mod matmul;
pub(crate) mod tables;

//! The specification: scalar code that defines the bits. It is compiled once for each instruction set where that matters
//! (`matmul`), and only once where plain IEEE operations do (`elementary`).

pub(crate) mod attention;
pub(crate) mod broadcast;
pub(crate) mod conv;
pub(crate) mod dropout;
pub(crate) mod elementary;
pub(crate) mod embed;
pub(crate) mod fma;
pub(crate) mod matmul;
pub(crate) mod norm;
pub(crate) mod normal;
pub(crate) mod optim;
pub(crate) mod pool;
pub(crate) mod reduce;
pub(crate) mod softmax;
pub(crate) mod tables;

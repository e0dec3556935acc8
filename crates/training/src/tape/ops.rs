//! The operations, each with its way forward and its way back.

mod activation;
mod arithmetic;
mod arrange;
mod attention;
mod conv;
mod dropout;
mod elementary;
mod embedding;
mod join;
mod linear;
mod loss;
mod matmul;
mod norm;
mod pool;
mod reduce;
mod select;
mod softmax;

pub use matmul::Product;

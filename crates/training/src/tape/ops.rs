//! The operations, each with its way forward and its way back.

mod activation;
mod arithmetic;
mod attention;
mod conv;
mod dropout;
mod embedding;
mod linear;
mod loss;
mod norm;
mod pool;

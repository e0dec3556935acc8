//! Other people's programs for what the kernels do: crates of the feature `peers`, and Python libraries in processes of their own.

#[cfg(feature = "peers")]
mod products;
mod python;

use ndarray::{Array2, ArrayView2};

use crate::harness::Contender;
pub use python::Python;

/// A matrix product, its operands as the case names them: `nn`, `nt` (B transposed), `tn` (A transposed).
pub struct ProductCase {
    /// Its name: `64x784x256/nn`.
    pub name: String,
    /// M, K, N.
    pub shape: (usize, usize, usize),
    a: Array2<f32>,
    b: Array2<f32>,
    form: &'static str,
}

impl ProductCase {
    /// Fills the operands from the streams of the inputs.
    pub fn new((m, k, n): (usize, usize, usize), form: &'static str) -> Self {
        let of = |transposed: bool, rows, columns, name| {
            let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
            crate::inputs::matrix(rows, columns, name)
        };
        Self {
            name: format!("{m}x{k}x{n}/{form}"),
            shape: (m, k, n),
            a: of(form == "tn", m, k, b"operandA"),
            b: of(form == "nt", k, n, b"operandB"),
            form,
        }
    }

    /// M by K.
    pub fn a(&self) -> ArrayView2<'_, f32> {
        if self.form == "tn" {
            self.a.t()
        } else {
            self.a.view()
        }
    }

    /// K by N.
    pub fn b(&self) -> ArrayView2<'_, f32> {
        if self.form == "nt" {
            self.b.t()
        } else {
            self.b.view()
        }
    }

    /// Everybody else's product of the same operands.
    pub fn peers<'a>(&'a self, threads: usize, pythons: &'a [Python]) -> Vec<Box<dyn Contender + 'a>> {
        let (m, k, n) = self.shape;
        let request = format!("matmul {threads} {m} {k} {n} {}", self.form);
        #[cfg(feature = "peers")]
        let crates = products::all(self, threads);
        #[cfg(not(feature = "peers"))]
        let crates = Vec::new();
        let libraries = pythons.iter().filter_map(|python| python.contender(&request));
        libraries.map(|library| library as Box<dyn Contender + 'a>).chain(crates).collect()
    }
}

//! `C[i,j]`: one chain of fused multiply-adds over `k`, which is what every faster path must reproduce.

use super::fma::{Fma, Fused};

/// Continues the chains in `c`: `c[i,j] ← fma(a[i,k], b[k,j], c[i,j])` for `k = 0, 1, … K−1`.
///
/// `a` is M×K, `b` is K×N, `c` is M×N, all row-major without gaps; none of M, K, N is 0. Every `k` takes part, also where `a` or
/// `b` is zero (`0·∞` is NaN), and none is added (`fma(0, 0, −0)` is `+0`). The chains of a row go on side by side.
pub(crate) struct MatrixProduct<'a> {
    pub(crate) a: &'a [f32],
    pub(crate) b: &'a [f32],
    pub(crate) c: &'a mut [f32],
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

impl Fused for MatrixProduct<'_> {
    #[inline(always)]
    fn run<F: Fma>(self) {
        let rows = self.a.chunks_exact(self.depth).zip(self.c.chunks_exact_mut(self.columns));
        for (a, c) in rows {
            for (&a, b) in a.iter().zip(self.b.chunks_exact(self.columns)) {
                for (c, &b) in c.iter_mut().zip(b) {
                    *c = F::fma(a, b, *c);
                }
            }
        }
    }
}

//! `C[i,j]`: one chain of fused multiply-adds over `k`, which is what every faster path must reproduce.

use super::fma::Fma;

/// Continues the chains in `c`: `c[i,j] ← fma(a[i,k], b[k,j], c[i,j])` for `k = 0, 1, … K−1`.
///
/// `a` is M×K, `b` is K×N, `c` is M×N, all row-major without gaps. Every `k` takes part, also where `a` or `b` is zero
/// (`0·∞` is NaN), and none is added (`fma(0, 0, −0)` is `+0`). The tiles only decide which chains advance together.
#[inline(always)]
pub(crate) fn chains<F: Fma>(a: &[f32], b: &[f32], c: &mut [f32], depth: usize, columns: usize) {
    if columns == 0 || depth == 0 {
        return;
    }
    const ROWS: usize = 4;
    let mut a_bands = a.chunks_exact(ROWS * depth);
    let mut c_bands = c.chunks_exact_mut(ROWS * columns);
    for (a, c) in a_bands.by_ref().zip(c_bands.by_ref()) {
        band::<F, ROWS>(a, b, c, depth, columns);
    }
    let rest = a_bands.remainder().chunks_exact(depth);
    for (a, c) in rest.zip(c_bands.into_remainder().chunks_exact_mut(columns)) {
        band::<F, 1>(a, b, c, depth, columns);
    }
}

/// R rows of C, from left to right in strips of 16, 8 and 1 columns.
#[inline(always)]
fn band<F: Fma, const R: usize>(a: &[f32], b: &[f32], c: &mut [f32], depth: usize, columns: usize) {
    let mut from = 0;
    while columns - from >= 16 {
        tile::<F, R, 16>(a, b, c, depth, columns, from);
        from += 16;
    }
    while columns - from >= 8 {
        tile::<F, R, 8>(a, b, c, depth, columns, from);
        from += 8;
    }
    while columns > from {
        tile::<F, R, 1>(a, b, c, depth, columns, from);
        from += 1;
    }
}

/// R×W chains side by side, held in registers for all of `k`.
#[inline(always)]
fn tile<F: Fma, const R: usize, const W: usize>(
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    depth: usize,
    columns: usize,
    from: usize,
) {
    let mut chain = [[0.0_f32; W]; R];
    for (row, chain) in chain.iter_mut().enumerate() {
        chain.copy_from_slice(&c[row * columns + from..][..W]);
    }
    let a: [&[f32]; R] = std::array::from_fn(|row| &a[row * depth..][..depth]);
    for (k, b) in b.chunks_exact(columns).enumerate().take(depth) {
        let b = &b[from..][..W];
        for row in 0..R {
            for column in 0..W {
                chain[row][column] = F::fma(a[row][k], b[column], chain[row][column]);
            }
        }
    }
    for (row, chain) in chain.iter().enumerate() {
        c[row * columns + from..][..W].copy_from_slice(chain);
    }
}

//! Scaled dot-product attention of one head, row by row: what the tiles must reproduce.
//!
//! `q`, `k`, `v`, `y` and their gradients are T×W, row-major. Row `i` sees the keys `j < n`, where `n` is `i + 1` if the attention is
//! causal and T if not. Scores are `s[i,j] = scale · dot(k[j], q[i])`, where `dot(a, b)` is one chain `c ← fma(a[d], b[d], c)` over
//! `d` in rising order from `+0`. `exp` is the correctly rounded one.

use super::elementary::{exp, log64};
use super::fma::{Fma, Fused};

/// Keys that share one maximum.
pub(crate) const BLOCK: usize = 64;

/// What all rows of one head have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    pub(crate) tokens: usize,
    pub(crate) width: usize,
    pub(crate) causal: bool,
    pub(crate) scale: f32,
}

impl Head<'_> {
    /// Keys that row `i` sees.
    fn seen(&self, i: usize) -> usize {
        if self.causal {
            i + 1
        } else {
            self.tokens
        }
    }

    #[inline(always)]
    fn score<F: Fma>(&self, i: usize, j: usize) -> f32 {
        self.scale * dot::<F>(row(self.k, j, self.width), row(self.q, i, self.width))
    }
}

/// Rows `first..` of the output and the logarithms of their sums. For a row, with `m = −∞`, `l = +0` and `y[d] = +0` before, block
/// after block of 64 keys in rising order:
///
/// `m' = max(m, s[j] …)` (`s > m ? s : m`, key by key), `r = exp(m − m')`, `l ← l·r`, `y[d] ← y[d]·r`, `m ← m'`, then for each key of the
/// block `p = exp(s[j] − m)`, `l ← l + p`, `y[d] ← fma(v[j,d], p, y[d])`. At the end `y[d] ← y[d] / l` and
/// `log_sum = f32(f64(m) + ln f64(l))`, `ln` being the f64 sequence of `elementary`.
pub(crate) struct Forward<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) first: usize,
    pub(crate) y: &'a mut [f32],
    pub(crate) log_sums: &'a mut [f32],
}

impl Fused for Forward<'_> {
    #[inline(always)]
    fn run<F: Fma>(self) {
        let head = self.head;
        for (index, (y, log_sum)) in self.y.chunks_exact_mut(head.width).zip(self.log_sums).enumerate() {
            let i = self.first + index;
            let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
            y.fill(0.0);
            for first in (0..head.seen(i)).step_by(BLOCK) {
                let keys = first..head.seen(i).min(first + BLOCK);
                let mut scores = [0.0; BLOCK];
                let before = max;
                for (score, j) in scores.iter_mut().zip(keys.clone()) {
                    *score = head.score::<F>(i, j);
                    max = if *score > max { *score } else { max };
                }
                let rescale = exp(before - max);
                sum *= rescale;
                y.iter_mut().for_each(|y| *y *= rescale);
                for (score, j) in scores.iter().zip(keys) {
                    let p = exp(score - max);
                    sum += p;
                    y.iter_mut().zip(row(head.v, j, head.width)).for_each(|(y, &v)| *y = F::fma(v, p, *y));
                }
            }
            y.iter_mut().for_each(|y| *y /= sum);
            *log_sum = log_of_sum(max, sum);
        }
    }
}

/// `f32(f64(max) + ln f64(sum))`. A sum that is not NaN is at least one: the largest score has `p = 1`.
pub(crate) fn log_of_sum(max: f32, sum: f32) -> f32 {
    if sum.is_nan() {
        return f32::NAN;
    }
    (f64::from(max) + log64(f64::from(sum))) as f32
}

/// The gradients of one head. With `t[i] = dot(dy[i], y[i])`, `p[i,j] = exp(s[i,j] − log_sums[i])` and
/// `ds[i,j] = (p[i,j] · (dot(v[j], dy[i]) − t[i])) · scale`:
///
/// `dq[i,d] = fma(k[j,d], ds[i,j], …)` over the keys `j` that row `i` sees, `dk[j,d] = fma(ds[i,j], q[i,d], …)` and
/// `dv[j,d] = fma(p[i,j], dy[i,d], …)` over the rows `i` that see key `j`: one chain each, in rising order from `+0`.
pub(crate) struct Backward<'a> {
    pub(crate) head: Head<'a>,
    pub(crate) y: &'a [f32],
    pub(crate) log_sums: &'a [f32],
    pub(crate) dy: &'a [f32],
    pub(crate) dq: &'a mut [f32],
    pub(crate) dk: &'a mut [f32],
    pub(crate) dv: &'a mut [f32],
}

impl Fused for Backward<'_> {
    #[inline(always)]
    fn run<F: Fma>(self) {
        let (head, width) = (self.head, self.head.width);
        [&mut *self.dq, &mut *self.dk, &mut *self.dv].into_iter().for_each(|gradient| gradient.fill(0.0));
        for i in 0..head.tokens {
            let (q, dy) = (row(head.q, i, width), row(self.dy, i, width));
            let total = dot::<F>(dy, row(self.y, i, width));
            let dq = &mut self.dq[i * width..][..width];
            for j in 0..head.seen(i) {
                let (k, v) = (row(head.k, j, width), row(head.v, j, width));
                let p = exp(head.score::<F>(i, j) - self.log_sums[i]);
                let ds = (p * (dot::<F>(v, dy) - total)) * head.scale;
                let (dk, dv) = (&mut self.dk[j * width..][..width], &mut self.dv[j * width..][..width]);
                for d in 0..width {
                    dq[d] = F::fma(k[d], ds, dq[d]);
                    dk[d] = F::fma(ds, q[d], dk[d]);
                    dv[d] = F::fma(p, dy[d], dv[d]);
                }
            }
        }
    }
}

/// `t[i] = dot(dy[i], y[i])` for all rows.
pub(crate) struct Totals<'a> {
    pub(crate) dy: &'a [f32],
    pub(crate) y: &'a [f32],
    pub(crate) width: usize,
    pub(crate) totals: &'a mut [f32],
}

impl Fused for Totals<'_> {
    #[inline(always)]
    fn run<F: Fma>(self) {
        let rows = self.dy.chunks_exact(self.width).zip(self.y.chunks_exact(self.width));
        for (total, (dy, y)) in self.totals.iter_mut().zip(rows) {
            *total = dot::<F>(dy, y);
        }
    }
}

#[inline(always)]
fn dot<F: Fma>(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |chain, (&a, &b)| F::fma(a, b, chain))
}

fn row(values: &[f32], index: usize, width: usize) -> &[f32] {
    &values[index * width..][..width]
}

//! Scaled dot-product attention in tiles of 64 queries by 64 keys, without a T×T matrix, and its gradients.

mod tiles;

use ndarray::{ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4};

use crate::error::{same_shape, KernelError};
use crate::isa::{Isa, Path};
use crate::scratch::{fill_row_major, row_major};
use crate::spec::attention::{Backward, Forward, Head, BLOCK};
use crate::spec::fma::fused;
use crate::threads::{with_float_defaults, worth};

/// What is seen of a sequence, and the factor of its scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Whether a token sees only itself and those before it.
    pub causal: bool,
    /// What scores are multiplied by, usually `1/√W`.
    pub scale: f32,
}

/// Multiply-adds below which waking a thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 19;

/// `y[i] = Σ_j softmax_j(scale · q[i]·k[j]) · v[j]` for every head, and `log_sums[i] = ln Σ_j exp(scale · q[i]·k[j])`, which the gradients need.
///
/// The order, for each row: score `s[j] = scale · c` with `c ← fma(k[j,d], q[i,d], c)` over `d` in rising order from `+0`. With `m = −∞`, `l = +0`
/// and `y[d] = +0` before, block after block of 64 keys from key 0 on: `m' = max(m, s[j] …)`, `r = exp(m − m')`, `l ← l·r`, `y[d] ← y[d]·r`,
/// `m ← m'`, then for each key of the block in rising order `p = exp(s[j] − m)`, `l ← l + p`, `y[d] ← fma(v[j,d], p, y[d])`. At the end
/// `y[d] ← y[d] / l` and `log_sums = f32(f64(m) + ln f64(l))`. All in f32, with the correctly rounded `exp`. Keys that a row does not see take no part,
/// whatever their values. Rows that see NaN, a score of `+∞`, or a first block of nothing but `−∞` are NaN.
///
/// `q`, `k`, `v` and `y` are B×heads×T×W, `log_sums` is B×heads×T, with any strides. O(B·heads·T²·W) operations, divided over the
/// current rayon pool by blocks of rows; each thread keeps O(W) scratch. What does not lie in row-major order is copied.
///
/// ```
/// use bitproof_kernels::{attention_into, Attention};
/// use ndarray::{Array3, Array4};
/// let x = Array4::from_shape_fn((1, 1, 2, 1), |(_, _, i, _)| i as f32);
/// let (mut y, mut log_sums) = (Array4::zeros((1, 1, 2, 1)), Array3::zeros((1, 1, 2)));
/// let causal = Attention { causal: true, scale: 1.0 };
/// attention_into(x.view(), x.view(), x.view(), &causal, y.view_mut(), log_sums.view_mut())?;
/// assert_eq!(y[[0, 0, 0, 0]], 0.0); // sees only itself
/// assert_eq!(y[[0, 0, 1, 0]], 0.731_058_6); // e / (1 + e)
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes do not fit; the outputs are then unchanged.
pub fn attention_into(
    q: ArrayView4<'_, f32>,
    k: ArrayView4<'_, f32>,
    v: ArrayView4<'_, f32>,
    attention: &Attention,
    y: ArrayViewMut4<'_, f32>,
    log_sums: ArrayViewMut3<'_, f32>,
) -> Result<(), KernelError> {
    attention_into_with(Isa::get(), q, k, v, attention, y, log_sums)
}

/// [`attention_into`] on a chosen instruction set. The bits are the same; this is how tests show it.
///
/// # Errors
/// As [`attention_into`].
pub fn attention_into_with(
    isa: Isa,
    q: ArrayView4<'_, f32>,
    k: ArrayView4<'_, f32>,
    v: ArrayView4<'_, f32>,
    attention: &Attention,
    y: ArrayViewMut4<'_, f32>,
    log_sums: ArrayViewMut3<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "attention";
    for (name, shape) in [("k", k.shape()), ("v", v.shape()), ("y", y.shape())] {
        same_shape(KERNEL, ("q", q.shape()), (name, shape))?;
    }
    same_shape(KERNEL, ("q without its last axis", &q.shape()[..3]), ("log_sums", log_sums.shape()))?;
    if q.is_empty() && !log_sums.is_empty() {
        return no_width(KERNEL, q.shape());
    }
    if q.is_empty() {
        return Ok(());
    }
    let (.., tokens, width) = q.dim();
    let (q, k, v) = (row_major(KERNEL, &q)?, row_major(KERNEL, &k)?, row_major(KERNEL, &v)?);
    let heads = Heads { q: &q, k: &k, v: &v, tokens, width, attention: *attention };
    fill_row_major(KERNEL, y, |y| {
        fill_row_major(KERNEL, log_sums, |log_sums| {
            let work = y.len().saturating_mul(2 * tokens);
            let threads = worth(work, WORTH_A_THREAD);
            // Blocks of rows differ in their work, so a thread may take one that another has not begun.
            let parts = if threads == 1 { 1 } else { 4 * threads };
            let blocks = log_sums.len() / tokens * tokens.div_ceil(BLOCK);
            forward_blocks(isa, &heads, 0..blocks, y, log_sums, parts);
            Ok(())
        })
    })
}

/// The gradients of [`attention_into`] for `dy`, from its operands and results.
///
/// With `t[i]` the chain `fma(dy[i,d], y[i,d], …)` over `d`, `p[i,j] = exp(s[i,j] − log_sums[i])`, `g[i,j]` the chain `fma(v[j,d], dy[i,d], …)` over
/// `d` and `ds[i,j] = (p[i,j] · (g[i,j] − t[i])) · scale`: `dq[i,d] = fma(k[j,d], ds[i,j], …)` over the keys that row `i` sees,
/// `dk[j,d] = fma(ds[i,j], q[i,d], …)` and `dv[j,d] = fma(p[i,j], dy[i,d], …)` over the rows that see key `j`; each is one chain in rising
/// order from `+0`. Probabilities are computed again, tile by tile.
///
/// All arrays are B×heads×T×W but `log_sums`, which is B×heads×T; any strides. Divided over the current rayon pool by heads; each
/// thread keeps O(T·W) scratch.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes do not fit; the outputs are then unchanged.
pub fn attention_grad_into(
    operands: &AttentionOperands<'_>,
    dy: ArrayView4<'_, f32>,
    attention: &Attention,
    dq: ArrayViewMut4<'_, f32>,
    dk: ArrayViewMut4<'_, f32>,
    dv: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    attention_grad_into_with(Isa::get(), operands, dy, attention, dq, dk, dv)
}

/// What [`attention_into`] was given, and what it returned.
#[derive(Debug, Clone, Copy)]
pub struct AttentionOperands<'a> {
    /// Queries.
    pub q: ArrayView4<'a, f32>,
    /// Keys.
    pub k: ArrayView4<'a, f32>,
    /// Values.
    pub v: ArrayView4<'a, f32>,
    /// Outputs.
    pub y: ArrayView4<'a, f32>,
    /// Logarithms of the sums of exponentials.
    pub log_sums: ArrayView3<'a, f32>,
}

/// [`attention_grad_into`] on a chosen instruction set.
///
/// # Errors
/// As [`attention_grad_into`].
pub fn attention_grad_into_with(
    isa: Isa,
    operands: &AttentionOperands<'_>,
    dy: ArrayView4<'_, f32>,
    attention: &Attention,
    dq: ArrayViewMut4<'_, f32>,
    dk: ArrayViewMut4<'_, f32>,
    dv: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "attention_grad";
    let AttentionOperands { q, k, v, y, log_sums } = *operands;
    let others = [("k", k.shape()), ("v", v.shape()), ("y", y.shape()), ("dy", dy.shape())];
    let gradients = [("dq", dq.shape()), ("dk", dk.shape()), ("dv", dv.shape())];
    for (name, shape) in others.into_iter().chain(gradients) {
        same_shape(KERNEL, ("q", q.shape()), (name, shape))?;
    }
    same_shape(KERNEL, ("q without its last axis", &q.shape()[..3]), ("log_sums", log_sums.shape()))?;
    if q.is_empty() {
        return Ok(());
    }
    let (batch, heads, tokens, width) = q.dim();
    let (q, k, v) = (row_major(KERNEL, &q)?, row_major(KERNEL, &k)?, row_major(KERNEL, &v)?);
    let (y, dy, log_sums) = (row_major(KERNEL, &y)?, row_major(KERNEL, &dy)?, row_major(KERNEL, &log_sums)?);
    let context = GradientContext {
        heads: Heads { q: &q, k: &k, v: &v, tokens, width, attention: *attention },
        y: &y,
        dy: &dy,
        log_sums: &log_sums,
    };
    fill_row_major(KERNEL, dq, |dq| {
        fill_row_major(KERNEL, dk, |dk| {
            fill_row_major(KERNEL, dv, |dv| {
                let work = dq.len().saturating_mul(5 * tokens);
                context.backward(isa, 0..batch * heads, [dq, dk, dv], worth(work, WORTH_A_THREAD));
                Ok(())
            })
        })
    })
}

/// All heads of all sequences, one after another.
#[derive(Clone, Copy)]
struct Heads<'a> {
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    tokens: usize,
    width: usize,
    attention: Attention,
}

impl<'a> Heads<'a> {
    fn head(&self, index: usize) -> Head<'a> {
        let size = self.tokens * self.width;
        let of = |values: &'a [f32]| &values[index * size..][..size];
        let Attention { causal, scale } = self.attention;
        let (tokens, width) = (self.tokens, self.width);
        Head { q: of(self.q), k: of(self.k), v: of(self.v), tokens, width, causal, scale }
    }

    /// Rows of all heads before this block of rows.
    fn rows_before(&self, block: usize) -> usize {
        let blocks = self.tokens.div_ceil(BLOCK);
        block / blocks * self.tokens + block % blocks * BLOCK
    }
}

/// The blocks of rows in `parts` bands, over threads.
fn forward_blocks(
    isa: Isa,
    heads: &Heads<'_>,
    blocks: std::ops::Range<usize>,
    y: &mut [f32],
    log_sums: &mut [f32],
    parts: usize,
) {
    if parts > 1 && blocks.len() > 1 {
        let middle = blocks.start + blocks.len() / 2;
        let rows = heads.rows_before(middle) - heads.rows_before(blocks.start);
        let (y_low, y_high) = y.split_at_mut(rows * heads.width);
        let (low, high) = log_sums.split_at_mut(rows);
        rayon::join(
            || forward_blocks(isa, heads, blocks.start..middle, y_low, low, parts / 2),
            || forward_blocks(isa, heads, middle..blocks.end, y_high, high, parts - parts / 2),
        );
        return;
    }
    with_float_defaults(|| {
        let (mut y, mut log_sums) = (y, log_sums);
        let blocks_of_head = heads.tokens.div_ceil(BLOCK);
        for block in blocks {
            let first = block % blocks_of_head * BLOCK;
            let rows = BLOCK.min(heads.tokens - first);
            let (these, rest) = std::mem::take(&mut y).split_at_mut(rows * heads.width);
            let (sums, more) = std::mem::take(&mut log_sums).split_at_mut(rows);
            (y, log_sums) = (rest, more);
            let head = heads.head(block / blocks_of_head);
            let forward = Forward { head, first, y: these, log_sums: sums };
            match isa.path() {
                Path::Scalar => fused(forward),
                _ => tiles::forward(isa, forward),
            }
        }
    });
}

struct GradientContext<'a> {
    heads: Heads<'a>,
    y: &'a [f32],
    dy: &'a [f32],
    log_sums: &'a [f32],
}

impl GradientContext<'_> {
    /// The heads in `parts` bands, over threads. The gradients are those of `dq`, `dk` and `dv`.
    fn backward(&self, isa: Isa, heads: std::ops::Range<usize>, gradients: [&mut [f32]; 3], parts: usize) {
        let (tokens, size) = (self.heads.tokens, self.heads.tokens * self.heads.width);
        if parts > 1 && heads.len() > 1 {
            let middle = heads.start + heads.len() / 2;
            let [q, k, v] = gradients.map(|gradient| gradient.split_at_mut((middle - heads.start) * size));
            rayon::join(
                || self.backward(isa, heads.start..middle, [q.0, k.0, v.0], parts / 2),
                || self.backward(isa, middle..heads.end, [q.1, k.1, v.1], parts - parts / 2),
            );
            return;
        }
        with_float_defaults(|| {
            let [dq, dk, dv] = gradients.map(|gradient| gradient.chunks_exact_mut(size));
            for (index, ((dq, dk), dv)) in heads.zip(dq.zip(dk).zip(dv)) {
                let (y, dy) = (&self.y[index * size..][..size], &self.dy[index * size..][..size]);
                let log_sums = &self.log_sums[index * tokens..][..tokens];
                let backward = Backward { head: self.heads.head(index), y, log_sums, dy, dq, dk, dv };
                match isa.path() {
                    Path::Scalar => fused(backward),
                    _ => tiles::backward(isa, backward),
                }
            }
        });
    }
}

fn no_width(kernel: &'static str, shape: &[usize]) -> Result<(), KernelError> {
    Err(KernelError::ShapeMismatch {
        kernel,
        left_name: "q",
        left: shape.to_vec(),
        right_name: "itself",
        right: shape.to_vec(),
        rule: "tokens need a width of at least 1",
    })
}

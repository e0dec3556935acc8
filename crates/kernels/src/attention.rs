//! Scaled dot-product attention in tiles of 64 queries by 64 keys, without a T×T matrix, and its gradients.

mod ahead;
mod tiles;

use ndarray::{s, ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4, Axis};

use ahead::Ahead;

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

const FORWARD: &str = "attention";
const BACKWARD: &str = "attention_grad";
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
/// current rayon pool by blocks of rows; each thread keeps O(W) scratch, and
/// O(T·W) for copies of the head it works on, where that does not lie in row-major order.
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
/// [`KernelError::ShapeMismatch`] if the shapes do not fit; the outputs are then unchanged. [`KernelError::OutOfMemory`] if there is
/// no memory for a copy of a head.
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
    mut y: ArrayViewMut4<'_, f32>,
    mut log_sums: ArrayViewMut3<'_, f32>,
) -> Result<(), KernelError> {
    for (name, shape) in [("k", k.shape()), ("v", v.shape()), ("y", y.shape())] {
        same_shape(FORWARD, ("q", q.shape()), (name, shape))?;
    }
    same_shape(FORWARD, ("q without its last axis", &q.shape()[..3]), ("log_sums", log_sums.shape()))?;
    if q.is_empty() && !log_sums.is_empty() {
        return no_width(FORWARD, q.shape());
    }
    if q.is_empty() {
        return Ok(());
    }
    let tokens = q.dim().2;
    let threads = worth(y.len().saturating_mul(2 * tokens), WORTH_A_THREAD);
    let (y, log_sums) = (y.view_mut(), log_sums.view_mut());
    let part = ForwardPart { q: q.view(), k: k.view(), v: v.view(), first: 0, y, log_sums };
    part.attend(isa, attention, parts_for(threads))
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
/// [`KernelError::ShapeMismatch`] if the shapes do not fit; the outputs are then unchanged. [`KernelError::OutOfMemory`] if there is
/// no memory for a copy of a head.
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
    mut dq: ArrayViewMut4<'_, f32>,
    mut dk: ArrayViewMut4<'_, f32>,
    mut dv: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    let AttentionOperands { q, k, v, y, log_sums } = *operands;
    let others = [("k", k.shape()), ("v", v.shape()), ("y", y.shape()), ("dy", dy.shape())];
    let gradients = [("dq", dq.shape()), ("dk", dk.shape()), ("dv", dv.shape())];
    for (name, shape) in others.into_iter().chain(gradients) {
        same_shape(BACKWARD, ("q", q.shape()), (name, shape))?;
    }
    same_shape(BACKWARD, ("q without its last axis", &q.shape()[..3]), ("log_sums", log_sums.shape()))?;
    if q.is_empty() {
        return Ok(());
    }
    let threads = worth(dq.len().saturating_mul(5 * q.dim().2), WORTH_A_THREAD);
    // Views of one lifetime.
    let operands =
        AttentionOperands { q: q.view(), k: k.view(), v: v.view(), y: y.view(), log_sums: log_sums.view() };
    let gradients = [dq.view_mut(), dk.view_mut(), dv.view_mut()];
    let part = BackwardPart { operands, dy: dy.view(), gradients };
    part.differentiate(isa, attention, parts_for(threads))
}

/// Parts differ in their work, so a thread may take one that another has not begun.
fn parts_for(threads: usize) -> usize {
    if threads == 1 {
        1
    } else {
        4 * threads
    }
}

/// Operands of some heads, and rows of their results.
struct ForwardPart<'a> {
    q: ArrayView4<'a, f32>,
    k: ArrayView4<'a, f32>,
    v: ArrayView4<'a, f32>,
    /// The first of the rows, a multiple of [`BLOCK`].
    first: usize,
    y: ArrayViewMut4<'a, f32>,
    log_sums: ArrayViewMut3<'a, f32>,
}

impl<'a> ForwardPart<'a> {
    /// In `parts` parts, over threads.
    fn attend(self, isa: Isa, attention: &Attention, parts: usize) -> Result<(), KernelError> {
        let Some(axis) = self.divisible().filter(|_| parts > 1) else {
            return with_float_defaults(|| self.attend_here(isa, attention));
        };
        let [low, high] = self.halves(axis);
        let (low, high) = rayon::join(
            || low.attend(isa, attention, parts / 2),
            || high.attend(isa, attention, parts - parts / 2),
        );
        low.and(high)
    }

    /// The first axis along which there is more than one sequence, head or block of rows.
    fn divisible(&self) -> Option<usize> {
        let (batch, heads, rows, _) = self.y.dim();
        [batch, heads, rows.div_ceil(BLOCK)].iter().position(|&extent| extent > 1)
    }

    fn halves(self, axis: usize) -> [Self; 2] {
        let extent = self.y.shape()[axis];
        let middle = if axis == 2 { extent.div_ceil(BLOCK) / 2 * BLOCK } else { extent / 2 };
        let Self { q, k, v, first, y, log_sums } = self;
        let (y, log_sums) = (y.split_at(Axis(axis), middle), log_sums.split_at(Axis(axis), middle));
        let of =
            |all: ArrayView4<'a, f32>| if axis == 2 { (all, all) } else { all.split_at(Axis(axis), middle) };
        let (q, k, v) = (of(q), of(k), of(v));
        let second = if axis == 2 { first + middle } else { first };
        [
            Self { q: q.0, k: k.0, v: v.0, first, y: y.0, log_sums: log_sums.0 },
            Self { q: q.1, k: k.1, v: v.1, first: second, y: y.1, log_sums: log_sums.1 },
        ]
    }

    /// Head by head, so that what has to be copied stays in the first caches.
    fn attend_here(mut self, isa: Isa, attention: &Attention) -> Result<(), KernelError> {
        let (batch, heads, ..) = self.y.dim();
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let [q, k, v] =
                [self.q, self.k, self.v].map(|all| row_major(FORWARD, &all.slice_move(s![b, h, .., ..])));
            let (q, k, v) = (q?, k?, v?);
            ask_for_next(isa, (b, h), [self.q, self.k, self.v]);
            let head = attention.head([&q, &k, &v], self.q.dim());
            fill_row_major(FORWARD, self.y.slice_mut(s![b, h, .., ..]), |y| {
                fill_row_major(FORWARD, self.log_sums.slice_mut(s![b, h, ..]), |log_sums| {
                    let blocks = y.chunks_mut(BLOCK * head.width).zip(log_sums.chunks_mut(BLOCK));
                    for (block, (y, log_sums)) in blocks.enumerate() {
                        let forward = Forward { head, first: self.first + block * BLOCK, y, log_sums };
                        match isa.path() {
                            Path::Scalar => fused(forward),
                            _ => tiles::forward(isa, forward),
                        }
                    }
                    Ok(())
                })
            })?;
        }
        Ok(())
    }
}

/// Operands and gradients of some heads: those of `q`, `k` and `v`.
struct BackwardPart<'a> {
    operands: AttentionOperands<'a>,
    dy: ArrayView4<'a, f32>,
    gradients: [ArrayViewMut4<'a, f32>; 3],
}

impl<'a> BackwardPart<'a> {
    /// In `parts` parts, over threads.
    fn differentiate(self, isa: Isa, attention: &Attention, parts: usize) -> Result<(), KernelError> {
        let Some(axis) = self.divisible().filter(|_| parts > 1) else {
            return with_float_defaults(|| self.differentiate_here(isa, attention));
        };
        let [low, high] = self.halves(axis);
        let (low, high) = rayon::join(
            || low.differentiate(isa, attention, parts / 2),
            || high.differentiate(isa, attention, parts - parts / 2),
        );
        low.and(high)
    }

    /// The first axis along which there is more than one sequence or head.
    fn divisible(&self) -> Option<usize> {
        let (batch, heads, ..) = self.dy.dim();
        [batch, heads].iter().position(|&extent| extent > 1)
    }

    fn halves(self, axis: usize) -> [Self; 2] {
        let (axis, middle) = (Axis(axis), self.dy.shape()[axis] / 2);
        let AttentionOperands { q, k, v, y, log_sums } = self.operands;
        let of = |all: ArrayView4<'a, f32>| all.split_at(axis, middle);
        let (q, k, v, y, log_sums) = (of(q), of(k), of(v), of(y), log_sums.split_at(axis, middle));
        let dy = of(self.dy);
        let [dq, dk, dv] = self.gradients.map(|gradient| gradient.split_at(axis, middle));
        let low = AttentionOperands { q: q.0, k: k.0, v: v.0, y: y.0, log_sums: log_sums.0 };
        let high = AttentionOperands { q: q.1, k: k.1, v: v.1, y: y.1, log_sums: log_sums.1 };
        [
            Self { operands: low, dy: dy.0, gradients: [dq.0, dk.0, dv.0] },
            Self { operands: high, dy: dy.1, gradients: [dq.1, dk.1, dv.1] },
        ]
    }

    /// Head by head, so that what has to be copied stays in the first caches.
    fn differentiate_here(self, isa: Isa, attention: &Attention) -> Result<(), KernelError> {
        let AttentionOperands { q, k, v, y: y_all, log_sums } = self.operands;
        let [mut dq, mut dk, mut dv] = self.gradients;
        let (batch, heads, ..) = q.dim();
        for (b, h) in (0..batch).flat_map(|b| (0..heads).map(move |h| (b, h))) {
            let own =
                [q, k, v, y_all, self.dy].map(|all| row_major(BACKWARD, &all.slice_move(s![b, h, .., ..])));
            let [q_rows, k_rows, v_rows, y_rows, dy_rows] = own;
            let (q_rows, k_rows, v_rows) = (q_rows?, k_rows?, v_rows?);
            let (y, dy) = (y_rows?, dy_rows?);
            let log_sums = row_major(BACKWARD, &log_sums.slice(s![b, h, ..]))?;
            ask_for_next(isa, (b, h), [q, k, v, y_all, self.dy]);
            let head = attention.head([&q_rows, &k_rows, &v_rows], q.dim());
            fill_row_major(BACKWARD, dq.slice_mut(s![b, h, .., ..]), |dq| {
                fill_row_major(BACKWARD, dk.slice_mut(s![b, h, .., ..]), |dk| {
                    fill_row_major(BACKWARD, dv.slice_mut(s![b, h, .., ..]), |dv| {
                        let backward = Backward { head, y: &y, log_sums: &log_sums, dy: &dy, dq, dk, dv };
                        match isa.path() {
                            Path::Scalar => fused(backward),
                            _ => tiles::backward(isa, backward),
                        }
                        Ok(())
                    })
                })
            })?;
        }
        Ok(())
    }
}

/// Asks for the memory of the head after this one.
fn ask_for_next<const N: usize>(isa: Isa, (b, h): (usize, usize), operands: [ArrayView4<'_, f32>; N]) {
    let (batch, heads, ..) = operands[0].dim();
    let (b, h) = if h + 1 < heads { (b, h + 1) } else { (b + 1, 0) };
    if b == batch || isa.path() == Path::Scalar {
        return;
    }
    for all in operands {
        isa.run(Ahead(all.slice_move(s![b, h, .., ..])));
    }
}

impl Attention {
    /// One head of arrays of this shape.
    fn head<'a>(&self, [q, k, v]: [&'a [f32]; 3], shape: (usize, usize, usize, usize)) -> Head<'a> {
        let (.., tokens, width) = shape;
        Head { q, k, v, tokens, width, causal: self.causal, scale: self.scale }
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

//! Tiles of attention: lanes are queries, so that every chain of a row, its maximum and its sum stay in one lane.

use crate::chains::Chains;
use crate::elementary::exponential::exp;
use crate::isa::Isa;
use crate::scratch::Kept;
use crate::simd::{F32Lanes, F64Lanes, Pair, Simd, Vectorized};
use crate::spec::attention::{log_of_sum, Backward, Forward, Head, Totals, BLOCK};
use crate::spec::fma::fused;
use crate::transpose::Transpose;

/// A row of a tile: one element for each query.
type Lane = [f32; BLOCK];
/// The queries of a tile by number, to compare keys with.
const QUERY: Lane = {
    let mut query = [0.0; BLOCK];
    let mut i = 0;
    while i < BLOCK {
        query[i] = i as f32;
        i += 1;
    }
    query
};
/// Lanes are filled up to whole registers with queries of zeros, whose results are thrown away.
const REGISTER: usize = 16;

/// Offsets of a tile's operands: rows of the sequence, rows of the tile, and single elements.
struct Tables<'a> {
    tokens: &'a [usize],
    lanes: &'a [usize],
    ones: &'a [usize],
}

/// As [`Forward`], for at most 64 rows that begin at a multiple of 64.
pub(super) fn forward(isa: Isa, op: Forward<'_>) {
    let head = op.head;
    let rows = op.log_sums.len();
    let queries = rows.next_multiple_of(REGISTER);
    let [mut q, mut scores, mut sums] = [(); 3].map(|()| Kept::take());
    let mut offsets = Offsets::take();
    let tables = offsets.tables(head.width);
    let q = q.zeroed(head.width * BLOCK);
    to_lanes(isa, &head.q[op.first * head.width..], head.width, rows, q);
    let scores = scores.sized(BLOCK * BLOCK);
    let sums = sums.zeroed(head.width * BLOCK);
    let (mut max, mut sum) = ([f32::NEG_INFINITY; BLOCK], [0.0; BLOCK]);
    let end = if head.causal { op.first + 1 } else { head.tokens };
    for first in (0..end).step_by(BLOCK) {
        let keys = BLOCK.min(head.tokens - first);
        let diagonal = head.causal && first == op.first;
        products(isa, &head.k[first * head.width..], q, scores, keys, queries, &tables);
        let mut rescale = [1.0; BLOCK];
        let softmax = Exponentials {
            scores: &mut scores[..keys * BLOCK],
            scale: head.scale,
            queries,
            max: &mut max,
            sum: &mut sum,
            rescale: &mut rescale,
            diagonal,
        };
        isa.run(softmax);
        if rescale[..queries].iter().any(|&r| r != 1.0) {
            isa.run(Rescale { rows: sums, by: &rescale, queries });
        }
        let v = &head.v[first * head.width..];
        mix(isa, v, scores, sums, keys, queries, head.width, diagonal, &tables);
    }
    isa.run(Divide { rows: sums, by: &sum, queries });
    from_lanes(isa, sums, head.width, op.y);
    for (log_sum, (&max, &sum)) in op.log_sums.iter_mut().zip(max.iter().zip(&sum)) {
        *log_sum = log_of_sum(max, sum);
    }
}

/// As [`Backward`].
pub(super) fn backward(isa: Isa, op: Backward<'_>) {
    let Head { tokens, width, causal, scale, .. } = op.head;
    let head = op.head;
    let (blocks, size) = (tokens.div_ceil(BLOCK), width * BLOCK);
    let [mut q_lanes, mut dy_lanes, mut dq_lanes] = [(); 3].map(|()| Kept::take());
    let [mut totals, mut scores, mut slopes] = [(); 3].map(|()| Kept::take());
    let mut offsets = Offsets::take();
    let tables = offsets.tables(width);
    let (q_lanes, dy_lanes) = (q_lanes.zeroed(blocks * size), dy_lanes.zeroed(blocks * size));
    let dq_lanes = dq_lanes.zeroed(blocks * size);
    // One more block, for the lanes of the last that are no query.
    let totals = totals.zeroed(2 * blocks * BLOCK);
    let (totals, log_sums) = totals.split_at_mut(blocks * BLOCK);
    log_sums[..tokens].copy_from_slice(op.log_sums);
    fused(Totals { dy: op.dy, y: op.y, width, totals: &mut totals[..tokens] });
    for block in 0..blocks {
        let (from, rows) = (block * size, BLOCK.min(tokens - block * BLOCK));
        to_lanes(isa, &head.q[from..], width, rows, &mut q_lanes[from..][..size]);
        to_lanes(isa, &op.dy[from..], width, rows, &mut dy_lanes[from..][..size]);
    }
    let (scores, slopes) = (scores.sized(BLOCK * BLOCK), slopes.sized(BLOCK * BLOCK));
    op.dk.fill(0.0);
    op.dv.fill(0.0);
    for key_block in 0..blocks {
        let from = key_block * size;
        let keys = BLOCK.min(tokens - key_block * BLOCK);
        let (k, v) = (&head.k[from..], &head.v[from..]);
        for block in if causal { key_block } else { 0 }..blocks {
            let (at, rows) = (block * size, BLOCK.min(tokens - block * BLOCK));
            let queries = rows.next_multiple_of(REGISTER);
            let diagonal = causal && block == key_block;
            products(isa, k, &q_lanes[at..], scores, keys, queries, &tables);
            products(isa, v, &dy_lanes[at..], slopes, keys, queries, &tables);
            isa.run(Slopes {
                scores: &mut scores[..keys * BLOCK],
                slopes: &mut slopes[..keys * BLOCK],
                scale,
                queries,
                log_sums: &log_sums[block * BLOCK..][..BLOCK],
                totals: &totals[block * BLOCK..][..BLOCK],
            });
            let gather = |weights: &[f32], rows_of: &[f32], to: &mut [f32]| {
                collect(isa, weights, &rows_of[at..], to, keys, rows, width, diagonal, &tables);
            };
            gather(scores, op.dy, &mut op.dv[from..]);
            gather(slopes, head.q, &mut op.dk[from..]);
            let dq = &mut dq_lanes[at..][..size];
            mix(isa, k, slopes, dq, keys, queries, width, diagonal, &tables);
        }
    }
    for block in 0..blocks {
        let (from, rows) = (block * size, BLOCK.min(tokens - block * BLOCK));
        from_lanes(isa, &dq_lanes[from..][..size], width, &mut op.dq[from..][..rows * width]);
    }
}

/// Where [`Tables`] are kept.
struct Offsets {
    tokens: Kept<usize>,
    lanes: Kept<usize>,
    ones: Kept<usize>,
}

impl Offsets {
    fn take() -> Self {
        Self { tokens: Kept::take(), lanes: Kept::take(), ones: Kept::take() }
    }

    fn tables(&mut self, width: usize) -> Tables<'_> {
        let longest = BLOCK.max(width);
        Tables {
            tokens: self.tokens.hold((0..BLOCK).map(|token| token * width)),
            lanes: self.lanes.hold((0..longest).map(|row| row * BLOCK)),
            ones: self.ones.hold(0..longest),
        }
    }
}

/// `tile[j][i] = dot(a[j], b[·][i])`, the chains over the width.
fn products(
    isa: Isa,
    a: &[f32],
    b: &[f32],
    tile: &mut [f32],
    keys: usize,
    queries: usize,
    tables: &Tables<'_>,
) {
    tile.fill(0.0);
    let width = if tables.tokens.len() > 1 { tables.tokens[1] } else { 0 };
    Chains {
        a,
        rows: &tables.tokens[..keys],
        steps: &tables.ones[..width],
        b,
        depths: &tables.lanes[..width],
        c: tile,
        stride: BLOCK,
        columns: queries,
    }
    .advance(isa);
}

/// `sums[d][i] ← fma(values[j,d], weights[j][i], sums[d][i])` over the keys `j`; on the diagonal only where `j ≤ i`.
#[expect(clippy::too_many_arguments, reason = "two operands, a result and their extents")]
fn mix(
    isa: Isa,
    values: &[f32],
    weights: &[f32],
    sums: &mut [f32],
    keys: usize,
    queries: usize,
    width: usize,
    diagonal: bool,
    tables: &Tables<'_>,
) {
    if diagonal {
        return isa.run(Triangle { values, weights, sums, keys, queries, width });
    }
    Chains {
        a: values,
        rows: &tables.ones[..width],
        steps: &tables.tokens[..keys],
        b: weights,
        depths: &tables.lanes[..keys],
        c: sums,
        stride: BLOCK,
        columns: queries,
    }
    .advance(isa);
}

/// `to[j,d] ← fma(weights[j][i], rows_of[i,d], to[j,d])` over the queries `i`; on the diagonal only where `i ≥ j`.
#[expect(clippy::too_many_arguments, reason = "two operands, a result and their extents")]
fn collect(
    isa: Isa,
    weights: &[f32],
    rows_of: &[f32],
    to: &mut [f32],
    keys: usize,
    rows: usize,
    width: usize,
    diagonal: bool,
    tables: &Tables<'_>,
) {
    let advance = |keys: std::ops::Range<usize>, from: usize, end: usize, to: &mut [f32]| {
        Chains {
            a: weights,
            rows: &tables.lanes[keys.clone()],
            steps: &tables.ones[from..end],
            b: rows_of,
            depths: &tables.tokens[from..end],
            c: &mut to[keys.start * width..keys.end * width],
            stride: width,
            columns: width,
        }
        .advance(isa);
    };
    if !diagonal {
        return advance(0..keys, 0, rows, to);
    }
    // Keys that are neighbours begin at different queries, and go on together.
    const TOGETHER: usize = 4;
    for first in (0..keys).step_by(TOGETHER) {
        let end = keys.min(first + TOGETHER);
        for key in first..end {
            advance(key..key + 1, key, end.min(rows), to);
        }
        advance(first..end, end.min(rows), rows, to);
    }
}

/// Rows of tokens to rows of lanes.
fn to_lanes(isa: Isa, from: &[f32], width: usize, rows: usize, to: &mut [f32]) {
    isa.run(Transpose { from, from_stride: width, rows, columns: width, to, to_stride: BLOCK });
}

/// Rows of lanes to rows of tokens.
fn from_lanes(isa: Isa, from: &[f32], width: usize, to: &mut [f32]) {
    let columns = to.len() / width;
    isa.run(Transpose { from, from_stride: BLOCK, rows: width, columns, to, to_stride: width });
}

/// One block of keys: new maxima, the factors for what came before, sums, and probabilities in the place of the scores.
struct Exponentials<'a> {
    scores: &'a mut [f32],
    scale: f32,
    queries: usize,
    max: &'a mut Lane,
    sum: &'a mut Lane,
    rescale: &'a mut Lane,
    diagonal: bool,
}

impl Vectorized for Exponentials<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let scale = simd.splat(self.scale);
        for lane in (0..self.queries).step_by(S::LANES) {
            let before = simd.load(&self.max[lane..]);
            let query = simd.load(&QUERY[lane..]);
            let mut max = before;
            for (key, scores) in self.scores.chunks_exact_mut(BLOCK).enumerate() {
                let score = scale * simd.load(&scores[lane..]);
                let larger = score.max(max);
                max = if self.diagonal {
                    S::F32::select(simd.splat(key as f32).le(query), larger, max)
                } else {
                    larger
                };
                score.store(&mut scores[lane..]);
            }
            max.store(&mut self.max[lane..]);
            (before - max).store(&mut self.rescale[lane..]);
            exponential(simd, &mut self.rescale[lane..]);
            // Apart from each other, since halves of what was just stored, or what was just stored in halves, are slow to load.
            for scores in self.scores.chunks_exact_mut(BLOCK) {
                (simd.load(&scores[lane..]) - max).store(&mut scores[lane..]);
            }
            for scores in self.scores.chunks_exact_mut(BLOCK) {
                exponential(simd, &mut scores[lane..][..S::LANES]);
            }
            let mut sum = simd.load(&self.sum[lane..]) * simd.load(&self.rescale[lane..]);
            for (key, scores) in self.scores.chunks_exact(BLOCK).enumerate() {
                let more = sum + simd.load(&scores[lane..]);
                sum = if self.diagonal {
                    S::F32::select(simd.splat(key as f32).le(query), more, sum)
                } else {
                    more
                };
            }
            sum.store(&mut self.sum[lane..]);
        }
    }
}

/// Probabilities in the place of scores, and the slopes of the scores in the place of those of the probabilities.
struct Slopes<'a> {
    scores: &'a mut [f32],
    slopes: &'a mut [f32],
    scale: f32,
    queries: usize,
    log_sums: &'a [f32],
    totals: &'a [f32],
}

impl Vectorized for Slopes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let scale = simd.splat(self.scale);
        for scores in self.scores.chunks_exact_mut(BLOCK) {
            for lane in (0..self.queries).step_by(S::LANES) {
                let scores = &mut scores[lane..];
                (scale * simd.load(scores) - simd.load(&self.log_sums[lane..])).store(scores);
            }
        }
        // Apart from each other, since halves of what was just stored, or what was just stored in halves, are slow to load.
        for scores in self.scores.chunks_exact_mut(BLOCK) {
            for lane in (0..self.queries).step_by(S::LANES) {
                exponential(simd, &mut scores[lane..][..S::LANES]);
            }
        }
        for (scores, slopes) in self.scores.chunks_exact(BLOCK).zip(self.slopes.chunks_exact_mut(BLOCK)) {
            for lane in (0..self.queries).step_by(S::LANES) {
                let (scores, slopes) = (&scores[lane..][..S::LANES], &mut slopes[lane..][..S::LANES]);
                let slope = simd.load(slopes) - simd.load(&self.totals[lane..]);
                ((simd.load(scores) * slope) * scale).store(slopes);
            }
        }
    }
}

/// `exp` of the elements of one register of f32, two registers of f64 at a time.
#[inline(always)]
fn exponential<S: Simd>(simd: S, values: &mut [f32]) {
    exp(Pair::widen(simd, values)).narrow(values);
}

/// `rows[d][i] ← rows[d][i] · by[i]`.
struct Rescale<'a> {
    rows: &'a mut [f32],
    by: &'a Lane,
    queries: usize,
}

impl Vectorized for Rescale<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.rows.chunks_exact_mut(BLOCK) {
            for lane in (0..self.queries).step_by(S::LANES) {
                (simd.load(&row[lane..]) * simd.load(&self.by[lane..])).store(&mut row[lane..]);
            }
        }
    }
}

/// `rows[d][i] ← rows[d][i] / by[i]`.
struct Divide<'a> {
    rows: &'a mut [f32],
    by: &'a Lane,
    queries: usize,
}

impl Vectorized for Divide<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.rows.chunks_exact_mut(BLOCK) {
            for lane in (0..self.queries).step_by(S::LANES) {
                (simd.load(&row[lane..]) / simd.load(&self.by[lane..])).store(&mut row[lane..]);
            }
        }
    }
}

/// `sums[d][i] ← fma(values[j,d], weights[j][i], sums[d][i])` over the keys `j ≤ i`.
struct Triangle<'a> {
    values: &'a [f32],
    weights: &'a [f32],
    sums: &'a mut [f32],
    keys: usize,
    queries: usize,
    width: usize,
}

impl Vectorized for Triangle<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        for lane in (0..self.queries).step_by(S::LANES) {
            let mut row = 0;
            while self.width - row >= 8 {
                self.rows::<S, 8>(simd, lane, row);
                row += 8;
            }
            while self.width > row {
                self.rows::<S, 1>(simd, lane, row);
                row += 1;
            }
        }
    }
}

impl Triangle<'_> {
    /// R rows of one register: first the keys that all its lanes see, then those that some do.
    #[inline(always)]
    fn rows<S: Simd, const R: usize>(&mut self, simd: S, lane: usize, row: usize) {
        let (width, all) = (self.width, self.keys.min(lane + 1));
        let query = simd.load(&QUERY[lane..]);
        let mut sums = [simd.splat(0.0); R];
        for (r, sum) in sums.iter_mut().enumerate() {
            *sum = simd.load(&self.sums[(row + r) * BLOCK + lane..]);
        }
        for key in 0..all {
            let values = &self.values[key * width + row..][..R];
            let weight = simd.load(&self.weights[key * BLOCK + lane..]);
            for r in 0..R {
                sums[r] = simd.splat(values[r]).mul_add(weight, sums[r]);
            }
        }
        for key in all..self.keys.min(lane + S::LANES) {
            let values = &self.values[key * width + row..][..R];
            let weight = simd.load(&self.weights[key * BLOCK + lane..]);
            let sees = simd.splat(key as f32).le(query);
            for r in 0..R {
                sums[r] = S::F32::select(sees, simd.splat(values[r]).mul_add(weight, sums[r]), sums[r]);
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            sum.store(&mut self.sums[(row + r) * BLOCK + lane..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::elementary::exp;

    struct All<'a>(&'a mut [f32]);

    impl Vectorized for All<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            self.0.chunks_exact_mut(S::LANES).for_each(|values| exponential(simd, values));
        }
    }

    /// How many results are not those of the specification, of 2³² / `step` inputs on all instruction sets.
    fn mismatches(step: usize, expected: fn(f32) -> f32) -> usize {
        const AT_ONCE: usize = 1 << 16;
        let mut inputs = (0..=u32::MAX).step_by(step).peekable();
        let mut wrong = 0;
        while inputs.peek().is_some() {
            let mut inputs: Vec<f32> = inputs.by_ref().take(AT_ONCE).map(f32::from_bits).collect();
            inputs.resize(AT_ONCE, 0.0);
            for isa in Isa::available().into_iter().skip(1) {
                let mut values = inputs.clone();
                isa.run(All(&mut values));
                let same =
                    |(&x, &y): (&f32, &f32)| crate::canonical_nan(y).to_bits() == expected(x).to_bits();
                wrong += inputs.iter().zip(&values).filter(|&pair| !same(pair)).count();
            }
        }
        wrong
    }

    #[test]
    fn exponentials_are_correctly_rounded() {
        assert_eq!(mismatches(4099, exp), 0);
        assert_ne!(mismatches(4099, |x| exp(x + x * f32::EPSILON)), 0, "the negative control");
    }

    #[test]
    #[ignore = "all inputs: cargo test --release -p bitproof-kernels --lib exponentials -- --ignored"]
    fn all_exponentials_are_correctly_rounded() {
        assert_eq!(mismatches(1, exp), 0);
    }
}

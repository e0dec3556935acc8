//! The tree of sums and the search for the largest in lanes.

use std::ops::Range;

use crate::simd::{F32Lanes, F64Lanes, Simd, Vectorized, MOST_LANES};
use crate::spec::reduce::{CHUNK, LANES};

pub(super) struct Sum<'a>(pub(super) &'a [f32]);

impl Vectorized for Sum<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        sum(simd, self.0)
    }
}

pub(super) struct Sum64<'a>(pub(super) &'a [f64]);

impl Vectorized for Sum64<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        sum64_of(simd, &Given(self.0))
    }
}

pub(super) struct SumOfSquares<'a>(pub(super) &'a [f32]);

impl Vectorized for SumOfSquares<'_> {
    type Output = f64;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        sum64_of(simd, &Products(self.0, self.0))
    }
}

pub(super) struct Largest<'a>(pub(super) &'a [f32]);

impl Vectorized for Largest<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        largest(simd, self.0)
    }
}

pub(super) struct Position<'a>(pub(super) &'a [f32], pub(super) f32);

impl Vectorized for Position<'_> {
    type Output = Option<usize>;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Option<usize> {
        let Position(values, wanted) = self;
        let target = simd.splat(wanted);
        let mut passed = 0;
        for block in values.chunks_exact(S::LANES) {
            if S::F32::any(simd.load(block).eq(target)) {
                break;
            }
            passed += S::LANES;
        }
        values[passed..].iter().position(|&value| value == wanted).map(|index| passed + index)
    }
}

/// [`tree_sum`](crate::spec::reduce::tree_sum) of the values.
#[inline(always)]
pub(crate) fn sum<S: Simd>(simd: S, values: &[f32]) -> f32 {
    fold_chunks(&Slice { simd, values })
}

/// [`tree_sum`](crate::spec::reduce::tree_sum) of the terms.
#[inline(always)]
pub(crate) fn sum64_of<S: Simd>(simd: S, terms: &impl Terms) -> f64 {
    fold_chunks(&OfTerms { simd, terms })
}

/// The f64 terms of a sum. `#[inline(always)]`.
pub(crate) trait Terms {
    fn count(&self) -> usize;
    /// The terms from `at` on.
    fn register<S: Simd>(&self, simd: S, at: usize) -> S::F64;
    /// The last terms, from `at` on and fewer than lanes; anything in the other lanes.
    fn rest<S: Simd>(&self, simd: S, at: usize) -> S::F64;
}

/// Each element.
pub(crate) struct Given<'a>(pub(crate) &'a [f64]);

impl Terms for Given<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn register<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        simd.load64(&self.0[at..])
    }
    #[inline(always)]
    fn rest<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        simd.load64_partial(&self.0[at..])
    }
}

/// Each element widened.
pub(crate) struct Widened<'a>(pub(crate) &'a [f32]);

impl Terms for Widened<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn register<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        simd.widen(&self.0[at..])
    }
    #[inline(always)]
    fn rest<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        simd.widen_partial(&self.0[at..])
    }
}

/// The exact products of two vectors of the same length.
pub(crate) struct Products<'a>(pub(crate) &'a [f32], pub(crate) &'a [f32]);

impl Terms for Products<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.0.len()
    }
    #[inline(always)]
    fn register<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        simd.widen(&self.0[at..]) * simd.widen(&self.1[at..])
    }
    #[inline(always)]
    fn rest<S: Simd>(&self, simd: S, at: usize) -> S::F64 {
        simd.widen_partial(&self.0[at..]) * simd.widen_partial(&self.1[at..])
    }
}

/// The chunks of a sum. `#[inline(always)]`.
pub(super) trait Chunks {
    /// Of one chunk or more.
    type Sum: Copy;
    /// Elements of all chunks.
    fn count(&self) -> usize;
    fn zero(&self) -> Self::Sum;
    /// Of the chunk of these elements.
    fn chunk(&self, elements: Range<usize>) -> Self::Sum;
    fn add(&self, a: Self::Sum, b: Self::Sum) -> Self::Sum;
}

/// Neighbours folded in pairs, level by level, an odd last one going up unchanged, while no more than one of each level waits.
#[inline(always)]
pub(super) fn fold_chunks<C: Chunks>(of: &C) -> C::Sum {
    /// Enough for all chunks that memory can hold.
    const LEVELS: usize = usize::BITS as usize - CHUNK.ilog2() as usize;
    let count = of.count();
    let mut sum = of.chunk(0..count.min(CHUNK));
    if count <= CHUNK {
        return sum;
    }
    let mut waiting = [of.zero(); LEVELS];
    let mut depth = 0;
    let mut index = 0_usize;
    loop {
        for _ in 0..index.trailing_ones() {
            depth -= 1;
            sum = of.add(waiting[depth], sum);
        }
        waiting[depth] = sum;
        depth += 1;
        index += 1;
        let start = index * CHUNK;
        if start >= count {
            break;
        }
        sum = of.chunk(start..count.min(start + CHUNK));
    }
    sum = waiting[depth - 1];
    for &left in waiting[..depth - 1].iter().rev() {
        sum = of.add(left, sum);
    }
    sum
}

struct Slice<'a, S> {
    simd: S,
    values: &'a [f32],
}

impl<S: Simd> Chunks for Slice<'_, S> {
    type Sum = f32;
    #[inline(always)]
    fn count(&self) -> usize {
        self.values.len()
    }
    #[inline(always)]
    fn zero(&self) -> f32 {
        0.0
    }
    #[inline(always)]
    fn chunk(&self, elements: Range<usize>) -> f32 {
        chunk_sum(self.simd, &self.values[elements])
    }
    #[inline(always)]
    fn add(&self, a: f32, b: f32) -> f32 {
        a + b
    }
}

struct OfTerms<'a, S, T> {
    simd: S,
    terms: &'a T,
}

impl<S: Simd, T: Terms> Chunks for OfTerms<'_, S, T> {
    type Sum = f64;
    #[inline(always)]
    fn count(&self) -> usize {
        self.terms.count()
    }
    #[inline(always)]
    fn zero(&self) -> f64 {
        0.0
    }
    #[inline(always)]
    fn chunk(&self, elements: Range<usize>) -> f64 {
        chunk_sum64(self.simd, elements, self.terms)
    }
    #[inline(always)]
    fn add(&self, a: f64, b: f64) -> f64 {
        a + b
    }
}

/// Lanes without elements stay +0, and adding a +0 to another lane is the identity, since no lane is ever −0.
#[inline(always)]
fn chunk_sum<S: Simd>(simd: S, chunk: &[f32]) -> f32 {
    let registers = LANES / S::LANES;
    let mut sums = [simd.splat(0.0); 16];
    let (rows, rest) = chunk.as_chunks::<LANES>();
    for row in rows {
        for (sum, x) in sums[..registers].iter_mut().zip(row.chunks_exact(S::LANES)) {
            *sum = *sum + simd.load(x);
        }
    }
    for (sum, x) in sums[..registers].iter_mut().zip(rest.chunks(S::LANES)) {
        *sum = *sum + simd.load_partial(x);
    }
    let mut half = registers / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] = sums[lane] + sums[lane + half];
        }
        half /= 2;
    }
    let mut lanes = [0.0_f32; 16];
    sums[0].store(&mut lanes);
    fold_within(&mut lanes, S::LANES)
}

#[inline(always)]
fn chunk_sum64<S: Simd>(simd: S, elements: Range<usize>, terms: &impl Terms) -> f64 {
    let registers = lanes_at_once::<S>() / S::LANES_64;
    let mut sums = strided_sums(simd, elements.clone(), terms);
    if lanes_at_once::<S>() < LANES {
        let upper = strided_sums(simd, elements.start + LANES / 2..elements.end, terms);
        for (sum, upper) in sums[..registers].iter_mut().zip(upper) {
            *sum = *sum + upper;
        }
    }
    let mut half = registers / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] = sums[lane] + sums[lane + half];
        }
        half /= 2;
    }
    let mut lanes = [0.0; 8];
    sums[0].store64(&mut lanes);
    fold_within(&mut lanes, S::LANES_64)
}

/// All lanes of a sum, or half of them where all would leave no registers for the terms.
const fn lanes_at_once<S: Simd>() -> usize {
    if LANES / S::LANES_64 <= S::REGISTERS / 2 {
        LANES
    } else {
        LANES / 2
    }
}

/// The first [`lanes_at_once`] lanes of a sum that begins with `elements`, in as many registers as that takes.
#[inline(always)]
fn strided_sums<S: Simd>(simd: S, elements: Range<usize>, terms: &impl Terms) -> [S::F64; 16] {
    let lanes = lanes_at_once::<S>();
    let registers = lanes / S::LANES_64;
    let mut sums = [simd.splat64(0.0); 16];
    let Range { start: mut at, end } = elements;
    while at + lanes <= end {
        for (index, sum) in sums[..registers].iter_mut().enumerate() {
            *sum = *sum + terms.register(simd, at + index * S::LANES_64);
        }
        at += LANES;
    }
    if at < end {
        for sum in &mut sums[..registers] {
            if at + S::LANES_64 <= end {
                *sum = *sum + terms.register(simd, at);
            } else if at < end {
                // Only the last chunk ends within a register.
                let present = simd.splat64(0.0).lt(simd.load64_partial(&[1.0; MOST_LANES][..end - at]));
                *sum = S::F64::select(present, *sum + terms.rest(simd, at), *sum);
            }
            at += S::LANES_64;
        }
    }
    sums
}

#[inline(always)]
fn fold_within<T: Copy + std::ops::Add<Output = T>>(lanes: &mut [T], count: usize) -> T {
    let mut half = count / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = lanes[lane] + lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest value, NaN if any is NaN, `−∞` if there is none. Of zeros of both signs it may be either.
#[inline(always)]
pub(crate) fn largest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    const WIDE: usize = 4;
    let mut best = [simd.splat(f32::NEG_INFINITY); WIDE];
    // A comparison passes NaN over, so the last one seen is kept apart.
    let mut nan = [simd.splat(0.0); WIDE];
    let mut see = |index: usize, x: S::F32| {
        best[index] = x.max(best[index]);
        nan[index] = S::F32::select(x.eq(x), nan[index], x);
    };
    let mut blocks = values.chunks_exact(WIDE * S::LANES);
    for block in blocks.by_ref() {
        for (index, x) in block.chunks_exact(S::LANES).enumerate() {
            see(index, simd.load(x));
        }
    }
    let mut rest = blocks.remainder().chunks_exact(S::LANES);
    for (index, x) in rest.by_ref().enumerate() {
        see(index, simd.load(x));
    }
    let zero = simd.splat(0.0);
    if let rest @ [_, ..] = rest.remainder() {
        let present = zero.lt(simd.load_partial(&[1.0; MOST_LANES][..rest.len()]));
        see(3, S::F32::select(present, simd.load_partial(rest), simd.splat(f32::NEG_INFINITY)));
    }
    let nan = (nan[0] + nan[1]) + (nan[2] + nan[3]);
    if S::F32::any(zero.lt(S::F32::select(nan.eq(nan), zero, simd.splat(1.0)))) {
        return f32::NAN;
    }
    let mut lanes = [0.0_f32; MOST_LANES];
    (best[0].max(best[1])).max(best[2].max(best[3])).store(&mut lanes);
    let mut half = S::LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = if lanes[lane] > lanes[lane + half] { lanes[lane] } else { lanes[lane + half] };
        }
        half /= 2;
    }
    lanes[0]
}

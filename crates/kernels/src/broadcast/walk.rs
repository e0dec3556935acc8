//! The way through strided operands: axes that can be taken as one are, the innermost one is taken in lanes, and the outer ones
//! are divided over threads.

use ndarray::{
    ArrayView, ArrayView1, ArrayView3, ArrayViewD, ArrayViewMut1, ArrayViewMut3, ArrayViewMutD, Axis,
    Dimension, Ix3, IxDyn,
};

use super::pointwise::Pointwise;
use crate::isa::Isa;
use crate::simd::{F32Lanes, Simd, Vectorized};
use crate::threads::{each_chunk, with_float_defaults, worth};

/// Elements below which waking a thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 17;

/// The elements of an operand, row-major, if they are repeated as a whole to fill an array of that shape.
#[inline]
pub(super) fn repeated<'a, D: Dimension>(
    operand: &ArrayView<'a, f32, D>,
    shape: &[usize],
) -> Option<&'a [f32]> {
    let own = operand.shape();
    let own = &own[own.iter().take_while(|&&length| length == 1).count()..];
    if shape.ends_with(own) {
        return operand.to_slice();
    }
    None
}

/// [`apply`] where everything is row-major and each operand is repeated as a whole; whether that could be done.
pub(super) fn apply_flat<P: Pointwise>(isa: Isa, f: P, out: &mut [f32], a: &[f32], b: &[f32]) -> bool {
    let length = |operand: &[f32]| if operand.len() == 1 { out.len() } else { operand.len() };
    let row = length(a).min(length(b));
    if [a, b].iter().any(|operand| ![row, out.len()].contains(&length(operand))) {
        return false;
    }
    if out.is_empty() {
        return true;
    }
    let total = out.len();
    // Whole rows, or whole cache lines where there is but one row.
    let grain = if row < total { row } else { 16 };
    let chunk = total.div_ceil(worth(total, WORTH_A_THREAD)).next_multiple_of(grain);
    each_chunk(out, chunk, &|index, out| {
        let count = out.len();
        let part = |whole| if whole == total { index * chunk..index * chunk + count } else { 0..whole };
        let flat = Flat { f, row, out, a: &a[part(a.len())], b: &b[part(b.len())] };
        if let Err(flat) = isa.vectorize(flat) {
            let f = flat.f;
            flat.each_row(|out, a, b| each_scalar(f, out, a, b));
        }
    });
    true
}

struct Flat<'a, P> {
    f: P,
    /// How many elements lie between the places where an operand begins anew.
    row: usize,
    out: &'a mut [f32],
    a: &'a [f32],
    b: &'a [f32],
}

impl<P> Flat<'_, P> {
    #[inline(always)]
    fn each_row(self, work: impl Fn(&mut [f32], Row<'_>, Row<'_>)) {
        for (index, out) in self.out.chunks_mut(self.row).enumerate() {
            work(out, Row::number(self.a, index, self.row), Row::number(self.b, index, self.row));
        }
    }
}

impl<P: Pointwise> Vectorized for Flat<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let f = self.f;
        self.each_row(
            #[inline(always)]
            |out, a, b| in_lanes(simd, f, out, a, b),
        );
    }
}

#[inline(always)]
fn each_scalar<P: Pointwise>(f: P, out: &mut [f32], a: Row<'_>, b: Row<'_>) {
    for (index, out) in out.iter_mut().enumerate() {
        *out = f.scalar(*out, a.at(index), b.at(index));
    }
}

/// `out = f(out, a, b)` for each element. `a` and `b` have the shape of `out` already, by strides of 0 where they are repeated.
pub(super) fn apply<P: Pointwise>(
    isa: Isa,
    f: P,
    out: ArrayViewMutD<'_, f32>,
    a: ArrayViewD<'_, f32>,
    b: ArrayViewD<'_, f32>,
) {
    if out.is_empty() {
        return;
    }
    let parts = worth(out.len(), WORTH_A_THREAD);
    let operands = merged(Operands { out, a, b });
    each_block(operands, &mut |Block { out, a, b }| divide(isa, f, parts, out, a, b));
}

struct Operands<'a> {
    out: ArrayViewMutD<'a, f32>,
    a: ArrayViewD<'a, f32>,
    b: ArrayViewD<'a, f32>,
}

/// The same elements with as few axes as the strides allow, in the order in which the result lies in memory.
fn merged(Operands { mut out, mut a, mut b }: Operands<'_>) -> Operands<'_> {
    let mut order = IxDyn::zeros(out.ndim());
    (0..out.ndim()).for_each(|axis| order[axis] = axis);
    // Stable, and by insertion, so that nothing is allocated.
    for end in 1..out.ndim() {
        let mut at = end;
        while at > 0 && stride(&out, order[at - 1]) < stride(&out, order[at]) {
            order.slice_mut().swap(at - 1, at);
            at -= 1;
        }
    }
    out = out.permuted_axes(order.clone());
    a = a.permuted_axes(order.clone());
    b = b.permuted_axes(order);
    for axis in 0..out.ndim() {
        if out.stride_of(Axis(axis)) < 0 {
            out.invert_axis(Axis(axis));
            a.invert_axis(Axis(axis));
            b.invert_axis(Axis(axis));
        }
    }
    let mut inner = out.ndim();
    while inner > 1 {
        inner -= 1;
        let (take, into) = (Axis(inner - 1), Axis(inner));
        let length = out.len_of(into) as isize;
        let follows = |outer: isize, inner: isize| outer == inner * length;
        let all = out.len_of(take) == 1
            || length == 1
            || (follows(out.stride_of(take), out.stride_of(into))
                && follows(a.stride_of(take), a.stride_of(into))
                && follows(b.stride_of(take), b.stride_of(into)));
        if all {
            let merged = out.merge_axes(take, into) && a.merge_axes(take, into) && b.merge_axes(take, into);
            assert!(merged, "strides were compared above");
            out = out.index_axis_move(take, 0);
            a = a.index_axis_move(take, 0);
            b = b.index_axis_move(take, 0);
        }
    }
    Operands { out, a, b }
}

/// How far apart neighbours along an axis lie; nothing along an axis without neighbours.
fn stride(out: &ArrayViewMutD<'_, f32>, axis: usize) -> usize {
    if out.len_of(Axis(axis)) == 1 {
        return usize::MAX;
    }
    out.stride_of(Axis(axis)).unsigned_abs()
}

struct Block<'a> {
    out: ArrayViewMut3<'a, f32>,
    a: ArrayView3<'a, f32>,
    b: ArrayView3<'a, f32>,
}

/// Calls `work` with three axes at a time.
fn each_block(operands: Operands<'_>, work: &mut impl FnMut(Block<'_>)) {
    let Operands { mut out, mut a, mut b } = operands;
    if out.ndim() > 3 {
        for index in 0..out.len_of(Axis(0)) {
            let out = out.index_axis_mut(Axis(0), index);
            let (a, b) = (a.index_axis(Axis(0), index), b.index_axis(Axis(0), index));
            each_block(Operands { out, a, b }, work);
        }
        return;
    }
    while out.ndim() < 3 {
        out = out.insert_axis(Axis(0));
        a = a.insert_axis(Axis(0));
        b = b.insert_axis(Axis(0));
    }
    let three = "there are three axes";
    work(Block {
        out: out.into_dimensionality::<Ix3>().expect(three),
        a: a.into_dimensionality::<Ix3>().expect(three),
        b: b.into_dimensionality::<Ix3>().expect(three),
    });
}

/// Halves the longest axis until there are as many parts as threads.
fn divide<P: Pointwise>(
    isa: Isa,
    f: P,
    parts: usize,
    out: ArrayViewMut3<'_, f32>,
    a: ArrayView3<'_, f32>,
    b: ArrayView3<'_, f32>,
) {
    let axis = out.max_stride_axis();
    let length = out.len_of(axis);
    if parts <= 1 || length <= 1 {
        return with_float_defaults(|| rows(isa, f, Block { out, a, b }));
    }
    let left_parts = parts / 2;
    // On multiples of a cache line, where the axis is that long.
    let middle = (length * left_parts / parts).next_multiple_of(16).min(length / 2).max(1);
    let (left, right) = out.split_at(axis, middle);
    let ((a_left, a_right), (b_left, b_right)) = (a.split_at(axis, middle), b.split_at(axis, middle));
    let first = move || divide(isa, f, left_parts, left, a_left, b_left);
    let second = move || divide(isa, f, parts - left_parts, right, a_right, b_right);
    if rayon::current_thread_index().is_some() {
        rayon::join(first, second);
    } else {
        // A `join` from outside the pool leaves all the work to the pool while the caller waits.
        rayon::in_place_scope(|scope| {
            scope.spawn(move |_| second());
            first();
        });
    }
}

fn rows<P: Pointwise>(isa: Isa, f: P, block: Block<'_>) {
    if let Err(Rows { f, block }) = isa.vectorize(Rows { f, block }) {
        walk(block, |out, a, b| each_scalar(f, out, a, b));
    }
}

struct Rows<'a, P> {
    f: P,
    block: Block<'a>,
}

impl<P: Pointwise> Vectorized for Rows<'_, P> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let f = self.f;
        walk(
            self.block,
            #[inline(always)]
            |out, a, b| in_lanes(simd, f, out, a, b),
        );
    }
}

/// Calls `row` for each row of the block, or for pieces of it that were copied out where elements do not lie side by side.
#[inline(always)]
fn walk(block: Block<'_>, row: impl Fn(&mut [f32], Row<'_>, Row<'_>)) {
    let Block { mut out, a, b } = block;
    for ((mut out, a), b) in out.outer_iter_mut().zip(a.outer_iter()).zip(b.outer_iter()) {
        for ((mut out, a), b) in out.outer_iter_mut().zip(a.outer_iter()).zip(b.outer_iter()) {
            match (out.as_slice_mut(), Row::of(&a), Row::of(&b)) {
                (Some(out), Some(a), Some(b)) => row(out, a, b),
                _ => in_pieces(out, a, b, &row),
            }
        }
    }
}

const PIECE: usize = 64;

#[inline(always)]
fn in_pieces(
    mut out: ArrayViewMut1<'_, f32>,
    a: ArrayView1<'_, f32>,
    b: ArrayView1<'_, f32>,
    row: &impl Fn(&mut [f32], Row<'_>, Row<'_>),
) {
    let chunks = a.axis_chunks_iter(Axis(0), PIECE).zip(b.axis_chunks_iter(Axis(0), PIECE));
    for (mut out, (a, b)) in out.axis_chunks_iter_mut(Axis(0), PIECE).zip(chunks) {
        let (mut left, mut right) = ([0.0; PIECE], [0.0; PIECE]);
        let (a, b) = (side_by_side(&a, &mut left), side_by_side(&b, &mut right));
        if let Some(out) = out.as_slice_mut() {
            row(out, a, b);
            continue;
        }
        let mut held = [0.0; PIECE];
        let held = &mut held[..out.len()];
        held.iter_mut().zip(&out).for_each(|(to, from)| *to = *from);
        row(held, a, b);
        out.iter_mut().zip(held).for_each(|(to, from)| *to = *from);
    }
}

/// The elements where they are, or copied to `held`.
#[inline(always)]
fn side_by_side<'a>(elements: &ArrayView1<'a, f32>, held: &'a mut [f32; PIECE]) -> Row<'a> {
    Row::of(elements).unwrap_or_else(|| {
        held.iter_mut().zip(elements).for_each(|(to, from)| *to = *from);
        Row::Elements(&held[..elements.len()])
    })
}

/// A row of an operand.
#[derive(Clone, Copy)]
enum Row<'a> {
    Elements(&'a [f32]),
    /// One element, repeated.
    Same(f32),
}

impl<'a> Row<'a> {
    #[inline(always)]
    fn of(row: &ArrayView1<'a, f32>) -> Option<Row<'a>> {
        if row.stride_of(Axis(0)) == 0 {
            return row.first().map(|&x| Row::Same(x));
        }
        row.to_slice().map(Row::Elements)
    }

    /// Row `index` of a whole, or the same again where the whole is one row; one element stands for a row of it.
    #[inline(always)]
    fn number(whole: &'a [f32], index: usize, row: usize) -> Row<'a> {
        match whole {
            &[x] => Row::Same(x),
            _ if whole.len() <= row => Row::Elements(whole),
            _ => Row::Elements(&whole[index * row..(index * row + row).min(whole.len())]),
        }
    }

    #[inline(always)]
    fn at(self, index: usize) -> f32 {
        match self {
            Row::Elements(elements) => elements[index],
            Row::Same(x) => x,
        }
    }
}

#[inline(always)]
fn in_lanes<S: Simd, P: Pointwise>(simd: S, f: P, out: &mut [f32], a: Row<'_>, b: Row<'_>) {
    match (a, b) {
        (Row::Elements(a), Row::Elements(b)) => lanes(simd, f, out, a, b),
        (Row::Elements(a), Row::Same(b)) => lanes(simd, f, out, a, b),
        (Row::Same(a), Row::Elements(b)) => lanes(simd, f, out, a, b),
        (Row::Same(a), Row::Same(b)) => lanes(simd, f, out, a, b),
    }
}

/// Where lanes come from.
trait Source: Copy {
    fn first(self, count: usize) -> Self;
    fn load<S: Simd>(self, simd: S, from: usize) -> S::F32;
    fn load_partial<S: Simd>(self, simd: S, from: usize) -> S::F32;
}

impl Source for &[f32] {
    #[inline(always)]
    fn first(self, count: usize) -> Self {
        &self[..count]
    }
    #[inline(always)]
    fn load<S: Simd>(self, simd: S, from: usize) -> S::F32 {
        simd.load(&self[from..from + S::LANES])
    }
    #[inline(always)]
    fn load_partial<S: Simd>(self, simd: S, from: usize) -> S::F32 {
        simd.load_partial(&self[from..])
    }
}

impl Source for f32 {
    #[inline(always)]
    fn first(self, _: usize) -> Self {
        self
    }
    #[inline(always)]
    fn load<S: Simd>(self, simd: S, _: usize) -> S::F32 {
        simd.splat(self)
    }
    #[inline(always)]
    fn load_partial<S: Simd>(self, simd: S, _: usize) -> S::F32 {
        simd.splat(self)
    }
}

#[inline(always)]
fn lanes<S: Simd, P: Pointwise>(simd: S, f: P, out: &mut [f32], a: impl Source, b: impl Source) {
    let (a, b) = (a.first(out.len()), b.first(out.len()));
    let mut from = 0;
    while out.len() - from >= S::LANES {
        let here = &mut out[from..from + S::LANES];
        f.lanes(simd, simd.load(here), a.load(simd, from), b.load(simd, from)).store(here);
        from += S::LANES;
    }
    let rest = &mut out[from..];
    if !rest.is_empty() {
        let value =
            f.lanes(simd, simd.load_partial(rest), a.load_partial(simd, from), b.load_partial(simd, from));
        value.store_partial(rest);
    }
}

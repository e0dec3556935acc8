//! Padded copies of images, in which every tap of a convolution is the same plane read from another offset.

use crate::isa::Isa;
use crate::scratch::Kept;
use crate::simd::{F32Lanes, Simd, Vectorized};
use crate::spec::conv::{quotient, Geometry};

/// One sweep of taps over a window of the input.
///
/// The window holds, plane by plane, `phases[0]·phases[1]` images of `extent` elements; element `(r, s)` of phase `(a, b)` is the
/// input's at `first + (a, b) + stride·(r, s)`, or `+0` outside of it. Output `(i, j)` of the sweep is column `i·extent[1] + j`, the
/// columns between two rows being computed and thrown away, and goes to `out_first + out_stride·(i, j)`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pass {
    pub(super) out: [usize; 2],
    pub(super) out_first: [usize; 2],
    out_stride: [usize; 2],
    extent: [usize; 2],
    phases: [usize; 2],
    /// Taps are in one phase if they are equal modulo these.
    moduli: [usize; 2],
    first: [isize; 2],
    stride: [usize; 2],
    /// The smallest quotients of taps, which the window begins at.
    nearest: [isize; 2],
}

/// Elements of a register, at most. Columns are rounded up to it, so that no register is partial.
const LANES: usize = 16;
/// Elements of a window that stay in the second cache.
const BAND: usize = 1 << 17;

impl Pass {
    /// Bands of output rows, top down.
    pub(super) fn forward_bands(g: &Geometry) -> impl Iterator<Item = Pass> {
        let g = *g;
        let reach = (g.kernel[1] - 1) / g.stride[1];
        // Columns between rows are cheaper than a copy of the image for each column of taps, as long as they are few.
        let apart = if reach * 8 > g.output[1] { g.kernel[1] } else { g.stride[1] };
        let phases = [g.stride[0].min(g.kernel[0]), apart.min(g.kernel[1])];
        let reach = [(g.kernel[0] - 1) / g.stride[0], (g.kernel[1] - 1) / apart];
        let width = g.output[1] + reach[1];
        let height = band_height(g.channels * phases[0] * phases[1] * width, reach[0], g.output[0]);
        (0..g.output[0]).step_by(height).map(move |top| {
            let rows = height.min(g.output[0] - top);
            Pass {
                out: [rows, g.output[1]],
                out_first: [top, 0],
                out_stride: [1, 1],
                extent: [rows + reach[0], width],
                phases,
                moduli: [g.stride[0], apart],
                first: [(top * g.stride[0]) as isize - g.padding[0] as isize, -(g.padding[1] as isize)],
                stride: g.stride,
                nearest: [0, 0],
            }
        })
    }

    /// Bands of the input rows and columns that leave this remainder modulo the stride, top down.
    pub(super) fn input_gradient_bands(g: &Geometry, remainder: [usize; 2]) -> impl Iterator<Item = Pass> {
        let g = *g;
        let places = |axis: usize| g.input[axis].saturating_sub(remainder[axis]).div_ceil(g.stride[axis]);
        let reach = |axis: usize| {
            let place = remainder[axis] + g.padding[axis];
            let all = (0..g.kernel[axis]).filter_map(move |tap| quotient(place, tap, g.stride[axis]));
            let (low, high) = all.fold((isize::MAX, isize::MIN), |(low, high), q| (low.min(q), high.max(q)));
            // Without taps nothing is read.
            if low > high {
                (0, 0)
            } else {
                (low, (high - low) as usize)
            }
        };
        let (rows, columns) = (places(0), places(1));
        let ((top_tap, down), (left_tap, right)) = (reach(0), reach(1));
        let width = columns + right;
        let height = band_height(g.outputs * width, down, rows);
        (0..if columns == 0 { 0 } else { rows }).step_by(height).map(move |top| {
            let rows = height.min(rows - top);
            Pass {
                out: [rows, columns],
                out_first: [remainder[0] + top * g.stride[0], remainder[1]],
                out_stride: g.stride,
                extent: [rows + down, width],
                phases: [1, 1],
                moduli: [1, 1],
                first: [top as isize + top_tap, left_tap],
                stride: [1, 1],
                nearest: [top_tap, left_tap],
            }
        })
    }

    /// Columns of the sweep, those between rows and up to the last register included.
    pub(super) fn columns(&self) -> usize {
        ((self.out[0] - 1) * self.extent[1] + self.out[1]).next_multiple_of(LANES)
    }

    /// Whether there are no columns between rows, so that the sweep can go where its outputs belong.
    pub(super) fn is_dense(&self) -> bool {
        self.extent[1] == self.out[1] && self.out_stride == [1, 1]
    }

    /// The columns that are outputs, in row-major order.
    pub(super) fn places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.out[0]).flat_map(move |i| (0..self.out[1]).map(move |j| i * self.extent[1] + j))
    }

    fn phase_size(&self) -> usize {
        self.extent[0] * self.extent[1]
    }

    fn plane_size(&self) -> usize {
        self.phases[0] * self.phases[1] * self.phase_size()
    }

    /// Where the output at column 0 finds the tap with these quotients, in a window of one phase.
    pub(super) fn place(&self, plane: usize, quotients: [isize; 2]) -> usize {
        let (down, right) = (quotients[0] - self.nearest[0], quotients[1] - self.nearest[1]);
        plane * self.plane_size() + down as usize * self.extent[1] + right as usize
    }

    /// Where the output at column 0 finds tap `(u, v)`, in a window of phases.
    pub(super) fn phased_place(&self, plane: usize, [u, v]: [usize; 2]) -> usize {
        let [down, right] = self.moduli;
        let phase = (u % down) * self.phases[1] + v % right;
        plane * self.plane_size() + phase * self.phase_size() + (u / down) * self.extent[1] + v / right
    }

    /// A window of so many planes, all zeros.
    pub(super) fn empty<'a>(&self, buffer: &'a mut Kept<f32>, planes: usize) -> &'a mut [f32] {
        // Rounded columns read beyond the last plane.
        buffer.zeroed(planes * self.plane_size() + LANES)
    }

    /// The window that [`empty`](Pass::empty) made in this buffer.
    pub(super) fn kept<'a>(&self, buffer: &'a mut Kept<f32>, planes: usize) -> &'a mut [f32] {
        buffer.sized(planes * self.plane_size() + LANES)
    }

    /// Copies the planes of one image into a window whose margins are zeros.
    pub(super) fn fill(&self, isa: Isa, held: &mut [f32], image: &[f32], planes: usize, source: [usize; 2]) {
        let [height, width] = source;
        for plane in 0..planes {
            let image = &image[plane * height * width..][..height * width];
            for phase in 0..self.phases[0] * self.phases[1] {
                let window =
                    &mut held[plane * self.plane_size() + phase * self.phase_size()..][..self.phase_size()];
                let first = [
                    self.first[0] + (phase / self.phases[1]) as isize,
                    self.first[1] + (phase % self.phases[1]) as isize,
                ];
                let (top, rows) = inside(first[0], self.stride[0], height, self.extent[0]);
                let (left, columns) = inside(first[1], self.stride[1], width, self.extent[1]);
                if rows == 0 || columns == 0 {
                    continue;
                }
                let source =
                    |axis: usize, to: usize| (first[axis] + (to * self.stride[axis]) as isize) as usize;
                let from = &image[source(0, top) * width + source(1, left)..];
                let to = &mut window[top * self.extent[1] + left..];
                let (from_stride, to_stride) = (self.stride[0] * width, self.extent[1]);
                if self.stride[1] == 1 {
                    copy_rows(isa, Rows { from, from_stride, to, to_stride, rows, columns });
                } else {
                    for (from, to) in from.chunks(from_stride).zip(to.chunks_mut(to_stride)).take(rows) {
                        let to = &mut to[..columns];
                        to.iter_mut()
                            .zip(from.iter().step_by(self.stride[1]))
                            .for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
    }

    /// Puts the outputs of a sweep, a row of columns for each plane, where they belong.
    pub(super) fn crop(&self, isa: Isa, tile: &[f32], planes: &mut [f32], target: [usize; 2]) {
        let [rows, columns] = self.out;
        let from_stride = self.extent[1];
        let size = target[0] * target[1];
        for (from, plane) in tile.chunks_exact(self.columns()).zip(planes.chunks_exact_mut(size)) {
            let to = &mut plane[self.out_first[0] * target[1] + self.out_first[1]..];
            let to_stride = self.out_stride[0] * target[1];
            if self.out_stride[1] == 1 {
                copy_rows(isa, Rows { from, from_stride, to, to_stride, rows, columns });
            } else {
                for (from, to) in from.chunks(from_stride).zip(to.chunks_mut(to_stride)).take(rows) {
                    let to = to.iter_mut().step_by(self.out_stride[1]);
                    to.zip(&from[..columns]).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// The first place and the number of places, out of `extent`, whose source lies inside an axis of `length`.
fn inside(first: isize, stride: usize, length: usize, extent: usize) -> (usize, usize) {
    let from = first.min(0).unsigned_abs().div_ceil(stride).min(extent);
    let room = length as isize - first;
    let to = if room <= 0 { 0 } else { (room as usize).div_ceil(stride).min(extent) };
    (from, to.saturating_sub(from))
}

/// As many output rows as keep a window in the cache, at least one.
fn band_height(row: usize, reach: usize, rows: usize) -> usize {
    (BAND / row.max(1)).saturating_sub(reach).clamp(1, rows.max(1))
}

/// A rectangle to be copied.
struct Rows<'a> {
    from: &'a [f32],
    from_stride: usize,
    to: &'a mut [f32],
    to_stride: usize,
    rows: usize,
    columns: usize,
}

/// Rows are short: a call of `memcpy` for each would take longer than the copy.
fn copy_rows(isa: Isa, rows: Rows<'_>) {
    isa.run(rows);
}

impl Vectorized for Rows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let rows = self.from.chunks(self.from_stride).zip(self.to.chunks_mut(self.to_stride));
        for (from, to) in rows.take(self.rows) {
            let mut from = from[..self.columns].chunks_exact(S::LANES);
            let mut to = to[..self.columns].chunks_exact_mut(S::LANES);
            for (from, to) in from.by_ref().zip(to.by_ref()) {
                simd.load(from).store(to);
            }
            simd.load_partial(from.remainder()).store_partial(to.into_remainder());
        }
    }
}

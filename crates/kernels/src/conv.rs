//! Two-dimensional convolution over N×C×H×W arrays, and its gradients.

mod check;
mod window;

use ndarray::{ArrayView1, ArrayView4, ArrayViewMut1, ArrayViewMut4};

use crate::chains::Chains;
use crate::error::KernelError;
use crate::isa::{Isa, Path};
use crate::scratch::{fill_row_major, row_major, Kept};
use crate::spec::conv::{bias_gradient, quotient, Forward, Geometry, InputGradient, WeightGradient};
use crate::spec::fma::fused;
use crate::threads::{each_chunk, with_float_defaults, worth};
use crate::transpose::Transpose;
pub(crate) use check::places;
use window::Pass;

/// How a kernel slides over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// Rows and columns from one place of the kernel to the next, at least 1.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side of the input.
    pub padding: [usize; 2],
}

impl Default for Conv2d {
    /// Stride 1, no padding.
    fn default() -> Conv2d {
        Conv2d { stride: [1, 1], padding: [0, 0] }
    }
}

/// Multiply-adds below which waking a thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 20;

/// `y[n,o,i,j] = fma(w[o,c,u,v], x[n, c, i·sy + u − py, j·sx + v − px], …)`: one chain over `(c, u, v)` in row-major order from
/// `bias[o]` (or `+0`).
///
/// `x` is N×C×H×W, `weight` is O×C×KH×KW, `bias` has O elements and `y` is N×O×OH×OW with
/// `OH = ⌊(H + 2·py − KH)/sy⌋ + 1`, all with any strides. Padding takes part as `+0`: `fma(w, +0, c)`, which is NaN where `w` is infinite or
/// NaN. O(N·O·OH·OW·C·KH·KW) operations, divided over the current rayon pool by planes of `y`; each thread keeps a padded
/// copy of some rows of an image. What does not lie in row-major order is copied.
///
/// ```
/// use bitproof_kernels::{conv2d_into, Conv2d};
/// use ndarray::{array, Array4};
/// let x = Array4::from_shape_fn((1, 1, 3, 3), |(_, _, i, j)| (3 * i + j) as f32);
/// let weight = Array4::ones((1, 1, 2, 2));
/// let mut y = Array4::zeros((1, 1, 2, 2));
/// conv2d_into(x.view(), weight.view(), Some(array![0.5].view()), &Conv2d::default(), y.view_mut())?;
/// assert_eq!(y.into_raw_vec_and_offset().0, [8.5, 12.5, 20.5, 24.5]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes do not fit, [`KernelError::Window`] if the kernel is larger than the padded
/// input, is empty or has stride 0. `y` is then unchanged.
pub fn conv2d_into(
    x: ArrayView4<'_, f32>,
    weight: ArrayView4<'_, f32>,
    bias: Option<ArrayView1<'_, f32>>,
    conv: &Conv2d,
    y: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    conv2d_into_with(Isa::get(), x, weight, bias, conv, y)
}

/// [`conv2d_into`] on a chosen instruction set. The bits are the same; this is how tests show it.
///
/// # Errors
/// As [`conv2d_into`].
pub fn conv2d_into_with(
    isa: Isa,
    x: ArrayView4<'_, f32>,
    weight: ArrayView4<'_, f32>,
    bias: Option<ArrayView1<'_, f32>>,
    conv: &Conv2d,
    y: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "conv2d";
    let geometry = check::geometry(KERNEL, conv, x.dim(), weight.dim(), y.dim())?;
    if let Some(bias) = bias {
        check::bias(KERNEL, "bias", bias.len(), geometry.outputs)?;
    }
    if y.is_empty() {
        return Ok(());
    }
    let (x, w) = (row_major(KERNEL, &x)?, row_major(KERNEL, &weight)?);
    let bias = bias.as_ref().map(|bias| row_major(KERNEL, bias)).transpose()?;
    let bias = bias.as_deref();
    fill_row_major(KERNEL, y, |y| {
        let work = y.len().saturating_mul(geometry.taps());
        let planes = (y.len() / geometry.output_plane()).div_ceil(worth(work, WORTH_A_THREAD));
        each_chunk(y, planes * geometry.output_plane(), &|chunk, y: &mut [f32]| {
            let forward = Forward { geometry, x: &x, w: &w, bias, y, first_plane: chunk * planes };
            match isa.path() {
                Path::Scalar => fused(forward),
                _ => forward_in_lanes(isa, forward),
            }
        });
        Ok(())
    })
}

/// The gradient of [`conv2d_into`] with respect to its input:
/// `dx[n,c,h,l] = fma(w[o,c,u,v], dy[n, o, (h + py − u)/sy, (l + px − v)/sx], …)`, one chain over `(o, u, v)` in row-major order from
/// `+0`.
///
/// Taps whose quotients are not whole belong to no output and take no part; those whose quotients lie outside `dy` take
/// part with `+0`. Shapes, memory and threads as in [`conv2d_into`], with `dy` in the place of `y`.
///
/// # Errors
/// As [`conv2d_into`]; `dx` is then unchanged.
pub fn conv2d_input_grad_into(
    dy: ArrayView4<'_, f32>,
    weight: ArrayView4<'_, f32>,
    conv: &Conv2d,
    dx: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    conv2d_input_grad_into_with(Isa::get(), dy, weight, conv, dx)
}

/// [`conv2d_input_grad_into`] on a chosen instruction set.
///
/// # Errors
/// As [`conv2d_input_grad_into`].
pub fn conv2d_input_grad_into_with(
    isa: Isa,
    dy: ArrayView4<'_, f32>,
    weight: ArrayView4<'_, f32>,
    conv: &Conv2d,
    dx: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "conv2d_input_grad";
    let geometry = check::geometry(KERNEL, conv, dx.dim(), weight.dim(), dy.dim())?;
    if dx.is_empty() {
        return Ok(());
    }
    let (dy, w) = (row_major(KERNEL, &dy)?, row_major(KERNEL, &weight)?);
    fill_row_major(KERNEL, dx, |dx| {
        let work = dy.len().saturating_mul(geometry.taps());
        let planes = (dx.len() / geometry.input_plane()).div_ceil(worth(work, WORTH_A_THREAD));
        each_chunk(dx, planes * geometry.input_plane(), &|chunk, dx: &mut [f32]| {
            let gradient = InputGradient { geometry, dy: &dy, w: &w, dx, first_plane: chunk * planes };
            match isa.path() {
                Path::Scalar => fused(gradient),
                _ => input_gradient_in_lanes(isa, gradient),
            }
        });
        Ok(())
    })
}

/// The gradient of [`conv2d_into`] with respect to its weight:
/// `dw[o,c,u,v] = fma(x[n, c, i·sy + u − py, j·sx + v − px], dy[n,o,i,j], …)`, one chain over `(n, i, j)` in row-major order from `+0`.
///
/// Shapes, padding and memory as in [`conv2d_into`]; divided over the current rayon pool by output channels.
///
/// # Errors
/// As [`conv2d_into`]; `dw` is then unchanged.
pub fn conv2d_weight_grad_into(
    x: ArrayView4<'_, f32>,
    dy: ArrayView4<'_, f32>,
    conv: &Conv2d,
    dw: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    conv2d_weight_grad_into_with(Isa::get(), x, dy, conv, dw)
}

/// [`conv2d_weight_grad_into`] on a chosen instruction set.
///
/// # Errors
/// As [`conv2d_weight_grad_into`].
pub fn conv2d_weight_grad_into_with(
    isa: Isa,
    x: ArrayView4<'_, f32>,
    dy: ArrayView4<'_, f32>,
    conv: &Conv2d,
    dw: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    /// Bands of output channels end where registers do.
    const GRAIN: usize = 16;
    const KERNEL: &str = "conv2d_weight_grad";
    let geometry = check::geometry(KERNEL, conv, x.dim(), dw.dim(), dy.dim())?;
    if dw.is_empty() {
        return Ok(());
    }
    let (x, dy) = (row_major(KERNEL, &x)?, row_major(KERNEL, &dy)?);
    fill_row_major(KERNEL, dw, |dw| {
        let work = dy.len().saturating_mul(geometry.taps());
        if isa.path() == Path::Scalar {
            with_float_defaults(|| fused(WeightGradient { geometry, x: &x, dy: &dy, dw }));
            return Ok(());
        }
        let outputs = geometry.outputs.div_ceil(worth(work, WORTH_A_THREAD)).next_multiple_of(GRAIN);
        each_chunk(dw, outputs * geometry.taps(), &|chunk, dw: &mut [f32]| {
            weight_gradient_in_lanes(isa, geometry, &x, &dy, dw, chunk * outputs);
        });
        Ok(())
    })
}

/// The gradient of [`conv2d_into`] with respect to its bias: `db[o] = ((+0 + dy[0,o,0,0]) + dy[0,o,0,1]) + …`, one chain over
/// `(n, i, j)` in row-major order.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if `db` has not as many elements as `dy` channels; `db` is then unchanged.
pub fn conv2d_bias_grad_into(dy: ArrayView4<'_, f32>, db: ArrayViewMut1<'_, f32>) -> Result<(), KernelError> {
    conv2d_bias_grad_into_with(Isa::get(), dy, db)
}

/// [`conv2d_bias_grad_into`] on a chosen instruction set.
///
/// # Errors
/// As [`conv2d_bias_grad_into`].
pub fn conv2d_bias_grad_into_with(
    isa: Isa,
    dy: ArrayView4<'_, f32>,
    db: ArrayViewMut1<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "conv2d_bias_grad";
    let (_, outputs, height, width) = dy.dim();
    check::bias(KERNEL, "db", db.len(), outputs)?;
    let (dy, plane) = (row_major(KERNEL, &dy)?, height * width);
    fill_row_major(KERNEL, db, |db| {
        if dy.is_empty() {
            db.fill(0.0);
            return Ok(());
        }
        with_float_defaults(|| match isa.path() {
            Path::Scalar => bias_gradient(&dy, plane, db),
            _ => chains_side_by_side(&dy, plane, db),
        });
        Ok(())
    })
}

/// As [`bias_gradient`], some channels at once, since one chain alone waits for each of its additions.
fn chains_side_by_side(dy: &[f32], plane: usize, db: &mut [f32]) {
    let image = db.len() * plane;
    let mut first = 0;
    while first < db.len() {
        let (dy, rest) = (&dy[first * plane..], &mut db[first..]);
        first += match rest.len() {
            0..=1 => some_chains::<1>(dy, image, plane, rest),
            2..=3 => some_chains::<2>(dy, image, plane, rest),
            4..=7 => some_chains::<4>(dy, image, plane, rest),
            _ => some_chains::<8>(dy, image, plane, rest),
        };
    }
}

/// The first W chains; gives W back.
fn some_chains<const W: usize>(dy: &[f32], image: usize, plane: usize, db: &mut [f32]) -> usize {
    let mut chains = [0.0; W];
    for image in dy.chunks(image) {
        let rows: [&[f32]; W] = std::array::from_fn(|o| &image[o * plane..][..plane]);
        for q in 0..plane {
            for (chain, row) in chains.iter_mut().zip(rows) {
                *chain += row[q];
            }
        }
    }
    db[..W].copy_from_slice(&chains);
    W
}

/// One pass over bands of output rows, the padded input of each in scratch.
fn forward_in_lanes(isa: Isa, op: Forward<'_>) {
    let g = op.geometry;
    let [mut rows, mut steps, mut depths] = [(); 3].map(|()| Kept::<usize>::take());
    let (mut held, mut tile) = (Kept::take(), Kept::take());
    let steps = steps.hold(0..g.taps());
    for pass in Pass::forward_bands(&g) {
        let window = pass.empty(&mut held, g.channels);
        let depths = depths.hold(forward_taps(&g, &pass));
        for (n, first, count, y) in by_image(op.y, op.first_plane, g.outputs, g.output_plane()) {
            let image = &op.x[n * g.channels * g.input_plane()..];
            pass.fill(isa, window, image, g.channels, g.input);
            let (bias, b) = (op.bias.map(|bias| &bias[first..]), &*window);
            let rows = rows.hold((first..first + count).map(|o| o * g.taps()));
            if pass.is_dense() {
                let (stride, columns) = (g.output_plane(), pass.out[0] * pass.out[1]);
                let c = &mut y[pass.out_first[0] * g.output[1]..];
                begin_rows(c, stride, columns, bias);
                Chains { a: op.w, rows, steps, b, depths, c, stride, columns }.advance(isa);
                continue;
            }
            let columns = pass.columns();
            let tile = tile.sized(count * columns);
            begin_rows(tile, columns, columns, bias);
            let c = &mut *tile;
            Chains { a: op.w, rows, steps, b, depths, c, stride: columns, columns }.advance(isa);
            pass.crop(isa, tile, y, g.output);
        }
    }
}

/// Puts the value at which its chains begin into the first columns of every row.
fn begin_rows(rows: &mut [f32], stride: usize, columns: usize, bias: Option<&[f32]>) {
    for (index, row) in rows.chunks_mut(stride).enumerate() {
        row[..columns].fill(bias.map_or(0.0, |bias| bias[index]));
    }
}

/// One pass for each remainder of rows and columns modulo the stride: within one, all taps are neighbours.
fn input_gradient_in_lanes(isa: Isa, op: InputGradient<'_>) {
    let g = op.geometry;
    let ([kh, kw], kernel) = (g.kernel, g.kernel[0] * g.kernel[1]);
    let [mut rows, mut steps, mut depths] = [(); 3].map(|()| Kept::<usize>::take());
    let (mut held, mut tile) = (Kept::take(), Kept::take());
    // A stride may be larger than the input, whose places then leave few remainders.
    let [down, right] = [0, 1].map(|axis| g.stride[axis].min(g.input[axis]));
    for remainder in (0..down).flat_map(|a| (0..right).map(move |b| [a, b])) {
        for pass in Pass::input_gradient_bands(&g, remainder) {
            let window = pass.empty(&mut held, g.outputs);
            steps.clear();
            depths.clear();
            for o in 0..g.outputs {
                for u in 0..kh {
                    let Some(down) = quotient(remainder[0] + g.padding[0], u, g.stride[0]) else {
                        continue;
                    };
                    for v in 0..kw {
                        let right = quotient(remainder[1] + g.padding[1], v, g.stride[1]);
                        let Some(right) = right else { continue };
                        steps.push(o * g.channels * kernel + u * kw + v);
                        depths.push(pass.place(o, [down, right]));
                    }
                }
            }
            for (n, first, count, dx) in by_image(op.dx, op.first_plane, g.channels, g.input_plane()) {
                let dy = &op.dy[n * g.outputs * g.output_plane()..];
                pass.fill(isa, window, dy, g.outputs, g.output);
                let rows = rows.hold((first..first + count).map(|c| c * kernel));
                let columns = pass.columns();
                let tile = tile.zeroed(count * columns);
                let c = &mut *tile;
                let (steps, depths) = (&steps[..], &depths[..]);
                Chains { a: op.w, rows, steps, b: &*window, depths, c, stride: columns, columns }
                    .advance(isa);
                pass.crop(isa, tile, dx, g.input);
            }
        }
    }
}

/// Lanes over output channels: `dy` is transposed, and the taps of `x` are the rows.
fn weight_gradient_in_lanes(
    isa: Isa,
    g: Geometry,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    first_output: usize,
) {
    /// Output places between two visits of the sums, so that their columns stay in the first cache.
    const DEPTH: usize = 96;
    /// Channels are filled up to a register of AVX2 with channels of zeros, whose sums are thrown away.
    const REGISTER: usize = 8;
    let outputs = dw.len() / g.taps();
    let columns = outputs.next_multiple_of(REGISTER);
    let [mut rows, mut steps, mut depths] = [(); 3].map(|()| Kept::<usize>::take());
    let [mut held, mut lanes, mut sums] = [(); 3].map(|()| Kept::take());
    let sums = sums.zeroed(g.taps() * columns);
    let lanes = lanes.zeroed(g.output_plane() * columns);
    for n in 0..g.images {
        for pass in Pass::forward_bands(&g) {
            // If there is but one band, its zeros and tables serve all images.
            if pass.out[0] < g.output[0] || n == 0 {
                pass.empty(&mut held, g.channels);
                rows.hold(forward_taps(&g, &pass));
                let places = steps.hold(pass.places()).len();
                depths.hold((0..places).map(|q| q * columns));
            }
            let image = &x[n * g.channels * g.input_plane()..];
            let window = pass.kept(&mut held, g.channels);
            pass.fill(isa, window, image, g.channels, g.input);
            let from = (n * g.outputs + first_output) * g.output_plane() + pass.out_first[0] * g.output[1];
            isa.run(Transpose {
                from: &dy[from..],
                from_stride: g.output_plane(),
                rows: outputs,
                columns: steps.len(),
                to: &mut *lanes,
                to_stride: columns,
            });
            for (steps, depths) in steps.chunks(DEPTH).zip(depths.chunks(DEPTH)) {
                let (rows, b, c) = (&rows[..], &*lanes, &mut *sums);
                Chains { a: &*window, rows, steps, b, depths, c, stride: columns, columns }.advance(isa);
            }
        }
    }
    let (rows, to_stride) = (g.taps(), g.taps());
    isa.run(Transpose { from: sums, from_stride: columns, rows, columns: outputs, to: dw, to_stride });
}

/// Where each tap of the forward convolution begins in its window.
fn forward_taps<'a>(g: &'a Geometry, pass: &'a Pass) -> impl Iterator<Item = usize> + 'a {
    let [kh, kw] = g.kernel;
    (0..g.channels)
        .flat_map(move |c| (0..kh).flat_map(move |u| (0..kw).map(move |v| pass.phased_place(c, [u, v]))))
}

/// The planes of `values` image by image: number of the image, first plane in it, how many, and their elements.
fn by_image(
    values: &mut [f32],
    mut plane: usize,
    planes: usize,
    size: usize,
) -> impl Iterator<Item = (usize, usize, usize, &mut [f32])> {
    let mut rest = values;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (n, first) = (plane / planes, plane % planes);
        let count = (planes - first).min(rest.len() / size);
        let (values, more) = std::mem::take(&mut rest).split_at_mut(count * size);
        rest = more;
        plane += count;
        Some((n, first, count, values))
    })
}

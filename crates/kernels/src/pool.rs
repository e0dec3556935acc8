//! Pooling over windows of N×C×H×W arrays, and its gradients.

use ndarray::{ArrayView4, ArrayViewMut4};
use rayon::prelude::*;

use crate::conv::places;
use crate::error::{same_shape, KernelError};
use crate::scratch::{fill_row_major, row_major};
use crate::spec::pool::{average, average_gradient, max, max_gradient, Geometry};
use crate::threads::{each_chunk, with_float_defaults, worth};

/// A window that slides over planes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool2d {
    /// Rows and columns of the window.
    pub window: [usize; 2],
    /// Rows and columns from one place to the next, at least 1.
    pub stride: [usize; 2],
    /// Rows and columns that the first window begins before the plane; less than the window.
    pub padding: [usize; 2],
}

/// What an average is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AverageOver {
    /// The size of the window.
    Window,
    /// The elements that the window covers, without padding.
    Covered,
}

/// Elements read below which waking a thread costs more than it saves.
const WORTH_A_THREAD: usize = 1 << 16;

/// `y[n,c,i,j]` is the largest element under window `(i, j)` and `indices[n,c,i,j]` its place `row·W + column` in the plane: in row-major
/// order the first of equal ones (`+0` and `−0` are equal), or the first NaN if there is one. Padding takes no part.
///
/// `x` is N×C×H×W; `y` and `indices` are N×C×OH×OW with `OH = ⌊(H + 2·py − KH)/sy⌋ + 1`; any strides. Divided over the current rayon
/// pool by planes.
///
/// ```
/// use bitproof_kernels::{max_pool2d_into, Pool2d};
/// use ndarray::Array4;
/// let x = Array4::from_shape_vec((1, 1, 2, 4), vec![1.0, 3.0, 0.0, 0.0, 3.0, 2.0, -1.0, f32::NAN]).unwrap();
/// let (mut y, mut indices) = (Array4::zeros((1, 1, 1, 2)), Array4::zeros((1, 1, 1, 2)));
/// let pool = Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 0] };
/// max_pool2d_into(x.view(), &pool, y.view_mut(), indices.view_mut())?;
/// assert_eq!((y[[0, 0, 0, 0]], indices[[0, 0, 0, 0]]), (3.0, 1));
/// assert!(y[[0, 0, 0, 1]].is_nan() && indices[[0, 0, 0, 1]] == 7);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes do not fit, [`KernelError::Window`] if the window does not fit into the plane, is not
/// larger than its padding or has stride 0, [`KernelError::SizeOverflow`] for planes of more than 2³² elements. The outputs are
/// then unchanged.
pub fn max_pool2d_into(
    x: ArrayView4<'_, f32>,
    pool: &Pool2d,
    y: ArrayViewMut4<'_, f32>,
    indices: ArrayViewMut4<'_, u32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "max_pool2d";
    let geometry = geometry(KERNEL, pool, x.dim(), ("y", y.shape()))?;
    same_shape(KERNEL, ("y", y.shape()), ("indices", indices.shape()))?;
    narrow_indices(KERNEL, &geometry)?;
    if y.is_empty() {
        return Ok(());
    }
    let (input, output) = (plane(geometry.input), plane(geometry.output));
    let x = row_major(KERNEL, &x)?;
    fill_row_major(KERNEL, y, |y| {
        fill_row_major(KERNEL, indices, |indices| {
            let planes = y.len() / output;
            let band = planes.div_ceil(worth(planes * input, WORTH_A_THREAD));
            // Values and indices advance together, each thread at its own planes.
            both_chunks(y, indices, band * output, &|chunk, y, indices| {
                let x = x[chunk * band * input..].chunks_exact(input);
                let planes = y.chunks_exact_mut(output).zip(indices.chunks_exact_mut(output));
                for (x, (y, indices)) in x.zip(planes) {
                    if !max_of_pairs(&geometry, x, y, indices) {
                        max(&geometry, x, y, indices);
                    }
                }
            });
            Ok(())
        })
    })
}

/// The gradient of [`max_pool2d_into`]: `dx[p] = ((+0 + dy[…]) + dy[…]) + …` over the outputs of the plane whose index is `p`, in row-major
/// order.
///
/// `dy` and `indices` are N×C×OH×OW, `dx` is N×C×H×W; any strides. Divided over the current rayon pool by planes.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes do not fit, [`KernelError::IndexOutOfRange`] for the first index that names no
/// element of its plane. `dx` is then unchanged.
pub fn max_pool2d_grad_into(
    dy: ArrayView4<'_, f32>,
    indices: ArrayView4<'_, u32>,
    dx: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "max_pool2d_grad";
    same_shape(KERNEL, ("dy", dy.shape()), ("indices", indices.shape()))?;
    let (images, channels, ..) = dy.dim();
    let (_, _, height, width) = dx.dim();
    same_shape(
        KERNEL,
        ("dy, with the planes of dx,", &[images, channels, height, width]),
        ("dx", dx.shape()),
    )?;
    let input = height * width;
    if let Some(at) = indices.iter().position(|&index| index as usize >= input) {
        let index = indices.iter().nth(at).copied().unwrap_or_default();
        return Err(KernelError::IndexOutOfRange { kernel: KERNEL, at, index, length: input });
    }
    let output = dy.dim().2 * dy.dim().3;
    if dx.is_empty() {
        return Ok(());
    }
    let (dy, indices) = (row_major(KERNEL, &dy)?, row_major(KERNEL, &indices)?);
    fill_row_major(KERNEL, dx, |dx| {
        let band = (dx.len() / input).div_ceil(worth(dx.len(), WORTH_A_THREAD));
        each_chunk(dx, band * input, &|chunk, dx: &mut [f32]| {
            for (plane, dx) in dx.chunks_exact_mut(input).enumerate() {
                let from = (chunk * band + plane) * output;
                max_gradient(&dy[from..][..output], &indices[from..][..output], dx);
            }
        });
        Ok(())
    })
}

/// `y[n,c,i,j] = s / count` with `s` the chain of additions over the elements under window `(i, j)`, in row-major order from `+0`.
/// Padding takes no part in the sum; `count` is what `over` says.
///
/// `x` is N×C×H×W and `y` N×C×OH×OW as in [`max_pool2d_into`], with any strides. Divided over the current rayon pool by planes.
///
/// ```
/// use bitproof_kernels::{avg_pool2d_into, AverageOver, Pool2d};
/// use ndarray::Array4;
/// let x = Array4::from_shape_fn((1, 1, 2, 2), |(_, _, i, j)| (2 * i + j) as f32);
/// let mut y = Array4::zeros((1, 1, 1, 1));
/// let pool = Pool2d { window: [2, 2], stride: [2, 2], padding: [0, 0] };
/// avg_pool2d_into(x.view(), &pool, AverageOver::Window, y.view_mut())?;
/// assert_eq!(y[[0, 0, 0, 0]], 1.5);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] and [`KernelError::Window`] as [`max_pool2d_into`]; `y` is then unchanged.
pub fn avg_pool2d_into(
    x: ArrayView4<'_, f32>,
    pool: &Pool2d,
    over: AverageOver,
    y: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "avg_pool2d";
    let geometry = geometry(KERNEL, pool, x.dim(), ("y", y.shape()))?;
    if y.is_empty() {
        return Ok(());
    }
    let (input, output) = (plane(geometry.input), plane(geometry.output));
    let x = row_major(KERNEL, &x)?;
    fill_row_major(KERNEL, y, |y| {
        let planes = y.len() / output;
        let band = planes.div_ceil(worth(planes * input, WORTH_A_THREAD));
        each_chunk(y, band * output, &|chunk, y: &mut [f32]| {
            let x = x[chunk * band * input..].chunks_exact(input);
            for (x, y) in x.zip(y.chunks_exact_mut(output)) {
                average(&geometry, over == AverageOver::Window, x, y);
            }
        });
        Ok(())
    })
}

/// The gradient of [`avg_pool2d_into`], with the same shapes: `dx[p] = ((+0 + dy[…]/count) + dy[…]/count) + …` over the outputs whose window covers `p`, in
/// row-major order.
///
/// # Errors
/// As [`avg_pool2d_into`], with `dy` in the place of `y`; `dx` is then unchanged.
pub fn avg_pool2d_grad_into(
    dy: ArrayView4<'_, f32>,
    pool: &Pool2d,
    over: AverageOver,
    dx: ArrayViewMut4<'_, f32>,
) -> Result<(), KernelError> {
    const KERNEL: &str = "avg_pool2d_grad";
    let geometry = geometry(KERNEL, pool, dx.dim(), ("dy", dy.shape()))?;
    if dx.is_empty() {
        return Ok(());
    }
    let (input, output) = (plane(geometry.input), plane(geometry.output));
    let dy = row_major(KERNEL, &dy)?;
    fill_row_major(KERNEL, dx, |dx| {
        let band = (dx.len() / input).div_ceil(worth(dx.len(), WORTH_A_THREAD));
        each_chunk(dx, band * input, &|chunk, dx: &mut [f32]| {
            let dy = dy[chunk * band * output..].chunks_exact(output);
            for (dy, dx) in dy.zip(dx.chunks_exact_mut(input)) {
                average_gradient(&geometry, over == AverageOver::Window, dy, dx);
            }
        });
        Ok(())
    })
}

/// The common case, windows of 2×2 side by side, without a branch for each element; `false`, and nothing done, for others.
fn max_of_pairs(g: &Geometry, x: &[f32], y: &mut [f32], indices: &mut [u32]) -> bool {
    if g.window != [2, 2] || g.stride != [2, 2] || g.padding != [0, 0] {
        return false;
    }
    let (from, to) = (g.input[1], g.output[1]);
    for (i, (y, indices)) in y.chunks_exact_mut(to).zip(indices.chunks_exact_mut(to)).enumerate() {
        let (upper, lower) = (&x[2 * i * from..][..2 * to], &x[(2 * i + 1) * from..][..2 * to]);
        let columns = upper.chunks_exact(2).zip(lower.chunks_exact(2)).zip(y.iter_mut().zip(indices));
        for (j, ((upper, lower), (y, index))) in columns.enumerate() {
            let first = (2 * i * from + 2 * j) as u32;
            let mut best = (upper[0], first);
            let others = [(upper[1], 1), (lower[0], from as u32), (lower[1], from as u32 + 1)];
            for (value, beyond) in others {
                let better = (value > best.0) | (value.is_nan() & !best.0.is_nan());
                best = if better { (value, first + beyond) } else { best };
            }
            (*y, *index) = best;
        }
    }
    true
}

/// [`each_chunk`] of two slices that are equally long.
fn both_chunks(
    values: &mut [f32],
    indices: &mut [u32],
    length: usize,
    work: &(impl Fn(usize, &mut [f32], &mut [u32]) + Sync),
) {
    if values.len() <= length {
        return with_float_defaults(|| work(0, values, indices));
    }
    let chunks = values.par_chunks_mut(length).zip(indices.par_chunks_mut(length)).enumerate();
    chunks.for_each(|(chunk, (values, indices))| with_float_defaults(|| work(chunk, values, indices)));
}

type Shape = (usize, usize, usize, usize);

fn plane([height, width]: [usize; 2]) -> usize {
    height * width
}

fn geometry(
    kernel: &'static str,
    pool: &Pool2d,
    x: Shape,
    (name, y): (&'static str, &[usize]),
) -> Result<Geometry, KernelError> {
    let mut output = [0; 2];
    for (axis, length) in [x.2, x.3].into_iter().enumerate() {
        let (window, stride, padding) = (pool.window[axis], pool.stride[axis], pool.padding[axis]);
        let fits =
            if length > 0 && padding < window { places(length, window, stride, padding) } else { None };
        output[axis] = fits.ok_or(KernelError::Window {
            kernel,
            axis: axis + 2,
            length,
            window,
            stride,
            padding,
            rule: "it needs padding < window ≤ length + 2·padding, a stride of at least 1 and an axis that is not empty",
        })?;
    }
    same_shape(kernel, ("the pooled x", &[x.0, x.1, output[0], output[1]]), (name, y))?;
    Ok(Geometry {
        input: [x.2, x.3],
        window: pool.window,
        output,
        stride: pool.stride,
        padding: pool.padding,
    })
}

fn narrow_indices(kernel: &'static str, g: &Geometry) -> Result<(), KernelError> {
    let [rows, columns] = g.input;
    match rows.checked_mul(columns) {
        Some(places) if u32::try_from(places - 1).is_ok() => Ok(()),
        _ => Err(KernelError::SizeOverflow { kernel, rows, columns }),
    }
}

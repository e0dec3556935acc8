//! Two-dimensional convolution and its gradients: one chain for each element.
//!
//! All arrays are row-major: `x` and `dx` are N×C×H×W, `w` and `dw` are O×C×KH×KW, `y` and `dy` are N×O×OH×OW. What lies
//! outside `x` or `dy` is `+0` and takes part: `fma(w, +0, c)`, which is NaN where `w` is infinite or NaN.

use super::fma::{Fma, Fused};

/// The extents of a convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) images: usize,
    pub(crate) channels: usize,
    pub(crate) outputs: usize,
    /// Height and width of the input.
    pub(crate) input: [usize; 2],
    /// Height and width of the kernel.
    pub(crate) kernel: [usize; 2],
    /// Height and width of the output.
    pub(crate) output: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
}

impl Geometry {
    /// Taps of one output element.
    pub(crate) fn taps(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }
    /// Elements of one plane of the output.
    pub(crate) fn output_plane(&self) -> usize {
        self.output[0] * self.output[1]
    }
    /// Elements of one plane of the input.
    pub(crate) fn input_plane(&self) -> usize {
        self.input[0] * self.input[1]
    }
}

/// `y[n,o,i,j] = fma(w[o,c,u,v], x[n, c, i·sy + u − py, j·sx + v − px], …)`, one chain over `(c, u, v)` in row-major order from
/// `bias[o]`.
pub(crate) struct Forward<'a> {
    pub(crate) geometry: Geometry,
    pub(crate) x: &'a [f32],
    pub(crate) w: &'a [f32],
    /// One for each output plane, or none.
    pub(crate) bias: Option<&'a [f32]>,
    /// The planes `(n, o)` from `first_plane` on.
    pub(crate) y: &'a mut [f32],
    pub(crate) first_plane: usize,
}

impl Fused for Forward<'_> {
    #[inline(always)]
    fn run<F: Fma>(self) {
        let g = self.geometry;
        let ([kh, kw], [oh, ow]) = (g.kernel, g.output);
        for (plane, y) in self.y.chunks_exact_mut(oh * ow).enumerate() {
            let (n, o) = ((self.first_plane + plane) / g.outputs, (self.first_plane + plane) % g.outputs);
            for (i, j) in grid(oh, ow) {
                let mut chain = self.bias.map_or(0.0, |bias| bias[o]);
                for c in 0..g.channels {
                    for (u, v) in grid(kh, kw) {
                        let (row, column) = (i * g.stride[0] + u, j * g.stride[1] + v);
                        let x = padded(&self.x[(n * g.channels + c) * g.input_plane()..], g, row, column);
                        chain = F::fma(self.w[((o * g.channels + c) * kh + u) * kw + v], x, chain);
                    }
                }
                y[i * ow + j] = chain;
            }
        }
    }
}

/// `dx[n,c,h,l] = fma(w[o,c,u,v], dy[n, o, (h + py − u)/sy, (l + px − v)/sx], …)`, one chain over `(o, u, v)` in row-major order
/// from `+0`. Taps whose quotients are not whole belong to no output and take no part; those whose quotients lie outside
/// `dy` take part with `+0`.
pub(crate) struct InputGradient<'a> {
    pub(crate) geometry: Geometry,
    pub(crate) dy: &'a [f32],
    pub(crate) w: &'a [f32],
    /// The planes `(n, c)` from `first_plane` on.
    pub(crate) dx: &'a mut [f32],
    pub(crate) first_plane: usize,
}

impl Fused for InputGradient<'_> {
    #[inline(always)]
    fn run<F: Fma>(self) {
        let g = self.geometry;
        let ([kh, kw], [height, width], [oh, ow]) = (g.kernel, g.input, g.output);
        for (plane, dx) in self.dx.chunks_exact_mut(height * width).enumerate() {
            let (n, c) = ((self.first_plane + plane) / g.channels, (self.first_plane + plane) % g.channels);
            for (h, l) in grid(height, width) {
                let mut chain = 0.0;
                for o in 0..g.outputs {
                    let dy = &self.dy[(n * g.outputs + o) * oh * ow..];
                    for (u, v) in grid(kh, kw) {
                        let Some(i) = quotient(h + g.padding[0], u, g.stride[0]) else { continue };
                        let Some(j) = quotient(l + g.padding[1], v, g.stride[1]) else { continue };
                        let inside = (0..oh as isize).contains(&i) && (0..ow as isize).contains(&j);
                        let dy = if inside { dy[i as usize * ow + j as usize] } else { 0.0 };
                        chain = F::fma(self.w[((o * g.channels + c) * kh + u) * kw + v], dy, chain);
                    }
                }
                dx[h * width + l] = chain;
            }
        }
    }
}

/// `dw[o,c,u,v] = fma(x[n, c, i·sy + u − py, j·sx + v − px], dy[n,o,i,j], …)`, one chain over `(n, i, j)` in row-major order from
/// `+0`.
pub(crate) struct WeightGradient<'a> {
    pub(crate) geometry: Geometry,
    pub(crate) x: &'a [f32],
    pub(crate) dy: &'a [f32],
    pub(crate) dw: &'a mut [f32],
}

impl Fused for WeightGradient<'_> {
    #[inline(always)]
    fn run<F: Fma>(self) {
        let g = self.geometry;
        let ([kh, kw], [oh, ow]) = (g.kernel, g.output);
        for (o, dw) in self.dw.chunks_exact_mut(g.taps()).enumerate() {
            for c in 0..g.channels {
                for (u, v) in grid(kh, kw) {
                    let mut chain = 0.0;
                    for n in 0..g.images {
                        let x = &self.x[(n * g.channels + c) * g.input_plane()..];
                        let dy = &self.dy[(n * g.outputs + o) * oh * ow..];
                        for (i, j) in grid(oh, ow) {
                            let x = padded(x, g, i * g.stride[0] + u, j * g.stride[1] + v);
                            chain = F::fma(x, dy[i * ow + j], chain);
                        }
                    }
                    dw[(c * kh + u) * kw + v] = chain;
                }
            }
        }
    }
}

/// `db[o] = ((+0 + dy[0,o,0,0]) + dy[0,o,0,1]) + …`, one chain over `(n, i, j)` in row-major order.
pub(crate) fn bias_gradient(dy: &[f32], plane: usize, db: &mut [f32]) {
    let outputs = db.len();
    for (o, db) in db.iter_mut().enumerate() {
        *db = 0.0;
        for image in dy.chunks_exact(outputs * plane) {
            image[o * plane..][..plane].iter().for_each(|dy| *db += dy);
        }
    }
}

/// All pairs below `(height, width)`, in row-major order.
fn grid(height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..height).flat_map(move |i| (0..width).map(move |j| (i, j)))
}

/// The element at that place of the plane with its padding.
fn padded(plane: &[f32], g: Geometry, row: usize, column: usize) -> f32 {
    let [height, width] = g.input;
    let (row, column) = (row.wrapping_sub(g.padding[0]), column.wrapping_sub(g.padding[1]));
    if row < height && column < width {
        plane[row * width + column]
    } else {
        0.0
    }
}

/// `(place − tap) / stride` if that is whole.
pub(crate) fn quotient(place: usize, tap: usize, stride: usize) -> Option<isize> {
    let difference = place as isize - tap as isize;
    let stride = stride as isize;
    (difference % stride == 0).then(|| difference / stride)
}

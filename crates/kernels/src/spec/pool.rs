//! Pooling of one plane: what every faster path must reproduce. Padding takes no part.

/// The extents of pooling over one plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// Height and width of the input.
    pub(crate) input: [usize; 2],
    pub(crate) window: [usize; 2],
    /// Height and width of the output.
    pub(crate) output: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
}

impl Geometry {
    /// The rows (axis 0) or columns (axis 1) of the input that the window at this place covers.
    pub(crate) fn covered(&self, axis: usize, place: usize) -> std::ops::Range<usize> {
        let from = place * self.stride[axis];
        let to = (from + self.window[axis]).saturating_sub(self.padding[axis]).min(self.input[axis]);
        from.saturating_sub(self.padding[axis])..to
    }
}

/// `y[i,j]` is the largest element that window `(i, j)` covers, in row-major order the first of equal ones (`+0` equals `−0`),
/// or the first NaN if there is one; `indices[i,j]` is its place in the plane.
pub(crate) fn max(g: &Geometry, x: &[f32], y: &mut [f32], indices: &mut [u32]) {
    let [height, width] = g.output;
    for i in 0..height {
        for j in 0..width {
            let mut best: Option<usize> = None;
            for row in g.covered(0, i) {
                for column in g.covered(1, j) {
                    let place = row * g.input[1] + column;
                    let better = best
                        .is_none_or(|best| x[place] > x[best] || (x[place].is_nan() && !x[best].is_nan()));
                    if better {
                        best = Some(place);
                    }
                }
            }
            let best = best.expect("padding is smaller than the window, so it covers an element");
            y[i * width + j] = x[best];
            indices[i * width + j] = best as u32;
        }
    }
}

/// `dx[p] = ((+0 + dy[…]) + dy[…]) + …` over the outputs `(i, j)` that took element `p`, in row-major order.
pub(crate) fn max_gradient(dy: &[f32], indices: &[u32], dx: &mut [f32]) {
    dx.fill(0.0);
    for (&index, dy) in indices.iter().zip(dy) {
        dx[index as usize] += dy;
    }
}

/// `y[i,j] = s / count` with `s` the chain of additions over what window `(i, j)` covers, in row-major order from `+0`. `count` is
/// the size of the window where `all` is set, otherwise the number of elements covered.
pub(crate) fn average(g: &Geometry, all: bool, x: &[f32], y: &mut [f32]) {
    let [height, width] = g.output;
    for i in 0..height {
        for j in 0..width {
            let mut sum = 0.0;
            for row in g.covered(0, i) {
                for column in g.covered(1, j) {
                    sum += x[row * g.input[1] + column];
                }
            }
            y[i * width + j] = sum / count(g, all, i, j);
        }
    }
}

/// `dx[p] = ((+0 + dy[…]/count) + dy[…]/count) + …` over the outputs `(i, j)` whose window covers element `p`, in row-major order.
pub(crate) fn average_gradient(g: &Geometry, all: bool, dy: &[f32], dx: &mut [f32]) {
    let [height, width] = g.output;
    dx.fill(0.0);
    for i in 0..height {
        for j in 0..width {
            let share = dy[i * width + j] / count(g, all, i, j);
            for row in g.covered(0, i) {
                for column in g.covered(1, j) {
                    dx[row * g.input[1] + column] += share;
                }
            }
        }
    }
}

fn count(g: &Geometry, all: bool, i: usize, j: usize) -> f32 {
    if all {
        // Rounded once; padding may make a window larger than memory, and its size than usize.
        (g.window[0] as u128 * g.window[1] as u128) as f32
    } else {
        (g.covered(0, i).len() * g.covered(1, j).len()) as f32
    }
}

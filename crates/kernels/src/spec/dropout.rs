//! Dropout: which elements stay is a function of the stream's key and the element's index alone.

use crate::stream::Stream;

/// `y[i] = u ≥ p ? x[i] · scale : +0` with the next number `u` of the stream for each `i`.
pub(crate) fn dropout(stream: &mut Stream, p: f32, scale: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = if stream.uniform_f32() >= p { x * scale } else { 0.0 };
    }
}

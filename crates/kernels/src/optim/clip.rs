//! The norm of all gradients together, and clipping by it.

use crate::reduce::sum_of_squares;
use crate::threads::with_float_defaults;

/// `√(S₁ + S₂ + …)` over the tensors in the order given, from `+0`, in f64; each `S` is
/// [`sum_of_squares`](crate::sum_of_squares) of its tensor.
///
/// ```
/// assert_eq!(bitproof_kernels::gradient_norm([&[3.0_f32][..], &[0.0, 4.0]]), 5.0);
/// ```
pub fn gradient_norm<'a>(gradients: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    with_float_defaults(|| gradients.into_iter().map(sum_of_squares).fold(0.0, |a: f64, b| a + b).sqrt())
}

/// Scales all gradients so that their [`gradient_norm`], which is returned as it was before, is at most `max_norm`: if it is
/// larger, each element becomes `g · f32(max_norm / norm)`, one f32 product. Nothing is changed if the norm is NaN.
///
/// ```
/// let (mut weight, mut bias) = ([3.0_f32], [4.0_f32]);
/// assert_eq!(bitproof_kernels::clip_gradients(&mut [&mut weight, &mut bias], 2.5), 5.0);
/// assert_eq!((weight, bias), ([1.5], [2.0]));
/// ```
pub fn clip_gradients(gradients: &mut [&mut [f32]], max_norm: f32) -> f64 {
    let norm = gradient_norm(gradients.iter().map(|gradient| &**gradient));
    with_float_defaults(|| {
        if norm > f64::from(max_norm) {
            let scale = (f64::from(max_norm) / norm) as f32;
            gradients.iter_mut().flat_map(|gradient| gradient.iter_mut()).for_each(|g| *g *= scale);
        }
    });
    norm
}

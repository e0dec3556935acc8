use crate::broadcast;
use crate::error::KernelError;
use crate::isa::Isa;

/// `out[i] = x[i] ≤ 0 ? +0 : x[i]`. NaN passes through; `−0` becomes `+0`.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the lengths differ.
pub fn relu_into(x: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    relu_into_with(Isa::get(), x, out)
}

/// [`relu_into`] on a chosen instruction set. The bits are the same; this is how tests show it.
///
/// # Errors
/// As [`relu_into`].
pub fn relu_into_with(isa: Isa, x: &[f32], out: &mut [f32]) -> Result<(), KernelError> {
    broadcast::relu(isa, x, out)
}

/// `dx[i] = x[i] ≤ 0 ? +0 : dy[i]`, the gradient of [`relu_into`]. `x` may be its input or its output: the result is the same.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the lengths differ.
pub fn relu_grad_into(x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<(), KernelError> {
    relu_grad_into_with(Isa::get(), x, dy, dx)
}

/// [`relu_grad_into`] on a chosen instruction set.
///
/// # Errors
/// As [`relu_grad_into`].
pub fn relu_grad_into_with(isa: Isa, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result<(), KernelError> {
    broadcast::relu_grad(isa, x, dy, dx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_gradients() {
        let x = [-1.0, -0.0, 0.0, 2.0, f32::NEG_INFINITY, f32::INFINITY, f32::from_bits(1)];
        let mut y = [9.0; 7];
        relu_into(&x, &mut y).unwrap();
        assert_eq!(
            y.map(f32::to_bits),
            [0.0, 0.0, 0.0, 2.0, 0.0, f32::INFINITY, f32::from_bits(1)].map(f32::to_bits)
        );
        let dy = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
        let (mut of_input, mut of_output) = ([9.0; 7], [9.0; 7]);
        relu_grad_into(&x, &dy, &mut of_input).unwrap();
        relu_grad_into(&y, &dy, &mut of_output).unwrap();
        assert_eq!(of_input, [0.0, 0.0, 0.0, 4.0, 0.0, 6.0, 7.0]);
        assert_eq!(of_input, of_output);
        let mut nan = [0.0];
        relu_into(&[f32::NAN], &mut nan).unwrap();
        assert!(nan[0].is_nan());
    }

    #[test]
    fn lengths_are_checked() {
        let refusal = relu_grad_into(&[1.0, 2.0], &[1.0], &mut [0.0, 0.0]).unwrap_err();
        assert!(matches!(refusal, KernelError::ShapeMismatch { right_name: "dy", .. }));
        assert!(relu_grad_into(&[1.0], &[1.0], &mut []).is_err());
        assert!(relu_into(&[1.0], &mut []).is_err());
    }
}

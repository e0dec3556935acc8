//! Elementary functions on f32, one at a time and over arrays.
//!
//! `exp`, `log`, `tanh`, `erf`, `sin`, `cos` and `rsqrt` are correctly rounded: the f32 nearest to the true value, ties to
//! even, for every one of the 2³² inputs. The definition has one answer, so any right implementation gives these bits.
//! `sigmoid`, `silu`, `gelu` and their derivatives are the f64 sequences in their documentation, rounded once to f32.
//!
//! `cargo run --release --example exhaustive` compares all inputs on all instruction sets, and the correctly rounded ones
//! with CORE-MATH (Sibidanov, Zimmermann, Glondu 2022).
//!
//! The functions of a single number assume round to nearest with denormals kept; see
//! [`with_float_defaults`]. [`unary_into`] sets that by itself.

pub(crate) mod exponential;
pub(crate) mod gaussian;
pub(crate) mod map;
pub(crate) mod sigmoid;
mod together;
pub(crate) mod trigonometric;

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::error::KernelError;
use crate::isa::Isa;
use crate::threads::{each_chunk, with_float_defaults, worth};

pub use together::{gelu_with_grad_into, gelu_with_grad_into_with};

pub use crate::spec::elementary::{
    cos, erf, exp, gelu, gelu_grad, log, rsqrt, sigmoid, sigmoid_grad, silu, silu_grad, sin, tanh,
};

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unary {
    /// [`exp`].
    Exp,
    /// [`log`].
    Log,
    /// [`tanh`].
    Tanh,
    /// [`erf`].
    Erf,
    /// [`sin`].
    Sin,
    /// [`cos`].
    Cos,
    /// [`rsqrt`].
    Rsqrt,
    /// [`sigmoid`].
    Sigmoid,
    /// [`sigmoid_grad`].
    SigmoidGrad,
    /// [`silu`].
    Silu,
    /// [`silu_grad`].
    SiluGrad,
    /// [`gelu`].
    Gelu,
    /// [`gelu_grad`].
    GeluGrad,
}

impl Unary {
    /// All of them.
    pub const ALL: [Unary; 13] = [
        Unary::Exp,
        Unary::Log,
        Unary::Tanh,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Rsqrt,
        Unary::Sigmoid,
        Unary::SigmoidGrad,
        Unary::Silu,
        Unary::SiluGrad,
        Unary::Gelu,
        Unary::GeluGrad,
    ];

    /// The name of the function of one number, such as `sigmoid_grad`.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Exp => "exp",
            Unary::Log => "log",
            Unary::Tanh => "tanh",
            Unary::Erf => "erf",
            Unary::Sin => "sin",
            Unary::Cos => "cos",
            Unary::Rsqrt => "rsqrt",
            Unary::Sigmoid => "sigmoid",
            Unary::SigmoidGrad => "sigmoid_grad",
            Unary::Silu => "silu",
            Unary::SiluGrad => "silu_grad",
            Unary::Gelu => "gelu",
            Unary::GeluGrad => "gelu_grad",
        }
    }

    /// The function at `x`, by the scalar specification.
    ///
    /// ```
    /// use bitproof_kernels::elementary::Unary;
    /// assert_eq!(Unary::Gelu.of(0.0), 0.0);
    /// ```
    pub fn of(self, x: f32) -> f32 {
        self.scalar()(x)
    }

    pub(crate) fn scalar(self) -> fn(f32) -> f32 {
        match self {
            Unary::Exp => exp,
            Unary::Log => log,
            Unary::Tanh => tanh,
            Unary::Erf => erf,
            Unary::Sin => sin,
            Unary::Cos => cos,
            Unary::Rsqrt => rsqrt,
            Unary::Sigmoid => sigmoid,
            Unary::SigmoidGrad => sigmoid_grad,
            Unary::Silu => silu,
            Unary::SiluGrad => silu_grad,
            Unary::Gelu => gelu,
            Unary::GeluGrad => gelu_grad,
        }
    }
}

/// `out[i] = f(x[i])` for every index `i`, with the bits of [`Unary::of`]. The views may have any strides; nothing is
/// allocated.
///
/// ```
/// use bitproof_kernels::elementary::{unary_into, Unary};
/// use ndarray::{array, Array2};
///
/// let x = array![[0.0_f32, 1.0], [f32::NEG_INFINITY, -0.0]];
/// let mut y = Array2::zeros((2, 2));
/// unary_into(Unary::Exp, x.view(), y.view_mut())?;
/// assert_eq!(y, array![[1.0, std::f32::consts::E], [0.0, 1.0]]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes differ.
pub fn unary_into<D: Dimension>(
    function: Unary,
    x: ArrayView<'_, f32, D>,
    out: ArrayViewMut<'_, f32, D>,
) -> Result<(), KernelError> {
    unary_into_with(Isa::get(), function, x, out)
}

/// [`unary_into`] on a given instruction set, which changes no bit.
///
/// # Errors
/// [`KernelError::ShapeMismatch`] if the shapes differ.
pub fn unary_into_with<D: Dimension>(
    isa: Isa,
    function: Unary,
    x: ArrayView<'_, f32, D>,
    mut out: ArrayViewMut<'_, f32, D>,
) -> Result<(), KernelError> {
    if x.shape() != out.shape() {
        return Err(KernelError::ShapeMismatch {
            kernel: function.name(),
            left_name: "x",
            left: x.shape().to_vec(),
            right_name: "out",
            right: out.shape().to_vec(),
            rule: "they must have the same shape",
        });
    }
    let same_layout = x.strides() == out.strides();
    match (x.as_slice_memory_order(), out.as_slice_memory_order_mut()) {
        (Some(x), Some(out)) if same_layout => contiguous(isa, function, x, out),
        _ => strided(isa, function, x, out),
    }
    Ok(())
}

/// Slices of equal length.
fn contiguous(isa: Isa, function: Unary, x: &[f32], out: &mut [f32]) {
    /// Elements that are worth a thread: some 20 µs of work.
    const LEAST: usize = 1 << 14;
    let length = x.len().div_ceil(worth(x.len(), LEAST)).max(1);
    each_chunk(out, length, &|index, out| map::map(isa, function, &x[index * length..][..out.len()], out));
}

/// In logical order, a block at a time, through the stack.
fn strided<D: Dimension>(
    isa: Isa,
    function: Unary,
    x: ArrayView<'_, f32, D>,
    mut out: ArrayViewMut<'_, f32, D>,
) {
    const BLOCK: usize = 256;
    let (mut from, mut to) = ([0.0; BLOCK], [0.0; BLOCK]);
    let (mut x, mut out) = (x.iter(), out.iter_mut());
    with_float_defaults(|| loop {
        let mut count = 0;
        for (slot, &x) in from.iter_mut().zip(x.by_ref()) {
            *slot = x;
            count += 1;
        }
        if count == 0 {
            break;
        }
        map::map(isa, function, &from[..count], &mut to[..count]);
        for (y, out) in to[..count].iter().zip(out.by_ref()) {
            *out = *y;
        }
    });
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::x86::mxcsr::{read_control, write_control};
    use ndarray::Array1;

    /// Denormals in and out, with FTZ and DAZ on and rounding towards zero in the caller.
    #[test]
    fn the_state_of_the_caller_changes_no_bit() {
        const HOSTILE: u32 = 0x1f80 | 0xe040;
        let x: Array1<f32> =
            (0..4000).map(|i| f32::from_bits(i * 5_003)).chain([-88.0, -95.5, -103.0]).collect();
        let strided = x.slice(ndarray::s![..;-1]);
        for function in Unary::ALL {
            let expected: Vec<u32> = x.iter().map(|&x| function.of(x).to_bits()).collect();
            for isa in Isa::available() {
                let (mut out, mut reversed) = (Array1::zeros(x.len()), Array1::zeros(x.len()));
                let found = read_control();
                write_control(HOSTILE);
                let done = unary_into_with(isa, function, x.view(), out.view_mut())
                    .and_then(|()| unary_into_with(isa, function, strided, reversed.view_mut()));
                let kept = read_control();
                write_control(found);
                done.unwrap();
                assert_eq!(kept & 0xe040, HOSTILE & 0xe040);
                assert!(
                    out.iter().map(|y| y.to_bits()).eq(expected.iter().copied()),
                    "{function:?} {}",
                    isa.name()
                );
                assert!(
                    reversed.iter().rev().map(|y| y.to_bits()).eq(expected.iter().copied()),
                    "{function:?}"
                );
            }
        }
    }
}

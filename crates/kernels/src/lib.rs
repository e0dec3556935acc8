//! Numerics whose bits are specified: for the same inputs every kernel returns the same bits on every processor, for
//! any number of threads and any memory layout of its operands.
//!
//! A kernel here is an *order of operations*, written down in its documentation as one line of mathematics and in the
//! source as scalar code that is meant to be read. Instruction sets, tiles and threads may change how fast that order is
//! worked through, never the order itself.
//!
//! # Invariants
//! - Rounding is to nearest even and denormals are kept (no FTZ, no DAZ), whatever the caller's floating-point state is:
//!   kernels over slices and arrays set the state on entry, in every worker, and restore it. Single elementary functions
//!   leave it alone; call them inside [`with_float_defaults`] or [`with_threads`] if it may have been changed.
//! - No libm. `exp`, `log`, `tanh`, `erf`, `sin`, `cos` and `rsqrt` are correctly rounded for all 2³² inputs, so that any right
//!   implementation agrees.
//! - NaN appears at the same positions everywhere. Its payload may follow operand order, which processors resolve
//!   differently: call [`canonicalise`] before bytes are recorded or hashed.
//! - No kernel reads a clock, the environment (except [`Isa`]) or an unseeded random number.
//!
//! # Where to start
//! [`matmul_into`] and [`Start`]; [`softmax_cross_entropy`]; [`adamw_step`]; [`Stream`], [`shuffle`] and [`Batches`];
//! [`elementary`]; [`with_threads`]. The innermost scalar code, which is compiled for each instruction set, lies in
//! `src/spec/`.
//!
//! ```
//! use bitproof_kernels::{matmul, with_threads};
//! use ndarray::array;
//!
//! let a = array![[1.0_f32, 2.0], [3.0, 4.0]];
//! let b = array![[0.5_f32, -1.0], [0.25, 8.0]];
//! let one = with_threads(1, || matmul(a.view(), b.view()))?;
//! let four = with_threads(4, || matmul(a.view(), b.view()))?;
//! assert_eq!(one, array![[1.0, 15.0], [2.5, 29.0]]);
//! assert!(one.iter().zip(&four).all(|(x, y)| x.to_bits() == y.to_bits()));
//! # Ok::<(), bitproof_kernels::KernelError>(())
//! ```

#[cfg(target_arch = "aarch64")]
mod arm;
mod batch;
pub mod elementary;
mod error;
mod init;
mod isa;
mod loss;
mod matmul;
mod nan;
mod optim;
mod reduce;
mod relu;
mod shuffle;
mod simd;
mod spec;
mod stream;
mod threads;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use batch::{Batches, LastBatch};
pub use error::KernelError;
pub use init::kaiming_uniform;
pub use isa::{Isa, IsaError};
pub use loss::{log_softmax, softmax_cross_entropy};
pub use matmul::{matmul, matmul_into, matmul_into_with, Start};
pub use nan::{canonical_nan, canonicalise};
pub use optim::{adamw_step, sgd_step, AdamW, BiasCorrection, Sgd};
pub use reduce::{argmax, argmax_rows, max, mean, sum, sum_axis0, sum_f64};
pub use relu::{relu_grad_into, relu_into};
pub use shuffle::{permutation, shuffle};
pub use stream::{Stream, StreamKey};
pub use threads::{with_float_defaults, with_threads};

/// The version of the numeric specification: anything that changes a bit of any kernel's result changes this number.
/// Records of a run carry it; results of two versions may differ.
pub const SPEC: u32 = 1;

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
//! - Arrays may have any strides. What a kernel cannot read or write where it lies goes through a copy in memory that each thread
//!   keeps, so that inside a pool ([`with_threads`]) kernels named `…_into` and `…_in_place` allocate nothing once they have run;
//!   `tests/allocations/` counts. Where there is no memory for a copy the error is [`KernelError::OutOfMemory`], and nothing
//!   is written; of batches of products, and of the heads of attention, earlier ones may have been.
//! - No kernel reads a clock, the environment (except [`Isa`]) or an unseeded random number.
//!
//! # Where to start
//! [`matmul_into`] and [`Start`], [`batched_matmul_into`]; [`conv2d_into`], [`max_pool2d_into`]; [`attention_into`],
//! [`embedding_into`], which also gathers the rows of a batch; [`binary_into`], [`elementary`]; [`sum_axis_into`]; [`softmax_cross_entropy`], [`layer_norm_into`],
//! [`Dropout`]; [`adamw_step`]; [`Stream`], [`shuffle`], [`Batches`] and [`PrefetchBatches`];
//! [`with_threads`]. The scalar code that defines the bits lies in `src/spec/`.
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
mod attention;
mod batch;
mod batched;
mod broadcast;
mod chains;
mod conv;
mod dropout;
pub mod elementary;
mod embed;
mod error;
mod init;
mod isa;
mod loss;
mod matmul;
mod nan;
mod norm;
mod optim;
mod peak;
mod pool;
mod prefetch;
mod reduce;
mod relu;
mod scratch;
mod shuffle;
mod simd;
mod softmax;
mod spec;
mod stream;
mod threads;
mod transpose;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use attention::{
    attention_grad_into, attention_grad_into_with, attention_into, attention_into_with, Attention,
    AttentionOperands,
};
pub use batch::{Batches, LastBatch};
pub use batched::{batched_matmul_into, batched_matmul_into_with};
pub use broadcast::{
    add_relu_into, add_relu_into_with, add_to_residual, add_to_residual_with, axpy_in_place,
    axpy_in_place_with, binary_in_place, binary_in_place_with, binary_into, binary_into_with,
    broadcast_shape, scale_in_place, sum_to_shape_into, Binary,
};
pub use conv::{
    conv2d_bias_grad_into, conv2d_bias_grad_into_with, conv2d_input_grad_into, conv2d_input_grad_into_with,
    conv2d_into, conv2d_into_with, conv2d_weight_grad_into, conv2d_weight_grad_into_with, Conv2d,
};
pub use dropout::{dropout_grad_into, dropout_into, Dropout};
pub use embed::{embedding_grad_into, embedding_grad_into_with, embedding_into};
pub use error::KernelError;
pub use init::{kaiming_normal, kaiming_uniform, normal};
pub use isa::{Isa, IsaError};
pub use loss::{softmax_cross_entropy, softmax_cross_entropy_into};
pub use matmul::{matmul, matmul_into, matmul_into_with, Start};
pub use nan::{canonical_nan, canonicalise};
pub use norm::{layer_norm_grad_into, layer_norm_into, RowMoments};
pub use optim::{adamw_step, clip_gradients, gradient_norm, sgd_step, AdamW, BiasCorrection, Sgd};
pub use peak::fused_multiply_add_peak;
pub use pool::{
    avg_pool2d_grad_into, avg_pool2d_into, max_pool2d_grad_into, max_pool2d_into, AverageOver, Pool2d,
};
pub use prefetch::PrefetchBatches;
pub use reduce::{
    argmax, argmax_axis_into, argmax_rows, logsumexp_axis_into, max, max_axis_into, mean, mean_axis_into,
    sum, sum_axis0, sum_axis_into, sum_f64, sum_of_squares,
};
pub use relu::{relu_grad_into, relu_grad_into_with, relu_into, relu_into_with};
pub use shuffle::{permutation, shuffle};
pub use softmax::{log_softmax, log_softmax_grad_into, log_softmax_into, softmax_grad_into, softmax_into};
pub use stream::{Stream, StreamKey};
pub use threads::{with_float_defaults, with_threads};

/// The version of the numeric specification: anything that changes a bit of any kernel's result changes this number.
/// Records of a run carry it; results of two versions may differ.
pub const SPEC: u32 = 2;

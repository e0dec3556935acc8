//! The scalar matrix product compiled for the fused multiply-add of x86-64: without it each step is a call of libm or done in
//! software.
#![expect(unsafe_code, reason = "a target feature cannot be reached from safe code")]

use crate::spec::fma::{Fused, NativeFma};
use crate::spec::matmul::chains;

/// [`chains`] with the processor's instruction; `false`, and nothing done, where it has none.
pub(crate) fn chains_if_available(a: &[f32], b: &[f32], c: &mut [f32], depth: usize, columns: usize) -> bool {
    if !is_x86_feature_detected!("fma") {
        return false;
    }
    // SAFETY: the feature was detected on this processor.
    unsafe { chains_compiled(a, b, c, depth, columns) }
    true
}

#[target_feature(enable = "fma")]
fn chains_compiled(a: &[f32], b: &[f32], c: &mut [f32], depth: usize, columns: usize) {
    chains::<NativeFma>(a, b, c, depth, columns);
}

/// Runs scalar work with the processor's instruction; gives it back where it has none.
pub(crate) fn run_if_available<O: Fused>(op: O) -> Result<(), O> {
    if !is_x86_feature_detected!("fma") {
        return Err(op);
    }
    // SAFETY: the feature was detected on this processor.
    unsafe { run_compiled(op) }
    Ok(())
}

#[target_feature(enable = "fma")]
fn run_compiled<O: Fused>(op: O) {
    op.run::<NativeFma>();
}

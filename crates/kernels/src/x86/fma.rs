//! Scalar work compiled for the fused multiply-add of x86-64: without it each step is a call of libm or done in software.
#![expect(unsafe_code, reason = "a target feature cannot be reached from safe code")]

use crate::spec::fma::{Fused, NativeFma};

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

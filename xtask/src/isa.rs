//! The instruction sets that `BITPROOF_ISA` can force, and which of them this processor has.

/// Names as the kernels know them, each with whether it can be forced here. The kernels themselves are not asked: xtask depends on
/// no crate of the workspace.
pub(crate) fn instruction_sets() -> Vec<(&'static str, bool)> {
    #[cfg(target_arch = "x86_64")]
    let fast = {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        [("avx2", avx2), ("avx512", avx2 && avx512)]
    };
    #[cfg(target_arch = "aarch64")]
    let fast = [("neon", true)];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let fast = [];
    [("scalar", true)].into_iter().chain(fast).collect()
}

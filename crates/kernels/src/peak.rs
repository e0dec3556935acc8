use crate::isa::Isa;
use crate::simd::{F32Lanes, Simd, Vectorized};
use crate::threads::with_float_defaults;

/// Fused multiply-adds that nothing holds up: `rounds` times one in each of 12 independent registers, on one thread. Returns how
/// many floating-point operations that were (two for each lane of each), and a sum that keeps them from being left out.
///
/// Timed, it gives the peak that other kernels are held against. Nothing else is it good for.
pub fn fused_multiply_add_peak(rounds: u64) -> (u64, f32) {
    with_float_defaults(|| {
        Isa::get().vectorize(Chains { rounds }).unwrap_or_else(|Chains { rounds }| {
            let sum = (0..rounds).fold(0.0f32, |sum, _| sum * 0.5 + 1.0);
            (2 * rounds, sum)
        })
    })
}

struct Chains {
    rounds: u64,
}

impl Vectorized for Chains {
    type Output = (u64, f32);
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (u64, f32) {
        const CHAINS: usize = 12;
        let (half, one) = (simd.splat(0.5), simd.splat(1.0));
        let mut chains = [simd.splat(0.25); CHAINS];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = half.mul_add(*chain, one);
            }
        }
        let mut sum = chains[0];
        for chain in &chains[1..] {
            sum = sum + *chain;
        }
        let mut lanes = [0.0; 64];
        sum.store(&mut lanes);
        let operations = 2 * self.rounds * CHAINS as u64 * S::LANES as u64;
        (operations, lanes[..S::LANES].iter().sum())
    }
}

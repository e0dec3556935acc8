//! Compares `exp`, `log` or `tanh` with CORE-MATH on all 2³² inputs:
//! `time cargo run --release -p bitproof-kernels --example exhaustive -- exp log tanh`
#![expect(clippy::print_stdout, reason = "printing the result is what this program is for")]

use std::process::ExitCode;

use bitproof_kernels::{canonical_nan, elementary};
use rayon::prelude::*;

type Function = fn(f32) -> f32;

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        println!("usage: exhaustive exp|log|tanh …");
        return ExitCode::from(2);
    }
    let mut all_equal = true;
    for name in names {
        let (ours, oracle): (Function, Function) = match name.as_str() {
            "exp" => (elementary::exp, core_math::expf),
            "log" => (elementary::log, core_math::logf),
            "tanh" => (elementary::tanh, core_math::tanhf),
            _ => {
                println!("{name}: unknown; use exp, log or tanh");
                return ExitCode::from(2);
            }
        };
        let differing = differing_inputs(ours, oracle);
        println!("{name}: {} of 2^32 inputs differ from CORE-MATH", differing.len());
        for &bits in differing.iter().take(10) {
            let x = f32::from_bits(bits);
            println!("  x = {x:e} (0x{bits:08x}): {:e}, expected {:e}", ours(x), oracle(x));
        }
        all_equal &= differing.is_empty();
    }
    if all_equal {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// In rising order of their bits. Our NaN must be the canonical one; the oracle's may be any.
fn differing_inputs(ours: Function, oracle: Function) -> Vec<u32> {
    (0..=u32::MAX)
        .into_par_iter()
        .filter(|&bits| {
            let x = f32::from_bits(bits);
            ours(x).to_bits() != canonical_nan(oracle(x)).to_bits()
        })
        .collect()
}

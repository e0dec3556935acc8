//! Compares elementary functions on all 2³² inputs: every instruction set of this processor with the scalar specification,
//! and the specification of the correctly rounded ones with CORE-MATH. All functions, or those that are named:
//! `time cargo run --release -p bitproof-kernels --example exhaustive -- exp gelu`
#![expect(clippy::print_stdout, reason = "printing the result is what this program is for")]

use std::process::ExitCode;

use bitproof_kernels::elementary::{unary_into_with, Unary};
use bitproof_kernels::{canonical_nan, Isa};
use ndarray::{ArrayView1, ArrayViewMut1};
use rayon::prelude::*;

/// Inputs that are compared at once.
const BLOCK: u32 = 1 << 15;

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = names.iter().find(|&name| Unary::ALL.iter().all(|f| f.name() != name)) {
        println!("{unknown}: unknown; use {}", Unary::ALL.map(Unary::name).join(", "));
        return ExitCode::from(2);
    }
    let chosen = |f: &Unary| names.is_empty() || names.iter().any(|name| name == f.name());
    let mut all_equal = true;
    for function in Unary::ALL.into_iter().filter(chosen) {
        let differing = differences(function);
        let against = match oracle(function) {
            Some(_) => "CORE-MATH and the scalar specification",
            None => "the scalar specification",
        };
        let isas: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
        println!(
            "{} ({}): {} of 2^32 inputs differ from {against}",
            function.name(),
            isas.join(", "),
            differing.len()
        );
        for difference in differing.iter().take(20) {
            let Difference { input, path, got, expected } = difference;
            println!(
                "  x = {:e} (0x{input:08x}) {path}: 0x{got:08x}, expected 0x{expected:08x}",
                f32::from_bits(*input)
            );
        }
        all_equal &= differing.is_empty();
    }
    if all_equal {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// All of them are bits.
struct Difference {
    input: u32,
    path: &'static str,
    got: u32,
    expected: u32,
}

fn oracle(function: Unary) -> Option<fn(f32) -> f32> {
    match function {
        Unary::Exp => Some(core_math::expf),
        Unary::Log => Some(core_math::logf),
        Unary::Tanh => Some(core_math::tanhf),
        Unary::Erf => Some(core_math::erff),
        Unary::Sin => Some(core_math::sinf),
        Unary::Cos => Some(core_math::cosf),
        Unary::Rsqrt => Some(core_math::rsqrtf),
        _ => None,
    }
}

/// In rising order of the inputs' bits. Our NaN must be the canonical one; the oracle's may be any.
fn differences(function: Unary) -> Vec<Difference> {
    let blocks = (0..=u32::MAX / BLOCK).into_par_iter();
    let found = blocks.map(|block| {
        let x: Vec<f32> = (0..BLOCK).map(|i| f32::from_bits(block * BLOCK + i)).collect();
        let expected: Vec<f32> = x.iter().map(|&x| function.of(x)).collect();
        let mut differing = Vec::new();
        let mut compare = |path, got: &[f32], expected: &[f32]| {
            let pairs = x.iter().zip(got.iter().zip(expected));
            differing.extend(pairs.filter(|(_, (got, expected))| got.to_bits() != expected.to_bits()).map(
                |(x, (got, expected))| Difference {
                    input: x.to_bits(),
                    path,
                    got: got.to_bits(),
                    expected: expected.to_bits(),
                },
            ));
        };
        if let Some(oracle) = oracle(function) {
            let truth: Vec<f32> = x.iter().map(|&x| canonical_nan(oracle(x))).collect();
            compare("specification", &expected, &truth);
        }
        let mut got = vec![0.0; x.len()];
        // The first one is the scalar path, which calls the specification.
        for isa in Isa::available().into_iter().skip(1) {
            let (x, out) = (ArrayView1::from(&x), ArrayViewMut1::from(&mut got));
            unary_into_with(isa, function, x, out).expect("the lengths are equal");
            compare(isa.name(), &got, &expected);
        }
        differing
    });
    found.flatten_iter().collect()
}

//! Sine and cosine. The argument is reduced in integers, as Payne and Hanek (1983) do it with the bits of 2/π.

use super::horner;
use crate::spec::tables::{COS_Q, HALF_PI_HIGH, SIN_Q, TWO_OVER_PI_BITS};

/// `sin x`, correctly rounded. Keeps the sign of zero; infinities and NaN give the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::sin;
/// assert_eq!(sin(1.0), 0.841_470_985);
/// assert!(sin(f32::INFINITY).is_nan());
/// ```
pub fn sin(x: f32) -> f32 {
    if !x.is_finite() {
        return f32::NAN;
    }
    let value = hard(x.abs(), &HARD_SIN).unwrap_or_else(|| {
        let (quadrant, r) = quarter_turns(x.abs());
        at_quadrant(quadrant, r) as f32
    });
    if x.is_sign_negative() {
        -value
    } else {
        value
    }
}

/// `cos x`, correctly rounded. Infinities and NaN give the canonical NaN.
///
/// ```
/// use bitproof_kernels::elementary::cos;
/// assert_eq!(cos(0.0), 1.0);
/// assert_eq!(cos(1e30), -0.611_604_8);
/// ```
pub fn cos(x: f32) -> f32 {
    if !x.is_finite() {
        return f32::NAN;
    }
    hard(x.abs(), &HARD_COS).unwrap_or_else(|| {
        let (quadrant, r) = quarter_turns(x.abs());
        at_quadrant(quadrant + 1, r) as f32
    })
}

/// Positive inputs and their results, as bits, where the true value lies so near the middle between two f32 that f64 is not
/// enough to tell its side: within 2⁻³⁰ of their distance. The comparison with CORE-MATH on all inputs found these.
const HARD_SIN: [(u32, u32); 1] = [(0x4619_9998, 0xbeb1_fa5d)];
const HARD_COS: [(u32, u32); 2] = [(0x5f18_b878, 0x3f7f_14bb), (0x6115_cb11, 0x3f78_142f)];

fn hard(magnitude: f32, cases: &[(u32, u32)]) -> Option<f32> {
    let found = cases.iter().find(|(x, _)| *x == magnitude.to_bits());
    found.map(|&(_, result)| f32::from_bits(result))
}

/// `sin(quadrant · π/2 + r)`.
fn at_quadrant(quadrant: u32, r: f64) -> f64 {
    let z = r * r;
    let value = if quadrant & 1 == 0 {
        r + (z * r) * horner(z, &SIN_Q)
    } else {
        (1.0 - 0.5 * z) + (z * z) * horner(z, &COS_Q)
    };
    if quadrant & 2 == 0 {
        value
    } else {
        -value
    }
}

/// `(q, r)` with `x = q · π/2 + r` up to a multiple of 2π and `|r| ≤ π/4`, for `x ≥ 0`.
///
/// `x = m · 2ᵉ` with an integer `m`, so of `2ᵉ · 2/π` only the remainder modulo 4 counts. Of that the first 126 bits after the
/// point, times `m` modulo 4, leave an error below 2⁻¹⁰², while no f32 comes nearer to a multiple of π/2 than 2⁻³⁰.
fn quarter_turns(x: f32) -> (u32, f64) {
    /// 2⁻¹²⁶.
    const UNIT: f64 = f64::from_bits((1023 - 126) << 52);
    if x < std::f32::consts::FRAC_PI_4 {
        return (0, f64::from(x));
    }
    let m = u128::from(x.to_bits() & 0x007f_ffff | 0x0080_0000);
    // 2/π has 256 bits here; to have 126 after the point of 2ᵉ · 2/π, 130 − e are dropped.
    let drop = 280 - (x.to_bits() >> 23);
    let [high, low] = TWO_OVER_PI_BITS;
    let turns = match drop.checked_sub(128) {
        Some(drop) => high >> drop,
        None => high << (128 - drop) | low >> drop,
    };
    let turns = m.wrapping_mul(turns);
    let quadrant = turns.wrapping_add(1 << 125) >> 126;
    let rest = turns.wrapping_sub(quadrant << 126) as i128;
    (quadrant as u32, rest as f64 * UNIT * HALF_PI_HIGH)
}

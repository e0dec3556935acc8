//! The quantile function of the normal distribution: algorithm AS 241, PPND16 (Wichura, "The percentage points of the normal
//! distribution", Applied Statistics 37, 1988), in f64 multiplications, additions, divisions and one root, none of them fused. Its
//! relative error is about 10⁻¹⁶, so that one more rounding, to f32, hides it almost everywhere; its bits are these operations'.

use super::elementary::{horner, log64};

/// `x` with `Φ(x) = u`, for `u` in (0, 1).
///
/// With `q = u − ½`: for `|q| ≤ 0.425`, `q·P(r)/Q(r)` at `r = 0.180625 − q²`; beyond, `±P(r)/Q(r)` at `r = √(−ln min(u, 1 − u))`
/// less 1.6 up to `r = 5`, and less 5 from there on. Polynomials by Horner's rule.
pub(crate) fn quantile(u: f64) -> f64 {
    let q = u - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * horner(r, &CENTRAL_P) / horner(r, &CENTRAL_Q);
    }
    let r = (-log64(if q < 0.0 { u } else { 1.0 - u })).sqrt();
    let x = if r <= 5.0 {
        let r = r - 1.6;
        horner(r, &MIDDLE_P) / horner(r, &MIDDLE_Q)
    } else {
        let r = r - 5.0;
        horner(r, &TAIL_P) / horner(r, &TAIL_Q)
    };
    x.copysign(q)
}

// Constant terms first.
#[rustfmt::skip]
const CENTRAL_P: [f64; 8] = [
    3.3871328727963665,
    133.14166789178438,
    1971.5909503065513,
    13731.69376550946,
    45921.95393154987,
    67265.7709270087,
    33430.57558358813,
    2509.0809287301227,
];
#[rustfmt::skip]
const CENTRAL_Q: [f64; 8] = [
    1.0,
    42.31333070160091,
    687.1870074920579,
    5394.196021424751,
    21213.794301586597,
    39307.89580009271,
    28729.085735721943,
    5226.495278852854,
];
#[rustfmt::skip]
const MIDDLE_P: [f64; 8] = [
    1.4234371107496835,
    4.630337846156546,
    5.769497221460691,
    3.6478483247632045,
    1.2704582524523684,
    0.2417807251774506,
    0.022723844989269184,
    0.0007745450142783414,
];
#[rustfmt::skip]
const MIDDLE_Q: [f64; 8] = [
    1.0,
    2.053191626637759,
    1.6763848301838038,
    0.6897673349851,
    0.14810397642748008,
    0.015198666563616457,
    0.0005475938084995345,
    1.0507500716444169e-09,
];
#[rustfmt::skip]
const TAIL_P: [f64; 8] = [
    6.657904643501103,
    5.463784911164114,
    1.7848265399172913,
    0.29656057182850487,
    0.026532189526576124,
    0.0012426609473880784,
    2.7115555687434876e-05,
    2.0103343992922881e-07,
];
#[rustfmt::skip]
const TAIL_Q: [f64; 8] = [
    1.0,
    0.599832206555888,
    0.1369298809227358,
    0.014875361290850615,
    0.0007868691311456133,
    1.8463183175100548e-05,
    1.421511758316446e-07,
    2.0442631033899397e-15,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that the paper gives for checking, to 16 digits.
    #[test]
    fn it_gives_the_values_of_the_paper() {
        for (u, expected) in [
            (0.25, -0.674_489_750_196_081_7),
            (0.001, -3.090_232_306_167_814),
            (1e-20, -9.262_340_089_798_408),
        ] {
            let got = quantile(u);
            assert!((got / expected - 1.0).abs() < 1e-15, "{u}: {got} and {expected}");
            // The negative control: the neighbour in the ninth digit is another value.
            assert!((quantile(u * (1.0 + 1e-9)) / expected - 1.0).abs() > 1e-12);
        }
        assert!((quantile(0.975) / 1.959_963_984_540_054 - 1.0).abs() < 1e-15);
        assert_eq!(quantile(0.5), 0.0);
        assert_eq!(quantile(0.25).to_bits(), (-quantile(0.75)).to_bits());
    }

    #[test]
    fn it_rises_across_its_seams() {
        for seam in [0.075, 0.925, 1.388_794_386_496_402e-11] {
            let values: Vec<f64> = (-50..50).map(|i| quantile(seam * (1.0 + f64::from(i) * 1e-10))).collect();
            assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "around {seam}");
        }
    }
}

//! Files of arrays as others write them, down to where each array lies and what its elements are called; what the elements mean is
//! the caller's.
//!
//! [`crate::safetensors`] reads models, in the one form that it writes; these readers take what the formats allow.

mod npy;
mod safetensors;

pub use npy::read_npy;
pub use safetensors::{read_safetensors, TensorFile};

/// An array as it lies in a file. Whether `data` has as many bytes as its form says is not checked here, since only the caller knows
/// the types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawArray<'a> {
    /// The type as the file names it: `<f4`, `BF16`.
    pub dtype: String,
    /// The length of each axis.
    pub shape: Vec<u64>,
    /// Whether the first axis varies fastest, not the last.
    pub fortran_order: bool,
    /// Its bytes.
    pub data: &'a [u8],
    /// Where they begin in the file.
    pub offset: usize,
}

/// Bytes that are not what the format says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {offset}: {reason}")]
pub struct ArrayError {
    /// Where.
    pub offset: usize,
    /// Why.
    pub reason: String,
}

fn error(offset: usize, reason: impl Into<String>) -> ArrayError {
    ArrayError { offset, reason: reason.into() }
}

/// IEEE 754 binary16, widened: exact.
pub fn half(bits: u16) -> f64 {
    /// 2⁻²⁴, the smallest.
    const ULP: f64 = 1.0 / 16_777_216.0;
    let (exponent, fraction) = (u32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * ULP,
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * ULP * f64::from(1u32 << (exponent - 1)),
    };
    if bits >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_widened_exactly() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0400, 0.000_061_035_156_25),
            (0x03ff, 0.000_060_975_551_605_224_61),
            (0x0001, 5.960_464_477_539_063e-8),
            (0x3555, 0.333_251_953_125),
            (0x7c00, f64::INFINITY),
            (0xfc00, f64::NEG_INFINITY),
            (0x8000, -0.0),
        ] {
            assert_eq!(half(bits).to_bits(), f64::to_bits(value), "{bits:04x}");
        }
        assert!((0x7c01..=0x7fff).all(|bits| half(bits).is_nan()));
        assert!((0..0x7c00).all(|bits| half(bits) < half(bits + 1)), "the order of bits is that of numbers");
    }
}

//! Arrays of numbers, whatever file they lie in: the first element that differs, by index and bits.

use bitproof_training::arrays::half;

use super::tolerance::{Judged, Tally};
use super::{Difference, Number, Place, Side, TensorForm};

/// Equal stretches of this many bytes are passed over at once. A multiple of every element's width.
const STRETCH_BYTES: usize = 4096;

/// What a scalar's bits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    F64,
    F32,
    F16,
    BF16,
    /// Of so many bytes, as for those that follow.
    Signed(usize),
    Unsigned(usize),
    Bool,
    /// Bits that are compared and not read.
    Opaque(usize),
}

impl Scalar {
    pub(super) const fn width(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Bool => 1,
            Self::Signed(width) | Self::Unsigned(width) | Self::Opaque(width) => width,
        }
    }

    const fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    fn number(self, bits: u64) -> Option<Number> {
        Some(match self {
            Self::F64 => Number::Float(f64::from_bits(bits)),
            Self::F32 => Number::Float(f64::from(f32::from_bits(bits as u32))),
            Self::F16 => Number::Float(half(bits as u16)),
            Self::BF16 => Number::Float(f64::from(f32::from_bits((bits as u32) << 16))),
            Self::Signed(width) => {
                let unused = 64 - 8 * width as u32;
                Number::Int(i128::from((bits << unused) as i64 >> unused))
            }
            Self::Unsigned(_) => Number::Int(i128::from(bits)),
            Self::Bool | Self::Opaque(_) => return None,
        })
    }

    fn side(self, bits: u64) -> Side {
        let number = self.number(bits);
        let text = match (self, number) {
            // The shortest decimal that is this f32, not that of its widening.
            (Self::F32, _) => format!("{:?}", f32::from_bits(bits as u32)),
            (Self::BF16, _) => format!("{:?}", f32::from_bits((bits as u32) << 16)),
            (_, Some(Number::Float(x))) => format!("{x:?}"),
            (_, Some(Number::Int(n))) => n.to_string(),
            (Self::Bool, None) => (bits != 0).to_string(),
            (_, None) => "bits".to_owned(),
        };
        Side { text, number, bits: Some(format!("{bits:0width$x}", width = 2 * self.width())) }
    }
}

/// How scalars make elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    /// An element each.
    One,
    /// Two make an element: a real and an imaginary part.
    Complex,
    /// Each holds so many elements.
    Shared(u64),
}

/// An array as it lies in a file.
#[derive(Debug, Clone)]
pub(super) struct Array<'a> {
    pub(super) form: TensorForm,
    pub(super) scalar: Scalar,
    pub(super) packing: Packing,
    pub(super) big_endian: bool,
    data: &'a [u8],
}

impl<'a> Array<'a> {
    /// `None` when the form's elements are not exactly what `data` holds.
    pub(super) fn new(
        form: TensorForm,
        scalar: Scalar,
        packing: Packing,
        big_endian: bool,
        data: &'a [u8],
    ) -> Option<Self> {
        let elements = form.shape.iter().try_fold(1u64, |n, &axis| n.checked_mul(axis))?;
        let scalars = match packing {
            Packing::One => elements,
            Packing::Complex => elements.checked_mul(2)?,
            Packing::Shared(each) => (elements % each == 0).then_some(elements / each)?,
        };
        let fits = scalars.checked_mul(scalar.width() as u64) == Some(data.len() as u64);
        fits.then_some(Self { form, scalar, packing, big_endian, data })
    }

    fn bits(&self, raw: &[u8]) -> u64 {
        let mut bytes = [0; 8];
        bytes[..raw.len()].copy_from_slice(raw);
        if self.big_endian {
            bytes[..raw.len()].reverse();
        }
        u64::from_le_bytes(bytes)
    }

    /// The index along each axis of a scalar.
    fn index(&self, scalar: u64) -> Vec<u64> {
        let (element, part) = match self.packing {
            Packing::One => (scalar, None),
            Packing::Complex => (scalar / 2, Some(scalar % 2)),
            Packing::Shared(each) => (scalar * each, None),
        };
        let mut rest = element;
        let mut next = |&axis: &u64| {
            let i = rest % axis;
            rest /= axis;
            i
        };
        let mut index: Vec<u64> = if self.form.fortran_order {
            self.form.shape.iter().map(&mut next).collect()
        } else {
            let mut reversed: Vec<u64> = self.form.shape.iter().rev().map(&mut next).collect();
            reversed.reverse();
            reversed
        };
        index.extend(part);
        index
    }
}

/// Compares two arrays of one name, either of which may be absent.
pub(super) fn compare(
    name: Option<&str>,
    recorded: Option<&Array<'_>>,
    replayed: Option<&Array<'_>>,
    tally: &mut Tally,
) -> Judged {
    let form = |array: &Array<'_>| array.form.clone();
    let (a, b) = match (recorded, replayed) {
        (Some(a), Some(b)) if a.form == b.form => (a, b),
        _ => {
            return Err(Box::new(Difference::Tensor {
                at: tally.at(),
                tensor: name.map(str::to_owned),
                recorded: recorded.map(form),
                replayed: replayed.map(form),
            }))
        }
    };
    let (scalar, width) = (a.scalar, a.scalar.width());
    let stretches = a.data.chunks(STRETCH_BYTES).zip(b.data.chunks(STRETCH_BYTES)).enumerate();
    for (stretch, (then, now)) in stretches.filter(|(_, (then, now))| then != now) {
        let pairs = then.chunks_exact(width).zip(now.chunks_exact(width)).enumerate();
        for (i, (then, now)) in pairs.filter(|(_, (then, now))| then != now) {
            let (then, now) = (a.bits(then), b.bits(now));
            let place = || Place::Element {
                tensor: name.map(str::to_owned),
                dtype: a.form.dtype.clone(),
                index: a.index((stretch * (STRETCH_BYTES / width) + i) as u64),
            };
            let close = match (scalar.number(then), scalar.number(now)) {
                (Some(x), Some(y)) if scalar.is_float() => tally.accepts(x, y, place),
                _ => false,
            };
            if !close {
                return tally.value(place(), Some(scalar.side(then)), Some(scalar.side(now)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_shown_with_their_bits() {
        for (scalar, bits, shown) in [
            (Scalar::F32, 0x3dcc_cccd, "0.1 (3dcccccd)"),
            (Scalar::F64, 0x8000_0000_0000_0000, "-0.0 (8000000000000000)"),
            (Scalar::BF16, 0x3f80, "1.0 (3f80)"),
            (Scalar::F16, 0x7e00, "NaN (7e00)"),
            (Scalar::Signed(1), 0xff, "-1 (ff)"),
            (Scalar::Signed(8), u64::MAX, "-1 (ffffffffffffffff)"),
            (Scalar::Unsigned(8), u64::MAX, "18446744073709551615 (ffffffffffffffff)"),
            (Scalar::Bool, 1, "true (01)"),
            (Scalar::Opaque(1), 0x38, "bits (38)"),
        ] {
            assert_eq!(scalar.side(bits).to_string(), shown);
        }
    }

    #[test]
    fn indices_follow_order_and_packing() {
        let array = |scalar: Scalar, packing, fortran_order| Array {
            form: TensorForm { dtype: String::new(), shape: vec![2, 4], fortran_order },
            scalar,
            packing,
            big_endian: false,
            data: &[],
        };
        assert_eq!(array(Scalar::F32, Packing::One, false).index(6), [1, 2]);
        assert_eq!(array(Scalar::F32, Packing::One, true).index(6), [0, 3]);
        assert_eq!(array(Scalar::F32, Packing::Complex, false).index(13), [1, 2, 1]);
        assert_eq!(array(Scalar::F32, Packing::Complex, true).index(13), [0, 3, 1]);
        assert_eq!(array(Scalar::Opaque(1), Packing::Shared(2), false).index(3), [1, 2]);
    }

    #[test]
    fn a_form_that_does_not_fit_its_bytes_is_no_array() {
        let new = |shape: &[u64], packing, len: usize| {
            let form = TensorForm { dtype: "F32".to_owned(), shape: shape.to_vec(), fortran_order: false };
            Array::new(form, Scalar::F32, packing, false, &[0; 64][..len]).is_some()
        };
        assert!(new(&[2, 2], Packing::One, 16) && new(&[], Packing::One, 4) && new(&[0, 7], Packing::One, 0));
        assert!(!new(&[2, 2], Packing::One, 12) && !new(&[2, 2], Packing::One, 20));
        assert!(new(&[2], Packing::Complex, 16) && !new(&[2], Packing::Complex, 8));
        assert!(new(&[4], Packing::Shared(2), 8) && !new(&[3], Packing::Shared(2), 8));
        assert!(!new(&[u64::MAX, u64::MAX], Packing::One, 4), "more elements than can be counted");
        assert!(!new(&[u64::MAX], Packing::One, 4) && !new(&[u64::MAX], Packing::Complex, 4));
    }
}

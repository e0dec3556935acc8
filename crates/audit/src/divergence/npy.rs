//! npy with numbers, booleans and times of any byte order; not records, texts or objects.

use bitproof_training::arrays::read_npy;

use super::array::{self, Array, Packing, Scalar};
use super::tolerance::{Judged, Tally};
use super::TensorForm;

pub(super) fn compare(recorded: &[u8], replayed: &[u8], tally: &mut Tally) -> Option<Judged> {
    Some(array::compare(None, Some(&read(recorded)?), Some(&read(replayed)?), tally))
}

/// `None` for what is not exactly one array.
fn read(bytes: &[u8]) -> Option<Array<'_>> {
    let raw = read_npy(bytes).ok()?;
    let (order, kind) = raw.dtype.split_at_checked(1)?;
    let big_endian = match order {
        "<" | "|" => false,
        ">" => true,
        _ => return None,
    };
    // The unit of a time, as in `M8[ns]`, is told by the type being the same.
    let kind = if kind.starts_with(['M', 'm']) { kind.split('[').next()? } else { kind };
    let (scalar, packing) = match kind {
        "f8" => (Scalar::F64, Packing::One),
        "f4" => (Scalar::F32, Packing::One),
        "f2" => (Scalar::F16, Packing::One),
        "c16" => (Scalar::F64, Packing::Complex),
        "c8" => (Scalar::F32, Packing::Complex),
        "i8" => (Scalar::Signed(8), Packing::One),
        "i4" => (Scalar::Signed(4), Packing::One),
        "i2" => (Scalar::Signed(2), Packing::One),
        "i1" => (Scalar::Signed(1), Packing::One),
        "u8" => (Scalar::Unsigned(8), Packing::One),
        "u4" => (Scalar::Unsigned(4), Packing::One),
        "u2" => (Scalar::Unsigned(2), Packing::One),
        "u1" => (Scalar::Unsigned(1), Packing::One),
        "b1" => (Scalar::Bool, Packing::One),
        "M8" | "m8" => (Scalar::Opaque(8), Packing::One),
        _ => return None,
    };
    let form =
        TensorForm { dtype: raw.dtype.clone(), shape: raw.shape.clone(), fortran_order: raw.fortran_order };
    Array::new(form, scalar, packing, big_endian, raw.data)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{assert_bytes, bits, tolerance, within};
    use super::super::{compare, Comparison, ReplayMode};

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut header = header.to_owned();
        while !(header.len() + 11).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    }

    pub(in super::super) fn array(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
        let order = if fortran { "True" } else { "False" };
        file(&format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"), data)
    }

    fn f64s(values: &[f64]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn equal_within_and_beyond() {
        let then = array("<f8", false, "(2, 2)", &f64s(&[1.0, 2.0, 4.0, f64::NAN]));
        assert_eq!(compare(&then, &then, &ReplayMode::Bits), Comparison::Identical);
        let now = array("<f8", false, "(2, 2)", &f64s(&[1.25, 2.0, 4.5, f64::NAN]));
        let found = within(&then, &now, 0.0, 0.5);
        assert_eq!(found.numbers, 2);
        let (absolute, relative) = (found.absolute.unwrap(), found.relative.unwrap());
        assert_eq!((absolute.value, absolute.place.to_string().as_str()), (0.5, "the array at [1, 0]"));
        assert_eq!((relative.value, relative.place.to_string().as_str()), (0.25, "the array at [0, 0]"));
        let Comparison::Diverged(difference) = compare(&then, &now, &tolerance(0.0, 0.25)) else {
            panic!("the second is beyond")
        };
        assert_eq!(
            difference.to_string(),
            "the array at [1, 0]: 4.0 (4010000000000000) then, 4.5 (4012000000000000) now; byte 134 is the first that differs"
        );
    }

    #[test]
    fn byte_order_and_fortran_order_are_read() {
        let then = array(">f4", true, "(2, 3)", &[0; 24]);
        let mut data = [0; 24];
        data[12..16].copy_from_slice(&1.0f32.to_be_bytes());
        let difference = bits(&then, &array(">f4", true, "(2, 3)", &data)).to_string();
        assert!(
            difference.starts_with("the array at [1, 1]: 0.0 (00000000) then, 1.0 (3f800000) now"),
            "{difference}"
        );
        for (other, expected) in [
            (array("<f4", true, "(2, 3)", &[0; 24]), "<f4 [2, 3] in Fortran order"),
            (array(">f4", false, "(2, 3)", &[0; 24]), ">f4 [2, 3]"),
            (array(">f4", true, "(6,)", &[0; 24]), ">f4 [6] in Fortran order"),
        ] {
            let Comparison::Diverged(difference) = compare(&then, &other, &tolerance(1.0, 1.0)) else {
                panic!("{expected}")
            };
            let expected = format!("the array: >f4 [2, 3] in Fortran order then, {expected} now; ");
            assert!(difference.to_string().starts_with(&expected), "{difference}");
        }
    }

    #[test]
    fn only_floats_have_a_tolerance() {
        for (descr, len, tolerated) in [
            ("<f2", 2, true),
            ("<f4", 4, true),
            ("<c8", 8, true),
            ("<c16", 16, true),
            ("<i4", 4, false),
            ("|u1", 1, false),
            ("|b1", 1, false),
            ("<M8[ns]", 8, false),
        ] {
            let mut data = vec![0; len];
            let then = array(descr, false, "()", &data);
            data[0] = 1;
            let now = array(descr, false, "()", &data);
            assert!(bits(&then, &now).to_string().starts_with("the array at ["), "{descr}");
            let within = matches!(compare(&then, &now, &tolerance(0.0, 1.0)), Comparison::Within(_));
            assert_eq!(within, tolerated, "{descr}");
        }
    }

    #[test]
    fn hostile_headers_are_bytes() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
        let good = file(header, &[0; 4]);
        assert!(
            super::read(&good).is_some()
                && super::read(&file("{'shape':(1),\"descr\":\"<f4\",'fortran_order':False}", &[0; 4]))
                    .is_some()
        );
        for (what, bad) in [
            ("a key twice", file(&header.replace(", }", ", 'shape': (1,)}"), &[0; 4])),
            ("a key less", file("{'descr': '<f4', 'shape': (1,), }", &[0; 4])),
            ("another key", file(&header.replace(", }", ", 'x': (1,)}"), &[0; 4])),
            ("no comma", file(&header.replace("', '", "' '"), &[0; 4])),
            ("text after the dictionary", file(&format!("{header}x"), &[0; 4])),
            ("a record", file(&header.replace("'<f4'", "[('a', '<f4')]"), &[0; 4])),
            ("objects", file(&header.replace("<f4", "|O"), &[0; 4])),
            ("a byte order of the machine", file(&header.replace("<f4", "=f4"), &[0; 4])),
            ("a type of two bytes a character", file(&header.replace("<f4", "é4"), &[0; 4])),
            ("a huge shape", file(&header.replace("(1,)", "(4294967296, 4294967296)"), &[0; 4])),
            ("a number too large", file(&header.replace("(1,)", "(99999999999999999999,)"), &[0; 4])),
            ("a negative axis", file(&header.replace("(1,)", "(-1,)"), &[0; 4])),
            ("an empty item", file(&header.replace("(1,)", "(,)"), &[0; 4])),
            ("too many axes", file(&header.replace("(1,)", &format!("({})", "1,".repeat(65))), &[0; 4])),
            ("a byte more", file(header, &[0; 5])),
            ("version 4", [b"\x93NUMPY\x04\0", &good[8..]].concat()),
            ("a header beyond the file", [b"\x93NUMPY\x02\0\xff\xff\xff\xff", &good[10..]].concat()),
        ] {
            assert!(super::read(&bad).is_none(), "{what}");
            assert_bytes(compare(&good, &bad, &tolerance(1.0, 1.0)), what);
        }
        for end in 0..good.len() {
            assert!(super::read(&good[..end]).is_none(), "{end}");
        }
    }
}

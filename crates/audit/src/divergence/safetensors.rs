//! safetensors of every type that PyTorch writes, with tensors in any order and any metadata.

use std::collections::{BTreeMap, BTreeSet};

use bitproof_training::arrays::{read_safetensors, RawArray, TensorFile};

use super::array::{self, Array, Packing, Scalar};
use super::tolerance::{Judged, Tally};
use super::{Place, Side, TensorForm};

pub(super) fn compare(recorded: &[u8], replayed: &[u8], tally: &mut Tally) -> Option<Judged> {
    Some(compare_files(&File::read(recorded)?, &File::read(replayed)?, tally))
}

fn compare_files(a: &File<'_>, b: &File<'_>, tally: &mut Tally) -> Judged {
    for name in a.tensors.keys().chain(b.tensors.keys()).collect::<BTreeSet<_>>() {
        array::compare(Some(name), a.tensors.get(name), b.tensors.get(name), tally)?;
    }
    for key in a.metadata.keys().chain(b.metadata.keys()).collect::<BTreeSet<_>>() {
        let (then, now) = (a.metadata.get(key), b.metadata.get(key));
        if then != now {
            let side = |text: &String| Side::written(&format!("{text:?}"), None);
            return tally.value(Place::Metadata { key: key.clone() }, then.map(side), now.map(side));
        }
    }
    Ok(())
}

struct File<'a> {
    tensors: BTreeMap<String, Array<'a>>,
    metadata: BTreeMap<String, String>,
}

impl<'a> File<'a> {
    /// `None` for anything that the format forbids.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let TensorFile { tensors, metadata } = read_safetensors(bytes).ok()?;
        let tensors = tensors.into_iter().map(|(name, raw)| Some((name, array(raw)?)));
        Some(Self { tensors: tensors.collect::<Option<_>>()?, metadata })
    }
}

fn array(raw: RawArray<'_>) -> Option<Array<'_>> {
    let (scalar, packing) = match raw.dtype.as_str() {
        "F64" => (Scalar::F64, Packing::One),
        "F32" => (Scalar::F32, Packing::One),
        "F16" => (Scalar::F16, Packing::One),
        "BF16" => (Scalar::BF16, Packing::One),
        "C64" => (Scalar::F32, Packing::Complex),
        "I64" => (Scalar::Signed(8), Packing::One),
        "I32" => (Scalar::Signed(4), Packing::One),
        "I16" => (Scalar::Signed(2), Packing::One),
        "I8" => (Scalar::Signed(1), Packing::One),
        "U64" => (Scalar::Unsigned(8), Packing::One),
        "U32" => (Scalar::Unsigned(4), Packing::One),
        "U16" => (Scalar::Unsigned(2), Packing::One),
        "U8" => (Scalar::Unsigned(1), Packing::One),
        "BOOL" => (Scalar::Bool, Packing::One),
        "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => {
            (Scalar::Opaque(1), Packing::One)
        }
        "F4" => (Scalar::Opaque(1), Packing::Shared(2)),
        _ => return None,
    };
    let form = TensorForm { dtype: raw.dtype, shape: raw.shape, fortran_order: false };
    Array::new(form, scalar, packing, false, raw.data)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{assert_bytes, bits, tolerance, value, within};
    use super::super::{compare, Comparison, Difference, Place};
    use serde_json::json;

    /// A file of tensors in the order given.
    pub(in super::super) fn file(
        metadata: &[(&str, &str)],
        tensors: &[(&str, &str, &[u64], &[u8])],
    ) -> Vec<u8> {
        let mut header: Vec<String> = Vec::new();
        if !metadata.is_empty() {
            let fields: Vec<String> =
                metadata.iter().map(|(k, v)| format!("{}:{}", json!(k), json!(v))).collect();
            header.push(format!("\"__metadata__\":{{{}}}", fields.join(",")));
        }
        let mut data = Vec::new();
        for (name, dtype, shape, raw) in tensors {
            let start = data.len();
            data.extend_from_slice(raw);
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
            header.push(format!("{}:{entry}", json!(name)));
        }
        with_header(&format!("{{{}}}", header.join(",")), &data)
    }

    fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn the_first_element_is_told_by_name_index_and_bits() {
        let model = |last: f32| {
            let weight = f32s(&[0.0, 1.0, 2.0, 3.0, 4.0, last]);
            file(
                &[("format", "pt")],
                &[("b", "F32", &[1], &f32s(&[9.0])), ("a.weight", "F32", &[2, 3], &weight)],
            )
        };
        let Difference::Value { at, place, recorded, replayed } = bits(&model(5.0), &model(-0.0)) else {
            panic!("an element differs")
        };
        assert_eq!(at.byte as usize, model(5.0).len() - 2, "5.0 is 00 00 a0 40");
        let index = vec![1, 2];
        assert_eq!(
            place,
            Place::Element { tensor: Some("a.weight".to_owned()), dtype: "F32".to_owned(), index }
        );
        assert_eq!(recorded.unwrap().to_string(), "5.0 (40a00000)");
        assert_eq!(replayed.unwrap().to_string(), "-0.0 (80000000)");
    }

    #[test]
    fn every_float_type_has_a_tolerance_and_no_other_type_has() {
        // One and the next of its type.
        for (dtype, shape, then, now, tolerated) in [
            (
                "F64",
                &[1u64][..],
                &1.0f64.to_bits().to_le_bytes()[..],
                &(1.0f64.to_bits() + 1).to_le_bytes()[..],
                true,
            ),
            ("F32", &[1], &0x3f80_0000u32.to_le_bytes(), &0x3f80_0001u32.to_le_bytes(), true),
            ("F16", &[1], &0x3c00u16.to_le_bytes(), &0x3c01u16.to_le_bytes(), true),
            ("BF16", &[1], &0x3f80u16.to_le_bytes(), &0x3f81u16.to_le_bytes(), true),
            ("C64", &[1], &[0, 0, 0, 0, 0, 0, 0x80, 0x3f], &[0, 0, 0, 0, 1, 0, 0x80, 0x3f], true),
            ("I64", &[1], &1i64.to_le_bytes(), &2i64.to_le_bytes(), false),
            ("I32", &[1], &1i32.to_le_bytes(), &2i32.to_le_bytes(), false),
            ("I16", &[1], &1i16.to_le_bytes(), &2i16.to_le_bytes(), false),
            ("I8", &[1], &[1], &[2], false),
            ("U64", &[1], &1u64.to_le_bytes(), &2u64.to_le_bytes(), false),
            ("U32", &[1], &1u32.to_le_bytes(), &2u32.to_le_bytes(), false),
            ("U16", &[1], &1u16.to_le_bytes(), &2u16.to_le_bytes(), false),
            ("U8", &[1], &[1], &[2], false),
            ("BOOL", &[1], &[0], &[1], false),
            ("F8_E4M3", &[1], &[0x38], &[0x39], false),
            ("F8_E5M2", &[1], &[0x3c], &[0x3d], false),
            ("F8_E8M0", &[1], &[0x7f], &[0x80], false),
            ("F4", &[2], &[0x22], &[0x23], false),
        ] {
            let [then, now] = [then, now].map(|raw| file(&[], &[("x", dtype, shape, raw)]));
            let place = value(bits(&then, &now));
            assert!(matches!(&place, Place::Element { dtype: d, .. } if d == dtype), "{dtype}: {place:?}");
            match compare(&then, &now, &tolerance(0.0, 1.0)) {
                Comparison::Within(found) => {
                    assert!(tolerated, "{dtype}");
                    assert_eq!((found.numbers, &found.absolute.unwrap().place), (1, &place), "{dtype}");
                }
                Comparison::Diverged(difference) => {
                    assert!(!tolerated, "{dtype}");
                    assert_eq!(value(difference), place, "{dtype}");
                }
                Comparison::Identical => panic!("{dtype}"),
            }
            if tolerated {
                assert!(
                    matches!(compare(&then, &now, &tolerance(0.0, 0.0)), Comparison::Diverged(_)),
                    "{dtype}"
                );
            }
        }
    }

    #[test]
    fn a_tolerance_takes_tensors_and_metadata_in_any_order() {
        let (a, b) = (f32s(&[1.0, 2.0]), f32s(&[3.0]));
        let (x, y) = (("x", "F32", &[2u64][..], &a[..]), ("y", "F32", &[1][..], &b[..]));
        let then = file(&[("k", "1"), ("format", "pt")], &[x, y]);
        let found = within(&then, &file(&[("format", "pt"), ("k", "1")], &[y, x]), 0.0, 0.0);
        assert_eq!((found.numbers, &found.absolute), (0, &None));
        assert_eq!(found.to_string(), "every number is the same, and the bytes are others");
        let other = file(&[("format", "pt"), ("k", "2")], &[y, x]);
        let Comparison::Diverged(difference) = compare(&then, &other, &tolerance(1.0, 1.0)) else {
            panic!("metadata is not a number")
        };
        assert!(
            difference.to_string().starts_with("metadata k: \"1\" then, \"2\" now; byte "),
            "{difference}"
        );
        let less = file(&[("format", "pt")], &[y, x]);
        assert_eq!(value(bits(&then, &less)), Place::Metadata { key: "k".to_owned() });
    }

    #[test]
    fn a_tensor_that_is_missing_added_or_of_another_form_is_named() {
        let raw = [0; 8];
        let x = ("x", "F32", &[2u64, 1][..], &raw[..]);
        let then = file(&[], &[x]);
        for (now, expected) in [
            (file(&[], &[]), "tensor x: F32 [2, 1] then, nothing now; "),
            (file(&[], &[x, ("y", "U8", &[8], &raw)]), "tensor y: nothing then, U8 [8] now; "),
            (file(&[], &[("x", "F32", &[1, 2], &raw)]), "tensor x: F32 [2, 1] then, F32 [1, 2] now; "),
            (file(&[], &[("x", "I32", &[2, 1], &raw)]), "tensor x: F32 [2, 1] then, I32 [2, 1] now; "),
        ] {
            for mode in [tolerance(1.0, 1.0), tolerance(0.0, 0.0), super::super::ReplayMode::Bits] {
                let Comparison::Diverged(difference) = compare(&then, &now, &mode) else {
                    panic!("{expected}")
                };
                assert!(difference.to_string().starts_with(expected), "{difference}");
            }
        }
    }

    #[test]
    fn hostile_headers_are_bytes() {
        let good = file(&[], &[("x", "U8", &[4], &[1, 2, 3, 4])]);
        let entry = |offsets: &str, shape: &str| {
            format!("{{\"dtype\":\"U8\",\"shape\":{shape},\"data_offsets\":{offsets}}}")
        };
        let header = |fields: &[String]| format!("{{{}}}", fields.join(","));
        let one = |offsets: &str, shape: &str| header(&[format!("\"x\":{}", entry(offsets, shape))]);
        let two = |a: &str, b: &str, name: &str| {
            header(&[format!("\"x\":{}", entry(a, "[2]")), format!("\"{name}\":{}", entry(b, "[2]"))])
        };
        assert!(
            super::File::read(&with_header(&two("[0,2]", "[2,4]", "y"), &[0; 4])).is_some(),
            "the control"
        );
        for (what, text) in [
            ("a gap at the start", one("[1,4]", "[3]")),
            ("a gap at the end", one("[0,3]", "[3]")),
            ("beyond the data", one("[0,5]", "[5]")),
            ("an end before its start", one("[4,0]", "[4]")),
            ("a huge end", one("[0,18446744073709551615]", "[18446744073709551615]")),
            ("a product that overflows", one("[0,4]", "[4294967296,4294967296,4]")),
            ("a negative axis", one("[0,4]", "[-4]")),
            ("another size than the shape's", one("[0,4]", "[5]")),
            ("overlapping", two("[0,2]", "[1,3]", "y")),
            ("the same bytes twice", two("[0,2]", "[0,2]", "y")),
            (
                "a gap between",
                header(&[
                    format!("\"x\":{}", entry("[0,1]", "[1]")),
                    format!("\"y\":{}", entry("[2,4]", "[2]")),
                ]),
            ),
            ("one name twice", two("[0,2]", "[2,4]", "x")),
            ("an unknown type", one("[0,4]", "[4]").replace("U8", "U7")),
            ("an unknown field", one("[0,4]", "[4]").replace("{\"dtype", "{\"more\":1,\"dtype")),
            ("metadata that is no text", "{\"__metadata__\":{\"a\":1}}".to_owned()),
            ("no object", "[]".to_owned()),
            ("deep", "[".repeat(100_000)),
        ] {
            let bad = with_header(&text, &[0; 4]);
            assert!(super::File::read(&bad).is_none(), "{what}");
            assert_bytes(compare(&good, &bad, &tolerance(1.0, 1.0)), what);
            assert_bytes(compare(&bad, &good, &tolerance(1.0, 1.0)), what);
        }
        for length in [u64::MAX, good.len() as u64, 100_000_001] {
            let mut bad = good.clone();
            bad[..8].copy_from_slice(&length.to_le_bytes());
            assert!(super::File::read(&bad).is_none(), "{length}");
        }
        for end in 0..good.len() {
            assert!(super::File::read(&good[..end]).is_none(), "{end}");
        }
    }
}

//! The vectors of what the `dataset` stage reads, and of the parts that it makes.

use bitproof_training::data::{Examples, Part, Targets, Text};
use ndarray::array;

use super::{Book, Chapter};

pub(super) const BOOKS: &[Chapter] = &[
    ("dataset_part", dataset_part),
    ("csv", csv),
    ("idx", idx),
    ("npy", npy),
    ("tensors", tensors),
    ("text", text),
];

fn dataset_part(book: &mut Book<'_>) {
    let features = array![[1.0f32, -0.0], [0.5, 2.0]];
    let part = |shape: &[usize], targets| {
        let (shape, features) = (shape.to_vec(), features.clone());
        Part::Examples(Examples { shape, features, targets }).encode()
    };
    let classes = || Targets::Classes { labels: vec![1, 0], classes: 2 };
    let table = part(&[2], classes());
    let text =
        Part::Text(Text { tokens: vec![1, 2, 0], vocabulary: vec!['\n', 'a', 'ü'], window: 2 }).encode();
    let changed =
        |bytes: &[u8], at: usize, word: u32| [&bytes[..at], &word.to_le_bytes(), &bytes[at + 4..]].concat();
    book.add("not-another-kind", changed(&table, 8, 3));
    book.add("not-no-axes", changed(&table, 20, 0));
    book.add("not-an-empty-axis", changed(&table, 24, 0));
    book.add("not-a-huge-axis", changed(&table, 24, u32::MAX));
    book.add("not-more-rows-than-there-are", changed(&table, 12, 3));
    book.add("not-a-label-beyond-the-classes", changed(&table, 32, 2));
    book.add("not-a-feature-that-is-none", changed(&table, 40, f32::NAN.to_bits()));
    book.add("not-a-window-of-nothing", changed(&text, 20, 0));
    book.add("not-a-vocabulary-out-of-order", changed(&text, 32, 10));
    book.add("not-a-character-that-is-none", changed(&text, 32, 0xd800));
    book.add("not-a-token-beyond-the-vocabulary", changed(&text, 40, 3));
    book.add("not-version-1", [b"BPDATA1\0", &table[8..]].concat());
    book.strict("two-rows", table);
    book.strict("two-images", part(&[1, 1, 2], classes()));
    book.strict("two-values", part(&[2], Targets::Values(vec![-1.5, 3.0])));
    book.strict("three-characters", text);
}

fn csv(book: &mut Book<'_>) {
    // No header, any separator, the last column is the label.
    let how = |file: &str| [&[1 << 3][..], file.as_bytes()].concat();
    book.add("two-rows", how("0.5,1,a\n2,3,b\n"));
    book.add("crlf", how("0.5,1,a\r\n2,3,b\r\n"));
    book.add("not-a-ragged-row", how("0.5,1,a\n2,b\n"));
    book.add("not-a-number-that-is-none", how("0.5,1,a\nNaN,3,b\n"));
    book.add("not-a-text-for-a-number", how("0.5,1,a\nx,3,b\n"));
    book.add("not-empty", how(""));
    // Numbers to learn, and the first column has categories.
    let more = |file: &str| [&[1 << 3 | 1 << 5 | 1 << 6][..], file.as_bytes()].concat();
    book.add("categories-and-values", more("b,1,0.5\na,3,-2\nb,2,1e3\n"));
    book.add("not-a-class-for-a-value", more("b,1,x\na,3,-2\n"));
    book.add("not-a-category-without-a-name", more("b,1,0.5\n,3,-2\n"));
}

/// How the two files are read, how long the first is, and the files.
fn two_files(how: u8, features: &[u8], labels: &[u8]) -> Vec<u8> {
    [&[how][..], &(features.len() as u16).to_le_bytes(), features, labels].concat()
}

fn idx(book: &mut Book<'_>) {
    let file = |kind: u8, shape: &[u32], data: &[u8]| {
        let lengths: Vec<u8> = shape.iter().flat_map(|axis| axis.to_be_bytes()).collect();
        [&[0, 0, kind, shape.len() as u8][..], &lengths, data].concat()
    };
    let images = file(8, &[2, 2, 1], &[0, 255, 7, 9]);
    let labels = file(8, &[2], &[3, 1]);
    let changed = |at: usize, byte: u8| {
        let mut images = images.clone();
        images[at] = byte;
        two_files(0, &images, &labels)
    };
    book.add("not-another-magic", changed(0, 1));
    book.add("not-an-unknown-type", changed(2, 7));
    book.add("not-no-dimensions", changed(3, 0));
    book.add("not-more-dimensions-than-there-are", changed(3, 5));
    book.add("not-a-huge-dimension", changed(8, 255));
    book.add("not-no-rows", two_files(0, &file(8, &[0, 2, 1], &[]), &file(8, &[0], &[])));
    book.add("not-fewer-labels-than-images", two_files(0, &images, &file(8, &[1], &[3])));
    book.add("not-one-class", two_files(0, &images, &file(8, &[2], &[3, 3])));
    let nan = [f32::NAN.to_be_bytes(), 1f32.to_be_bytes()].concat();
    book.add("not-a-number-that-is-none", two_files(0, &file(0x0d, &[2], &nan), &labels));
    let numbers = [0.5f64.to_be_bytes(), (-3f64).to_be_bytes()].concat();
    book.add("numbers-to-learn", two_files(1, &images, &file(0x0e, &[2, 1], &numbers)));
    book.add("with-a-test-part", two_files(2, &images, &labels));
    book.strict("two-images", two_files(0, &images, &labels));
}

fn npy_file(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    let header = format!("{header:width$}\n", width = (header.len() + 11).next_multiple_of(64) - 11);
    [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn npy(book: &mut Book<'_>) {
    let features = npy_file("|u1", false, "(2, 2)", &[0, 255, 7, 9]);
    let labels = npy_file("<i2", false, "(2,)", &[3, 0, 1, 0]);
    let of = |features: &[u8]| two_files(0, features, &labels);
    book.add("fortran-order", of(&npy_file("|i1", true, "(2, 1, 2)", &[1, 2, 3, 4])));
    book.add("flags", of(&npy_file("|b1", false, "(2, 2)", &[0, 1, 1, 0])));
    book.add(
        "numbers-to-learn",
        two_files(1, &features, &npy_file(">f2", false, "(2, 1)", &[0x3c, 0, 0xc0, 0])),
    );
    book.add("with-a-test-part", two_files(2, &features, &labels));
    book.add("not-another-magic", of(&features[1..]));
    book.add("not-a-type-without-numbers", of(&npy_file("<M8", false, "(2,)", &[0; 16])));
    book.add("not-a-byte-order-of-the-machine", of(&npy_file("=i2", false, "(2,)", &[0; 4])));
    book.add("not-a-huge-shape", of(&npy_file("|u1", false, "(4294967296, 4294967296)", &[0; 4])));
    book.add("not-one-number", of(&npy_file("|u1", false, "()", &[0])));
    book.add("not-rows-of-nothing", of(&npy_file("|u1", false, "(2, 0)", &[])));
    book.add("not-five-axes", of(&npy_file("|u1", false, "(2, 1, 1, 1, 1, 1)", &[0; 2])));
    book.add("not-a-flag-of-2", of(&npy_file("|b1", false, "(2,)", &[2, 0])));
    book.add("not-infinite", of(&npy_file("<f2", false, "(2,)", &[0, 0x7c, 0, 0])));
    book.add("not-a-negative-class", two_files(0, &features, &npy_file("|i1", false, "(2,)", &[255, 0])));
    book.add("not-labels-of-two-columns", two_files(0, &features, &features));
    book.strict("two-rows", of(&features));
}

fn tensors(book: &mut Book<'_>) {
    let file = |header: &str, data: &[u8]| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    let header = concat!(
        r#"{"y":{"dtype":"U8","shape":[2],"data_offsets":[8,10]},"#,
        r#""x":{"dtype":"BF16","shape":[2,1,2],"data_offsets":[0,8]}}"#
    );
    let data = [0x80, 0x3f, 0, 0, 0, 0x40, 0x80, 0xbf, 3, 1];
    book.add("not-no-labels", file(&header.replace("\"y\"", "\"z\""), &data));
    book.add("not-a-gap", file(&header.replace("[8,10]", "[9,10]"), &data));
    book.add("not-a-type-that-is-not-read", file(&header.replace("BF16", "F4"), &data));
    book.add("not-a-shape-that-its-bytes-do-not-fill", file(&header.replace("[2,1,2]", "[2,1,3]"), &data));
    book.add("not-a-name-twice", file(&header.replace("\"y\"", "\"x\""), &data));
    book.add("not-a-huge-header", [&u64::MAX.to_le_bytes()[..], header.as_bytes(), &data].concat());
    book.strict("two-rows", file(header, &data));
}

fn text(book: &mut Book<'_>) {
    book.add("ascii", "to be,\nor not\n");
    book.add("crlf-and-a-byte-order-mark", "\u{feff}é\r\n\r\u{1f600}\r\n\u{1a}");
    book.add("not-empty", "");
    book.add("not-one-character", "aaaa");
    book.add("not-latin-1", b"caf\xe9".as_slice());
    book.add("not-a-surrogate", b"a\xed\xa0\x80".as_slice());
    book.add("not-a-damaged-gzip", b"\x1f\x8b\x08nonsense".as_slice());
}

//! The vectors of what a replay compares.

use bitproof_experiment_graph::MetricSet;

use super::{Book, Chapter};

pub(super) const BOOKS: &[Chapter] = &[("comparison", comparison)];

fn comparison(book: &mut Book<'_>) {
    let pair = |recorded: &[u8], replayed: &[u8]| {
        let length = u16::try_from(recorded.len()).expect("the vectors are short");
        [&length.to_le_bytes(), recorded, replayed].concat()
    };
    let mut all = |name: &str, content: fn(f32) -> Vec<u8>| {
        let recorded = content(1.0);
        book.add(&format!("{name}-identical"), pair(&recorded, &recorded));
        book.add(&format!("{name}-within"), pair(&recorded, &content(1.0078125)));
        book.add(&format!("not-{name}-beyond"), pair(&recorded, &content(1.015625)));
        book.add(&format!("not-{name}-cut"), pair(&recorded, &recorded[..recorded.len() - 2]));
    };
    all("safetensors", safetensors);
    all("npy", npy);
    all("metrics", |x| {
        let mut set = MetricSet::default();
        set.push("train/loss", 3, x.into());
        set.to_json()
    });
    all("json", |x| format!("{{\"epochs\":[{{\"loss\":{x:?}}}]}}").into_bytes());
    all("json-lines", |x| format!("{{\"loss\":0.5}}\n{{\"loss\":{x:?}}}").into_bytes());
    all("csv", |x| format!("step,loss\n1,{x:?}\n2,5").into_bytes());
    book.add("text-identical", pair(b"text", b"text"));
    book.add("not-another-text", pair(b"text", b"test"));
    book.add("not-an-integer-of-a-tensor", pair(&integers(1000), &integers(1001)));
}

/// A file of one tensor, which is named `x` and whole in `raw`.
fn one_tensor(dtype: &str, raw: &[u8]) -> Vec<u8> {
    let length = raw.len();
    let header = format!(
        "{{\"__metadata__\":{{\"format\":\"pt\"}},\"x\":{{\"dtype\":\"{dtype}\",\"shape\":[1],\"data_offsets\":[0,{length}]}}}}"
    );
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), raw].concat()
}

fn safetensors(x: f32) -> Vec<u8> {
    one_tensor("F32", &x.to_le_bytes())
}

fn integers(x: i64) -> Vec<u8> {
    one_tensor("I64", &x.to_le_bytes())
}

fn npy(x: f32) -> Vec<u8> {
    let header = format!("{:<117}\n", "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }");
    let length = u16::try_from(header.len()).expect("the header is short");
    [b"\x93NUMPY\x01\0", &length.to_le_bytes()[..], header.as_bytes(), &x.to_le_bytes()].concat()
}

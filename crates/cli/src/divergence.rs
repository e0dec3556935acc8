//! A divergence as JSON: the fields that `docs/reference/json.md` names.

use bitproof_audit::{
    ByteDifference, Difference, Divergence, FileDifference, Number, Place, Side, TensorForm,
};
use serde_json::{json, Value};

pub(crate) fn divergence_json(divergence: &Divergence) -> Value {
    let mut object = json!({
        "task": divergence.task, "sequence": divergence.sequence, "output": divergence.output,
        "message": divergence.difference.to_string(),
    });
    add_difference(&mut object, &divergence.difference);
    object
}

fn add_difference(object: &mut Value, difference: &Difference) {
    let mut add_bytes = |at: &ByteDifference| {
        object["byte"] = json!(at.byte);
        object["recorded_bytes"] = json!(at.recorded_len);
        object["replayed_bytes"] = json!(at.replayed_len);
    };
    match difference {
        Difference::Code { .. } | Difference::Outcome { .. } => {}
        Difference::Content { recorded, replayed } => {
            object["recorded_digest"] = json!(recorded);
            object["replayed_digest"] = json!(replayed);
        }
        Difference::Bytes { at, text } => {
            add_bytes(at);
            if let Some(text) = text {
                object["line"] = json!(text.line);
                object["column"] = json!(text.column);
            }
        }
        Difference::Value { at, place, recorded, replayed } => {
            add_bytes(at);
            add_place(object, place);
            object["recorded"] = json!(recorded.as_ref().map(side_json));
            object["replayed"] = json!(replayed.as_ref().map(side_json));
        }
        Difference::Tensor { at, tensor, recorded, replayed } => {
            let form = |form: &TensorForm| json!({ "dtype": form.dtype, "shape": form.shape, "fortran_order": form.fortran_order });
            add_bytes(at);
            object["tensor"] = json!(tensor);
            object["recorded"] = json!(recorded.as_ref().map(form));
            object["replayed"] = json!(replayed.as_ref().map(form));
        }
        Difference::File { path, difference } => {
            object["path"] = json!(path);
            if let FileDifference::Content(difference) = difference {
                add_difference(object, difference);
            }
        }
    }
}

fn add_place(object: &mut Value, place: &Place) {
    match place {
        Place::Element { tensor, dtype, index } => {
            object["tensor"] = json!(tensor);
            object["dtype"] = json!(dtype);
            object["index"] = json!(index);
        }
        Place::Metadata { key } => object["metadata"] = json!(key),
        Place::Metric { metric, step } => {
            object["metric"] = json!(metric);
            object["step"] = json!(step);
        }
        Place::Json { pointer } => object["pointer"] = json!(pointer),
        Place::JsonLine { line, pointer } => {
            object["line"] = json!(line);
            object["pointer"] = json!(pointer);
        }
        Place::Cell { row, column, name } => {
            object["row"] = json!(row);
            object["column"] = json!(column);
            object["column_name"] = json!(name);
        }
    }
}

/// `value` is null for what is not finite, what is no number, and a whole number of more than 64 bits.
fn side_json(side: &Side) -> Value {
    let value = match side.number {
        Some(Number::Float(x)) => json!(x),
        Some(Number::Int(n)) => match (i64::try_from(n), u64::try_from(n)) {
            (Ok(n), _) => json!(n),
            (_, Ok(n)) => json!(n),
            _ => Value::Null,
        },
        None => Value::Null,
    };
    json!({ "text": side.text, "value": value, "bits": side.bits })
}

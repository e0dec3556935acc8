//! JSON from outside: a text that says one thing and no other.
//!
//! A JSON reader takes the last of two fields with one name, another one the first; so a text with such fields says different
//! things to different readers. They are refused here at every depth, also where nobody looks.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::limits::{JSON_DEPTH, JSON_VALUES};

/// A text that is not the JSON that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// It ends too early.
    #[error("{what} is truncated: it ends at line {line}, column {column}")]
    Truncated {
        /// What was read.
        what: &'static str,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// An object has two fields of one name.
    #[error("{what} has the field {field:?} twice, the second time at line {line}, column {column}")]
    DuplicateField {
        /// What was read.
        what: &'static str,
        /// The field.
        field: String,
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
    },
    /// It has too many values or is nested too deeply.
    #[error("{what} is beyond the limit of {limit}")]
    Limit {
        /// What was read.
        what: &'static str,
        /// The limit.
        limit: String,
    },
    /// It is not JSON, or not of the expected form.
    #[error("{what} is malformed: {reason}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong and where.
        reason: String,
    },
}

/// Reads a JSON text of at most [`JSON_VALUES`] values. `what` says in errors what is read.
///
/// # Errors
/// [`JsonError`], first of all for a field that an object has twice.
pub fn read<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, JsonError> {
    let mut scan = Scan { values: 0, refused: None };
    let mut text = serde_json::Deserializer::from_slice(bytes);
    let scanned = Node { scan: &mut scan, depth: 0 }.deserialize(&mut text).and_then(|()| text.end());
    if let Err(error) = scanned {
        return Err(match scan.refused {
            Some(Refused::Duplicate(field)) => {
                JsonError::DuplicateField { what, field, line: error.line(), column: error.column() }
            }
            Some(Refused::Limit(limit)) => JsonError::Limit { what, limit },
            None => malformed(&error, what),
        });
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(&error, what))
}

fn malformed(error: &serde_json::Error, what: &'static str) -> JsonError {
    if error.is_eof() {
        JsonError::Truncated { what, line: error.line(), column: error.column() }
    } else {
        JsonError::Malformed { what, reason: error.to_string() }
    }
}

/// What was seen of a text so far.
struct Scan {
    values: usize,
    refused: Option<Refused>,
}

enum Refused {
    Duplicate(String),
    Limit(String),
}

impl Scan {
    fn count<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.values += 1;
        if self.values > JSON_VALUES {
            return Err(self.refuse(Refused::Limit(format!("{JSON_VALUES} values"))));
        }
        Ok(())
    }

    /// The text of the error is never shown.
    fn refuse<E: serde::de::Error>(&mut self, why: Refused) -> E {
        self.refused = Some(why);
        E::custom("refused")
    }
}

/// A value at some depth; nothing of it is kept.
struct Node<'s> {
    scan: &'s mut Scan,
    depth: usize,
}

impl Node<'_> {
    fn deeper<E: serde::de::Error>(&mut self) -> Result<usize, E> {
        if self.depth == JSON_DEPTH {
            return Err(self.scan.refuse(Refused::Limit(format!("a nesting of {JSON_DEPTH}"))));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.scan.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        while items.next_element_seed(Node { scan: self.scan, depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        let depth = self.deeper()?;
        let mut names = BTreeSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            self.scan.count()?;
            if names.contains(&name) {
                return Err(self.scan.refuse(Refused::Duplicate(name)));
            }
            names.insert(name);
            fields.next_value_seed(Node { scan: self.scan, depth })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{json, Value};

    fn refused(text: &str) -> String {
        read::<Value>(text.as_bytes(), "it").unwrap_err().to_string()
    }

    #[test]
    fn a_text_that_says_one_thing_is_read() {
        let text = r#" {"a":[1,-2,3.5,true,null,{"a":"b"}],"b":{"a":{}}} "#;
        let expected = json!({ "a": [1, -2, 3.5, true, null, { "a": "b" }], "b": { "a": {} } });
        assert_eq!(read::<Value>(text.as_bytes(), "it").unwrap(), expected);
    }

    #[test]
    fn fields_of_one_name_are_refused_at_every_depth_and_in_every_spelling() {
        for (text, column) in [
            (r#"{"a":1,"a":1}"#, 10),
            (r#"{"b":{"a":1,"c":0,"a":2}}"#, 21),
            (r#"[[{"a":1,"\u0061":1}]]"#, 17),
            (r#"{"x":[{"a":1},{"a":1,"b":[],"a":1}]}"#, 31),
        ] {
            let refused = refused(text);
            assert!(refused.starts_with("it has the field \"a\" twice"), "{text}: {refused}");
            assert!(refused.ends_with(&format!("column {column}")), "{text}: {refused}");
        }
        read::<Value>(br#"[{"a":1},{"a":1}]"#, "it").unwrap();
    }

    #[test]
    fn every_prefix_is_truncated() {
        let text = r#"{"a":["b",{"c":"d"}]}"#;
        for end in 0..text.len() {
            assert!(refused(&text[..end]).starts_with("it is truncated"), "{end}");
        }
        assert!(refused(&format!("{text}]")).contains("trailing characters"));
        assert!(read::<Value>(b"\"\xff\"", "it").is_err(), "not UTF-8");
    }

    #[test]
    fn depth_and_values_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        read::<Value>(nested(JSON_DEPTH).as_bytes(), "it").unwrap();
        assert_eq!(refused(&nested(JSON_DEPTH + 1)), "it is beyond the limit of a nesting of 32");
        assert!(refused(&"[".repeat(1 << 20)).contains("nesting"));
        let many = |n: usize| format!("[{}0]", "0,".repeat(n - 1));
        read::<Value>(many(JSON_VALUES - 1).as_bytes(), "it").unwrap();
        assert_eq!(refused(&many(JSON_VALUES)), format!("it is beyond the limit of {JSON_VALUES} values"));
    }
}

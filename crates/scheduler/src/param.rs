//! Parameters of a task: ordered, typed, with one encoding.

use std::fmt;

use bincode::{Decode, Encode};

/// A parameter's value. Floats are kept as the bits of an `f64`, so that equality and encoding are exact.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum ParamValue {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// The bits of an `f64`.
    Float(u64),
    /// A text.
    Text(String),
    /// A list of values.
    List(Vec<ParamValue>),
}

impl ParamValue {
    /// The value of a float.
    pub fn float(value: f64) -> Self {
        Self::Float(value.to_bits())
    }
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(v) => write!(f, "{v}"),
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(bits) => write!(f, "{:?}", f64::from_bits(*bits)),
            Self::Text(v) => write!(f, "{v:?}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str("]")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_core_ledger::canon;

    #[test]
    fn the_shortest_values_decode_in_any_number() {
        // Of all elements of a list these take the most memory for their encoding.
        for n in [1, 200, 20_000] {
            let list = ParamValue::List(vec![ParamValue::Bool(true); n]);
            assert_eq!(canon::decode::<ParamValue>(&canon::encode(&list)).unwrap(), list);
        }
    }
}

//! Values by their bits, and how they are shown to people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An `f64` by its bits: equality is exact, NaN equals the same NaN, and its text and JSON form is 16 lower-case hex
/// digits, so that no reader rounds it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ExactF64(u64);

impl ExactF64 {
    /// The value.
    pub const fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl From<f64> for ExactF64 {
    fn from(value: f64) -> Self {
        Self(value.to_bits())
    }
}

impl fmt::Display for ExactF64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ExactF64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({self})", self.get())
    }
}

/// A text that is not 16 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bits of a value are 16 lower-case hex digits, got {got:?}")]
pub struct BitsSyntax {
    /// The text, cut after 40 characters.
    pub got: String,
}

impl FromStr for ExactF64 {
    type Err = BitsSyntax;

    fn from_str(text: &str) -> Result<Self, BitsSyntax> {
        let plain = text.len() == 16 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        let bits = plain.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        bits.map(Self).ok_or_else(|| BitsSyntax { got: text.chars().take(40).collect() })
    }
}

impl Serialize for ExactF64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ExactF64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The digits that a value is shown with unless more are needed.
const DIGITS: usize = 4;
/// As many significant digits tell every f64 from every other.
const ALL_DIGITS: usize = 17;

/// Two values with [`DIGITS`] digits, or as many as it takes for the texts to stand to each other as the values do.
pub(crate) fn apart(a: f64, b: f64) -> (String, String) {
    let stands = a.partial_cmp(&b);
    let (a, b) = (DIGITS..ALL_DIGITS)
        .map(|digits| (rounded(a, digits), rounded(b, digits)))
        .find(|(a, b)| a.partial_cmp(b) == stands)
        .unwrap_or((a, b));
    (plain(a), plain(b))
}

/// A value with [`DIGITS`] digits, or as many as it takes for the text to stand to `bound` as the value does.
pub(crate) fn beside(value: f64, bound: f64) -> String {
    let stands = value.partial_cmp(&bound);
    let text = (DIGITS..ALL_DIGITS).map(|d| rounded(value, d)).find(|v| v.partial_cmp(&bound) == stands);
    plain(text.unwrap_or(value))
}

/// `value` rounded to that many significant digits, but never within its integer part.
fn rounded(value: f64, digits: usize) -> f64 {
    let whole = format!("{:.0}", value.abs()).len();
    let digits = digits.max(whole).min(ALL_DIGITS);
    format!("{value:.*e}", digits - 1).parse().unwrap_or(value)
}

/// The shortest text that reads back as `value`; with an exponent where it would be long.
pub(crate) fn plain(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !size.is_finite() || (1e-5..1e15).contains(&size) {
        format!("{value}")
    } else {
        format!("{value:e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_one_text() {
        for value in [0.0, -0.0, 0.1, f64::NAN, f64::INFINITY, 5e-324] {
            let exact = ExactF64::from(value);
            assert_eq!(exact.to_string().parse::<ExactF64>(), Ok(exact));
            assert_eq!(exact.get().to_bits(), value.to_bits());
        }
        assert_ne!(ExactF64::from(0.0), ExactF64::from(-0.0));
        for bad in ["", "0", "3FE0000000000000", "+fe0000000000000", "3fe00000000000000", "3fe000000000000é"]
        {
            assert!(bad.parse::<ExactF64>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn few_digits_unless_they_would_hide_the_difference() {
        assert_eq!(apart(35.0 / 36.0, 22.0 / 36.0), ("0.9722".to_owned(), "0.6111".to_owned()));
        assert_eq!(apart(0.5, 0.5), ("0.5".to_owned(), "0.5".to_owned()));
        assert_eq!(apart(0.5, 0.500_01), ("0.5".to_owned(), "0.50001".to_owned()));
        assert_eq!(apart(0.1, 0.1f64.next_up()), ("0.1".to_owned(), "0.10000000000000002".to_owned()));
        assert_eq!(apart(f64::NAN, 1234567.25), ("NaN".to_owned(), "1234567".to_owned()));
        assert_eq!(beside(0.97 - 0.96, 0.01), "0.01000000000000001");
        assert_eq!(beside(13.0 / 36.0, 0.01), "0.3611");
        assert_eq!(
            (plain(1e300), plain(-1e-9), plain(0.95)),
            ("1e300".into(), "-1e-9".into(), "0.95".into())
        );
        for value in [1e300, -1e-9, 0.1, 1e15, 123_456.789] {
            assert_eq!(plain(value).parse(), Ok(value));
        }
    }
}

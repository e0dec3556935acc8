//! A rule of a gate: a quantity, a comparator and a bound, with one text.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

use crate::exact::plain;

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Quantity {
    /// The candidate's value.
    Value,
    /// By how much it is worse than the baseline's: baseline − candidate where higher is better, else the reverse.
    Regress,
}

impl Quantity {
    const ALL: [(&'static str, Self); 2] = [("value", Self::Value), ("regress", Self::Regress)];
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Value => "value",
            Self::Regress => "regress",
        })
    }
}

/// How a quantity is held against a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Comparator {
    /// At least.
    Ge,
    /// Above.
    Gt,
    /// At most.
    Le,
    /// Below.
    Lt,
}

impl Comparator {
    // The longer sign of each pair comes first, since the shorter one is its prefix.
    const ALL: [(&'static str, Self); 4] =
        [(">=", Self::Ge), ("<=", Self::Le), (">", Self::Gt), ("<", Self::Lt)];

    /// Whether `a` stands so to `b`, exactly; never for NaN.
    pub(crate) fn holds(self, a: f64, b: f64) -> bool {
        match self {
            Self::Ge => a >= b,
            Self::Gt => a > b,
            Self::Le => a <= b,
            Self::Lt => a < b,
        }
    }

    /// How two numbers stand when this comparator does not hold.
    pub(crate) fn opposite(self) -> Self {
        match self {
            Self::Ge => Self::Lt,
            Self::Gt => Self::Le,
            Self::Le => Self::Gt,
            Self::Lt => Self::Ge,
        }
    }
}

impl fmt::Display for Comparator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ge => ">=",
            Self::Gt => ">",
            Self::Le => "<=",
            Self::Lt => "<",
        })
    }
}

/// A condition: `value >= 0.95`, `regress <= 0.01`. The bound is kept as the bits of an f64; the text reads back as
/// the same rule.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// What it looks at.
    pub quantity: Quantity,
    /// How.
    pub comparator: Comparator,
    /// The bits of the bound.
    pub bound_bits: u64,
}

/// A text that is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a rule: {problem}; write for example \"value >= 0.95\" or \"regress <= 0.01\"")]
pub struct RuleSyntax {
    /// The text, cut after 80 characters.
    pub text: String,
    /// What is wrong.
    pub problem: RuleProblem,
}

/// What is wrong with the text of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleProblem {
    /// It does not begin with a quantity.
    #[error("it begins with value or regress")]
    Quantity,
    /// There is no comparator after the quantity.
    #[error("after the quantity comes >=, >, <= or <")]
    Comparator,
    /// The bound is not a finite decimal number.
    #[error("its bound is a finite decimal number without a unit (one percent is 0.01)")]
    Bound,
}

impl FromStr for Rule {
    type Err = RuleSyntax;

    fn from_str(text: &str) -> Result<Self, RuleSyntax> {
        let bad = |problem| RuleSyntax { text: text.chars().take(80).collect(), problem };
        let (quantity, rest) = strip(text, &Quantity::ALL).ok_or_else(|| bad(RuleProblem::Quantity))?;
        let (comparator, rest) = strip(rest, &Comparator::ALL).ok_or_else(|| bad(RuleProblem::Comparator))?;
        let bound = decimal(rest.trim()).ok_or_else(|| bad(RuleProblem::Bound))?;
        Ok(Self { quantity, comparator, bound_bits: bound.to_bits() })
    }
}

fn strip<'t, T: Copy>(text: &'t str, words: &[(&str, T)]) -> Option<(T, &'t str)> {
    let text = text.trim_start();
    words.iter().find_map(|(word, value)| text.strip_prefix(word).map(|rest| (*value, rest)))
}

/// A finite number written in digits; `inf` and `nan` are words, and `1e999` is no f64.
fn decimal(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    text.parse().ok().filter(|bound: &f64| digits && bound.is_finite())
}

impl TryFrom<String> for Rule {
    type Error = RuleSyntax;

    fn try_from(text: String) -> Result<Self, RuleSyntax> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

impl Rule {
    /// The bound.
    pub fn bound(&self) -> f64 {
        f64::from_bits(self.bound_bits)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.quantity, self.comparator, plain(self.bound()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_core_ledger::canon;

    #[test]
    fn rules_are_read_and_shown() {
        for text in ["value >= 0.95", "regress <= 0.01", "value < 3", "regress > -1", "value < 1e300"] {
            let rule: Rule = text.parse().unwrap();
            assert_eq!(rule.to_string(), text);
            assert_eq!(canon::decode::<Rule>(&canon::encode(&rule)).unwrap(), rule);
            assert_eq!(serde_json::to_string(&rule).unwrap(), format!("{text:?}"));
        }
        assert_eq!("  value>=.50 ".parse::<Rule>().unwrap().to_string(), "value >= 0.5");
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_said() {
        use RuleProblem::{Bound, Comparator, Quantity};
        for (text, problem) in [
            ("", Quantity),
            ("worth >= 1", Quantity),
            (">= 1", Quantity),
            ("value", Comparator),
            ("value = 1", Comparator),
            ("values >= 1", Comparator),
            ("value >= NaN", Bound),
            ("value >= inf", Bound),
            ("value >= 1e999", Bound),
            ("value >== 1", Bound),
            ("value >= 1%", Bound),
            ("value >= ", Bound),
        ] {
            assert_eq!(text.parse::<Rule>().unwrap_err().problem, problem, "{text:?}");
        }
        let shown = "regress <= 1%".parse::<Rule>().unwrap_err().to_string();
        assert_eq!(
            shown,
            "\"regress <= 1%\" is not a rule: its bound is a finite decimal number without a unit (one percent is \
             0.01); write for example \"value >= 0.95\" or \"regress <= 0.01\""
        );
    }

    #[test]
    fn the_opposite_holds_exactly_when_the_comparator_does_not() {
        for (_, comparator) in Comparator::ALL {
            for (a, b) in [(1.0, 2.0), (2.0, 1.0), (1.0, 1.0)] {
                assert_ne!(comparator.holds(a, b), comparator.opposite().holds(a, b));
            }
            assert!(!comparator.holds(f64::NAN, 1.0) && !comparator.holds(1.0, f64::NAN));
        }
    }
}

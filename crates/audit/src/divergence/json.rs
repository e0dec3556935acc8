//! JSON and JSON Lines, by value.

use std::collections::BTreeSet;

use bitproof_core_ledger::dsse::json;
use serde_json::Value;

use super::tolerance::{Judged, Tally};
use super::{Number, Place, Side};

pub(super) fn compare(recorded: &[u8], replayed: &[u8], tally: &mut Tally) -> Option<Judged> {
    let (a, b) = (read(recorded)?, read(replayed)?);
    if !has_number(&a) && !has_number(&b) {
        tally.demand_bits();
    }
    Some(Walk { line: None, pointer: String::new(), tally }.compare(&a, &b))
}

/// A line holds a value or nothing.
pub(super) fn compare_lines(recorded: &[u8], replayed: &[u8], tally: &mut Tally) -> Option<Judged> {
    let (a, b) = (Lines::of(recorded)?, Lines::of(replayed)?);
    if !a.numeric && !b.numeric {
        tally.demand_bits();
    }
    Some(compare_each(&a, &b, tally))
}

fn compare_each(a: &Lines<'_>, b: &Lines<'_>, tally: &mut Tally) -> Judged {
    let (mut then, mut now) = (a.values(), b.values());
    let mut line = 0;
    loop {
        line += 1;
        let mut walk = Walk { line: Some(line), pointer: String::new(), tally: &mut *tally };
        match (then.next(), now.next()) {
            (None, None) => return Ok(()),
            (Some(Some(x)), Some(Some(y))) => walk.compare(&x, &y)?,
            (Some(None), Some(None)) => {}
            (x, y) => walk.differs(x.flatten().as_ref(), y.flatten().as_ref())?,
        }
    }
}

/// A text of strict JSON within the limits of such texts.
fn read(text: &[u8]) -> Option<Value> {
    json::read(text, "the text").ok()
}

fn has_number(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::Array(items) => items.iter().any(has_number),
        Value::Object(fields) => fields.values().any(has_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// A text that is known to be JSON Lines. A line is parsed when it is compared, so that one at a time is in memory.
struct Lines<'a> {
    text: &'a str,
    numeric: bool,
}

impl<'a> Lines<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = Self { text, numeric: false };
        let mut empty = true;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let value = read(line.as_bytes())?;
            (lines.numeric, empty) = (lines.numeric || has_number(&value), false);
        }
        (!empty).then_some(lines)
    }

    fn values(&self) -> impl Iterator<Item = Option<Value>> + use<'a> {
        self.text.lines().map(|line| read(line.as_bytes()))
    }
}

/// Two values at one place.
struct Walk<'t> {
    line: Option<u64>,
    pointer: String,
    tally: &'t mut Tally,
}

impl Walk<'_> {
    /// As deep as [`read`] allows.
    fn compare(&mut self, a: &Value, b: &Value) -> Judged {
        match (a, b) {
            (Value::Number(x), Value::Number(y)) => {
                let (x, y) = (number(x), number(y));
                let place = place(self.line, &self.pointer);
                if x == y || self.tally.accepts(x, y, place) {
                    return Ok(());
                }
                self.differs(Some(a), Some(b))
            }
            (Value::Array(x), Value::Array(y)) => {
                for i in 0..x.len().max(y.len()) {
                    self.at(&i.to_string(), |walk| walk.compare_optional(x.get(i), y.get(i)))?;
                }
                Ok(())
            }
            (Value::Object(x), Value::Object(y)) => {
                for key in x.keys().chain(y.keys()).collect::<BTreeSet<_>>() {
                    let token = key.replace('~', "~0").replace('/', "~1");
                    self.at(&token, |walk| walk.compare_optional(x.get(key), y.get(key)))?;
                }
                Ok(())
            }
            _ if a == b => Ok(()),
            _ => self.differs(Some(a), Some(b)),
        }
    }

    fn compare_optional(&mut self, a: Option<&Value>, b: Option<&Value>) -> Judged {
        match (a, b) {
            (Some(a), Some(b)) => self.compare(a, b),
            _ => self.differs(a, b),
        }
    }

    fn at(&mut self, token: &str, compare: impl FnOnce(&mut Self) -> Judged) -> Judged {
        let parent = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(token);
        compare(self)?;
        self.pointer.truncate(parent);
        Ok(())
    }

    fn differs(&self, a: Option<&Value>, b: Option<&Value>) -> Judged {
        self.tally.value(place(self.line, &self.pointer)(), a.map(side), b.map(side))
    }
}

fn place(line: Option<u64>, pointer: &str) -> impl Fn() -> Place + use<'_> {
    move || {
        let pointer = pointer.to_owned();
        match line {
            Some(line) => Place::JsonLine { line, pointer },
            None => Place::Json { pointer },
        }
    }
}

fn number(n: &serde_json::Number) -> Number {
    if let Some(n) = n.as_i64() {
        Number::Int(n.into())
    } else if let Some(n) = n.as_u64() {
        Number::Int(n.into())
    } else {
        Number::Float(n.as_f64().expect("without arbitrary precision every number is one of three"))
    }
}

fn side(value: &Value) -> Side {
    match value {
        Value::Number(n) => Side::written(&n.to_string(), Some(number(n))),
        Value::Array(items) => Side::written(&format!("an array of {}", items.len()), None),
        Value::Object(fields) => Side::written(&format!("an object of {}", fields.len()), None),
        Value::Null | Value::Bool(_) | Value::String(_) => Side::written(&value.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bytes, bits, tolerance, value, within};
    use super::super::{compare, Comparison, Place};
    use bitproof_core_ledger::limits::{JSON_DEPTH, JSON_VALUES};

    fn diverged(then: &str, now: &str, rtol: f64, atol: f64) -> String {
        match compare(then.as_bytes(), now.as_bytes(), &tolerance(rtol, atol)) {
            Comparison::Diverged(difference) => difference.to_string(),
            other => panic!("{then} {now}: {other:?}"),
        }
    }

    #[test]
    fn equal_within_and_beyond() {
        let then = r#"{"epochs":[{"loss":0.5,"n":3},{"loss":0.25,"n":3}],"a/b~":-1e-3}"#;
        let now = r#"{ "a/b~": -0.001, "epochs": [{"n":4,"loss":0.5}, {"n":3,"loss":0.375}] }"#;
        let found = within(then.as_bytes(), now.as_bytes(), 0.5, 0.0);
        assert_eq!(found.numbers, 2);
        assert_eq!(
            found.absolute.as_ref().map(|d| (d.value, d.place.to_string())),
            Some((1.0, "/epochs/0/n".into()))
        );
        assert_eq!(
            found.relative.as_ref().map(|d| (d.value, d.place.to_string())),
            Some((0.5, "/epochs/1/loss".into()))
        );
        assert!(diverged(then, now, 0.4, 0.0).starts_with("/epochs/1/loss: 0.25 then, 0.375 now; byte 1 "));
        assert_eq!(
            value(bits(then.as_bytes(), now.as_bytes())),
            Place::Json { pointer: "/epochs/0/n".into() }
        );
        assert!(diverged(r#"{"a/b~":1}"#, r#"{"a/b~":2}"#, 0.0, 0.0).starts_with("/a~1b~0: 1 then, 2 now"));
    }

    #[test]
    fn only_the_form_may_differ_without_a_number_that_does() {
        let (then, now) = (br#"{"a":1.0,"b":"x"}"#, b"{ \"b\": \"x\", \"a\": 1.0 }\n");
        assert_eq!(within(then, now, 0.0, 0.0).numbers, 0);
        // For bits the values are no difference, and the bytes are.
        assert_bytes(compare(then, now, &super::super::ReplayMode::Bits), "white space");
        let words = compare(br#"{"a":"1"}"#, b"{ \"a\": \"1\" }", &tolerance(1.0, 1.0));
        assert_bytes(words, "without a number there is nothing to tolerate");
        let words = compare(b"[\n\"1\"\n]", b"[\n\"2\"\n]", &tolerance(1.0, 1.0));
        assert!(matches!(words, Comparison::Diverged(_)), "a string is not a number: {words:?}");
    }

    #[test]
    fn structure_is_not_tolerated() {
        for (then, now, expected) in [
            ("[1,2]", "[1]", "/1: 2 then, nothing now; "),
            ("[1]", "[1,[]]", "/1: nothing then, an array of 0 now; "),
            (r#"{"a":1}"#, r#"{"b":1}"#, "/a: 1 then, nothing now; "),
            (r#"{"a":1}"#, r#"{"a":"1"}"#, "/a: 1 then, \"1\" now; "),
            ("[1,true]", "[1,false]", "/1: true then, false now; "),
            ("[1,null]", "[1,0]", "/1: null then, 0 now; "),
            ("[[1]]", r#"[{"0":1}]"#, "/0: an array of 1 then, an object of 1 now; "),
            ("1", "[1]", "the whole: 1 then, an array of 1 now; "),
        ] {
            let found = diverged(then, now, 9.0, 9.0);
            assert!(found.starts_with(expected), "{found}");
        }
    }

    #[test]
    fn lines_are_compared_each() {
        let then = "{\"step\":0,\"loss\":0.5}\n{\"step\":1,\"loss\":0.25}\n";
        let now = "{\"step\":0,\"loss\":0.5}\n{\"loss\":0.375,\"step\":1}";
        let found = within(then.as_bytes(), now.as_bytes(), 0.0, 0.125);
        assert_eq!(found.absolute.unwrap().place, Place::JsonLine { line: 2, pointer: "/loss".into() });
        assert!(diverged(then, now, 0.0, 0.1).starts_with("line 2, /loss: 0.25 then, 0.375 now; "));
        assert!(diverged(then, &then[..22], 9.0, 9.0)
            .starts_with("line 2, the whole: an object of 2 then, nothing now"));
        assert!(
            diverged("1\n\n2\n", "1\n2\n2\n", 9.0, 9.0).starts_with("line 2, the whole: nothing then, 2 now")
        );
        assert_bytes(compare(b"\"a\"\n\"b\"\n", b"\"a\"\n \"b\"\n", &tolerance(1.0, 1.0)), "no number");
    }

    #[test]
    fn hostile_texts_are_bytes() {
        let nested = |depth: usize, last: u8| format!("{}{last}{}", "[".repeat(depth), "]".repeat(depth));
        let compare = |a: &str, b: &str| compare(a.as_bytes(), b.as_bytes(), &tolerance(9.0, 9.0));
        let deepest = compare(&nested(JSON_DEPTH, 1), &nested(JSON_DEPTH, 2));
        assert!(matches!(deepest, Comparison::Within(_)), "{deepest:?}");
        for (what, a, b) in [
            ("too deep", nested(JSON_DEPTH + 1, 1), nested(JSON_DEPTH + 1, 2)),
            ("very deep", nested(200_000, 1), nested(200_000, 2)),
            ("a field twice", r#"{"a":1,"a":2}"#.into(), r#"{"a":1,"a":3}"#.into()),
            ("beyond any float", "[1,2e999]".into(), "[1,3e999]".into()),
            ("no JSON number", "[NaN]".into(), "[Infinity]".into()),
        ] {
            assert_bytes(compare(&a, &b), what);
        }
        let many = format!("[{}0]", "0,".repeat(JSON_VALUES));
        assert!(super::read(many.as_bytes()).is_none() && super::read(b"[0,0]").is_some(), "too many values");
    }

    #[test]
    fn numbers_beyond_the_exact_integers_of_a_float_are_told_apart() {
        assert!(diverged("9007199254740992", "9007199254740993", 0.0, 0.5).starts_with("the whole: 900"));
        assert_eq!(within(b"9007199254740992", b"9007199254740993", 0.0, 1.0).numbers, 1);
    }
}

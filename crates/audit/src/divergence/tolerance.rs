//! When two numbers are close, and how far they were apart.

use std::fmt;

use bitproof_scheduler::command::ReplayMode;

use super::{ByteDifference, Difference, Place, Side};

/// `Err` at the first value that must not differ as it does. Boxed, since it is large and rare.
pub(super) type Judged = Result<(), Box<Difference>>;

/// A number as it is compared.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// A whole number.
    Int(i128),
    /// A float; one of fewer bits is widened, which is exact.
    Float(f64),
}

impl Number {
    /// As a float, rounded to the nearest.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(n) => n as f64,
            Self::Float(x) => x,
        }
    }

    fn deviation(self, other: Self) -> f64 {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.abs_diff(b) as f64,
            (a, b) => (b.as_f64() - a.as_f64()).abs(),
        }
    }
}

/// Floats are equal by their bits, and no float is a whole number: this is not the comparison under a tolerance.
impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            _ => false,
        }
    }
}

/// How far numbers within a tolerance are apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Within {
    /// How many differ. With none of them only the form differs, such as white space.
    pub numbers: u64,
    /// The largest deviation, and where it is first found.
    pub absolute: Option<Deviation>,
    /// The largest deviation relative to the recorded number, where that is not zero.
    pub relative: Option<Deviation>,
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.numbers {
            0 => return f.write_str("every number is the same, and the bytes are others"),
            1 => f.write_str("1 number differs")?,
            n => write!(f, "{n} numbers differ")?,
        }
        if let Some(absolute) = &self.absolute {
            write!(f, ", by {absolute}")?;
        }
        if let Some(relative) = &self.relative {
            write!(f, "; relative to what was recorded by {relative}")?;
        }
        Ok(())
    }
}

/// A deviation and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// How large it is.
    pub value: f64,
    /// The file in a folder.
    pub path: Option<String>,
    /// Where it is.
    pub place: Place,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {:e} (", self.value)?;
        if let Some(path) = &self.path {
            write!(f, "file {path}, ")?;
        }
        write!(f, "{})", self.place)
    }
}

impl Within {
    fn add(&mut self, recorded: Number, replayed: Number, place: impl Fn() -> Place) {
        self.numbers += 1;
        // Of numbers that are close, those that are not finite are alike.
        let finite = recorded.as_f64().is_finite();
        let value = if finite { recorded.deviation(replayed) } else { 0.0 };
        raise(&mut self.absolute, value, || Deviation { value, path: None, place: place() });
        let scale = recorded.as_f64().abs();
        if scale > 0.0 && finite {
            let value = value / scale;
            raise(&mut self.relative, value, || Deviation { value, path: None, place: place() });
        }
    }

    /// Takes in what was found in a file of a folder.
    pub(super) fn merge(&mut self, path: &str, file: Self) {
        self.numbers += file.numbers;
        for (largest, found) in [(&mut self.absolute, file.absolute), (&mut self.relative, file.relative)] {
            if let Some(found) = found {
                raise(largest, found.value, || Deviation { path: Some(path.to_owned()), ..found });
            }
        }
    }
}

fn raise(largest: &mut Option<Deviation>, value: f64, found: impl FnOnce() -> Deviation) {
    if largest.as_ref().is_none_or(|l| value > l.value) {
        *largest = Some(found());
    }
}

#[derive(Debug, Clone, Copy)]
struct Tolerance {
    rtol: f64,
    atol: f64,
}

impl Tolerance {
    fn accepts(self, recorded: Number, replayed: Number) -> bool {
        let (a, b) = (recorded.as_f64(), replayed.as_f64());
        if !a.is_finite() || !b.is_finite() {
            return a == b || (a.is_nan() && b.is_nan());
        }
        recorded.deviation(replayed) <= self.atol + self.rtol * a.abs()
    }
}

/// What a comparison holds values against, and what it found of those that differ and may.
#[derive(Debug)]
pub(super) struct Tally {
    at: ByteDifference,
    tolerance: Option<Tolerance>,
    pub(super) within: Within,
}

impl Tally {
    pub(super) fn new(at: ByteDifference, mode: &ReplayMode) -> Self {
        let tolerance = match *mode {
            ReplayMode::Tolerance { rtol, atol } => {
                Some(Tolerance { rtol: f64::from_bits(rtol), atol: f64::from_bits(atol) })
            }
            ReplayMode::Bits | ReplayMode::Record => None,
        };
        Self { at, tolerance, within: Within::default() }
    }

    pub(super) fn is_tolerant(&self) -> bool {
        self.tolerance.is_some()
    }

    /// What is compared is not numeric after all: only the same bytes will do.
    pub(super) fn demand_bits(&mut self) {
        self.tolerance = None;
    }

    /// Whether two numbers that are not the same may differ as they do; if so they are counted.
    pub(super) fn accepts(&mut self, recorded: Number, replayed: Number, place: impl Fn() -> Place) -> bool {
        let accepted = self.tolerance.is_some_and(|t| t.accepts(recorded, replayed));
        if accepted && recorded != replayed {
            self.within.add(recorded, replayed, place);
        }
        accepted
    }

    pub(super) fn value(&self, place: Place, recorded: Option<Side>, replayed: Option<Side>) -> Judged {
        Err(Box::new(Difference::Value { at: self.at, place, recorded, replayed }))
    }

    pub(super) fn at(&self) -> ByteDifference {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(rtol: f64, atol: f64, recorded: Number, replayed: Number) -> bool {
        Tolerance { rtol, atol }.accepts(recorded, replayed)
    }

    #[test]
    fn close_is_absolute_and_relative_to_the_recorded_number() {
        use Number::{Float, Int};
        let float = |rtol, atol, a, b| accepts(rtol, atol, Float(a), Float(b));
        assert!(float(0.0, 0.5, 1.0, 1.5) && !float(0.0, 0.5, 1.0, 1.75));
        assert!(float(0.5, 0.0, 2.0, 1.0) && !float(0.5, 0.0, 1.0, 2.0), "relative to the recorded one");
        assert!(float(0.5, 0.25, -1.0, -1.75) && !float(0.5, 0.25, -1.0, -2.0));
        assert!(!float(1.0, 0.0, 0.0, 1e-300), "nothing is relative to zero");
        assert!(float(0.0, 0.0, 0.0, -0.0));
        assert!(accepts(0.0, 1.0, Int(3), Float(4.0)) && !accepts(0.0, 0.0, Int(3), Float(3.5)));
    }

    #[test]
    fn whole_numbers_are_subtracted_exactly() {
        let (a, b) = (Number::Int(1 << 60), Number::Int((1 << 60) + 1));
        assert_eq!(a.as_f64(), b.as_f64());
        assert!(!accepts(0.0, 0.5, a, b) && accepts(0.0, 1.0, a, b));
        assert!(!accepts(0.0, 1.0, Number::Int(i128::MIN), Number::Int(i128::MAX)), "no overflow");
    }

    #[test]
    fn what_is_not_finite_is_close_to_its_like_alone() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for (a, b, expected) in [
            (nan, nan, true),
            (inf, inf, true),
            (inf, -inf, false),
            (nan, inf, false),
            (1.0, nan, false),
            (nan, 1.0, false),
            (inf, 1.0, false),
            (1.0, inf, false),
        ] {
            assert_eq!(accepts(1e300, 1e300, Number::Float(a), Number::Float(b)), expected, "{a} {b}");
        }
    }

    #[test]
    fn a_tolerance_that_is_none_accepts_nothing_that_differs() {
        for bad in [f64::NAN, -1.0] {
            assert!(!accepts(bad, 0.0, Number::Float(1.0), Number::Float(1.5)), "{bad}");
            assert!(!accepts(0.0, bad, Number::Float(1.0), Number::Float(1.5)), "{bad}");
        }
    }
}

//! The metrics of this program, whose values are their bits: a tolerance is for the value, not for its spelling.

use std::collections::{BTreeMap, BTreeSet};

use bitproof_experiment_graph::MetricSet;

use super::tolerance::{Judged, Tally};
use super::{Number, Place, Side};

pub(super) fn compare(recorded: &[u8], replayed: &[u8], tally: &mut Tally) -> Option<Judged> {
    let (a, b) = (MetricSet::from_json(recorded).ok()?, MetricSet::from_json(replayed).ok()?);
    Some(compare_points(&points(&a), &points(&b), tally))
}

type Points<'a> = BTreeMap<(&'a str, u64), f64>;

fn points(set: &MetricSet) -> Points<'_> {
    set.points().map(|(metric, step, value)| ((metric, step), value)).collect()
}

fn compare_points(a: &Points<'_>, b: &Points<'_>, tally: &mut Tally) -> Judged {
    for at in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        let (then, now) = (a.get(at).copied(), b.get(at).copied());
        let place = || Place::Metric { metric: at.0.to_owned(), step: at.1 };
        let equal = match (then, now) {
            (Some(x), Some(y)) => {
                x.to_bits() == y.to_bits() || tally.accepts(Number::Float(x), Number::Float(y), place)
            }
            _ => false,
        };
        if !equal {
            return tally.value(place(), then.map(side), now.map(side));
        }
    }
    Ok(())
}

fn side(value: f64) -> Side {
    Side {
        text: format!("{value:?}"),
        number: Some(Number::Float(value)),
        bits: Some(format!("{:016x}", value.to_bits())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bits, tolerance, within};
    use super::super::{compare, Comparison};
    use bitproof_experiment_graph::MetricSet;

    fn metrics(points: &[(&str, u64, f64)]) -> Vec<u8> {
        let mut set = MetricSet::default();
        points.iter().for_each(|(metric, step, value)| set.push(metric, *step, *value));
        set.to_json()
    }

    #[test]
    fn a_tolerance_is_for_the_value() {
        let then = metrics(&[("a/x", 0, f64::NAN), ("a/x", 1, 0.5), ("a/y", 0, 3.0)]);
        let now = metrics(&[("a/x", 0, f64::NAN), ("a/x", 1, 0.5 + 1e-9), ("a/y", 0, 3.0)]);
        let found = within(&then, &now, 1e-6, 0.0);
        assert_eq!(found.numbers, 1);
        assert_eq!(found.absolute.unwrap().place.to_string(), "metric a/x at step 1");
        let expected =
            "metric a/x at step 1: 0.5 (3fe0000000000000) then, 0.500000001 (3fe000000089705f) now; byte ";
        let exact = bits(&then, &now).to_string();
        assert!(exact.starts_with(expected), "{exact}");
        let Comparison::Diverged(difference) = compare(&then, &now, &tolerance(0.0, 1e-10)) else {
            panic!("beyond")
        };
        assert_eq!(difference.to_string(), exact);
    }

    #[test]
    fn a_point_on_one_side_is_no_deviation() {
        let (one, two) = (metrics(&[("a/x", 0, 1.0)]), metrics(&[("a/x", 0, 1.0), ("a/x", 1, 1.0)]));
        let Comparison::Diverged(difference) = compare(&one, &two, &tolerance(9.0, 9.0)) else {
            panic!("added")
        };
        assert!(
            difference.to_string().starts_with("metric a/x at step 1: nothing then, 1.0 ("),
            "{difference}"
        );
        let Comparison::Diverged(difference) = compare(&two, &one, &tolerance(9.0, 9.0)) else {
            panic!("gone")
        };
        assert!(difference.to_string().contains("nothing now"), "{difference}");
    }
}

//! Comparison: first what differs between runs, then what it did to the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use bitproof_core_ledger::digest::{ComparisonKind, Digest};
use bitproof_core_ledger::limits::CANON_BYTES;
use serde::{Deserialize, Serialize};

use crate::run::RunFacts;

/// The kinds of factors, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FactorKind {
    /// A data input.
    Data,
    /// A parameter of a task.
    Params,
    /// The code of a task.
    Code,
    /// The root of the random streams.
    Seed,
    /// The version of the numeric specification.
    Kernels,
}

impl FactorKind {
    fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Params => "params",
            Self::Code => "code",
            Self::Seed => "seed",
            Self::Kernels => "kernels",
        }
    }
}

/// One thing that differs between two runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// What kind of thing.
    pub kind: FactorKind,
    /// Its name: a data input, `task.key`, a task or a file of its stage; empty for seed and kernels.
    pub name: String,
    /// What the baseline has.
    pub baseline: Option<String>,
    /// What the candidate has.
    pub candidate: Option<String>,
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Option<String>| match value {
            None => "none".to_owned(),
            Some(digest) if is_digest(digest) => digest.chars().take(12).collect(),
            Some(value) => value.clone(),
        };
        f.write_str(self.kind.name())?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        write!(f, ": {} -> {}", show(&self.baseline), show(&self.candidate))
    }
}

/// Of data, or of a file of code.
fn is_digest(value: &str) -> bool {
    value.len() == 64 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A metric of two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Its name.
    pub metric: String,
    /// Its value in the baseline.
    pub baseline: Option<f64>,
    /// Its value in the candidate.
    pub candidate: Option<f64>,
    /// Candidate minus baseline.
    pub absolute: Option<f64>,
    /// The absolute delta over the baseline's magnitude; none where that is zero.
    pub relative: Option<f64>,
}

/// A candidate held against the baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// The candidate.
    pub run: String,
    /// Everything that differs, in a fixed order.
    pub factors: Vec<Factor>,
    /// Whether at most one factor differs, so that the deltas can be laid at its door.
    pub like_for_like: bool,
    /// The factors, when there is more than one: any of them may be the cause.
    pub confounded: Vec<String>,
    /// Every metric of either run, sorted by name.
    pub deltas: Vec<Delta>,
}

/// Runs held against the first of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The run that the others are held against.
    pub baseline: String,
    /// The others, in the order in which they were given.
    pub candidates: Vec<Pair>,
}

/// Runs that cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// There are fewer than two.
    #[error("a comparison takes two runs or more, got {got}")]
    TooFew {
        /// How many there are.
        got: usize,
    },
    /// What is to be compared has no canonical form, since that is bounded.
    #[error("what differs between these runs, with their metrics, may take {got} bytes; compare fewer at a time (at most {CANON_BYTES})")]
    TooLarge {
        /// How many bytes it may take.
        got: usize,
    },
}

/// Everything that differs between two runs: data, parameters, code, seed, kernels, each by name.
pub fn factors(baseline: &RunFacts, candidate: &RunFacts) -> Vec<Factor> {
    let mut found = Vec::new();
    let mut maps = |kind, a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| {
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names.into_iter().filter(|name| a.get(*name) != b.get(*name)) {
            let (baseline, candidate) = (a.get(name).cloned(), b.get(name).cloned());
            found.push(Factor { kind, name: name.clone(), baseline, candidate });
        }
    };
    maps(FactorKind::Data, &baseline.data, &candidate.data);
    maps(FactorKind::Params, &baseline.params, &candidate.params);
    maps(FactorKind::Code, &baseline.code, &candidate.code);
    let mut number = |kind, a: u64, b: u64| {
        if a != b {
            let (baseline, candidate) = (Some(a.to_string()), Some(b.to_string()));
            found.push(Factor { kind, name: String::new(), baseline, candidate });
        }
    };
    number(FactorKind::Seed, baseline.seed, candidate.seed);
    number(FactorKind::Kernels, baseline.kernels_spec.into(), candidate.kernels_spec.into());
    found
}

/// Holds every run but the first against the first.
///
/// # Errors
/// [`CompareError`].
pub fn compare(runs: &[RunFacts]) -> Result<Comparison, CompareError> {
    let [baseline, candidates @ ..] = runs else { return Err(CompareError::TooFew { got: 0 }) };
    if candidates.is_empty() {
        return Err(CompareError::TooFew { got: 1 });
    }
    let pair = |candidate: &RunFacts| {
        let factors = factors(baseline, candidate);
        let like_for_like = factors.len() <= 1;
        let named = |f: &Factor| format!("{} {}", f.kind.name(), f.name).trim_end().to_owned();
        Pair {
            run: candidate.run.clone(),
            like_for_like,
            confounded: if like_for_like { Vec::new() } else { factors.iter().map(named).collect() },
            factors,
            deltas: deltas(&baseline.metrics, &candidate.metrics),
        }
    };
    let comparison =
        Comparison { baseline: baseline.run.clone(), candidates: candidates.iter().map(pair).collect() };
    match comparison.canonical_bound() {
        got if got > CANON_BYTES => Err(CompareError::TooLarge { got }),
        _ => Ok(comparison),
    }
}

fn deltas(a: &BTreeMap<String, f64>, b: &BTreeMap<String, f64>) -> Vec<Delta> {
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let delta = |name: &String| {
        let (baseline, candidate) = (a.get(name).copied(), b.get(name).copied());
        let absolute = baseline.zip(candidate).map(|(a, b)| b - a);
        let relative = absolute.zip(baseline).filter(|(_, a)| *a != 0.0).map(|(d, a)| d / a.abs());
        Delta { metric: name.clone(), baseline, candidate, absolute, relative }
    };
    names.into_iter().map(delta).collect()
}

impl Comparison {
    /// No fewer bytes than its canonical form has: the texts, and more than the lengths, tags and bits beside them.
    fn canonical_bound(&self) -> usize {
        let factor = |f: &Factor| {
            let values = [&f.baseline, &f.candidate].map(|v| v.as_ref().map_or(0, String::len));
            64 + f.name.len() + values.iter().sum::<usize>()
        };
        let pair = |p: &Pair| {
            let deltas: usize = p.deltas.iter().map(|d| 32 + d.metric.len()).sum();
            64 + p.run.len() + p.factors.iter().map(factor).sum::<usize>() + deltas
        };
        64 + self.baseline.len() + self.candidates.iter().map(pair).sum::<usize>()
    }

    /// The digest of its canonical bytes, values by their bits. Deltas follow from the values and are not in it.
    ///
    /// # Panics
    /// When it was not made by [`compare`] and is larger than a canonical value may be.
    pub fn digest(&self) -> Digest<ComparisonKind> {
        type FactorRow = (String, String, Option<String>, Option<String>);
        type DeltaRow = (String, Option<u64>, Option<u64>);
        let rows: Vec<(String, Vec<FactorRow>, Vec<DeltaRow>)> = self
            .candidates
            .iter()
            .map(|pair| {
                let factor = |f: &Factor| {
                    (f.kind.name().to_owned(), f.name.clone(), f.baseline.clone(), f.candidate.clone())
                };
                let delta = |d: &Delta| {
                    (d.metric.clone(), d.baseline.map(f64::to_bits), d.candidate.map(f64::to_bits))
                };
                (
                    pair.run.clone(),
                    pair.factors.iter().map(factor).collect(),
                    pair.deltas.iter().map(delta).collect(),
                )
            })
            .collect();
        Digest::of(&(&self.baseline, rows))
    }

    /// For a terminal.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for pair in &self.candidates {
            let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
            let plain = |text: &str| escaped(text, |_| None);
            line(format!("{} -> {}", plain(&self.baseline), plain(&pair.run)));
            line(match pair.factors.len() {
                0 => "  nothing differs in data, parameters, code, seed or kernels".to_owned(),
                1 => "  one thing differs (like for like):".to_owned(),
                n => format!("  {n} things differ (confounded: any of them may be the cause):"),
            });
            pair.factors.iter().for_each(|f| line(format!("    {}", plain(&f.to_string()))));
            let width = pair.deltas.iter().map(|d| d.metric.len()).max().unwrap_or(0);
            for d in &pair.deltas {
                let (a, b, absolute, relative) = cells(d);
                let metric = plain(&d.metric);
                line(format!("  {metric:<width$}  {a:>12}  {b:>12}  {absolute:>12}  {relative:>9}"));
            }
        }
        text
    }

    /// A table for each candidate.
    pub fn to_markdown(&self) -> String {
        let mut text = String::new();
        for pair in &self.candidates {
            let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
            let (baseline, run) = (in_markdown(&self.baseline), in_markdown(&pair.run));
            line(format!("### {baseline} → {run}\n"));
            line(match pair.factors.len() {
                0 => "Nothing differs in data, parameters, code, seed or kernels.".to_owned(),
                1 => "One thing differs (like for like):\n".to_owned(),
                n => format!("{n} things differ (confounded: any of them may be the cause):\n"),
            });
            pair.factors.iter().for_each(|f| line(format!("- {}", in_markdown(&f.to_string()))));
            let heads = format!("\n| metric | {baseline} | {run} | delta | relative |");
            line(format!("{heads}\n|---|---:|---:|---:|---:|"));
            for d in &pair.deltas {
                let (a, b, absolute, relative) = cells(d);
                line(format!("| {} | {a} | {b} | {absolute} | {relative} |", in_markdown(&d.metric)));
            }
            line(String::new());
        }
        text
    }

    /// A graph: an edge from the baseline to each candidate, labelled with what differs.
    pub fn to_mermaid(&self) -> String {
        let mut text = format!("flowchart LR\n  b[\"{}\"]\n", in_mermaid(&self.baseline));
        for (i, pair) in self.candidates.iter().enumerate() {
            let label = match pair.factors.len() {
                0 => "nothing differs".to_owned(),
                _ => {
                    pair.factors.iter().map(|f| in_mermaid(&f.to_string())).collect::<Vec<_>>().join("<br/>")
                }
            };
            writeln!(text, "  b -->|\"{label}\"| c{i}[\"{}\"]", in_mermaid(&pair.run))
                .expect("writing to a string");
        }
        text
    }
}

/// The texts of a delta. A difference is never rounded to zero.
fn cells(d: &Delta) -> (String, String, String, String) {
    let fixed = |v: f64| v == 0.0 || !v.is_finite() || (5e-7..1e9).contains(&v.abs());
    let value = |v: Option<f64>| match v {
        None => "-".to_owned(),
        Some(v) if fixed(v) => format!("{v:.6}"),
        Some(v) => format!("{v:.5e}"),
    };
    let absolute = match d.absolute {
        None => "-".to_owned(),
        Some(v) if fixed(v) => format!("{v:+.6}"),
        Some(v) => format!("{v:+.5e}"),
    };
    let relative = match d.relative {
        None => "-".to_owned(),
        Some(v) if v == 0.0 || !v.is_finite() || (5e-5..1e3).contains(&v.abs()) => {
            format!("{:+.2} %", v * 100.0)
        }
        Some(v) => format!("{:+.1e} %", v * 100.0),
    };
    (value(d.baseline), value(d.candidate), absolute, relative)
}

/// A text that Markdown shows as it is, also in a table.
fn in_markdown(text: &str) -> String {
    escaped(text, |c| match c {
        '\\' | '|' | '`' | '*' | '<' | '[' | ']' => Some(format!("\\{c}")),
        // Within a word an underscore is plain.
        _ => None,
    })
}

/// A text that a quoted Mermaid label shows as it is.
fn in_mermaid(text: &str) -> String {
    escaped(text, |c| match c {
        '"' | '#' | '<' | '&' | '`' | ';' => Some(format!("#{};", u32::from(c))),
        _ => None,
    })
}

/// No control character reaches a screen, whoever named the run.
fn escaped(text: &str, special: impl Fn(char) -> Option<String>) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match special(c) {
            Some(form) => shown.push_str(&form),
            None if c.is_control() => shown.extend(c.escape_default()),
            None => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn facts(run: &str, accuracy: f64) -> RunFacts {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        RunFacts {
            run: run.to_owned(),
            uid: format!("{run}-uid"),
            plan_digest: "p".to_owned(),
            data: [pair("digits", &"ab".repeat(32))].into(),
            params: [pair("train.epochs", "30")].into(),
            code: [pair("train", "train v1")].into(),
            seed: 42,
            kernels_spec: 1,
            metrics: [("evaluate/accuracy".to_owned(), accuracy)].into(),
        }
    }

    #[test]
    fn each_factor_is_named_in_a_fixed_order() {
        let a = facts("a", 0.9);
        let mut b = facts("b", 0.8);
        assert!(factors(&a, &b).is_empty());
        b.kernels_spec = 2;
        b.seed = 7;
        b.code.insert("train".to_owned(), "train v2".to_owned());
        b.params.insert("train.epochs".to_owned(), "1".to_owned());
        b.params.insert("train.batch".to_owned(), "8".to_owned());
        b.data.insert("digits".to_owned(), "cd".repeat(32));
        let shown: Vec<String> = factors(&a, &b).iter().map(ToString::to_string).collect();
        let expected = [
            "data digits: abababababab -> cdcdcdcdcdcd",
            "params train.batch: none -> 8",
            "params train.epochs: 30 -> 1",
            "code train: train v1 -> train v2",
            "seed: 42 -> 7",
            "kernels: 1 -> 2",
        ];
        assert_eq!(shown, expected);
        let comparison = compare(&[a.clone(), b]).unwrap();
        assert!(!comparison.candidates[0].like_for_like);
        assert_eq!(comparison.candidates[0].confounded.len(), 6);
        assert_eq!(compare(&[a]), Err(CompareError::TooFew { got: 1 }));
    }

    #[test]
    fn one_difference_is_like_for_like_and_is_shown() {
        let a = facts("a", 0.9);
        let mut b = facts("b", 0.45);
        b.params.insert("train.epochs".to_owned(), "1".to_owned());
        let comparison = compare(&[a.clone(), b.clone()]).unwrap();
        insta::assert_snapshot!(comparison.to_text(), @r"
        a -> b
          one thing differs (like for like):
            params train.epochs: 30 -> 1
          evaluate/accuracy      0.900000      0.450000     -0.450000   -50.00 %
        ");
        assert!(comparison
            .to_markdown()
            .contains("| evaluate/accuracy | 0.900000 | 0.450000 | -0.450000 | -50.00 % |"));
        assert!(comparison.to_mermaid().contains("b -->|\"params train.epochs: 30 -> 1\"| c0[\"b\"]"));
        b.metrics.insert("evaluate/accuracy".to_owned(), 0.45f64.next_up());
        assert_ne!(compare(&[a, b]).unwrap().digest(), comparison.digest(), "a digest sees the last bit");
    }
    #[test]
    fn each_factor_alone_is_like_for_like_and_two_are_confounded() {
        let alone: [fn(&mut RunFacts); 8] = [
            |f| drop(f.data.insert("digits".to_owned(), "cd".repeat(32))),
            |f| f.data.clear(),
            |f| drop(f.params.insert("train.epochs".to_owned(), "1".to_owned())),
            |f| drop(f.params.insert("train.batch".to_owned(), "8".to_owned())),
            |f| drop(f.code.insert("train".to_owned(), "train v2".to_owned())),
            |f| drop(f.code.insert("package".to_owned(), "package v1".to_owned())),
            |f| f.seed = 7,
            |f| f.kernels_spec = 2,
        ];
        let a = facts("a", 0.9);
        for (i, change) in alone.iter().enumerate() {
            let mut b = facts("b", 0.9);
            change(&mut b);
            let pair = compare(&[a.clone(), b.clone()]).unwrap().candidates.remove(0);
            assert_eq!((pair.factors.len(), pair.like_for_like), (1, true), "{pair:?}");
            assert!(pair.confounded.is_empty());
            let other = if i == 6 { 7 } else { 6 };
            alone[other](&mut b);
            let pair = compare(&[a.clone(), b]).unwrap().candidates.remove(0);
            assert_eq!((pair.confounded.len(), pair.like_for_like), (2, false), "{pair:?}");
        }
    }

    #[test]
    fn what_does_not_reach_a_result_is_no_factor() {
        let a = facts("a", 0.9);
        let b = RunFacts { uid: "other".to_owned(), plan_digest: "other".to_owned(), ..facts("b", 0.9) };
        let pair = compare(&[a, b]).unwrap().candidates.remove(0);
        assert!(pair.factors.is_empty() && pair.like_for_like);
    }

    #[test]
    fn several_candidates_are_each_held_against_the_first() {
        let a = facts("digits-1", 0.75);
        let mut b = facts("digits-2", 0.5);
        b.params.insert("train.epochs".to_owned(), "1".to_owned());
        b.metrics.insert("evaluate/loss".to_owned(), 0.25);
        let mut c = facts("digits-3", 0.75);
        c.seed = 7;
        c.data.insert("digits".to_owned(), "cd".repeat(32));
        c.metrics.insert("evaluate/accuracy".to_owned(), 0.75f64.next_up());
        let comparison = compare(&[a.clone(), b.clone(), c.clone()]).unwrap();
        insta::assert_snapshot!(comparison.to_text(), @r"
        digits-1 -> digits-2
          one thing differs (like for like):
            params train.epochs: 30 -> 1
          evaluate/accuracy      0.750000      0.500000     -0.250000   -33.33 %
          evaluate/loss                 -      0.250000             -          -
        digits-1 -> digits-3
          2 things differ (confounded: any of them may be the cause):
            data digits: abababababab -> cdcdcdcdcdcd
            seed: 42 -> 7
          evaluate/accuracy      0.750000      0.750000  +1.11022e-16  +1.5e-14 %
        ");
        insta::assert_snapshot!(comparison.to_markdown(), @r"
        ### digits-1 → digits-2

        One thing differs (like for like):

        - params train.epochs: 30 -> 1

        | metric | digits-1 | digits-2 | delta | relative |
        |---|---:|---:|---:|---:|
        | evaluate/accuracy | 0.750000 | 0.500000 | -0.250000 | -33.33 % |
        | evaluate/loss | - | 0.250000 | - | - |

        ### digits-1 → digits-3

        2 things differ (confounded: any of them may be the cause):

        - data digits: abababababab -> cdcdcdcdcdcd
        - seed: 42 -> 7

        | metric | digits-1 | digits-3 | delta | relative |
        |---|---:|---:|---:|---:|
        | evaluate/accuracy | 0.750000 | 0.750000 | +1.11022e-16 | +1.5e-14 % |
        ");
        insta::assert_snapshot!(comparison.to_mermaid(), @r#"
        flowchart LR
          b["digits-1"]
          b -->|"params train.epochs: 30 -> 1"| c0["digits-2"]
          b -->|"data digits: abababababab -> cdcdcdcdcdcd<br/>seed: 42 -> 7"| c1["digits-3"]
        "#);
        let digest = comparison.digest();
        assert_eq!(compare(&[a.clone(), b.clone(), c.clone()]).unwrap().digest(), digest);
        assert_ne!(compare(&[a.clone(), c.clone(), b.clone()]).unwrap().digest(), digest, "order counts");
        assert_ne!(compare(&[b, a, c]).unwrap().digest(), digest, "the baseline counts");
    }

    #[test]
    fn deltas_are_none_where_there_is_nothing_to_say() {
        let mut a = facts("a", 0.0);
        let mut b = facts("b", 0.5);
        a.metrics.insert("only/a".to_owned(), 1.0);
        b.metrics.insert("only/b".to_owned(), -1.0);
        let deltas = compare(&[a, b]).unwrap().candidates.remove(0).deltas;
        let shown: Vec<_> = deltas.iter().map(|d| (d.metric.as_str(), d.absolute, d.relative)).collect();
        let expected =
            [("evaluate/accuracy", Some(0.5), None), ("only/a", None, None), ("only/b", None, None)];
        assert_eq!(shown, expected);
    }

    #[test]
    fn hostile_names_stay_within_their_place() {
        let mut a = facts("a\u{1b}[31m", 0.5);
        let mut b = facts("b\"]; click b \"x\n", 0.5);
        a.params.insert("train.card".to_owned(), "a | b <br/> #quot; `c`".to_owned());
        b.metrics.insert("x/|y\n|".to_owned(), 1.0);
        let comparison = compare(&[a, b]).unwrap();
        let mermaid = comparison.to_mermaid();
        assert_eq!(mermaid.lines().count(), 3, "{mermaid}");
        assert_eq!(mermaid.matches('"').count(), 6, "{mermaid}");
        for text in [comparison.to_text(), comparison.to_markdown(), mermaid] {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        }
        let table = comparison.to_markdown();
        let row = table.lines().find(|line| line.contains("x/")).unwrap();
        assert_eq!(row.replace("\\|", "").matches('|').count(), 6, "{row}");
    }

    #[test]
    fn what_has_no_canonical_form_is_refused() {
        let a = facts("a", 0.5);
        let mut b = facts("b", 0.5);
        b.params.insert("train.card".to_owned(), "x".repeat(CANON_BYTES - 1000));
        assert_ne!(
            compare(&[a.clone(), b.clone()]).unwrap().digest(),
            compare(&[b.clone(), a.clone()]).unwrap().digest()
        );
        b.params.insert("train.card".to_owned(), "x".repeat(CANON_BYTES));
        assert!(matches!(compare(&[a, b]), Err(CompareError::TooLarge { .. })));
    }
}

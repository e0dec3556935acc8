//! What stands between braces in a command's arguments.
//!
//! | placeholder | what takes its place |
//! |---|---|
//! | `{in:NAME}` | the path of an input, relative to the working folder |
//! | `{out:NAME}` | the path of an output, relative to the working folder |
//! | `{with:KEY}` | a parameter: a text as it is, a number in the shortest form that reads back equal, a list with commas |
//! | `{seed}` | the run's seed |
//! | `{threads}` | how many threads it is to compute with |
//! | `{{` and `}}` | a brace |

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::spec::CommandSpec;
use crate::param::ParamValue;

/// The names that placeholders may use.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// Of inputs.
    pub inputs: &'a [&'a str],
    /// Of outputs.
    pub outputs: &'a [&'a str],
    /// Of parameters.
    pub params: &'a [&'a str],
}

/// A placeholder that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("argument {argument}, byte {offset}: {problem}\n  hint: {}", problem.hint())]
pub struct PlaceholderError {
    /// Which argument, the program being 0.
    pub argument: usize,
    /// Where in the argument the placeholder begins, in bytes.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: PlaceholderProblem,
}

/// What is wrong with a placeholder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlaceholderProblem {
    /// It has no end.
    #[error("{{ has no }}")]
    Open,
    /// An end has no beginning.
    #[error("}} has no {{")]
    Close,
    /// There is no such kind.
    #[error("{{{text}}} is not a placeholder")]
    Unknown {
        /// What stands between the braces.
        text: String,
        /// The placeholder that is most like it.
        nearest: Option<String>,
    },
    /// There is no such input, output or parameter.
    #[error("there is no {what} {name:?}")]
    NoSuchName {
        /// Which of the three.
        what: &'static str,
        /// The name.
        name: String,
        /// The declared name that is most like it.
        nearest: Option<String>,
    },
}

impl PlaceholderProblem {
    /// What to do about it.
    pub fn hint(&self) -> String {
        const TWICE: &str = "a brace that is meant as such is written twice: {{ or }}";
        match self {
            Self::Open | Self::Close => TWICE.to_owned(),
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean {{{nearest}}}? {TWICE}"),
            Self::Unknown { nearest: None, .. } => {
                format!(
                    "there are {{in:NAME}}, {{out:NAME}}, {{with:KEY}}, {{seed}} and {{threads}}; {TWICE}"
                )
            }
            Self::NoSuchName { nearest: Some(nearest), .. } => format!("did you mean {nearest:?}?"),
            Self::NoSuchName { what, .. } => format!("the stage declares no {what}"),
        }
    }
}

/// Checks every placeholder in `argv`.
///
/// # Errors
/// The first that means nothing.
pub fn check(argv: &[String], names: &Names<'_>) -> Result<(), PlaceholderError> {
    for (argument, text) in argv.iter().enumerate() {
        let found = parts(text).and_then(|parts| {
            parts.into_iter().try_for_each(|(offset, part)| named(part, names).map_err(|p| (offset, p)))
        });
        found.map_err(|(offset, problem)| PlaceholderError { argument, offset, problem })?;
    }
    Ok(())
}

/// The arguments with every placeholder replaced.
pub(super) fn expand(
    spec: &CommandSpec,
    params: &BTreeMap<String, ParamValue>,
    seed: u64,
) -> Result<Vec<String>, PlaceholderError> {
    let groups = spec.inputs.iter().filter_map(|input| Some(input.name.split_once('/')?.0));
    let inputs: Vec<&str> = spec.inputs.iter().map(|input| input.name.as_str()).chain(groups).collect();
    let outputs: Vec<&str> = spec.outputs.iter().map(|output| output.name.as_str()).collect();
    let keys: Vec<&str> = params.keys().map(String::as_str).collect();
    check(&spec.argv, &Names { inputs: &inputs, outputs: &outputs, params: &keys })?;
    let expanded = spec.argv.iter().map(|argument| {
        let mut text = String::new();
        for (_, part) in parts(argument).unwrap_or_default() {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::In(name) => text.push_str(input_path(spec, name).unwrap_or_default()),
                Part::Out(name) => {
                    let output = spec.outputs.iter().find(|output| output.name == name);
                    text.push_str(output.map_or("", |output| &output.path));
                }
                Part::With(key) => params.get(key).into_iter().for_each(|value| plain(&mut text, value)),
                Part::Seed => write!(text, "{seed}").unwrap_or_default(),
                Part::Threads => write!(text, "{}", spec.threads).unwrap_or_default(),
                Part::Other(_) => (),
            }
        }
        text
    });
    Ok(expanded.collect())
}

/// Where an input lies, or for the first part of the names of several the folder that holds them.
fn input_path<'a>(spec: &'a CommandSpec, name: &str) -> Option<&'a str> {
    spec.inputs.iter().find_map(|input| {
        let rest = input.name.strip_prefix(name)?;
        if rest.is_empty() {
            return Some(input.path.as_str());
        }
        rest.starts_with('/').then(|| input.path.strip_suffix(rest))?
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    In(&'a str),
    Out(&'a str),
    With(&'a str),
    Seed,
    Threads,
    Other(&'a str),
}

/// The parts of an argument, each with the offset at which it begins.
fn parts(text: &str) -> Result<Vec<(usize, Part<'_>)>, (usize, PlaceholderProblem)> {
    let mut parts = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let (part, len) = if rest.starts_with("{{") || rest.starts_with("}}") {
            (Part::Text(&rest[..1]), 2)
        } else if let Some(inner) = rest.strip_prefix('{') {
            let end = inner.find(['{', '}']).filter(|end| inner[*end..].starts_with('}'));
            let end = end.ok_or((at, PlaceholderProblem::Open))?;
            (placeholder(&inner[..end]), end + 2)
        } else if rest.starts_with('}') {
            return Err((at, PlaceholderProblem::Close));
        } else {
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            (Part::Text(&rest[..end]), end)
        };
        parts.push((at, part));
        at += len;
    }
    Ok(parts)
}

fn placeholder(text: &str) -> Part<'_> {
    match (text, text.split_once(':')) {
        ("seed", _) => Part::Seed,
        ("threads", _) => Part::Threads,
        (_, Some(("in", name))) => Part::In(name),
        (_, Some(("out", name))) => Part::Out(name),
        (_, Some(("with", key))) => Part::With(key),
        _ => Part::Other(text),
    }
}

fn named(part: Part<'_>, names: &Names<'_>) -> Result<(), PlaceholderProblem> {
    let (what, name, known) = match part {
        Part::Text(_) | Part::Seed | Part::Threads => return Ok(()),
        Part::In(name) => ("input", name, names.inputs),
        Part::Out(name) => ("output", name, names.outputs),
        Part::With(key) => ("parameter", key, names.params),
        Part::Other(text) => {
            let (kind, name) = text.split_once(':').map_or((text, None), |(kind, name)| (kind, Some(name)));
            let kinds: &[&str] = if name.is_some() { &["in", "out", "with"] } else { &["seed", "threads"] };
            // Other text in braces, as of JSON, is not like any of them.
            let is_word = kind.chars().all(|c| c.is_ascii_lowercase());
            let near = nearest(kind, kinds)
                .filter(|near| is_word && !kind.is_empty() && strsim::damerau_levenshtein(kind, near) <= 3);
            let nearest = near.map(|near| name.map_or(near.to_owned(), |name| format!("{near}:{name}")));
            return Err(PlaceholderProblem::Unknown { text: text.to_owned(), nearest });
        }
    };
    if known.contains(&name) {
        return Ok(());
    }
    let nearest = nearest(name, known).map(str::to_owned);
    Err(PlaceholderProblem::NoSuchName { what, name: name.to_owned(), nearest })
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    known.iter().copied().min_by_key(|known| strsim::damerau_levenshtein(name, known))
}

/// A parameter as an argument: what a program parses, not what a person reads.
fn plain(text: &mut String, value: &ParamValue) {
    match value {
        ParamValue::Text(value) => text.push_str(value),
        ParamValue::List(values) => {
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                plain(text, value);
            }
        }
        value => write!(text, "{value}").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{CommandInput, CommandOutput, Isolation, ReplayMode};

    fn spec(argv: &[&str]) -> CommandSpec {
        let output =
            |name: &str, path: &str| CommandOutput { name: name.into(), path: path.into(), folder: false };
        CommandSpec {
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            code: vec![],
            inputs: vec![CommandInput { name: "data".into(), path: "inputs/data".into() }],
            outputs: vec![output("model", "model/weights.bin")],
            metrics: vec![],
            env: BTreeMap::new(),
            tools: BTreeMap::new(),
            threads: 3,
            isolation: Isolation::None,
            replay: ReplayMode::Bits,
            timeout_ns: None,
        }
    }

    fn params() -> BTreeMap<String, ParamValue> {
        let list = |values: &[i64]| ParamValue::List(values.iter().map(|&v| ParamValue::Int(v)).collect());
        [
            ("rate", ParamValue::float(0.001)),
            ("one", ParamValue::float(1.0)),
            ("tiny", ParamValue::float(1e-7)),
            ("hidden", list(&[128, 64])),
            ("empty", list(&[])),
            ("name", ParamValue::Text("a \"b\" {c}".into())),
            ("flag", ParamValue::Bool(true)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    #[test]
    fn every_placeholder_is_replaced_once() {
        let cases = [
            ("plain", "plain"),
            ("", ""),
            ("{in:data}", "inputs/data"),
            ("--out={out:model}.tmp", "--out=model/weights.bin.tmp"),
            ("{seed}/{threads}", "7/3"),
            ("{with:rate} {with:one} {with:tiny}", "0.001 1.0 1e-7"),
            ("[{with:hidden}][{with:empty}]", "[128,64][]"),
            ("{with:flag}", "true"),
            ("{with:name}", "a \"b\" {c}"),
            ("{{\"a\": {{}}}}", "{\"a\": {}}"),
            ("ä{{{seed}}}", "ä{7}"),
        ];
        for (argument, expected) in cases {
            assert_eq!(expand(&spec(&[argument]), &params(), 7).unwrap(), [expected], "{argument}");
        }
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_place_and_the_nearest_name() {
        let cases = [
            ("x{in:dat}", 1, "there is no input \"dat\"", "did you mean \"data\"?"),
            ("{out:data}", 0, "there is no output \"data\"", "did you mean \"model\"?"),
            ("{with:rat}", 0, "there is no parameter \"rat\"", "did you mean \"rate\"?"),
            ("ä{sede}", 2, "{sede} is not a placeholder", "did you mean {seed}? a brace"),
            ("{input:data}", 0, "{input:data} is not a placeholder", "did you mean {in:data}? a brace"),
            ("{\"a\": 1}", 0, "{\"a\": 1} is not a placeholder", "there are {in:NAME}, "),
            ("{}", 0, "{} is not a placeholder", "there are {in:NAME}, "),
            ("{in:data", 0, "{ has no }", "a brace"),
            ("{in:{data}}", 0, "{ has no }", "a brace"),
            ("a}b", 1, "} has no {", "a brace"),
        ];
        for (argument, offset, message, hint) in cases {
            let error = expand(&spec(&["cat", argument]), &params(), 7).unwrap_err();
            assert_eq!((error.argument, error.offset), (1, offset), "{argument}");
            assert_eq!(error.problem.to_string(), message);
            assert!(error.problem.hint().starts_with(hint), "{argument}: {}", error.problem.hint());
        }
        let none = check(&["{in:x}".to_owned()], &Names { inputs: &[], outputs: &[], params: &[] });
        let said = "argument 0, byte 0: there is no input \"x\"\n  hint: the stage declares no input";
        assert_eq!(none.unwrap_err().to_string(), said);
    }
}

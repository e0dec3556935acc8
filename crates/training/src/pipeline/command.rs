//! The keys of a stage that is a command.

use std::collections::{BTreeMap, BTreeSet};

use bitproof_core_ledger::inventory::is_plain_relative;
use bitproof_scheduler::command::placeholders::{self, Names};
use bitproof_scheduler::command::{CommandInput, CommandOutput, Isolation, ReplayMode};
use bitproof_scheduler::ParamValue;

use super::node::{Keys, Node, Reporter, Value};
use super::parse::check_name;
use super::{PipelineError, Place};
use crate::stages::METRICS;

/// The folder in which a command finds its inputs, where nothing else is said.
pub(super) const INPUTS: &str = "inputs";
const MAX_THREADS: i64 = 1024;
const MAX_ARGUMENTS: usize = 4096;
const MAX_OUTPUTS: usize = 1024;

/// A command, with everything but its files and the values of its environment.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandParams {
    /// The program and its arguments, with their placeholders.
    pub argv: Vec<String>,
    /// Which files of the pipeline's folder are its code: paths, folders and patterns, each with its place.
    pub code: Vec<(String, Place)>,
    /// What it makes, sorted by name.
    pub outputs: Vec<CommandOutput>,
    /// The files in which it leaves numbers.
    pub metrics: Vec<String>,
    /// The variables that it reads, with their values where the file gives them.
    pub env: BTreeMap<String, Option<String>>,
    /// The tools that it runs with, sorted.
    pub tools: Vec<String>,
    /// How many threads it is told to compute with.
    pub threads: u32,
    /// How far it must be kept from what it does not declare.
    pub isolation: Isolation,
    /// What a replay demands.
    pub replay: ReplayMode,
    /// Nanoseconds after which it is stopped.
    pub timeout_ns: Option<u64>,
    /// Its parameters.
    pub with: BTreeMap<String, ParamValue>,
}

impl CommandParams {
    /// The names of its outputs, sorted.
    pub fn output_names(&self) -> Vec<&str> {
        names(&self.outputs, &self.metrics)
    }
}

/// Two paths of which one is the other or lies in it.
fn nested<'a>(paths: &[&'a str]) -> Option<(&'a str, &'a str)> {
    // A folder stands right before what lies in it when a separator sorts before everything else.
    let mut sorted: Vec<Vec<&str>> = paths.iter().map(|path| path.split('/').collect()).collect();
    sorted.sort();
    let at = sorted.windows(2).position(|pair| pair[1].starts_with(&pair[0]))?;
    let whole = |parts: &[&str]| paths.iter().copied().find(|p| p.split('/').eq(parts.iter().copied()));
    whole(&sorted[at]).zip(whole(&sorted[at + 1]))
}

fn names<'a>(outputs: &'a [CommandOutput], metrics: &[String]) -> Vec<&'a str> {
    let measured = (!metrics.is_empty()).then_some(METRICS);
    let mut names: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).chain(measured).collect();
    names.sort_unstable();
    names
}

/// A command as its table has it, before its parameters are known.
#[derive(Debug)]
pub(super) struct CommandTable {
    argv: Vec<(String, Place)>,
    params: CommandParams,
}

impl CommandTable {
    pub(super) fn output_names(&self) -> Vec<&str> {
        self.params.output_names()
    }

    pub(super) fn tools(&self) -> &[String] {
        &self.params.tools
    }

    /// The command with these parameters and inputs.
    pub(super) fn with(
        &self,
        r: Reporter<'_>,
        with: BTreeMap<String, ParamValue>,
        inputs: &[&CommandInput],
    ) -> Result<CommandParams, PipelineError> {
        let params = CommandParams { with, ..self.params.clone() };
        let made = params.outputs.iter().map(|o| o.path.as_str());
        let made = made.chain(params.metrics.iter().map(String::as_str));
        let paths: Vec<&str> = inputs.iter().map(|i| i.path.as_str()).chain(made).collect();
        if let Some((a, b)) = nested(&paths) {
            let message = format!("{a:?} and {b:?} lie in each other");
            return Err(r.error(&self.argv[0].1, message, "give each input and output a path of its own"));
        }
        self.check_placeholders(r, &params, inputs)?;
        Ok(params)
    }

    fn check_placeholders(
        &self,
        r: Reporter<'_>,
        params: &CommandParams,
        inputs: &[&CommandInput],
    ) -> Result<(), PipelineError> {
        let inputs: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        let outputs: Vec<&str> = params.outputs.iter().map(|output| output.name.as_str()).collect();
        let keys: Vec<&str> = params.with.keys().map(String::as_str).collect();
        let names = Names { inputs: &inputs, outputs: &outputs, params: &keys };
        placeholders::check(&params.argv, &names).map_err(|error| {
            let (text, place) = &self.argv[error.argument];
            r.error(place, format!("in {text:?}, {}", error.problem), error.problem.hint())
        })
    }
}

/// Takes the keys of a command from the table of its stage.
pub(super) fn read(keys: &Keys<'_>) -> Result<CommandTable, PipelineError> {
    let r = keys.reporter;
    let node = keys.required("command")?;
    if let Value::Text(_) = node.value {
        let hint = "write a list, like [\"python\", \"train.py\"]; for a shell, [\"sh\", \"-c\", \"…\"]";
        return Err(r.error(&node.place, "command is a text, but no shell splits it", hint));
    }
    let argv = r.texts(node, "command")?;
    if argv.is_empty() || argv.len() > MAX_ARGUMENTS || argv[0].0.is_empty() {
        let message = format!("command must be a program with at most {} arguments", MAX_ARGUMENTS - 1);
        return Err(r.error(&node.place, message, "write for example [\"python\", \"train.py\"]"));
    }
    if let Some((_, place)) = argv.iter().find(|(argument, _)| argument.contains('\0')) {
        return Err(r.error(place, "an argument cannot hold a zero byte", "remove it"));
    }
    let code = keys.optional("code").map_or(Ok(Vec::new()), |n| paths(r, n, "code"))?;
    let metrics = keys.optional("metrics").map_or(Ok(Vec::new()), |n| paths(r, n, "metrics"))?;
    let metrics: Vec<String> = metrics.into_iter().map(|(path, _)| path).collect();
    let outputs = keys.optional("outputs").map_or(Ok(Vec::new()), |n| outputs(r, n, &metrics))?;
    if outputs.is_empty() && metrics.is_empty() {
        let hint = "add outputs = { NAME = \"PATH\" }, or metrics = [\"PATH\"]";
        return Err(r.error(keys.place, "the command makes nothing that is kept", hint));
    }
    let env = keys.optional("env").map_or(Ok(BTreeMap::new()), |n| env(r, n))?;
    let tools = keys.optional("tools").map_or(Ok(Vec::new()), |n| r.texts(n, "tools"))?;
    let tools: BTreeSet<String> = tools.into_iter().map(|(name, _)| name).collect();
    let threads = keys.optional("threads").map_or(Ok(1), |n| r.int(n, "threads", 1, MAX_THREADS))? as u32;
    let isolation = keys
        .optional("isolation")
        .map_or(Ok(Isolation::Best), |n| r.word(n, "isolation", &Isolation::NAMES))?;
    let replay = keys.optional("replay").map_or(Ok(ReplayMode::Bits), |n| replay(r, n))?;
    let timeout_ns = keys.optional("timeout").map(|n| duration(r, n)).transpose()?;
    let params = CommandParams {
        argv: argv.iter().map(|(argument, _)| argument.clone()).collect(),
        code,
        outputs,
        metrics,
        env,
        tools: tools.into_iter().collect(),
        threads,
        isolation,
        replay,
        timeout_ns,
        with: BTreeMap::new(),
    };
    Ok(CommandTable { argv, params })
}

/// A path below the command's folder.
pub(super) fn path(r: Reporter<'_>, node: &Node, key: &str) -> Result<String, PipelineError> {
    let path = r.text(node, key)?;
    plain(r, path, &node.place, key)?;
    Ok(path.to_owned())
}

/// Paths below a folder.
fn paths(r: Reporter<'_>, node: &Node, key: &str) -> Result<Vec<(String, Place)>, PipelineError> {
    let paths = r.texts(node, key)?;
    paths.iter().try_for_each(|(path, place)| plain(r, path.trim_end_matches('/'), place, key))?;
    Ok(paths)
}

fn plain(r: Reporter<'_>, path: &str, place: &Place, what: &str) -> Result<(), PipelineError> {
    if is_plain_relative(path) {
        return Ok(());
    }
    let hint = "use a path below the folder, with / between its parts and without ..";
    Err(r.error(place, format!("{what} cannot be {path:?}"), hint))
}

fn outputs(r: Reporter<'_>, node: &Node, metrics: &[String]) -> Result<Vec<CommandOutput>, PipelineError> {
    let mut outputs: Vec<CommandOutput> = Vec::new();
    for entry in r.table(node, "outputs")? {
        check_name(r, &entry.key, &entry.place, "an output's name")?;
        let text = r.text(&entry.node, "an output")?;
        let (path, folder) = text.strip_suffix('/').map_or((text, false), |path| (path, true));
        let place = &entry.node.place;
        plain(r, path, place, "an output")?;
        if entry.key == METRICS && !metrics.is_empty() {
            let hint = "the numbers of `metrics` have that name";
            return Err(r.error(&entry.place, "an output cannot be named \"metrics\" here", hint));
        }
        outputs.push(CommandOutput { name: entry.key.clone(), path: path.to_owned(), folder });
    }
    if outputs.len() > MAX_OUTPUTS {
        let message = format!("there are {} outputs; the limit is {MAX_OUTPUTS}", outputs.len());
        return Err(r.error(&node.place, message, "use a folder, whose path ends with /"));
    }
    outputs.sort();
    Ok(outputs)
}

/// `NAME`, whose value is taken from whoever runs, or `NAME=VALUE`.
fn env(r: Reporter<'_>, node: &Node) -> Result<BTreeMap<String, Option<String>>, PipelineError> {
    let mut env = BTreeMap::new();
    for (text, place) in r.texts(node, "env")? {
        let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(plain) || text.contains('\0') {
            let hint = "write \"NAME\" or \"NAME=VALUE\"";
            return Err(r.error(&place, format!("env cannot hold {text:?}"), hint));
        }
        env.insert(name.to_owned(), value.map(str::to_owned));
    }
    Ok(env)
}

fn replay(r: Reporter<'_>, node: &Node) -> Result<ReplayMode, PipelineError> {
    let Value::Table(entries) = &node.value else {
        return r.word(node, "replay", &[("bits", ReplayMode::Bits), ("record", ReplayMode::Record)]);
    };
    let keys = Keys::new(r, &node.place, "replay", entries);
    let bound =
        |key: &'static str| keys.optional(key).map_or(Ok(0.0), |n| r.number(n, key, "from 0", |v| v >= 0.0));
    let (rtol, atol) = (bound("rtol")?, bound("atol")?);
    keys.finish()?;
    if rtol == 0.0 && atol == 0.0 {
        let hint = "write for example { rtol = 1e-4, atol = 1e-6 }, or \"bits\"";
        return Err(r.error(&node.place, "a tolerance of 0 tolerates nothing", hint));
    }
    Ok(ReplayMode::Tolerance { rtol: rtol.to_bits(), atol: atol.to_bits() })
}

/// A whole number with a unit, in nanoseconds.
fn duration(r: Reporter<'_>, node: &Node) -> Result<u64, PipelineError> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("min", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    let text = r.text(node, "timeout")?;
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let nanoseconds = UNITS
        .iter()
        .find(|(name, _)| *name == unit.trim_start())
        .and_then(|(_, scale)| number.parse::<u64>().ok()?.checked_mul(*scale))
        .filter(|ns| *ns > 0);
    nanoseconds.ok_or_else(|| {
        let hint = "write a whole number with ms, s, min, h or d, like \"6h\"";
        r.error(&node.place, format!("timeout cannot be {text:?}"), hint)
    })
}

#[cfg(test)]
mod tests {
    use crate::pipeline::parse;

    #[test]
    fn a_placeholder_that_means_nothing_is_an_error_at_its_argument() {
        let pipeline = |argument: &str| {
            format!(
                "[pipeline]\nname = \"p\"\n[data.rows]\npath = \"rows.csv\"\n[[stage]]\nname = \"fit\"\n\
                 command = [\n  \"fit\",\n  \"{argument}\",\n]\ninputs = {{ rows = \"data:rows\" }}\n\
                 outputs = {{ model = \"m\" }}\nwith = {{ rate = 0.5 }}\n"
            )
        };
        let good = pipeline("{in:rows} {out:model} {with:rate} {seed} {threads} {{}}");
        parse("x.toml", good.as_bytes()).unwrap();
        let cases = [
            ("--in={in:row}", "there is no input \"row\"", "did you mean \"rows\"?"),
            ("{out:rows}", "there is no output \"rows\"", "did you mean \"model\"?"),
            ("{with:rat}", "there is no parameter \"rat\"", "did you mean \"rate\"?"),
            ("{see}", "{see} is not a placeholder", "did you mean {seed}?"),
            ("a}", "} has no {", "is written twice"),
        ];
        for (argument, problem, hint) in cases {
            let message = parse("x.toml", pipeline(argument).as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with("x.toml:9:3: "), "{message}");
            assert!(message.contains(problem) && message.contains(hint), "{message}");
        }
    }
}

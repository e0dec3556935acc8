//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use bitproof_training::sample::Nonce;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Trains models so that anyone can later prove what happened.
#[derive(Debug, Parser)]
#[command(name = "bitproof", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Work in this folder.
    #[arg(short = 'C', global = true, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,
    /// Use this store instead of the nearest `.bitproof` above.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) store: Option<PathBuf>,
    /// Print one JSON object on standard output.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print no summary, only errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log more; twice for everything. BITPROOF_LOG filters in detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// When to colour the output; NO_COLOR turns it off too.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
    /// Show no progress bar.
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a project that runs at once.
    #[command(after_help = "Example:\n  bitproof init my-digits && bitproof -C my-digits run")]
    Init(Init),
    /// Show what a run would do: lanes, ticks, order. Nothing is written.
    #[command(after_help = "Example:\n  bitproof plan examples/digits/bitproof.toml")]
    Plan(Plan),
    /// Run a pipeline, record it, judge it. Takes up an interrupted run of the same plan by itself.
    #[command(after_help = "Example:\n  bitproof run examples/digits/bitproof.toml --set train.epochs=10")]
    Run(Run),
    /// Run and record a command that there is already; `--write` makes it a stage.
    #[command(
        after_help = "Example:\n  bitproof exec --in rows=data/rows.csv --out model=model.json --metrics metrics.json -- python train.py"
    )]
    Exec(Exec),
    /// Execute a recorded run again and compare every output, bit for bit.
    #[command(
        after_help = "Example:\n  bitproof replay latest\n  bitproof replay latest --steps 120..180\n  bitproof replay latest --sample 10 --nonce \"$(openssl rand -hex 16)\""
    )]
    Replay(Replay),
    /// Find where two runs part: the task, the segment of its training, the step and the operation.
    #[command(after_help = "Example:\n  bitproof bisect digits-1 digits-2")]
    Bisect(Bisect),
    /// Hash every byte of a run's evidence and check it against the signed audit log.
    #[command(after_help = "Example:\n  bitproof verify latest")]
    Verify(Verify),
    /// Export a run's package with what others need to check it. Nothing is written into the store.
    #[command(
        after_help = "Example:\n  bitproof export latest --as model-signing -o out\n  model_signing verify key out/model --signature out/model.sig --public_key out/model-signing.pub.pem"
    )]
    Export(Export),
    /// List the runs of the store.
    #[command(after_help = "Example:\n  bitproof runs --json")]
    Runs,
    /// Show one run.
    #[command(after_help = "Example:\n  bitproof show digits-1")]
    Show(Show),
    /// Say what differs between runs, and what it did to the metrics.
    #[command(after_help = "Example:\n  bitproof compare digits-1 digits-2")]
    Compare(Compare),
    /// Judge a run by its gates against a baseline, and record the verdicts.
    #[command(after_help = "Example:\n  bitproof gate latest --baseline digits-1")]
    Gate(Gate),
    /// Show the audit log, and prove to others what it holds and that it only grew.
    #[command(subcommand, after_help = "Example:\n  bitproof audit prove latest -o run.proof")]
    Audit(Audit),
    /// Make, list, show and replace the keys that sign.
    #[command(subcommand, after_help = "Example:\n  bitproof key list")]
    Key(Key),
    /// Remove the objects and leftovers that no run and no event of the audit log reaches.
    #[command(after_help = "Example:\n  bitproof gc --dry-run")]
    Gc(Gc),
    /// Print a completion script.
    #[command(after_help = "Example:\n  bitproof completions bash > /etc/bash_completion.d/bitproof")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The folder; made if it does not exist.
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// What to start from.
    #[arg(long, value_enum, default_value_t = Template::Digits)]
    pub(crate) template: Template,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Template {
    /// Handwritten digits: dataset, training, evaluation, package.
    Digits,
    /// Rents, by Python programs: cleaning, fit, evaluation, report.
    Command,
}

/// Which pipeline, and what is changed about it.
#[derive(Debug, Args)]
pub(crate) struct Pipeline {
    /// The pipeline file.
    #[arg(default_value = "bitproof.toml")]
    pub(crate) pipeline: PathBuf,
    /// Change a key: `pipeline.seed=7`, or `STAGE.KEY=VALUE` for a key of a stage's `with`.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) overrides: Vec<(String, String)>,
    /// Only this stage, or this task of a matrix, with what it needs.
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    /// Supply a data input from elsewhere. Its path is recorded nowhere.
    #[arg(long = "data", value_name = "NAME=PATH", value_parser = key_value)]
    pub(crate) data: Vec<(String, String)>,
    /// Supply a tool from elsewhere. Its path is recorded nowhere.
    #[arg(long = "tool", value_name = "NAME=PATH", value_parser = key_value)]
    pub(crate) tools: Vec<(String, String)>,
}

/// How much of the machine is used. It changes no recorded byte.
#[derive(Debug, Args)]
pub(crate) struct Effort {
    /// How many workers carry the lanes; more than lanes are of no use.
    #[arg(short = 'j', long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// How many threads a stage computes with.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = PlanFormat::Text)]
    pub(crate) format: PlanFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    Text,
    Mermaid,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) effort: Effort,
    /// Execute every stage, also those whose result is known.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Execute this stage, also when its result is known.
    #[arg(long, value_name = "STAGE")]
    pub(crate) force: Vec<String>,
    /// Hash every file again, also those that seem unchanged.
    #[arg(long)]
    pub(crate) paranoid: bool,
    /// What carries the lanes.
    #[arg(long, value_enum, default_value_t = Engine::Local)]
    pub(crate) engine: Engine,
    /// Name the run; the pipeline's name otherwise. A number is appended.
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Its code: files, folders or patterns. All files that git tracks, when none is named.
    #[arg(long, value_name = "PATH")]
    pub(crate) code: Vec<String>,
    /// A file or folder that it reads; it finds it at the same path.
    #[arg(long = "in", value_name = "NAME=PATH", value_parser = key_value)]
    pub(crate) inputs: Vec<(String, String)>,
    /// A file that it makes, or with `/` at the end a folder.
    #[arg(long = "out", value_name = "NAME=PATH", value_parser = key_value)]
    pub(crate) outputs: Vec<(String, String)>,
    /// A JSON or JSON lines file in which it leaves numbers.
    #[arg(long, value_name = "FILE")]
    pub(crate) metrics: Vec<String>,
    /// A variable of the environment that it reads: `NAME`, or `NAME=VALUE`.
    #[arg(long, value_name = "NAME")]
    pub(crate) env: Vec<String>,
    /// A virtual environment or a program that it runs with; found from the command when none is named.
    #[arg(long = "tool", value_name = "NAME=PATH", value_parser = key_value)]
    pub(crate) tools: Vec<(String, String)>,
    /// How far it is kept from what it does not declare.
    #[arg(long, value_name = "TIER", value_parser = ["strict", "landlock", "best", "none"])]
    pub(crate) isolation: Option<String>,
    /// Name the stage; after its script otherwise.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Add it to `bitproof.toml` as a stage, once it has run well.
    #[arg(long)]
    pub(crate) write: bool,
    /// Execute it, also when its result is known.
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// The command.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// Threads of this process.
    Local,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A name, `latest`, `latest:NAME`, the beginning of a uid, or the path of a manifest.
    pub(crate) run: String,
    /// Only this stage, or this task of a matrix.
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    /// Only these steps of a training, counted from 1, with both ends: from the nearest checkpoint before them.
    #[arg(long, value_name = "A..B", value_parser = steps, conflicts_with = "sample")]
    pub(crate) steps: Option<(u64, u64)>,
    /// Only so many segments of a training, which the nonce draws.
    #[arg(long, value_name = "K", requires = "nonce", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sample: Option<u64>,
    /// Random bytes in hex, chosen after the step root was fixed; 16 or more, so that nobody guesses them.
    #[arg(long, value_name = "HEX", requires = "sample")]
    pub(crate) nonce: Option<Nonce>,
    #[command(flatten)]
    pub(crate) effort: Effort,
    /// Supply a data input that the store does not keep: a file or a folder.
    #[arg(long = "data", value_name = "NAME=PATH", value_parser = key_value)]
    pub(crate) data: Vec<(String, String)>,
    /// Supply a tool; what `bitproof.toml` and `bitproof.local.toml` beside the store say otherwise.
    #[arg(long = "tool", value_name = "NAME=PATH", value_parser = key_value)]
    pub(crate) tools: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Bisect {
    /// A name, `latest`, `latest:NAME`, the beginning of a uid, or the path of a manifest.
    pub(crate) first: String,
    /// The other run.
    pub(crate) second: String,
    /// The training, or the task of a matrix, that is compared step by step; the first that differs otherwise.
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<String>,
    #[command(flatten)]
    pub(crate) effort: Effort,
    /// Supply a data input that the store does not keep: a file or a folder.
    #[arg(long = "data", value_name = "NAME=PATH", value_parser = key_value)]
    pub(crate) data: Vec<(String, String)>,
    /// Supply a tool; what `bitproof.toml` and `bitproof.local.toml` beside the store say otherwise.
    #[arg(long = "tool", value_name = "NAME=PATH", value_parser = key_value)]
    pub(crate) tools: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A name, `latest`, `latest:NAME`, or the beginning of a uid.
    #[arg(default_value = "latest", conflicts_with_all = ["all", "attestation"])]
    pub(crate) run: String,
    /// Verify every run and every object, and list what nothing reaches.
    #[arg(long)]
    pub(crate) all: bool,
    /// Demand that the tree head is signed by this key, or one that took its place: its text form, or a file that holds it.
    #[arg(long, value_name = "KEY")]
    pub(crate) vkey: Vec<String>,
    /// Demand that the log continues this tree head: a file that was kept of `bitproof audit head`.
    #[arg(long, value_name = "HEAD")]
    pub(crate) pin: Vec<PathBuf>,
    /// Demand that enough witnesses have seen the runs: a file with `threshold`, `witnesses` and `cosigned`.
    #[arg(long, value_name = "POLICY")]
    pub(crate) witness: Option<PathBuf>,
    /// Keep the report as an object and record it in the audit log.
    #[arg(long)]
    pub(crate) record: bool,
    #[command(flatten)]
    pub(crate) attestation: Attestation,
}

/// An attestation that is verified instead of a store.
#[derive(Debug, Args)]
pub(crate) struct Attestation {
    /// Verify this attestation instead, with no store: a bundle of model-signing, or SLSA provenance.
    #[arg(long, value_name = "FILE", requires = "public_key", conflicts_with_all = ["all", "vkey", "pin", "witness", "record"])]
    pub(crate) attestation: Option<PathBuf>,
    /// The key that must have signed it, in PEM: P-256 for model-signing, Ed25519 for SLSA provenance.
    #[arg(long, value_name = "PEM", requires = "attestation")]
    pub(crate) public_key: Option<PathBuf>,
    /// Hash the files of this folder and hold them against the attestation.
    #[arg(long, value_name = "DIR", requires = "attestation")]
    pub(crate) files: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A name, `latest`, `latest:NAME`, or the beginning of a uid.
    pub(crate) run: String,
    /// What to make of it.
    #[arg(long = "as", value_enum, value_name = "FORMAT")]
    pub(crate) format: ExportFormat,
    /// The folder to make; RUN-FORMAT in the current one otherwise. Nothing is overwritten.
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// The stage whose package it is, in a run that has more than one.
    #[arg(long)]
    pub(crate) stage: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// The files and a signature that PyPI's model-signing verifies.
    ModelSigning,
    /// SLSA provenance, version 1, in a signed DSSE envelope.
    Slsa,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A name, `latest`, `latest:NAME`, or the beginning of a uid.
    #[arg(default_value = "latest")]
    pub(crate) run: String,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The baseline, and the runs to hold against it.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub(crate) runs: Vec<String>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = CompareFormat::Text)]
    pub(crate) format: CompareFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompareFormat {
    Text,
    Mermaid,
    Markdown,
}

#[derive(Debug, Args)]
pub(crate) struct Gate {
    /// A name, `latest`, `latest:NAME`, or the beginning of a uid.
    pub(crate) run: String,
    /// Hold every gate against this run instead of its own baseline.
    #[arg(long, value_name = "RUN")]
    pub(crate) baseline: Option<String>,
    /// Judge by the `[[gate]]` tables of this file instead of the run's own.
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// How to show it.
    #[arg(long, value_enum, default_value_t = GateFormat::Text)]
    pub(crate) format: GateFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GateFormat {
    Text,
    Markdown,
    Junit,
}

#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// List what would go, and remove nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make the key of a role.
    #[command(after_help = "Example:\n  bitproof key new log")]
    New {
        /// `log` signs tree heads, `artifact` signs models and manifests, `witness` cosigns other people's heads, `model-signing`
        /// signs what is exported as that.
        role: String,
    },
    /// List the keys.
    List,
    /// Show a key's public half.
    Show {
        /// `log`, `artifact`, `witness` or `model-signing`.
        role: String,
    },
    /// Replace a role's key by a new one, and record it signed by both.
    #[command(after_help = "Example:\n  bitproof key rotate log")]
    Rotate {
        /// `log` or `artifact`.
        role: String,
    },
    /// Record that what a key signed for a larger log than some counts for nothing.
    #[command(after_help = "Example:\n  bitproof key revoke old-key.vkey --from-size 120")]
    Revoke {
        /// The key: its text form, or a file that holds it.
        key: String,
        /// The largest log for which its signatures count; the present one when none is given.
        #[arg(long, value_name = "N")]
        from_size: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List the events.
    #[command(after_help = "Example:\n  bitproof audit log --json")]
    Log,
    /// Print the newest signed tree head, to be kept elsewhere and given to `verify --pin`.
    #[command(after_help = "Example:\n  bitproof audit head > kept.head")]
    Head,
    /// Prove that the log holds a run's seal, a finding or an event.
    #[command(after_help = "Example:\n  bitproof audit prove digits-1 -o digits-1.proof")]
    Prove {
        /// A run, the beginning of an event's id, or the beginning of the name of a verdict's or report's object.
        of: String,
        /// Write the proof to this new file instead of standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check a proof with a key alone, without a store.
    #[command(after_help = "Example:\n  bitproof audit check digits-1.proof --vkey log.vkey")]
    Check {
        /// A file by `audit prove` or `audit consistency`.
        proof: PathBuf,
        /// The log's key: its text form, or a file that holds it.
        #[arg(long, value_name = "KEY")]
        vkey: String,
        /// The tree head that a proof by `audit consistency` begins at.
        #[arg(long, value_name = "HEAD")]
        pin: Option<PathBuf>,
    },
    /// Prove that the log has only grown since a tree head.
    #[command(after_help = "Example:\n  bitproof audit consistency kept.head -o grown.proof")]
    Consistency {
        /// A file with a tree head, or a number of leaves; 0 for somebody who has seen nothing yet.
        since: String,
        /// Write the proof to this new file instead of standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Cosign a log's head as a witness, if the log continues what this witness saw.
    #[command(
        after_help = "Example:\n  bitproof audit witness grown.proof --vkey log.vkey -o cosigned.head"
    )]
    Witness {
        /// A file by `audit consistency`.
        proof: PathBuf,
        /// The log's key: its text form, or a file that holds it.
        #[arg(long, value_name = "KEY")]
        vkey: String,
        /// Where this witness remembers the head that it saw last; a file for each log beside the keys when none is given.
        #[arg(long, value_name = "FILE")]
        state: Option<PathBuf>,
        /// Write the cosigned head to this file instead of standard output.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// `A..B`, both counted from 1 and both meant.
fn steps(text: &str) -> Result<(u64, u64), String> {
    let (first, last) = text.split_once("..").ok_or("expected A..B, the first and the last step")?;
    let step = |part: &str| part.parse::<u64>().map_err(|_| format!("{part:?} is not the number of a step"));
    match (step(first)?, step(last)?) {
        (0, _) => Err("steps are counted from 1".to_owned()),
        (first, last) if first > last => Err(format!("step {first} comes after step {last}")),
        range => Ok(range),
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

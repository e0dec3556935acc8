//! A command of an existing project becomes a stage: what it declares is completed from the project itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use bitproof_core_ledger::inventory::is_plain_relative;
use bitproof_scheduler::command::SYSTEM_PATH;

use crate::evidence::tracked_files;
use crate::pipeline::Draft;

/// The most files of code that are written into a stage one by one.
const MAX_LISTED_FILES: usize = 500;
/// Lock files that are looked for beside a virtual environment, in this order.
const LOCKS: [&str; 5] = ["requirements.lock", "uv.lock", "poetry.lock", "pdm.lock", "requirements.txt"];
/// What git may track and no command reads: git's own files, and the pipeline, whose every change would be one of the code.
const NO_CODE: [&str; 4] = ["bitproof.toml", ".gitignore", ".gitattributes", ".gitmodules"];

/// What somebody says of a command.
#[derive(Debug, Clone, Default)]
pub struct Adoption {
    /// The name of the stage; that of the script, or else of the program, when there is none.
    pub name: Option<String>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Its code; empty for what git tracks.
    pub code: Vec<String>,
    /// Its inputs by name.
    pub inputs: BTreeMap<String, String>,
    /// Its outputs by name.
    pub outputs: BTreeMap<String, String>,
    /// Its files of metrics.
    pub metrics: Vec<String>,
    /// The variables that it reads.
    pub env: Vec<String>,
    /// Tools by name.
    pub tools: BTreeMap<String, PathBuf>,
    /// How far it must be kept from what it does not declare.
    pub isolation: Option<String>,
}

/// The stage, and what of it lies outside the project.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// The stage.
    pub draft: Draft,
    /// Data inputs that lie elsewhere.
    pub data: BTreeMap<String, PathBuf>,
    /// Where each tool is.
    pub tools: BTreeMap<String, PathBuf>,
    /// Those of the tools that lie outside the project.
    pub outside: BTreeMap<String, PathBuf>,
}

impl Adopted {
    /// The text of `bitproof.local.toml`, which is `text` now, with what lies outside the project; `None` where nothing is new.
    ///
    /// # Errors
    /// Where the file stands that is not TOML, or what else is wrong with it.
    pub fn local(&self, text: &str) -> Result<Option<String>, toml::de::Error> {
        let mut local: toml::Table = toml::from_str(text)?;
        let before = local.clone();
        for (table, paths) in [("data", &self.data), ("tools", &self.outside)] {
            for (name, path) in paths {
                let entry = local.entry(table).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                if let Some(entries) = entry.as_table_mut() {
                    entries.insert(name.clone(), toml::Value::String(path.display().to_string()));
                }
            }
        }
        Ok((local != before).then(|| local.to_string()))
    }
}

/// A command that cannot be made a stage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// There is no name to be had.
    #[error("no stage can be named after {program:?}\n  hint: choose a name with --name")]
    Name {
        /// The program.
        program: String,
    },
    /// Its code is not known.
    #[error(
        "which files are the command's code? {reason}\n  hint: name files, folders or patterns with --code"
    )]
    Code {
        /// Why it is not known.
        reason: String,
    },
    /// A path of the command is outside the project.
    #[error("{what} {path:?} is not below the project's folder\n  hint: {hint}")]
    Outside {
        /// What it is.
        what: &'static str,
        /// The path.
        path: String,
        /// What to do.
        hint: &'static str,
    },
    /// An input is not there.
    #[error("the input {name} is not there: {path:?}\n  hint: name a file or folder that exists")]
    NoInput {
        /// Its name.
        name: String,
        /// Its path.
        path: String,
    },
}

/// Completes what is said of a command from the project in `folder`: its code is what git tracks, and a virtual environment or a
/// program outside the system's folders is a tool. `environment` is that of whoever asks.
///
/// # Errors
/// [`AdoptError`] for what cannot be known.
pub fn adopt(
    folder: &Path,
    asked: &Adoption,
    environment: &BTreeMap<String, String>,
) -> Result<Adopted, AdoptError> {
    let name = match &asked.name {
        Some(name) => name.clone(),
        None => name_of(&asked.argv)?,
    };
    let mut data = BTreeMap::new();
    let mut inputs = BTreeMap::new();
    for (input, path) in &asked.inputs {
        let at = folder.join(path);
        if fs::metadata(&at).is_err() {
            return Err(AdoptError::NoInput { name: input.clone(), path: path.clone() });
        }
        // The command finds what lies elsewhere where inputs lie by default.
        let inside = plain(path);
        if inside.is_none() {
            data.insert(input.clone(), at);
        }
        inputs.insert(input.clone(), inside.unwrap_or_else(|| format!("inputs/{input}")));
    }
    let below = |what, path: &String| {
        let hint = "let the command write below the folder that it is started in";
        let folder = if path.ends_with('/') { "/" } else { "" };
        let plain = plain(path).ok_or(AdoptError::Outside { what, path: path.clone(), hint })?;
        Ok(format!("{plain}{folder}"))
    };
    let outputs = asked
        .outputs
        .iter()
        .map(|(name, path)| Ok((name.clone(), below("the output", path)?)))
        .collect::<Result<BTreeMap<_, _>, AdoptError>>()?;
    let metrics =
        asked.metrics.iter().map(|path| below("the file of metrics", path)).collect::<Result<Vec<_>, _>>()?;
    let apart: Vec<&str> =
        inputs.values().chain(outputs.values()).chain(&metrics).map(|p| p.trim_end_matches('/')).collect();
    let code = match asked.code.as_slice() {
        [] => code_of(folder, &asked.argv, &apart)?,
        named => named.iter().map(|path| path.trim_start_matches("./").to_owned()).collect(),
    };
    let mut tools = asked.tools.clone();
    if tools.is_empty() {
        tools.extend(tool_of(folder, &asked.argv[0], environment));
    }
    let mut argv = asked.argv.clone();
    let mut outside = BTreeMap::new();
    let draft_tools = tools.iter().map(|(tool, path)| {
        // The program is found by its name: the tool's folder is first on the path.
        if Path::new(&argv[0]).components().count() > 1 && folder.join(&argv[0]).starts_with(path) {
            argv[0] = Path::new(&argv[0]).file_name().unwrap_or_default().to_string_lossy().into_owned();
        }
        let inside = path.strip_prefix(folder).ok().and_then(|p| plain(&p.to_string_lossy()));
        if inside.is_none() {
            outside.insert(tool.clone(), path.clone());
        }
        let lock = LOCKS.iter().find(|lock| folder.join(lock).is_file()).map(|lock| (*lock).to_owned());
        (tool.clone(), (inside.unwrap_or_else(|| format!(".{tool}")), lock))
    });
    let draft_tools: BTreeMap<_, _> = draft_tools.collect();
    let (env, isolation) = (asked.env.clone(), asked.isolation.clone());
    let draft = Draft { name, argv, code, inputs, outputs, metrics, env, tools: draft_tools, isolation };
    Ok(Adopted { draft, data, tools, outside })
}

/// A path below the project's folder without `.` in it.
fn plain(path: &str) -> Option<String> {
    let parts = Path::new(path).components().filter(|part| *part != Component::CurDir);
    let parts = parts.map(|part| part.as_os_str().to_str()).collect::<Option<Vec<_>>>()?;
    Some(parts.join("/")).filter(|path| is_plain_relative(path))
}

fn name_of(argv: &[String]) -> Result<String, AdoptError> {
    let program = argv.first().cloned().unwrap_or_default();
    let script = argv.iter().skip(1).find(|argument| {
        Path::new(argument)
            .extension()
            .is_some_and(|e| ["py", "sh", "R", "jl", "pl", "js"].iter().any(|x| e == *x))
    });
    let stem = Path::new(script.unwrap_or(&program)).file_stem().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = stem.to_lowercase().chars().map(plain).take(64).collect();
    let name = name.trim_start_matches(['.', '_', '-']).to_owned();
    if name.is_empty() || name == "data" || name == "pipeline" {
        return Err(AdoptError::Name { program });
    }
    Ok(name)
}

/// What git tracks, without what is an input or an output; where there is no git, the files that the arguments name.
fn code_of(folder: &Path, argv: &[String], apart: &[&str]) -> Result<Vec<String>, AdoptError> {
    let is_apart = |file: &str| {
        apart
            .iter()
            .any(|path| file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    let Some(tracked) = tracked_files(folder) else {
        let named: BTreeSet<String> = argv
            .iter()
            .filter_map(|argument| plain(argument))
            .filter(|path| !is_apart(path) && folder.join(path).is_file())
            .collect();
        if named.is_empty() {
            let reason = "this is no git repository, and no argument is a file here".to_owned();
            return Err(AdoptError::Code { reason });
        }
        return Ok(named.into_iter().collect());
    };
    // A tracked file may be deleted, a link, or another repository.
    let there = |file: &String| fs::symlink_metadata(folder.join(file)).is_ok_and(|meta| meta.is_file());
    let is_code = |file: &String| {
        !is_apart(file) && !NO_CODE.contains(&file.rsplit('/').next().unwrap_or(file)) && there(file)
    };
    let code: Vec<String> = tracked.into_iter().filter(is_code).collect();
    match code.len() {
        0 => Err(AdoptError::Code { reason: "git tracks none below this folder".to_owned() }),
        n if n > MAX_LISTED_FILES => Err(AdoptError::Code { reason: format!("git tracks {n}") }),
        _ => Ok(code),
    }
}

/// The tool that a program is of: the virtual environment that is active or that it lies in, or the program itself.
fn tool_of(
    folder: &Path,
    program: &str,
    environment: &BTreeMap<String, String>,
) -> Option<(String, PathBuf)> {
    let found = if program.contains('/') {
        Some(folder.join(program))
    } else {
        let path = environment.get("PATH").map_or(Vec::new(), |path| path.split(':').collect());
        path.into_iter()
            .chain(SYSTEM_PATH)
            .map(|dir| folder.join(dir).join(program))
            .find(|path| path.is_file())
    }?;
    let name = found.file_name()?.to_str()?;
    let is_python = name.starts_with("python");
    let tool: String = name.chars().take_while(char::is_ascii_alphabetic).collect();
    let tool = if tool.is_empty() { "program".to_owned() } else { tool.to_lowercase() };
    let environment_of = |path: &Path| {
        let root = path.parent()?.parent()?.to_owned();
        root.join("pyvenv.cfg").is_file().then_some(root)
    };
    if let Some(root) = environment_of(&found) {
        return Some((tool, root));
    }
    if is_python && !program.contains('/') {
        let active = environment.get("VIRTUAL_ENV").map(|root| folder.join(root));
        let beside = [".venv", "venv"].map(|name| folder.join(name));
        let root = active.into_iter().chain(beside).find(|root| root.join("pyvenv.cfg").is_file());
        if let Some(root) = root.filter(|root| root.join("bin").join(program).is_file()) {
            return Some((tool, root));
        }
    }
    // Files of the project are its code, and the system's programs are there in every stage.
    let system = |path: &Path| SYSTEM_PATH.iter().any(|dir| path.starts_with(dir));
    if found.starts_with(folder) && program.contains('/') || system(&found) {
        return None;
    }
    // What lies on the path may be a script that starts another: it knows which.
    let asked = is_python.then(|| python_executable(&found)).flatten().unwrap_or(found);
    (!system(&asked)).then_some((tool, asked))
}

fn python_executable(program: &Path) -> Option<PathBuf> {
    let output = Command::new(program)
        .args(["-c", "import sys; print(sys.executable)"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end());
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_git_tracks_but_inputs_outputs_and_what_no_command_reads() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            "train.py",
            "lib/model.py",
            "lib/.gitignore",
            ".gitignore",
            "bitproof.toml",
            "data/rows.csv",
            "out/old.json",
            "untracked.py",
        ];
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let asked = Adoption {
            argv: ["python", "train.py"].map(str::to_owned).to_vec(),
            inputs: [("rows".to_owned(), "data/rows.csv".to_owned())].into(),
            outputs: [("model".to_owned(), "out/".to_owned())].into(),
            ..Adoption::default()
        };
        let code = || adopt(dir.path(), &asked, &BTreeMap::new()).unwrap().draft.code;
        assert_eq!(code(), ["train.py"], "without git, what an argument names");
        let git = |arguments: &[&str]| {
            let done = Command::new("git").arg("-C").arg(dir.path()).args(arguments).status().unwrap();
            assert!(done.success(), "git {arguments:?}");
        };
        git(&["init", "--quiet"]);
        git(&[&["add"], &files[..7]].concat());
        assert_eq!(code(), ["lib/model.py", "train.py"]);
    }
}

//! A command that somebody runs already, written down as a stage of a pipeline file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{parse, PipelineError};

/// A stage to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// Its name.
    pub name: String,
    /// The program and its arguments, as they were typed.
    pub argv: Vec<String>,
    /// Paths, folders and patterns of its code.
    pub code: Vec<String>,
    /// Where each input lies, relative to the pipeline's folder; the command finds it there too.
    pub inputs: BTreeMap<String, String>,
    /// What it makes by name; a path that ends with `/` is a folder's.
    pub outputs: BTreeMap<String, String>,
    /// The files in which it leaves numbers.
    pub metrics: Vec<String>,
    /// The variables that it reads.
    pub env: Vec<String>,
    /// Path and lock file of each tool.
    pub tools: BTreeMap<String, (String, Option<String>)>,
    /// How far it must be kept from what it does not declare, where that is not the default.
    pub isolation: Option<String>,
}

/// A draft that does not fit the file that it is for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// The file, or what would become of it, is not right.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// There is a stage of that name.
    #[error("{file} has a stage {name:?} already\n  hint: choose another with --name")]
    Taken {
        /// The file.
        file: String,
        /// The name.
        name: String,
    },
    /// A name stands for something else there.
    #[error(
        "{file} has {table} already, with the path {there:?}, not {path:?}\n  hint: choose another name"
    )]
    Other {
        /// The file.
        file: String,
        /// Its table.
        table: String,
        /// What it is there.
        there: String,
        /// What it is here.
        path: String,
    },
}

impl Draft {
    /// A pipeline file with this stage alone.
    pub fn pipeline(&self) -> String {
        format!("[pipeline]\nname = {}\n{}", quoted(&self.name), self.tables(&|_| true, &|_| true))
    }

    /// The text of a pipeline file, known by `file`, with this stage at its end.
    ///
    /// # Errors
    /// [`DraftError`].
    pub fn appended_to(&self, file: &str, text: &str) -> Result<String, DraftError> {
        let there = parse(file, text.as_bytes())?;
        if there.stages.iter().any(|stage| stage.family == self.name) {
            return Err(DraftError::Taken { file: file.to_owned(), name: self.name.clone() });
        }
        let same = |table: String, there: Option<&String>, path: &String| match there {
            Some(there) if there.trim_end_matches('/') != path.trim_end_matches('/') => {
                let (file, there, path) = (file.to_owned(), there.clone(), path.clone());
                Err(DraftError::Other { file, table, there, path })
            }
            _ => Ok(()),
        };
        for (name, path) in &self.inputs {
            same(format!("[data.{name}]"), there.data.get(name).map(|d| &d.path), path)?;
        }
        for (name, (path, _)) in &self.tools {
            same(format!("[tools.{name}]"), there.tools.get(name).map(|t| &t.path), path)?;
        }
        let new_data = |name: &str| !there.data.contains_key(name);
        let new_tool = |name: &str| !there.tools.contains_key(name);
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let appended = format!("{text}{end}{}", self.tables(&new_data, &new_tool));
        parse(file, appended.as_bytes())?;
        Ok(appended)
    }

    fn tables(&self, data: &dyn Fn(&str) -> bool, tool: &dyn Fn(&str) -> bool) -> String {
        let mut text = String::new();
        let mut line = |content: String| writeln!(text, "{content}").expect("writing to a string");
        for (name, path) in self.inputs.iter().filter(|(name, _)| data(name)) {
            line(format!("\n[data.{}]\npath = {}", quoted(name), quoted(path)));
        }
        for (name, (path, lock)) in self.tools.iter().filter(|(name, _)| tool(name)) {
            line(format!("\n[tools.{}]\npath = {}", quoted(name), quoted(path)));
            if let Some(lock) = lock {
                line(format!("lock = {}", quoted(lock)));
            }
        }
        line(format!("\n[[stage]]\nname    = {}", quoted(&self.name)));
        // A brace in what was typed is no placeholder.
        let literal = |argument: &String| argument.replace('{', "{{").replace('}', "}}");
        line(format!("command = {}", list(&self.argv.iter().map(literal).collect::<Vec<_>>())));
        let mut optional = |key: &str, items: &[String]| {
            if !items.is_empty() {
                line(format!("{key:<7} = {}", list(items)));
            }
        };
        optional("code", &self.code);
        optional("tools", &self.tools.keys().cloned().collect::<Vec<_>>());
        optional("env", &self.env);
        optional("metrics", &self.metrics);
        if !self.inputs.is_empty() {
            let input = |(name, path): (&String, &String)| {
                let (source, at) = (quoted(&format!("data:{name}")), quoted(path.trim_end_matches('/')));
                format!("{} = {{ from = {source}, at = {at} }}", quoted(name))
            };
            let inputs: Vec<String> = self.inputs.iter().map(input).collect();
            line(format!("inputs  = {{ {} }}", inputs.join(", ")));
        }
        if !self.outputs.is_empty() {
            let output = |(name, path): (&String, &String)| format!("{} = {}", quoted(name), quoted(path));
            let outputs: Vec<String> = self.outputs.iter().map(output).collect();
            line(format!("outputs = {{ {} }}", outputs.join(", ")));
        }
        if let Some(isolation) = &self.isolation {
            line(format!("isolation = {}", quoted(isolation)));
        }
        text
    }
}

fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", quoted.join(", "))
}

/// A TOML text.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => write!(out, "\\u{:04X}", u32::from(c)).expect("writing to a string"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Params;

    fn draft() -> Draft {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>()
        };
        Draft {
            name: "fit".to_owned(),
            argv: ["python", "fit.py", "--title", "a \"b\" {c}\\\n"].map(str::to_owned).to_vec(),
            code: vec!["fit.py".to_owned()],
            inputs: map(&[("rows", "data/rows.csv")]),
            outputs: map(&[("model", "model/")]),
            metrics: vec!["metrics.json".to_owned()],
            env: vec!["HOME_PAGE".to_owned()],
            tools: [("python".to_owned(), (".venv".to_owned(), Some("requirements.lock".to_owned())))].into(),
            isolation: Some("landlock".to_owned()),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let draft = draft();
        let pipeline = parse("x.toml", draft.pipeline().as_bytes()).unwrap();
        let [stage] = pipeline.stages.as_slice() else { panic!("one stage: {pipeline:?}") };
        let Params::Command(command) = &stage.params else { panic!("a command: {stage:?}") };
        let argv: Vec<String> =
            command.argv.iter().map(|a| a.replace("{{", "{").replace("}}", "}")).collect();
        assert_eq!(argv, draft.argv);
        assert_eq!(command.output_names(), ["metrics", "model"]);
        assert_eq!(stage.command_inputs[0].path, "data/rows.csv");
        assert_eq!(pipeline.data["rows"].path, "data/rows.csv");
        assert_eq!(pipeline.tools["python"].lock.as_ref().unwrap().0, "requirements.lock");
    }

    #[test]
    fn a_stage_is_appended_unless_its_names_are_taken() {
        let first = draft();
        let text = first.pipeline();
        let second = Draft { name: "again".to_owned(), ..draft() };
        let both = parse("x.toml", second.appended_to("x.toml", &text).unwrap().as_bytes()).unwrap();
        assert_eq!((both.stages.len(), both.data.len(), both.tools.len()), (2, 1, 1));
        assert!(matches!(first.appended_to("x.toml", &text), Err(DraftError::Taken { .. })));
        let moved = [("rows".to_owned(), "other.csv".to_owned())].into();
        let other = Draft { inputs: moved, ..second };
        assert!(matches!(other.appended_to("x.toml", &text), Err(DraftError::Other { .. })));
        assert!(matches!(other.appended_to("x.toml", "[pipeline"), Err(DraftError::Pipeline(_))));
    }
}

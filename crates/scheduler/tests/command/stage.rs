//! A stage that runs a shell script, with everything that it needs.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bitproof_core_ledger::folder::Folder;
use bitproof_core_ledger::objects::ObjectId;
use bitproof_scheduler::command::{
    reach, run, CodeFile, CommandError, CommandInput, CommandOutput, CommandSpec, Finished, Isolation, Job,
    ReplayMode, Source, Tool,
};
use bitproof_scheduler::ledger::Failure;
use bitproof_scheduler::{Cancel, ParamValue};

pub(crate) struct Stage {
    pub(crate) spec: CommandSpec,
    pub(crate) params: BTreeMap<String, ParamValue>,
    pub(crate) code: Vec<PathBuf>,
    pub(crate) inputs: Vec<Source>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) cancel: Cancel,
    /// Holds the sources; what lies here is declared to nobody else.
    pub(crate) dir: tempfile::TempDir,
}

impl Stage {
    /// `script` as a shell runs it, after its placeholders are replaced.
    pub(crate) fn sh(script: &str) -> Self {
        Self::new(&["sh", "-c", script])
    }

    pub(crate) fn new(argv: &[&str]) -> Self {
        let spec = CommandSpec {
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            code: vec![],
            inputs: vec![],
            outputs: vec![],
            metrics: vec![],
            env: BTreeMap::new(),
            tools: BTreeMap::new(),
            threads: 2,
            isolation: Isolation::None,
            replay: ReplayMode::Bits,
            timeout_ns: None,
        };
        let dir = tempfile::tempdir().unwrap();
        let (params, code, inputs, tools) = Default::default();
        Self { spec, params, code, inputs, tools, cancel: Cancel::new(), dir }
    }

    pub(crate) fn isolated(mut self, isolation: Isolation) -> Self {
        self.spec.isolation = isolation;
        self
    }

    /// A file or, where the path ends with a slash, a folder.
    pub(crate) fn output(mut self, name: &str, path: &str) -> Self {
        let folder = path.ends_with('/');
        let path = path.trim_end_matches('/').to_owned();
        self.spec.outputs.push(CommandOutput { name: name.to_owned(), path, folder });
        self
    }

    pub(crate) fn input(mut self, name: &str, text: &str) -> Self {
        let path = self.write(name, text);
        self.spec.inputs.push(CommandInput { name: name.to_owned(), path: format!("inputs/{name}") });
        self.inputs.push(Source::File { path, content: ObjectId::of_bytes(text.as_bytes()) });
        self
    }

    pub(crate) fn folder(mut self, name: &str, files: &[(&str, &str)]) -> Self {
        let path = self.dir.path().join(name);
        for (file, text) in files {
            let file = self.write(&format!("{name}/{file}"), text);
            let mode = if file.extension().is_some_and(|e| e == "sh") { 0o755 } else { 0o644 };
            fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        }
        let (content, _) = Folder::open(&path).unwrap().digest(NonZeroUsize::MIN).unwrap();
        self.spec.inputs.push(CommandInput { name: name.to_owned(), path: format!("inputs/{name}") });
        self.inputs.push(Source::Folder { path, content });
        self
    }

    pub(crate) fn code(mut self, path: &str, text: &str) -> Self {
        let source = self.write(&path.replace('/', "-"), text);
        let executable = path.ends_with(".sh");
        let content = ObjectId::of_bytes(text.as_bytes());
        self.spec.code.push(CodeFile { path: path.to_owned(), content, executable });
        self.code.push(source);
        self
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn run(&self) -> Result<Finished, CommandError> {
        let scratch = self.dir.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let result = self.run_in(&scratch);
        assert!(result.is_ok() || !scratch.exists(), "what failed leaves nothing");
        result
    }

    pub(crate) fn run_in(&self, scratch: &Path) -> Result<Finished, CommandError> {
        let Self { spec, params, code, inputs, tools, cancel, .. } = self;
        run(&Job { task: "stage", spec, params, seed: 7, code, inputs, tools, scratch, cancel })
    }

    /// The text of its one output.
    pub(crate) fn text(&self) -> String {
        let finished = self.run().unwrap_or_else(|error| panic!("{error}"));
        let (_, made) = finished.outputs.first_key_value().unwrap();
        fs::read_to_string(made.path()).unwrap()
    }

    /// How it fails by itself, and what is said of it.
    pub(crate) fn failure(&self) -> (Failure, String) {
        let error = self.run().unwrap_err();
        (error.failure().unwrap_or_else(|| panic!("it is not its own: {error}")), error.to_string())
    }

    /// What is said of a failure that is not its own.
    pub(crate) fn fault(&self) -> String {
        let error = self.run().unwrap_err();
        assert_eq!(error.failure(), None, "{error}");
        error.to_string()
    }
}

/// Those of `tiers` that this machine has. CI, which has them all, fails when one is skipped.
pub(crate) fn available(tiers: &[Isolation]) -> Vec<Isolation> {
    let reached = |tier: &&Isolation| match reach(**tier) {
        Ok(_) => true,
        Err(unmet) if cfg!(target_os = "linux") => {
            println!("SKIPPED: {unmet}");
            false
        }
        Err(_) => false,
    };
    tiers.iter().filter(reached).copied().collect()
}

pub(crate) fn every_tier() -> Vec<Isolation> {
    available(&[Isolation::None, Isolation::Landlock, Isolation::Strict])
}

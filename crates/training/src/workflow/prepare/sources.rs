//! What a plan is made of besides the pipeline: data, code, tools and their locks, hashed where they lie.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bitproof_core_ledger::objects::ObjectId;
use bitproof_scheduler::command::CodeFile;
use bitproof_scheduler::stat_cache::StatCache;
use bitproof_scheduler::DataInput;

use super::local::Local;
use super::{code, RunRequest};
use crate::data::DataFiles;
use crate::pipeline::{self, CommandParams, InputRef, Params, Pipeline, Place, Stage};
use crate::workflow::WorkflowError;

/// The most bytes of a file that a built-in stage reads.
const MAX_DATASET_BYTES: u64 = 1 << 32;
/// Data up to this size is kept as an object, so that a replay elsewhere has it.
const KEPT_DATA_BYTES: u64 = 64 << 20;
/// The most bytes of a command's code.
const MAX_CODE_BYTES: u64 = 256 << 20;

pub(super) struct Sources<'a> {
    folder: &'a Path,
    pipeline: &'a Pipeline,
    local: &'a Local,
    request: &'a RunRequest,
    hashed: &'a StatCache,
    /// Where the content of data, code and locks lies.
    files: DataFiles,
    /// Which of them are kept as objects.
    kept: BTreeSet<ObjectId>,
    code: BTreeMap<String, (ObjectId, u64)>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(
        folder: &'a Path,
        pipeline: &'a Pipeline,
        local: &'a Local,
        request: &'a RunRequest,
        hashed: &'a StatCache,
    ) -> Result<Self, WorkflowError> {
        // With a stage alone, some of what was supplied is of no use.
        if request.stage.is_none() {
            known("--data", &request.data, &pipeline.data)?;
            known("--tool", &request.tools, &pipeline.tools)?;
        }
        let (files, kept, code) = (DataFiles::default(), BTreeSet::new(), BTreeMap::new());
        Ok(Self { folder, pipeline, local, request, hashed, files, kept, code })
    }

    /// Where the content of data, code and locks lies, and which of it is kept as objects.
    pub(super) fn into_found(self) -> (DataFiles, Vec<ObjectId>) {
        (self.files, self.kept.into_iter().collect())
    }

    /// Every data input, hashed and held against its pin.
    pub(super) fn data(&mut self) -> Result<Vec<DataInput>, WorkflowError> {
        let pipeline = self.pipeline;
        let mut inputs = Vec::new();
        for (name, input) in &pipeline.data {
            let supplied = self.request.data.get(name).or_else(|| self.local.data.get(name));
            let path = supplied.cloned().unwrap_or_else(|| self.folder.join(&input.path));
            let place = match self.request.data.contains_key(name) {
                true => format!("--data {name}: "),
                false => format!("{}: ", self.place(&input.place)),
            };
            let hint = format!("put the file there, or supply it with --data {name}=PATH");
            let unreadable = |source| WorkflowError::Unreadable {
                place: place.clone(),
                path: path.clone(),
                source,
                hint: hint.clone(),
            };
            let meta = fs::metadata(&path).map_err(unreadable)?;
            if !meta.is_dir() && !meta.is_file() {
                return Err(unreadable(io::Error::other("it is neither a file nor a folder")));
            }
            let native = |s: &&Stage| !matches!(s.params, Params::Command(_));
            let reader = pipeline
                .stages
                .iter()
                .filter(native)
                .find(|s| s.inputs.contains(&InputRef::Data(name.clone())));
            match reader {
                Some(stage) if meta.is_dir() => {
                    let reason = format!("stage {:?}: data:{name} is a folder", stage.name);
                    let place = self.place(&stage.place);
                    let hint = "a built-in stage takes a file".to_owned();
                    return Err(WorkflowError::Stage { place, reason, hint });
                }
                Some(_) if meta.len() > MAX_DATASET_BYTES => {
                    let text = format!("it is larger than {MAX_DATASET_BYTES} bytes");
                    return Err(unreadable(io::Error::other(text)));
                }
                _ => (),
            }
            let (digest, bytes) = match meta.is_dir() {
                true => self.hashed.digest_folder(&path).map_err(|e| unreadable(io::Error::other(e)))?,
                false => self.hashed.digest_file(&path).map_err(|e| unreadable(e.source))?,
            };
            if let Some((expected, place)) = &input.blake3 {
                if *expected != digest.to_string() {
                    let (place, expected) = (self.place(place), expected.clone());
                    return Err(WorkflowError::Pin { place, path, expected, got: digest.to_string() });
                }
            }
            inputs.push(DataInput { name: name.clone(), digest, bytes, folder: meta.is_dir() });
            if input.store || bytes <= KEPT_DATA_BYTES {
                self.kept.insert(digest);
            }
            self.files.insert(digest, path);
        }
        Ok(inputs)
    }

    /// Where the content of data, code and locks lies, as far as they were asked for.
    pub(super) fn files(&self) -> &DataFiles {
        &self.files
    }

    /// Where each tool lies.
    pub(super) fn tools(&self) -> Result<BTreeMap<String, PathBuf>, WorkflowError> {
        let used = |name: &str| {
            self.pipeline.stages.iter().any(|s| match &s.params {
                Params::Command(command) => command.tools.iter().any(|tool| tool == name),
                _ => false,
            })
        };
        let mut found = BTreeMap::new();
        for (name, tool) in self.pipeline.tools.iter().filter(|(name, _)| used(name)) {
            let supplied = self.request.tools.get(name).or_else(|| self.local.tools.get(name));
            let path = supplied.cloned().unwrap_or_else(|| self.folder.join(&tool.path));
            // A command runs in a folder of its own.
            let absolute = std::path::absolute(&path).and_then(|path| fs::metadata(&path).map(|_| path));
            let absolute = absolute.map_err(|source| WorkflowError::Unreadable {
                place: format!("{}: ", self.place(&tool.place)),
                path: path.clone(),
                source,
                hint: format!("make it, or supply it with --tool {name}=PATH"),
            })?;
            found.insert(name.clone(), absolute);
        }
        Ok(found)
    }

    /// The content of the lock file of each tool of a command.
    pub(super) fn locks(
        &mut self,
        command: &CommandParams,
    ) -> Result<BTreeMap<String, Option<ObjectId>>, WorkflowError> {
        let mut locks = BTreeMap::new();
        for name in &command.tools {
            let lock = self.pipeline.tools[name].lock.as_ref();
            let content = lock.map(|(path, place)| {
                self.file(path).map(|(content, _)| content).map_err(|source| WorkflowError::Unreadable {
                    place: format!("{}: ", self.place(place)),
                    path: self.folder.join(path),
                    source,
                    hint: "write the file, for example with `pip freeze`, or remove `lock`".to_owned(),
                })
            });
            locks.insert(name.clone(), content.transpose()?);
        }
        Ok(locks)
    }

    /// The files of a command's code, sorted by path.
    pub(super) fn code(
        &mut self,
        stage: &Stage,
        command: &CommandParams,
    ) -> Result<Vec<CodeFile>, WorkflowError> {
        let mut found = BTreeMap::new();
        let mut total = 0;
        for (pattern, place) in &command.code {
            let refused = |reason: String, hint: &str| WorkflowError::Stage {
                place: pipeline::show_place(&self.pipeline.source, place),
                reason: format!("the code of stage {:?}: {reason}", stage.name),
                hint: hint.to_owned(),
            };
            let hint = "name files or folders below the pipeline's folder, or a pattern like \"src/**/*.py\"";
            let files = code::find(self.folder, pattern).map_err(|e| refused(e.to_string(), hint))?;
            let declared = stage.command_inputs.iter().map(|i| &i.path);
            let declared: Vec<&String> =
                declared.chain(command.outputs.iter().map(|o| &o.path)).chain(&command.metrics).collect();
            for (path, executable) in files {
                let lies_in = |outer: &str, inner: &str| {
                    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                };
                if let Some(other) =
                    declared.iter().find(|other| lies_in(other, &path) || lies_in(&path, other))
                {
                    let reason = format!("{path:?} and {other:?}, which is declared too, lie in each other");
                    return Err(refused(reason, "name the code by files or patterns that leave it out"));
                }
                let (content, bytes) = self.file(&path).map_err(|e| refused(format!("{path}: {e}"), hint))?;
                if found.insert(path.clone(), CodeFile { path, content, executable }).is_none() {
                    total += bytes;
                }
            }
            if total > MAX_CODE_BYTES {
                let reason = format!("its files have more than {MAX_CODE_BYTES} bytes");
                let place = pipeline::show_place(&self.pipeline.source, place);
                let hint = "declare large files as data inputs".to_owned();
                return Err(WorkflowError::Stage { place, reason, hint });
            }
        }
        Ok(found.into_values().collect())
    }

    /// The variables that a command declares, with their values.
    pub(super) fn environment(&self, command: &CommandParams) -> BTreeMap<String, Option<String>> {
        let value = |name: &String, given: &Option<String>| {
            given.clone().or_else(|| self.request.environment.get(name).cloned())
        };
        command.env.iter().map(|(name, given)| (name.clone(), value(name, given))).collect()
    }

    /// The content of a file below the pipeline's folder, which is hashed once and kept.
    fn file(&mut self, path: &str) -> io::Result<(ObjectId, u64)> {
        if let Some(known) = self.code.get(path) {
            return Ok(*known);
        }
        let at = self.folder.join(path);
        let (content, bytes) = self.hashed.digest_file(&at).map_err(|e| e.source)?;
        self.files.insert(content, at);
        self.kept.insert(content);
        self.code.insert(path.to_owned(), (content, bytes));
        Ok((content, bytes))
    }

    fn place(&self, place: &Place) -> String {
        pipeline::show_place(&self.pipeline.source, place)
    }
}

fn known<A, B>(
    flag: &'static str,
    given: &BTreeMap<String, A>,
    there: &BTreeMap<String, B>,
) -> Result<(), WorkflowError> {
    let Some(name) = given.keys().find(|name| !there.contains_key(*name)) else { return Ok(()) };
    let known = there.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let known = if known.is_empty() { "none".to_owned() } else { known };
    Err(WorkflowError::UnknownName { flag, name: name.clone(), known })
}

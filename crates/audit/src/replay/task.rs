//! Tasks executed again, each judged by what it recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::folder::{self, Folder, FolderError, FolderFile};
use bitproof_core_ledger::limits::OBJECT_IN_MEMORY_BYTES;
use bitproof_core_ledger::objects::{ObjectError, ObjectId, Objects};
use bitproof_core_ledger::Store;
use bitproof_scheduler::command::ReplayMode;
use bitproof_scheduler::dispatch::TaskError;
use bitproof_scheduler::ledger::{Entry, Failure, Outcome};
use bitproof_scheduler::{action_digest, InputSource, PlannedTask};
use bitproof_training::keeper::KeepsNothing;
use bitproof_training::stages;
use bitproof_training::workflow::{Contents, Executed, Executor, Output};

use super::subject::Subject;
use super::{Judged, ReplayError, ReplayRequest, Replayed, Tolerated};
use crate::divergence::{compare, compare_folders, Comparison, Difference, Divergence, FolderFiles};
use crate::verify;

pub(super) struct Replayer<'a> {
    pub(super) subject: &'a Subject,
    pub(super) request: &'a ReplayRequest,
    /// What was recorded.
    recorded: Option<Objects>,
    /// What the replay made and is what was recorded, where the store does not have it: the store of its own.
    made: Mutex<BTreeMap<ObjectId, PathBuf>>,
    tools: BTreeMap<String, PathBuf>,
    /// Files of the project with the content of a command's code.
    code: BTreeMap<ObjectId, PathBuf>,
}

impl<'a> Replayer<'a> {
    pub(super) fn new(store: Option<&Store>, subject: &'a Subject, request: &'a ReplayRequest) -> Self {
        let recorded = store.map(Store::objects);
        let commands = subject.plan.tasks().filter_map(|t| t.spec.code.command());
        let missing = |id: &ObjectId| recorded.as_ref().is_none_or(|objects| !objects.contains(id));
        // What lies there may be anything: it is hashed when it is used.
        let code = commands
            .flat_map(|command| &command.code)
            .filter(|file| missing(&file.content))
            .map(|file| (file.content, request.project.join(&file.path)))
            .filter(|(_, path)| path.is_file())
            .collect();
        let supplied = request.tools.clone();
        let tools = subject.tools.clone().into_iter().chain(supplied).collect();
        Self { subject, request, recorded, made: Mutex::default(), tools, code }
    }

    /// Data that a wanted task takes must be there.
    pub(super) fn check_data(&self, wanted: &[usize]) -> Result<(), ReplayError> {
        for data in &self.subject.plan.spec().data {
            let takes = |&sequence: &usize| {
                let task = self.subject.plan.task(sequence).spec;
                task.inputs.iter().any(|i| matches!(i, InputSource::Data(name) if *name == data.name))
            };
            if wanted.iter().any(|s| self.executes(*s) && takes(s)) && self.locate(&data.digest).is_err() {
                return Err(ReplayError::MissingData { name: data.name.clone(), digest: data.digest });
            }
        }
        Ok(())
    }

    /// Every wanted task. With recorded inputs none waits for another; else those whose inputs are there go first.
    pub(super) fn all(&self, wanted: &[usize]) -> Result<BTreeMap<usize, Judged>, ReplayError> {
        let mut judged = BTreeMap::new();
        let mut left: BTreeSet<usize> = wanted.iter().copied().collect();
        while !left.is_empty() {
            let ready: Vec<usize> = left.iter().copied().filter(|&s| self.is_ready(s)).collect();
            if ready.is_empty() {
                judged.extend(left.into_iter().map(|sequence| (sequence, Judged::Passed)));
                break;
            }
            left.retain(|sequence| !ready.contains(sequence));
            for (sequence, result) in self.group(&ready) {
                judged.insert(sequence, result?);
            }
            if self.request.cancel.is_cancelled() {
                return Err(ReplayError::Cancelled);
            }
        }
        Ok(judged)
    }

    fn is_ready(&self, sequence: usize) -> bool {
        !self.executes(sequence) || self.inputs(sequence).iter().all(|id| self.locate(id).is_ok())
    }

    /// Whether the task is executed again, and not only what it recorded taken.
    fn executes(&self, sequence: usize) -> bool {
        !matches!(self.subject.entries[sequence].outcome, Outcome::Skipped { .. })
            && !self.is_recorded_only(sequence)
    }

    fn is_recorded_only(&self, sequence: usize) -> bool {
        let command = self.subject.plan.task(sequence).spec.code.command();
        command.is_some_and(|command| command.replay == ReplayMode::Record)
    }

    fn group(&self, ready: &[usize]) -> BTreeMap<usize, Result<Judged, ReplayError>> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(BTreeMap::new());
        let subscriber = tracing::dispatcher::get_default(Clone::clone);
        let work = || {
            while let Some(&sequence) = ready.get(next.fetch_add(1, Ordering::Relaxed)) {
                if self.request.cancel.is_cancelled() {
                    break;
                }
                let result = self.judge(sequence);
                results.lock().expect("no thread panics while it holds the results").insert(sequence, result);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..self.request.workers.get().min(ready.len()) {
                scope.spawn(|| tracing::dispatcher::with_default(&subscriber, work));
            }
        });
        results.into_inner().expect("no thread panicked")
    }

    fn judge(&self, sequence: usize) -> Result<Judged, ReplayError> {
        let task = self.subject.plan.task(sequence);
        let recorded = &self.subject.entries[sequence];
        if self.is_recorded_only(sequence) {
            return Ok(Judged::Recorded);
        }
        if let Outcome::Skipped { .. } = recorded.outcome {
            return Ok(Judged::Skipped);
        }
        if let Some(difference) = other_code(task) {
            let outcome = Outcome::Failed { how: Failure::Refused };
            let entry = Entry { outcome, ..recorded.clone() };
            return Ok(Judged::Executed(Box::new(Replayed::diverged(sequence, entry, None, difference))));
        }
        let inputs = self.inputs(sequence);
        let code = task.spec.code.command().map_or(&[][..], |command| command.code.as_slice());
        if let Some(missing) = code.iter().find(|file| self.locate(&file.content).is_err()) {
            let (task, what) = (recorded.task.to_string(), missing.path.clone());
            return Err(ReplayError::MissingCode { task, path: what, digest: missing.content });
        }
        let spec = self.subject.plan.spec();
        let action = Some(action_digest(task.spec, &inputs, spec.seed, spec.numerics));
        tracing::info!(task = %task.spec.id, "replaying");
        let executor = Executor {
            plan: &self.subject.plan,
            threads: self.request.threads,
            tools: &self.tools,
            scratch: &self.request.scratch,
            cancel: &self.request.cancel,
            contents: self,
            keeper: &KeepsNothing,
        };
        let made = match executor.execute(task, &inputs) {
            Ok(made) => Ok(made),
            Err(failed) => match failed.error {
                TaskError::Failed { how, message } => Err((how, message)),
                other => {
                    let (task, message) = (task.spec.id.to_string(), other.to_string());
                    return Err(ReplayError::Infrastructure { task, message });
                }
            },
        };
        let replayed = match &made {
            Ok(made) => self.compare(sequence, recorded, made)?,
            Err((how, message)) => {
                let entry = Entry { outcome: Outcome::Failed { how: *how }, ..recorded.clone() };
                let failed = |how: &Failure| format!("failed: {how}");
                match &recorded.outcome {
                    Outcome::Failed { how: then } if then == how => Replayed::as_recorded(recorded),
                    Outcome::Failed { how: then } => {
                        let difference = Difference::Outcome {
                            recorded: failed(then),
                            replayed: format!("failed: {message}"),
                        };
                        Replayed::diverged(sequence, entry, None, difference)
                    }
                    _ => {
                        let replayed = format!("failed: {message}");
                        let difference = Difference::Outcome { recorded: "done".to_owned(), replayed };
                        Replayed::diverged(sequence, entry, None, difference)
                    }
                }
            }
        };
        let entry = Entry { action, ..replayed.entry };
        Ok(Judged::Executed(Box::new(Replayed { entry, ..replayed })))
    }

    /// Holds what was made against what was recorded.
    fn compare(&self, sequence: usize, recorded: &Entry, made: &Executed) -> Result<Replayed, ReplayError> {
        let mode = match self.subject.plan.task(sequence).spec.code.command() {
            Some(command) => command.replay,
            None => ReplayMode::Bits,
        };
        let mut outputs = Vec::new();
        for (name, output) in &made.outputs {
            outputs.push((name.clone(), self.digest(output)?));
        }
        let entry = Entry { outcome: Outcome::Done { outputs: outputs.clone() }, ..recorded.clone() };
        let Outcome::Done { outputs: then } = &recorded.outcome else {
            let Outcome::Failed { how } = &recorded.outcome else {
                unreachable!("skipped tasks are not executed")
            };
            let difference =
                Difference::Outcome { recorded: format!("failed: {how}"), replayed: "done".to_owned() };
            return Ok(Replayed::diverged(sequence, entry, None, difference));
        };
        let names = |list: &[(String, ObjectId)]| {
            let names: Vec<&str> = list.iter().map(|(name, _)| name.as_str()).collect();
            format!("outputs [{}]", names.join(", "))
        };
        if !then.iter().map(|(name, _)| name).eq(outputs.iter().map(|(name, _)| name)) {
            let difference = Difference::Outcome { recorded: names(then), replayed: names(&outputs) };
            return Ok(Replayed::diverged(sequence, entry, None, difference));
        }
        // What is as recorded is kept for the tasks after it, also beside an output that is not.
        for ((name, then), (_, now)) in then.iter().zip(&outputs) {
            if then == now {
                self.keep(sequence, now, &made.outputs[name])?;
            }
        }
        let mut tolerated = Vec::new();
        for ((name, then), (_, now)) in then.iter().zip(&outputs) {
            let output = &made.outputs[name];
            if then == now {
                continue;
            }
            let Some(recorded) = self.recorded_bytes(then)? else {
                let difference = Difference::Content { recorded: *then, replayed: *now };
                return Ok(Replayed::diverged(sequence, entry, Some(name), difference));
            };
            let replayed = bytes_of(output)?;
            let compared = match output {
                Output::Folder(_) => compare_folders(&files_in(&recorded)?, &files_in(&replayed)?, &mode),
                _ => compare(&recorded, &replayed, &mode),
            };
            match compared {
                Comparison::Identical => unreachable!("other contents have other names"),
                Comparison::Within(within) => {
                    let (task, output) = (entry.task.to_string(), name.clone());
                    tolerated.push(Tolerated { task, output, within });
                }
                Comparison::Diverged(difference) => {
                    return Ok(Replayed::diverged(sequence, entry, Some(name), difference));
                }
            }
        }
        Ok(Replayed { entry, tolerated, divergence: None })
    }

    pub(super) fn inputs(&self, sequence: usize) -> Vec<ObjectId> {
        let Subject { plan, entries, .. } = self.subject;
        verify::recorded_inputs(plan, entries, &plan.task(sequence).spec.inputs)
            .expect("every input of every executed task is recorded")
    }

    fn recorded_bytes(&self, id: &ObjectId) -> Result<Option<Vec<u8>>, ReplayError> {
        match self.recorded.as_ref().map(|objects| objects.get(id)) {
            None | Some(Err(ObjectError::Missing { .. })) => Ok(None),
            Some(read) => Ok(Some(read?)),
        }
    }

    fn digest(&self, output: &Output) -> Result<ObjectId, ReplayError> {
        Ok(match output {
            Output::Bytes(bytes) => ObjectId::of_bytes(bytes),
            Output::File(path) => {
                let file = File::open(path).map_err(FileError::at("read", path))?;
                ObjectId::of_reader(&mut &file).map_err(FileError::at("read", path))?.0
            }
            Output::Folder(path) => Folder::open(path)?.digest(NonZeroUsize::MIN)?.0,
        })
    }

    /// Keeps what was made for the tasks after it, where the recorded one is not there.
    fn keep(&self, sequence: usize, id: &ObjectId, output: &Output) -> Result<(), ReplayError> {
        if self.locate(id).is_ok() {
            return Ok(());
        }
        // Another task may make the same at this moment.
        let path = self.request.scratch.join(format!("{id}-{sequence}"));
        Files::on_disk().write_new(&path, &bytes_of(output)?)?;
        self.made().entry(*id).or_insert(path);
        Ok(())
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<ObjectId, PathBuf>> {
        self.made.lock().expect("no thread panics while it holds the map")
    }
}

impl Contents for Replayer<'_> {
    fn read(&self, id: &ObjectId) -> Result<Vec<u8>, ObjectError> {
        match &self.recorded {
            Some(objects) if objects.contains(id) => objects.get(id),
            _ => {
                let path = self.locate(id)?;
                let bytes = Files::on_disk().read_bounded(&path, OBJECT_IN_MEMORY_BYTES)?;
                let got = ObjectId::of_bytes(&bytes);
                match got == *id {
                    true => Ok(bytes),
                    false => Err(ObjectError::Damaged { id: *id, got, len: bytes.len() as u64 }),
                }
            }
        }
    }

    fn locate(&self, id: &ObjectId) -> Result<PathBuf, ObjectError> {
        if let Some(objects) = self.recorded.as_ref().filter(|objects| objects.contains(id)) {
            return Ok(objects.path(id));
        }
        let supplied = self.request.data.path(id).or_else(|| self.code.get(id).map(PathBuf::as_path));
        let found = supplied.map(Path::to_owned).or_else(|| self.made().get(id).cloned());
        found.ok_or(ObjectError::Missing { id: *id })
    }
}

impl Replayed {
    fn as_recorded(entry: &Entry) -> Self {
        Self { entry: entry.clone(), tolerated: Vec::new(), divergence: None }
    }

    fn diverged(sequence: usize, entry: Entry, output: Option<&str>, difference: Difference) -> Self {
        let task = entry.task.to_string();
        let divergence = Divergence { sequence, task, output: output.map(str::to_owned), difference };
        Self { entry, tolerated: Vec::new(), divergence: Some(divergence) }
    }
}

/// How the task's code differs from what this program has under its name.
pub(super) fn other_code(task: PlannedTask<'_>) -> Option<Difference> {
    let native = task.spec.code.native()?;
    let recorded = native.to_string();
    let replayed = match stages::NATIVE.iter().find(|(kind, _)| *kind == native.kind) {
        Some((kind, version)) => format!("{kind} v{version}"),
        None => "none".to_owned(),
    };
    (recorded != replayed).then_some(Difference::Code { recorded, replayed })
}

/// An output as the bytes of its object.
fn bytes_of(output: &Output) -> Result<Vec<u8>, ReplayError> {
    let mut bytes = Vec::new();
    match output {
        Output::Bytes(made) => bytes.extend(made),
        Output::File(path) => bytes = Files::on_disk().read_bounded(path, OBJECT_IN_MEMORY_BYTES)?,
        Output::Folder(path) => {
            Folder::open(path)?
                .reader()
                .take(OBJECT_IN_MEMORY_BYTES)
                .read_to_end(&mut bytes)
                .map_err(FileError::at("read", path))?;
        }
    }
    Ok(bytes)
}

/// The files of a packed folder.
fn files_in(packed: &[u8]) -> Result<FolderFiles<'_>, FolderError> {
    let files = folder::read(&mut { packed }, |_, _| Ok(()))?;
    // It was read to its end: the contents are there.
    let contents: u64 = files.iter().map(|file| file.bytes).sum();
    let mut rest = &packed[packed.len() - contents as usize..];
    let slice = |file: FolderFile| {
        let (content, after) = rest.split_at(file.bytes as usize);
        rest = after;
        (file.path, (file.executable, content))
    };
    Ok(files.into_iter().map(slice).collect())
}

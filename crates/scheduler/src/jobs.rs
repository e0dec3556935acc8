//! A DAG of Rust closures with the guarantees of a pipeline: one plan, lanes, a ledger, and outputs by content.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use bitproof_core_ledger::chain::ChainHead;
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::objects::{ObjectError, ObjectId, Objects};
use bitproof_core_ledger::storage::LockMode;

use crate::cancel::Cancel;
use crate::dispatch::{execute, DispatchError, Execution, Outputs, Runner, TaskError};
use crate::ledger::{Failure, Ledger, LedgerError, Outcome};
use crate::plan::{OnFailure, Plan, PlanError, PlanSpec, PlannedTask};
use crate::task::{ActionDigest, Code, InputSource, Native, TaskId, TaskSpec};

/// The name of a job's one output.
const OUT: &str = "out";

/// Why a job failed. It is recorded as a failure of the job by itself, unless it is a [`TaskError`], which says what it is.
pub type JobError = Box<dyn std::error::Error + Send + Sync>;

type Work<'a> = Box<dyn Fn(&[Vec<u8>]) -> Result<Vec<u8>, JobError> + Send + Sync + 'a>;

/// Jobs that are to be run: each makes bytes from the bytes of others.
///
/// A job must be a function of its inputs: it is not run again where its result is in the ledger, and whoever runs it elsewhere
/// expects the same bytes. What a closure does has no digest; its name and [`Details::version`] stand for it.
///
/// ```
/// use bitproof_scheduler::jobs::Jobs;
///
/// let dir = tempfile::tempdir()?;
/// let jobs = Jobs::new("sums")
///     .lanes(2)
///     .add("left", &[], |_| Ok(vec![1, 2, 3]))
///     .add("right", &[], |_| Ok(vec![4]))
///     .add("sum", &["left", "right"], |inputs| Ok(vec![inputs.concat().iter().sum()]));
/// let done = jobs.run(dir.path(), 2)?;
/// assert_eq!(done.output("sum")?, [10]);
/// // Once more, on one thread: nothing is run again, and the root is the same.
/// assert_eq!(jobs.run(dir.path(), 1)?.root(), done.root());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Jobs<'a> {
    spec: PlanSpec,
    work: BTreeMap<TaskId, Work<'a>>,
    cancel: Cancel,
}

/// What a plan says of a job besides its inputs.
#[derive(Debug, Clone)]
pub struct Details {
    /// Moves with what the job makes of the same inputs.
    pub version: u32,
    /// Its planned duration.
    pub cost: u64,
    /// The lane it is pinned to.
    pub lane: Option<u32>,
    /// How often it is tried again after [`TaskError::Infrastructure`].
    pub retries: u32,
}

impl Default for Details {
    fn default() -> Self {
        Self { version: 1, cost: 1, lane: None, retries: 0 }
    }
}

/// Jobs that could not be run, or an output that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobsError {
    /// They cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Another process runs jobs in the folder.
    #[error("{} is in use by another process", dir.display())]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The execution could not go on.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// An output failed.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A job has no output: it failed, was skipped, was not begun, or there is none of that name.
    #[error("job {job} has no output{}", why.as_ref().map_or(String::new(), |why| format!(": {why}")))]
    NoOutput {
        /// The job.
        job: String,
        /// Why, where it failed just now.
        why: Option<String>,
    },
}

impl<'a> Jobs<'a> {
    /// No jobs yet, on one lane; the first failure stops them.
    pub fn new(name: &str) -> Self {
        let spec = PlanSpec {
            pipeline: name.to_owned(),
            seed: 0,
            lanes: vec!["0".to_owned()],
            on_failure: OnFailure::Stop,
            numerics: 0,
            data: Vec::new(),
            tasks: Vec::new(),
            policy: BTreeMap::new(),
        };
        Self { spec, work: BTreeMap::new(), cancel: Cancel::new() }
    }

    /// As many jobs at once.
    #[must_use]
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.spec.lanes = (0..lanes).map(|lane| lane.to_string()).collect();
        self
    }

    /// What happens when a job fails.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.spec.on_failure = on_failure;
        self
    }

    /// Stops when somebody asks `cancel` to.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// A job that makes bytes from those that the jobs `inputs` made, in that order.
    #[must_use]
    pub fn add(
        self,
        name: &str,
        inputs: &[&str],
        work: impl Fn(&[Vec<u8>]) -> Result<Vec<u8>, JobError> + Send + Sync + 'a,
    ) -> Self {
        self.add_with(name, inputs, Details::default(), work)
    }

    /// As [`Jobs::add`], with details.
    #[must_use]
    pub fn add_with(
        mut self,
        name: &str,
        inputs: &[&str],
        details: Details,
        work: impl Fn(&[Vec<u8>]) -> Result<Vec<u8>, JobError> + Send + Sync + 'a,
    ) -> Self {
        let Details { version, cost, lane, retries } = details;
        let input =
            |job: &&str| InputSource::Output { task: TaskId((*job).to_owned()), output: OUT.to_owned() };
        self.spec.tasks.push(TaskSpec {
            id: TaskId(name.to_owned()),
            stage: name.to_owned(),
            code: Code::Native(Native { kind: name.to_owned(), version }),
            params: BTreeMap::new(),
            inputs: inputs.iter().map(input).collect(),
            after: Vec::new(),
            outputs: vec![OUT.to_owned()],
            cost,
            lane,
            retries,
        });
        self.work.insert(TaskId(name.to_owned()), Box::new(work));
        self
    }

    /// Runs what the ledger in `dir` lacks, on so many threads. The folder is made where there is none; it keeps outputs by
    /// content, and a ledger for each plan that was run in it.
    ///
    /// # Errors
    /// [`JobsError`]; what was committed stays. A job that fails is no error: see [`Done::execution`].
    pub fn run(&self, dir: &Path, workers: usize) -> Result<Done, JobsError> {
        let plan = Plan::new(self.spec.clone())?;
        let files = Files::on_disk();
        files.create_dirs(dir)?;
        let folder = |name: &str| files.create_dir(&dir.join(name)).map(|()| dir.join(name));
        let (objects, staging) = (folder("objects")?, folder("tmp")?);
        let lock = files.lock(&dir.join("lock"), LockMode::Exclusive, false)?;
        let _lock = lock.ok_or_else(|| JobsError::Busy { dir: dir.to_owned() })?;
        let objects = Objects::new(files.clone(), objects, staging, NonZeroUsize::MIN);
        let path = dir.join(format!("{}.ledger", plan.digest()));
        let (mut ledger, committed) = Ledger::open(&files, &path, &plan)?;
        let mut outputs = committed.iter().filter_map(|entry| entry.output(OUT));
        outputs.try_for_each(|id| objects.verify(&id).map(drop))?;
        tracing::info!(jobs = plan.len(), done = committed.len(), plan = %plan.digest(), "jobs begin");
        let runner = JobRunner { work: &self.work, objects: &objects };
        let execution = execute(&plan, &runner, &mut ledger, committed, workers, &self.cancel)?;
        Ok(Done { execution, objects, root: ledger.root() })
    }
}

struct JobRunner<'a> {
    work: &'a BTreeMap<TaskId, Work<'a>>,
    objects: &'a Objects,
}

impl Runner for JobRunner<'_> {
    fn run(
        &self,
        task: PlannedTask<'_>,
        _: &ActionDigest,
        inputs: &[ObjectId],
    ) -> Result<Outputs, TaskError> {
        let around = |error: ObjectError| TaskError::Infrastructure { message: error.to_string() };
        let inputs = inputs.iter().map(|id| self.objects.get(id)).collect::<Result<Vec<_>, _>>();
        let made = self.work[&task.spec.id](&inputs.map_err(around)?).map_err(|error| {
            let failed = |error: JobError| {
                Box::new(TaskError::Failed { how: Failure::Refused, message: error.to_string() })
            };
            *error.downcast::<TaskError>().unwrap_or_else(failed)
        })?;
        Ok([(OUT.to_owned(), self.objects.put(&made).map_err(around)?)].into())
    }
}

/// Jobs that were run.
#[derive(Debug)]
pub struct Done {
    execution: Execution,
    objects: Objects,
    root: ChainHead,
}

impl Done {
    /// What a job made.
    ///
    /// # Errors
    /// [`JobsError::NoOutput`] and [`JobsError::Object`].
    pub fn output(&self, job: &str) -> Result<Vec<u8>, JobsError> {
        let entry = self.execution.entries.iter().find(|entry| entry.task.0 == job);
        let made = entry.and_then(|entry| match &entry.outcome {
            Outcome::Done { .. } => entry.output(OUT),
            _ => None,
        });
        let Some(id) = made else {
            let why = self.execution.failures.iter().find(|(task, _)| task.0 == job);
            let why = why.map(|(_, message)| message.clone());
            return Err(JobsError::NoOutput { job: job.to_owned(), why });
        };
        Ok(self.objects.get(&id)?)
    }

    /// How it went: entries, failures, attempts, and why it ended.
    pub fn execution(&self) -> &Execution {
        &self.execution
    }

    /// The head of the ledger: the same wherever the same jobs ended the same way.
    pub fn root(&self) -> ChainHead {
        self.root
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::dispatch::End;

    type Plain = fn(&[Vec<u8>]) -> Result<Vec<u8>, JobError>;

    /// Five jobs that count how often they are run.
    fn jobs<'a>(runs: &'a AtomicUsize, network: bool) -> Jobs<'a> {
        let counted = move |work: Plain| -> Work<'a> {
            Box::new(move |inputs| {
                runs.fetch_add(1, Ordering::SeqCst);
                work(inputs)
            })
        };
        let flaky: Plain = if network {
            |_| Ok(b"up".to_vec())
        } else {
            |_| Err(Box::new(TaskError::Infrastructure { message: "the network is down".to_owned() }))
        };
        Jobs::new("j")
            .lanes(3)
            .on_failure(OnFailure::Continue)
            .add("a", &[], counted(|_| Ok(b"x".to_vec())))
            .add("b", &["a"], counted(|inputs| Ok(inputs[0].repeat(2))))
            .add("bad", &[], counted(|_| Err("no such luck".into())))
            .add("after", &["bad"], counted(|_| Ok(Vec::new())))
            .add_with("flaky", &[], Details { retries: 1, ..Details::default() }, counted(flaky))
    }

    #[test]
    fn jobs_are_run_once_and_their_outputs_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let runs = AtomicUsize::new(0);
        let first = jobs(&runs, false).run(dir.path(), 1).unwrap();
        assert!(
            matches!(&first.execution().end, End::Incomplete { task, attempts: 2, .. } if task.0 == "flaky")
        );
        let second = jobs(&runs, true).run(dir.path(), 4).unwrap();
        assert_eq!((&second.execution().end, second.output("b").unwrap()), (&End::Complete, b"xx".to_vec()));
        let error = second.output("after").unwrap_err();
        assert_eq!(error.to_string(), "job after has no output");
        let before = runs.load(Ordering::SeqCst);
        let third = jobs(&runs, true).run(dir.path(), 2).unwrap();
        assert_eq!((runs.load(Ordering::SeqCst), third.root()), (before, second.root()));
        // An output that was changed is not taken.
        let object = third.execution().entries.iter().find_map(|e| e.output(OUT)).unwrap();
        std::fs::write(third.objects.path(&object), b"y").unwrap();
        let damaged = jobs(&runs, true).run(dir.path(), 2);
        assert!(matches!(damaged, Err(JobsError::Object(ObjectError::Damaged { .. }))));
    }

    #[test]
    fn why_a_job_failed_is_told_with_its_output() {
        let (dir, runs) = (tempfile::tempdir().unwrap(), AtomicUsize::new(0));
        let done = jobs(&runs, true).run(dir.path(), 1).unwrap();
        assert_eq!(done.output("bad").unwrap_err().to_string(), "job bad has no output: no such luck");
    }

    #[test]
    fn a_folder_in_use_is_refused() {
        let (dir, runs) = (tempfile::tempdir().unwrap(), AtomicUsize::new(0));
        let held = Files::on_disk().lock(&dir.path().join("lock"), LockMode::Exclusive, false).unwrap();
        let busy = jobs(&runs, true).run(dir.path(), 1);
        assert!(held.is_some() && matches!(busy, Err(JobsError::Busy { .. })));
        drop(held);
        jobs(&runs, true).run(dir.path(), 1).unwrap();
    }
}

//! Checkpoints of a training that is under way, in the run's folder: signed when they are written, verified before they are used.

use std::path::{Path, PathBuf};

use bitproof_core_ledger::canon;
use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::keys::PrivateKey;
use bitproof_core_ledger::note::NoteKey;
use bitproof_core_ledger::signature::{self, ARTIFACT_SIGNER};
use bitproof_scheduler::ActionDigest;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{folder_of, Checkpoint, MAX_STATE_BYTES};
use crate::keeper::{CheckpointKeeper, KeepError, Progress, SavedTraining};
use crate::params::MAX_PARAMETERS;
use crate::run_folder::SIGNATURE_SUFFIX;

const SCHEMA: &str = "bitproof/resume/v1";
const RECORD: &str = "resume.json";
const MAX_PROGRESS_BYTES: u64 = bitproof_core_ledger::limits::CANON_BYTES as u64;
/// A header, and the moments of as many parameters as a model may have.
const MAX_TENSOR_BYTES: u64 = (32 << 20) + 8 * MAX_PARAMETERS;

/// What is signed of a checkpoint: the task that made it, and all its files.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    schema: String,
    action: ActionDigest,
    step: u64,
    state: Digest<Content>,
    progress: Digest<Content>,
}

/// The checkpoints of one task.
pub(super) struct RunCheckpoints<'a> {
    files: &'a Files,
    staging: PathBuf,
    dir: PathBuf,
    key: &'a PrivateKey,
    trusted: NoteKey,
    action: ActionDigest,
}

impl<'a> RunCheckpoints<'a> {
    /// Those that lie in `dir`, where there are any.
    pub(super) fn new(
        files: &'a Files,
        staging: PathBuf,
        dir: PathBuf,
        key: &'a PrivateKey,
        action: ActionDigest,
    ) -> Result<Self, bitproof_core_ledger::note::NoteError> {
        let trusted = key.note_key(ARTIFACT_SIGNER)?;
        Ok(Self { files, staging, dir, key, trusted, action })
    }

    fn path(&self, step: u64, name: &str) -> PathBuf {
        self.dir.join(format!("{}.{name}", folder_of(step)))
    }

    fn signature_path(&self, step: u64) -> PathBuf {
        self.path(step, &format!("{RECORD}{SIGNATURE_SUFFIX}"))
    }

    fn read(&self, step: u64, name: &str, limit: u64) -> Result<Vec<u8>, String> {
        self.files.read_bounded(&self.path(step, name), limit).map_err(|e| e.to_string())
    }

    /// The steps of checkpoints that were written whole, as far as names tell.
    fn steps(&self) -> Result<Vec<u64>, FileError> {
        if !self.files.exists(&self.dir) {
            return Ok(Vec::new());
        }
        let suffix = format!(".{RECORD}{SIGNATURE_SUFFIX}");
        let step = |name: &str| name.strip_suffix(&suffix)?.strip_prefix("step-")?.parse::<u64>().ok();
        let mut steps: Vec<u64> =
            self.files.list(&self.dir)?.iter().filter_map(|(name, _)| step(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// A checkpoint whose signature, task and files were verified.
    fn verified(&self, step: u64) -> Result<SavedTraining, String> {
        let record = self.read(step, RECORD, MAX_STATE_BYTES)?;
        let note = self
            .files
            .read_bounded(&self.signature_path(step), MAX_STATE_BYTES)
            .map_err(|e| e.to_string())?;
        signature::verify(&note, &record_name(step), &record, std::slice::from_ref(&self.trusted))
            .map_err(|e| e.to_string())?;
        let record: Record = serde_json::from_slice(&record).map_err(|e| e.to_string())?;
        if record.schema != SCHEMA || record.action != self.action || record.step != step {
            return Err("it is of another task, step or version".to_owned());
        }
        let state = self.read(step, "state.json", MAX_STATE_BYTES)?;
        let progress = self.read(step, "progress.bin", MAX_PROGRESS_BYTES)?;
        for (what, expected, bytes) in
            [("state", record.state, &state), ("progress", record.progress, &progress)]
        {
            if Digest::<Content>::of_bytes(bytes) != expected {
                return Err(format!("its {what} is not the one that was signed"));
            }
        }
        let model = self.read(step, "model.safetensors", MAX_TENSOR_BYTES)?;
        let optimizer = self.read(step, "optimizer.safetensors", MAX_TENSOR_BYTES)?;
        let checkpoint = Checkpoint::open(&state, model, optimizer).map_err(|e| e.to_string())?;
        let progress: Progress = canon::decode(&progress).map_err(|e| e.to_string())?;
        Ok(SavedTraining { checkpoint, progress })
    }

    fn error(task: &str) -> impl Fn(String) -> KeepError + '_ {
        move |reason| KeepError { task: task.to_owned(), reason }
    }

    fn write(&self, step: u64, saved: &SavedTraining) -> Result<(), FileError> {
        let (state, progress) = (saved.checkpoint.state.encode(), canon::encode(&saved.progress));
        let record = Record {
            schema: SCHEMA.to_owned(),
            action: self.action,
            step,
            state: Digest::of_bytes(&state),
            progress: Digest::of_bytes(&progress),
        };
        let record = serde_json::to_vec(&record).expect("a record has only text keys");
        let signature = signature::sign(&record_name(step), &record, self.key)
            .map_err(|e| FileError::at("sign", &self.dir)(std::io::Error::other(e)))?;
        self.files.create_dirs(&self.dir)?;
        let file = |name: &str, bytes| (self.path(step, name), bytes);
        self.files.replace_all(
            &self.staging,
            &[
                file("model.safetensors", saved.checkpoint.model.as_slice()),
                file("optimizer.safetensors", saved.checkpoint.optimizer.as_slice()),
                file("state.json", state.as_slice()),
                file("progress.bin", progress.as_slice()),
                file(RECORD, record.as_slice()),
            ],
        )?;
        // A checkpoint is there when its signature is.
        self.files.replace(&self.staging, &self.signature_path(step), signature.as_bytes())
    }

    fn forget(&self, step: u64) -> Result<(), FileError> {
        self.files.remove(&self.signature_path(step))?;
        for name in ["model.safetensors", "optimizer.safetensors", "state.json", "progress.bin", RECORD] {
            self.files.remove(&self.path(step, name))?;
        }
        Ok(())
    }
}

/// The name under which a record is signed.
fn record_name(step: u64) -> String {
    format!("{}.{RECORD}", folder_of(step))
}

impl CheckpointKeeper for RunCheckpoints<'_> {
    /// The newest that verifies. One that does not is passed over: what it stands for is computed again.
    fn newest(&self, task: &str) -> Result<Option<SavedTraining>, KeepError> {
        let steps = self.steps().map_err(|e| Self::error(task)(e.to_string()))?;
        for step in steps.into_iter().rev() {
            match self.verified(step) {
                Ok(saved) => return Ok(Some(saved)),
                Err(reason) => tracing::warn!(task, step, reason, "passed over a checkpoint"),
            }
        }
        Ok(None)
    }

    fn load(&self, task: &str, step: u64) -> Result<Checkpoint, KeepError> {
        self.verified(step).map(|saved| saved.checkpoint).map_err(Self::error(task))
    }

    fn keep(&self, task: &str, saved: &SavedTraining, also: &[u64]) -> Result<(), KeepError> {
        let step = saved.checkpoint.state.step;
        let kept = self.write(step, saved).and_then(|()| {
            let steps = self.steps()?;
            steps
                .into_iter()
                .filter(|old| *old != step && !also.contains(old))
                .try_for_each(|old| self.forget(old))
        });
        kept.map_err(|e| Self::error(task)(e.to_string()))
    }
}

/// Removes whatever checkpoints of trainings under way lie in a run's folder: its tasks are committed.
///
/// # Errors
/// [`FileError`].
pub(super) fn clear(files: &Files, dir: &Path) -> Result<(), FileError> {
    if !files.exists(dir) {
        return Ok(());
    }
    files.files_below(dir)?.iter().try_for_each(|(path, _)| files.remove(&dir.join(path)))
}

#[cfg(test)]
mod tests {
    use bitproof_core_ledger::keys::KeyRole;

    use super::*;
    use crate::steps::Segment;

    fn saved(step: u64) -> SavedTraining {
        let segment = Segment {
            end: step,
            batches: Digest::of_bytes(b"b"),
            losses: Digest::of_bytes(b"l"),
            parameters: Digest::of_bytes(b"p"),
            moments: Digest::of_bytes(b"m"),
        };
        let progress = Progress { segments: vec![segment], metrics: b"{}".to_vec(), loss: 1.5, count: 3 };
        let checkpoint = Checkpoint::new(7, "train", step, vec![step as u8; 100], vec![2; 50]);
        SavedTraining { checkpoint, progress }
    }

    struct Place {
        dir: tempfile::TempDir,
        files: Files,
        key: PrivateKey,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("tmp")).unwrap();
            Self { dir, files: Files::on_disk(), key: PrivateKey::from_bytes(KeyRole::Artifact, &[3; 32]) }
        }
        fn of(&self, action: &[u8]) -> RunCheckpoints<'_> {
            let (staging, dir) = (self.dir.path().join("tmp"), self.dir.path().join("resume/train"));
            RunCheckpoints::new(&self.files, staging, dir, &self.key, ActionDigest::of_bytes(action)).unwrap()
        }
    }

    #[test]
    fn the_newest_is_given_back_and_old_ones_are_forgotten() {
        let place = Place::new();
        let checkpoints = place.of(b"a");
        assert_eq!(checkpoints.newest("train").unwrap(), None);
        for step in [10, 20, 30] {
            checkpoints.keep("train", &saved(step), &[10]).unwrap();
        }
        assert_eq!(checkpoints.newest("train").unwrap(), Some(saved(30)));
        assert_eq!(checkpoints.steps().unwrap(), [10, 30]);
        assert_eq!(checkpoints.load("train", 10).unwrap(), saved(10).checkpoint);
        assert!(checkpoints.load("train", 20).is_err());
        assert_eq!(place.of(b"b").newest("train").unwrap(), None, "those of another task are not taken");
        clear(&place.files, &place.dir.path().join("resume")).unwrap();
        assert_eq!(checkpoints.newest("train").unwrap(), None);
    }

    #[test]
    fn a_flipped_byte_of_any_file_leaves_the_one_before() {
        let place = Place::new();
        let checkpoints = place.of(b"a");
        checkpoints.keep("train", &saved(10), &[10]).unwrap();
        checkpoints.keep("train", &saved(20), &[10]).unwrap();
        let names: Vec<(String, _)> = place.files.list(&checkpoints.dir).unwrap();
        let newest: Vec<String> = names.into_iter().map(|(n, _)| n).filter(|n| n.contains("20.")).collect();
        assert_eq!(newest.len(), 6);
        for name in newest {
            let path = checkpoints.dir.join(&name);
            let whole = std::fs::read(&path).unwrap();
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 1;
            std::fs::write(&path, flipped).unwrap();
            assert_eq!(checkpoints.newest("train").unwrap(), Some(saved(10)), "{name}");
            std::fs::remove_file(&path).unwrap();
            assert_eq!(checkpoints.newest("train").unwrap(), Some(saved(10)), "without {name}");
            std::fs::write(&path, whole).unwrap();
            assert_eq!(checkpoints.newest("train").unwrap(), Some(saved(20)), "the control");
        }
    }
}

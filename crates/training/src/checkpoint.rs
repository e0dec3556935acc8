//! Checkpoints: everything that a training needs to go on after a step. `docs/formats/checkpoint.md` is normative.

use std::collections::BTreeMap;
use std::io::Read as _;

use bitproof_core_ledger::digest::{Content, Digest, MomentsKind, ParametersKind};
use bitproof_core_ledger::folder::{self, FolderError, FolderFile};
use serde::{Deserialize, Serialize};

use crate::safetensors::{self, SafetensorsError, Tensors};

/// The schema of a checkpoint's state.
pub const SCHEMA: &str = "bitproof/checkpoint/v1";
/// The file that names the others, and what is signed of a checkpoint.
pub const STATE: &str = "state.json";
/// The file of the weights.
pub const MODEL_FILE: &str = "model.safetensors";
/// The file of what the optimizer remembers.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// The most bytes of a state.
pub const MAX_STATE_BYTES: u64 = 64 << 10;

/// A checkpoint as it is kept: three files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// What binds the files together.
    pub state: CheckpointState,
    /// The weights, as PyTorch loads them.
    pub model: Vec<u8>,
    /// What the optimizer remembers of each weight.
    pub optimizer: Vec<u8>,
}

/// The state of a checkpoint. Random streams are functions of seed, stage and step, so these three are their state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointState {
    /// [`SCHEMA`].
    pub schema: String,
    /// The seed of the run.
    pub seed: u64,
    /// The stage whose streams are used.
    pub stage: String,
    /// How many steps were made.
    pub step: u64,
    /// The content of [`MODEL_FILE`].
    pub model: Digest<Content>,
    /// The content of [`OPTIMIZER_FILE`].
    pub optimizer: Digest<Content>,
}

/// Files that are not a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The state is not JSON of the expected form.
    #[error("the checkpoint's state is malformed at line {line}, column {column}: {reason}")]
    State {
        /// Where, from 1.
        line: usize,
        /// Where, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// A file is not the one that the state names.
    #[error("the checkpoint's {file} has the content {got}; its state names {expected}")]
    OtherFile {
        /// Which file.
        file: &'static str,
        /// What the state names.
        expected: Digest<Content>,
        /// What it is.
        got: Digest<Content>,
    },
    /// A file is missing.
    #[error("the checkpoint of step {step} has no {file}")]
    Missing {
        /// The step.
        step: u64,
        /// Which file.
        file: &'static str,
    },
    /// The folder of a step holds the state of another one.
    #[error("the checkpoint in the folder of step {folder} is of step {step}")]
    OtherStep {
        /// The step of the folder.
        folder: u64,
        /// The step of the state.
        step: u64,
    },
    /// A file belongs to no checkpoint.
    #[error("{path:?} is no file of a checkpoint")]
    Stray {
        /// The file.
        path: String,
    },
    /// The packed folder cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The weights cannot be read.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
}

impl CheckpointState {
    /// Its one encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a state has only text keys");
        bytes.push(b'\n');
        bytes
    }

    /// Reads what [`CheckpointState::encode`] wrote.
    ///
    /// # Errors
    /// [`CheckpointError::State`].
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let malformed =
            |line, column, reason: &str| CheckpointError::State { line, column, reason: reason.to_owned() };
        let state: Self =
            serde_json::from_slice(bytes).map_err(|e| malformed(e.line(), e.column(), &e.to_string()))?;
        if state.schema != SCHEMA {
            return Err(malformed(1, 1, &format!("the schema is {:?}, not {SCHEMA:?}", state.schema)));
        }
        if state.encode() != bytes {
            return Err(malformed(1, 1, "it is not in its one encoding"));
        }
        Ok(state)
    }
}

impl Checkpoint {
    /// The files of a checkpoint, bound together.
    pub fn new(seed: u64, stage: &str, step: u64, model: Vec<u8>, optimizer: Vec<u8>) -> Self {
        let state = CheckpointState {
            schema: SCHEMA.to_owned(),
            seed,
            stage: stage.to_owned(),
            step,
            model: Digest::of_bytes(&model),
            optimizer: Digest::of_bytes(&optimizer),
        };
        Self { state, model, optimizer }
    }

    /// Takes the files for a checkpoint if they are what its state names.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn open(state: &[u8], model: Vec<u8>, optimizer: Vec<u8>) -> Result<Self, CheckpointError> {
        let state = CheckpointState::decode(state)?;
        for (file, expected, bytes) in
            [(MODEL_FILE, state.model, &model), (OPTIMIZER_FILE, state.optimizer, &optimizer)]
        {
            let got = Digest::of_bytes(bytes);
            if got != expected {
                return Err(CheckpointError::OtherFile { file, expected, got });
            }
        }
        Ok(Self { state, model, optimizer })
    }

    /// The digests of its parameters and of what the optimizer remembers: those of the segment that ends with its step.
    ///
    /// # Errors
    /// [`CheckpointError::Safetensors`].
    pub fn digests(&self) -> Result<(Digest<ParametersKind>, Digest<MomentsKind>), CheckpointError> {
        // Parameters lie in the order of their names, and moments one after the other, as their names ascend.
        fn rows(tensors: &Tensors) -> impl Iterator<Item = &[f32]> {
            tensors.values().map(|tensor| tensor.data.as_slice())
        }
        let (weights, _) = safetensors::decode_with_metadata(&self.model)?;
        let moments = safetensors::decode(&self.optimizer)?;
        Ok((Digest::of_floats(rows(&weights)), Digest::of_floats(rows(&moments))))
    }
}

/// The folder of the checkpoint of a step: `step-` and twelve digits, so that names ascend as steps do.
pub fn folder_of(step: u64) -> String {
    format!("step-{step:012}")
}

/// Which of `count` checkpoints are kept, if at most `keep` are: evenly spread, the last among them. `index` counts from 0.
pub fn is_kept(index: u64, count: u64, keep: u64) -> bool {
    let share = |i: u64| u128::from(i) * u128::from(keep) / u128::from(count.max(1));
    keep >= count || share(index + 1) > share(index)
}

/// Checkpoints as one packed folder: the output of a stage.
///
/// # Errors
/// [`FolderError`] when they are out of order or too many.
pub fn pack(checkpoints: &[Checkpoint]) -> Result<Vec<u8>, FolderError> {
    let states: Vec<Vec<u8>> = checkpoints.iter().map(|c| c.state.encode()).collect();
    let files = checkpoints.iter().zip(&states).flat_map(|(checkpoint, state)| {
        let dir = folder_of(checkpoint.state.step);
        let file = move |name: &str, bytes| (format!("{dir}/{name}"), bytes);
        [
            file(MODEL_FILE, checkpoint.model.as_slice()),
            file(OPTIMIZER_FILE, &checkpoint.optimizer),
            file(STATE, state),
        ]
    });
    let files: Vec<(String, &[u8])> = files.collect();
    let listed = |(path, bytes): &(String, &[u8])| FolderFile {
        path: path.clone(),
        executable: false,
        bytes: bytes.len() as u64,
    };
    let mut packed = folder::encode_listing(&files.iter().map(listed).collect::<Vec<_>>())?;
    packed.reserve(files.iter().map(|(_, bytes)| bytes.len()).sum());
    files.iter().for_each(|(_, bytes)| packed.extend_from_slice(bytes));
    Ok(packed)
}

/// The steps of the checkpoints in a packed folder, ascending.
///
/// # Errors
/// [`CheckpointError`] when it is not a folder of checkpoints.
pub fn steps_in(packed: &[u8]) -> Result<Vec<u64>, CheckpointError> {
    let files = folder::listing(&mut &packed[..])?;
    Ok(files.iter().filter_map(step_of).collect())
}

/// The name under which a checkpoint's state is signed.
pub fn state_name(step: u64) -> String {
    format!("{}.{STATE}", folder_of(step))
}

/// The states of the checkpoints in a packed folder as they stand there, by step, ascending.
///
/// # Errors
/// [`CheckpointError`] when it is not a folder of checkpoints.
pub fn states_in(packed: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, CheckpointError> {
    let mut states = Vec::new();
    folder::read(&mut &packed[..], |file, contents| {
        if let Some(step) = step_of(file) {
            let mut bytes = Vec::new();
            contents.take(MAX_STATE_BYTES).read_to_end(&mut bytes).map_err(FolderError::Source)?;
            states.push((step, bytes));
        }
        Ok(())
    })?;
    Ok(states)
}

/// The step whose state a file is.
fn step_of(file: &FolderFile) -> Option<u64> {
    file.path.strip_suffix(STATE)?.strip_suffix('/')?.strip_prefix("step-")?.parse().ok()
}

/// The checkpoint of a step, out of a packed folder.
///
/// # Errors
/// [`CheckpointError`].
pub fn unpack(packed: &[u8], step: u64) -> Result<Checkpoint, CheckpointError> {
    let dir = folder_of(step);
    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let total = packed.len() as u64;
    folder::read(&mut &packed[..], |file, contents| {
        let name = file.path.strip_prefix(&dir).and_then(|rest| rest.strip_prefix('/'));
        if let Some(name) = name {
            let limit = if name == STATE { MAX_STATE_BYTES } else { total };
            let mut bytes = Vec::new();
            contents.take(limit).read_to_end(&mut bytes).map_err(FolderError::Source)?;
            found.insert(name.to_owned(), bytes);
        }
        Ok(())
    })?;
    whole(step, found)
}

/// Reads every checkpoint of a packed folder in turn, ascending by step; one is in memory at a time.
///
/// # Errors
/// [`CheckpointError`] when it is not a folder of checkpoints and nothing else; and what `each` returns.
pub fn each_in<E: From<CheckpointError>>(
    packed: &[u8],
    mut each: impl FnMut(Checkpoint) -> Result<(), E>,
) -> Result<(), E> {
    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut answer = Ok(());
    let total = packed.len() as u64;
    let read = folder::read(&mut &packed[..], |file, contents| {
        if answer.is_err() {
            return Ok(());
        }
        let Some((step, name)) = part_of(file) else {
            answer = Err(CheckpointError::Stray { path: file.path.clone() }.into());
            return Ok(());
        };
        let mut bytes = Vec::new();
        let limit = if name == STATE { MAX_STATE_BYTES } else { total };
        contents.take(limit).read_to_end(&mut bytes).map_err(FolderError::Source)?;
        found.insert(name.to_owned(), bytes);
        // The state is the last file of each folder.
        if name == STATE {
            answer = whole(step, std::mem::take(&mut found)).map_err(E::from).and_then(&mut each);
        }
        Ok(())
    });
    read.map_err(CheckpointError::from)?;
    answer?;
    match found.into_keys().next() {
        None => Ok(()),
        Some(path) => Err(CheckpointError::Stray { path }.into()),
    }
}

/// The step whose checkpoint a file is a part of, and which part.
fn part_of(file: &FolderFile) -> Option<(u64, &str)> {
    let (dir, name) = file.path.split_once('/')?;
    let step = dir.strip_prefix("step-")?.parse().ok()?;
    (folder_of(step) == dir && [MODEL_FILE, OPTIMIZER_FILE, STATE].contains(&name)).then_some((step, name))
}

/// The checkpoint of a step, of the files of its folder.
fn whole(step: u64, mut found: BTreeMap<String, Vec<u8>>) -> Result<Checkpoint, CheckpointError> {
    let mut take = |file: &'static str| found.remove(file).ok_or(CheckpointError::Missing { step, file });
    let checkpoint = Checkpoint::open(&take(STATE)?, take(MODEL_FILE)?, take(OPTIMIZER_FILE)?)?;
    match checkpoint.state.step {
        of if of == step => Ok(checkpoint),
        of => Err(CheckpointError::OtherStep { folder: step, step: of }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        Checkpoint::new(7, "train", step, vec![1, step as u8], vec![2; 5])
    }

    #[test]
    fn checkpoints_are_found_by_their_step() {
        let packed = pack(&[checkpoint(5), checkpoint(120)]).unwrap();
        assert_eq!(steps_in(&packed).unwrap(), [5, 120]);
        assert_eq!(unpack(&packed, 120).unwrap(), checkpoint(120));
        assert!(matches!(unpack(&packed, 6), Err(CheckpointError::Missing { step: 6, file: STATE })));
        let all = |packed: &[u8]| {
            let mut all = Vec::new();
            each_in(packed, |checkpoint| -> Result<(), CheckpointError> {
                all.push(checkpoint);
                Ok(())
            })
            .map(|()| all)
        };
        assert_eq!(all(&packed).unwrap(), [checkpoint(5), checkpoint(120)]);
        for end in 0..packed.len() {
            assert!(unpack(&packed[..end], 120).is_err() && all(&packed[..end]).is_err(), "prefix {end}");
        }
        // One in the folder of another step.
        let name = |packed: &[u8], from: &[u8], to: &[u8]| {
            let at = |bytes: &[u8]| bytes.windows(from.len()).position(|window| window == from);
            let mut packed = packed.to_vec();
            while let Some(at) = at(&packed) {
                packed[at..at + from.len()].copy_from_slice(to);
            }
            packed
        };
        let moved = name(&packed, b"step-000000000120", b"step-000000000121");
        let other = |error| matches!(error, CheckpointError::OtherStep { folder: 121, step: 120 });
        assert!(unpack(&moved, 121).is_err_and(other) && all(&moved).is_err_and(other));
        // A file that is no part of one.
        let stray = name(&packed, b"step-000000000120", b"stop-000000000120");
        assert!(all(&stray).is_err_and(|error| matches!(error, CheckpointError::Stray { .. })));
    }

    #[test]
    fn what_was_hashed_is_what_is_loaded() {
        let whole = checkpoint(5);
        let state = whole.state.encode();
        assert_eq!(Checkpoint::open(&state, whole.model.clone(), whole.optimizer.clone()).unwrap(), whole);
        let mut flipped = whole.model.clone();
        flipped[0] ^= 1;
        let error = Checkpoint::open(&state, flipped, whole.optimizer.clone()).unwrap_err();
        assert!(matches!(error, CheckpointError::OtherFile { file: MODEL_FILE, .. }));
        for i in 0..state.len() {
            let mut bad = state.clone();
            bad[i] ^= 1;
            let opened = Checkpoint::open(&bad, whole.model.clone(), whole.optimizer.clone());
            assert!(
                opened.is_err_and(|_| true) || CheckpointState::decode(&bad).unwrap() != whole.state,
                "byte {i}"
            );
        }
    }

    #[test]
    fn those_that_are_kept_are_spread_evenly_and_the_last_is_among_them() {
        let kept = |count, keep| (0..count).filter(|&i| is_kept(i, count, keep)).collect::<Vec<_>>();
        assert_eq!(kept(10, 4), [2, 4, 7, 9]);
        assert_eq!(kept(3, 8), [0, 1, 2]);
        assert_eq!(kept(7, 1), [6]);
        assert_eq!(kept(5, 5), [0, 1, 2, 3, 4]);
    }
}

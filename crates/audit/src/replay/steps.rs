//! Steps of a recorded training, executed again alone: those that are named, or those that an auditor's nonce draws.

use bitproof_core_ledger::Store;
use bitproof_training::sample::Nonce;
use bitproof_training::step_roots::StepRoot;

use super::subject::Subject;
use super::task::Replayer;
use super::training::{Reexecuted, SegmentDifference};
use super::{ReplayError, ReplayRequest};

/// Which steps are to be executed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepsWanted {
    /// Every segment that has a step of this range.
    Range {
        /// The first step, counted from 1.
        first: u64,
        /// The last step.
        last: u64,
    },
    /// Segments that nobody could foresee who fixed the root before the nonce was chosen.
    Sample {
        /// How many.
        count: u64,
        /// What the auditor chose.
        nonce: Nonce,
    },
}

/// What was drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What the auditor chose.
    pub nonce: Nonce,
    /// The segments that were drawn, from 0, ascending.
    pub drawn: Vec<u64>,
}

/// Steps that were executed again.
#[derive(Debug, Clone)]
pub struct StepsReport {
    /// The run's name; the pipeline's, of a manifest.
    pub run: String,
    /// The training.
    pub task: String,
    /// Its step tree.
    pub tree: StepRoot,
    /// What was drawn, if anything was.
    pub sample: Option<Sample>,
    /// The first segment that does not end where the plan's does; nothing is executed then.
    pub other_end: Option<SegmentDifference>,
    /// Every stretch that was executed, ascending.
    pub stretches: Vec<Reexecuted>,
}

impl StepsReport {
    /// The first segment that differs.
    pub fn first_difference(&self) -> Option<&SegmentDifference> {
        self.other_end.as_ref().or_else(|| self.stretches.iter().find_map(|s| s.difference.as_ref()))
    }

    /// How many steps were executed.
    pub fn steps(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.steps).sum()
    }

    /// How many segments were held against their leaves.
    pub fn segments(&self) -> u64 {
        self.stretches.iter().map(|stretch| stretch.segments).sum()
    }

    /// The largest probability with which a run that has a single forged segment escapes such a draw, as a fraction: `(n − K) / n`. Segments on
    /// the way to those that are drawn are checked too, so it may be less.
    pub fn escape(&self) -> Option<(u64, u64)> {
        let sample = self.sample.as_ref()?;
        Some((self.tree.segments - sample.drawn.len() as u64, self.tree.segments))
    }
}

/// Executes steps of a training of a sealed run again, or of one that a manifest tells.
///
/// Each stretch starts from the nearest checkpoint before it, which must be what the leaf of its step says, or from the initial parameters; it
/// ends with a segment, and each segment on the way is held against its leaf.
///
/// # Errors
/// [`ReplayError`]; in particular when the evidence does not verify, which is not a divergence.
#[tracing::instrument(level = "info", skip_all)]
pub fn replay_steps(
    store: Option<&Store>,
    request: &ReplayRequest,
    wanted: &StepsWanted,
) -> Result<StepsReport, ReplayError> {
    let subject = Subject::open(store, request)?;
    let sequence = subject.training(request)?;
    let replayer = Replayer::new(store, &subject, request);
    let tree = replayer.step_tree(sequence)?;
    let (task, pinned) = (subject.entries[sequence].task.to_string(), StepRoot::of(&tree));
    let (segments, sample): (Vec<usize>, _) = match wanted {
        &StepsWanted::Range { first, last } => match (tree.segment_of(first), tree.segment_of(last)) {
            (Some(from), Some(to)) if first <= last => ((from..=to).collect(), None),
            _ => return Err(ReplayError::StepRange { task, first, last, steps: pinned.steps }),
        },
        StepsWanted::Sample { count, .. } if *count > pinned.segments => {
            return Err(ReplayError::SampleSize { task, wanted: *count, segments: pinned.segments });
        }
        StepsWanted::Sample { count, nonce } => {
            let drawn: Vec<u64> = nonce.draw(&pinned.root, pinned.segments, *count).into_iter().collect();
            let segments = drawn.iter().map(|&n| n as usize).collect();
            (segments, Some(Sample { nonce: nonce.clone(), drawn }))
        }
    };
    let training = replayer.training(sequence)?;
    let other_end = training.other_end();
    let mut report = StepsReport {
        run: subject.name.clone(),
        task,
        tree: pinned,
        sample,
        other_end,
        stretches: Vec::new(),
    };
    if report.other_end.is_some() {
        return Ok(report);
    }
    let carriers = training.carriers(request.threads);
    let mut stretches = training.stretches(segments.iter().copied());
    if let (StepsWanted::Range { .. }, [first, .., last]) = (wanted, &mut stretches[..]) {
        // One after the other: what was computed goes on, and no checkpoint on the way is relied on.
        first.last = last.last;
        stretches.truncate(1);
    }
    for stretch in stretches {
        report.stretches.push(training.execute(stretch, &carriers, &|| request.cancel.is_cancelled())?);
    }
    Ok(report)
}

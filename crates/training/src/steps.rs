//! The step tree: what a training was at the end of every segment of its steps, so that any segment can be executed again alone.
//! `docs/formats/steps.md` is normative.

use bincode::{Decode, Encode};
use bitproof_core_ledger::canon::{self, CanonError};
use bitproof_core_ledger::digest::{BatchesKind, Digest, LossesKind, MomentsKind, ParametersKind};
use bitproof_core_ledger::merkle::{FullTree, Hash};
use bitproof_kernels::StreamKey;

use crate::optimizer::Optimizer;
use crate::params::ParamSet;

/// The most segments of a training.
pub const MAX_SEGMENTS: u64 = 1 << 18;
/// The most steps of a training.
pub const MAX_STEPS: u64 = 1 << 40;
const MAGIC: [u8; 8] = *b"BPSTEP1\0";

/// What a training was at the end of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Segment {
    /// Its last step, counted from 1.
    pub end: u64,
    /// Which rows each step took, and the streams of its shards.
    pub batches: Digest<BatchesKind>,
    /// The loss and the norm of the gradient at each step.
    pub losses: Digest<LossesKind>,
    /// The parameters after its last step.
    pub parameters: Digest<ParametersKind>,
    /// What the optimizer remembers after its last step.
    pub moments: Digest<MomentsKind>,
}

/// A part of a segment, in the order in which a step works them out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentPart {
    /// Which rows and streams were used.
    Batches,
    /// What was computed from them.
    Losses,
    /// What the optimizer remembers of the gradients.
    Moments,
    /// What it made of the parameters.
    Parameters,
}

impl SegmentPart {
    /// What it is, in words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Batches => "the choice of the batch",
            Self::Losses => "the forward or backward pass",
            Self::Moments => "the optimizer's moments",
            Self::Parameters => "the update of the parameters",
        }
    }
}

impl Segment {
    /// The first part in which two differ.
    pub fn first_difference(&self, other: &Self) -> Option<SegmentPart> {
        let parts = [
            (self.batches != other.batches, SegmentPart::Batches),
            (self.losses != other.losses, SegmentPart::Losses),
            (self.moments != other.moments, SegmentPart::Moments),
            (self.parameters != other.parameters, SegmentPart::Parameters),
        ];
        parts.into_iter().find_map(|(differs, part)| differs.then_some(part))
    }
}

/// What is noted of the steps of a segment until it ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenSegment {
    batches: Vec<u8>,
    losses: Vec<u8>,
}

impl OpenSegment {
    pub(crate) fn note_batch(&mut self, step: u64, rows: &[u32], keys: &[StreamKey]) {
        let keys: Vec<[u8; 8]> = keys.iter().map(|key| key.to_bytes()).collect();
        self.batches.extend(canon::encode(&(step, rows, keys)));
    }

    pub(crate) fn note_loss(&mut self, step: u64, loss: f64, count: u64, norm: f64) {
        self.losses.extend(canon::encode(&(step, loss.to_bits(), count, norm.to_bits())));
    }

    /// Ends the segment with its last step.
    pub(crate) fn close(&mut self, end: u64, params: &ParamSet, optimizer: &Optimizer) -> Segment {
        let Self { batches, losses } = std::mem::take(self);
        Segment {
            end,
            batches: Digest::of_bytes(&batches),
            losses: Digest::of_bytes(&losses),
            parameters: Digest::of_floats([params.values()]),
            moments: moments_digest(optimizer),
        }
    }
}

/// The digest of what an optimizer remembers.
pub(crate) fn moments_digest(optimizer: &Optimizer) -> Digest<MomentsKind> {
    Digest::of_floats(optimizer.moments().iter().map(ParamSet::values))
}

/// Where the segments of a training end: at every multiple of `leaf_every` and of `checkpoint_every` (0 for none), and at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundaries {
    /// How many steps there are.
    pub steps: u64,
    /// After how many steps a segment ends.
    pub leaf_every: u64,
    /// After how many steps there is a checkpoint; 0 for one at the end alone.
    pub checkpoint_every: u64,
}

impl Boundaries {
    /// Whether a segment ends with this step.
    pub fn ends_with(&self, step: u64) -> bool {
        step == self.steps || self.checkpoint_at(step) || step.is_multiple_of(self.leaf_every.max(1))
    }

    /// Whether there is a checkpoint after this step.
    pub fn checkpoint_at(&self, step: u64) -> bool {
        step == self.steps || (self.checkpoint_every > 0 && step.is_multiple_of(self.checkpoint_every))
    }

    /// The last step of each segment, ascending.
    pub fn ends(self) -> impl Iterator<Item = u64> {
        let next = move |after: u64| {
            let multiple = |every: u64| (after / every + 1).saturating_mul(every);
            let checkpoint =
                if self.checkpoint_every == 0 { self.steps } else { multiple(self.checkpoint_every) };
            (after < self.steps).then(|| multiple(self.leaf_every.max(1)).min(checkpoint).min(self.steps))
        };
        std::iter::successors(next(0), move |&end| next(end))
    }

    /// How many segments there are.
    pub fn segments(&self) -> u64 {
        let a = self.leaf_every.max(1);
        let last = self.steps.saturating_sub(1);
        let only_checkpoints =
            last.checked_div(self.checkpoint_every).map_or(0, |n| n - last / lcm(a, self.checkpoint_every));
        u64::from(self.steps > 0) + last / a + only_checkpoints
    }
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x).saturating_mul(b)
}

/// After how many steps a segment ends, so that its digests cost about a twenty-fifth of its work or less.
///
/// A digest covers 4 bytes for each parameter and each of its `moments`; a step takes about three times the `multiply_adds` of a forward
/// pass over its batch. BLAKE3 takes for a byte what the processor of `docs/benchmarks.md` takes for some 16 multiply-adds of a matrix
/// product: `⌈16 · 25 · bytes / (3 · multiply_adds)⌉`. A function of the model and the batch alone, never of a clock.
pub fn leaf_interval(parameters: u64, moments: u64, multiply_adds: u64) -> u64 {
    let bytes = u128::from(parameters) * 4 * (1 + u128::from(moments));
    let work = (3 * u128::from(multiply_adds)).max(1);
    u64::try_from((16 * 25 * bytes).div_ceil(work)).unwrap_or(u64::MAX).clamp(1, MAX_STEPS)
}

/// The segments of a training with the tree over them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepTree {
    segments: Vec<Segment>,
    tree: FullTree,
}

/// Bytes that are not the segments of a training.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepsError {
    /// The magic number is another.
    #[error("not the segments of a training: another magic number")]
    Magic,
    /// It cannot be decoded.
    #[error("the segments of a training: {0}")]
    Canon(#[from] CanonError),
    /// A segment does not end after the one before it.
    #[error("segment {index} ends with step {end}, which is not after the one before it")]
    Order {
        /// The segment, from 0.
        index: usize,
        /// Its last step.
        end: u64,
    },
    /// There are more than [`MAX_SEGMENTS`].
    #[error("{got} segments; the limit is {MAX_SEGMENTS}")]
    TooMany {
        /// How many there are.
        got: u64,
    },
}

impl StepTree {
    /// Appends a segment.
    pub fn push(&mut self, segment: Segment) {
        self.tree.push(&canon::encode(&segment));
        self.segments.push(segment);
    }

    /// The segments in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The root of the RFC 6962 tree whose leaves are the canonical bytes of the segments.
    pub fn root(&self) -> Hash {
        self.tree.root_at(self.tree.size()).expect("the tree has as many leaves as it has")
    }

    /// The segment in which a step lies, counted from 0.
    pub fn segment_of(&self, step: u64) -> Option<usize> {
        let index = self.segments.partition_point(|segment| segment.end < step);
        (step > 0 && index < self.segments.len()).then_some(index)
    }

    /// The first step of a segment.
    pub fn first_step(&self, index: usize) -> u64 {
        index.checked_sub(1).map_or(1, |before| self.segments[before].end + 1)
    }

    /// The first segment, from 0, that does not end where the plan's does, with the last step of the plan's; `None` there when the plan has
    /// fewer segments.
    pub fn other_end(&self, planned: Boundaries) -> Option<(usize, Option<u64>)> {
        let mut ends = planned.ends();
        for (index, segment) in self.segments.iter().enumerate() {
            let end = ends.next();
            if end != Some(segment.end) {
                return Some((index, end));
            }
        }
        ends.next().map(|end| (self.segments.len(), Some(end)))
    }

    /// The first segment in which two trainings differ, with the number of subtrees that were compared: where two subtrees have one root,
    /// nothing below them is looked at. `None` when neither has a segment that the other has not.
    pub fn first_difference(&self, other: &Self) -> (Option<usize>, u32) {
        let common = self.tree.size().min(other.tree.size());
        let mut compared = 0;
        let mut same = |tree_size: u64| {
            compared += 1;
            self.tree.root_at(tree_size) == other.tree.root_at(tree_size)
        };
        // The root of the first n leaves binds all of them, so equality is monotone in n.
        let (mut low, mut high) = (0, common + 1);
        if same(common) {
            let longer = self.tree.size() != other.tree.size();
            return (longer.then_some(common as usize), compared);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if middle <= common && same(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        (Some(low as usize), compared)
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        [MAGIC.as_slice(), &canon::encode(&self.segments)].concat()
    }

    /// Reads what [`StepTree::encode`] wrote.
    ///
    /// # Errors
    /// [`StepsError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, StepsError> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(StepsError::Magic)?;
        let segments: Vec<Segment> = canon::decode(rest)?;
        Self::of(segments)
    }

    /// The tree of segments that end one after the other.
    ///
    /// # Errors
    /// [`StepsError::Order`], [`StepsError::TooMany`].
    pub fn of(segments: Vec<Segment>) -> Result<Self, StepsError> {
        if segments.len() as u64 > MAX_SEGMENTS {
            return Err(StepsError::TooMany { got: segments.len() as u64 });
        }
        let mut tree = Self::default();
        let mut before = 0;
        for (index, segment) in segments.into_iter().enumerate() {
            if segment.end <= before {
                return Err(StepsError::Order { index, end: segment.end });
            }
            before = segment.end;
            tree.push(segment);
        }
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(end: u64, seed: u8) -> Segment {
        Segment {
            end,
            batches: Digest::of_bytes(&[seed, 0]),
            losses: Digest::of_bytes(&[seed, 1]),
            parameters: Digest::of_bytes(&[seed, 2]),
            moments: Digest::of_bytes(&[seed, 3]),
        }
    }

    fn tree(n: u64, forged_from: u64) -> StepTree {
        let segments = (1..=n).map(|i| segment(i * 5, if i > forged_from { 99 } else { i as u8 }));
        StepTree::of(segments.collect()).unwrap()
    }

    #[test]
    fn segments_are_counted_as_they_end() {
        for (steps, leaf_every, checkpoint_every) in [
            (1, 1, 0),
            (10, 3, 0),
            (12, 3, 0),
            (50, 7, 10),
            (50, 5, 10),
            (50, 50, 7),
            (9, 100, 100),
            (20, 1, 5),
        ] {
            let at = Boundaries { steps, leaf_every, checkpoint_every };
            let counted = (1..=steps).filter(|&step| at.ends_with(step)).count() as u64;
            assert_eq!(at.segments(), counted, "{at:?}");
            assert!(at.ends().eq((1..=steps).filter(|&step| at.ends_with(step))), "{at:?}");
            assert!(at.checkpoint_at(steps) && (1..=steps).all(|s| !at.checkpoint_at(s) || at.ends_with(s)));
        }
    }

    #[test]
    fn ends_that_are_not_the_plans_are_told() {
        let planned = |steps, leaf_every| Boundaries { steps, leaf_every, checkpoint_every: 0 };
        let tree = tree(4, 4);
        assert_eq!(tree.other_end(planned(20, 5)), None);
        assert_eq!(tree.other_end(planned(20, 10)), Some((0, Some(10))));
        assert_eq!(tree.other_end(planned(18, 5)), Some((3, Some(18))));
        assert_eq!(tree.other_end(planned(15, 5)), Some((3, None)));
        assert_eq!(tree.other_end(planned(21, 5)), Some((4, Some(21))));
    }

    #[test]
    fn the_interval_weighs_the_digest_against_the_work() {
        // The MLP of the benchmark, batch 64: 235,146 parameters and a velocity each.
        assert_eq!(leaf_interval(235_146, 1, 64 * 234_752), 17);
        // A transformer uses each parameter for every token.
        assert_eq!(leaf_interval(809_856, 2, 32 * 64 * 800_000), 1);
        assert_eq!(leaf_interval(0, 0, 0), 1);
        assert!(leaf_interval(1_000, 2, 1_000) > leaf_interval(1_000, 2, 2_000));
    }

    #[test]
    fn the_first_difference_is_found_with_few_comparisons() {
        for n in [1u64, 2, 7, 64, 1000] {
            let honest = tree(n, n);
            assert_eq!(honest.first_difference(&honest.clone()), (None, 1));
            for at in [0, n / 3, n - 1] {
                let (found, compared) = honest.first_difference(&tree(n, at));
                assert_eq!(found, Some(at as usize), "{at} of {n}");
                assert!(compared <= 2 + n.ilog2() + 1, "{compared} comparisons of {n}");
            }
            assert_eq!(honest.first_difference(&tree(n + 1, n + 1)).0, Some(n as usize), "one goes on");
        }
    }

    #[test]
    fn bytes_round_trip_and_others_are_refused() {
        let tree = tree(3, 3);
        let bytes = tree.encode();
        assert_eq!(StepTree::decode(&bytes).unwrap(), tree);
        for end in 0..bytes.len() {
            assert!(StepTree::decode(&bytes[..end]).is_err(), "prefix {end}");
        }
        let back = StepTree::of(vec![segment(5, 1), segment(5, 2)]);
        assert_eq!(back, Err(StepsError::Order { index: 1, end: 5 }));
        assert_eq!((tree.segment_of(0), tree.segment_of(5), tree.segment_of(6)), (None, Some(0), Some(1)));
        assert_eq!((tree.segment_of(16), tree.first_step(0), tree.first_step(2)), (None, 1, 11));
    }

    #[test]
    fn the_first_part_that_differs_is_told() {
        let (a, b) = (segment(5, 1), segment(5, 2));
        assert_eq!(a.first_difference(&b), Some(SegmentPart::Batches));
        assert_eq!(a.first_difference(&a.clone()), None);
        let forged = Segment { parameters: b.parameters, ..a.clone() };
        assert_eq!(a.first_difference(&forged), Some(SegmentPart::Parameters));
    }
}

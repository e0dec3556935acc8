//! Two honest trainings that part: made side by side, step by step, until something has other bits.

use bitproof_core_ledger::digest::{Content, Digest};
use bitproof_training::params::ParamSet;
use bitproof_training::shard::Carriers;
use bitproof_training::trainable::Traced;
use bitproof_training::trainer::{TrainError, Trainer};

use super::training::RecordedTraining;
use super::{ReplayError, ReplayRequest};

/// What differs first between two trainings that both are what their plans compute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The models have other tensors.
    Shapes(String),
    /// They begin with other parameters.
    Initial(OtherValue),
    /// An operation of a shard.
    Operation {
        /// The step, from 1.
        step: u64,
        /// The shard, from 0.
        shard: u32,
        /// The operation in the first training; in the second, where the first makes none here.
        operation: String,
        /// Its first element with other bits; `None` where the two make other operations.
        value: Option<OtherValue>,
    },
    /// What the optimizer remembers after a step.
    Moments {
        /// The step, from 1.
        step: u64,
        /// Which moment, of which parameter.
        value: OtherValue,
    },
    /// The parameters after a step.
    Update {
        /// The step, from 1.
        step: u64,
        /// Which parameter.
        value: OtherValue,
    },
    /// Rows, streams or losses that gave the same values.
    Nothing,
}

/// An element with other bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherValue {
    /// The tensor; empty for what an operation gave.
    pub tensor: String,
    /// Which element of it, row-major from 0.
    pub element: usize,
    /// The bits of the f32 in each; `None` where it has fewer elements.
    pub bits: [Option<u32>; 2],
}

/// What differs first in a segment up to which both trainings are the same.
pub(super) fn first_cause(
    trainings: [&RecordedTraining; 2],
    segment: usize,
    request: &ReplayRequest,
) -> Result<Option<Cause>, ReplayError> {
    let (first_step, last_step) =
        (trainings[0].tree.first_step(segment), trainings[0].tree.segments()[segment].end);
    let mut sides = Vec::new();
    for training in trainings {
        let from = training.stretches([segment])[0].from;
        let mut side =
            Side { training, trainer: training.at(from)?, carriers: training.carriers(request.threads) };
        while side.trainer.steps_made() + 1 < first_step {
            side.step(request)?;
        }
        sides.push(side);
    }
    let [a, b] = &mut sides[..] else { unreachable!("there are two trainings") };
    if let Err(error) = a.trainer.params().layout().check(b.trainer.params().layout()) {
        return Ok(Some(Cause::Shapes(error.to_string())));
    }
    // Up to here their leaves are the same, but for what comes before the first one.
    if let Some(value) = other_parameter(a.trainer.params(), b.trainer.params(), "") {
        return Ok(Some(Cause::Initial(value)));
    }
    for step in first_step..=last_step {
        if let Some(cause) = other_operation(step, a, b)? {
            return Ok(Some(cause));
        }
        a.step(request)?;
        b.step(request)?;
        let moments = a.trainer.optimizer().moments().iter().zip(b.trainer.optimizer().moments());
        for (index, (ours, theirs)) in moments.enumerate() {
            let name =
                a.training.training.config().optimizer.moments().get(index).copied().unwrap_or("moment");
            if let Some(value) = other_parameter(ours, theirs, name) {
                return Ok(Some(Cause::Moments { step, value }));
            }
        }
        if let Some(value) = other_parameter(a.trainer.params(), b.trainer.params(), "") {
            return Ok(Some(Cause::Update { step, value }));
        }
    }
    Ok(Some(Cause::Nothing))
}

/// One of the two.
struct Side<'a> {
    training: &'a RecordedTraining,
    trainer: Trainer<'a>,
    carriers: Carriers,
}

impl Side<'_> {
    fn error(&self, error: &TrainError) -> ReplayError {
        ReplayError::Infrastructure { task: self.training.task.clone(), message: error.to_string() }
    }

    fn step(&mut self, request: &ReplayRequest) -> Result<(), ReplayError> {
        if request.cancel.is_cancelled() {
            return Err(ReplayError::Cancelled);
        }
        let (trainer, carriers) = (&mut self.trainer, &self.carriers);
        let made = carriers.within(|| trainer.step(carriers));
        made.map(drop).map_err(|e| self.error(&e))
    }

    fn trace(&mut self, mut see: impl FnMut(u32, Traced<'_>) + Send) -> Result<(), ReplayError> {
        let (trainer, carriers) = (&mut self.trainer, &self.carriers);
        let made = carriers.within(|| trainer.trace_next(&mut see));
        made.map_err(|e| self.error(&e))
    }

    /// Which shard and operation come at a place of the trace, and what the operation gives.
    fn operation(&mut self, place: usize) -> Result<Option<(u32, String, Vec<f32>)>, ReplayError> {
        let (mut seen, mut found) = (0, None);
        self.trace(|shard, traced| {
            if seen == place {
                found = Some((shard, traced.operation.to_owned(), traced.values.to_vec()));
            }
            seen += 1;
        })?;
        Ok(found)
    }
}

/// The first operation of the next step that gives other bits. Of the first training no more than a digest of each is kept.
fn other_operation(step: u64, a: &mut Side<'_>, b: &mut Side<'_>) -> Result<Option<Cause>, ReplayError> {
    let digest = |shard: u32, traced: &Traced<'_>| (shard, Digest::<Content>::of_floats([traced.values]));
    let mut digests = Vec::new();
    a.trace(|shard, traced| digests.push(digest(shard, &traced)))?;
    let (mut seen, mut place) = (0, None);
    b.trace(|shard, traced| {
        if place.is_none() && digests.get(seen) != Some(&digest(shard, &traced)) {
            place = Some(seen);
        }
        seen += 1;
    })?;
    let place = place.or((seen < digests.len()).then_some(seen));
    let Some(place) = place else { return Ok(None) };
    let (ours, theirs) = (a.operation(place)?, b.operation(place)?);
    let value = match (&ours, &theirs) {
        (Some((_, _, ours)), Some((_, _, theirs))) => other_value(ours, theirs, String::new()),
        _ => None,
    };
    let named = ours.or(theirs).map(|(shard, operation, _)| (shard, operation));
    Ok(named.map(|(shard, operation)| Cause::Operation { step, shard, operation, value }))
}

/// The first parameter with other bits, in the order of the names.
fn other_parameter(a: &ParamSet, b: &ParamSet, of: &str) -> Option<OtherValue> {
    let entries = a.layout().entries().iter().enumerate();
    entries
        .filter_map(|(index, entry)| {
            let dot = if of.is_empty() { "" } else { "." };
            other_value(a.tensor(index), b.tensor(index), format!("{of}{dot}{}", entry.name))
        })
        .next()
}

fn other_value(a: &[f32], b: &[f32], tensor: String) -> Option<OtherValue> {
    let bits = |values: &[f32], element: usize| values.get(element).map(|x| x.to_bits());
    let element = (0..a.len().max(b.len())).find(|&i| bits(a, i) != bits(b, i))?;
    Some(OtherValue { tensor, element, bits: [bits(a, element), bits(b, element)] })
}

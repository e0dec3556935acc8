//! What a training recorded of itself on the way: its segments and checkpoints fit each other, the plan and the model.

use bitproof_core_ledger::note::NoteKey;
use bitproof_core_ledger::objects::ObjectId;
use bitproof_scheduler::ledger::{Entry, LedgerView, Outcome};
use bitproof_scheduler::{Plan, PlannedTask};
use bitproof_training::checkpoint::{each_in, state_name, Checkpoint, CheckpointError};
use bitproof_training::run_folder::{RunFolder, CHECKPOINTS};
use bitproof_training::stages::{self, Training};
use bitproof_training::steps::StepTree;

use super::{recorded_inputs, Verifier};
use crate::reach::object_path;

impl Verifier<'_> {
    /// Checks every training of a run that came to its end.
    pub(super) fn trainings(
        &mut self,
        folder: &RunFolder,
        ledger: &LedgerView,
        ledger_path: &str,
        keys: &[NoteKey],
    ) {
        for (task, entry) in folder.plan.tasks().zip(&ledger.entries) {
            let current = stages::native(stages::TRAIN);
            let done = matches!(entry.outcome, Outcome::Done { .. });
            if !done || task.spec.code.native().is_none_or(|native| *native != current) {
                continue;
            }
            let outputs = [stages::STEPS, stages::CHECKPOINTS, stages::MODEL].map(|name| entry.output(name));
            let [Some(steps), Some(checkpoints), Some(model)] = outputs else {
                let expected = format!("steps, checkpoints and a model of task {}", entry.task);
                self.find("steps", ledger_path, None, expected, "fewer outputs".to_owned());
                continue;
            };
            let Some(tree) = self.segments(&folder.plan, ledger, task, &steps) else { continue };
            self.checkpoints(folder, entry, &tree, &checkpoints, keys, model);
        }
    }

    /// The segments must be readable, and end where the plan's do.
    fn segments(
        &mut self,
        plan: &Plan,
        ledger: &LedgerView,
        task: PlannedTask<'_>,
        steps: &ObjectId,
    ) -> Option<StepTree> {
        let bytes = self.object(steps)?;
        let path = object_path(steps);
        let tree = match StepTree::decode(&bytes) {
            Ok(tree) => tree,
            Err(error) => {
                let expected = format!("the segments of task {}", task.spec.id);
                self.find("steps", &path, None, expected, error.to_string());
                return None;
            }
        };
        // Epochs and the rule for the interval need the data; what is not kept is not asked for.
        let inputs = recorded_inputs(plan, &ledger.entries, &task.spec.inputs)?;
        if !inputs.iter().all(|id| self.objects.contains(id)) {
            return Some(tree);
        }
        let inputs = inputs.iter().map(|id| self.object(id)).collect::<Option<Vec<_>>>()?;
        // A plan that this program does not execute is for a replay to tell.
        if let Ok(training) = Training::of(task.spec, plan.spec().seed, &inputs) {
            if let Some((index, planned)) = tree.other_end(training.config().boundaries) {
                let ends = |end: Option<u64>| {
                    end.map_or("no such segment".to_owned(), |end| format!("one that ends with step {end}"))
                };
                let expected = format!("segment {index} of task {}: {}", task.spec.id, ends(planned));
                let got = ends(tree.segments().get(index).map(|segment| segment.end));
                self.find("steps", &path, None, expected, got);
            }
        }
        Some(tree)
    }

    /// Every checkpoint must be signed, of this training, and what the leaf of its step says; the last one must be the model.
    fn checkpoints(
        &mut self,
        folder: &RunFolder,
        entry: &Entry,
        tree: &StepTree,
        checkpoints: &ObjectId,
        keys: &[NoteKey],
        model: ObjectId,
    ) {
        let Some(packed) = self.object(checkpoints) else { return };
        let path = object_path(checkpoints);
        let mut last: Option<(u64, ObjectId)> = None;
        let read = each_in(&packed, |checkpoint| -> Result<(), CheckpointError> {
            let step = checkpoint.state.step;
            last = Some((step, checkpoint.state.model));
            let file = format!("{CHECKPOINTS}/{}/{}", entry.task, state_name(step));
            self.signature(folder, &file, &checkpoint.state.encode(), keys);
            if let Some(got) = strange(folder, entry, tree, &checkpoint)? {
                let expected =
                    format!("the checkpoint of step {step} of task {}, as its leaf says", entry.task);
                self.find("checkpoint", &path, None, expected, got);
            }
            Ok(())
        });
        if let Err(error) = read {
            let expected = format!("the checkpoints of task {}", entry.task);
            self.find("checkpoint", &path, None, expected, error.to_string());
            return;
        }
        let end = tree.segments().last().map(|segment| segment.end);
        if last.map(|(step, _)| step) != end {
            let step = |step: Option<u64>| step.map_or("none".to_owned(), |step| format!("step {step}"));
            let (expected, got) = (step(end), step(last.map(|(step, _)| step)));
            self.find("checkpoint", &path, None, format!("{expected} as the last checkpoint"), got);
        } else if let Some((step, got)) = last.filter(|(_, got)| *got != model) {
            let expected = format!("the model of the checkpoint of step {step}, {got}");
            self.find("model", &object_path(&model), None, expected, model.to_string());
        }
    }
}

/// In what a checkpoint does not fit the plan or the leaf of its step.
fn strange(
    folder: &RunFolder,
    entry: &Entry,
    tree: &StepTree,
    checkpoint: &Checkpoint,
) -> Result<Option<String>, CheckpointError> {
    let state = &checkpoint.state;
    let stage = folder.plan.tasks().find(|task| task.spec.id == entry.task).map(|task| &task.spec.stage);
    if state.seed != folder.plan.spec().seed || Some(&state.stage) != stage {
        return Ok(Some(format!("one of stage {:?} with seed {}", state.stage, state.seed)));
    }
    let leaf = tree.segment_of(state.step).map(|index| &tree.segments()[index]);
    let Some(leaf) = leaf.filter(|leaf| leaf.end == state.step) else {
        return Ok(Some("no segment ends with its step".to_owned()));
    };
    let (parameters, moments) = checkpoint.digests()?;
    Ok(match (parameters == leaf.parameters, moments == leaf.moments) {
        (true, true) => None,
        (false, _) => Some("other parameters".to_owned()),
        (true, false) => Some("other moments of the optimizer".to_owned()),
    })
}

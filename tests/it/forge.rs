//! A training forged by whoever holds the keys: one weight is changed by its last bit in the middle, and all after it is made from there.

use std::collections::BTreeMap;
use std::fs;

use bitproof_core_ledger::objects::ObjectId;
use bitproof_experiment_graph::MetricSet;
use bitproof_scheduler::ledger::{Entry, Outcome};
use bitproof_scheduler::{action_digest, Cancel, InputSource, ParamValue, Plan, PlannedTask};
use bitproof_tests::{Project, PIPELINE};
use bitproof_training::checkpoint::{pack, unpack, Checkpoint};
use bitproof_training::data::Part;
use bitproof_training::keeper::KeepsNothing;
use bitproof_training::models;
use bitproof_training::run_folder::RunFolder;
use bitproof_training::safetensors;
use bitproof_training::shard::Carriers;
use bitproof_training::stages::{self, StageContext, Training};
use bitproof_training::steps::{Segment, StepTree};

use crate::replay::seal_forged;

/// How many steps a training here has, and after how many there is a checkpoint.
pub(crate) const STEPS: u64 = 60;
pub(crate) const CHECKPOINT_EVERY: u64 = 10;

/// A project whose training has sixty steps and keeps a checkpoint of every tenth.
pub(crate) fn project(leaf_every: u64) -> Project {
    let project = Project::new();
    let keys = format!(
        "steps = {STEPS}, batch = 8, learning_rate = 0.05, leaf_every = {leaf_every}, checkpoint_every = {CHECKPOINT_EVERY}, keep_checkpoints = 6"
    );
    let text = PIPELINE.replace("epochs = 4, batch = 8, learning_rate = 0.05", &keys);
    assert_ne!(text, PIPELINE);
    fs::write(project.path().join("bitproof.toml"), text).unwrap();
    project
}

/// What a training gave.
#[derive(Debug, Clone)]
pub(crate) struct Trained {
    pub(crate) segments: Vec<Segment>,
    pub(crate) checkpoints: Vec<Checkpoint>,
    pub(crate) model: Vec<u8>,
    pub(crate) metrics: Vec<u8>,
}

impl Trained {
    /// What a run recorded.
    pub(crate) fn of(project: &Project, run: &str) -> Self {
        let folder = RunFolder::open(&project.store(), run).unwrap();
        let entry = folder.ledger().unwrap().entries.into_iter().find(|e| e.task.0 == "train").unwrap();
        let output = |name: &str| project.store().objects().get(&entry.output(name).unwrap()).unwrap();
        let packed = output(stages::CHECKPOINTS);
        let steps = (1..=STEPS / CHECKPOINT_EVERY).map(|i| i * CHECKPOINT_EVERY);
        Self {
            segments: StepTree::decode(&output(stages::STEPS)).unwrap().segments().to_vec(),
            checkpoints: steps.map(|step| unpack(&packed, step).unwrap()).collect(),
            model: output(stages::MODEL),
            metrics: output(stages::METRICS),
        }
    }

    /// Its outputs, by name.
    pub(crate) fn outputs(&self) -> Vec<(String, Vec<u8>)> {
        let steps = StepTree::of(self.segments.clone()).unwrap().encode();
        let outputs = [
            (stages::CHECKPOINTS, pack(&self.checkpoints).unwrap()),
            (stages::METRICS, self.metrics.clone()),
            (stages::MODEL, self.model.clone()),
            (stages::STEPS, steps),
        ];
        outputs.map(|(name, bytes)| (name.to_owned(), bytes)).to_vec()
    }
}

/// Changes the first weight by its last bit after `step`, which ends a segment, and makes all after it from there. Verification finds
/// nothing: only whoever executes the segment that ends with `step` again does.
pub(crate) fn forge_weight(project: &Project, run: &str, step: u64) -> String {
    let folder = RunFolder::open(&project.store(), run).unwrap();
    let honest = Trained::of(project, run);
    let task = folder.plan.tasks().find(|task| task.spec.id.0 == "train").unwrap();
    let inputs = contents(project, &folder.plan, &folder.ledger().unwrap().entries, task);
    let seed = folder.plan.spec().seed;
    let real = Training::of(task.spec, seed, &inputs).unwrap();
    let boundaries = real.config().boundaries;
    assert!(boundaries.ends_with(step) && step < STEPS);
    // The same training with a checkpoint at the step, and segments that end as in the real one from there to its next checkpoint.
    let every = if step.is_multiple_of(CHECKPOINT_EVERY) { CHECKPOINT_EVERY } else { boundaries.leaf_every };
    let mut spec = task.spec.clone();
    spec.params.insert("checkpoint_every".to_owned(), ParamValue::Int(every as i64));
    let other = Training::of(&spec, seed, &inputs).unwrap();
    let carriers = Carriers::new(1, real.config().shards);

    let (mut loss, mut count) = (0.0, 0);
    let mut segments: Vec<Segment> = honest.segments.iter().filter(|s| s.end < step).cloned().collect();
    let mut trainer = other.trainer().unwrap();
    while trainer.steps_made() < step {
        let done = trainer.step(&carriers).unwrap();
        (loss, count) = (loss + done.loss, count + done.count);
        if done.step == step {
            let leaf = done.segment.unwrap();
            assert!(honest.segments.contains(&leaf), "up to here it is the honest training");
            let forged = with_other_weight(&trainer.checkpoint().unwrap());
            let (parameters, moments) = forged.digests().unwrap();
            segments.push(Segment { parameters, moments, ..leaf });
            trainer.restore(&forged).unwrap();
        }
    }
    let next = step.next_multiple_of(CHECKPOINT_EVERY);
    while trainer.steps_made() < next {
        let done = trainer.step(&carriers).unwrap();
        (loss, count) = (loss + done.loss, count + done.count);
        segments.extend(done.segment);
    }
    let mut checkpoints: Vec<Checkpoint> =
        honest.checkpoints.iter().filter(|c| c.state.step < next).cloned().collect();
    checkpoints.push(trainer.checkpoint().unwrap());
    let mut trainer = real.trainer().unwrap();
    trainer.restore(checkpoints.last().unwrap()).unwrap();
    while trainer.steps_made() < STEPS {
        let done = trainer.step(&carriers).unwrap();
        (loss, count) = (loss + done.loss, count + done.count);
        segments.extend(done.segment);
        checkpoints.extend(trainer.checkpoint());
    }
    let model = checkpoints.last().unwrap().model.clone();
    let mut metrics = MetricSet::default();
    metrics.push("train/loss", STEPS, loss / count as f64);
    let loaded = models::load(&model).unwrap();
    let valid = Part::decode(&inputs[1]).unwrap();
    let valid = models::evaluate_part(&*loaded.model, &loaded.params, &valid).unwrap().unwrap();
    metrics.push("train/valid_loss", STEPS, valid.loss);
    let forged = Trained { segments, checkpoints, model, metrics: metrics.to_json() };
    assert_eq!(forged.segments.len(), honest.segments.len());
    assert_ne!(forged.model, honest.model);
    seal_trained(project, &folder, &forged.outputs())
}

fn with_other_weight(checkpoint: &Checkpoint) -> Checkpoint {
    let (mut weights, metadata) = safetensors::decode_with_metadata(&checkpoint.model).unwrap();
    let weight = &mut weights.get_mut("0.weight").unwrap().data[0];
    *weight = f32::from_bits(weight.to_bits() + 1);
    let model = safetensors::encode_with_metadata(&weights, &metadata);
    let state = &checkpoint.state;
    Checkpoint::new(state.seed, &state.stage, state.step, model, checkpoint.optimizer.clone())
}

/// Seals a run of the same plan whose training gave these outputs; what comes after it is executed with them.
pub(crate) fn seal_trained(project: &Project, honest: &RunFolder, outputs: &[(String, Vec<u8>)]) -> String {
    let (folder, entries) = trained_entries(project, honest, outputs);
    seal_forged(project, &folder, entries);
    folder.name
}

/// The folder and the entries of such a run.
pub(crate) fn trained_entries(
    project: &Project,
    honest: &RunFolder,
    outputs: &[(String, Vec<u8>)],
) -> (RunFolder, Vec<Entry>) {
    let store = project.store();
    let folder = RunFolder::create(&store, "forged", honest.plan.clone()).unwrap();
    let recorded = honest.ledger().unwrap().entries;
    let mut entries: Vec<Entry> = Vec::new();
    for (task, recorded) in folder.plan.tasks().zip(recorded) {
        let entry = if task.spec.id.0 == "split" {
            recorded
        } else {
            let ids = inputs(&folder.plan, &entries, task);
            let made: BTreeMap<String, Vec<u8>> = if task.spec.id.0 == "train" {
                outputs.iter().cloned().collect()
            } else {
                let inputs = contents(project, &folder.plan, &entries, task);
                let cancel = Cancel::new();
                let context = StageContext { threads: 1, cancel: &cancel, keeper: &KeepsNothing };
                stages::execute(task.spec, folder.plan.spec().seed, &inputs, &context).unwrap()
            };
            let kept = made.into_iter().map(|(name, bytes)| (name, store.objects().put(&bytes).unwrap()));
            let plan = folder.plan.spec();
            let action = Some(action_digest(task.spec, &ids, plan.seed, plan.numerics));
            Entry { action, outcome: Outcome::Done { outputs: kept.collect() }, ..recorded }
        };
        entries.push(entry);
    }
    (folder, entries)
}

fn inputs(plan: &Plan, entries: &[Entry], task: PlannedTask<'_>) -> Vec<ObjectId> {
    let content = |input: &InputSource| match input {
        InputSource::Data(name) => plan.spec().data.iter().find(|d| d.name == *name).unwrap().digest,
        InputSource::Output { task, output } => {
            entries.iter().find(|e| e.task == *task).unwrap().output(output).unwrap()
        }
    };
    task.spec.inputs.iter().map(content).collect()
}

fn contents(project: &Project, plan: &Plan, entries: &[Entry], task: PlannedTask<'_>) -> Vec<Vec<u8>> {
    let objects = project.store().objects();
    inputs(plan, entries, task).iter().map(|id| objects.get(id).unwrap()).collect()
}

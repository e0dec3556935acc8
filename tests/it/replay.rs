//! Replay tells the same run from one that was forged consistently.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use bitproof_audit::{
    bisect, replay, verify, Anchors, Difference, ReplayError, ReplayOf, ReplayOutcome, ReplayReport,
    ReplayRequest, Scope, Side,
};
use bitproof_core_ledger::events::EventBody;
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::objects::ObjectId;
use bitproof_experiment_graph::MetricSet;
use bitproof_scheduler::dispatch::{End, Execution};
use bitproof_scheduler::ledger::{Entry, Failure, Ledger, Outcome};
use bitproof_scheduler::stat_cache::StatCache;
use bitproof_scheduler::{action_digest, Code, InputSource, Native, ParamValue, Plan, PlanSpec};
use bitproof_tests::Project;
use bitproof_training::evidence::{Evidence, Host};
use bitproof_training::governance::Governance;
use bitproof_training::manifest::Manifest;
use bitproof_training::run_folder::{RunFolder, LEDGER};
use bitproof_training::stages;
use bitproof_training::step_roots::step_roots;
use bitproof_training::workflow::{seal, Judgements};

fn replay_run(project: &Project, run: &str) -> ReplayReport {
    replay(Some(&project.store()), &project.replay_request(run)).unwrap()
}

#[test]
fn a_run_replays_to_the_same_root() {
    let project = Project::new();
    let report = project.run(&project.request(&[])).unwrap();
    let replayed = replay_run(&project, &report.run);
    assert_eq!((replayed.outcome, replayed.tasks), (ReplayOutcome::Identical, 4));
    assert_eq!(replayed.ledger_root_replayed, report.ledger_root);
}

/// Seals a run of a changed plan with the outputs that the unchanged plan gave: everything is signed and consistent.
fn forge(project: &Project, change: impl Fn(&mut PlanSpec)) -> String {
    let report = project.run(&project.request(&[])).unwrap();
    let store = project.store();
    let honest = RunFolder::open(&store, &report.run).unwrap();
    let mut spec = honest.plan.spec().clone();
    change(&mut spec);
    let folder = RunFolder::create(&store, "forged", Plan::new(spec).unwrap()).unwrap();
    let recorded = honest.ledger().unwrap();
    let content = |input: &InputSource| match input {
        InputSource::Data(name) => folder.plan.spec().data.iter().find(|d| d.name == *name).unwrap().digest,
        InputSource::Output { task, output } => recorded.entry(task).unwrap().output(output).unwrap(),
    };
    let entry = |task: bitproof_scheduler::PlannedTask<'_>| {
        let inputs: Vec<_> = task.spec.inputs.iter().map(content).collect();
        let plan = folder.plan.spec();
        Entry {
            task: task.spec.id.clone(),
            lane: task.slot.lane,
            tick: task.slot.tick,
            action: Some(action_digest(task.spec, &inputs, plan.seed, plan.numerics)),
            outcome: recorded.entry(&task.spec.id).unwrap().outcome.clone(),
        }
    };
    let entries: Vec<Entry> = folder.plan.tasks().map(entry).collect();
    seal_forged(project, &folder, entries);
    folder.name.clone()
}

/// Writes and signs everything as a run of these entries would.
pub(crate) fn seal_forged(project: &Project, folder: &RunFolder, entries: Vec<Entry>) {
    let recorder = project.recorder();
    let (mut ledger, _) = Ledger::open(&Files::on_disk(), &folder.path(LEDGER), &folder.plan).unwrap();
    ledger.append(&entries).unwrap();
    let planned =
        EventBody::RunPlanned { run: folder.name.clone(), uid: folder.uid, plan: folder.plan.digest() };
    let evidence = Evidence {
        schema: bitproof_training::evidence::SCHEMA.to_owned(),
        run: folder.name.clone(),
        uid: folder.uid_hex(),
        started: String::new(),
        sealed: String::new(),
        host: Host::observe("forger", "test", &StatCache::disabled(NonZeroUsize::MIN)),
        git: None,
        workers: 1,
        threads: 1,
        cached_from: BTreeMap::new(),
        failures: BTreeMap::new(),
        attempts: BTreeMap::new(),
    };
    let (failures, attempts) = (Vec::new(), BTreeMap::new());
    let execution = Execution { entries, failures, attempts, end: End::Complete };
    let mut governance = Governance::before(&folder.plan, None).unwrap();
    let judged = Judgements::default();
    let sealed = seal(&recorder, folder, &execution, &evidence, &mut governance, &judged).unwrap();
    recorder.record(&[planned, sealed]).unwrap();
}

#[test]
fn another_learning_rate_in_a_consistently_remade_plan_diverges_at_the_model() {
    let project = Project::new();
    let run = forge(&project, |spec| {
        let train = spec.tasks.iter_mut().find(|t| t.id.0 == "train").unwrap();
        train.params.insert("learning_rate".to_owned(), ParamValue::float(0.06));
    });
    let verified = verify(&project.store(), &Scope::Run(run.clone()), &Anchors::default()).unwrap();
    assert!(verified.ok(), "the forgery is consistent: {:?}", verified.findings);
    let report = replay_run(&project, &run);
    assert_eq!(report.outcome, ReplayOutcome::Diverged);
    assert_ne!(report.ledger_root_replayed, report.ledger_root_recorded);
    let [only] = report.divergences.as_slice() else {
        panic!("later stages are judged on recorded inputs: {report:?}")
    };
    assert_eq!((only.task.as_str(), only.output.as_deref()), ("train", Some("checkpoints")));
}

#[test]
fn another_version_of_a_stage_is_told_by_its_task() {
    let project = Project::new();
    let run = forge(&project, |spec| {
        let evaluate = spec.tasks.iter_mut().find(|t| t.id.0 == "evaluate").unwrap();
        evaluate.code = Code::Native(Native { kind: "evaluate".to_owned(), version: 99 });
    });
    let report = replay_run(&project, &run);
    assert_eq!(report.outcome, ReplayOutcome::Diverged);
    let replayed = stages::native("evaluate").to_string();
    let expected = Difference::Code { recorded: "evaluate v99".to_owned(), replayed };
    assert_eq!(
        (report.divergences[0].task.as_str(), &report.divergences[0].difference),
        ("evaluate", &expected)
    );
}

#[test]
fn a_run_under_another_specification_of_the_kernels_is_not_replayed() {
    let project = Project::new();
    let run = forge(&project, |spec| spec.numerics = 1);
    let verified = verify(&project.store(), &Scope::Run(run.clone()), &Anchors::default()).unwrap();
    assert!(verified.ok(), "the evidence is whole: {:?}", verified.findings);
    match replay(Some(&project.store()), &project.replay_request(&run)) {
        Err(ReplayError::Numerics { run: refused, recorded: 1, here }) => {
            assert_eq!((refused, here), (run.clone(), bitproof_kernels::SPEC));
        }
        other => panic!("{other:?}"),
    }
    // Where it parts from another run is told all the same.
    let other = project.run(&project.request(&[("train.learning_rate", "0.06")])).unwrap().run;
    let requests = [&run, &other].map(|run| project.replay_request(run));
    let report = bisect(Some(&project.store()), &requests[0], &requests[1]).unwrap();
    assert_eq!(report.parting.unwrap().factors[0].kind, "kernels");
    let training = report.training.unwrap();
    assert!(training.segment.is_some() && training.reexecuted.is_none());
    assert!(training.not_executed.unwrap().contains("version 1 of the kernels' specification"));
}

#[test]
fn a_forged_output_is_told_by_tensor_index_and_bits() {
    use bitproof_training::safetensors::{decode, encode};
    let project = Project::new();
    let report = project.run(&project.request(&[])).unwrap();
    let store = project.store();
    let folder = RunFolder::open(&store, &report.run).unwrap();
    let ledger = folder.ledger().unwrap();
    let model = ledger.entries.iter().find(|e| e.task.0 == "train").unwrap().output("model").unwrap();
    let mut tensors = decode(&store.objects().get(&model).unwrap()).unwrap();
    let weight = &mut tensors.get_mut("0.weight").unwrap().data[3];
    *weight = f32::from_bits(weight.to_bits() ^ 1);
    let forged = store.objects().put(&encode(&tensors)).unwrap();
    // That of the training is held against its checkpoints already by verification.
    let run = forge_outputs(&project, &folder, |entry| {
        if let (true, Outcome::Done { outputs }) = (entry.task.0 == "package", &mut entry.outcome) {
            outputs.iter_mut().find(|(name, _)| name == "model").unwrap().1 = forged;
        }
    });
    let report = replay_run(&project, &run);
    let first = &report.divergences[0];
    assert_eq!((first.task.as_str(), first.output.as_deref()), ("package", Some("model")));
    let Difference::Value { place, recorded: Some(recorded), replayed: Some(replayed), .. } =
        &first.difference
    else {
        panic!("{first:?}")
    };
    assert_eq!(place.to_string(), "tensor 0.weight at [1, 1]");
    let bits = |side: &Side| u32::from_str_radix(side.bits.as_ref().unwrap(), 16).unwrap();
    assert_eq!(bits(recorded) ^ bits(replayed), 1);
}

/// Seals a run of the same plan whose entries were changed, with every action digest made anew.
fn forge_outputs(project: &Project, honest: &RunFolder, change: impl Fn(&mut Entry)) -> String {
    let folder = RunFolder::create(&project.store(), "forged", honest.plan.clone()).unwrap();
    let mut entries = honest.ledger().unwrap().entries;
    entries.iter_mut().for_each(&change);
    let snapshot = entries.clone();
    let output = |task: &bitproof_scheduler::TaskId, output: &str| {
        snapshot.iter().find(|e| e.task == *task).unwrap().output(output).unwrap()
    };
    let plan = folder.plan.spec();
    for (task, entry) in folder.plan.tasks().zip(&mut entries) {
        let inputs: Vec<_> = task
            .spec
            .inputs
            .iter()
            .map(|input| match input {
                InputSource::Data(name) => plan.data.iter().find(|d| d.name == *name).unwrap().digest,
                InputSource::Output { task, output: name } => output(task, name),
            })
            .collect();
        entry.action = Some(action_digest(task.spec, &inputs, plan.seed, plan.numerics));
    }
    seal_forged(project, &folder, entries);
    folder.name.clone()
}

/// What a replay answers to the manifest of an honest run whose entries were changed.
fn replay_told(
    change: impl Fn(&mut Vec<Entry>),
    ask: impl Fn(&mut ReplayRequest),
) -> Result<ReplayReport, ReplayError> {
    let project = Project::new();
    let report = project.run(&project.request(&[])).unwrap();
    let folder = RunFolder::open(&project.store(), &report.run).unwrap();
    let mut entries = folder.ledger().unwrap().entries;
    change(&mut entries);
    let roots = step_roots(&project.store().objects(), &folder.plan, &entries).unwrap();
    let manifest = Manifest::new(&folder.plan, &entries, &MetricSet::default(), &roots);
    let path = project.path().join("told.json");
    std::fs::write(&path, manifest.encode()).unwrap();
    let mut request = project.replay_request(&report.run);
    request.of = ReplayOf::Manifest(path);
    request.data.add(&project.path().join("rows.csv")).unwrap();
    ask(&mut request);
    replay(None, &request)
}

#[test]
fn a_manifest_is_replayed_without_its_store_and_a_forged_one_is_told() {
    let honest = replay_told(|_| (), |_| ()).unwrap();
    assert_eq!((honest.outcome, honest.tasks), (ReplayOutcome::Identical, 4));
    assert_eq!(honest.ledger_root_replayed, honest.ledger_root_recorded);

    let other = |entries: &mut Vec<Entry>| {
        let Outcome::Done { outputs } = &mut entries[1].outcome else { panic!("{entries:?}") };
        outputs.iter_mut().find(|(name, _)| name == "model").unwrap().1 = ObjectId::of_bytes(b"other");
    };
    let refused = replay_told(other, |_| ());
    assert!(
        matches!(refused, Err(ReplayError::Manifest { .. })),
        "its action is of other inputs: {refused:?}"
    );

    let unnamed = |entries: &mut Vec<Entry>| {
        let Outcome::Done { outputs } = &mut entries[0].outcome else { panic!("{entries:?}") };
        outputs.remove(0);
    };
    assert!(matches!(replay_told(unnamed, |_| ()), Err(ReplayError::Misfit(_))));
    let without_inputs =
        |entries: &mut Vec<Entry>| entries[0].outcome = Outcome::Failed { how: Failure::Refused };
    assert!(matches!(replay_told(without_inputs, |_| ()), Err(ReplayError::Misfit(_))));
    let skipped = |entries: &mut Vec<Entry>| {
        let cause = entries[0].task.clone();
        entries[3].outcome = Outcome::Skipped { cause };
        entries[3].action = None;
    };
    assert!(matches!(replay_told(skipped, |_| ()), Err(ReplayError::Misfit(_))));
}

#[test]
fn what_could_not_be_judged_is_no_identity() {
    let unjudged = replay_told(|_| (), |request| request.stage = Some("train".to_owned()));
    let Err(ReplayError::NotJudged { tasks }) = unjudged else { panic!("{unjudged:?}") };
    assert_eq!(tasks, ["train"]);
}

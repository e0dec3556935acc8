//! Steps executed again alone find what no signature shows, and two runs that part are followed to the place.

use std::collections::BTreeSet;
use std::fs;

use bitproof_audit::{
    bisect, replay_steps, stretches, verify, Anchors, BisectReport, Cause, ReplayError, ReplayOf, Scope,
    SegmentFault, StepsReport, StepsWanted,
};
use bitproof_core_ledger::digest::Digest;
use bitproof_core_ledger::events::EventBody;
use bitproof_core_ledger::folder;
use bitproof_core_ledger::inventory::Inventory;
use bitproof_core_ledger::objects::Objects;
use bitproof_core_ledger::signature;
use bitproof_kernels::{Batches, LastBatch};
use bitproof_scheduler::ledger::{ledger_root, result_root, Entry, Ledger, Outcome};
use bitproof_tests::Project;
use bitproof_training::checkpoint::{pack, Checkpoint};
use bitproof_training::data::Part;
use bitproof_training::judge::collect_metrics;
use bitproof_training::manifest::Manifest;
use bitproof_training::run_folder::{RunFolder, CHECKPOINTS, INVENTORY, LEDGER, MANIFEST, SIGNATURE_SUFFIX};
use bitproof_training::sample::Nonce;
use bitproof_training::step_roots::{step_roots, StepRoot, StepRoots};
use bitproof_training::steps::{Segment, SegmentPart, StepTree};
use bitproof_training::streams::{stream_key, Purpose};
use bitproof_training::workflow::closure;

use crate::forge::{forge_weight, project, seal_trained, trained_entries, Trained, CHECKPOINT_EVERY, STEPS};

fn run(project: &Project, overrides: &[(&str, &str)]) -> String {
    project.run(&project.request(overrides)).unwrap().run
}

fn steps(project: &Project, run: &str, first: u64, last: u64) -> StepsReport {
    let wanted = StepsWanted::Range { first, last };
    replay_steps(Some(&project.store()), &project.replay_request(run), &wanted).unwrap()
}

fn sampled(project: &Project, run: &str, count: u64, nonce: &Nonce) -> StepsReport {
    let wanted = StepsWanted::Sample { count, nonce: nonce.clone() };
    replay_steps(Some(&project.store()), &project.replay_request(run), &wanted).unwrap()
}

fn bisected(project: &Project, first: &str, second: &str) -> BisectReport {
    let requests = [first, second].map(|run| project.replay_request(run));
    bisect(Some(&project.store()), &requests[0], &requests[1]).unwrap()
}

fn nonce(number: u64) -> Nonce {
    Digest::<bitproof_core_ledger::digest::Content>::of_bytes(&number.to_le_bytes())
        .to_string()
        .parse()
        .unwrap()
}

/// The checks that found something, without those of the inventory.
fn found(project: &Project, run: &str) -> Vec<&'static str> {
    let report = verify(&project.store(), &Scope::Run(run.to_owned()), &Anchors::default()).unwrap();
    let mut checks: Vec<_> = report.findings.iter().map(|finding| finding.check).collect();
    checks.retain(|check| !matches!(*check, "content" | "size" | "unlisted"));
    checks.dedup();
    checks
}

#[test]
fn a_weight_forged_by_one_bit_is_found_by_whoever_executes_its_segment() {
    for (leaf_every, step) in [(1, 25), (3, 24), (3, 30)] {
        let project = project(leaf_every);
        let honest = run(&project, &[]);
        let forged = forge_weight(&project, &honest, step);
        assert_eq!(found(&project, &forged), [""; 0], "the forgery is consistent");

        let tree = StepTree::of(Trained::of(&project, &honest).segments).unwrap();
        let segment = tree.segment_of(step).unwrap() as u64;
        let report = steps(&project, &forged, step, step);
        let difference = report.first_difference().unwrap();
        assert_eq!((difference.segment, difference.last_step), (segment, step));
        assert_eq!(difference.fault, SegmentFault::Part(SegmentPart::Parameters));
        assert_eq!(difference.step(), (leaf_every == 1).then_some(step));
        assert_eq!(report.stretches[0].stretch.from, (step - 1) / CHECKPOINT_EVERY * CHECKPOINT_EVERY);
        // Whatever does not pass that segment finds nothing.
        let first_step = tree.first_step(segment as usize);
        let after = step.next_multiple_of(CHECKPOINT_EVERY) + 1;
        for (first, last) in [(1, first_step - 1), (after, STEPS)] {
            let report = steps(&project, &forged, first, last);
            assert_eq!(report.first_difference(), None, "{first}..{last} after step {step}");
        }
        let whole = steps(&project, &honest, 1, STEPS);
        assert_eq!((whole.first_difference(), whole.steps()), (None, STEPS), "the control");
        assert_eq!(whole.segments(), whole.tree.segments);

        let report = bisected(&project, &honest, &forged);
        let parting = report.parting.as_ref().unwrap();
        assert_eq!((parting.task.as_str(), parting.factors.len()), ("train", 0));
        let training = report.training.as_ref().unwrap();
        assert_eq!(training.segment.as_ref().unwrap().segment, segment);
        assert!(
            u64::from(training.comparisons)
                <= 3 + u64::from(report.training.as_ref().unwrap().trees[0].segments.ilog2())
        );
        let (culprit, difference) = report.false_record().unwrap();
        assert_eq!(
            (culprit, difference.segment, difference.step()),
            (forged.as_str(), segment, (leaf_every == 1).then_some(step))
        );
        assert_eq!(difference.fault, SegmentFault::Part(SegmentPart::Parameters));
        assert!(
            training.reexecuted.as_ref().unwrap()[0].difference.is_none(),
            "the honest one gives what it recorded"
        );
        assert_eq!(training.cause, None);
        // The same, the other way round; and two honest runs of one plan.
        assert_eq!(bisected(&project, &forged, &honest).false_record().unwrap().0, forged);
        let again = run(&project, &[]);
        let same = bisected(&project, &honest, &again);
        assert!(same.identical() && same.training.is_none(), "{same:?}");
    }
}

/// What a draw leads to, without executing it.
fn checked(tree: &StepTree, nonce: &Nonce, count: u64) -> BTreeSet<usize> {
    let pinned = StepRoot::of(tree);
    let checkpoints: Vec<u64> = (1..=STEPS / CHECKPOINT_EVERY).map(|i| i * CHECKPOINT_EVERY).collect();
    let drawn = nonce.draw(&pinned.root, pinned.segments, count).into_iter().map(|n| n as usize);
    stretches(tree, &checkpoints, drawn).into_iter().flat_map(|s| s.first..=s.last).collect()
}

#[test]
fn a_forged_segment_escapes_a_sample_as_often_as_is_said() {
    let project = project(3);
    let honest = run(&project, &[]);
    // The worst place: the last segment before a checkpoint, which nothing passes on its way.
    let forged = forge_weight(&project, &honest, 30);
    let tree = StepTree::of(Trained::of(&project, &forged).segments).unwrap();
    let segment = tree.segment_of(30).unwrap();
    let (n, count) = (tree.segments().len() as u64, 6);
    assert_eq!(n, 24);
    let draws = 4000u64;
    let escapes =
        |segment: usize| (0..draws).filter(|&i| !checked(&tree, &nonce(i), count).contains(&segment)).count();
    let stated = 1.0 - count as f64 / n as f64;
    let deviation = (stated * (1.0 - stated) / draws as f64).sqrt();
    let rate = |segment| escapes(segment) as f64 / draws as f64;
    assert!((rate(segment) - stated).abs() < 3.0 * deviation, "{} is not {stated}", rate(segment));
    // A segment after a checkpoint is passed on the way to those after it.
    let first = tree.segment_of(21).unwrap();
    assert!(rate(first) < stated - 10.0 * deviation, "{}", rate(first));

    let mut caught = 0;
    for i in 0..30 {
        let nonce = nonce(i);
        let report = sampled(&project, &forged, count, &nonce);
        assert_eq!(report.escape(), Some((18, 24)));
        let passed = checked(&tree, &nonce, count);
        assert_eq!(report.first_difference().is_some(), passed.contains(&segment), "nonce {nonce}");
        if let Some(difference) = report.first_difference() {
            assert_eq!(difference.segment, segment as u64);
            caught += 1;
        } else {
            assert_eq!(report.segments(), passed.len() as u64);
        }
    }
    assert!((1..30).contains(&caught), "{caught} of 30");
    for i in 0..3 {
        assert_eq!(sampled(&project, &honest, 24, &nonce(i)).first_difference(), None, "the control");
    }
    assert!(
        sampled(&project, &forged, 24, &nonce(0)).first_difference().is_some(),
        "nothing escapes a draw of all"
    );
}

#[test]
fn two_honest_runs_are_followed_to_where_they_part() {
    let project = project(1);
    let base = run(&project, &[]);
    let rate = run(&project, &[("train.learning_rate", "0.06")]);
    let report = bisected(&project, &base, &rate);
    let parting = report.parting.as_ref().unwrap();
    let factor = &parting.factors[0];
    assert_eq!(
        (parting.task.as_str(), factor.kind, factor.name.as_str()),
        ("train", "params", "learning_rate")
    );
    assert_eq!((factor.first.as_deref(), factor.second.as_deref()), (Some("0.05"), Some("0.06")));
    let training = report.training.as_ref().unwrap();
    assert_eq!(report.false_record(), None);
    assert_eq!(training.segment.as_ref().unwrap().part, Some(SegmentPart::Parameters));
    match training.cause.as_ref().unwrap() {
        Cause::Update { step: 1, value } => assert_eq!((value.tensor.as_str(), value.element), ("0.bias", 0)),
        other => panic!("{other:?}"),
    }

    let seed = run(&project, &[("pipeline.seed", "8")]);
    let report = bisected(&project, &base, &seed);
    assert_eq!(report.parting.as_ref().unwrap().task, "split");
    assert_eq!(report.parting.as_ref().unwrap().factors[0].kind, "seed");
    assert!(matches!(report.training.unwrap().cause, Some(Cause::Initial(_))));

    // A gradient that is shortened has the same losses and other moments.
    let clipped = run(&project, &[("train.clip_norm", "0.01")]);
    let training = bisected(&project, &base, &clipped).training.unwrap();
    assert_eq!(training.segment.unwrap().part, Some(SegmentPart::Moments));
    match training.cause.unwrap() {
        Cause::Moments { step: 1, value } => assert_eq!(value.tensor, "first_moment.0.bias"),
        other => panic!("{other:?}"),
    }
    // What decides no step leaves the trees as they are.
    let fewer = run(&project, &[("train.keep_checkpoints", "2")]);
    let report = bisected(&project, &base, &fewer);
    assert_eq!(report.parting.unwrap().factors[0].name, "keep_checkpoints");
    let training = report.training.unwrap();
    assert_eq!((training.segment, training.comparisons, training.reexecuted), (None, 1, None));

    // A hidden layer of another width has another tensor.
    let wide = run(&project, &[("train.hidden", "[7]")]);
    assert!(matches!(bisected(&project, &base, &wide).training.unwrap().cause, Some(Cause::Shapes(_))));
    // One that is shorter ends within a segment of nobody.
    let short = run(&project, &[("train.steps", "57")]);
    let training = bisected(&project, &base, &short).training.unwrap();
    assert_eq!((training.segment.unwrap().segment, training.reexecuted), (57, None));
    assert!(training.not_executed.unwrap().contains("it has none"));
}

#[test]
fn another_row_of_data_is_told_by_step_shard_and_operation() {
    let project = project(3);
    let base = run(&project, &[]);
    let part = |run: &str| {
        let folder = RunFolder::open(&project.store(), run).unwrap();
        let entry = folder.ledger().unwrap().entries.into_iter().find(|e| e.task.0 == "split").unwrap();
        match Part::decode(&project.store().objects().get(&entry.output("train").unwrap()).unwrap()).unwrap()
        {
            Part::Examples(examples) => examples.features.clone(),
            Part::Text(_) => panic!("the rows are examples"),
        }
    };
    let before = part(&base);
    let path = project.path().join("rows.csv");
    let rows = fs::read_to_string(&path).unwrap();
    // Any row that is in the train part, and is not of the very first steps.
    let key = stream_key(7, "train", Purpose::Shuffle { epoch: 0 });
    let batch = std::num::NonZeroUsize::new(8).unwrap();
    let batches = Batches::shuffled(before.nrows() as u32, batch, LastBatch::Keep, key);
    let step_of = |row: usize| {
        let step = (0..batches.len()).find(|&i| batches.get(i).unwrap().contains(&(row as u32))).unwrap();
        let place = batches.get(step).unwrap().iter().position(|&r| r as usize == row).unwrap();
        (step as u64 + 1, place)
    };
    let (row, (step, place)) =
        (0..before.nrows()).map(|row| (row, step_of(row))).find(|(_, (step, _))| *step == 5).unwrap();
    let old = format!("{},{},", before[[row, 0]], before[[row, 1]]);
    assert_eq!(rows.matches(&format!("\n{old}")).count(), 1, "{old:?}");
    fs::write(
        &path,
        rows.replace(&format!("\n{old}"), &format!("\n{},{},", before[[row, 0]] + 0.0625, before[[row, 1]])),
    )
    .unwrap();
    let other = run(&project, &[]);
    assert_ne!(part(&other), before);

    let report = bisected(&project, &base, &other);
    let parting = report.parting.as_ref().unwrap();
    assert_eq!(
        (parting.task.as_str(), parting.factors[0].kind, parting.factors[0].name.as_str()),
        ("split", "inputs", "data:rows")
    );
    let training = report.training.unwrap();
    assert_eq!(training.segment.unwrap().part, Some(SegmentPart::Losses));
    assert!(training.reexecuted.unwrap().iter().all(|made| made.difference.is_none()));
    match training.cause.unwrap() {
        Cause::Operation { step: at, shard: 0, value: Some(value), .. } => {
            assert_eq!(at, step);
            // The first layer has six units; only the row that changed gives other ones.
            assert_eq!(value.element / 6, place, "{value:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn manifests_are_bisected_and_a_cancelled_one_has_no_answer() {
    let project = project(1);
    let honest = run(&project, &[]);
    let forged = forge_weight(&project, &honest, 25);
    let requests = [&honest, &forged].map(|run| {
        let path = project.path().join(format!("{run}.json"));
        let folder = RunFolder::open(&project.store(), run).unwrap();
        fs::copy(folder.path(MANIFEST), &path).unwrap();
        let mut request = project.replay_request(run);
        request.of = ReplayOf::Manifest(path);
        request
    });
    let report = bisect(Some(&project.store()), &requests[0], &requests[1]).unwrap();
    let training = report.training.as_ref().unwrap();
    let reexecuted = training.reexecuted.as_ref().unwrap();
    assert!(reexecuted[0].difference.is_none());
    assert_eq!(reexecuted[1].difference.as_ref().unwrap().step(), Some(25));
    let request = project.replay_request(&honest);
    request.cancel.cancel();
    let wanted = StepsWanted::Range { first: 1, last: STEPS };
    let stopped = replay_steps(Some(&project.store()), &request, &wanted);
    assert!(matches!(stopped, Err(ReplayError::Cancelled)), "{stopped:?}");
}

/// Seals a run whose training gave something else, and what verification finds of it.
fn found_of(project: &Project, honest: &str, change: impl FnOnce(&mut Trained)) -> Vec<&'static str> {
    let folder = RunFolder::open(&project.store(), honest).unwrap();
    let mut trained = Trained::of(project, honest);
    change(&mut trained);
    let run = seal_trained(project, &folder, &trained.outputs());
    found(project, &run)
}

#[test]
fn verification_holds_segments_checkpoints_and_model_against_each_other() {
    let project = project(3);
    let honest = run(&project, &[]);
    let other = run(&project, &[("pipeline.seed", "8")]);
    let others = Trained::of(&project, &other);
    assert_eq!(found_of(&project, &honest, |_| ()), [""; 0], "the control");
    let remade = |c: &Checkpoint, seed, stage: &str, step| {
        Checkpoint::new(seed, stage, step, c.model.clone(), c.optimizer.clone())
    };
    type Change<'a> = Box<dyn Fn(&mut Trained) + 'a>;
    let cases: [(&str, &str, Change<'_>); 9] = [
        ("an end that is not the plan's", "steps", Box::new(|t| t.segments[0].end = 2)),
        ("one segment fewer", "steps", Box::new(|t| t.segments.truncate(23))),
        (
            "a checkpoint of another run",
            "checkpoint",
            Box::new(|t| t.checkpoints[2] = others.checkpoints[2].clone()),
        ),
        (
            "its parameters",
            "checkpoint",
            Box::new(|t| {
                let c = &others.checkpoints[2];
                t.checkpoints[2] = remade(c, 7, "train", 30);
            }),
        ),
        (
            "its moments",
            "checkpoint",
            Box::new(|t| t.checkpoints[2].optimizer.clone_from(&others.checkpoints[2].optimizer)),
        ),
        (
            "another stage",
            "checkpoint",
            Box::new(|t| t.checkpoints[2] = remade(&t.checkpoints[2], 7, "other", 30)),
        ),
        (
            "no segment ends with it",
            "checkpoint",
            Box::new(|t| t.checkpoints[2] = remade(&t.checkpoints[2], 7, "train", 31)),
        ),
        ("no last checkpoint", "checkpoint", Box::new(|t| drop(t.checkpoints.pop()))),
        ("another model", "model", Box::new(|t| t.model.clone_from(&t.checkpoints[2].model))),
    ];
    for (name, check, change) in cases {
        let found = found_of(&project, &honest, change);
        assert!(found.contains(&check), "{name}: {found:?}");
    }
    // A leaf that says something else of a checkpoint.
    let leaf = |t: &mut Trained| {
        let at = t.segments.iter().position(|s| s.end == 30).unwrap();
        t.segments[at] = Segment { moments: others.segments[at].moments, ..t.segments[at].clone() };
    };
    assert_eq!(found_of(&project, &honest, leaf), ["checkpoint"]);

    // No checkpoint at all.
    let folder = RunFolder::open(&project.store(), &honest).unwrap();
    let mut outputs = Trained::of(&project, &honest).outputs();
    assert_eq!(outputs[0].0, "checkpoints");
    outputs[0].1 = folder::encode_listing(&[]).unwrap();
    assert_eq!(found(&project, &seal_trained(&project, &folder, &outputs)), ["checkpoint"]);

    // Signatures: one of another step, and none.
    let dir = project.store_root().join("runs").join(&honest).join(CHECKPOINTS).join("train");
    let signature = |step: u64| dir.join(format!("step-{step:012}.state.json.sig"));
    let good = fs::read(signature(20)).unwrap();
    fs::copy(signature(10), signature(20)).unwrap();
    assert_eq!(found(&project, &honest), ["signature"]);
    fs::remove_file(signature(20)).unwrap();
    assert_eq!(found(&project, &honest), ["signature"]);
    fs::write(signature(20), good).unwrap();
    assert_eq!(found(&project, &honest), [""; 0]);
}

#[test]
fn segments_that_cannot_be_read_are_found() {
    let project = project(3);
    let path = project.path().join("bitproof.toml");
    let text = fs::read_to_string(&path).unwrap();
    // Without controls a run is sealed by hand.
    fs::write(&path, text.split("[governance]").next().unwrap()).unwrap();
    let honest = run(&project, &[]);
    let folder = RunFolder::open(&project.store(), &honest).unwrap();
    let good = Trained::of(&project, &honest).outputs();
    let sealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut outputs = good.clone();
        change(&mut outputs.iter_mut().find(|(name, _)| name == "steps").unwrap().1);
        let (folder, entries) = trained_entries(&project, &folder, &outputs);
        seal_by_hand(&project, &folder, &entries);
        folder.name
    };
    let control = sealed(&|_| ());
    assert!(!found(&project, &control).contains(&"steps"), "the control");
    for change in
        [&|steps: &mut Vec<u8>| steps[0] ^= 1, &|steps: &mut Vec<u8>| steps.truncate(steps.len() - 1)]
            as [&dyn Fn(&mut Vec<u8>); 2]
    {
        let run = sealed(change);
        assert_eq!(found(&project, &run), ["steps"]);
        let wanted = StepsWanted::Range { first: 1, last: 1 };
        let refused = replay_steps(Some(&project.store()), &project.replay_request(&run), &wanted);
        assert!(matches!(refused, Err(ReplayError::Damaged { .. })), "{refused:?}");
    }
}

/// Seals a run whose segments `seal` would refuse; its checkpoints are not signed.
fn seal_by_hand(project: &Project, folder: &RunFolder, entries: &[Entry]) {
    let (recorder, store) = (project.recorder(), project.store());
    let (mut ledger, _) = Ledger::open(store.files(), &folder.path(LEDGER), &folder.plan).unwrap();
    ledger.append(entries).unwrap();
    let metrics = collect_metrics(&store.objects(), entries).unwrap();
    let roots = StepRoots::from([("train".to_owned(), StepRoot::of(&StepTree::default()))]);
    let manifest = Manifest::new(&folder.plan, entries, &metrics, &roots).encode();
    let signature = signature::sign(MANIFEST, &manifest, &recorder.artifact_key).unwrap();
    fs::write(folder.path(MANIFEST), manifest).unwrap();
    fs::write(folder.path(&format!("{MANIFEST}{SIGNATURE_SUFFIX}")), signature).unwrap();
    let mut paths = folder.evidence_files().unwrap();
    let reached = closure(folder, entries, &store.objects());
    paths.extend(reached.iter().map(|id| format!("objects/{}", Objects::relative_path(id))));
    let inventory = Inventory::take(store.files(), store.root(), paths, store.threads()).unwrap().encode();
    fs::write(folder.path(INVENTORY), &inventory).unwrap();
    let planned =
        EventBody::RunPlanned { run: folder.name.clone(), uid: folder.uid, plan: folder.plan.digest() };
    let sealed = EventBody::RunSealed {
        run: folder.name.clone(),
        uid: folder.uid,
        plan: folder.plan.digest(),
        ledger_root: ledger_root(&folder.plan, entries),
        result_root: result_root(entries),
        inventory: Digest::of_bytes(&inventory),
        succeeded: true,
    };
    recorder.record(&[planned, sealed]).unwrap();
}

#[test]
fn the_manifest_pins_the_step_root() {
    let project = project(3);
    let report = project.run(&project.request(&[])).unwrap();
    let tree = StepTree::of(Trained::of(&project, &report.run).segments).unwrap();
    let folder = RunFolder::open(&project.store(), &report.run).unwrap();
    let manifest = folder.manifest().unwrap();
    assert_eq!(manifest.step_roots["train"], StepRoot::of(&tree));
    assert_eq!((manifest.step_roots["train"].steps, manifest.step_roots["train"].segments), (STEPS, 24));
    assert_eq!(report.step_roots, manifest.step_roots);
    let text = fs::read_to_string(folder.path(MANIFEST)).unwrap();
    let root = manifest.step_roots["train"].root.to_string();
    fs::write(folder.path(MANIFEST), text.replace(&root, &"0".repeat(64))).unwrap();
    assert!(found(&project, &report.run).contains(&"manifest"));
}

/// The answer for a manifest without its store, with these outputs of the training at hand.
fn told(
    change: impl Fn(String) -> String,
    outputs: &[&str],
    wanted: &StepsWanted,
) -> Result<StepsReport, ReplayError> {
    let project = project(3);
    let run = run(&project, &[]);
    let folder = RunFolder::open(&project.store(), &run).unwrap();
    let path = project.path().join("told.json");
    fs::write(&path, change(fs::read_to_string(folder.path(MANIFEST)).unwrap())).unwrap();
    let mut request = project.replay_request(&run);
    request.of = ReplayOf::Manifest(path);
    request.data.add(&project.path().join("rows.csv")).unwrap();
    for (name, bytes) in Trained::of(&project, &run).outputs() {
        if outputs.contains(&name.as_str()) {
            let path = project.path().join(name);
            fs::write(&path, bytes).unwrap();
            request.data.add(&path).unwrap();
        }
    }
    replay_steps(None, &request, wanted)
}

#[test]
fn a_manifest_is_enough_with_the_segments_and_better_with_the_checkpoints() {
    let wanted = StepsWanted::Range { first: 35, last: 35 };
    let same = |text: String| text;
    let from = |report: &StepsReport| {
        (report.first_difference().is_none(), report.stretches[0].stretch.from, report.steps())
    };
    assert_eq!(from(&told(same, &["steps"], &wanted).unwrap()), (true, 0, 36));
    assert_eq!(from(&told(same, &["steps", "checkpoints"], &wanted).unwrap()), (true, 30, 6));
    assert!(matches!(told(same, &[], &wanted), Err(ReplayError::MissingOutput { output: "steps", .. })));
    let other = |text: String| {
        let at = text.find("\"root\": \"").unwrap() + 9;
        format!("{}{}{}", &text[..at], "0".repeat(64), &text[at + 64..])
    };
    assert!(matches!(told(other, &["steps"], &wanted), Err(ReplayError::Damaged { .. })));
    let none = |text: String| {
        let (before, rest) = text.split_once("\"step_roots\": {").unwrap();
        format!("{before}\"step_roots\": {{}},\n  \"plan\"{}", rest.split_once("\"plan\"").unwrap().1)
    };
    assert!(matches!(told(none, &["steps"], &wanted), Err(ReplayError::Manifest { .. })));
}

#[test]
fn a_checkpoint_that_is_not_the_one_of_its_leaf_is_not_relied_on() {
    let project = project(3);
    let honest = run(&project, &[]);
    let other = run(&project, &[("pipeline.seed", "8")]);
    let folder = RunFolder::open(&project.store(), &honest).unwrap();
    let ask = |checkpoints: &[Checkpoint]| {
        let packed = project.store().objects().put(&pack(checkpoints).unwrap()).unwrap();
        let mut entries = folder.ledger().unwrap().entries;
        let Outcome::Done { outputs } = &mut entries[1].outcome else { panic!("the training was done") };
        outputs.iter_mut().find(|(name, _)| name == "checkpoints").unwrap().1 = packed;
        let roots = step_roots(&project.store().objects(), &folder.plan, &entries).unwrap();
        let metrics = collect_metrics(&project.store().objects(), &entries).unwrap();
        let path = project.path().join("told.json");
        fs::write(&path, Manifest::new(&folder.plan, &entries, &metrics, &roots).encode()).unwrap();
        let mut request = project.replay_request(&honest);
        request.of = ReplayOf::Manifest(path);
        replay_steps(Some(&project.store()), &request, &StepsWanted::Range { first: 35, last: 35 })
    };
    let own = Trained::of(&project, &honest).checkpoints;
    let report = ask(&own).unwrap();
    assert_eq!((report.first_difference(), report.stretches[0].stretch.from), (None, 30), "the control");
    let refused = |checkpoints: &[Checkpoint]| match ask(checkpoints) {
        Err(ReplayError::Damaged { findings }) => assert_eq!(findings[0].check, "checkpoint"),
        other => panic!("{other:?}"),
    };
    refused(&Trained::of(&project, &other).checkpoints);
    // The right numbers under the seed of another run, and after a step that ends no segment.
    let remade = |seed, step| {
        let mut checkpoints = own.clone();
        checkpoints[2] = Checkpoint::new(seed, "train", step, own[2].model.clone(), own[2].optimizer.clone());
        checkpoints
    };
    refused(&remade(8, 30));
    refused(&remade(7, 31));
    // The numbers of another step.
    let mut later = own.clone();
    later[2] = Checkpoint::new(7, "train", 30, own[3].model.clone(), own[3].optimizer.clone());
    refused(&later);
    later[2] = Checkpoint::new(7, "train", 30, own[2].model.clone(), own[3].optimizer.clone());
    refused(&later);
    // One that lacks is none: another is nearer.
    assert_eq!(ask(&own[..2]).unwrap().stretches[0].stretch.from, 20);
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let project = project(3);
    let run = run(&project, &[]);
    let ask = |stage: Option<&str>, wanted: StepsWanted| {
        let mut request = project.replay_request(&run);
        request.stage = stage.map(str::to_owned);
        replay_steps(Some(&project.store()), &request, &wanted)
    };
    let range = |first, last| StepsWanted::Range { first, last };
    for (first, last) in [(0, 3), (61, 61), (50, 61), (9, 8), (1, u64::MAX)] {
        assert!(
            matches!(ask(None, range(first, last)), Err(ReplayError::StepRange { steps: 60, .. })),
            "{first}..{last}"
        );
    }
    let many = StepsWanted::Sample { count: 25, nonce: nonce(1) };
    assert!(matches!(ask(None, many), Err(ReplayError::SampleSize { segments: 24, .. })));
    assert!(matches!(ask(Some("evaluate"), range(1, 2)), Err(ReplayError::Trainings { trainings: 0, .. })));
    assert!(matches!(ask(Some("nothing"), range(1, 2)), Err(ReplayError::NoStage { .. })));
    assert!(ask(Some("train"), range(60, 60)).unwrap().first_difference().is_none(), "the control");

    let path = project.path().join("bitproof.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (_, train) = text.split_once("name = \"train\"").unwrap();
    let train = train.split("[[stage]]").next().unwrap();
    fs::write(&path, text.replacen("[[gate]]", &format!("[[stage]]\nname = \"again\"{train}[[gate]]"), 1))
        .unwrap();
    let two = self::run(&project, &[]);
    let ask = |stage: Option<&str>| {
        let mut request = project.replay_request(&two);
        request.stage = stage.map(str::to_owned);
        replay_steps(Some(&project.store()), &request, &range(1, 2))
    };
    match ask(None) {
        Err(ReplayError::Trainings { trainings: 2, known, .. }) => {
            assert!(known.contains("train") && known.contains("again"), "{known}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(ask(Some("again")).unwrap().task, "again");
}

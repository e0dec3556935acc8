//! Each kind of model from the pipeline file to what is said of it.

use std::fmt::Write as _;
use std::fs;

use bitproof_audit::{replay, ReplayOutcome};
use bitproof_tests::Project;
use bitproof_training::run_folder::RunFolder;
use bitproof_training::workflow::{RunReport, TaskState};

/// A pipeline of one dataset and one model.
fn pipeline(dataset: &str, train: &str, more: &str) -> String {
    format!(
        r#"
[pipeline]
name = "models"
seed = 7
[data.file]
path = "file"
[[stage]]
name = "split"
uses = "dataset"
inputs = ["data:file"]
with = {{ {dataset}, valid_fraction = 0.1, test_fraction = 0.2 }}
[[stage]]
name = "train"
uses = "train"
inputs = ["split:train", "split:valid"]
with = {{ {train} }}
[[stage]]
name = "evaluate"
uses = "evaluate"
inputs = ["train:model", "split:test"]
[[stage]]
name = "package"
uses = "package"
inputs = ["train:model", "train:metrics", "evaluate:metrics"]
{more}"#
    )
}

/// Runs it, and replays it to the same bits.
fn run(project: &Project, file: &str, pipeline: &str) -> RunReport {
    fs::write(project.path().join("file"), file).unwrap();
    fs::write(project.path().join("bitproof.toml"), pipeline).unwrap();
    let report = project.run(&project.request(&[])).unwrap();
    assert!(report.tasks.len() >= 4, "{:?}", report.end);
    let replayed = replay(Some(&project.store()), &project.replay_request(&report.run)).unwrap();
    assert_eq!(replayed.outcome, ReplayOutcome::Identical);
    report
}

/// An output of a run's task.
fn output(project: &Project, report: &RunReport, task: &str, name: &str) -> String {
    let store = project.store();
    let ledger = RunFolder::open(&store, &report.run).unwrap().ledger().unwrap();
    let entry = ledger.entries.iter().find(|entry| entry.task.0 == task).unwrap();
    String::from_utf8(store.objects().get(&entry.output(name).unwrap()).unwrap()).unwrap()
}

const LANGUAGE: &str =
    r#"model = "gpt", layers = 1, heads = 2, width = 16, steps = 120, batch = 8, learning_rate = 0.01"#;

#[test]
fn a_language_model_learns_a_rhyme_and_goes_on_with_it() {
    let project = Project::new();
    let say = |prompt: &str, temperature: &str| {
        format!(
            r#"
[[stage]]
name = "say"
uses = "generate"
inputs = ["train:model", "split:schema"]
with = {{ prompt = "{prompt}", characters = 20, temperature = {temperature} }}
"#
        )
    };
    let rhyme = "abc\u{e9}d".repeat(80);
    let dataset = r#"format = "text", window = 10"#;
    let report = run(&project, &rhyme, &pipeline(dataset, LANGUAGE, &say("d", "0")));
    let perplexity = report.metrics["evaluate/perplexity"];
    assert!((1.0..1.5).contains(&perplexity), "of five characters one follows: {perplexity}");
    assert_eq!(output(&project, &report, "say", "text"), format!("d{}", "abc\u{e9}d".repeat(4)));
    let card = output(&project, &report, "package", "card");
    assert!(
        card.contains("Model: gpt\n") && card.contains("| `h.0.attn.c_attn.weight` | 48 x 16 |"),
        "{card}"
    );
    let predictions = output(&project, &report, "evaluate", "predictions");
    assert_eq!(predictions.lines().count(), 80, "of 80 characters 79, and a header");

    let unknown = pipeline(dataset, LANGUAGE, &say("dx", "0"));
    fs::write(project.path().join("bitproof.toml"), unknown).unwrap();
    let report = project.run(&project.request(&[])).unwrap();
    let say = report.tasks.iter().find(|task| task.task == "say").unwrap();
    let why = "character 2 of the prompt, 'x', is not in the vocabulary";
    assert_eq!(say.state, TaskState::Failed(Some(why.to_owned())));
}

/// Sixty-four numbers a row, of which the upper or the lower half is bright, and how bright they are together.
fn pictures(target: impl Fn(bool, f64) -> String) -> String {
    let mut text = String::new();
    for i in 0..120u32 {
        let (upper, bright) = (i % 2 == 0, 0.5 + f64::from(i * 37 % 60) / 60.0);
        for place in 0..64u32 {
            let lit = (place < 32) == upper;
            let noise = f64::from((i * 31 + place * 17) % 23) / 100.0;
            write!(text, "{},", if lit { bright + noise } else { noise }).unwrap();
        }
        writeln!(text, "{}", target(upper, bright)).unwrap();
    }
    text
}

#[test]
fn rows_are_seen_as_images() {
    let project = Project::new();
    let file = pictures(|upper, _| u32::from(upper).to_string());
    let dataset = r#"format = "csv", label = "last""#;
    let lenet = r#"model = "lenet", image = [1, 8, 8], epochs = 6, batch = 16, learning_rate = 0.003"#;
    let report = run(&project, &file, &pipeline(dataset, lenet, ""));
    assert_eq!(report.metrics["evaluate/accuracy"], 1.0);
    let logistic = r#"model = "logistic", epochs = 20, batch = 16, learning_rate = 0.05"#;
    let report = run(&project, &file, &pipeline(dataset, logistic, ""));
    assert_eq!(report.metrics["evaluate/accuracy"], 1.0);
    assert!(output(&project, &report, "package", "card").contains("| `weight` | 1 x 64 |"));
}

#[test]
fn numbers_are_predicted() {
    let project = Project::new();
    let file = pictures(|upper, bright| format!("{}", if upper { bright } else { -bright }));
    let dataset = r#"format = "csv", label = "last", task = "regression""#;
    for model in [r#"model = "linear""#, r#"model = "mlp", hidden = [8]"#] {
        let train = format!("{model}, epochs = 60, batch = 16, learning_rate = 0.02");
        let report = run(&project, &file, &pipeline(dataset, &train, ""));
        let metric = |name: &str| report.metrics[&format!("evaluate/{name}")];
        assert!(metric("r2") > 0.97, "{model}: {:?}", report.metrics);
        assert!(metric("mae") <= metric("rmse") && metric("rmse") < 0.2);
        assert!((metric("rmse") * metric("rmse") - metric("loss")).abs() < 1e-6);
        assert!(output(&project, &report, "evaluate", "predictions").starts_with("row,target,predicted\n"));
    }
}

//! The pages under `docs/reference` say what the program does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::project::Project;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The first block of a language under each heading of the second level.
fn blocks(page: &str, language: &str) -> BTreeMap<String, String> {
    let fence = format!("```{language}\n");
    let block = |section: &str| {
        let (heading, rest) = section.split_once('\n')?;
        let (_, block) = rest.split_once(&fence)?;
        Some((heading.to_owned(), block.split_once("```")?.0.to_owned()))
    };
    page.split("\n## ").skip(1).filter_map(block).collect()
}

/// Objects whose keys are the user's.
const OPEN: [&str; 6] = ["metrics", "params", "data", "code", "outputs", "body"];

/// Every path of a value; one that is null or an empty list is kept apart, since what it may hold is not seen.
fn shape(value: &Value, path: &str, known: &mut BTreeSet<String>, unseen: &mut BTreeSet<String>) {
    known.insert(path.to_owned());
    let open = OPEN.iter().any(|name| path.ends_with(&format!(".{name}")));
    match value {
        Value::Null => drop(unseen.insert(path.to_owned())),
        Value::Array(items) if items.is_empty() => drop(unseen.insert(path.to_owned())),
        Value::Object(_) if open => {}
        Value::Array(items) => items.iter().for_each(|item| shape(item, &format!("{path}[]"), known, unseen)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| shape(field, &format!("{path}.{key}"), known, unseen));
        }
        _ => {}
    }
}

/// The paths in which an answer and its documentation differ, where both can be seen.
fn differences(answer: &Value, documented: &Value) -> Vec<String> {
    let (mut there, mut here) = (BTreeSet::new(), BTreeSet::new());
    let mut unseen = BTreeSet::new();
    shape(answer, "", &mut there, &mut unseen);
    shape(documented, "", &mut here, &mut unseen);
    let hidden = |path: &&String| {
        unseen.iter().any(|u| path.starts_with(&format!("{u}.")) || path.starts_with(&format!("{u}[]")))
    };
    there.symmetric_difference(&here).filter(|path| !hidden(path)).cloned().collect()
}

#[test]
fn json_answers_have_the_documented_fields() {
    let project = Project::new();
    let documented: BTreeMap<String, Value> = blocks(&page("json.md"), "json")
        .into_iter()
        .map(|(name, text)| (name, serde_json::from_str(&text).unwrap()))
        .collect();
    let mut answers = BTreeMap::new();
    let mut ask = |name: &str, arguments: &[&str], exit: i32| {
        answers.insert(name.to_owned(), project.json(arguments, exit));
    };
    ask("error", &["run", "absent.toml"], 2);
    ask("init", &["init", "made"], 0);
    ask("plan", &["plan"], 0);
    ask("run", &["run"], 0);
    ask("run", &["run", "--set", "train.epochs=1"], 1);
    ask("replay", &["replay", "small-1"], 0);
    let sample = ["--sample", "1", "--nonce", "000102030405060708090a0b0c0d0e0f"];
    ask("replay-steps", &[&["replay", "small-1"], &sample[..]].concat(), 0);
    ask("bisect", &["bisect", "small-1", "small-2"], 1);
    ask("runs", &["runs"], 0);
    ask("show", &["show", "small-2"], 0);
    ask("compare", &["compare", "small-1", "small-2"], 0);
    ask("gate", &["gate", "small-2", "--baseline", "small-1"], 1);
    project.answer(&["key", "new", "model-signing"]);
    ask("export", &["export", "small-1", "--as", "model-signing", "-o", "model"], 0);
    ask("export", &["export", "small-1", "--as", "slsa", "-o", "provenance"], 0);
    let attestation = ["--attestation", "provenance/provenance.dsse.json"];
    let arguments = [&["verify"], &attestation[..], &["--public-key", "provenance/artifact.pub.pem"]];
    ask("attestation", &[&arguments.concat()[..], &["--files", "model/model"]].concat(), 0);
    // An object that nobody named.
    let stray = project.store().join("objects/00");
    fs::create_dir_all(&stray).unwrap();
    fs::write(stray.join("0".repeat(62)), "x").unwrap();
    ask("gc", &["gc"], 0);
    ask("key-list", &["key", "list"], 0);
    ask("key", &["key", "show", "log"], 0);
    let vkey = key_of(&project, "log");
    ask("audit-log", &["audit", "log"], 0);
    ask("audit-head", &["audit", "head"], 0);
    ask("audit-prove", &["audit", "prove", "small-1", "-o", "run.proof"], 0);
    ask("audit-check", &["audit", "check", "run.proof", "--vkey", &vkey], 0);
    ask("audit-consistency", &["audit", "consistency", "0", "-o", "growth.proof"], 0);
    project.json(&["key", "new", "witness"], 0);
    ask("audit-witness", &["audit", "witness", "growth.proof", "--vkey", &vkey], 0);
    ask("key-rotate", &["key", "rotate", "log"], 0);
    ask("key-revoke", &["key", "revoke", &vkey, "--from-size", "3"], 0);
    fs::write(project.store().join("runs/small-1/evidence.json"), "{}").unwrap();
    ask("verify", &["verify", "small-1"], 1);

    assert!(answers.keys().eq(documented.keys()), "{:?} are documented", documented.keys());
    for (name, answer) in &answers {
        assert_eq!(answer["schema"], format!("bitproof/{name}/v1"));
        assert_eq!(answer["schema"], documented[name]["schema"]);
        assert_eq!(differences(answer, &documented[name]), Vec::<String>::new(), "of {name}");
    }
    let mut other = answers["run"].clone();
    other["gates"][0]["findings"][0]["invented"] = Value::Null;
    assert_eq!(differences(&other, &documented["run"]), [".gates[].findings[].invented"]);
}

fn key_of(project: &Project, role: &str) -> String {
    project.json(&["key", "show", role], 0)["vkey"].as_str().unwrap().to_owned()
}

/// The long options of a text.
fn options(text: &str) -> BTreeSet<String> {
    let word =
        |part: &str| -> String { part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect() };
    text.split("--").skip(1).map(word).filter(|name| name.len() > 1).collect()
}

#[test]
fn every_command_and_option_is_documented_and_nothing_else() {
    let project = Project::new();
    let page = page("commands.md");
    let (_, global) = page.split_once("## Every command").unwrap();
    let mut global = options(global.split_once("\n## ").unwrap().0);
    global.extend(["help".to_owned(), "version".to_owned()]);
    let sections: BTreeMap<&str, &str> = page
        .split("\n## `bitproof ")
        .skip(1)
        .map(|section| (section.split([' ', '`']).next().unwrap(), section))
        .collect();
    let (_, help) = project.answer(&["--help"]);
    assert_eq!(&options(help.split_once("\nOptions:").unwrap().1), &global);
    let commands = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let commands = commands.lines().map(|line| line.split_whitespace().next().unwrap());
    let commands: BTreeSet<&str> = commands.filter(|name| *name != "help").collect();
    assert!(commands.iter().copied().eq(sections.keys().copied()), "{commands:?}");
    for (name, section) in sections {
        let (exit, help) = project.answer(&[name, "--help"]);
        assert!(exit == 0 && help.contains("Example:\n  bitproof"), "{name} has no example:\n{help}");
        let mut helps = vec![help.clone()];
        if let Some((_, commands)) = help.split_once("\nCommands:\n") {
            let lines = commands.split_once("\n\n").unwrap().0.lines();
            let verbs =
                lines.map(|line| line.split_whitespace().next().unwrap()).filter(|verb| *verb != "help");
            helps.extend(verbs.map(|verb| {
                assert!(section.contains(&format!("`{name} {verb}")), "{name} {verb} is not documented");
                project.answer(&[name, verb, "--help"]).1
            }));
        }
        let own = helps.iter().flat_map(|help| {
            options(help.split_once("\nOptions:").unwrap().1.split("\nExample:").next().unwrap())
        });
        let own: BTreeSet<String> = own.filter(|option| !global.contains(option)).collect();
        assert_eq!(own, options(section), "of {name}");
    }
}

#[test]
fn the_pipeline_page_shows_a_pipeline_and_every_parameter() {
    let project = Project::new();
    let page = page("pipeline.md");
    let (_, example) = page.split_once("```toml\n").unwrap();
    project.write("shown.toml", example.split_once("```").unwrap().0);
    let digits = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/digits/data/digits.csv.gz");
    let data = format!("digits={}", digits.display());
    let (exit, text) = project.answer(&["plan", "shown.toml", "--data", &data]);
    assert_eq!(exit, 0, "{text}");
    let optimizer = ["run", "--set", "train.optimizer=sgd", "--set", "train.learning_rate=0.5"];
    assert_ne!(project.answer(&optimizer).0, 2);
    let shown = project.json(&["show"], 0);
    for name in shown["params"].as_object().unwrap().keys() {
        let (_, parameter) = name.split_once('.').unwrap();
        assert!(page.contains(&format!("`{parameter}`")), "{parameter} is not documented");
    }
}

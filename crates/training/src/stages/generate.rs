//! `generate`: a language model goes on with a text.

use std::collections::BTreeMap;

use bitproof_scheduler::TaskSpec;
use serde_json::Value;

use super::{outputs, StageError, StageOutputs};
use crate::models::{self, Generator, Sampling};
use crate::pipeline::GenerateParams;
use crate::streams::{stream_key, Purpose};

/// A vocabulary or a prompt that does not fit a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// The schema is not that of a text.
    #[error(
        "the schema holds no vocabulary: {reason}; give the schema of the text that the model learned from"
    )]
    Schema {
        /// What it has instead.
        reason: String,
    },
    /// The vocabulary is another one than the model's.
    #[error("the vocabulary has {got} characters, the model's {expected}; give the schema of the text that the model learned from")]
    Vocabulary {
        /// The model's.
        expected: usize,
        /// The schema's.
        got: usize,
    },
    /// The prompt has a character that the text did not have.
    #[error("character {} of the prompt, {character:?}, is not in the vocabulary", index + 1)]
    Character {
        /// Its place, from 0.
        index: usize,
        /// The character.
        character: char,
    },
}

pub(super) fn execute(task: &TaskSpec, seed: u64, inputs: &[Vec<u8>]) -> Result<StageOutputs, StageError> {
    let [model, schema] = inputs else {
        let expected = "a model and the schema of the text that it learned from";
        return Err(StageError::Inputs { kind: "generate", expected, got: inputs.len() });
    };
    let params = GenerateParams::from_canonical(&task.params)?;
    let loaded = models::load(model)?;
    let generator = Generator::new(&loaded.spec, &loaded.data)?;
    let vocabulary = vocabulary(schema)?;
    let (expected, got) = (generator.vocabulary(), vocabulary.len());
    if expected != got {
        return Err(TextError::Vocabulary { expected, got }.into());
    }
    let prompt = tokens(&params.prompt, &vocabulary)?;
    let sampling = Sampling { temperature: params.temperature as f32, top_k: params.top_k };
    let key = stream_key(seed, &task.stage, Purpose::Generate);
    let said = generator.generate(&loaded.params, &prompt, params.characters as usize, &sampling, key)?;
    let text: String = prompt.iter().chain(&said).map(|&token| vocabulary[token as usize]).collect();
    Ok(outputs([("text", text.into_bytes())]))
}

/// The characters of a schema, by their tokens.
fn vocabulary(schema: &[u8]) -> Result<Vec<char>, TextError> {
    let bad = |reason: String| TextError::Schema { reason };
    let schema: Value = serde_json::from_slice(schema).map_err(|e| bad(format!("it is no JSON: {e}")))?;
    let listed = schema.get("vocabulary").and_then(Value::as_array);
    let listed = listed.ok_or_else(|| bad("it has no list \"vocabulary\"".to_owned()))?;
    let character = |(i, value): (usize, &Value)| {
        let mut characters = value.as_str().unwrap_or_default().chars();
        match (characters.next(), characters.next()) {
            (Some(one), None) => Ok(one),
            _ => Err(bad(format!("entry {i} of \"vocabulary\" is not one character"))),
        }
    };
    listed.iter().enumerate().map(character).collect()
}

fn tokens(text: &str, vocabulary: &[char]) -> Result<Vec<u32>, TextError> {
    let known: BTreeMap<char, u32> = vocabulary.iter().copied().zip(0..).collect();
    let token = |(index, character): (usize, char)| {
        known.get(&character).copied().ok_or(TextError::Character { index, character })
    };
    text.chars().enumerate().map(token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{DataShape, ModelSpec};
    use bitproof_kernels::StreamKey;
    use bitproof_scheduler::{Code, Native, TaskId};

    const SPEC: ModelSpec = ModelSpec::Gpt { layers: 1, heads: 2, width: 8, dropout: 0.1 };
    const SCHEMA: &[u8] = br#"{"schema":"x","vocabulary":["\n","a","b","\u00e9"]}"#;

    fn model() -> Vec<u8> {
        let data = DataShape::Text { vocabulary: 4, window: 5 };
        let model = models::build(&SPEC, &data).unwrap();
        models::encode(&SPEC, &data, &model.init(StreamKey::from_bytes([3; 8])))
    }

    fn run(prompt: &str, temperature: f64, seed: u64, schema: &[u8]) -> Result<String, StageError> {
        let params = GenerateParams { prompt: prompt.to_owned(), characters: 40, temperature, top_k: 0 };
        let task = TaskSpec {
            id: TaskId("say".to_owned()),
            stage: "say".to_owned(),
            code: Code::Native(Native { kind: "generate".to_owned(), version: 1 }),
            params: crate::pipeline::Params::Generate(params).canonical(),
            inputs: Vec::new(),
            after: Vec::new(),
            lane: None,
            retries: 0,
            cost: 1,
            outputs: vec!["text".to_owned()],
        };
        let made = execute(&task, seed, &[model(), schema.to_vec()])?;
        Ok(String::from_utf8(made["text"].clone()).unwrap())
    }

    #[test]
    fn a_text_goes_on_from_its_prompt_by_the_seed() {
        let text = run("ab\u{e9}a", 1.0, 7, SCHEMA).unwrap();
        assert!(text.starts_with("ab\u{e9}a") && text.chars().count() == 44, "{text:?}");
        assert_eq!(run("ab\u{e9}a", 1.0, 7, SCHEMA).unwrap(), text);
        assert_ne!(run("ab\u{e9}a", 1.0, 8, SCHEMA).unwrap(), text, "another seed");
        assert_eq!(run("a", 0.0, 7, SCHEMA).unwrap(), run("a", 0.0, 8, SCHEMA).unwrap(), "nothing is drawn");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let said = |prompt, schema: &[u8]| run(prompt, 1.0, 1, schema).unwrap_err().to_string();
        assert_eq!(said("abXa", SCHEMA), "character 3 of the prompt, 'X', is not in the vocabulary");
        assert!(said("a", b"{").contains("it is no JSON"));
        assert!(said("a", br#"{"classes":["a"]}"#).contains("it has no list \"vocabulary\""));
        assert!(said("a", br#"{"vocabulary":["a","bc"]}"#).contains("entry 1 of \"vocabulary\""));
        assert!(said("a", br#"{"vocabulary":["a",7]}"#).contains("entry 1 of \"vocabulary\""));
        assert!(said("a", br#"{"vocabulary":["a","b"]}"#).contains("has 2 characters, the model's 4"));
        assert!(said("", SCHEMA).contains("the prompt is empty"));
    }

    fn parsed(with: &str, inputs: &str) -> Result<GenerateParams, String> {
        let text = format!(
            r#"[pipeline]
name = "demo"
[data.rows]
path = "rows.csv"
[[stage]]
name = "split"
uses = "dataset"
inputs = ["data:rows"]
with = {{ format = "csv", label = "last" }}
[[stage]]
name = "train"
uses = "train"
inputs = ["split:train"]
with = {{ model = "mlp", epochs = 1, learning_rate = 0.1 }}
[[stage]]
name = "say"
uses = "generate"
inputs = {inputs}
with = {{ {with} }}
"#
        );
        let pipeline = crate::pipeline::parse("demo.toml", text.as_bytes()).map_err(|e| e.to_string())?;
        let stage = pipeline.stages.iter().find(|stage| stage.name == "say").unwrap();
        Ok(GenerateParams::from_canonical(&stage.params.canonical()).unwrap())
    }

    #[test]
    fn a_pipeline_says_how_a_text_goes_on() {
        let inputs = r#"["train:model", "split:schema"]"#;
        let defaults =
            GenerateParams { prompt: "ROMEO:".to_owned(), characters: 500, temperature: 0.8, top_k: 0 };
        assert_eq!(parsed(r#"prompt = "ROMEO:""#, inputs), Ok(defaults));
        let all = r#"prompt = "\n", characters = 3, temperature = 0, top_k = 40"#;
        let said = GenerateParams { prompt: "\n".to_owned(), characters: 3, temperature: 0.0, top_k: 40 };
        assert_eq!(parsed(all, inputs), Ok(said));
        let refused = |with: &str, inputs: &str, expected: &str| {
            let error = parsed(with, inputs).unwrap_err();
            assert!(error.contains("demo.toml:") && error.contains(expected), "{error}");
        };
        refused("characters = 3", inputs, "prompt");
        refused(r#"prompt = """#, inputs, "prompt must be from 1 to 65536 bytes, got 0");
        refused(r#"prompt = "a", characters = 0"#, inputs, "characters");
        refused(r#"prompt = "a", temperature = 0.001"#, inputs, "0, or from 0.01 to 100");
        refused(r#"prompt = "a", top_k = -1"#, inputs, "top_k");
        refused(r#"prompt = "a", top_p = 1"#, inputs, "top_p");
        for wrong in
            [r#"["train:model"]"#, r#"["train:model", "split:train"]"#, r#"["split:schema", "train:model"]"#]
        {
            refused(r#"prompt = "a""#, wrong, "a model and the schema of its text");
        }
    }
}

//! `dataset`: files become train, valid and test parts and a schema.

use bitproof_kernels::permutation;
use bitproof_scheduler::TaskSpec;
use ndarray::Axis;
use serde_json::{json, Map, Value};

use super::{outputs, StageError, StageOutputs};
use crate::data::{
    read_dataset, scale, split, split_text, Characters, DataError, Dataset, Examples, Part, Split,
    Statistics, Table, Targets, Text, TextSplit,
};
use crate::models::DataShape;
use crate::pipeline::{Content, DatasetParams, ExamplesParams};
use crate::streams::{stream_key, Purpose};

/// A dataset that was read, with which of it goes where.
#[derive(Debug)]
pub enum Divided {
    /// Rows.
    Examples(Box<DividedRows>),
    /// Characters.
    Text {
        /// Every character.
        text: Characters,
        /// How many of them each part has.
        split: TextSplit,
        /// How many a model sees at once.
        window: u32,
    },
}

impl Divided {
    /// What a model has to know of the data.
    pub fn data_shape(&self) -> DataShape {
        match self {
            Self::Text { text, window, .. } => {
                DataShape::Text { vocabulary: text.vocabulary.len(), window: *window as usize }
            }
            Self::Examples(rows) => {
                let examples = &rows.table.examples;
                DataShape::of_examples(examples.shape.clone(), &examples.targets)
            }
        }
    }

    /// How many rows the training part has, as [`Part::rows`] counts them.
    pub fn rows_to_learn_from(&self) -> u64 {
        match self {
            Self::Text { split, window, .. } => split.train.saturating_sub(*window as usize) as u64,
            Self::Examples(rows) => rows.split.train.len() as u64,
        }
    }
}

/// Rows, scaled and standardised.
#[derive(Debug)]
pub struct DividedRows {
    /// Every row.
    pub table: Table,
    /// The rows of each part.
    pub split: Split,
    /// What the features were standardised by.
    pub statistics: Option<Statistics>,
}

/// Reads the files as the stage will, and deals what they hold to the parts: all that can go wrong with data.
///
/// Statistics come from the rows of the training part alone. Peak memory is that of the files and of one f32 for each number.
///
/// # Errors
/// [`StageError::File`] with the file and the place in it, [`StageError::Data`] where the whole does not suffice, and
/// [`StageError::Inputs`].
pub fn divide(
    task: &TaskSpec,
    seed: u64,
    params: &DatasetParams,
    inputs: &[&[u8]],
) -> Result<Divided, StageError> {
    if !params.takes(inputs.len()) {
        let expected = match params.input_names() {
            None => "one file",
            Some(_) => "two files, or four without a test_fraction",
        };
        return Err(StageError::Inputs { kind: "dataset", expected, got: inputs.len() });
    }
    let (valid, test) = (params.valid_fraction, params.test_fraction);
    let read = read_dataset(params, inputs).map_err(|error| match params.input_names() {
        None => StageError::Data(error.source),
        Some(names) => {
            StageError::File { name: names[error.input], input: error.input, source: error.source }
        }
    })?;
    Ok(match (read, &params.content) {
        (Dataset::Examples(mut table), Content::Examples(how)) => {
            let split = rows_of_parts(task, seed, params, how, &table)?;
            let features = &mut table.examples.features;
            scale(features, how.scale as f32)?;
            let statistics = how.standardise.then(|| Statistics::of(features, &split.train));
            if let Some(statistics) = &statistics {
                statistics.apply(features)?;
            }
            Divided::Examples(Box::new(DividedRows { table, split, statistics }))
        }
        (Dataset::Text(text), &Content::Text { window }) => {
            let split = split_text(text.tokens.len(), valid, test, window)?;
            Divided::Text { text, split, window }
        }
        _ => unreachable!("what is read is what the parameters say"),
    })
}

fn rows_of_parts(
    task: &TaskSpec,
    seed: u64,
    params: &DatasetParams,
    how: &ExamplesParams,
    table: &Table,
) -> Result<Split, DataError> {
    let rows = table.examples.features.nrows() as u32;
    let own_test = rows - table.own_test as u32..rows;
    let order = permutation(own_test.start, stream_key(seed, &task.stage, Purpose::Split));
    let groups = match &table.examples.targets {
        Targets::Classes { labels, classes } if how.stratify => Some((labels.as_slice(), *classes)),
        _ => None,
    };
    let mut split = split(groups, params.valid_fraction, params.test_fraction, &order)?;
    split.test.extend(own_test);
    Ok(split)
}

pub(super) fn execute(task: &TaskSpec, seed: u64, inputs: &[Vec<u8>]) -> Result<StageOutputs, StageError> {
    let params = DatasetParams::from_canonical(&task.params)?;
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let divided = divide(task, seed, &params, &inputs)?;
    let schema = format!("{}\n", schema(&divided)).into_bytes();
    let [train, valid, test] = parts(divided);
    Ok(outputs([("train", train), ("valid", valid), ("test", test), ("schema", schema)]))
}

/// The bytes of train, valid and test.
fn parts(divided: Divided) -> [Vec<u8>; 3] {
    match divided {
        Divided::Examples(rows) => {
            let DividedRows { table, split, .. } = *rows;
            let Examples { shape, features, targets } = table.examples;
            [split.train, split.valid, split.test].map(|rows| {
                let rows: Vec<usize> = rows.into_iter().map(|row| row as usize).collect();
                let (features, targets) = (features.select(Axis(0), &rows), targets.select(&rows));
                Part::Examples(Examples { shape: shape.clone(), features, targets }).encode()
            })
        }
        Divided::Text { text, split, window } => {
            let (train, rest) = text.tokens.split_at(split.train);
            let (valid, test) = rest.split_at(split.valid);
            [train, valid, test].map(|tokens| {
                let (tokens, vocabulary) = (tokens.to_vec(), text.vocabulary.clone());
                Part::Text(Text { tokens, vocabulary, window }).encode()
            })
        }
    }
}

/// `docs/formats/dataset-part.md` is normative.
fn schema(divided: &Divided) -> Value {
    let mut schema = Map::from_iter([("schema".to_owned(), json!("bitproof/dataset-schema/v2"))]);
    let mut field = |name: &str, value: Value| schema.insert(name.to_owned(), value);
    match divided {
        Divided::Examples(rows) => {
            let DividedRows { table, split, statistics } = rows.as_ref();
            field("shape", json!(table.examples.shape));
            if !table.columns.is_empty() {
                field("columns", json!(table.columns));
            }
            match &table.examples.targets {
                Targets::Classes { .. } => {
                    field("task", json!("classification"));
                    field("classes", json!(table.classes));
                }
                Targets::Values(_) => {
                    field("task", json!("regression"));
                }
            }
            if let Some(Statistics { mean, deviation }) = statistics {
                field("standardised", json!({ "mean": mean, "deviation": deviation }));
            }
            let rows = [&split.train, &split.valid, &split.test].map(Vec::len);
            field("rows", json!({ "train": rows[0], "valid": rows[1], "test": rows[2] }));
        }
        Divided::Text { text, split, window } => {
            field("task", json!("next-character"));
            field("window", json!(window));
            let vocabulary = text.vocabulary.iter().map(char::to_string);
            field("vocabulary", vocabulary.collect());
            let TextSplit { train, valid, test } = split;
            field("characters", json!({ "train": train, "valid": valid, "test": test }));
        }
    }
    Value::Object(schema)
}

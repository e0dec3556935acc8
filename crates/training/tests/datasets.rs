//! Data files as others write them, from the pipeline file to the parts. `scripts/datasets/fixtures.py` made `fixtures/`.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use bitproof_scheduler::{Cancel, Code, TaskId, TaskSpec};
use bitproof_training::data::{Examples, Part, Targets, Text};
use bitproof_training::keeper::KeepsNothing;
use bitproof_training::pipeline::{self, Params};
use bitproof_training::stages::{self, StageContext};
use bitproof_training::workflow::{self, FailureKind, RunRequest, WorkflowError};
use flate2::write::GzEncoder;
use flate2::Compression;

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The parameters of a dataset with these inputs, or what is wrong with them.
fn params(inputs: &str, with: &str) -> Result<Params, String> {
    let names = ["a", "b", "c", "d"].map(|name| format!("[data.{name}]\npath = \"{name}\"\n")).concat();
    let stage =
        format!("[[stage]]\nname = \"split\"\nuses = \"dataset\"\ninputs = {inputs}\nwith = {with}\n");
    let text = format!("[pipeline]\nname = \"x\"\n{names}{stage}");
    let pipeline = pipeline::parse("x.toml", text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(pipeline.stages[0].params.clone())
}

const ONE: &str = "[\"data:a\"]";
const IDX: &str = "{ images = \"data:a\", labels = \"data:b\" }";
const NPY: &str = "{ features = \"data:a\", labels = \"data:b\" }";
const NPY_TEST: &str =
    "{ test_labels = \"data:d\", labels = \"data:b\", test_features = \"data:c\", features = \"data:a\" }";

struct Made {
    parts: [Part; 3],
    schema: serde_json::Value,
}

/// What the stage makes of the files.
fn run(inputs: &str, with: &str, files: &[Vec<u8>]) -> Result<Made, String> {
    let params = params(inputs, with)?;
    let task = TaskSpec {
        id: TaskId("split".to_owned()),
        stage: "split".to_owned(),
        code: Code::Native(stages::native("dataset")),
        params: params.canonical(),
        inputs: Vec::new(),
        after: Vec::new(),
        outputs: Vec::new(),
        cost: 1,
        lane: None,
        retries: 0,
    };
    let cancel = Cancel::new();
    let context = StageContext { threads: 1, cancel: &cancel, keeper: &KeepsNothing };
    let outputs = stages::execute(&task, 7, files, &context).map_err(|error| error.to_string())?;
    let part = |name: &str| Part::decode(&outputs[name]).expect("the stage makes parts");
    let schema = serde_json::from_slice(&outputs["schema"]).expect("the schema is JSON");
    Ok(Made { parts: ["train", "valid", "test"].map(part), schema })
}

fn examples(part: &Part) -> &Examples {
    match part {
        Part::Examples(examples) => examples,
        Part::Text(_) => panic!("examples were asked for"),
    }
}

fn text(part: &Part) -> &Text {
    match part {
        Part::Text(text) => text,
        Part::Examples(_) => panic!("text was asked for"),
    }
}

fn classes(part: &Part) -> &[u32] {
    match &examples(part).targets {
        Targets::Classes { labels, .. } => labels,
        Targets::Values(_) => panic!("classes were asked for"),
    }
}

fn values(part: &Part) -> &[f32] {
    match &examples(part).targets {
        Targets::Values(values) => values,
        Targets::Classes { .. } => panic!("values were asked for"),
    }
}

fn features(part: &Part) -> Vec<f32> {
    examples(part).features.iter().copied().collect()
}

fn count(n: u8) -> Vec<f32> {
    (0..n).map(f32::from).collect()
}

#[test]
fn numpy_of_every_type_and_byte_order_means_the_same() {
    let labels = fixture("labels-i8.npy");
    let mut seen = 0;
    for kind in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"] {
        for order in ["little", "big"] {
            let file = fixture(&format!("features-{kind}-{order}.npy"));
            let made = run(NPY, "{ format = \"npy\" }", &[file, labels.clone()]).unwrap();
            assert_eq!(features(&made.parts[0]), count(8), "{kind} {order}");
            assert_eq!(classes(&made.parts[0]), [1, 0, 1, 2]);
            assert_eq!(made.schema["classes"], serde_json::json!(["0", "3", "7"]));
            seen += 1;
        }
    }
    assert_eq!(seen, 22);
    for name in ["features-fortran.npy", "features-version-2.npy", "features-version-3.npy"] {
        let made = run(NPY, "{ format = \"npy\" }", &[fixture(name), fixture("labels-f4.npy")]).unwrap();
        assert_eq!(
            (features(&made.parts[0]), classes(&made.parts[0])),
            (count(8), &[1, 0, 1, 2][..]),
            "{name}"
        );
    }
    let packed =
        run(NPY, "{ format = \"npy\" }", &[fixture("features-f4-big.npy"), fixture("labels-i8.npy.gz")]);
    assert_eq!(classes(&packed.unwrap().parts[0]), [1, 0, 1, 2]);
    let images = [fixture("images-fortran.npy"), fixture("images-labels.npy")];
    let images = run(NPY, "{ format = \"npy\" }", &images).unwrap();
    assert_eq!((features(&images.parts[0]), classes(&images.parts[0])), (count(24), &[1, 0][..]));
    assert_eq!(images.schema["shape"], serde_json::json!([2, 3, 2]));
}

#[test]
fn labels_are_classes_or_numbers_as_the_task_says() {
    let with = |labels: &str, task: &str| {
        let files = [fixture("features-f4-little.npy"), fixture(labels)];
        run(NPY, &format!("{{ format = \"npy\", task = \"{task}\" }}"), &files)
    };
    let numbers = |labels: &str| with(labels, "regression").map(|made| values(&made.parts[0]).to_vec());
    assert_eq!(numbers("labels-half.npy").unwrap(), [3.5, 0.5, 3.5, 7.5]);
    assert_eq!(numbers("labels-negative.npy").unwrap(), [-1.0, -4.0, -1.0, 3.0]);
    assert_eq!(numbers("labels-b1.npy").unwrap(), [1.0, 0.0, 1.0, 0.0]);
    let flags = with("labels-b1.npy", "classification").unwrap();
    assert_eq!(classes(&flags.parts[0]), [1, 0, 1, 0]);
    let error = |labels: &str| with(labels, "classification").err().unwrap();
    assert_eq!(
        error("labels-half.npy"),
        "labels: byte 128: 3.5 at [0] is not a class: a whole number from 0"
    );
    assert_eq!(
        error("labels-negative.npy"),
        "labels: byte 128: -1 at [0] is not a class: a whole number from 0"
    );
    assert_eq!(error("images-labels.npy"), "labels: there are 2 labels for 4 examples");
    assert!(
        error("features-f4-little.npy").contains("labels have one number for each row, not the shape [4, 2]")
    );
}

#[test]
fn safetensors_as_the_library_writes_them_and_in_any_order() {
    let made = run(ONE, "{ format = \"safetensors\" }", &[fixture("tensors.safetensors")]).unwrap();
    assert_eq!((features(&made.parts[0]), classes(&made.parts[0])), (count(8), &[1, 0, 1, 2][..]));
    let named = "{ format = \"safetensors\", features = \"a.halves\", labels = \"flags\" }";
    let named = run(ONE, named, &[fixture("tensors.safetensors")]).unwrap();
    assert_eq!((features(&named.parts[0]), classes(&named.parts[0])), (count(8), &[1, 0, 1, 0][..]));
    let unordered = "{ format = \"safetensors\", features = \"inputs\", labels = \"targets\" }";
    let unordered = run(ONE, unordered, &[fixture("unordered.safetensors")]).unwrap();
    assert_eq!((features(&unordered.parts[0]), classes(&unordered.parts[0])), (count(8), &[1, 0, 1, 2][..]));
    assert_eq!(examples(&unordered.parts[0]).shape, [1, 2]);
    let missing =
        run(ONE, "{ format = \"safetensors\" }", &[fixture("unordered.safetensors")]).err().unwrap();
    assert_eq!(missing, "there is no tensor \"features\"; the file has inputs, targets");
}

/// An IDX file.
fn idx(kind: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
    let lengths: Vec<u8> = shape.iter().flat_map(|axis| axis.to_be_bytes()).collect();
    [&[0, 0, kind, shape.len() as u8][..], &lengths, data].concat()
}

#[test]
fn idx_of_every_type_with_a_channel_for_images() {
    let labels = || idx(8, &[2], &[9, 4]);
    let numbers = [1i16, -2, 3, 300];
    let be = |write: &dyn Fn(f64) -> Vec<u8>| -> Vec<u8> {
        numbers.iter().flat_map(|&n| write(f64::from(n))).collect()
    };
    for (kind, data) in [
        (0x0b, be(&|n| (n as i16).to_be_bytes().to_vec())),
        (0x0c, be(&|n| (n as i32).to_be_bytes().to_vec())),
        (0x0d, be(&|n| (n as f32).to_be_bytes().to_vec())),
        (0x0e, be(&|n| n.to_be_bytes().to_vec())),
    ] {
        let made = run(IDX, "{ format = \"idx\" }", &[idx(kind, &[2, 1, 2], &data), labels()]).unwrap();
        assert_eq!(features(&made.parts[0]), numbers.map(f32::from), "0x{kind:02x}");
        assert_eq!(
            (examples(&made.parts[0]).shape.as_slice(), classes(&made.parts[0])),
            (&[1, 1, 2][..], &[1, 0][..])
        );
    }
    for (kind, expected) in [(0x08, [200.0, 1.0]), (0x09, [-56.0, 1.0])] {
        let made = run(IDX, "{ format = \"idx\" }", &[idx(kind, &[2, 1], &[200, 1]), labels()]).unwrap();
        assert_eq!(features(&made.parts[0]), expected);
        assert_eq!(examples(&made.parts[0]).shape, [1], "a table has no channel");
    }
    let error = |images: Vec<u8>| run(IDX, "{ format = \"idx\" }", &[images, labels()]).err().unwrap();
    let good = idx(8, &[2, 1, 2], &[0; 4]);
    assert_eq!(error(good[..15].to_vec()), "images: byte 15: it ends within the lengths of its 3 dimensions");
    assert_eq!(
        error(good[..19].to_vec()),
        "images: byte 16: the shape [2, 1, 2] takes 4 bytes, and 3 follow here"
    );
    assert_eq!(
        error(vec![1, 2, 8, 3]),
        "images: byte 0: an IDX file begins with two bytes of zero, this one with 1 and 2"
    );
    assert_eq!(error(vec![0, 0, 10, 3]), "images: byte 2: there is no type 0x0a");
    assert_eq!(error(idx(8, &[u32::MAX, 1, 1], &[])), "images: the file has more than 268435456 rows");
    assert_eq!(error(idx(8, &[3, 1, 1], &[0; 3])), "labels: there are 2 labels for 3 examples");
}

#[test]
fn a_test_part_may_have_files_of_its_own() {
    let files =
        ["features-f4-little.npy", "labels-i8.npy", "features-u1-big.npy", "labels-i8.npy"].map(fixture);
    let made = run(NPY_TEST, "{ format = \"npy\", valid_fraction = 0.5, stratify = false }", &files).unwrap();
    assert_eq!(made.schema["rows"], serde_json::json!({ "train": 2, "valid": 2, "test": 4 }));
    // The inputs stand in the file in another order than in the plan.
    assert_eq!((features(&made.parts[2]), classes(&made.parts[2])), (count(8), &[1, 0, 1, 2][..]));
    let mut learned = [features(&made.parts[0]), features(&made.parts[1])].concat();
    learned.sort_by(f32::total_cmp);
    assert_eq!(learned, count(8), "none of the test part's rows is learned from");
    let other = ["features-f4-little.npy", "labels-i8.npy", "images-fortran.npy", "images-labels.npy"];
    let error = run(NPY_TEST, "{ format = \"npy\" }", &other.map(fixture)).err().unwrap();
    assert_eq!(error, "test_features: an example has the shape [2, 3, 2], those to learn from have [2]");
}

#[test]
fn text_is_cut_where_it_stands() {
    let play: String = (0..100).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    let with = "{ format = \"text\", window = 9, valid_fraction = 0.1, test_fraction = 0.25 }";
    let made = run(ONE, with, &[play.clone().into_bytes()]).unwrap();
    let shown = |part: &Part| -> String {
        let text = text(part);
        text.tokens.iter().map(|&token| text.vocabulary[token as usize]).collect()
    };
    assert_eq!(made.parts.each_ref().map(shown), [&play[..65], &play[65..75], &play[75..]]);
    assert_eq!(made.parts.each_ref().map(Part::rows), [56, 1, 16]);
    // Every part has the vocabulary of the whole.
    assert!(made.parts.iter().all(|part| text(part).vocabulary.len() == 26 && text(part).window == 9));
    assert_eq!(made.schema["characters"], serde_json::json!({ "train": 65, "valid": 10, "test": 25 }));
    assert_eq!(made.schema["vocabulary"][2], "c");
    let short = run(ONE, &with.replace("window = 9", "window = 10"), &[play.into_bytes()]).err().unwrap();
    assert_eq!(short, "the valid part has 10 characters; a window of 10 and the one after it do not fit");
}

#[test]
fn categories_become_columns_and_values_are_learned() {
    let table = b"size,colour,price,door\n1.5,red,10,2\n2,blue,-3.25,10\n2.5,red,4,2\n";
    let with = "{ format = \"csv\", header = true, label = \"price\", task = \"regression\", one_hot = [\"colour\", 3] }";
    let made = run(ONE, with, &[table.to_vec()]).unwrap();
    let columns = serde_json::json!(["size", "colour=blue", "colour=red", "door=2", "door=10"]);
    assert_eq!(made.schema["columns"], columns);
    assert_eq!(
        features(&made.parts[0]),
        [1.5, 0.0, 1.0, 1.0, 0.0, 2.0, 1.0, 0.0, 0.0, 1.0, 2.5, 0.0, 1.0, 1.0, 0.0]
    );
    assert_eq!(
        (values(&made.parts[0]), &made.schema["task"]),
        (&[10.0, -3.25, 4.0][..], &serde_json::json!("regression"))
    );
    assert!(made.schema.get("classes").is_none());
    let error = |one_hot: &str, table: &[u8]| {
        run(ONE, &with.replace("\"colour\", 3", one_hot), &[table.to_vec()]).err().unwrap()
    };
    assert_eq!(
        error("\"color\"", table),
        "there is no one_hot column \"color\"; the file has 4 columns: size, colour, price, door"
    );
    assert_eq!(error("2", table), "one_hot has the column 2, which is the label's");
    assert_eq!(error("\"colour\", 1", table), "one_hot has the column 1, which is named twice");
    assert_eq!(error("3", table), "line 2, column 2: \"red\" is not a number");
    assert_eq!(error("1", b"a,b,price\n1,,2\n"), "line 2, column 2: \"\" cannot be a category");
    assert_eq!(error("1", b"a,b,price\n1,x,dear\n"), "line 2, column 3: \"dear\" is not a number");
}

/// The rows of a table of one number a row and a class, whose number may be changed.
fn table(change: &dyn Fn(usize) -> f32) -> Vec<u8> {
    (0..40).map(|i| format!("{},{}\n", change(i), i % 2)).collect::<String>().into_bytes()
}

#[test]
fn statistics_come_from_the_training_part_alone() {
    let with = "{ format = \"csv\", label = \"last\", valid_fraction = 0.25, test_fraction = 0.25, standardise = true }";
    let plain = |i: usize| i as f32;
    let raw = run(ONE, &with.replace("true", "false"), &[table(&plain)]).unwrap();
    // Each number is its row's, so the parts tell which rows they have.
    let rows: Vec<Vec<usize>> =
        raw.parts.iter().map(|part| features(part).iter().map(|&x| x as usize).collect()).collect();
    assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [20, 10, 10]);

    let made = run(ONE, with, &[table(&plain)]).unwrap();
    let mean = rows[0].iter().sum::<usize>() as f64 / 20.0;
    let squares: f64 = rows[0].iter().map(|&row| (row as f64 - mean) * (row as f64 - mean)).sum();
    let deviation = (squares / 20.0).sqrt();
    let close = |value: &serde_json::Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-12;
    let said = &made.schema["standardised"];
    assert!(close(&said["mean"][0], mean) && close(&said["deviation"][0], deviation), "{said}");
    for (part, rows) in made.parts.iter().zip(&rows) {
        for (x, &row) in features(part).iter().zip(rows) {
            assert!((f64::from(*x) - (row as f64 - mean) / deviation).abs() < 1e-6, "row {row}: {x}");
        }
    }

    // Other numbers in all rows of valid and test change those parts, and neither the statistics nor the training part.
    let held_out = |i: usize| if rows[0].contains(&i) { i as f32 } else { 1000.0 + i as f32 };
    let other = run(ONE, with, &[table(&held_out)]).unwrap();
    assert_eq!((&other.schema, &other.parts[0]), (&made.schema, &made.parts[0]));
    assert!(other.parts[1] != made.parts[1] && other.parts[2] != made.parts[2]);

    // The same test sees a single number of the training part.
    let learned = |i: usize| if i == rows[0][0] { 1000.0 } else { i as f32 };
    let other = run(ONE, with, &[table(&learned)]).unwrap();
    assert!(other.schema["standardised"] != made.schema["standardised"] && other.parts[1] != made.parts[1]);
}

#[test]
fn parameters_and_inputs_that_do_not_fit_are_refused_where_they_stand() {
    let error =
        |inputs: &str, with: &str| params(inputs, with).err().unwrap_or_else(|| panic!("{inputs} {with}"));
    let text_with = |key: &str| error(ONE, &format!("{{ format = \"text\", {key} }}"));
    for key in
        ["label = \"last\"", "scale = 2", "stratify = true", "standardise = true", "task = \"regression\""]
    {
        let name = key.split(' ').next().unwrap();
        let message = text_with(key);
        assert!(message.contains(&format!("x.toml:15:{}: ", 29 + key.find('=').unwrap())), "{message}");
        assert!(message.contains(&format!("a dataset of the format \"text\" has no {name}")), "{message}");
    }
    assert!(text_with("windw = 3").contains("did you mean \"window\"?"));
    assert!(text_with("window = 0").contains("window must be from 1 to 65536, got 0"));
    for (inputs, with, expected) in [
        (ONE, "{ format = \"idx\" }", "the inputs of a dataset of the format \"idx\" need names"),
        (IDX, "{ format = \"text\" }", "takes its input in a list, without a name"),
        (IDX, "{ format = \"npy\" }", "a dataset of the format \"npy\" has no input \"images\""),
        ("{ images = \"data:a\", label = \"data:b\" }", "{ format = \"idx\" }", "did you mean \"labels\"?"),
        ("{ images = \"data:a\" }", "{ format = \"idx\" }", "the dataset has no input \"labels\""),
        (
            "{ images = \"data:a\", labels = \"data:b\", test_labels = \"data:c\" }",
            "{ format = \"idx\" }",
            "the dataset has no input \"test_images\"",
        ),
        (NPY_TEST, "{ format = \"npy\", test_fraction = 0.1 }", "leave nothing for test_fraction"),
        ("[\"data:a\", \"data:b\"]", "{ format = \"csv\", label = 0 }", "cannot work with these inputs"),
        (
            ONE,
            "{ format = \"csv\", label = 0, task = \"regression\", stratify = true }",
            "regression has no classes",
        ),
        (
            ONE,
            "{ format = \"csv\", label = 0, one_hot = [\"a\"] }",
            "one_hot names a column, but the data has no header",
        ),
        (ONE, "{ format = \"csv\", label = 0, one_hot = [1, 1] }", "one_hot has the column 1 twice"),
        (ONE, "{ format = \"csv\", label = 0, window = 3 }", "it is for text"),
        (ONE, "{ format = \"cvs\", label = 0 }", "did you mean \"csv\"?"),
    ] {
        let message = error(inputs, with);
        assert!(message.contains(expected) && message.contains("x.toml:"), "{expected}: {message}");
    }
    let Params::Dataset(read) = params(NPY_TEST, "{ format = \"npy\" }").unwrap() else {
        panic!("a dataset")
    };
    assert_eq!(read.input_names(), Some(["features", "labels", "test_features", "test_labels"]));
}

#[test]
fn parameters_come_back_out_of_a_plan() {
    for (inputs, with) in [
        (ONE, "{ format = \"csv\", label = \"first\", scale = \"1/16\", separator = \";\" }"),
        (
            ONE,
            "{ format = \"csv\", header = true, label = \"y\", one_hot = [\"a\", 3], task = \"regression\" }",
        ),
        (IDX, "{ format = \"idx\", valid_fraction = 0.25, stratify = false }"),
        (NPY, "{ format = \"npy\", standardise = true }"),
        (ONE, "{ format = \"safetensors\", features = \"x\" }"),
        (ONE, "{ format = \"text\", window = 128, test_fraction = 0.1 }"),
    ] {
        let Params::Dataset(read) = params(inputs, with).unwrap() else { panic!("a dataset") };
        let canonical = Params::Dataset(read.clone()).canonical();
        assert_eq!(pipeline::DatasetParams::from_canonical(&canonical).as_ref(), Ok(&read), "{with}");
        for key in canonical.keys() {
            let mut less = canonical.clone();
            less.remove(key);
            assert!(pipeline::DatasetParams::from_canonical(&less).is_err(), "{with} without {key}");
        }
    }
}

#[test]
fn damage_to_a_compressed_file_is_an_error_or_changes_nothing() {
    let pack = |content: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).and_then(|()| encoder.finish()).expect("a vector takes what it is given")
    };
    let csv = table(&|i| i as f32);
    let play = b"to be, or not to be: that is the question".to_vec();
    for (inputs, with, files) in [
        (ONE, "{ format = \"csv\", label = \"last\" }", vec![csv]),
        (ONE, "{ format = \"text\", window = 3 }", vec![play]),
        (ONE, "{ format = \"safetensors\" }", vec![fixture("tensors.safetensors")]),
        (NPY, "{ format = \"npy\" }", vec![fixture("features-u1-big.npy"), fixture("labels-i8.npy")]),
        (IDX, "{ format = \"idx\" }", vec![idx(8, &[2, 1, 2], &[0; 4]), idx(8, &[2], &[1, 2])]),
    ] {
        let good = run(inputs, with, &files).unwrap();
        let packed: Vec<Vec<u8>> = files.iter().map(|file| pack(file)).collect();
        assert_eq!(run(inputs, with, &packed).unwrap().parts, good.parts, "{with}");
        let mut refused = 0;
        for at in 0..packed[0].len() {
            let mut flipped = packed.clone();
            flipped[0][at] ^= 1 << (at % 8);
            // The header has bytes that say nothing of the content, such as a time.
            match run(inputs, with, &flipped) {
                Ok(made) => assert!(made.parts == good.parts, "{with}, byte {at}"),
                Err(_) => refused += 1,
            }
            let mut cut = packed.clone();
            cut[0].truncate(at);
            assert!(run(inputs, with, &cut).is_err(), "{with}, cut after {at} bytes");
        }
        assert!(refused > packed[0].len() / 2, "{with}: {refused} of {}", packed[0].len());
    }
}

/// Prepares a pipeline of a dataset and perhaps more in a folder of its own, with these files.
fn prepare(stages: &str, files: &[(&str, &[u8])]) -> Result<(), WorkflowError> {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "[pipeline]\nname = \"x\"\n".to_owned();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
        text += &format!("[data.{name}]\npath = \"{name}\"\n");
    }
    fs::write(dir.path().join("bitproof.toml"), text + stages).unwrap();
    let prepared = workflow::prepare(&RunRequest::new(dir.path().join("bitproof.toml")));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), files.len() + 1, "nothing is written");
    prepared.map(drop)
}

#[test]
fn bad_data_is_told_by_file_and_place_before_anything_is_written() {
    let dataset = |inputs: &str, with: &str| {
        format!("[[stage]]\nname = \"split\"\nuses = \"dataset\"\ninputs = {inputs}\nwith = {with}\n")
    };
    let (images, labels) = (idx(8, &[4, 1, 2], &[0; 8]), idx(8, &[4], &[0, 1, 0, 1]));
    let two = dataset("{ labels = \"data:b\", images = \"data:a\" }", "{ format = \"idx\" }");
    prepare(&two, &[("a", &images), ("b", &labels)]).unwrap();
    let npy = dataset(NPY_TEST, "{ format = \"npy\", stratify = false }");
    let four =
        ["features-u2-big.npy", "labels-i8.npy", "features-f8-big.npy", "labels-negative.npy"].map(fixture);
    let four = ["a", "b", "c", "d"].into_iter().zip(&four).map(|(name, file)| (name, file.as_slice()));
    let one = |with: &str, file: &'static [u8]| (dataset(ONE, with), vec![("a", file)]);
    let (csv, csv_file) = one("{ format = \"csv\", label = 0, standardise = true }", b"0,1\n1,x\n");
    let (text, text_file) = one("{ format = \"text\" }", b"too short");
    let (tensors, tensors_file) = one("{ format = \"safetensors\" }", b"{}");
    let cut = &labels[..11];
    for (stages, files, at, expected) in [
        (
            &two,
            vec![("a", images.as_slice()), ("b", cut)],
            "b",
            "byte 8: the shape [4] takes 4 bytes, and 3 follow here",
        ),
        (&npy, four.collect(), "d", "byte 128: -1 at [0] is not a class"),
        (&csv, csv_file, "a", "line 2, column 2: \"x\" is not a number"),
        (&text, text_file, "a", "the train part has 9 characters; a window of 64"),
        (&tensors, tensors_file, "a", "byte 2: it ends within the length of its header"),
    ] {
        let error = prepare(stages, &files).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Usage);
        let WorkflowError::Data { path, source, hint } = &error else { panic!("{error}") };
        assert!(path.ends_with(at) && source.to_string().contains(expected), "{error}");
        assert_eq!(hint, "correct the file, or how stage \"split\" reads it");
    }
}

#[test]
fn a_model_that_cannot_learn_from_the_data_is_refused_before_a_run() {
    let stages = |model: &str, with: &str| {
        let train = format!("[[stage]]\nname = \"fit\"\nuses = \"train\"\ninputs = [\"split:train\"]\nwith = {{ model = \"{model}\", epochs = 1, learning_rate = 0.1 }}\n");
        format!("[[stage]]\nname = \"split\"\nuses = \"dataset\"\ninputs = {ONE}\nwith = {with}\n{train}")
    };
    let csv = |task: &str| format!("{{ format = \"csv\", label = \"last\", task = \"{task}\" }}");
    let rows: &[(&str, &[u8])] = &[("a", b"1,0\n2,1\n")];
    for (model, task) in [("mlp", "classification"), ("mlp", "regression"), ("linear", "regression")] {
        prepare(&stages(model, &csv(task)), rows).unwrap();
    }
    let text = "{ format = \"text\", window = 2 }".to_owned();
    for (model, with) in [
        ("logistic", csv("regression")),
        ("linear", csv("classification")),
        ("gpt", csv("classification")),
        ("mlp", text),
    ] {
        let stages = stages(model, &with);
        let error = prepare(&stages, rows).unwrap_err().to_string();
        assert!(
            error.contains(&format!("stage \"fit\": {model} learns ")) && error.contains("but the data has"),
            "{model}: {error}"
        );
    }
}

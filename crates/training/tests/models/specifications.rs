//! Which models there can be, what their files say, and what they begin with.

use std::collections::BTreeMap;

use bitproof_kernels::{kaiming_uniform, Stream};
use bitproof_training::models::{
    build, encode, from_metadata, load, metadata, DataShape, ModelError, ModelSpec,
};
use bitproof_training::safetensors::{self, Tensor, Tensors};

use super::cases::{all, key};

fn classes(shape: &[usize], classes: usize) -> DataShape {
    DataShape::Classes { shape: shape.to_vec(), classes }
}

fn gpt(layers: u32, heads: u32, width: u32, dropout: f32) -> ModelSpec {
    ModelSpec::Gpt { layers, heads, width, dropout }
}

const TEXT: DataShape = DataShape::Text { vocabulary: 65, window: 64 };

fn names(spec: &ModelSpec, data: &DataShape) -> Vec<String> {
    let model = build(spec, data).unwrap();
    model.layout().entries().iter().map(|e| format!("{} {:?}", e.name, e.shape)).collect()
}

#[test]
fn tensors_have_the_names_and_layouts_of_pytorch() {
    assert_eq!(names(&ModelSpec::Logistic, &classes(&[30], 2)), ["bias [1]", "weight [1, 30]"]);
    assert_eq!(names(&ModelSpec::Logistic, &classes(&[30], 3)), ["bias [3]", "weight [3, 30]"]);
    assert_eq!(
        names(&ModelSpec::Mlp { hidden: vec![5] }, &classes(&[2, 2], 3)),
        ["0.bias [5]", "0.weight [5, 4]", "2.bias [3]", "2.weight [3, 5]"]
    );
    assert_eq!(
        names(&ModelSpec::Lenet { image: None }, &classes(&[28, 28], 10)),
        [
            "conv1.bias [6]",
            "conv1.weight [6, 1, 5, 5]",
            "conv2.bias [16]",
            "conv2.weight [16, 6, 5, 5]",
            "fc1.bias [120]",
            "fc1.weight [120, 784]",
            "fc2.bias [84]",
            "fc2.weight [84, 120]",
            "fc3.bias [10]",
            "fc3.weight [10, 84]"
        ]
    );
    let block = names(&gpt(1, 2, 4, 0.0), &DataShape::Text { vocabulary: 7, window: 6 });
    assert_eq!(
        block,
        [
            "h.0.attn.c_attn.bias [12]",
            "h.0.attn.c_attn.weight [12, 4]",
            "h.0.attn.c_proj.bias [4]",
            "h.0.attn.c_proj.weight [4, 4]",
            "h.0.ln_1.bias [4]",
            "h.0.ln_1.weight [4]",
            "h.0.ln_2.bias [4]",
            "h.0.ln_2.weight [4]",
            "h.0.mlp.c_fc.bias [16]",
            "h.0.mlp.c_fc.weight [16, 4]",
            "h.0.mlp.c_proj.bias [4]",
            "h.0.mlp.c_proj.weight [4, 16]",
            "ln_f.bias [4]",
            "ln_f.weight [4]",
            "wpe.weight [6, 4]",
            "wte.weight [7, 4]"
        ]
    );
    let parameters = build(&gpt(4, 4, 128, 0.0), &TEXT).unwrap().layout().total();
    assert_eq!(parameters, 65 * 128 + 64 * 128 + 4 * (12 * 128 * 128 + 13 * 128) + 2 * 128);
}

#[test]
fn what_cannot_be_a_model_is_named() {
    let said = |spec: ModelSpec, data: &DataShape| build(&spec, data).map(drop).unwrap_err().to_string();
    let values = DataShape::Values { shape: vec![3] };
    assert_eq!(said(ModelSpec::Linear, &TEXT), "linear learns values, but the data has text");
    assert_eq!(said(ModelSpec::Logistic, &values), "logistic learns classes, but the data has values");
    assert_eq!(
        said(ModelSpec::Lenet { image: None }, &values),
        "lenet learns classes, but the data has values"
    );
    assert_eq!(said(gpt(1, 1, 4, 0.0), &values), "gpt learns text, but the data has values");
    let mlp = |hidden: &[u32]| ModelSpec::Mlp { hidden: hidden.to_vec() };
    assert_eq!(said(mlp(&[3]), &TEXT), "mlp learns classes or values, but the data has text");
    assert_eq!(said(mlp(&[0]), &values), "the width of a layer must be from 1 to 65536, got 0");
    assert_eq!(said(mlp(&[1; 257]), &values), "the number of hidden layers must be from 0 to 256, got 257");
    assert_eq!(
        said(mlp(&[2]), &classes(&[3], 1)),
        "the number of classes must be from 2 to 268435456, got 1"
    );
    assert_eq!(
        said(mlp(&[2]), &classes(&[], 2)),
        "the number of axes of an example must be from 1 to 5, got 0"
    );
    let huge = "the elements of an example must be from 1 to 268435456, got 18446744073709551615";
    assert_eq!(said(mlp(&[2]), &classes(&[usize::MAX, 3], 2)), huge);
    assert_eq!(
        said(mlp(&[65_536, 65_536]), &classes(&[2], 2)),
        "the model would have 4295360514 parameters; the limit is 268435456"
    );
    let lenet = |image| ModelSpec::Lenet { image };
    let table = classes(&[64], 10);
    assert_eq!(
        said(lenet(None), &table),
        "lenet takes images, but the examples have the shape [64]: say image = [channels, height, width]"
    );
    assert_eq!(
        said(lenet(Some([1, 8, 9])), &table),
        "an image of [1, 8, 9] does not hold the 64 elements of an example"
    );
    assert_eq!(said(lenet(Some([8, 2, 4])), &table), "the height of an image must be from 4 to 65536, got 2");
    assert_eq!(
        said(gpt(1, 3, 8, 0.0), &TEXT),
        "the width of 8 cannot be divided among 3 heads: make it a multiple"
    );
    assert_eq!(said(gpt(0, 1, 8, 0.0), &TEXT), "the number of layers must be from 1 to 256, got 0");
    assert_eq!(said(gpt(1, 9, 8, 0.0), &TEXT), "the number of heads must be from 1 to 8, got 9");
    assert_eq!(said(gpt(1, 1, 8, 1.0), &TEXT), "dropout must be from 0 to below 1, got 1");
    assert_eq!(said(gpt(1, 1, 8, f32::NAN), &TEXT), "dropout must be from 0 to below 1, got NaN");
    let text = |vocabulary, window| DataShape::Text { vocabulary, window };
    assert_eq!(said(gpt(1, 1, 8, 0.0), &text(1, 8)), "the vocabulary must be from 2 to 1114112, got 1");
    assert_eq!(said(gpt(1, 1, 8, 0.0), &text(9, 0)), "the window must be from 1 to 65536, got 0");
    assert!(said(gpt(256, 1, 65_536, 0.0), &TEXT).contains("the limit is 268435456"));
}

#[test]
fn a_file_says_which_model_it_holds() {
    for case in all() {
        let bytes = encode(&case.spec, &case.data, &case.params());
        let loaded = load(&bytes).unwrap();
        assert_eq!((loaded.spec, loaded.data), (case.spec.clone(), case.data.clone()), "{}", case.name);
        assert_eq!(loaded.params, case.params());
        let batch = case.batch();
        let again = loaded.model.eval(&loaded.params, &batch).unwrap();
        assert_eq!(again, case.model().eval(&case.params(), &batch).unwrap());
    }
}

#[test]
fn each_key_of_a_file_is_needed_and_has_one_form() {
    for case in all() {
        let tensors = case.params().to_tensors();
        let good = metadata(&case.spec, &case.data);
        assert_eq!(from_metadata(&good, &tensors), Ok((case.spec.clone(), case.data.clone())));
        for name in good.keys() {
            let mut less = good.clone();
            less.remove(name);
            let image = (case.name, name.as_str()) == ("lenet of rows", "bitproof.image");
            match from_metadata(&less, &tensors) {
                Err(ModelError::Metadata { key, .. }) => assert_eq!(key, *name, "{}", case.name),
                // A LeNet without an image takes the shape of the examples, which here is none.
                Ok((spec, data)) => assert!(image && build(&spec, &data).is_err(), "{} {name}", case.name),
                Err(other) => panic!("{other}"),
            }
            for change in ["+", "0", " ", "x", ",", ",1"] {
                let mut other = good.clone();
                other.insert(name.clone(), format!("{change}{}", good[name]));
                let made =
                    from_metadata(&other, &tensors).and_then(|(spec, data)| build(&spec, &data).map(drop));
                assert!(made.is_err(), "{} {name} {change:?}", case.name);
            }
        }
        let mut more = good.clone();
        more.insert("bitproof.mystery".to_owned(), "1".to_owned());
        let expected = "the model file's bitproof.mystery: it does not belong to this model, or is not written as it has to be";
        assert_eq!(from_metadata(&more, &tensors).unwrap_err().to_string(), expected);
        let mut foreign = good;
        foreign.insert("title".to_owned(), "mine".to_owned());
        assert!(from_metadata(&foreign, &tensors).is_ok(), "what others say is theirs");
    }
}

#[test]
fn hostile_metadata_is_refused_before_memory_is_asked_for() {
    let load = |pairs: &[(&str, &str)]| {
        let said = pairs.iter().map(|(k, v)| (format!("bitproof.{k}"), (*v).to_owned())).collect();
        load(&safetensors::encode_with_metadata(&Tensors::new(), &said)).map(drop).unwrap_err()
    };
    let mlp = |hidden: &str, shape: &str, classes: &str| {
        load(&[
            ("model", "mlp"),
            ("data", "classes"),
            ("hidden", hidden),
            ("shape", shape),
            ("classes", classes),
        ])
    };
    assert!(matches!(mlp("65536,65536,65536", "64", "10"), ModelError::Params(_)));
    assert!(matches!(mlp("", "18446744073709551615,18446744073709551615", "2"), ModelError::Size { .. }));
    assert!(matches!(mlp("", "18446744073709551616", "2"), ModelError::Metadata { .. }));
    assert!(matches!(mlp("", "4", "18446744073709551615"), ModelError::Size { .. }));
    assert!(matches!(mlp(&vec!["1"; 300].join(","), "4", "2"), ModelError::Metadata { .. }));
    assert!(matches!(mlp("3", "4", "2"), ModelError::Params(_)), "the tensors are missing");
    let gpt = |layers: &str, window: &str, dropout: &str| {
        load(&[
            ("model", "gpt"),
            ("data", "text"),
            ("layers", layers),
            ("heads", "1"),
            ("width", "65536"),
            ("dropout", dropout),
            ("vocabulary", "65"),
            ("window", window),
        ])
    };
    assert!(matches!(gpt("4294967295", "64", "0"), ModelError::Size { .. }));
    assert!(matches!(gpt("1", "18446744073709551615", "0"), ModelError::Size { .. }));
    assert!(matches!(gpt("200", "64", "0"), ModelError::Params(_)));
    assert!(matches!(gpt("1", "64", "NaN"), ModelError::Dropout { .. }));
    assert!(matches!(gpt("1", "64", "0.10"), ModelError::Metadata { .. }));
    assert!(matches!(load(&[("model", "resnet")]), ModelError::Metadata { .. }));
    assert!(matches!(load(&[("model", "linear"), ("data", "sound")]), ModelError::Metadata { .. }));
}

#[test]
fn files_of_pytorch_are_told_by_their_tensors() {
    let tensors = |shapes: &[(&str, &[usize])]| -> Tensors {
        let tensor =
            |shape: &[usize]| Tensor { shape: shape.to_vec(), data: vec![0.5; shape.iter().product()] };
        shapes.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape))).collect()
    };
    let told = |shapes: &[(&str, &[usize])]| from_metadata(&BTreeMap::new(), &tensors(shapes));
    let values = |n| DataShape::Values { shape: vec![n] };
    assert_eq!(told(&[("weight", &[1, 4]), ("bias", &[1])]), Ok((ModelSpec::Linear, values(4))));
    assert_eq!(told(&[("weight", &[3, 4]), ("bias", &[3])]), Ok((ModelSpec::Logistic, classes(&[4], 3))));
    let mlp: &[(&str, &[usize])] =
        &[("0.weight", &[5, 4]), ("0.bias", &[5]), ("2.weight", &[3, 5]), ("2.bias", &[3])];
    assert_eq!(told(mlp), Ok((ModelSpec::Mlp { hidden: vec![5] }, classes(&[4], 3))));
    let one: &[(&str, &[usize])] = &[("0.weight", &[1, 4]), ("0.bias", &[1])];
    assert_eq!(told(one), Ok((ModelSpec::Mlp { hidden: vec![] }, values(4))));
    let loaded = load(&safetensors::encode(&tensors(mlp))).unwrap();
    assert_eq!(loaded.params.to_tensors(), tensors(mlp));

    let refused =
        |shapes: &[(&str, &[usize])]| load(&safetensors::encode(&tensors(shapes))).map(drop).unwrap_err();
    assert!(matches!(refused(&[]), ModelError::Tensors { .. }));
    assert!(matches!(refused(&[("weight", &[2, 4]), ("bias", &[2])]), ModelError::Tensors { .. }));
    assert!(matches!(refused(&[("wte.weight", &[2, 4])]), ModelError::Tensors { .. }));
    assert!(matches!(refused(&mlp[..3]), ModelError::Params(_)), "a bias is missing");
    let torn: &[(&str, &[usize])] =
        &[("0.weight", &[5, 4]), ("0.bias", &[5]), ("2.weight", &[3, 6]), ("2.bias", &[3])];
    assert!(matches!(refused(torn), ModelError::Params(_)), "the layers do not follow each other");
    let axes: &[(&str, &[usize])] = &[("0.weight", &[4]), ("0.bias", &[4])];
    assert!(matches!(refused(axes), ModelError::Tensors { .. }));
}

#[test]
fn initial_weights_are_drawn_in_the_order_that_is_stated() {
    let model = build(&ModelSpec::Mlp { hidden: vec![5] }, &classes(&[4], 3)).unwrap();
    let params = model.init(key(b"initials"));
    let mut stream = Stream::new(key(b"initials"));
    for (name, inputs) in [("0.weight", 4), ("0.bias", 4), ("2.weight", 5), ("2.bias", 5)] {
        let mut expected = vec![0.0; params.get(name).len()];
        kaiming_uniform(inputs, &mut expected, &mut stream);
        assert_eq!(params.get(name), expected, "{name}");
    }
    let lenet = build(&ModelSpec::Lenet { image: Some([1, 8, 8]) }, &classes(&[64], 10)).unwrap();
    let params = lenet.init(key(b"initials"));
    let mut stream = Stream::new(key(b"initials"));
    for (name, inputs) in [("conv1", 25), ("conv2", 150), ("fc1", 64), ("fc2", 120), ("fc3", 84)] {
        for part in ["weight", "bias"] {
            let name = format!("{name}.{part}");
            let mut expected = vec![0.0; params.get(&name).len()];
            kaiming_uniform(inputs, &mut expected, &mut stream);
            assert_eq!(params.get(&name), expected, "{name}");
        }
    }
}

#[test]
fn a_gpt_begins_as_gpt_2_does() {
    let model = build(&gpt(4, 4, 128, 0.1), &TEXT).unwrap();
    let params = model.init(key(b"initials"));
    let deviation = |name: &str| {
        let values = params.get(name);
        (values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let near = |name: &str, expected: f64| {
        let found = deviation(name);
        assert!((found / expected - 1.0).abs() < 0.03, "{name}: {found}");
    };
    for name in ["wte.weight", "wpe.weight", "h.0.attn.c_attn.weight", "h.3.mlp.c_fc.weight"] {
        near(name, 0.02);
    }
    for name in ["h.0.attn.c_proj.weight", "h.3.mlp.c_proj.weight"] {
        near(name, 0.02 / 8.0f64.sqrt());
    }
    for entry in params.layout().entries() {
        let values = params.get(&entry.name);
        if entry.name.ends_with(".bias") {
            assert!(values.iter().all(|&v| v == 0.0), "{}", entry.name);
        } else if entry.name.contains("ln_") {
            assert!(values.iter().all(|&v| v == 1.0), "{}", entry.name);
        }
    }
    assert_ne!(params.get("h.0.attn.c_proj.weight"), params.get("h.1.attn.c_proj.weight"));
    assert_ne!(params, model.init(key(b"otherkey")));
}

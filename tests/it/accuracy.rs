//! The accuracy that is claimed of the examples, over ten declared seeds.

use std::ops::RangeInclusive;
use std::path::Path;

use bitproof_tests::Project;

/// Declared before they were run; settings were chosen by validation loss, nothing by the test part.
const SEEDS: RangeInclusive<u32> = 1..=10;

/// The minimum and the mean over some seeds.
fn over(pipeline: &str, seeds: RangeInclusive<u32>) -> (f64, f64) {
    let project = Project::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(pipeline);
    let accuracies: Vec<f64> = seeds
        .clone()
        .map(|seed| {
            let mut request = project.request(&[("pipeline.seed", &seed.to_string())]);
            request.pipeline_path.clone_from(&path);
            project.run(&request).unwrap().metrics["evaluate/accuracy"]
        })
        .collect();
    let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
    let least = accuracies.iter().copied().fold(1.0, f64::min);
    println!("{pipeline}, seeds {seeds:?}: minimum {least:.4}, mean {mean:.4}, each {accuracies:.4?}");
    (least, mean)
}

#[test]
fn digits_over_ten_seeds() {
    let (least, mean) = over("digits/bitproof.toml", SEEDS);
    assert!(least >= 0.955 && mean >= 0.965, "minimum {least}, mean {mean}");
}

#[test]
fn breast_cancer_over_ten_seeds() {
    let (least, mean) = over("breast-cancer/bitproof.toml", SEEDS);
    assert!(least >= 0.94 && mean >= 0.965, "minimum {least}, mean {mean}");
}

#[test]
fn lenet_on_the_first_of_its_seeds() {
    let (least, _) = over("digits/lenet.toml", 1..=1);
    assert!(least >= 0.97, "{least}");
}

#[test]
#[ignore = "ten seconds, but minutes to build: cargo test --release -p bitproof-tests --test integration -- --ignored lenet_over_ten_seeds --nocapture"]
fn lenet_over_ten_seeds() {
    let (least, mean) = over("digits/lenet.toml", SEEDS);
    assert!(least >= 0.97 && mean >= 0.98, "minimum {least}, mean {mean}");
}

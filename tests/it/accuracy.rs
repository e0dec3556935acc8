//! The accuracy that is claimed of the digits example, over ten declared seeds.

use std::path::Path;

use bitproof_tests::Project;

/// Declared before they were run; the learning rate was chosen by validation loss.
const SEEDS: std::ops::RangeInclusive<u32> = 1..=10;

#[test]
fn digits_over_ten_seeds() {
    let project = Project::new();
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/digits/bitproof.toml");
    let accuracies: Vec<f64> = SEEDS
        .map(|seed| {
            let mut request = project.request(&[("pipeline.seed", &seed.to_string())]);
            request.pipeline_path.clone_from(&pipeline);
            project.run(&request).unwrap().metrics["evaluate/accuracy"]
        })
        .collect();
    let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
    let least = accuracies.iter().copied().fold(1.0, f64::min);
    println!("digits, seeds {SEEDS:?}: minimum {least:.4}, mean {mean:.4}, each {accuracies:.4?}");
    assert!(least >= 0.955 && mean >= 0.965, "minimum {least}, mean {mean}");
}

//! Steps of a training ask for as much memory late as early: nothing grows with the number of steps. Counted on one thread.
//!
//! One test, so that nothing else in the process allocates meanwhile.

use std::num::{NonZeroU32, NonZeroUsize};

use bitproof_kernels::{with_threads, AdamW};
use bitproof_telemetry::{allocations, peak_of_thread, rss_bytes, CountingAllocator};
use bitproof_training::data::{Part, Text};
use bitproof_training::models::{build, DataShape, ModelSpec};
use bitproof_training::optimizer::OptimizerKind;
use bitproof_training::schedule::{Decay, Schedule};
use bitproof_training::shard::Carriers;
use bitproof_training::steps::Boundaries;
use bitproof_training::trainer::{Trainer, TrainerConfig};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn steps_ask_for_no_more_memory_the_longer_a_training_is() {
    let model = build(
        &ModelSpec::Gpt { layers: 2, heads: 2, width: 16, dropout: 0.1 },
        &DataShape::Text { vocabulary: 5, window: 8 },
    )
    .unwrap();
    let tokens = (0..4000u32).map(|i| i * i % 5).collect();
    let data = Part::Text(Text { tokens, vocabulary: ('a'..='e').collect(), window: 8 });
    let config = TrainerConfig {
        seed: 1,
        stage: "train".to_owned(),
        batch: NonZeroUsize::new(12).unwrap(),
        shards: NonZeroU32::new(3).unwrap(),
        optimizer: OptimizerKind::AdamW(AdamW::default()),
        learning_rate: 0.01,
        schedule: Schedule { warmup_steps: 0, decay: Decay::Constant },
        clip_norm: Some(1.0),
        boundaries: Boundaries { steps: 1 << 20, leaf_every: 1, checkpoint_every: 0 },
    };
    with_threads(1, || {
        let carriers = Carriers::new(1, config.shards);
        let mut trainer = Trainer::new(&*model, &data, config, None).unwrap();
        // Ten steps at once: the number of blocks of one may vary with the digits of its number.
        let mut ten = || {
            let before = allocations();
            let ((), peak) = peak_of_thread(|| {
                for _ in 0..10 {
                    trainer.step(&carriers).unwrap();
                }
            });
            (allocations() - before, peak)
        };
        let first = ten();
        let (early, resident) = (ten(), rss_bytes());
        for _ in 0..25 {
            assert_eq!(ten(), early, "blocks, and the most bytes at once");
        }
        assert!(first.0 > early.0, "the control: the first steps ask for what later ones find: {first:?}");
        let grown = rss_bytes().zip(resident).map_or(0, |(now, then)| now.saturating_sub(then));
        assert!(grown < 1 << 20, "{grown} bytes more after 250 steps");
    });
}

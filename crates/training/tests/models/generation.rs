//! What a language model says, and how likely.

use bitproof_kernels::{Stream, StreamKey};
use bitproof_training::models::{build, DataShape, GenerateError, Generator, ModelSpec, Sampling};
use bitproof_training::params::ParamSet;
use bitproof_training::trainable::{Inputs, TrainableError};
use ndarray::ArrayView2;

use super::cases::key;
use super::reference::{exp, widened, Reference};

pub(crate) const SPEC: ModelSpec = ModelSpec::Gpt { layers: 2, heads: 2, width: 8, dropout: 0.5 };
pub(crate) const DATA: DataShape = DataShape::Text { vocabulary: 7, window: 5 };
const PROMPT: [u32; 3] = [3, 0, 6];

pub(crate) fn params() -> ParamSet {
    let mut params = build(&SPEC, &DATA).unwrap().init(key(b"initials"));
    let mut stream = Stream::new(key(b"changing"));
    params.values_mut().iter_mut().for_each(|p| *p += stream.uniform_f32() - 0.5);
    params
}

fn say(count: usize, temperature: f32, top_k: u32, key: StreamKey) -> Vec<u32> {
    let generator = Generator::new(&SPEC, &DATA).unwrap();
    generator.generate(&params(), &PROMPT, count, &Sampling { temperature, top_k }, key).unwrap()
}

/// The scores of the next token by the loops in f64, which see the last five tokens.
fn next_scores(tokens: &[u32]) -> Vec<f64> {
    let seen = &tokens[tokens.len().saturating_sub(5)..];
    let row = ArrayView2::from_shape((1, seen.len()), seen).unwrap();
    Reference::new(&SPEC, &DATA, None).scores(&widened(&params()), &Inputs::Tokens(row)).pop().unwrap()
}

#[test]
fn without_a_temperature_the_likeliest_follows() {
    let mut tokens = PROMPT.to_vec();
    for _ in 0..12 {
        let scores = next_scores(&tokens);
        tokens.push((0..7).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap() as u32);
    }
    assert_eq!(say(12, 0.0, 0, key(b"generate")), tokens[3..]);
    assert_eq!(say(12, 0.7, 1, key(b"otherkey")), tokens[3..], "of one there is no choice");
    assert_eq!(say(12, 0.01, 0, key(b"otherkey")), tokens[3..], "the coldest is nearly as sure");
}

/// The same draws by the loops in f64: the sums differ from the kernels' in the seventh digit, so no draw of these lies on an edge.
#[test]
fn tokens_are_drawn_as_it_is_stated() {
    for (temperature, top_k) in [(1.0f32, 0u32), (0.5, 0), (2.0, 3), (1.5, 7), (1.0, 100)] {
        let mut stream = Stream::new(key(b"generate"));
        let mut tokens = PROMPT.to_vec();
        for _ in 0..200 {
            let scores = next_scores(&tokens);
            let mut order: Vec<usize> = (0..7).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            order.truncate(if top_k == 0 { 7 } else { top_k as usize });
            order.sort_unstable();
            let weights: Vec<f64> = order.iter().map(|&t| exp(scores[t] / f64::from(temperature))).collect();
            let u = (stream.next_u64() >> 11) as f64 / 9_007_199_254_740_992.0;
            let mut left = u * weights.iter().sum::<f64>();
            let drawn = weights.iter().position(|w| {
                left -= w;
                left < 0.0
            });
            tokens.push(order[drawn.unwrap()] as u32);
        }
        assert_eq!(say(200, temperature, top_k, key(b"generate")), tokens[3..], "{temperature} {top_k}");
        assert_ne!(say(200, temperature, top_k, key(b"otherkey")), tokens[3..], "another stream");
    }
}

#[test]
fn of_equal_scores_the_lower_tokens_stay() {
    let params = ParamSet::zeros(build(&SPEC, &DATA).unwrap().layout());
    let generator = Generator::new(&SPEC, &DATA).unwrap();
    let sampling = Sampling { temperature: 1.0, top_k: 2 };
    let said = generator.generate(&params, &PROMPT, 100, &sampling, key(b"generate")).unwrap();
    let ones = said.iter().filter(|&&token| token == 1).count();
    assert!(said.iter().all(|&token| token < 2) && (30..70).contains(&ones), "{said:?}");
    let all = Sampling { temperature: 1.0, top_k: 0 };
    let said = generator.generate(&params, &PROMPT, 100, &all, key(b"generate")).unwrap();
    assert!((0..7).all(|token| said.contains(&token)));
}

#[test]
fn what_cannot_be_said_is_refused() {
    let generator = Generator::new(&SPEC, &DATA).unwrap();
    let mut params = params();
    let try_to = |params: &ParamSet, prompt: &[u32], temperature| {
        let sampling = Sampling { temperature, top_k: 0 };
        generator.generate(params, prompt, 2, &sampling, key(b"generate")).unwrap_err()
    };
    assert_eq!(try_to(&params, &[], 1.0), GenerateError::EmptyPrompt);
    for got in [-1.0, f32::INFINITY] {
        assert_eq!(try_to(&params, &PROMPT, got), GenerateError::Temperature { got });
    }
    let unknown = try_to(&params, &[7], 1.0);
    assert!(matches!(unknown, GenerateError::Model(TrainableError::Tape(_))), "{unknown}");
    params.get_mut("wte.weight")[4 * 8] = f32::NAN;
    let said = try_to(&params, &PROMPT, 0.0).to_string();
    assert_eq!(said, "the score of token 4 after 3 tokens is NaN");
    let mlp = Generator::new(&ModelSpec::Linear, &DataShape::Values { shape: vec![1] });
    assert!(mlp.is_err());
}

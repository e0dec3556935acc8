//! Text that a model says, token by token.

use std::cmp::Ordering;

use bitproof_kernels::{argmax, softmax_into, Stream, StreamKey};
use ndarray::{ArrayView2, ArrayViewMut2};

use super::architecture::Model;
use super::gpt::Gpt;
use super::{DataShape, ModelError, ModelSpec};
use crate::params::ParamSet;
use crate::trainable::{Inputs, TrainableError};

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// What scores are divided by: below 1 the likely ones gain. 0 takes the first with the largest score.
    pub temperature: f32,
    /// How many of the most likely tokens may be chosen; 0 for all.
    pub top_k: u32,
}

/// Text that cannot be generated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// There is nothing to begin with.
    #[error("the prompt is empty; a model needs a token to go on from")]
    EmptyPrompt,
    /// The temperature is no factor.
    #[error("the temperature must be a finite number of at least 0, got {got}")]
    Temperature {
        /// What it is.
        got: f32,
    },
    /// The model gave a score that is not finite.
    #[error("the score of token {token} after {after} tokens is {score}")]
    NotFinite {
        /// The token.
        token: usize,
        /// How many tokens there were.
        after: usize,
        /// The score.
        score: f32,
    },
    /// The model does not take the tokens.
    #[error(transparent)]
    Model(#[from] TrainableError),
}

/// A language model that goes on with a text.
pub struct Generator {
    model: Model<Gpt>,
}

impl Generator {
    /// A generator for the parameters of this model.
    ///
    /// # Errors
    /// [`ModelError`], also when the model is no language model.
    pub fn new(spec: &ModelSpec, data: &DataShape) -> Result<Self, ModelError> {
        Ok(Self { model: super::gpt(spec, data)? })
    }

    /// How many tokens there are.
    pub fn vocabulary(&self) -> usize {
        self.model.architecture.vocabulary()
    }

    /// `count` tokens that follow the prompt. The model sees the last tokens that fit its window.
    ///
    /// A token is drawn so: with `m` the largest score, `z = (score − m) / temperature`, two f32 operations; of these the `top_k` largest
    /// stay (of equal ones the lower token); their softmax in ascending order of the tokens; and the first token at which the running
    /// sum of the probabilities, in f64 in that order, exceeds `u` times their sum. `u` is a multiple of 2⁻⁵³ from the upper 53 bits of the next
    /// [`Stream::next_u64`] of the key's stream, one for each token. With temperature 0 nothing is drawn.
    ///
    /// # Errors
    /// [`GenerateError`].
    pub fn generate(
        &self,
        params: &ParamSet,
        prompt: &[u32],
        count: usize,
        sampling: &Sampling,
        key: StreamKey,
    ) -> Result<Vec<u32>, GenerateError> {
        if prompt.is_empty() {
            return Err(GenerateError::EmptyPrompt);
        }
        let Sampling { temperature, top_k } = *sampling;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(GenerateError::Temperature { got: temperature });
        }
        let (window, vocabulary) = (self.model.architecture.window(), self.vocabulary());
        let mut stream = Stream::new(key);
        let mut tokens = prompt.to_vec();
        for _ in 0..count {
            let seen = &tokens[tokens.len().saturating_sub(window)..];
            let row = ArrayView2::from_shape((1, seen.len()), seen).expect("a row of tokens");
            let scores = self.model.scores(params, &Inputs::Tokens(row))?;
            let last = &scores[scores.len() - vocabulary..];
            if let Some(token) = last.iter().position(|score| !score.is_finite()) {
                let (after, score) = (tokens.len(), last[token]);
                return Err(GenerateError::NotFinite { token, after, score });
            }
            let next = match argmax(last) {
                Some(best) if temperature == 0.0 => best,
                Some(best) => draw(last, last[best], temperature, top_k as usize, &mut stream)?,
                None => unreachable!("a vocabulary has tokens"),
            };
            tokens.push(next as u32);
        }
        Ok(tokens.split_off(prompt.len()))
    }
}

fn draw(
    scores: &[f32],
    largest: f32,
    temperature: f32,
    top_k: usize,
    stream: &mut Stream,
) -> Result<usize, GenerateError> {
    let scaled: Vec<f32> = scores.iter().map(|score| (score - largest) / temperature).collect();
    let mut kept: Vec<usize> = (0..scaled.len()).collect();
    if (1..kept.len()).contains(&top_k) {
        // A stable sort: of equal scores, +0 and −0 among them, the lower token stays first. None is NaN.
        kept.sort_by(|&a, &b| scaled[b].partial_cmp(&scaled[a]).unwrap_or(Ordering::Equal));
        kept.truncate(top_k);
        kept.sort_unstable();
    }
    let of: Vec<f32> = kept.iter().map(|&token| scaled[token]).collect();
    let mut probabilities = vec![0.0; of.len()];
    let row = |n| (1, n);
    let into = ArrayViewMut2::from_shape(row(of.len()), &mut probabilities).expect("a row of tokens");
    let of = ArrayView2::from_shape(row(of.len()), &of).expect("a row of tokens");
    softmax_into(of, into).map_err(TrainableError::from)?;
    let sums: Vec<f64> = probabilities
        .iter()
        .scan(0.0, |sum, &p| {
            *sum += f64::from(p);
            Some(*sum)
        })
        .collect();
    let u = (stream.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
    // The last sum is that of all, and u is below 1: the product is below it or, rounded up, equal to it.
    let bound = u * sums.last().copied().unwrap_or(0.0);
    let found = sums.iter().position(|&sum| sum > bound);
    Ok(kept[found.unwrap_or(kept.len() - 1)])
}

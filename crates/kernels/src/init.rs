//! Initial weights, from random streams. Element `i` is a function of word `i` of the stream alone, so that filling is divided over
//! threads.

use crate::spec::normal::quantile;
use crate::stream::Stream;
use crate::threads::{each_chunk, worth};

/// Fills `out` with uniform numbers in `[−b, b)`, `b = 1/√fan_in`: what PyTorch's `Linear` and `Conv2d` begin with (He et al.
/// 2015, with a = √5), for weights and biases alike. `fan_in` counts the inputs of one output.
///
/// `out[i] = f32((2u − 1)·b)` in f64, with `u` the next [`Stream::uniform_f32`]; one word of the stream an element. With
/// `fan_in = 0` the bound is 0: all elements are `+0`, and nothing is drawn.
pub fn kaiming_uniform(fan_in: usize, out: &mut [f32], stream: &mut Stream) {
    if fan_in == 0 {
        out.fill(0.0);
        return;
    }
    fill(out, stream, |out, stream| {
        let bound = 1.0 / (fan_in as f64).sqrt();
        for out in out {
            *out = ((2.0 * f64::from(stream.uniform_f32()) - 1.0) * bound) as f32;
        }
    });
}

/// Fills `out` with normal variates of this mean and standard deviation, by inversion.
///
/// `out[i] = f32(mean + deviation·Φ⁻¹((w + ½)·2⁻³²))` in f64, with `w` the next word of the stream and `Φ⁻¹` the sequence of
/// operations in `src/spec/normal.rs` (Wichura's AS 241); one word of the stream an element. So no variate lies further than 6.34
/// deviations from the mean.
///
/// ```
/// use bitproof_kernels::{normal, Stream, StreamKey};
/// let mut stream = Stream::new(StreamKey::from_bytes(*b"weights1"));
/// let mut weights = vec![0.0; 1000];
/// normal(0.0, 0.02, &mut weights, &mut stream);
/// assert!(weights.iter().all(|weight| weight.abs() < 0.02 * 6.34));
/// assert_eq!(stream.position(), 1000);
/// ```
pub fn normal(mean: f32, deviation: f32, out: &mut [f32], stream: &mut Stream) {
    scaled_normal(|| (f64::from(mean), f64::from(deviation)), out, stream);
}

/// Fills `out` with [`normal`] variates around 0 of the standard deviation `√(2/fan_in)` (an f64), which keeps the variance through
/// layers with ReLU (He et al. 2015). With `fan_in = 0` all elements are `+0`, and nothing is drawn.
pub fn kaiming_normal(fan_in: usize, out: &mut [f32], stream: &mut Stream) {
    if fan_in == 0 {
        out.fill(0.0);
        return;
    }
    scaled_normal(|| (0.0, (2.0 / fan_in as f64).sqrt()), out, stream);
}

/// Mean and deviation come from a function so that they are computed in the stated floating-point state.
fn scaled_normal(moments: impl Fn() -> (f64, f64) + Sync, out: &mut [f32], stream: &mut Stream) {
    fill(out, stream, |out, stream| {
        let (mean, deviation) = moments();
        for out in out {
            let u = (f64::from(stream.next_u32()) + 0.5) * (1.0 / 4_294_967_296.0); // exact
            *out = (mean + deviation * quantile(u)) as f32;
        }
    });
}

/// Calls `draw` for parts of `out`, each with the stream at its own place; draws one word for each element.
fn fill(out: &mut [f32], stream: &mut Stream, draw: impl Fn(&mut [f32], &mut Stream) + Sync) {
    /// Elements below which waking a thread costs more than it saves.
    const WORTH_A_THREAD: usize = 1 << 14;
    let length = out.len().div_ceil(worth(out.len(), WORTH_A_THREAD)).max(1);
    let start = stream.clone();
    *stream = start.ahead(out.len() as u64);
    each_chunk(out, length, &|index, out| draw(out, &mut start.ahead((index * length) as u64)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamKey;
    use crate::with_threads;

    #[test]
    fn numbers_fill_the_range() {
        let key = StreamKey::from_bytes([3; 8]);
        let mut stream = Stream::new(key);
        let mut out = vec![0.0; 10_000];
        kaiming_uniform(64, &mut out, &mut stream);
        assert_eq!(stream.position(), 10_000);
        assert!(out.iter().all(|value| (-0.125..0.125).contains(value)));
        assert!(crate::max(&out) > 0.1249);
        assert!(crate::mean(&out).abs() < 0.002);
        let first = (2.0 * f64::from(Stream::new(key).uniform_f32()) - 1.0) / 8.0;
        assert_eq!(out[0], first as f32);
        let mut none = [1.0; 3];
        kaiming_uniform(0, &mut none, &mut stream);
        assert_eq!((none, stream.position()), ([0.0; 3], 10_000));
    }

    fn variates(count: usize, seed: u8) -> Vec<f32> {
        let mut out = vec![0.0; count];
        normal(0.0, 1.0, &mut out, &mut Stream::new(StreamKey::from_bytes([seed; 8])));
        out
    }

    /// `Φ(x)` by Marsaglia's series ("Evaluating the normal distribution", 2004), good to the accuracy of the f32 exponential.
    fn cumulative(x: f64) -> f64 {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term.abs() > 1e-12 {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        let density =
            f64::from(crate::elementary::exp((-x * x / 2.0) as f32)) / (2.0 * std::f64::consts::PI).sqrt();
        0.5 + sum * density
    }

    /// The statistic of Kolmogorov and Smirnov, times √n: above 1.95 once in a thousand samples.
    fn distance(mut values: Vec<f32>) -> f64 {
        values.sort_by(f32::total_cmp);
        let count = values.len() as f64;
        let gap = |(index, &x): (usize, &f32)| {
            let expected = cumulative(f64::from(x));
            (expected - index as f64 / count).abs().max((expected - (index + 1) as f64 / count).abs())
        };
        values.iter().enumerate().map(gap).fold(0.0, f64::max) * count.sqrt()
    }

    #[test]
    fn normal_variates_are_normal() {
        for seed in 0..4 {
            let values = variates(100_000, seed);
            assert!(distance(values.clone()) < 1.95);
            // Standard errors: 1, √2, √15 and √96 over √100,000; five of them.
            for (power, expected, bound) in
                [(1, 0.0, 0.016), (2, 1.0, 0.023), (3, 0.0, 0.062), (4, 3.0, 0.155)]
            {
                let raised =
                    values.iter().map(|&x| (0..power).fold(1.0, |product, _| product * f64::from(x)));
                let moment = raised.sum::<f64>() / 100_000.0;
                assert!((moment - expected).abs() < bound, "moment {power} is {moment}");
            }
            // The negative control: one percent more spread, or a small shift, is noticed.
            assert!(distance(values.iter().map(|x| x * 1.03).collect()) > 1.95);
            assert!(distance(values.iter().map(|x| x + 0.02).collect()) > 1.95);
        }
    }

    #[test]
    fn the_first_and_last_words_stay_finite() {
        let extreme = quantile(0.5 / 4_294_967_296.0);
        assert!((-6.34..-6.33).contains(&extreme), "{extreme}");
        assert_eq!(quantile(1.0 - 0.5 / 4_294_967_296.0), -extreme);
    }

    #[test]
    fn threads_and_cuts_change_nothing() {
        let key = StreamKey::from_bytes(*b"initial!");
        type Fill = fn(&mut [f32], &mut Stream);
        let fills: [Fill; 3] = [
            |out, stream| normal(0.5, 2.0, out, stream),
            |out, stream| kaiming_normal(50, out, stream),
            |out, stream| kaiming_uniform(50, out, stream),
        ];
        for fill in fills {
            let run = |threads, cut: usize| {
                let mut stream = Stream::at(key, 3);
                let mut out = vec![0.0; 100_001];
                let (first, second) = out.split_at_mut(cut);
                with_threads(threads, || {
                    fill(first, &mut stream);
                    fill(second, &mut stream);
                });
                assert_eq!(stream, Stream::at(key, 100_004));
                out.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
            };
            let expected = run(1, 0);
            assert!(run(2, 0) == expected && run(8, 0) == expected && run(3, 50_001) == expected);
            assert!(run(1, 1)[1..] == expected[1..]);
        }
    }

    #[test]
    fn variates_are_scaled_quantiles() {
        let key = StreamKey::from_bytes([9; 8]);
        let mut out = [0.0; 5];
        kaiming_normal(8, &mut out, &mut Stream::new(key));
        let mut stream = Stream::new(key);
        for got in out {
            let u = (f64::from(stream.next_u32()) + 0.5) / 4_294_967_296.0;
            assert_eq!(got, (0.5 * quantile(u)) as f32);
        }
        kaiming_normal(0, &mut out, &mut stream);
        assert_eq!((out, stream.position()), ([0.0; 5], 5));
    }
}

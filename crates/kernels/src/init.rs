use crate::stream::Stream;
use crate::threads::with_float_defaults;

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
    with_float_defaults(|| {
        let bound = 1.0 / (fan_in as f64).sqrt();
        for out in out {
            *out = ((2.0 * f64::from(stream.uniform_f32()) - 1.0) * bound) as f32;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamKey;

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
}

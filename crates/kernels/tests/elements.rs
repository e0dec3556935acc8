//! Steps of SGD, clipping and dropout: every instruction set and number of threads against the written formula.

use bitproof_kernels::*;
use ndarray::{s, Array1, Array2};

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut value = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (class, raw) = ((state >> 33) % 64, (state >> 8) as u32);
        match class {
            0..=3 => f32::from_bits(raw & 0x8000_0000),
            4..=7 => f32::from_bits(raw & 0x807f_ffff),
            8 => f32::from_bits(raw),
            9 => [f32::INFINITY, f32::NEG_INFINITY, f32::NAN][raw as usize % 3],
            _ => raw as f32 / 2e9 - 1.0,
        }
    };
    (0..count).map(|_| value()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|&value| canonical_nan(value).to_bits()).collect()
}

const LENGTHS: [usize; 14] = [0, 1, 2, 7, 8, 9, 15, 16, 17, 63, 64, 65, 1000, 70_001];

fn on_every_path(check: impl Fn(&str) + Sync) {
    for isa in Isa::available() {
        for threads in [1, 2, 3, 8] {
            with_threads(threads, || isa.force(|| check(&format!("{} with {threads} threads", isa.name()))));
        }
    }
}

#[test]
fn sgd_is_its_formula() {
    let config = Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01 };
    let [rate, momentum, decay] = [config.learning_rate, config.momentum, config.weight_decay].map(f64::from);
    on_every_path(|path| {
        for length in LENGTHS {
            let (p, g, u) = (values(length, 5), values(length, 6), values(length, 7));
            let (mut got_p, mut got_u) = (p.clone(), u.clone());
            sgd_step(&config, &mut got_p, &g, &mut got_u).unwrap();
            for i in 0..length {
                let before = f64::from(p[i]);
                let u = (momentum * f64::from(u[i]) + (f64::from(g[i]) + decay * before)) as f32;
                let p = (before - rate * f64::from(u)) as f32;
                assert_eq!(bits(&[got_p[i], got_u[i]]), bits(&[p, u]), "element {i} of {length} on {path}");
            }
        }
    });
}

/// The negative control: a fused multiply-add in the same formula would be noticed.
#[test]
fn fused_steps_differ() {
    let (mut p, g, mut u) = (values(1000, 5), values(1000, 6), values(1000, 7));
    let fused: Vec<f32> =
        u.iter().zip(&g).zip(&p).map(|((&u, &g), &p)| 0.9f32.mul_add(u, 0.01f32.mul_add(p, g))).collect();
    sgd_step(&Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01 }, &mut p, &g, &mut u).unwrap();
    assert_ne!(bits(&u), bits(&fused));
}

#[test]
fn gradients_are_clipped_by_their_norm() {
    on_every_path(|path| {
        let (mut a, mut b) = ([3.0f32, 0.0], [0.0f32, -4.0]);
        assert_eq!(gradient_norm([&a[..], &b]), 5.0, "{path}");
        assert_eq!(clip_gradients(&mut [&mut a, &mut b], 10.0), 5.0);
        assert_eq!((a, b), ([3.0, 0.0], [0.0, -4.0]), "small gradients stay");
        assert_eq!(clip_gradients(&mut [&mut a, &mut b], 1.0), 5.0);
        assert_eq!((a, b), ([0.2 * 3.0, 0.0], [0.0, 0.2 * -4.0]));
        let mut broken = [f32::NAN, 1.0];
        assert!(clip_gradients(&mut [&mut broken], 1.0).is_nan());
        assert_eq!(broken[1], 1.0);
        let large = [2e30f32; 100];
        assert_eq!(gradient_norm([&large[..]]), (100.0 * f64::from(2e30f32) * f64::from(2e30f32)).sqrt());
    });
}

/// The words of the stream, one after the other.
fn masked(key: StreamKey, p: f32, x: &[f32]) -> Vec<f32> {
    let mut stream = Stream::new(key);
    let scale = 1.0 / (1.0 - p);
    x.iter().map(|&x| if stream.uniform_f32() >= p { x * scale } else { 0.0 }).collect()
}

#[test]
fn dropout_follows_the_stream() {
    let key = StreamKey::from_bytes(*b"a stream");
    on_every_path(|path| {
        for p in [0.0, f32::from_bits(1), 1.0 / 16_777_216.0, 0.1, 0.5, 0.999, 1.0 - f32::EPSILON / 2.0] {
            let dropout = Dropout::new(key, p);
            for length in LENGTHS {
                let x = values(length, 8);
                let mut y = Array1::from_elem(length, 7.0);
                dropout_into(&dropout, Array1::from(x.clone()).view(), y.view_mut()).unwrap();
                assert_eq!(
                    bits(&y.to_vec()),
                    bits(&masked(key, p, &x)),
                    "{length} elements, p = {p} on {path}"
                );
                let mut dx = Array1::from_elem(length, 7.0);
                dropout_grad_into(&dropout, Array1::from(x).view(), dx.view_mut()).unwrap();
                assert_eq!(bits(&dx.to_vec()), bits(&y.to_vec()));
            }
        }
    });
}

#[test]
fn the_mask_belongs_to_the_index_and_the_key() {
    let x = Array2::from_shape_vec((7, 31), vec![1.0; 217]).unwrap();
    let key = StreamKey::from_bytes(*b"a stream");
    let expected = masked(key, 0.5, &[1.0; 217]);
    let transposed = x.t().as_standard_layout().into_owned();
    let mut y = Array2::zeros((14, 31));
    dropout_into(&Dropout::new(key, 0.5), transposed.t(), y.slice_mut(s![..;2, ..])).unwrap();
    assert_eq!(y.slice(s![..;2, ..]).iter().copied().collect::<Vec<_>>(), expected);
    assert!(y.slice(s![1..;2, ..]).iter().all(|&gap| gap == 0.0));
    let kept = expected.iter().filter(|&&value| value > 0.0).count();
    assert!((80..137).contains(&kept), "{kept} of 217 kept");
    let other = masked(StreamKey::from_bytes(*b"another "), 0.5, &[1.0; 217]);
    assert_ne!(expected, other, "the negative control: the key is seen");
    let mut wrong = Array1::zeros(3);
    assert!(dropout_into(&Dropout::new(key, 0.5), Array1::zeros(4).view(), wrong.view_mut()).is_err());
}

#[test]
#[should_panic(expected = "which is not in [0, 1)")]
fn everything_cannot_be_dropped() {
    let _ = Dropout::new(StreamKey::from_bytes([0; 8]), 1.0);
}

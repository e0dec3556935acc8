//! Layers of images and of sequences.

use bitproof_kernels::{AverageOver, Conv2d, Pool2d, Stream, StreamKey};

use super::oracle::{exp, indices, place};
use super::{apart, check, uniform};

/// The places of a window on one axis: those that it covers, for output `i`.
fn window(i: usize, stride: usize, padding: usize, size: usize, length: usize) -> Vec<(usize, usize)> {
    let at = |tap: usize| (i * stride + tap).checked_sub(padding).filter(|&place| place < length);
    (0..size).filter_map(|tap| Some((tap, at(tap)?))).collect()
}

fn places(length: usize, size: usize, stride: usize, padding: usize) -> usize {
    (length + 2 * padding - size) / stride + 1
}

#[test]
fn convolutions() {
    for (image, kernel, stride, padding) in [
        ([2, 2, 4, 5], [3, 2, 3, 2], [1, 1], [0, 0]),
        ([1, 1, 4, 4], [2, 1, 3, 3], [1, 1], [1, 1]),
        ([2, 1, 5, 4], [1, 1, 2, 3], [2, 1], [1, 0]),
        ([1, 3, 1, 1], [2, 3, 1, 1], [1, 1], [0, 0]),
        ([0, 1, 3, 3], [1, 1, 2, 2], [1, 1], [0, 0]),
    ] {
        let conv = Conv2d { stride, padding };
        let output = [
            image[0],
            kernel[0],
            places(image[2], kernel[2], stride[0], padding[0]),
            places(image[3], kernel[3], stride[1], padding[1]),
        ];
        check(
            &format!("conv2d of {image:?} by {kernel:?}, stride {stride:?}, padding {padding:?}"),
            &[
                uniform(1, &image, -1.0, 1.0),
                uniform(2, &kernel, -1.0, 1.0),
                uniform(3, &[kernel[0]], -1.0, 1.0),
            ],
            &|tape, of| {
                let y = tape.conv2d(of[0], of[1], of[2], conv)?;
                assert_eq!(tape.shape(y)[..], output);
                Ok(y)
            },
            &|of| {
                let element = |at: &Vec<usize>| {
                    let mut sum = of[2][at[1]];
                    for channel in 0..image[1] {
                        for &(u, row) in &window(at[2], stride[0], padding[0], kernel[2], image[2]) {
                            for &(v, column) in &window(at[3], stride[1], padding[1], kernel[3], image[3]) {
                                sum += of[0][place(&image, &[at[0], channel, row, column])]
                                    * of[1][place(&kernel, &[at[1], channel, u, v])];
                            }
                        }
                    }
                    sum
                };
                indices(&output).iter().map(element).collect()
            },
        );
    }
}

#[test]
fn pools() {
    for (image, size, stride, padding) in [
        ([2, 2, 4, 4], [2, 2], [2, 2], [0, 0]),
        ([1, 2, 5, 4], [3, 2], [1, 2], [1, 0]),
        ([1, 1, 3, 3], [3, 3], [1, 1], [1, 1]),
        ([1, 1, 1, 1], [1, 1], [1, 1], [0, 0]),
        ([0, 2, 2, 2], [2, 2], [1, 1], [0, 0]),
    ] {
        let pool = Pool2d { window: size, stride, padding };
        let along = |axis: usize| places(image[axis + 2], size[axis], stride[axis], padding[axis]);
        let output = [image[0], image[1], along(0), along(1)];
        let covered = |x: &[f64], at: &[usize]| -> Vec<f64> {
            let rows = window(at[2], stride[0], padding[0], size[0], image[2]);
            let columns = window(at[3], stride[1], padding[1], size[1], image[3]);
            let all = rows.iter().flat_map(|&(_, row)| columns.iter().map(move |&(_, column)| (row, column)));
            all.map(|(row, column)| x[place(&image, &[at[0], at[1], row, column])]).collect()
        };
        let name = format!("pooling of {image:?} by {size:?}, stride {stride:?}, padding {padding:?}");
        let input = [apart(4, &image)];
        check(&format!("max {name}"), &input, &|tape, of| tape.max_pool2d(of[0], pool), &|of| {
            let largest = |x: Vec<f64>| x.into_iter().fold(f64::NEG_INFINITY, f64::max);
            indices(&output).iter().map(|at| largest(covered(&of[0], at))).collect()
        });
        for over in [AverageOver::Window, AverageOver::Covered] {
            check(
                &format!("average {name} over {over:?}"),
                &input,
                &|tape, of| tape.avg_pool2d(of[0], pool, over),
                &|of| {
                    let average = |x: Vec<f64>| {
                        let count = if over == AverageOver::Window { size[0] * size[1] } else { x.len() };
                        x.iter().sum::<f64>() / count as f64
                    };
                    indices(&output).iter().map(|at| average(covered(&of[0], at))).collect()
                },
            );
        }
    }
}

#[test]
fn embeddings() {
    static IDS: [u32; 6] = [3, 0, 3, 1, 3, 0];
    for shape in [&[6][..], &[2, 3], &[6, 1]] {
        check(
            &format!("embedding of {shape:?}"),
            &[uniform(5, &[4, 3], -1.0, 1.0)],
            &|tape, of| {
                let y = tape.embedding(of[0], &IDS, shape)?;
                assert_eq!(tape.shape(y)[..], [shape, &[3]].concat());
                Ok(y)
            },
            &|of| IDS.iter().flat_map(|&id| of[0][id as usize * 3..][..3].to_vec()).collect(),
        );
    }
    let table = [uniform(5, &[4, 3], -1.0, 1.0)];
    check("embedding of none", &table, &|tape, of| tape.embedding(of[0], &[], &[0]), &|_| vec![]);
}

#[test]
fn layer_norms() {
    for shape in [&[3, 5][..], &[1, 4], &[4], &[2, 2, 3], &[0, 3]] {
        let columns = shape[shape.len() - 1];
        let parameters = |seed| uniform(seed, &[columns], 0.5, 1.5);
        check(
            &format!("layer_norm of {shape:?}"),
            &[uniform(6, shape, -2.0, 2.0), parameters(7), parameters(8)],
            &|tape, of| tape.layer_norm(of[0], of[1], of[2], 1e-3),
            &|of| {
                let row = |x: &[f64]| {
                    let mean = x.iter().sum::<f64>() / x.len() as f64;
                    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / x.len() as f64;
                    let deviation = (variance + f64::from(1e-3_f32)).sqrt();
                    let each = x.iter().zip(&of[1]).zip(&of[2]);
                    each.map(|((x, g), b)| (x - mean) / deviation * g + b).collect::<Vec<_>>()
                };
                of[0].chunks(columns).flat_map(row).collect()
            },
        );
    }
}

#[test]
fn causal_attentions() {
    for (sequences, tokens, heads, width) in [(2, 4, 2, 3), (1, 1, 1, 2), (1, 5, 3, 1), (0, 2, 1, 1)] {
        let shape = [sequences, tokens, 3 * heads * width];
        check(
            &format!("causal_attention of {shape:?} in {heads} heads"),
            &[uniform(9, &shape, -1.5, 1.5)],
            &|tape, of| tape.causal_attention(of[0], heads),
            &|of| {
                let part = |s: usize, t: usize, part: usize, head: usize, i: usize| {
                    of[0][place(&shape, &[s, t, (part * heads + head) * width + i])]
                };
                let element = |at: &Vec<usize>| {
                    let (s, t, head, i) = (at[0], at[1], at[2] / width, at[2] % width);
                    let score = |key: usize| -> f64 {
                        let products = (0..width).map(|i| part(s, t, 0, head, i) * part(s, key, 1, head, i));
                        exp(products.sum::<f64>() / (width as f64).sqrt())
                    };
                    let total: f64 = (0..=t).map(score).sum();
                    (0..=t).map(|key| score(key) / total * part(s, key, 2, head, i)).sum()
                };
                indices(&[sequences, tokens, heads * width]).iter().map(element).collect()
            },
        );
    }
}

#[test]
fn dropouts() {
    let key = StreamKey::from_bytes(*b"dropout!");
    for p in [0.0, 0.25, 0.75] {
        check(
            &format!("dropout of {p}"),
            &[uniform(10, &[5, 7], -1.0, 1.0)],
            &|tape, of| tape.dropout(of[0], p, key),
            &|of| {
                let mut stream = Stream::new(key);
                let mut each = |x: &f64| match stream.uniform_f32() >= p {
                    true => x / (1.0 - f64::from(p)),
                    false => 0.0,
                };
                of[0].iter().map(&mut each).collect()
            },
        );
    }
    check(
        "dropout of none",
        &[uniform(11, &[0], 0.0, 1.0)],
        &|tape, of| tape.dropout(of[0], 0.5, key),
        &|_| vec![],
    );
}

//! Mathematics in f64, written from the definitions: series and plain sums, no function of the kernels and no libm.

/// `(Σ (x/256)ⁿ/n!)²⁵⁶`, by squaring.
pub(super) fn exp(x: f64) -> f64 {
    let (part, mut term, mut sum) = (x / 256.0, 1.0, 1.0);
    for n in 1..24 {
        term *= part / f64::from(n);
        sum += term;
    }
    (0..8).fold(sum, |y, _| y * y)
}

/// Halley's iteration for `eʸ = x`.
pub(super) fn ln(x: f64) -> f64 {
    (0..60).fold(0.0, |y, _| {
        let e = exp(y);
        y + 2.0 * (x - e) / (x + e)
    })
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + exp(-x))
}

pub(super) fn tanh(x: f64) -> f64 {
    let e = exp(2.0 * x);
    (e - 1.0) / (e + 1.0)
}

/// Maclaurin's series, for |x| below 3.
pub(super) fn erf(x: f64) -> f64 {
    let (mut power, mut sum) = (x, x);
    for n in 1..80 {
        power *= -x * x / f64::from(n);
        sum += power / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

pub(super) fn logsumexp(values: &[f64]) -> f64 {
    ln(values.iter().map(|&value| exp(value)).sum())
}

pub(super) fn softmax(values: &[f64]) -> Vec<f64> {
    let sum: f64 = values.iter().map(|&value| exp(value)).sum();
    values.iter().map(|&value| exp(value) / sum).collect()
}

/// `a` (rows, inner) times `b` (inner, columns).
pub(super) fn matmul(a: &[f64], b: &[f64], [rows, inner, columns]: [usize; 3]) -> Vec<f64> {
    let element = |i: usize, j: usize| (0..inner).map(|k| a[i * inner + k] * b[k * columns + j]).sum();
    (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| element(i, j)).collect()
}

/// A matrix of so many rows and columns with its axes swapped.
pub(super) fn transpose(a: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    (0..columns).flat_map(|j| (0..rows).map(move |i| (i, j))).map(|(i, j)| a[i * columns + j]).collect()
}

/// The index of every element of a shape, row-major.
pub(super) fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    shape.iter().fold(vec![vec![]], |all, &length| {
        all.iter().flat_map(|index| (0..length).map(move |next| [&index[..], &[next]].concat())).collect()
    })
}

/// The place of an index, row-major, where axes of length 1 repeat their element and missing axes come first.
pub(super) fn place(shape: &[usize], index: &[usize]) -> usize {
    let last = &index[index.len() - shape.len()..];
    shape.iter().zip(last).fold(0, |place, (&length, &i)| place * length + if length == 1 { 0 } else { i })
}

/// `a` repeated to another shape.
pub(super) fn broadcast(a: &[f64], from: &[usize], to: &[usize]) -> Vec<f64> {
    indices(to).iter().map(|index| a[place(from, index)]).collect()
}

/// The elements along an axis, for every index of the other axes.
pub(super) fn along(a: &[f64], shape: &[usize], axis: usize) -> Vec<Vec<f64>> {
    let mut others = shape.to_vec();
    others.remove(axis);
    let line = |index: Vec<usize>| {
        (0..shape[axis])
            .map(|k| {
                let mut index = index.clone();
                index.insert(axis, k);
                a[place(shape, &index)]
            })
            .collect()
    };
    indices(&others).into_iter().map(line).collect()
}

/// The oracle's own check: values that are known to all digits.
#[test]
fn known_values() {
    let known = [
        (exp(1.0), std::f64::consts::E),
        (exp(-3.0) * exp(3.0), 1.0),
        (ln(10.0), std::f64::consts::LN_10),
        (ln(0.5), -std::f64::consts::LN_2),
        (erf(0.5), 0.520_499_877_813_046_5),
        (erf(2.0), 0.995_322_265_018_952_7),
        (tanh(0.5), 0.462_117_157_260_009_8),
        (sigmoid(-2.0), 0.119_202_922_022_117_55),
        (logsumexp(&[0.0, 0.0]), std::f64::consts::LN_2),
    ];
    for (index, (got, expected)) in known.into_iter().enumerate() {
        assert!((got - expected).abs() < 1e-12, "{index}: {got} {expected}");
    }
    assert_eq!(matmul(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0], [2, 2, 1]), [17.0, 39.0]);
    assert_eq!(broadcast(&[1.0, 2.0], &[2, 1], &[2, 2]), [1.0, 1.0, 2.0, 2.0]);
    assert_eq!(along(&[1.0, 2.0, 3.0, 4.0], &[2, 2], 0), [[1.0, 3.0], [2.0, 4.0]]);
}

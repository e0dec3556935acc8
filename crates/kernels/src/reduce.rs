//! Reductions in one fixed tree, whatever the instruction set and the number of threads.

use std::ops::Add;

use ndarray::{Array1, ArrayView2};
use rayon::prelude::*;

use crate::error::KernelError;
use crate::threads::with_float_defaults;

/// Lanes of a chunk: element `e` of a chunk belongs to lane `e mod 64`.
const LANES: usize = 64;
/// Elements of a chunk.
const CHUNK: usize = 16_384;

/// The sum of all elements, in this tree: chunks of 16,384 elements; in a chunk, lane `l` is the chain
/// `((0 + x[l]) + x[l+64]) + x[l+128] …` from `+0`; lanes fold as `s[l] = s[l] + s[l+h]` for `h = 32, 16, … 1`; chunk sums fold in neighbouring pairs,
/// level by level, an odd last one going up unchanged.
///
/// In a short chunk the lanes without elements stay `+0` and take part in the fold. The empty sum is `+0`, and so is the
/// sum of nothing but `−0`.
///
/// ```
/// assert_eq!(bitproof_kernels::sum(&[1.0, 2.0, 3.5]), 6.5);
/// ```
pub fn sum(values: &[f32]) -> f32 {
    tree_sum(values)
}

/// [`sum`] in f64, in the same tree.
pub fn sum_f64(values: &[f64]) -> f64 {
    tree_sum(values)
}

/// [`sum`] divided by the count: the f32 sum and the count are divided in f64, and the quotient is rounded to f32. NaN for
/// an empty slice.
pub fn mean(values: &[f32]) -> f32 {
    if values.is_empty() {
        return f32::NAN;
    }
    with_float_defaults(|| (f64::from(tree_sum(values)) / values.len() as f64) as f32)
}

/// The largest element; of equal ones (`+0` and `−0`) the first. The canonical NaN if there is any NaN, `−∞` for an empty
/// slice.
pub fn max(values: &[f32]) -> f32 {
    match argmax(values) {
        Some(index) => crate::canonical_nan(values[index]),
        None => f32::NEG_INFINITY,
    }
}

/// The first index of the largest element, or of the first NaN if there is one; `None` for an empty slice.
pub fn argmax(values: &[f32]) -> Option<usize> {
    let mut best = 0;
    for (index, &value) in values.iter().enumerate() {
        if value.is_nan() {
            return Some(index);
        }
        if value > values[best] {
            best = index;
        }
    }
    (!values.is_empty()).then_some(best)
}

/// [`argmax`] of every row of an R×C matrix: R column numbers.
///
/// # Errors
/// [`KernelError::NoColumns`] if there are rows without elements; [`KernelError::SizeOverflow`] for more than 2³² columns.
pub fn argmax_rows(values: ArrayView2<'_, f32>) -> Result<Vec<u32>, KernelError> {
    let (rows, columns) = values.dim();
    if rows > 0 && columns == 0 {
        return Err(KernelError::NoColumns { kernel: "argmax_rows", rows });
    }
    if columns > u32::MAX as usize {
        return Err(KernelError::SizeOverflow { kernel: "argmax_rows", rows, columns });
    }
    let values = values.as_standard_layout();
    let best = |row: ndarray::ArrayView1<'_, f32>| row.to_slice().and_then(argmax).unwrap_or(0) as u32;
    Ok(values.rows().into_iter().map(best).collect())
}

/// Column sums of an R×C matrix: element `j` is [`sum`] of column `j`, bit for bit.
pub fn sum_axis0(values: ArrayView2<'_, f32>) -> Array1<f32> {
    let (rows, columns) = values.dim();
    if rows == 0 || columns == 0 {
        return Array1::zeros(columns);
    }
    let values = values.as_standard_layout();
    let values = values.as_slice().expect("standard layout is contiguous");
    with_float_defaults(|| {
        let mut chunk_sums: Vec<Vec<f32>> =
            values.chunks(CHUNK * columns).map(|chunk| column_sums(chunk, columns)).collect();
        Array1::from(fold_pairs(&mut chunk_sums, |left, right| {
            left.iter_mut().zip(right).for_each(|(left, right)| *left += right);
        }))
    })
}

/// The lanes of many columns at once: a row is added to lane `row mod 64` of its columns, a strip of columns at a time so
/// that the lanes stay in the first cache.
fn column_sums(chunk: &[f32], columns: usize) -> Vec<f32> {
    const STRIP: usize = 32;
    let mut sums = vec![0.0; columns];
    for (strip, sums) in sums.chunks_mut(STRIP).enumerate() {
        let mut lanes = [[0.0_f32; STRIP]; LANES];
        for (row, values) in chunk.chunks_exact(columns).enumerate() {
            let values = &values[strip * STRIP..][..sums.len()];
            lanes[row % LANES].iter_mut().zip(values).for_each(|(lane, value)| *lane += value);
        }
        let mut half = LANES / 2;
        while half > 0 {
            let (low, high) = lanes.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
            }
            half /= 2;
        }
        sums.copy_from_slice(&lanes[0][..sums.len()]);
    }
    sums
}

fn tree_sum<T>(values: &[T]) -> T
where
    T: Copy + Default + Add<Output = T> + Send + Sync,
{
    /// Chunks from which on threads are worth waking.
    const PARALLEL_CHUNKS: usize = 64;
    if values.len() <= CHUNK {
        return with_float_defaults(|| chunk_sum(values));
    }
    let mut sums: Vec<T> = if values.len() < PARALLEL_CHUNKS * CHUNK {
        with_float_defaults(|| values.chunks(CHUNK).map(chunk_sum).collect())
    } else {
        values.par_chunks(CHUNK).map(|chunk| with_float_defaults(|| chunk_sum(chunk))).collect()
    };
    with_float_defaults(|| fold_pairs(&mut sums, |left, right| *left = *left + *right))
}

fn chunk_sum<T: Copy + Default + Add<Output = T>>(chunk: &[T]) -> T {
    let mut lanes = [T::default(); LANES];
    for row in chunk.chunks(LANES) {
        lanes.iter_mut().zip(row).for_each(|(lane, &value)| *lane = *lane + value);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = lanes[lane] + lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Folds neighbours level by level into the first element and takes it out; the default value if there is none.
fn fold_pairs<T: Default>(values: &mut [T], add: impl Fn(&mut T, &T)) -> T {
    let mut count = values.len();
    while count > 1 {
        for pair in 0..count / 2 {
            values.swap(pair, 2 * pair);
            let (left, right) = values.split_at_mut(2 * pair + 1);
            add(&mut left[pair], &right[0]);
        }
        if count % 2 == 1 {
            values.swap(count / 2, count - 1);
        }
        count = count.div_ceil(2);
    }
    values.first_mut().map(std::mem::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_threads;
    use ndarray::{s, Array2};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut stream = crate::Stream::new(crate::StreamKey::from_bytes(seed.to_le_bytes()));
        (0..count)
            .map(|_| (stream.uniform_f32() - 0.5) * [1e-3, 1.0, 1e4][stream.bounded(3) as usize])
            .collect()
    }

    /// The documented tree, written as recursion over index sets.
    fn by_definition(values: &[f32]) -> f32 {
        fn lane(chunk: &[f32], first: usize) -> f32 {
            chunk.iter().skip(first).step_by(64).fold(0.0, |sum, value| sum + value)
        }
        fn fold(chunk: &[f32], first: usize, half: usize) -> f32 {
            if half == 64 {
                return lane(chunk, first);
            }
            fold(chunk, first, half * 2) + fold(chunk, first + half, half * 2)
        }
        let mut level: Vec<f32> = values.chunks(16_384).map(|chunk| fold(chunk, 0, 1)).collect();
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| if pair.len() == 2 { pair[0] + pair[1] } else { pair[0] })
                .collect();
        }
        level.first().copied().unwrap_or(0.0)
    }

    #[test]
    fn sums_follow_the_tree() {
        for count in [0, 1, 2, 63, 64, 65, 127, 128, 1000, 16_383, 16_384, 16_385, 49_153, 16_384 * 5 + 7] {
            let values = numbers(count, 1);
            assert_eq!(sum(&values).to_bits(), by_definition(&values).to_bits(), "{count} elements");
        }
        let values = numbers(16_384, 2);
        let in_order = values.iter().fold(0.0f32, |sum, value| sum + value);
        assert_ne!(sum(&values).to_bits(), in_order.to_bits(), "the negative control: order is visible");
        assert_eq!(sum(&[-0.0, -0.0]).to_bits(), 0);
        assert_eq!(sum_f64(&[0.5; 20_000]), 10_000.0);
    }

    #[test]
    fn threads_change_no_sum() {
        let values = numbers(16_384 * 70 + 11, 3);
        let expected = by_definition(&values).to_bits();
        for threads in [1, 2, 5] {
            assert_eq!(with_threads(threads, || sum(&values)).to_bits(), expected);
        }
    }

    #[test]
    fn means_round_once() {
        assert_eq!(mean(&[1.0, 2.0, 4.0]), 7.0f32 / 3.0);
        assert!(mean(&[]).is_nan());
        assert_eq!(mean(&[f32::MAX, f32::MAX]), f32::INFINITY, "the sum overflows first");
    }

    #[test]
    fn largest_elements() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, -1.0]), Some(1));
        assert_eq!(argmax(&[-0.0, 0.0]), Some(0));
        assert_eq!(max(&[-0.0, 0.0]).to_bits(), (-0.0f32).to_bits());
        assert_eq!(argmax(&[1.0, f32::NAN, f32::INFINITY, f32::NAN]), Some(1));
        assert_eq!(max(&[1.0, -f32::NAN]).to_bits(), 0x7fc0_0000);
        assert_eq!((argmax(&[]), max(&[])), (None, f32::NEG_INFINITY));
        assert_eq!(argmax(&[f32::NEG_INFINITY, f32::NEG_INFINITY]), Some(0));
        let rows = ndarray::array![[0.0, 5.0], [7.0, 7.0], [1.0, f32::NAN]];
        assert_eq!(argmax_rows(rows.view()), Ok(vec![1, 0, 1]));
        assert_eq!(argmax_rows(rows.t()), Ok(vec![1, 2]));
        let empty = Array2::zeros((4, 0));
        assert_eq!(argmax_rows(empty.view()), Err(KernelError::NoColumns { kernel: "argmax_rows", rows: 4 }));
    }

    #[test]
    fn long_columns_follow_the_tree() {
        let rows = 16_384 * 3 + 70;
        let values = Array2::from_shape_vec((rows, 3), numbers(rows * 3, 4)).unwrap();
        for (column, got) in sum_axis0(values.view()).iter().enumerate() {
            assert_eq!(got.to_bits(), sum(&values.column(column).to_vec()).to_bits());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 200,
            rng_seed: RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn column_sums_are_sums_of_columns(rows in 0usize..200, columns in 0usize..70, flip: bool, seed: u64) {
            let values = Array2::from_shape_vec((rows, columns), numbers(rows * columns, seed)).unwrap();
            let view = if flip { values.slice(s![..;-1, ..]).reversed_axes() } else { values.view() };
            let got = sum_axis0(view);
            prop_assert_eq!(got.len(), view.ncols());
            for (column, got) in got.iter().enumerate() {
                prop_assert_eq!(got.to_bits(), sum(&view.column(column).to_vec()).to_bits());
            }
        }
    }
}

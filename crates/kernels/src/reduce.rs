//! Reductions in one fixed tree, whatever the instruction set and the number of threads.

mod axis;
mod columns;
pub(crate) mod lanes;

use std::ops::Range;

use ndarray::{Array1, ArrayView2, ArrayViewMut1, Axis};

use crate::error::KernelError;
use crate::isa::Isa;
use crate::scratch::zeros;
use crate::spec::reduce::{self as spec, left_chunks, CHUNK};
use crate::threads::with_float_defaults;
use lanes::{Largest, Position, Sum, Sum64, SumOfSquares};

pub use axis::{argmax_axis_into, logsumexp_axis_into, max_axis_into, mean_axis_into, sum_axis_into};

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
    sum_on(Isa::get(), values)
}

/// [`sum`] in f64, in the same tree.
pub fn sum_f64(values: &[f64]) -> f64 {
    let isa = Isa::get();
    let sum = |range: Range<usize>| {
        isa.vectorize(Sum64(&values[range])).unwrap_or_else(|Sum64(values)| spec::tree_sum(values, |x| x))
    };
    divided(0..values.len(), &sum, &|left, right| left + right)
}

/// `Σ x·x` in f64, where every square is exact, in the tree of [`sum`].
///
/// ```
/// assert_eq!(bitproof_kernels::sum_of_squares(&[3.0, 4.0]), 25.0);
/// ```
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let isa = Isa::get();
    let sum = |range: Range<usize>| {
        isa.vectorize(SumOfSquares(&values[range]))
            .unwrap_or_else(|SumOfSquares(values)| spec::tree_sum(values, |x| f64::from(x) * f64::from(x)))
    };
    divided(0..values.len(), &sum, &|left, right| left + right)
}

/// [`sum`] divided by the count: the f32 sum and the count are divided in f64, and the quotient is rounded to f32. NaN for
/// an empty slice.
pub fn mean(values: &[f32]) -> f32 {
    if values.is_empty() {
        return f32::NAN;
    }
    let sum = sum(values);
    with_float_defaults(|| mean_of(sum, values.len()))
}

/// The largest element; of equal ones (`+0` and `−0`) the first. The canonical NaN if there is any NaN, `−∞` for an empty
/// slice.
pub fn max(values: &[f32]) -> f32 {
    max_on(Isa::get(), values)
}

/// The first index of the largest element, or of the first NaN if there is one; `None` for an empty slice.
pub fn argmax(values: &[f32]) -> Option<usize> {
    argmax_on(Isa::get(), values)
}

/// [`argmax`] of every row of an R×C matrix: R column numbers.
///
/// # Errors
/// [`KernelError::NoColumns`] if there are rows without elements; [`KernelError::SizeOverflow`] for more than 2³² − 1
/// columns.
pub fn argmax_rows(values: ArrayView2<'_, f32>) -> Result<Vec<u32>, KernelError> {
    let (rows, columns) = values.dim();
    if rows > 0 && columns == 0 {
        return Err(KernelError::NoColumns { kernel: "argmax_rows", rows });
    }
    if columns > u32::MAX as usize {
        return Err(KernelError::SizeOverflow { kernel: "argmax_rows", rows, columns });
    }
    let mut best = zeros("argmax_rows", rows, 1)?;
    argmax_axis_into(values, Axis(1), ArrayViewMut1::from(&mut best))?;
    Ok(best)
}

/// Column sums of an R×C matrix: element `j` is [`sum`] of column `j`, bit for bit.
///
/// ```
/// use ndarray::array;
/// let sums = bitproof_kernels::sum_axis0(array![[1.0, 2.0], [3.0, 4.0]].view())?;
/// assert_eq!(sums, array![4.0, 6.0]);
/// # Ok::<(), bitproof_kernels::KernelError>(())
/// ```
///
/// # Errors
/// [`KernelError::SizeOverflow`] if there is no memory for the result, [`KernelError::OutOfMemory`] if there is none for a copy of a
/// matrix without row-major or column-major layout.
pub fn sum_axis0(values: ArrayView2<'_, f32>) -> Result<Array1<f32>, KernelError> {
    let mut sums = Array1::from(zeros("sum_axis0", 1, values.ncols())?);
    sum_axis_into(values, Axis(0), sums.view_mut())?;
    Ok(sums)
}

fn mean_of(sum: f32, count: usize) -> f32 {
    (f64::from(sum) / count as f64) as f32
}

fn sum_on(isa: Isa, values: &[f32]) -> f32 {
    let sum = |range: Range<usize>| {
        isa.vectorize(Sum(&values[range])).unwrap_or_else(|Sum(values)| spec::tree_sum(values, |x| x))
    };
    divided(0..values.len(), &sum, &|left, right| left + right)
}

fn max_on(isa: Isa, values: &[f32]) -> f32 {
    let larger = |left: f32, right: f32| if follows(left, right) { right } else { left };
    divided(0..values.len(), &|range| max_of_part(isa, &values[range]), &larger)
}

fn argmax_on(isa: Isa, values: &[f32]) -> Option<usize> {
    let largest = |range: Range<usize>| Some(range.start + argmax_of_part(isa, &values[range])?);
    divided(0..values.len(), &largest, &|left, right| {
        let (left, right) = (left?, right?);
        Some(if follows(values[left], values[right]) { right } else { left })
    })
}

/// Whether the largest of a later part takes the place of the largest of an earlier one.
fn follows(earlier: f32, later: f32) -> bool {
    !earlier.is_nan() && (later.is_nan() || later > earlier)
}

fn max_of_part(isa: Isa, values: &[f32]) -> f32 {
    match isa.vectorize(Largest(values)) {
        Ok(0.0) => {
            // Of zeros the first, which may be −0.
            values[position(isa, values, 0.0).expect("there is a zero")]
        }
        Ok(largest) => largest,
        Err(Largest(values)) => spec::max(values),
    }
}

fn argmax_of_part(isa: Isa, values: &[f32]) -> Option<usize> {
    match isa.vectorize(Largest(values)) {
        Ok(largest) if largest.is_nan() => values.iter().position(|value| value.is_nan()),
        Ok(largest) => position(isa, values, largest),
        Err(Largest(values)) => spec::argmax(values),
    }
}

fn position(isa: Isa, values: &[f32], wanted: f32) -> Option<usize> {
    let scalar = |Position(values, wanted)| values.iter().position(|&value| value == wanted);
    isa.vectorize(Position(values, wanted)).unwrap_or_else(scalar)
}

/// A reduction in the tree over all chunks, whose halves go to different threads while they are long.
fn divided<T: Send>(
    range: Range<usize>,
    reduce: &(impl Fn(Range<usize>) -> T + Sync),
    join: &(impl Fn(T, T) -> T + Sync),
) -> T {
    /// Chunks that are worth waking a thread for.
    const WORTH_A_THREAD: usize = 32;
    let chunks = range.len().div_ceil(CHUNK);
    if chunks < 2 * WORTH_A_THREAD || rayon::current_num_threads() == 1 {
        return with_float_defaults(|| reduce(range));
    }
    let middle = range.start + left_chunks(chunks) * CHUNK;
    let (left, right) = rayon::join(
        || divided(range.start..middle, reduce, join),
        || divided(middle..range.end, reduce, join),
    );
    with_float_defaults(|| join(left, right))
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
    fn threads_change_no_maximum() {
        let length = 16_384 * 70 + 11;
        let mut values = vec![-1.0; length];
        let expect = |values: &[f32], index: usize| {
            let expected = crate::canonical_nan(values[index]).to_bits();
            for threads in [1, 2, 5] {
                assert_eq!(with_threads(threads, || argmax(values)), Some(index), "{threads} threads");
                assert_eq!(with_threads(threads, || max(values).to_bits()), expected, "{threads} threads");
            }
        };
        expect(&values, 0);
        // Each of these takes the place of the one before it.
        for (index, value) in
            [(length - 1, -0.0), (700_000, 0.0), (1_100_000, 3.0), (30_000, 3.0), (900_000, f32::NAN)]
        {
            values[index] = value;
            expect(&values, index);
        }
        values[1_000_000] = f32::NAN;
        expect(&values, 900_000);
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

    /// Wide enough for strips of all widths, on every instruction set.
    #[test]
    fn columns_of_wide_matrices_follow_the_tree() {
        for rows in [0, 1, 63, 64, 65, 200] {
            let columns = 2 * 256 + 128 + 64 + 16 + 5;
            let values = Array2::from_shape_vec((rows, columns), numbers(rows * columns, 5)).unwrap();
            for (column, got) in sum_axis0(values.view()).unwrap().iter().enumerate() {
                let expected = by_definition(&values.column(column).to_vec());
                assert_eq!(got.to_bits(), expected.to_bits(), "column {column} of {rows} rows");
            }
        }
    }

    #[test]
    fn long_columns_follow_the_tree() {
        let rows = 16_384 * 3 + 70;
        let values = Array2::from_shape_vec((rows, 3), numbers(rows * 3, 4)).unwrap();
        for (column, got) in sum_axis0(values.view()).unwrap().iter().enumerate() {
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
            let got = sum_axis0(view).unwrap();
            prop_assert_eq!(got.len(), view.ncols());
            for (column, got) in got.iter().enumerate() {
                prop_assert_eq!(got.to_bits(), sum(&view.column(column).to_vec()).to_bits());
            }
        }
    }
}

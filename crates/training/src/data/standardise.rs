//! Scaling: by a number, and to mean 0 and deviation 1 by what the training part alone says.

use bitproof_kernels::sum_f64;
use ndarray::Array2;

use super::DataError;

/// Mean and deviation of each feature over the training part.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics {
    /// The mean of each feature.
    pub mean: Vec<f64>,
    /// The population deviation of each feature, or 1 where it is 0.
    pub deviation: Vec<f64>,
}

impl Statistics {
    /// Of some rows. Sums are those of [`sum_f64`], in the order of `rows`.
    ///
    /// The numbers of a feature that is constant have a sum without rounding, for f32 has 24 bits, rows are at most 2²⁸ and f64 has 53 bits:
    /// so its deviation is 0 and not the noise of its mean.
    ///
    /// # Panics
    /// When there are no rows.
    pub fn of(features: &Array2<f32>, rows: &[u32]) -> Self {
        assert!(!rows.is_empty(), "the training part has rows");
        let count = rows.len() as f64;
        let (mut means, mut deviations) = (Vec::new(), Vec::new());
        let mut values = vec![0.0; rows.len()];
        for column in features.columns() {
            values.iter_mut().zip(rows).for_each(|(v, &row)| *v = f64::from(column[row as usize]));
            let mean = sum_f64(&values) / count;
            for v in &mut values {
                let distance = *v - mean;
                *v = distance * distance;
            }
            let deviation = (sum_f64(&values) / count).sqrt();
            means.push(mean);
            deviations.push(if deviation == 0.0 { 1.0 } else { deviation });
        }
        Self { mean: means, deviation: deviations }
    }

    /// Subtracts the mean and divides by the deviation, in f64, and rounds once to f32.
    ///
    /// # Errors
    /// [`DataError::Beyond`] when a number is not finite afterwards.
    pub fn apply(&self, features: &mut Array2<f32>) -> Result<(), DataError> {
        map(features, "standardise", |x, column| {
            ((f64::from(x) - self.mean[column]) / self.deviation[column]) as f32
        })
    }
}

/// Multiplies every feature, in f32.
///
/// # Errors
/// [`DataError::Beyond`] when a number is not finite afterwards.
pub fn scale(features: &mut Array2<f32>, factor: f32) -> Result<(), DataError> {
    map(features, "scale", |x, _| x * factor)
}

fn map(
    features: &mut Array2<f32>,
    step: &'static str,
    change: impl Fn(f32, usize) -> f32,
) -> Result<(), DataError> {
    for ((row, column), x) in features.indexed_iter_mut() {
        let changed = change(*x, column);
        if !changed.is_finite() {
            return Err(DataError::Beyond {
                step,
                row: row as u64 + 1,
                feature: column,
                value: x.to_string(),
            });
        }
        *x = changed;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn features_get_mean_0_and_deviation_1_over_the_rows_that_count() {
        let mut features = array![[1.0f32, 0.1, -3.0], [3.0, 0.1, 5.0], [100.0, 7.1, 1.0]];
        let statistics = Statistics::of(&features, &[0, 1]);
        let expected = Statistics { mean: vec![2.0, f64::from(0.1f32), 1.0], deviation: vec![1.0, 1.0, 4.0] };
        assert_eq!(statistics, expected);
        statistics.apply(&mut features).unwrap();
        // The last row was not counted, and is changed by what the others say.
        let last = (f64::from(7.1f32) - f64::from(0.1f32)) as f32;
        assert_eq!(features, array![[-1.0, 0.0, -1.0], [1.0, 0.0, 1.0], [98.0, last, 0.0]]);
    }

    #[test]
    fn a_constant_feature_has_no_noise() {
        for constant in [0.1f32, 1.0 / 3.0, 16_777_215.0, f32::MIN_POSITIVE] {
            let features = Array2::from_elem((1009, 1), constant);
            let statistics = Statistics::of(&features, &(0..1009).collect::<Vec<_>>());
            assert_eq!(statistics, Statistics { mean: vec![constant.into()], deviation: vec![1.0] });
        }
    }

    #[test]
    fn numbers_beyond_f32_are_refused() {
        let error = scale(&mut array![[1.0f32, 2.0], [3.0, 1e38]], 10.0).unwrap_err();
        let expected = "row 2, feature 1: scale makes 100000000000000000000000000000000000000 a number that is not finite";
        assert_eq!(error.to_string(), expected);
        let mut features = array![[1e-30f32], [2e-30], [1e30]];
        let error = Statistics::of(&features, &[0, 1]).apply(&mut features).unwrap_err();
        assert!(
            matches!(error, DataError::Beyond { step: "standardise", row: 3, feature: 0, .. }),
            "{error}"
        );
    }
}

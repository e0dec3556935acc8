//! Rows are dealt to train, valid and test.

use super::DataError;

/// The rows of each part, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// What is learned from.
    pub train: Vec<u32>,
    /// What choices are made on.
    pub valid: Vec<u32>,
    /// What is measured on, once.
    pub test: Vec<u32>,
}

/// Deals rows in the order of `permutation`: within each class (or over all rows), the first go to test, the next to valid,
/// the rest to train.
///
/// A group of n rows gives `round(n · test_fraction)` rows to test and `round(n · valid_fraction)` to valid (halves away from
/// zero; one f64 product each), valid taking no more than test left. A row is in exactly one part.
///
/// # Errors
/// [`DataError::TooFewRows`] when train, or a part with a share above 0, would be empty.
pub fn split(
    labels: &[u32],
    classes: u32,
    valid_fraction: f64,
    test_fraction: f64,
    stratify: bool,
    permutation: &[u32],
) -> Result<Split, DataError> {
    let mut groups: Vec<Vec<u32>> = vec![Vec::new(); if stratify { classes as usize } else { 1 }];
    for &row in permutation {
        let group = if stratify { labels[row as usize] as usize } else { 0 };
        groups[group].push(row);
    }
    let mut parts = Split { train: Vec::new(), valid: Vec::new(), test: Vec::new() };
    for group in &groups {
        let share = |fraction: f64| (group.len() as f64 * fraction).round() as usize;
        let (test, rest) = group.split_at(share(test_fraction).min(group.len()));
        let (valid, train) = rest.split_at(share(valid_fraction).min(rest.len()));
        parts.test.extend(test);
        parts.valid.extend(valid);
        parts.train.extend(train);
    }
    let wanted = [
        ("train", &mut parts.train, 1.0 - valid_fraction - test_fraction),
        ("valid", &mut parts.valid, valid_fraction),
        ("test", &mut parts.test, test_fraction),
    ];
    for (part, rows, fraction) in wanted {
        rows.sort_unstable();
        if rows.is_empty() && fraction > 0.0 {
            return Err(DataError::TooFewRows {
                rows: labels.len(),
                part,
                fraction: format!("{fraction:.3}"),
            });
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_kernels::{permutation, StreamKey};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_is_in_exactly_one_part(
            labels in prop::collection::vec(0u32..3, 30..200),
            valid in 0.0f64..0.4,
            test in 0.0f64..0.4,
            stratify: bool,
            key: [u8; 8],
        ) {
            let order = permutation(labels.len() as u32, StreamKey::from_bytes(key));
            if let Ok(parts) = split(&labels, 3, valid, test, stratify, &order) {
                let mut all = [parts.train, parts.valid, parts.test].concat();
                all.sort_unstable();
                prop_assert_eq!(all, (0..labels.len() as u32).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn classes_keep_their_shares_and_empty_parts_are_refused() {
        let labels: Vec<u32> = (0..100).map(|i| u32::from(i >= 90)).collect();
        let order: Vec<u32> = (0..100).rev().collect();
        let parts = split(&labels, 2, 0.1, 0.2, true, &order).unwrap();
        let rare = |rows: &[u32]| rows.iter().filter(|&&r| labels[r as usize] == 1).count();
        assert_eq!((parts.train.len(), parts.valid.len(), parts.test.len()), (70, 10, 20));
        assert_eq!((rare(&parts.train), rare(&parts.valid), rare(&parts.test)), (7, 1, 2));
        let few = split(&labels[..4], 2, 0.1, 0.2, false, &[0, 1, 2, 3]);
        assert!(matches!(few, Err(DataError::TooFewRows { part: "valid", .. })));
    }
}

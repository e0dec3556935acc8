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

/// Deals rows in the order of `permutation`: within each class where `groups` gives the class of each row and their number, else over all
/// rows, the first go to test, the next to valid,
/// the rest to train.
///
/// A group of n rows gives `round(n · test_fraction)` rows to test and `round(n · valid_fraction)` to valid (halves away from
/// zero; one f64 product each), valid taking no more than test left. A row is in exactly one part.
///
/// # Errors
/// [`DataError::TooFewRows`] when train, or a part with a share above 0, would be empty.
pub fn split(
    groups: Option<(&[u32], u32)>,
    valid_fraction: f64,
    test_fraction: f64,
    permutation: &[u32],
) -> Result<Split, DataError> {
    let mut dealt: Vec<Vec<u32>> = vec![Vec::new(); groups.map_or(1, |(_, classes)| classes as usize)];
    for &row in permutation {
        dealt[groups.map_or(0, |(labels, _)| labels[row as usize] as usize)].push(row);
    }
    let mut parts = Split { train: Vec::new(), valid: Vec::new(), test: Vec::new() };
    for group in &dealt {
        let (valid, test) = shares(group.len(), valid_fraction, test_fraction);
        let (test, rest) = group.split_at(test);
        let (valid, train) = rest.split_at(valid);
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
                rows: permutation.len(),
                part,
                fraction: format!("{fraction:.3}"),
            });
        }
    }
    Ok(parts)
}

/// The characters of each part: how many of the text it has, one part after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextSplit {
    /// The first characters.
    pub train: usize,
    /// Those after them.
    pub valid: usize,
    /// The last.
    pub test: usize,
}

/// Cuts a text of so many characters: the last go to test, those before them to valid, the first to train. The numbers are rounded as
/// [`split`] does.
///
/// # Errors
/// [`DataError::TooFewCharacters`] when train, or a part with a share above 0, does not hold a window and the character after it.
pub fn split_text(
    characters: usize,
    valid_fraction: f64,
    test_fraction: f64,
    window: u32,
) -> Result<TextSplit, DataError> {
    let (valid, test) = shares(characters, valid_fraction, test_fraction);
    let parts = TextSplit { train: characters - valid - test, valid, test };
    let wanted = [
        ("train", parts.train, 1.0),
        ("valid", parts.valid, valid_fraction),
        ("test", parts.test, test_fraction),
    ];
    for (part, characters, fraction) in wanted {
        if fraction > 0.0 && characters <= window as usize {
            return Err(DataError::TooFewCharacters { part, characters, window });
        }
    }
    Ok(parts)
}

/// How many of `n` go to valid and to test.
fn shares(n: usize, valid_fraction: f64, test_fraction: f64) -> (usize, usize) {
    let share = |fraction: f64| (n as f64 * fraction).round() as usize;
    let test = share(test_fraction).min(n);
    (share(valid_fraction).min(n - test), test)
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
            if let Ok(parts) = split(stratify.then_some((&labels, 3)), valid, test, &order) {
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
        let parts = split(Some((&labels, 2)), 0.1, 0.2, &order).unwrap();
        let rare = |rows: &[u32]| rows.iter().filter(|&&r| labels[r as usize] == 1).count();
        assert_eq!((parts.train.len(), parts.valid.len(), parts.test.len()), (70, 10, 20));
        assert_eq!((rare(&parts.train), rare(&parts.valid), rare(&parts.test)), (7, 1, 2));
        let few = split(None, 0.1, 0.2, &[0, 1, 2, 3]);
        assert!(matches!(few, Err(DataError::TooFewRows { part: "valid", .. })));
    }

    #[test]
    fn a_text_is_cut_in_order_and_each_part_holds_a_window() {
        let cut = |characters, window| split_text(characters, 0.1, 0.25, window);
        assert_eq!(cut(100, 9).unwrap(), TextSplit { train: 65, valid: 10, test: 25 });
        // Halves are rounded up, as rows are.
        assert_eq!(cut(90, 8).unwrap(), TextSplit { train: 58, valid: 9, test: 23 });
        let few = cut(100, 10).unwrap_err();
        assert_eq!(few, DataError::TooFewCharacters { part: "valid", characters: 10, window: 10 });
        assert!(matches!(
            split_text(64, 0.0, 0.0, 64),
            Err(DataError::TooFewCharacters { part: "train", .. })
        ));
        assert_eq!(split_text(65, 0.0, 0.0, 64).unwrap(), TextSplit { train: 65, valid: 0, test: 0 });
    }
}

use crate::stream::{Stream, StreamKey};

/// Puts the items into a random order, each order equally likely: Fisher–Yates from the top. For `i = len−1, … 1` item `i`
/// changes places with item `stream.bounded(i + 1)`.
pub fn shuffle<T>(items: &mut [T], stream: &mut Stream) {
    for last in (1..items.len()).rev() {
        let chosen = stream.bounded(last as u64 + 1) as usize;
        items.swap(last, chosen);
    }
}

/// The numbers `0..n` in the order that [`shuffle`] gives them with a new stream of this key.
pub fn permutation(n: u32, key: StreamKey) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n).collect();
    shuffle(&mut order, &mut Stream::new(key));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fisher_yates_from_the_top() {
        let key = StreamKey::from_bytes(*b"shuffle!");
        let mut stream = Stream::new(key);
        let mut expected = [0u32, 1, 2, 3, 4];
        for last in [4usize, 3, 2, 1] {
            let chosen = stream.bounded(last as u64 + 1) as usize;
            expected.swap(last, chosen);
        }
        assert_eq!(permutation(5, key), expected);
        assert_eq!(permutation(0, key), [0u32; 0]);
        assert_eq!(permutation(1, key), [0]);
    }

    #[test]
    fn orders_are_permutations_and_depend_on_the_key() {
        let order = permutation(1000, StreamKey::from_bytes([0; 8]));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_ne!(order, sorted);
        assert_ne!(order, permutation(1000, StreamKey::from_bytes([1; 8])));
    }

    #[test]
    fn orders_of_three_are_equally_likely() {
        let mut stream = Stream::new(StreamKey::from_bytes([9; 8]));
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..12_000 {
            let mut items = [0, 1, 2];
            shuffle(&mut items, &mut stream);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (1_800..2_200).contains(count)), "{counts:?}");
    }
}

//! Batches that are prepared ahead: the order of the plain iterator, whatever takes how long; and an end in every case.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use bitproof_kernels::{Batches, LastBatch, PrefetchBatches, StreamKey};

fn size(size: usize) -> NonZeroUsize {
    NonZeroUsize::new(size).unwrap()
}

fn batches(rows: u32) -> Batches {
    Batches::shuffled(rows, size(7), LastBatch::Keep, StreamKey::from_bytes(*b"prefetch"))
}

/// Work that takes longer for some batches than for others, without a clock.
fn delay(turns: u32) {
    (0..turns % 13 * 2000).for_each(|turn| {
        std::hint::black_box(turn);
    });
}

#[test]
fn the_order_is_that_of_the_plain_iterator() {
    for (rows, ahead, first) in [
        (0, 1, 0),
        (5, 1, 0),
        (7, 3, 0),
        (1000, 1, 0),
        (1000, 4, 0),
        (1000, 999, 0),
        (1000, 2, 90),
        (20, 2, 9),
    ] {
        let batches = batches(rows);
        let expected: Vec<Vec<u32>> = batches.iter().skip(first).map(<[u32]>::to_vec).collect();
        let make = |rows: &[u32]| {
            delay(rows[0]);
            rows.to_vec()
        };
        let mut prefetched = PrefetchBatches::new(batches, first, size(ahead), make).unwrap();
        let mut got = Vec::new();
        while let Some(batch) = {
            assert_eq!(prefetched.len(), expected.len() - got.len());
            prefetched.next()
        } {
            delay(batch[0] / 13);
            got.push(batch);
        }
        assert_eq!(got, expected);
        assert_eq!(prefetched.next(), None);
        // The negative control: neighbours that changed places are noticed.
        if got.len() > 1 {
            got.swap(0, 1);
            assert_ne!(got, expected);
        }
    }
}

/// Counts the live clones of itself.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_drop_in_the_middle_ends_the_thread() {
    for taken in [0, 1, 5] {
        let (made, dropped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counters = (made.clone(), dropped.clone());
        let make = move |_: &[u32]| {
            counters.0.fetch_add(1, Ordering::SeqCst);
            Counted(counters.1.clone())
        };
        let mut prefetched = PrefetchBatches::new(batches(10_000), 0, size(2), make).unwrap();
        assert_eq!(prefetched.by_ref().take(taken).count(), taken);
        drop(prefetched);
        // The thread has ended: it holds neither an item nor the function any more.
        let made_now = made.load(Ordering::SeqCst);
        assert_eq!(dropped.load(Ordering::SeqCst), made_now);
        assert_eq!((Arc::strong_count(&made), Arc::strong_count(&dropped)), (1, 1));
        assert!(
            (taken..=taken + 4).contains(&made_now),
            "{made_now} items for {taken} taken: the queue is bounded"
        );
    }
}

#[test]
fn items_are_made_before_they_are_asked_for() {
    let both = Arc::new(Barrier::new(2));
    let there = both.clone();
    let mut prefetched = PrefetchBatches::new(batches(7), 0, size(1), move |rows: &[u32]| {
        there.wait();
        rows.len()
    })
    .unwrap();
    // Passes only if the function runs while nothing was asked for.
    both.wait();
    assert_eq!(prefetched.next(), Some(7));
}

#[test]
fn a_panic_arrives_after_the_items_before_it() {
    let order = batches(70);
    let bad = order.get(3).unwrap()[0];
    let make = move |rows: &[u32]| {
        assert!(rows[0] != bad, "on purpose");
        rows[0]
    };
    let mut prefetched = PrefetchBatches::new(order.clone(), 0, size(2), make).unwrap();
    for batch in order.iter().take(3) {
        assert_eq!(prefetched.next(), Some(batch[0]));
    }
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prefetched.next())).unwrap_err();
    assert_eq!(caught.downcast_ref(), Some(&"on purpose"));
    assert_eq!((prefetched.next(), prefetched.len()), (None, 0));
    // Nobody asks: the panic ends with the thread.
    drop(PrefetchBatches::new(order, 3, size(1), make).unwrap());
}

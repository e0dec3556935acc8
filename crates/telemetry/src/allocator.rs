//! A global allocator that counts what each thread holds: memory to the byte, where the resident set is too coarse.
#![expect(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks that all threads have asked for.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator with a count; to be set as `#[global_allocator]`.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

/// Adds to what this thread holds. What one thread gives to another is counted where it was taken.
fn count(bytes: i64) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        PEAK.with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is handed to the system's allocator as it came; counting touches no memory of the caller.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are passed on unchanged.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            count(layout.size() as i64);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's obligations are passed on unchanged.
        unsafe { System.dealloc(block, layout) };
        count(-(layout.size() as i64));
    }
}

/// What `work` returns, and the most bytes that this thread held above what it held before.
///
/// The count is 0 unless [`CountingAllocator`] is the global allocator.
pub fn peak_of_thread<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.get();
    PEAK.set(before);
    let result = work();
    (result, PEAK.get().saturating_sub(before).max(0) as u64)
}

/// How many blocks of memory all threads together have asked for since the program began; a block that grows is asked for
/// again. 0 unless [`CountingAllocator`] is the global allocator.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

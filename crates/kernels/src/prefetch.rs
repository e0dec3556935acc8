use std::num::NonZeroUsize;
use std::sync::mpsc::{sync_channel, Receiver};
use std::thread::{Builder, JoinHandle};

use crate::batch::Batches;
use crate::threads::with_float_defaults;

/// What a function makes of each batch, made ahead by one thread of its own. Items come in the order of the batches, as without
/// it: there is one thread and one queue, so nothing can overtake.
///
/// Dropping it in the middle ends the thread after the batch it is working on. Kernels that the function calls divide their work
/// over the global rayon pool, not over the pool that this was made in.
///
/// ```
/// use bitproof_kernels::{Batches, LastBatch, PrefetchBatches};
/// let two = std::num::NonZeroUsize::new(2).unwrap();
/// let batches = Batches::in_order(5, two, LastBatch::Keep);
/// let sums = PrefetchBatches::new(batches, 0, two, |rows: &[u32]| rows.iter().sum::<u32>())?;
/// assert_eq!(sums.collect::<Vec<_>>(), [1, 5, 4]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct PrefetchBatches<T> {
    /// Taken when the iterator ends, or to end it: the thread's next item is then refused, and it stops.
    queue: Option<Receiver<T>>,
    worker: Option<JoinHandle<()>>,
    remaining: usize,
}

impl<T: Send + 'static> PrefetchBatches<T> {
    /// Begins to make the items of the batches from number `first` on, at most `ahead` of them before they are asked for (and one
    /// more in the making).
    ///
    /// # Errors
    /// If the operating system refuses the thread.
    pub fn new(
        batches: Batches,
        first: usize,
        ahead: NonZeroUsize,
        make: impl Fn(&[u32]) -> T + Send + 'static,
    ) -> std::io::Result<PrefetchBatches<T>> {
        let remaining = batches.len().saturating_sub(first);
        // The channel's memory grows with its bound, and more than all items are never held.
        let (sender, queue) = sync_channel(ahead.get().min(remaining));
        let work = move || {
            for batch in batches.iter().skip(first) {
                if sender.send(make(batch)).is_err() {
                    return;
                }
            }
        };
        let worker = Builder::new().name("prefetch".to_owned()).spawn(|| with_float_defaults(work))?;
        Ok(PrefetchBatches { queue: Some(queue), worker: Some(worker), remaining })
    }
}

impl<T> Iterator for PrefetchBatches<T> {
    type Item = T;

    /// The next item; waits for it.
    ///
    /// # Panics
    /// With the panic of the function, where that panicked: after the items that came before.
    fn next(&mut self) -> Option<T> {
        match self.queue.as_ref()?.recv() {
            Ok(item) => {
                self.remaining -= 1;
                Some(item)
            }
            Err(_) => {
                self.remaining = 0;
                if let Err(panic) = self.stop() {
                    std::panic::resume_unwind(panic);
                }
                None
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<T> ExactSizeIterator for PrefetchBatches<T> {}
impl<T> std::iter::FusedIterator for PrefetchBatches<T> {}

impl<T> PrefetchBatches<T> {
    fn stop(&mut self) -> std::thread::Result<()> {
        self.queue = None;
        self.worker.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl<T> Drop for PrefetchBatches<T> {
    fn drop(&mut self) {
        // A panic of the function is dropped with the items that nobody asked for.
        let _ = self.stop();
    }
}

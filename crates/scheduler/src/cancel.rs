//! The wish to stop, shared by whoever has it and whoever can heed it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::sync::{AtomicBool, Mutex, MutexGuard};

/// Asks a run to stop. Clones are one and the same wish, which cannot be taken back.
///
/// What waits without looking at [`Cancel::is_cancelled`] subscribes: its callback is called once, when the wish
/// comes, and wakes it up.
///
/// ```
/// use std::sync::mpsc;
/// use bitproof_scheduler::Cancel;
///
/// let cancel = Cancel::new();
/// let (sender, receiver) = mpsc::channel();
/// let subscription = cancel.subscribe(move || sender.send(()).unwrap_or_default());
/// cancel.cancel();
/// receiver.recv()?;
/// assert!(cancel.is_cancelled());
/// # drop(subscription);
/// # Ok::<(), mpsc::RecvError>(())
/// ```
#[derive(Clone, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    cancelled: AtomicBool,
    subscribers: Mutex<Subscribers>,
}

#[derive(Default)]
struct Subscribers {
    next: u64,
    callbacks: BTreeMap<u64, Box<dyn FnOnce() + Send>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        // No callback is called while it is held, so what it guards is whole.
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cancel {
    /// A wish that nobody has yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop. Callbacks are called on this thread, before it returns; not for a signal handler.
    pub fn cancel(&self) {
        self.shared.cancelled.store(true, Ordering::SeqCst);
        let callbacks = std::mem::take(&mut self.shared.lock().callbacks);
        callbacks.into_values().for_each(|callback| callback());
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// Calls `callback` once when somebody asks to stop: at once if that was before, never once the subscription is dropped.
    ///
    /// A callback may still be at work on another thread when its subscription is dropped.
    #[must_use = "a dropped subscription is none"]
    pub fn subscribe(&self, callback: impl FnOnce() + Send + 'static) -> Subscription {
        let mut subscribers = self.shared.lock();
        let key = subscribers.next;
        subscribers.next += 1;
        // The flag is set before the callbacks are taken: whoever does not see it here is among those that are taken.
        if self.is_cancelled() {
            drop(subscribers);
            callback();
        } else {
            subscribers.callbacks.insert(key, Box::new(callback));
        }
        Subscription { shared: Arc::clone(&self.shared), key }
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cancelled", &self.is_cancelled()).finish()
    }
}

/// Keeps a callback with a [`Cancel`] for as long as it lives.
pub struct Subscription {
    shared: Arc<Shared>,
    key: u64,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let callback = self.shared.lock().callbacks.remove(&self.key);
        // What it holds may itself use this `Cancel` when it is dropped.
        drop(callback);
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_callback_is_called_once_by_any_clone() {
        let (cancel, calls) = (Cancel::new(), Arc::new(AtomicUsize::new(0)));
        let count = || {
            let calls = Arc::clone(&calls);
            move || {
                calls.fetch_add(1, Ordering::SeqCst);
            }
        };
        let _early = cancel.subscribe(count());
        drop(cancel.subscribe(count()));
        assert_eq!((cancel.is_cancelled(), calls.load(Ordering::SeqCst)), (false, 0));
        cancel.clone().cancel();
        cancel.cancel();
        assert_eq!((cancel.is_cancelled(), calls.load(Ordering::SeqCst)), (true, 1));
        let _late = cancel.subscribe(count());
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_callback_may_use_what_called_it() {
        let cancel = Cancel::new();
        let inner = cancel.clone();
        let _subscription = cancel.subscribe(move || {
            assert!(inner.is_cancelled());
            inner.cancel();
            drop(inner.subscribe(|| ()));
        });
        cancel.cancel();
    }
}

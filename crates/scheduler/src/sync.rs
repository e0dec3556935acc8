//! The locks and threads of the dispatcher: those of the standard library, or those of a checker that schedules them.

#[cfg(not(feature = "shuttle"))]
mod chosen {
    pub(crate) use std::sync::atomic::AtomicBool;
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread;

    /// How often a thread looks again before it sleeps. Waking one up takes longer than a short task does.
    pub(crate) const PATIENCE: usize = 64;
}

#[cfg(feature = "shuttle")]
mod chosen {
    use std::sync::LockResult;

    pub(crate) use shuttle::sync::atomic::AtomicBool;
    pub(crate) use shuttle::sync::{Mutex, MutexGuard};
    pub(crate) use shuttle::thread;

    pub(crate) const PATIENCE: usize = 1;

    /// A condition variable that forgets to wake one thread up, where a test demands it.
    #[derive(Debug, Default)]
    pub(crate) struct Condvar(shuttle::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
            self.0.wait(guard)
        }

        pub(crate) fn notify_one(&self) {
            if !super::FORGETFUL.load(std::sync::atomic::Ordering::SeqCst) {
                self.0.notify_one();
            }
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

pub(crate) use chosen::*;

/// Whether every [`Condvar::notify_one`] is lost: the defect that the checker must find.
#[cfg(feature = "shuttle")]
pub static FORGETFUL: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

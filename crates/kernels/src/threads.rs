//! Threads and the floating-point state they compute in.

use std::hint::black_box;

use rayon::ThreadPoolBuilder;

#[cfg(target_arch = "aarch64")]
use crate::arm::fpcr as control;
#[cfg(target_arch = "x86_64")]
use crate::x86::mxcsr as control;

/// Runs `f` in a pool of `threads` threads (0 counts as 1), which kernels called by it divide their work over. The number
/// changes no bit. If the operating system refuses the threads, `f` runs where it was called, more slowly.
///
/// Everything in the pool computes with round to nearest and denormals kept, whatever the caller had set.
pub fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    let pool = ThreadPoolBuilder::new().num_threads(threads.max(1)).start_handler(|_| set_defaults()).build();
    match pool {
        Ok(pool) => pool.install(f),
        Err(_) => with_float_defaults(f),
    }
}

/// Runs `f` with round to nearest, FTZ off and DAZ off on this thread, and puts back what was there before, also when `f`
/// panics. On processors other than x86-64 and aarch64 it only calls `f`.
pub fn with_float_defaults<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let _restore = Restore::set_defaults();
    // Behind a call that is not what it seems, on both sides: a pure function could be moved across writes of the register.
    black_box(apart(black_box(f)))
}

/// How many of the current pool's threads `work` is worth, where each is to have at least `least` of it.
pub(crate) fn worth(work: usize, least: usize) -> usize {
    (work / least).clamp(1, rayon::current_num_threads())
}

/// Calls `work` with the index and the elements of each chunk of `length` elements (the last may be shorter), on as many
/// threads as there are chunks, the caller's among them, and with the floating-point state of [`with_float_defaults`].
///
/// Chunks are outputs of their own, so the number of threads changes nothing. Inside a pool nothing is allocated.
pub(crate) fn each_chunk<T: Send>(values: &mut [T], length: usize, work: &(impl Fn(usize, &mut [T]) + Sync)) {
    if values.len() <= length {
        if !values.is_empty() {
            with_float_defaults(|| work(0, values));
        }
    } else if rayon::current_thread_index().is_some() {
        halve(values, length, 0, work);
    } else {
        // A `join` from outside the pool leaves all the work to the pool while the caller waits.
        let (first, rest) = values.split_at_mut(length);
        rayon::in_place_scope(|scope| {
            for (index, chunk) in rest.chunks_mut(length).enumerate() {
                scope.spawn(move |_| with_float_defaults(|| work(index + 1, chunk)));
            }
            with_float_defaults(|| work(0, first));
        });
    }
}

fn halve<T: Send>(values: &mut [T], length: usize, first: usize, work: &(impl Fn(usize, &mut [T]) + Sync)) {
    let chunks = values.len().div_ceil(length);
    if chunks <= 1 {
        return with_float_defaults(|| work(first, values));
    }
    let half = chunks / 2;
    let (left, right) = values.split_at_mut(half * length);
    rayon::join(|| halve(left, length, first, work), || halve(right, length, first + half, work));
}

#[inline(never)]
fn apart<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// For threads of our own, where nothing has to be put back.
fn set_defaults() {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    control::write_control(control::DEFAULT_CONTROL);
}

/// The state to put back, if it was not the default.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
struct Restore(Option<control::Control>);

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Restore {
    fn set_defaults() -> Restore {
        let found = control::read_control();
        if (found ^ control::DEFAULT_CONTROL) & control::CONTROL_MASK == 0 {
            return Restore(None);
        }
        control::write_control(control::DEFAULT_CONTROL);
        Restore(Some(found))
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(found) = self.0 {
            control::write_control(found);
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

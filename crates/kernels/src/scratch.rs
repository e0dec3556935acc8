//! Memory that a thread keeps for the next kernel, so that kernels allocate nothing once they have run.

use std::cell::RefCell;
use std::thread::LocalKey;

use ndarray::{ArrayView, ArrayViewMut, Dimension};

/// Calls `f` with `length` elements of this thread's scratch. They hold what the last kernel left there, so `f` must not read
/// what it has not written.
pub(crate) fn with_scratch<T: Scratch, R>(length: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    // Taken out while it is used: `f` may run other kernels on this thread while it waits for its own threads.
    let mut buffer = T::pool().with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    let result = f(&mut buffer[..length]);
    T::pool().with_borrow_mut(|pool| pool.push(buffer));
    result
}

/// Calls `f` with the elements in row-major order: in place if they lie so, else copied.
pub(crate) fn with_row_major<T: Scratch, D: Dimension, R>(
    view: ArrayView<'_, T, D>,
    f: impl FnOnce(&[T]) -> R,
) -> R {
    if let Some(slice) = view.to_slice() {
        return f(slice);
    }
    with_scratch(view.len(), |copy: &mut [T]| {
        copy.iter_mut().zip(&view).for_each(|(to, from)| *to = *from);
        f(copy)
    })
}

/// Calls `f` with the place for all elements in row-major order, which it has to fill without reading it first, and puts them
/// where they belong if that is not their place.
pub(crate) fn fill_row_major<T: Scratch, D: Dimension, R>(
    mut view: ArrayViewMut<'_, T, D>,
    f: impl FnOnce(&mut [T]) -> R,
) -> R {
    if let Some(slice) = view.as_slice_mut() {
        return f(slice);
    }
    with_scratch(view.len(), |copy: &mut [T]| {
        let result = f(copy);
        view.iter_mut().zip(copy).for_each(|(to, from)| *to = *from);
        result
    })
}

/// Elements that scratch is kept for.
pub(crate) trait Scratch: Copy + Default + 'static {
    fn pool() -> &'static LocalKey<RefCell<Vec<Vec<Self>>>>;
}

macro_rules! scratch {
    ($($type:ty),*) => {$(
        impl Scratch for $type {
            fn pool() -> &'static LocalKey<RefCell<Vec<Vec<$type>>>> {
                thread_local!(static POOL: RefCell<Vec<Vec<$type>>> = const { RefCell::new(Vec::new()) });
                &POOL
            }
        }
    )*};
}
scratch!(f32, f64, u32);

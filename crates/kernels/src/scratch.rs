//! Memory that a thread keeps for the next kernel, so that kernels allocate nothing once they have met their largest operands.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::thread::LocalKey;

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::error::KernelError;

/// A vector of this thread's, holding whatever the last kernel left there; the thread takes it back when it is dropped. While
/// one is held others can be taken: a kernel may run others on its thread while it waits for its own threads.
pub(crate) struct Kept<T: Scratch>(Vec<T>);

impl<T: Scratch> Kept<T> {
    pub(crate) fn take() -> Self {
        Kept(T::pool().with_borrow_mut(Vec::pop).unwrap_or_default())
    }

    /// `length` elements, whatever they hold, from the beginning of a cache line on: registers that span two lines are slow to
    /// load and to store.
    pub(crate) fn sized(&mut self, length: usize) -> &mut [T] {
        let line = LINE / size_of::<T>();
        if self.len() < length + line {
            self.resize(length + line, T::default());
        }
        let first = self.first();
        &mut self[first..][..length]
    }

    /// `length` elements, all `+0`, from the beginning of a cache line on.
    pub(crate) fn zeroed(&mut self, length: usize) -> &mut [T] {
        let values = self.sized(length);
        values.fill(T::default());
        values
    }

    /// These elements and no others.
    pub(crate) fn hold(&mut self, elements: impl Iterator<Item = T>) -> &[T] {
        self.clear();
        self.extend(elements);
        self
    }

    /// Makes room for [`sized`](Kept::sized), unless there is not so much memory.
    fn reserve(&mut self, kernel: &'static str, length: usize) -> Result<(), KernelError> {
        let too_large = KernelError::OutOfMemory { kernel, elements: length };
        let Some(needed) = length.checked_add(LINE) else { return Err(too_large) };
        let more = needed.saturating_sub(self.len());
        self.try_reserve_exact(more).map_err(|_| too_large)
    }

    /// Where the first cache line begins.
    fn first(&self) -> usize {
        self.as_ptr().align_offset(LINE).min(LINE / size_of::<T>())
    }
}

impl<T: Scratch> Deref for Kept<T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T: Scratch> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

impl<T: Scratch> Drop for Kept<T> {
    fn drop(&mut self) {
        let vector = std::mem::take(&mut self.0);
        T::pool().with_borrow_mut(|pool| pool.push(vector));
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

/// Calls `f` with `length` elements of this thread's scratch, which it must not read before it has written them.
pub(crate) fn with_scratch<T: Scratch, R>(length: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    f(Kept::take().sized(length))
}

/// The elements of an operand in row-major order: where they are if they lie so, else in scratch.
pub(crate) enum RowMajor<'a, T: Scratch> {
    InPlace(&'a [T]),
    Copied { kept: Kept<T>, length: usize },
}

impl<T: Scratch> Deref for RowMajor<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            RowMajor::InPlace(slice) => slice,
            RowMajor::Copied { kept, length } => &kept[kept.first()..][..*length],
        }
    }
}

/// The elements in row-major order.
///
/// # Errors
/// [`KernelError::OutOfMemory`] if they have to be copied and there is no memory for that, as for a broadcast view that repeats
/// one element very often.
pub(crate) fn row_major<'a, T: Scratch, D: Dimension>(
    kernel: &'static str,
    view: &ArrayView<'a, T, D>,
) -> Result<RowMajor<'a, T>, KernelError> {
    if let Some(slice) = view.to_slice() {
        return Ok(RowMajor::InPlace(slice));
    }
    let (mut kept, length) = (Kept::take(), view.len());
    kept.reserve(kernel, length)?;
    copy_from(view, kept.sized(length));
    Ok(RowMajor::Copied { kept, length })
}

/// Whether the elements of each row lie next to each other, so that rows can be copied whole.
fn has_whole_rows<D: Dimension>(shape: &D, strides: &[isize]) -> bool {
    strides.last() == Some(&1) && shape.ndim() > 1
}

fn copy_from<T: Scratch, D: Dimension>(view: &ArrayView<'_, T, D>, to: &mut [T]) {
    if has_whole_rows(&view.raw_dim(), view.strides()) {
        let columns = view.shape()[view.ndim() - 1].max(1);
        for (to, from) in to.chunks_exact_mut(columns).zip(view.rows()) {
            copy_row(from.to_slice().expect("a row whose stride is 1 lies in one piece"), to);
        }
        return;
    }
    to.iter_mut().zip(view).for_each(|(to, from)| *to = *from);
}

fn copy_to<T: Scratch, D: Dimension>(from: &[T], view: &mut ArrayViewMut<'_, T, D>) {
    if has_whole_rows(&view.raw_dim(), view.strides()) {
        let columns = view.shape()[view.ndim() - 1].max(1);
        for (mut to, from) in view.rows_mut().into_iter().zip(from.chunks_exact(columns)) {
            copy_row(from, to.as_slice_mut().expect("a row whose stride is 1 lies in one piece"));
        }
        return;
    }
    view.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

/// Rows of the usual widths of heads without a call, which takes longer than to copy one.
#[inline(always)]
fn copy_row<T: Copy>(from: &[T], to: &mut [T]) {
    match (from.as_chunks::<32>(), to.as_chunks_mut::<32>()) {
        (([from], []), ([to], [])) => *to = *from,
        (([first, second], []), ([to_first, to_second], [])) => (*to_first, *to_second) = (*first, *second),
        _ => to.copy_from_slice(from),
    }
}

/// Calls `f` with the place for all elements in row-major order, which it has to fill without reading it first, and puts them
/// where they belong if that is not their place and `f` did not fail.
///
/// # Errors
/// As [`row_major`], and those of `f`. The view is then unchanged, unless `f` changed it in place.
pub(crate) fn fill_row_major<T: Scratch, D: Dimension>(
    kernel: &'static str,
    view: ArrayViewMut<'_, T, D>,
    f: impl FnOnce(&mut [T]) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    through_row_major(kernel, view, false, f)
}

/// [`fill_row_major`] of a place that holds the elements already.
///
/// # Errors
/// As [`fill_row_major`].
pub(crate) fn update_row_major<T: Scratch, D: Dimension>(
    kernel: &'static str,
    view: ArrayViewMut<'_, T, D>,
    f: impl FnOnce(&mut [T]) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    through_row_major(kernel, view, true, f)
}

fn through_row_major<T: Scratch, D: Dimension>(
    kernel: &'static str,
    mut view: ArrayViewMut<'_, T, D>,
    read: bool,
    f: impl FnOnce(&mut [T]) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    if let Some(slice) = view.as_slice_mut() {
        return f(slice);
    }
    let mut kept = Kept::take();
    kept.reserve(kernel, view.len())?;
    let copy = kept.sized(view.len());
    if read {
        copy_from(&view.view(), copy);
    }
    f(copy)?;
    copy_to(copy, &mut view);
    Ok(())
}

/// A vector of zeros for a result.
///
/// # Errors
/// [`KernelError::SizeOverflow`] if there is no memory for it.
pub(crate) fn zeros<T: Scratch>(
    kernel: &'static str,
    rows: usize,
    columns: usize,
) -> Result<Vec<T>, KernelError> {
    let overflow = KernelError::SizeOverflow { kernel, rows, columns };
    let Some(length) = rows.checked_mul(columns) else { return Err(overflow) };
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| overflow)?;
    values.resize(length, T::default());
    Ok(values)
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
scratch!(f32, f64, u32, usize);

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{array, Array1, Array3, ArrayView2};

    #[test]
    fn copies_are_in_row_major_order_and_go_back() {
        let x = array![[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]];
        assert_eq!(*row_major("test", &x.view()).unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(*row_major("test", &x.t()).unwrap(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        let mut y = x.clone();
        let add = |values: &mut [f32]| {
            values.iter_mut().zip(0u8..).for_each(|(value, index)| *value += f32::from(index) * 10.0);
            Ok(())
        };
        update_row_major("test", y.view_mut().reversed_axes(), add).unwrap();
        assert_eq!(y, array![[1.0, 32.0], [13.0, 44.0], [25.0, 56.0]]);
    }

    #[test]
    fn rows_that_lie_in_one_piece_are_copied_whole() {
        let x = Array3::from_shape_fn((3, 2, 4), |(i, j, k)| (100 * i + 10 * j + k) as f32);
        let swapped = x.view().permuted_axes([1, 0, 2]);
        let expected: Vec<f32> = swapped.iter().copied().collect();
        assert_eq!(*row_major("test", &swapped).unwrap(), *expected);
        let mut y = Array3::<f32>::zeros((3, 2, 4));
        let fill = |values: &mut [f32]| {
            values.copy_from_slice(&expected);
            Ok(())
        };
        fill_row_major("test", y.view_mut().permuted_axes([1, 0, 2]), fill).unwrap();
        assert_eq!(y, x);
        let mut backwards = x.view();
        backwards.invert_axis(ndarray::Axis(1));
        let expected: Vec<f32> = backwards.iter().copied().collect();
        assert_eq!(*row_major("test", &backwards).unwrap(), *expected);
        let empty = Array3::<f32>::zeros((2, 3, 0));
        assert!(row_major("test", &empty.view().permuted_axes([1, 0, 2])).unwrap().is_empty());
    }

    #[test]
    fn a_failure_changes_nothing() {
        let failure = KernelError::NoColumns { kernel: "test", rows: 1 };
        let mut y = array![[1.0_f32, 2.0], [3.0, 4.0]];
        let fail = |values: &mut [f32]| {
            values.fill(9.0);
            Err(failure.clone())
        };
        assert_eq!(fill_row_major("test", y.view_mut().reversed_axes(), fail), Err(failure.clone()));
        assert_eq!(y, array![[1.0, 2.0], [3.0, 4.0]]);
    }

    #[test]
    fn what_cannot_be_copied_is_refused() {
        let one = Array1::<f32>::zeros(1);
        let huge: ArrayView2<'_, f32> = one.broadcast((1 << 31, 1 << 30)).unwrap();
        let refusal = row_major("test", &huge).err();
        assert_eq!(refusal, Some(KernelError::OutOfMemory { kernel: "test", elements: 1 << 61 }));
        for (rows, columns) in [(usize::MAX, 2), (1 << 31, 1 << 30)] {
            let refusal = zeros::<f32>("test", rows, columns);
            assert_eq!(refusal, Err(KernelError::SizeOverflow { kernel: "test", rows, columns }));
        }
    }

    #[test]
    fn scratch_begins_at_a_cache_line() {
        let mut kept = Kept::<f32>::take();
        for length in [0, 1, 100, 10_000] {
            assert_eq!(kept.sized(length).len(), length);
            assert_eq!(kept.sized(length).as_ptr().addr() % LINE, 0);
        }
        assert!(kept.zeroed(50).iter().all(|&x| x == 0.0));
    }
}

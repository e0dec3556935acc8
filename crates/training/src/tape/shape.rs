//! The lengths of a value's axes.

use std::ops::Deref;

use ndarray::{ArrayView2, ArrayView3, ArrayViewD, ArrayViewMut2, ArrayViewMut3, ArrayViewMutD, IxDyn};

use super::TapeError;

/// The most axes of a value.
pub const MAX_AXES: usize = 6;

/// The length of each axis, the last one fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    axes: [usize; MAX_AXES],
    rank: usize,
}

impl Shape {
    /// A shape of these axes; none is one element.
    ///
    /// # Errors
    /// [`TapeError::TooLarge`] for more than [`MAX_AXES`] axes, or more elements than memory can hold.
    pub fn new(axes: &[usize]) -> Result<Self, TapeError> {
        // An axis without elements may be summed away: what remains has to be a shape too.
        let elements = axes.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis.max(1)));
        let fits = axes.len() <= MAX_AXES && elements.is_some_and(|n| n <= isize::MAX as usize / 4);
        if !fits {
            return Err(TapeError::TooLarge { got: axes.to_vec() });
        }
        let mut all = [0; MAX_AXES];
        all[..axes.len()].copy_from_slice(axes);
        Ok(Self { axes: all, rank: axes.len() })
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// The length of the last axis, 1 if there is none.
    pub fn columns(&self) -> usize {
        self.last().copied().unwrap_or(1)
    }

    /// The elements of all axes but the last.
    pub fn rows(&self) -> usize {
        self.split_last().map_or(1, |(_, rows)| rows.iter().product())
    }

    /// The same axes, and another length of the last.
    pub(super) fn with_columns(mut self, columns: usize) -> Result<Self, TapeError> {
        if let Some(last) = self.rank.checked_sub(1) {
            self.axes[last] = columns;
        }
        Self::new(&self)
    }

    /// Elements as (rows, columns).
    pub(super) fn as_matrix<'a>(&self, elements: &'a [f32]) -> ArrayView2<'a, f32> {
        ArrayView2::from_shape((self.rows(), self.columns()), elements).expect("a value fills its shape")
    }

    /// As [`Shape::as_matrix`], to be changed.
    pub(super) fn as_matrix_mut<'a>(&self, elements: &'a mut [f32]) -> ArrayViewMut2<'a, f32> {
        ArrayViewMut2::from_shape((self.rows(), self.columns()), elements).expect("a value fills its shape")
    }

    /// Elements with all axes.
    pub(super) fn as_array<'a>(&self, elements: &'a [f32]) -> ArrayViewD<'a, f32> {
        ArrayViewD::from_shape(IxDyn(self), elements).expect("a value fills its shape")
    }

    /// As [`Shape::as_array`], to be changed.
    pub(super) fn as_array_mut<'a>(&self, elements: &'a mut [f32]) -> ArrayViewMutD<'a, f32> {
        ArrayViewMutD::from_shape(IxDyn(self), elements).expect("a value fills its shape")
    }

    /// This shape around one of its axes.
    ///
    /// # Errors
    /// [`TapeError::Shape`] in the name of `operation` when it has no such axis.
    pub(super) fn around(&self, operation: &'static str, axis: usize) -> Result<Around, TapeError> {
        let &along = self.get(axis).ok_or_else(|| TapeError::Shape {
            operation,
            expected: "one of the axes, counted from 0",
            got: self.to_vec(),
        })?;
        let (outer, inner) = (self[..axis].iter().product(), self[axis + 1..].iter().product());
        Ok(Around { outer, along, inner })
    }

    /// The same axes, and another length of one.
    pub(super) fn with_axis(mut self, axis: usize, length: usize) -> Result<Self, TapeError> {
        self.axes[..self.rank][axis] = length;
        Self::new(&self)
    }

    /// The other axes.
    pub(super) fn without_axis(mut self, axis: usize) -> Self {
        self.axes[..self.rank].copy_within(axis + 1.., axis);
        self.rank -= 1;
        // Equal shapes have to be equal in what lies behind their axes too.
        self.axes[self.rank] = 0;
        self
    }
}

/// A shape as three axes: the one in the middle, and the elements before and behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Around {
    pub(super) outer: usize,
    pub(super) along: usize,
    pub(super) inner: usize,
}

impl Around {
    /// Elements as (outer, along, inner).
    pub(super) fn view<'a>(&self, elements: &'a [f32]) -> ArrayView3<'a, f32> {
        let shape = (self.outer, self.along, self.inner);
        ArrayView3::from_shape(shape, elements).expect("a value fills its shape")
    }

    /// As [`Around::view`], to be changed.
    pub(super) fn view_mut<'a>(&self, elements: &'a mut [f32]) -> ArrayViewMut3<'a, f32> {
        let shape = (self.outer, self.along, self.inner);
        ArrayViewMut3::from_shape(shape, elements).expect("a value fills its shape")
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.axes[..self.rank]
    }
}

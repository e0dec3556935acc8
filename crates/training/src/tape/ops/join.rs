//! Parts of an axis: cut out, put together, surrounded by zeros. Elements are copied, gradients too.

use std::ops::Range;

use super::super::shape::Around;
use super::super::{Gradients, Operation, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// The elements at the places `range` of an axis; backwards all others get `+0`.
    ///
    /// # Errors
    /// [`TapeError::Shape`] when there is no such axis or the range leaves it.
    pub fn slice(&mut self, x: Var, axis: usize, range: Range<usize>) -> Result<Var, TapeError> {
        let from = self.shape(x);
        let around = from.around("slice", axis)?;
        if range.start > range.end || range.end > around.along {
            let (operation, expected) = ("slice", "a range of places on its axis");
            return Err(TapeError::Shape { operation, expected, got: from.to_vec() });
        }
        let shape = from.with_axis(axis, range.len())?;
        let mut y = self.buffer(shape.elements());
        cut(around, &range, self.value(x), &mut y);
        Ok(self.record(shape, y, &[x], Slice { x, around, range }))
    }

    /// Values one after the other along an axis; all their other axes are the same. Backwards the last one gets its part of `dy` first.
    ///
    /// # Errors
    /// [`TapeError::Shape`] when there is no value, no such axis, or a value of another shape.
    pub fn concat(&mut self, parts: &[Var], axis: usize) -> Result<Var, TapeError> {
        let refused = |expected, got: &[usize]| {
            Err(TapeError::Shape { operation: "concat", expected, got: got.to_vec() })
        };
        let Some(&first) = parts.first() else { return refused("at least one value", &[]) };
        let first = self.shape(first);
        first.around("concat", axis)?;
        let mut along = 0_usize;
        for &part in parts {
            let shape = self.shape(part);
            if shape.len() != first.len() || first.with_axis(axis, 0)? != shape.with_axis(axis, 0)? {
                return refused("values that differ along its axis only", &shape);
            }
            along = along.saturating_add(shape[axis]);
        }
        let shape = first.with_axis(axis, along)?;
        let around = shape.around("concat", axis)?;
        let mut y = self.buffer(shape.elements());
        let mut ends = Vec::with_capacity(parts.len());
        let mut begin = 0;
        for &part in parts {
            let end = begin + self.shape(part)[axis];
            paste(around, &(begin..end), self.value(part), &mut y);
            ends.push((part, begin..end));
            begin = end;
        }
        Ok(self.record(shape, y, parts, Concat { parts: ends, around }))
    }

    /// An axis with `padding` elements of `+0` before and behind it; backwards their gradient is dropped.
    ///
    /// # Errors
    /// [`TapeError::Shape`] when there is no such axis, [`TapeError::TooLarge`] when the result is too large.
    pub fn pad(&mut self, x: Var, axis: usize, padding: [usize; 2]) -> Result<Var, TapeError> {
        let from = self.shape(x);
        let inside = from.around("pad", axis)?.along;
        let end = padding[0].saturating_add(inside);
        let shape = from.with_axis(axis, end.saturating_add(padding[1]))?;
        let around = shape.around("pad", axis)?;
        let mut y = self.buffer(shape.elements());
        let range = padding[0]..end;
        y.fill(0.0);
        paste(around, &range, self.value(x), &mut y);
        Ok(self.record(shape, y, &[x], Pad { x, around, range }))
    }
}

/// Copies the places `range` of the whole's axis to `part`.
fn cut(whole: Around, range: &Range<usize>, from: &[f32], part: &mut [f32]) {
    if part.is_empty() {
        return;
    }
    let (block, length) = (whole.along * whole.inner, range.len() * whole.inner);
    for (from, part) in from.chunks_exact(block).zip(part.chunks_exact_mut(length)) {
        part.copy_from_slice(&from[range.start * whole.inner..][..length]);
    }
}

/// Copies `part` to the places `range` of the whole's axis.
fn paste(whole: Around, range: &Range<usize>, part: &[f32], into: &mut [f32]) {
    if part.is_empty() {
        return;
    }
    let (block, length) = (whole.along * whole.inner, range.len() * whole.inner);
    for (into, part) in into.chunks_exact_mut(block).zip(part.chunks_exact(length)) {
        into[range.start * whole.inner..][..length].copy_from_slice(part);
    }
}

struct Slice {
    x: Var,
    around: Around,
    range: Range<usize>,
}

impl Operation for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        gradients.fill(self.x, values.shape(self.x).elements(), |dx| {
            dx.fill(0.0);
            paste(self.around, &self.range, &dy, dx);
            Ok(())
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

struct Concat {
    parts: Vec<(Var, Range<usize>)>,
    around: Around,
}

impl Operation for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        for (part, range) in self.parts.iter().rev() {
            gradients.fill(*part, values.shape(*part).elements(), |dx| {
                cut(self.around, range, &dy, dx);
                Ok(())
            })?;
        }
        gradients.give_back(dy);
        Ok(())
    }
}

struct Pad {
    x: Var,
    around: Around,
    range: Range<usize>,
}

impl Operation for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        gradients.fill(self.x, values.shape(self.x).elements(), |dx| {
            cut(self.around, &self.range, &dy, dx);
            Ok(())
        })?;
        gradients.give_back(dy);
        Ok(())
    }
}

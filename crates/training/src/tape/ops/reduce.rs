//! Reductions over one axis, which the result lacks, or over all elements, whose result has no axes.

use bitproof_kernels::elementary::{unary_into, Unary};
use bitproof_kernels::{
    binary_in_place, binary_into, logsumexp_axis_into, max_axis_into, mean_axis_into, sum_axis_into,
    with_float_defaults, Binary,
};
use ndarray::{ArrayView3, ArrayViewMut2, Axis};

use super::super::shape::Around;
use super::super::{Gradients, Operation, Shape, Tape, TapeError, Values, Var};

impl Tape<'_> {
    /// The sums along an axis, each in the tree of [`bitproof_kernels::sum`]; backwards every element gets the `dy` of its sum.
    ///
    /// # Errors
    /// [`TapeError::Shape`] when there is no such axis.
    pub fn sum_axis(&mut self, x: Var, axis: usize) -> Result<Var, TapeError> {
        self.reduce_axis(x, axis, Reduction::Sum)
    }

    /// The sum of all elements, as [`Tape::sum_axis`] of one axis.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn sum(&mut self, x: Var) -> Result<Var, TapeError> {
        self.reduce_all(x, Reduction::Sum)
    }

    /// The means along an axis, each by the rule of [`bitproof_kernels::mean`], NaN for an axis without elements; backwards every element
    /// gets `dy / n`, divided in f64 and rounded once to f32.
    ///
    /// # Errors
    /// As [`Tape::sum_axis`].
    pub fn mean_axis(&mut self, x: Var, axis: usize) -> Result<Var, TapeError> {
        self.reduce_axis(x, axis, Reduction::Mean)
    }

    /// The mean of all elements, as [`Tape::mean_axis`] of one axis.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn mean(&mut self, x: Var) -> Result<Var, TapeError> {
        self.reduce_all(x, Reduction::Mean)
    }

    /// The largest elements along an axis, `−∞` for an axis without elements; backwards the first of equal ones, or the first NaN, gets
    /// `dy`, all others get `+0`.
    ///
    /// # Errors
    /// As [`Tape::sum_axis`].
    pub fn max_axis(&mut self, x: Var, axis: usize) -> Result<Var, TapeError> {
        self.reduce_axis(x, axis, Reduction::Max)
    }

    /// The largest element of all, as [`Tape::max_axis`] of one axis.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn max(&mut self, x: Var) -> Result<Var, TapeError> {
        self.reduce_all(x, Reduction::Max)
    }

    /// `ln Σ exp(x)` along an axis, by the rule of [`logsumexp_axis_into`]; backwards `dx = exp(x − y) · dy`, in f32 with the correctly rounded
    /// exponential.
    ///
    /// # Errors
    /// As [`Tape::sum_axis`].
    pub fn logsumexp_axis(&mut self, x: Var, axis: usize) -> Result<Var, TapeError> {
        self.reduce_axis(x, axis, Reduction::LogSumExp)
    }

    /// `ln Σ exp(x)` of all elements, as [`Tape::logsumexp_axis`] of one axis.
    ///
    /// # Errors
    /// None for values of a tape.
    pub fn logsumexp(&mut self, x: Var) -> Result<Var, TapeError> {
        self.reduce_all(x, Reduction::LogSumExp)
    }

    fn reduce_axis(&mut self, x: Var, axis: usize, reduction: Reduction) -> Result<Var, TapeError> {
        let shape = self.shape(x);
        let around = shape.around(reduction.name(), axis)?;
        self.reduce(x, around, shape.without_axis(axis), reduction)
    }

    fn reduce_all(&mut self, x: Var, reduction: Reduction) -> Result<Var, TapeError> {
        let around = Around { outer: 1, along: self.shape(x).elements(), inner: 1 };
        self.reduce(x, around, Shape::new(&[])?, reduction)
    }

    fn reduce(
        &mut self,
        x: Var,
        around: Around,
        shape: Shape,
        reduction: Reduction,
    ) -> Result<Var, TapeError> {
        let mut results = self.buffer(shape.elements());
        let elements = around.view(self.value(x));
        let into = ArrayViewMut2::from_shape((around.outer, around.inner), &mut results);
        let into = into.expect("a result for each element outside of the axis");
        match reduction {
            Reduction::Sum => sum_axis_into(elements, Axis(1), into)?,
            Reduction::Mean => mean_axis_into(elements, Axis(1), into)?,
            Reduction::Max => max_axis_into(elements, Axis(1), into)?,
            Reduction::LogSumExp => logsumexp_axis_into(elements, Axis(1), into)?,
        }
        let y = self.next();
        Ok(self.record(shape, results, &[x], Reduced { x, y, around, reduction }))
    }
}

#[derive(Clone, Copy)]
enum Reduction {
    Sum,
    Mean,
    Max,
    LogSumExp,
}

impl Reduction {
    fn name(self) -> &'static str {
        match self {
            Reduction::Sum => "sum",
            Reduction::Mean => "mean",
            Reduction::Max => "max",
            Reduction::LogSumExp => "logsumexp",
        }
    }
}

struct Reduced {
    x: Var,
    y: Var,
    around: Around,
    reduction: Reduction,
}

impl Operation for Reduced {
    fn name(&self) -> &'static str {
        self.reduction.name()
    }
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        mut dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError> {
        let Reduced { x, y, around, reduction } = *self;
        let (x_elements, y) = (values.get(x), values.get(y));
        match reduction {
            Reduction::Sum | Reduction::Mean => {
                if let Reduction::Mean = reduction {
                    let count = around.along as f64;
                    with_float_defaults(|| {
                        dy.iter_mut().for_each(|d| *d = (f64::from(*d) / count) as f32);
                    });
                }
                gradients.fill(x, x_elements.len(), |dx| {
                    around.view_mut(dx).assign(&repeated(around, &dy));
                    Ok(())
                })?;
            }
            Reduction::Max => gradients.fill(x, x_elements.len(), |dx| {
                with_float_defaults(|| to_largest(around, x_elements, y, &dy, dx));
                Ok(())
            })?,
            Reduction::LogSumExp if gradients.wanted(x) => {
                let mut differences = gradients.buffer(x_elements.len());
                let into = around.view_mut(&mut differences);
                binary_into(Binary::Sub, around.view(x_elements), repeated(around, y), into)?;
                gradients.fill(x, x_elements.len(), |dx| {
                    unary_into(Unary::Exp, around.view(&differences), around.view_mut(dx))?;
                    Ok(binary_in_place(Binary::Mul, around.view_mut(dx), repeated(around, &dy))?)
                })?;
                gradients.give_back(differences);
            }
            Reduction::LogSumExp => {}
        }
        gradients.give_back(dy);
        Ok(())
    }
}

/// Results as an axis of length 1, to be repeated along the one that was reduced.
fn repeated(around: Around, results: &[f32]) -> ArrayView3<'_, f32> {
    Around { along: 1, ..around }.view(results)
}

/// Writes `dy` to the first place along the axis that holds the result, and `+0` elsewhere.
fn to_largest(around: Around, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
    dx.fill(0.0);
    let Around { along, inner, .. } = around;
    for (result, (&largest, &dy)) in y.iter().zip(dy).enumerate() {
        let first = result / inner * along * inner + result % inner;
        let is_largest = |&place: &usize| match x[first + place * inner] {
            element if largest.is_nan() => element.is_nan(),
            element => element == largest,
        };
        if let Some(place) = (0..along).find(is_largest) {
            dx[first + place * inner] = dy;
        }
    }
}

//! Reverse-mode differentiation: operations are recorded as they run, and walked backwards.
//!
//! # Order
//! [`Tape::backward`] visits the operations in decreasing order of their creation. A value with several consumers gets
//! `old + new`, so its gradient adds up in decreasing order of the consumers. Nothing depends on threads: the kernels' bits do not.
//!
//! # Memory
//! Values and gradients lie in [`Buffers`], which outlive the tape: after the first step of a training nothing that grows with
//! the batch is allocated.
//!
//! ```
//! use bitproof_training::tape::{Buffers, Shape, Tape};
//!
//! let mut buffers = Buffers::default();
//! let mut gradient = [0.0; 2];
//! let mut tape = Tape::new(&mut buffers);
//! let x = tape.variable(Shape::new(&[2])?, &[3.0, -4.0], &mut gradient)?;
//! let y = tape.mul(x, x)?;
//! assert_eq!(tape.value(y), [9.0, 16.0]);
//! tape.backward(y)?; // of the sum of y
//! assert_eq!(gradient, [6.0, -8.0]);
//! # Ok::<(), bitproof_training::tape::TapeError>(())
//! ```

mod backward;
mod buffers;
mod ops;
mod shape;
#[cfg(test)]
mod tests;

use bitproof_kernels::{KernelError, RowMoments};
use ndarray::{ArrayView1, ArrayView2, ArrayViewD};

use crate::trainable::Traced;
pub use backward::Gradients;
pub use buffers::Buffers;
pub use ops::Product;
pub use shape::{Shape, MAX_AXES};

/// An operation that its operands do not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TapeError {
    /// A shape does not fit.
    #[error("{operation} takes {expected}, got {got:?}")]
    Shape {
        /// The operation.
        operation: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        got: Vec<usize>,
    },
    /// A shape has too many axes or elements.
    #[error("the shape {got:?} has more than {MAX_AXES} axes, or more elements than memory can hold")]
    TooLarge {
        /// The shape.
        got: Vec<usize>,
    },
    /// There are not as many elements as the shape has.
    #[error("{got} elements do not fill a shape of {expected}")]
    Elements {
        /// What the shape has.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A kernel refused its operands.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A value on a tape. It belongs to the tape that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Var(u32);

/// Where the elements of a value lie.
enum Elements<'p> {
    Owned(Vec<f32>),
    Lent(&'p [f32]),
    /// Those of another value, in another shape.
    Of(Var),
    /// What the way back of a max pooling needs.
    Indices(Vec<u32>),
    /// What the way back of a layer norm needs.
    Moments(Vec<RowMoments>),
}

struct Node<'p> {
    shape: Shape,
    elements: Elements<'p>,
    operation: Option<Box<dyn Operation + 'p>>,
    /// Whether something that learns reaches it.
    learns: bool,
    /// Where its gradient goes, if it is a variable: see [`Tape::variable`].
    gradient: Option<&'p mut [f32]>,
}

/// What a tape remembers of an operation to walk it backwards.
trait Operation {
    /// Its name, as a trace shows it.
    fn name(&self) -> &'static str;

    /// Gives each operand its share of `dy`, the gradient of what the operation made. The memory of `dy` goes on, or back.
    fn backward(
        self: Box<Self>,
        values: &Values<'_, '_>,
        dy: Vec<f32>,
        gradients: &mut Gradients<'_, '_>,
    ) -> Result<(), TapeError>;
}

/// The values of a tape, to be read.
pub(crate) struct Values<'t, 'p>(&'t [Node<'p>]);

/// Operations as they ran, with what they gave.
pub struct Tape<'p> {
    nodes: Vec<Node<'p>>,
    buffers: &'p mut Buffers,
    see: Option<See<'p>>,
}

type See<'p> = &'p mut dyn FnMut(Traced<'_>);

impl<'p> Tape<'p> {
    /// A tape without values. What it needs of memory it takes from `buffers`, and gives back when it is dropped.
    pub fn new(buffers: &'p mut Buffers) -> Self {
        Self { nodes: Vec::new(), buffers, see: None }
    }

    /// Shows what each operation gives from now on, on the way forward and on the way back.
    #[must_use]
    pub fn traced(mut self, see: &'p mut dyn FnMut(Traced<'_>)) -> Self {
        self.see = Some(see);
        self
    }

    /// A value that does not learn.
    ///
    /// # Errors
    /// [`TapeError::Elements`].
    pub fn constant(&mut self, shape: Shape, elements: &'p [f32]) -> Result<Var, TapeError> {
        self.lend(shape, elements, None)
    }

    /// A value that learns: [`Tape::backward`] fills `gradient` with its gradient, also where nothing used it.
    ///
    /// # Errors
    /// [`TapeError::Elements`] when `elements` or `gradient` is not as long as the shape.
    pub fn variable(
        &mut self,
        shape: Shape,
        elements: &'p [f32],
        gradient: &'p mut [f32],
    ) -> Result<Var, TapeError> {
        if gradient.len() != shape.elements() {
            return Err(TapeError::Elements { expected: shape.elements(), got: gradient.len() });
        }
        self.lend(shape, elements, Some(gradient))
    }

    fn lend(
        &mut self,
        shape: Shape,
        elements: &'p [f32],
        gradient: Option<&'p mut [f32]>,
    ) -> Result<Var, TapeError> {
        if elements.len() != shape.elements() {
            return Err(TapeError::Elements { expected: shape.elements(), got: elements.len() });
        }
        let learns = gradient.is_some();
        let node = Node { shape, elements: Elements::Lent(elements), operation: None, learns, gradient };
        Ok(self.add_node(node))
    }

    /// The elements of a value, row-major.
    pub fn value(&self, var: Var) -> &[f32] {
        self.values().get(var)
    }

    /// The shape of a value.
    pub fn shape(&self, var: Var) -> Shape {
        self.nodes[var.0 as usize].shape
    }

    fn values(&self) -> Values<'_, 'p> {
        Values(&self.nodes)
    }

    /// Memory for a new value, holding whatever was there before.
    fn buffer(&mut self, elements: usize) -> Vec<f32> {
        self.buffers.take(elements)
    }

    /// Records what an operation on `operands` made.
    fn record(
        &mut self,
        shape: Shape,
        elements: Vec<f32>,
        operands: &[Var],
        operation: impl Operation + 'p,
    ) -> Var {
        debug_assert_eq!(shape.elements(), elements.len(), "{} fills its shape", operation.name());
        if let Some(see) = &mut self.see {
            let operation = format!("operation {} ({})", self.nodes.len(), operation.name());
            see(Traced { operation: &operation, values: &elements });
        }
        let learns = self.learns(operands);
        // What nobody asks the gradient of is not walked backwards.
        let operation: Option<Box<dyn Operation + 'p>> = learns.then(|| Box::new(operation) as _);
        self.add_node(Node { shape, elements: Elements::Owned(elements), operation, learns, gradient: None })
    }

    /// Keeps what the way back of an operation needs, as a value of its own, so that its memory is given back with the others.
    fn record_constant(&mut self, shape: Shape, elements: Vec<f32>) -> Var {
        self.keep(shape, Elements::Owned(elements))
    }

    fn keep(&mut self, shape: Shape, elements: Elements<'p>) -> Var {
        self.add_node(Node { shape, elements, operation: None, learns: false, gradient: None })
    }

    /// The value that is recorded next.
    fn next(&self) -> Var {
        Var(u32::try_from(self.nodes.len()).expect("a tape has fewer than 2³² values"))
    }

    fn learns(&self, operands: &[Var]) -> bool {
        operands.iter().any(|var| self.nodes[var.0 as usize].learns)
    }

    fn add_node(&mut self, node: Node<'p>) -> Var {
        let var = self.next();
        self.nodes.push(node);
        var
    }
}

impl Drop for Tape<'_> {
    fn drop(&mut self) {
        for node in self.nodes.drain(..) {
            match node.elements {
                Elements::Owned(elements) => self.buffers.give_back(elements),
                Elements::Indices(indices) => self.buffers.give_back(indices),
                Elements::Moments(moments) => self.buffers.give_back(moments),
                Elements::Lent(_) | Elements::Of(_) => {}
            }
        }
    }
}

impl<'t> Values<'t, '_> {
    fn get(&self, var: Var) -> &'t [f32] {
        match &self.0[var.0 as usize].elements {
            Elements::Owned(elements) => elements,
            Elements::Lent(elements) => elements,
            Elements::Of(other) => self.get(*other),
            Elements::Indices(_) | Elements::Moments(_) => unreachable!("no operand is one of these"),
        }
    }

    fn indices(&self, var: Var) -> &'t [u32] {
        match &self.0[var.0 as usize].elements {
            Elements::Indices(indices) => indices,
            _ => unreachable!("an operation asks for indices that it kept"),
        }
    }

    fn moments(&self, var: Var) -> &'t [RowMoments] {
        match &self.0[var.0 as usize].elements {
            Elements::Moments(moments) => moments,
            _ => unreachable!("an operation asks for moments that it kept"),
        }
    }

    fn shape(&self, var: Var) -> Shape {
        self.0[var.0 as usize].shape
    }

    /// All axes but the last as rows.
    fn matrix(&self, var: Var) -> ArrayView2<'t, f32> {
        self.shape(var).as_matrix(self.get(var))
    }

    fn vector(&self, var: Var) -> ArrayView1<'t, f32> {
        ArrayView1::from(self.get(var))
    }

    fn array(&self, var: Var) -> ArrayViewD<'t, f32> {
        self.shape(var).as_array(self.get(var))
    }
}

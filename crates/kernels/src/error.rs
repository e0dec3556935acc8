use thiserror::Error;

/// Operands that a kernel cannot take. Numbers (NaN, infinities) are never an error.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KernelError {
    /// Two operands do not fit together.
    #[error("{kernel}: {left_name} has shape {left:?} but {right_name} has shape {right:?}; {rule}")]
    ShapeMismatch {
        /// The kernel that was called.
        kernel: &'static str,
        /// What the first operand is called in its signature.
        left_name: &'static str,
        /// Shape of the first operand.
        left: Vec<usize>,
        /// What the second operand is called in its signature.
        right_name: &'static str,
        /// Shape of the second operand.
        right: Vec<usize>,
        /// What must hold between the two.
        rule: &'static str,
    },
    /// A label names a class that the logits do not have.
    #[error("label {label} at row {row} is out of range; there are {classes} classes, counted from 0")]
    LabelOutOfRange {
        /// Row of the label, from 0.
        row: usize,
        /// The label.
        label: u32,
        /// Number of classes, which is the number of columns of the logits.
        classes: usize,
    },
    /// There is no memory for a result of this size.
    #[error("{kernel}: a result of {rows} by {columns} elements does not fit into memory")]
    SizeOverflow {
        /// The kernel that was called.
        kernel: &'static str,
        /// Rows of the result.
        rows: usize,
        /// Columns of the result.
        columns: usize,
    },
    /// An operand does not lie in row-major order, and there is no memory for a copy that does.
    #[error("{kernel}: a copy of {elements} elements does not fit into memory; pass an operand in row-major order")]
    OutOfMemory {
        /// The kernel that was called.
        kernel: &'static str,
        /// Elements of the operand.
        elements: usize,
    },
    /// A window does not fit into the padded axis that it slides over, or does not slide.
    #[error(
        "{kernel}: a window of {window} with stride {stride} and padding {padding} does not fit axis {axis} of length \
         {length}; {rule}"
    )]
    Window {
        /// The kernel that was called.
        kernel: &'static str,
        /// The axis of the input, counted from 0.
        axis: usize,
        /// Its length.
        length: usize,
        /// Elements that the window spans.
        window: usize,
        /// Elements from one window to the next.
        stride: usize,
        /// Zeros on each side.
        padding: usize,
        /// What must hold.
        rule: &'static str,
    },
    /// An index names an element or row that is not there.
    #[error("{kernel}: index {index} at place {at} is out of range; there are {length}, counted from 0")]
    IndexOutOfRange {
        /// The kernel that was called.
        kernel: &'static str,
        /// Place of the index among the indices in row-major order, from 0.
        at: usize,
        /// The index.
        index: u32,
        /// How many elements or rows there are.
        length: usize,
    },
    /// A row without elements has no largest element.
    #[error("{kernel}: the {rows} rows have no columns; at least one is needed")]
    NoColumns {
        /// The kernel that was called.
        kernel: &'static str,
        /// Number of rows.
        rows: usize,
    },
}

/// Two one-dimensional operands must be equally long.
pub(crate) fn same_length(
    kernel: &'static str,
    (left_name, left): (&'static str, usize),
    (right_name, right): (&'static str, usize),
) -> Result<(), KernelError> {
    if left == right {
        return Ok(());
    }
    Err(KernelError::ShapeMismatch {
        kernel,
        left_name,
        left: vec![left],
        right_name,
        right: vec![right],
        rule: "they must be equally long",
    })
}

/// Two operands must have the same shape.
pub(crate) fn same_shape(
    kernel: &'static str,
    (left_name, left): (&'static str, &[usize]),
    (right_name, right): (&'static str, &[usize]),
) -> Result<(), KernelError> {
    if left == right {
        return Ok(());
    }
    Err(KernelError::ShapeMismatch {
        kernel,
        left_name,
        left: left.to_vec(),
        right_name,
        right: right.to_vec(),
        rule: "they must have the same shape",
    })
}

//! An array of a file as features or as targets, whatever its type and byte order.

use ndarray::{Array2, ArrayD, IxDyn, ShapeBuilder as _};

use super::{
    DataError, Examples, Table, TargetKind, Targets, MAX_AXES, MAX_ELEMENTS, MAX_FEATURES, MAX_ROWS,
};
use crate::arrays::{half, ArrayError, RawArray};

/// What an element's bits mean. A width is in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    BF16,
    Signed(usize),
    Unsigned(usize),
    Bool,
}

/// A number as it stands in a file, without loss.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Float(f64),
    Signed(i64),
    Unsigned(u64),
}

impl Element {
    pub(super) const fn width(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Bool => 1,
            Self::Signed(width) | Self::Unsigned(width) => width,
        }
    }

    fn number(self, bits: u64) -> Option<Number> {
        Some(match self {
            Self::F64 => Number::Float(f64::from_bits(bits)),
            Self::F32 => Number::Float(f64::from(f32::from_bits(bits as u32))),
            Self::F16 => Number::Float(half(bits as u16)),
            Self::BF16 => Number::Float(f64::from(f32::from_bits((bits as u32) << 16))),
            Self::Signed(width) => {
                let unused = 64 - 8 * width as u32;
                Number::Signed((bits << unused) as i64 >> unused)
            }
            Self::Unsigned(_) => Number::Unsigned(bits),
            Self::Bool if bits > 1 => return None,
            Self::Bool => Number::Unsigned(bits),
        })
    }
}

impl Number {
    /// Rounded once, to nearest even.
    fn to_f32(self) -> f32 {
        match self {
            Self::Float(x) => x as f32,
            Self::Signed(n) => n as f32,
            Self::Unsigned(n) => n as f32,
        }
    }

    /// The class that it is the number of.
    fn class(self) -> Option<u32> {
        match self {
            Self::Signed(n) => u32::try_from(n).ok(),
            Self::Unsigned(n) => u32::try_from(n).ok(),
            Self::Float(x) if (0.0..=f64::from(u32::MAX)).contains(&x) && x == x.trunc() => Some(x as u32),
            Self::Float(_) => None,
        }
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Float(x) => write!(f, "{x}"),
            Self::Signed(n) => write!(f, "{n}"),
            Self::Unsigned(n) => write!(f, "{n}"),
        }
    }
}

/// An array with one axis of rows and the axes of an example after it.
#[derive(Debug)]
pub(super) struct Numbers<'a> {
    element: Element,
    big_endian: bool,
    fortran_order: bool,
    shape: Vec<usize>,
    data: &'a [u8],
    offset: usize,
}

impl<'a> Numbers<'a> {
    /// Holds the shape against the limits and against the bytes.
    pub(super) fn new(raw: RawArray<'a>, element: Element, big_endian: bool) -> Result<Self, DataError> {
        let RawArray { shape, fortran_order, data, offset, .. } = raw;
        let bad = |reason: String| DataError::Binary { offset, reason };
        let Some((&rows, example)) = shape.split_first() else {
            return Err(bad("it holds one number, not rows".to_owned()));
        };
        if example.len() > MAX_AXES {
            return Err(bad(format!("an example has {} axes; the limit is {MAX_AXES}", example.len())));
        }
        if rows > MAX_ROWS {
            return Err(DataError::TooLarge { what: "rows", limit: MAX_ROWS });
        }
        let columns = example.iter().try_fold(1u64, |n, &axis| n.checked_mul(axis));
        let Some(columns) = columns.filter(|&columns| columns <= MAX_FEATURES) else {
            return Err(DataError::TooLarge { what: "numbers in a row", limit: MAX_FEATURES });
        };
        // Neither factor is beyond 2³², so the products are below 2⁶⁴.
        let elements = rows * columns;
        if elements > MAX_ELEMENTS {
            return Err(DataError::TooLarge { what: "numbers", limit: MAX_ELEMENTS });
        }
        let expected = elements * element.width() as u64;
        if expected != data.len() as u64 {
            return Err(bad(format!(
                "the shape {shape:?} takes {expected} bytes, and {} follow here",
                data.len()
            )));
        }
        if rows == 0 {
            return Err(DataError::NoRows);
        }
        if columns == 0 {
            return Err(bad(format!("the shape {shape:?} has rows of no numbers")));
        }
        let shape = shape.into_iter().map(|axis| axis as usize).collect();
        Ok(Self { element, big_endian, fortran_order, shape, data, offset })
    }

    fn rows(&self) -> usize {
        self.shape[0]
    }

    /// The elements as they lie in the file, each through `read`; `what` names one that it does not take.
    fn read<T>(&self, what: &str, read: impl Fn(Number) -> Option<T>) -> Result<Vec<T>, DataError> {
        let width = self.element.width();
        let mut values = Vec::with_capacity(self.data.len() / width);
        for (i, raw) in self.data.chunks_exact(width).enumerate() {
            let mut bytes = [0; 8];
            bytes[..width].copy_from_slice(raw);
            if self.big_endian {
                bytes[..width].reverse();
            }
            let number = self.element.number(u64::from_le_bytes(bytes));
            let Some(value) = number.and_then(&read) else {
                let (offset, index) = (self.offset + i * width, self.index(i));
                let shown = number.map_or_else(|| "the byte".to_owned(), |n| n.to_string());
                return Err(DataError::Binary {
                    offset,
                    reason: format!("{shown} at {index:?} is not {what}"),
                });
            };
            values.push(value);
        }
        Ok(values)
    }

    /// The index along each axis, from 0, of an element of the file.
    fn index(&self, element: usize) -> Vec<usize> {
        let mut rest = element;
        let mut next = |&axis: &usize| {
            let i = rest % axis;
            rest /= axis;
            i
        };
        if self.fortran_order {
            return self.shape.iter().map(&mut next).collect();
        }
        let mut reversed: Vec<usize> = self.shape.iter().rev().map(&mut next).collect();
        reversed.reverse();
        reversed
    }

    /// The shape of an example, and the features, each rounded once to f32.
    pub(super) fn features(&self) -> Result<(Vec<usize>, Array2<f32>), DataError> {
        let finite = |n: Number| Some(n.to_f32()).filter(|x| x.is_finite());
        let values = self.read("a finite number of f32", finite)?;
        let example = match &self.shape[1..] {
            [] => vec![1],
            example => example.to_vec(),
        };
        let matrix = (self.rows(), example.iter().product());
        let misfit =
            |_| DataError::Binary { offset: self.offset, reason: "the shape does not fit".to_owned() };
        if !self.fortran_order {
            return Ok((example, Array2::from_shape_vec(matrix, values).map_err(misfit)?));
        }
        let values = ArrayD::from_shape_vec(IxDyn(&self.shape).f(), values).map_err(misfit)?;
        let features = Array2::from_shape_vec(matrix, values.iter().copied().collect()).map_err(misfit)?;
        Ok((example, features))
    }

    /// One target for each row, and the names of the classes.
    pub(super) fn targets(&self, kind: TargetKind) -> Result<Column, DataError> {
        if self.shape[1..].iter().any(|&axis| axis != 1) {
            let reason = format!("labels have one number for each row, not the shape {:?}", self.shape);
            return Err(DataError::Binary { offset: self.offset, reason });
        }
        Ok(match kind {
            TargetKind::Classes => {
                Column::Classes(self.read("a class: a whole number from 0", Number::class)?)
            }
            TargetKind::Values => {
                let finite = |n: Number| Some(n.to_f32()).filter(|x| x.is_finite());
                Column::Values(self.read("a finite number of f32", finite)?)
            }
        })
    }
}

/// A target for each row, as a file has it.
#[derive(Debug)]
pub(super) enum Column {
    Classes(Vec<u32>),
    Values(Vec<f32>),
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Classes(numbers) => numbers.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// These and then others.
    pub(super) fn followed_by(self, other: Self) -> Self {
        match (self, other) {
            (Self::Classes(a), Self::Classes(b)) => Self::Classes([a, b].concat()),
            (Self::Values(a), Self::Values(b)) => Self::Values([a, b].concat()),
            (a, _) => a,
        }
    }
}

/// Rows of features with their targets; the last `own_test` of them came as a part of their own.
///
/// # Errors
/// [`DataError::OneClass`].
pub(super) fn table(
    shape: Vec<usize>,
    features: Array2<f32>,
    targets: Column,
    own_test: usize,
) -> Result<Table, DataError> {
    let (targets, classes) = match targets {
        Column::Values(values) => (Targets::Values(values), Vec::new()),
        Column::Classes(numbers) => {
            let mut distinct = numbers.clone();
            distinct.sort_unstable();
            distinct.dedup();
            if let [label] = distinct.as_slice() {
                return Err(DataError::OneClass { label: label.to_string() });
            }
            let index = |number| distinct.partition_point(|&class| class < number) as u32;
            let labels = numbers.into_iter().map(index).collect();
            let names = distinct.iter().map(u32::to_string).collect();
            (Targets::Classes { labels, classes: distinct.len() as u32 }, names)
        }
    };
    let examples = Examples { shape, features, targets };
    Ok(Table { examples, columns: Vec::new(), classes, own_test })
}

/// As many labels as examples.
pub(super) fn check_rows(features: &Array2<f32>, targets: &Column) -> Result<(), DataError> {
    let (examples, labels) = (features.nrows(), targets.len());
    if examples == labels {
        return Ok(());
    }
    Err(DataError::RowCounts { examples, labels })
}

impl From<ArrayError> for DataError {
    fn from(error: ArrayError) -> Self {
        Self::Binary { offset: error.offset, reason: error.reason }
    }
}

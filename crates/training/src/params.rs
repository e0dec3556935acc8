//! The parameters of a model: tensors in the order of their names, in one row of numbers.
//!
//! One row makes optimizer, digest and reduction tree one pass each, and their order the order of the names.

use std::sync::Arc;

use crate::safetensors::{Tensor, Tensors};

/// The most parameters a model may have.
pub const MAX_PARAMETERS: u64 = 1 << 28;

/// Tensors that are not those of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamSetError {
    /// The model would be too large.
    #[error("the model would have {parameters} parameters; the limit is {MAX_PARAMETERS}")]
    TooLarge {
        /// How many it would have, at most `u64::MAX`.
        parameters: u64,
    },
    /// A tensor is missing.
    #[error("the model's tensor {name} is missing")]
    Missing {
        /// Its name.
        name: String,
    },
    /// There is a tensor that the model does not have.
    #[error("the model has no tensor {name}")]
    Superfluous {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    #[error("the tensor {name} has the shape {got:?}; the model's has {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// What the model has.
        expected: Vec<usize>,
        /// What it has.
        got: Vec<usize>,
    },
}

/// A tensor's place in a [`ParamSet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamEntry {
    /// Its name, as PyTorch calls it.
    pub name: String,
    /// The length of each axis.
    pub shape: Vec<usize>,
    /// Its first element.
    pub start: usize,
    /// How many elements it has.
    pub len: usize,
}

/// Which tensors a model has: in ascending order of their names, one after the other, each row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamLayout {
    entries: Vec<ParamEntry>,
    total: usize,
}

impl ParamLayout {
    /// The layout of these tensors.
    ///
    /// # Errors
    /// [`ParamSetError::TooLarge`].
    ///
    /// # Panics
    /// When two have the same name.
    pub fn new<S: Into<String>>(
        tensors: impl IntoIterator<Item = (S, Vec<usize>)>,
    ) -> Result<Arc<Self>, ParamSetError> {
        let mut named: Vec<(String, Vec<usize>)> =
            tensors.into_iter().map(|(name, shape)| (name.into(), shape)).collect();
        named.sort();
        assert!(named.windows(2).all(|w| w[0].0 != w[1].0), "each tensor has a name of its own");
        let size = |shape: &[usize]| shape.iter().fold(1u64, |n, &axis| n.saturating_mul(axis as u64));
        let parameters = named.iter().fold(0u64, |n, (_, shape)| n.saturating_add(size(shape)));
        if parameters > MAX_PARAMETERS {
            return Err(ParamSetError::TooLarge { parameters });
        }
        let mut entries = Vec::with_capacity(named.len());
        let mut start = 0;
        for (name, shape) in named {
            let len = size(&shape) as usize;
            entries.push(ParamEntry { name, shape, start, len });
            start += len;
        }
        Ok(Arc::new(Self { entries, total: start }))
    }

    /// Every tensor, in order.
    pub fn entries(&self) -> &[ParamEntry] {
        &self.entries
    }

    /// How many parameters there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// The place of a tensor in [`ParamLayout::entries`].
    ///
    /// # Panics
    /// When there is none of this name.
    pub fn index(&self, name: &str) -> usize {
        let found = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name));
        found.unwrap_or_else(|_| panic!("the model has a tensor {name}"))
    }

    /// Whether another layout is the same.
    ///
    /// # Errors
    /// [`ParamSetError`] with the first tensor in which the other one differs.
    pub fn check(&self, other: &Self) -> Result<(), ParamSetError> {
        if std::ptr::eq(self, other) || self == other {
            return Ok(());
        }
        for ours in &self.entries {
            let name = ours.name.clone();
            match other.entries.iter().find(|theirs| theirs.name == ours.name) {
                None => return Err(ParamSetError::Missing { name }),
                Some(theirs) if theirs.shape != ours.shape => {
                    let (expected, got) = (ours.shape.clone(), theirs.shape.clone());
                    return Err(ParamSetError::Shape { name, expected, got });
                }
                Some(_) => {}
            }
        }
        let more =
            other.entries.iter().find(|theirs| self.entries.iter().all(|ours| ours.name != theirs.name));
        more.map_or(Ok(()), |theirs| Err(ParamSetError::Superfluous { name: theirs.name.clone() }))
    }

    /// The tensor that the parameter at this place belongs to.
    ///
    /// # Panics
    /// When there are not as many parameters.
    pub fn entry_at(&self, parameter: usize) -> &ParamEntry {
        let next = self.entries.partition_point(|entry| entry.start <= parameter && entry.len > 0);
        let entry = &self.entries[next - 1];
        assert!(parameter < entry.start + entry.len, "the parameter lies in the layout");
        entry
    }
}

/// A value for every parameter of a layout: the parameters themselves, their gradients, or a moment of an optimizer.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamSet {
    layout: Arc<ParamLayout>,
    values: Vec<f32>,
}

impl ParamSet {
    /// All `+0`.
    pub fn zeros(layout: &Arc<ParamLayout>) -> Self {
        Self { layout: Arc::clone(layout), values: vec![0.0; layout.total] }
    }

    /// The layout.
    pub fn layout(&self) -> &Arc<ParamLayout> {
        &self.layout
    }

    /// Every value, tensor after tensor.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// As [`ParamSet::values`], to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The tensor at this place of the layout, row-major.
    pub fn tensor(&self, index: usize) -> &[f32] {
        let entry = &self.layout.entries[index];
        &self.values[entry.start..][..entry.len]
    }

    /// As [`ParamSet::tensor`], to be changed.
    pub fn tensor_mut(&mut self, index: usize) -> &mut [f32] {
        let entry = &self.layout.entries[index];
        &mut self.values[entry.start..][..entry.len]
    }

    /// The tensor of this name, row-major.
    ///
    /// # Panics
    /// When there is none.
    pub fn get(&self, name: &str) -> &[f32] {
        self.tensor(self.layout.index(name))
    }

    /// As [`ParamSet::get`], to be changed.
    ///
    /// # Panics
    /// When there is none.
    pub fn get_mut(&mut self, name: &str) -> &mut [f32] {
        let index = self.layout.index(name);
        self.tensor_mut(index)
    }

    /// Every tensor, in order, to be changed at once.
    pub fn tensors_mut(&mut self) -> Vec<&mut [f32]> {
        let mut rest = self.values.as_mut_slice();
        let mut tensors = Vec::with_capacity(self.layout.entries.len());
        for entry in &self.layout.entries {
            let (tensor, after) = std::mem::take(&mut rest).split_at_mut(entry.len);
            tensors.push(tensor);
            rest = after;
        }
        tensors
    }

    /// The tensors by name, as they are kept in a file.
    pub fn to_tensors(&self) -> Tensors {
        let tensor = |entry: &ParamEntry| {
            let data = self.values[entry.start..][..entry.len].to_vec();
            (entry.name.clone(), Tensor { shape: entry.shape.clone(), data })
        };
        self.layout.entries.iter().map(tensor).collect()
    }

    /// What [`ParamSet::to_tensors`] gave.
    ///
    /// # Errors
    /// [`ParamSetError`] when a tensor is missing, superfluous or of another shape than the layout's.
    pub fn from_tensors(layout: &Arc<ParamLayout>, mut tensors: Tensors) -> Result<Self, ParamSetError> {
        let mut values = Vec::with_capacity(layout.total);
        for ParamEntry { name, shape, .. } in &layout.entries {
            let Some(tensor) = tensors.remove(name) else {
                return Err(ParamSetError::Missing { name: name.clone() });
            };
            if tensor.shape != *shape || tensor.data.len() != shape.iter().product::<usize>() {
                let (name, expected) = (name.clone(), shape.clone());
                return Err(ParamSetError::Shape { name, expected, got: tensor.shape });
            }
            values.extend(tensor.data);
        }
        match tensors.into_keys().next() {
            None => Ok(Self { layout: Arc::clone(layout), values }),
            Some(name) => Err(ParamSetError::Superfluous { name }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Arc<ParamLayout> {
        ParamLayout::new([("fc.weight", vec![2, 3]), ("fc.bias", vec![2]), ("scale", vec![])]).unwrap()
    }

    #[test]
    fn tensors_lie_in_the_order_of_their_names() {
        let layout = layout();
        let names: Vec<&str> = layout.entries().iter().map(|e| e.name.as_str()).collect();
        assert_eq!((names, layout.total()), (vec!["fc.bias", "fc.weight", "scale"], 9));
        let found = [0, 1, 2, 7, 8].map(|i| layout.entry_at(i).name.as_str());
        assert_eq!(found, ["fc.bias", "fc.bias", "fc.weight", "fc.weight", "scale"]);
        let mut set = ParamSet::zeros(&layout);
        set.get_mut("fc.weight").fill(2.0);
        set.tensors_mut()[2][0] = 5.0;
        assert_eq!(set.values(), [0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 5.0]);
        assert_eq!(ParamSet::from_tensors(&layout, set.to_tensors()).unwrap(), set);
    }

    #[test]
    fn other_tensors_are_refused() {
        let layout = layout();
        let with = |change: &dyn Fn(&mut Tensors)| {
            let mut tensors = ParamSet::zeros(&layout).to_tensors();
            change(&mut tensors);
            ParamSet::from_tensors(&layout, tensors).unwrap_err().to_string()
        };
        assert_eq!(with(&|t| drop(t.remove("scale"))), "the model's tensor scale is missing");
        let more = with(&|t| drop(t.insert("x".to_owned(), Tensor { shape: vec![], data: vec![0.0] })));
        assert_eq!(more, "the model has no tensor x");
        let turned = with(&|t| t.get_mut("fc.weight").unwrap().shape.reverse());
        assert_eq!(turned, "the tensor fc.weight has the shape [3, 2]; the model's has [2, 3]");
        let other =
            ParamLayout::new([("fc.weight", vec![3, 2]), ("fc.bias", vec![2]), ("scale", vec![])]).unwrap();
        assert_eq!(layout.check(&other).unwrap_err().to_string(), turned);
        let less = ParamLayout::new([("fc.weight", vec![2, 3]), ("fc.bias", vec![2])]).unwrap();
        assert_eq!(layout.check(&less), Err(ParamSetError::Missing { name: "scale".to_owned() }));
        assert_eq!(less.check(&layout), Err(ParamSetError::Superfluous { name: "scale".to_owned() }));
        assert_eq!(layout.check(&layout.as_ref().clone()), Ok(()));
        let huge = ParamLayout::new([("w", vec![1 << 20, 1 << 20])]).unwrap_err();
        assert_eq!(huge, ParamSetError::TooLarge { parameters: 1 << 40 });
    }
}

//! Where two outputs part: the byte, and for models the tensor, the index and both values.

use bitproof_training::safetensors;

/// A task whose replay did not give what was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    /// Its place in the commit order.
    pub sequence: usize,
    /// The task.
    pub task: String,
    /// The output; `None` when the task as a whole differs.
    pub output: Option<String>,
    /// How they differ.
    pub difference: Difference,
}

/// How a recorded result and its replay differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// This program has another version of the task's code.
    Code {
        /// What the plan names.
        recorded: String,
        /// What this program has.
        replayed: String,
    },
    /// One succeeded and the other failed, or they made other outputs.
    Outcome {
        /// How it ended then.
        recorded: String,
        /// How it ended now.
        replayed: String,
    },
    /// The bytes differ.
    Bytes {
        /// The first byte that differs.
        byte: u64,
        /// How many bytes were recorded.
        recorded_len: u64,
        /// How many bytes there are now.
        replayed_len: u64,
        /// For a model: the first value that differs.
        tensor: Option<TensorDifference>,
    },
}

/// The first value of a model that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorDifference {
    /// The tensor's name.
    pub tensor: String,
    /// The value's index along each axis.
    pub index: Vec<usize>,
    /// The bits of the recorded f32.
    pub recorded_bits: u32,
    /// The bits of the replayed f32.
    pub replayed_bits: u32,
}

impl Difference {
    /// How two outputs differ; `None` when they are equal.
    pub(crate) fn of_bytes(recorded: &[u8], replayed: &[u8]) -> Option<Self> {
        let shorter = recorded.len().min(replayed.len());
        let byte = match recorded.iter().zip(replayed).position(|(a, b)| a != b) {
            Some(byte) => byte,
            None if recorded.len() == replayed.len() => return None,
            None => shorter,
        };
        let (recorded_len, replayed_len) = (recorded.len() as u64, replayed.len() as u64);
        let tensor = tensor_difference(recorded, replayed);
        Some(Self::Bytes { byte: byte as u64, recorded_len, replayed_len, tensor })
    }
}

fn tensor_difference(recorded: &[u8], replayed: &[u8]) -> Option<TensorDifference> {
    let (recorded, replayed) = (safetensors::decode(recorded).ok()?, safetensors::decode(replayed).ok()?);
    for (name, a) in &recorded {
        let b = replayed.get(name).filter(|b| b.shape == a.shape)?;
        let different = |(x, y): (&f32, &f32)| x.to_bits() != y.to_bits();
        if let Some(flat) = a.data.iter().zip(&b.data).position(different) {
            return Some(TensorDifference {
                tensor: name.clone(),
                index: unravel(flat, &a.shape),
                recorded_bits: a.data[flat].to_bits(),
                replayed_bits: b.data[flat].to_bits(),
            });
        }
    }
    None
}

/// The index along each axis of a row-major position.
fn unravel(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&axis| {
            let i = flat % axis;
            flat /= axis;
            i
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitproof_training::safetensors::{encode, Tensor};

    #[test]
    fn bytes_and_tensors_are_located() {
        assert_eq!(Difference::of_bytes(b"same", b"same"), None);
        let cut = Difference::of_bytes(b"same", b"sam").unwrap();
        assert!(matches!(cut, Difference::Bytes { byte: 3, replayed_len: 3, tensor: None, .. }));
        let model = |last: f32| {
            let tensor = Tensor { shape: vec![2, 3], data: vec![0.0, 1.0, 2.0, 3.0, 4.0, last] };
            encode(&[("0.weight".to_owned(), tensor)].into())
        };
        let Some(Difference::Bytes { tensor: Some(found), .. }) =
            Difference::of_bytes(&model(5.0), &model(-0.0))
        else {
            panic!("two models differ by a tensor");
        };
        assert_eq!((found.tensor.as_str(), found.index.as_slice()), ("0.weight", [1, 2].as_slice()));
        assert_eq!((found.recorded_bits, found.replayed_bits), (5.0f32.to_bits(), (-0.0f32).to_bits()));
    }
}

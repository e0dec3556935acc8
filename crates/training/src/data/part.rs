//! A part of a dataset as bytes. `docs/formats/dataset-part.md` is normative.

use ndarray::{Array2, Axis};

use super::{DataError, Table};

const MAGIC: &[u8; 8] = b"BPDATA1\0";
const HEADER_BYTES: usize = 24;

/// Rows with their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// (rows, features).
    pub features: Array2<f32>,
    /// The class of each row, below `classes`.
    pub labels: Vec<u32>,
    /// How many classes the whole dataset has.
    pub classes: u32,
}

impl Part {
    /// Some rows of a table.
    ///
    /// # Panics
    /// When a row is not in the table.
    pub fn select(table: &Table, rows: &[u32]) -> Self {
        let indices: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
        Self {
            features: table.features.select(Axis(0), &indices),
            labels: indices.iter().map(|&row| table.labels[row]).collect(),
            classes: table.classes.len() as u32,
        }
    }

    /// Its bytes: magic, rows (u64), columns (u32), classes (u32), labels (u32 each), features (f32 each, row-major);
    /// little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let (rows, columns) = self.features.dim();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 4 * rows * (columns + 1));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(rows as u64).to_le_bytes());
        bytes.extend_from_slice(&(columns as u32).to_le_bytes());
        bytes.extend_from_slice(&self.classes.to_le_bytes());
        self.labels.iter().for_each(|label| bytes.extend_from_slice(&label.to_le_bytes()));
        self.features.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        bytes
    }

    /// Reads what [`Part::encode`] wrote.
    ///
    /// # Errors
    /// [`DataError::Part`] with the offset.
    pub fn decode(bytes: &[u8]) -> Result<Self, DataError> {
        let bad = |offset, reason| DataError::Part { offset, reason };
        if bytes.len() < HEADER_BYTES {
            return Err(bad(bytes.len(), "it ends within its header"));
        }
        if !bytes.starts_with(MAGIC) {
            return Err(bad(0, "another magic number"));
        }
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        let rows = u64::from(word(8)) | u64::from(word(12)) << 32;
        let (columns, classes) = (word(16), word(20));
        let expected = rows.checked_mul(u64::from(columns) + 1).and_then(|n| n.checked_mul(4));
        if expected != Some((bytes.len() - HEADER_BYTES) as u64) {
            return Err(bad(8, "its rows and columns do not fit its length"));
        }
        let rows = rows as usize;
        let labels: Vec<u32> = (0..rows).map(|i| word(HEADER_BYTES + 4 * i)).collect();
        if let Some(i) = labels.iter().position(|&label| label >= classes) {
            return Err(bad(HEADER_BYTES + 4 * i, "a label is not below the number of classes"));
        }
        let start = HEADER_BYTES + 4 * rows;
        let features: Vec<f32> = (start..bytes.len()).step_by(4).map(|i| f32::from_bits(word(i))).collect();
        if let Some(i) = features.iter().position(|x| !x.is_finite()) {
            return Err(bad(start + 4 * i, "a feature is not finite"));
        }
        let features = Array2::from_shape_vec((rows, columns as usize), features)
            .map_err(|_| bad(8, "its rows and columns do not fit its length"))?;
        Ok(Self { features, labels, classes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn sample() -> Part {
        Part { features: array![[1.0, -0.0], [0.5, 2.0]], labels: vec![1, 0], classes: 2 }
    }

    #[test]
    fn bytes_round_trip_and_damage_is_refused() {
        let bytes = sample().encode();
        assert_eq!(Part::decode(&bytes).unwrap(), sample());
        for end in 0..bytes.len() {
            assert!(Part::decode(&bytes[..end]).is_err(), "prefix {end}");
        }
        for i in 0..HEADER_BYTES {
            let mut bad = bytes.clone();
            bad[i] ^= 0x80;
            assert_ne!(Part::decode(&bad).ok(), Some(sample()), "byte {i}");
        }
        let mut label = bytes.clone();
        label[HEADER_BYTES] = 2;
        let expected = DataError::Part { offset: 24, reason: "a label is not below the number of classes" };
        assert_eq!(Part::decode(&label), Err(expected));
        let mut nan = bytes;
        nan[HEADER_BYTES + 8 + 2..HEADER_BYTES + 8 + 4].copy_from_slice(&[0xc0, 0x7f]);
        assert!(matches!(Part::decode(&nan), Err(DataError::Part { offset: 32, .. })));
    }
}

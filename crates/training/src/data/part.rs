//! A part of a dataset as bytes. `docs/formats/dataset-part.md` is normative.

use ndarray::Array2;

use super::{DataError, MAX_AXES, MAX_FEATURES};
use crate::trainable::BatchTargets;

const MAGIC: &[u8; 8] = b"BPDATA2\0";
const CLASSES: u32 = 0;
const VALUES: u32 = 1;
const TEXT: u32 = 2;

/// A part of a dataset as it passes between stages.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Rows of numbers.
    Examples(Examples),
    /// Characters.
    Text(Text),
}

/// Rows of numbers, each with what is to be learned of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Examples {
    /// The shape of one example: `[64]` for a table, `[1, 28, 28]` for images (channels, height, width); 1 to 4 axes, none of length 0.
    pub shape: Vec<usize>,
    /// (rows, product of `shape`), all finite.
    pub features: Array2<f32>,
    /// One for each row.
    pub targets: Targets,
}

/// What is to be learned of each row.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Classification: which of `classes` it belongs to.
    Classes {
        /// The class of each row, below `classes`.
        labels: Vec<u32>,
        /// How many classes the whole dataset has.
        classes: u32,
    },
    /// Regression: a finite number for each row.
    Values(Vec<f32>),
}

/// Characters as indices into a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Each below the length of `vocabulary`.
    pub tokens: Vec<u32>,
    /// The characters of the whole dataset, ascending.
    pub vocabulary: Vec<char>,
    /// How many characters a model sees at once; at least 1.
    pub window: u32,
}

impl Targets {
    /// How many rows there are targets of.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes { labels, .. } => labels.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As a batch has them.
    pub fn view(&self) -> BatchTargets<'_> {
        match self {
            Self::Classes { labels, .. } => BatchTargets::Classes(labels),
            Self::Values(values) => BatchTargets::Values(values),
        }
    }

    /// Those of some rows, in their order.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Classes { labels, classes } => {
                Self::Classes { labels: rows.iter().map(|&row| labels[row]).collect(), classes: *classes }
            }
            Self::Values(values) => Self::Values(rows.iter().map(|&row| values[row]).collect()),
        }
    }
}

impl Part {
    /// How many rows a model can be given: examples, or places at which a window with the character after it begins.
    pub fn rows(&self) -> usize {
        match self {
            Self::Examples(examples) => examples.features.nrows(),
            Self::Text(text) => text.tokens.len().saturating_sub(text.window as usize),
        }
    }

    /// Whether bytes begin as a part does.
    pub fn is_part(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Its bytes.
    ///
    /// # Panics
    /// When the shape does not fit the features, or there is not one target for each row.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::from(MAGIC.as_slice());
        let word = |bytes: &mut Vec<u8>, word: u32| bytes.extend_from_slice(&word.to_le_bytes());
        match self {
            Self::Examples(Examples { shape, features, targets }) => {
                let (rows, columns) = features.dim();
                assert_eq!(shape.iter().product::<usize>(), columns, "the shape is that of a row");
                assert_eq!(targets.len(), rows, "each row has a target");
                bytes.reserve(64 + 4 * rows * (columns + 1));
                word(&mut bytes, if let Targets::Classes { .. } = targets { CLASSES } else { VALUES });
                bytes.extend_from_slice(&(rows as u64).to_le_bytes());
                word(&mut bytes, shape.len() as u32);
                shape.iter().for_each(|&axis| word(&mut bytes, axis as u32));
                match targets {
                    Targets::Classes { labels, classes } => {
                        word(&mut bytes, *classes);
                        labels.iter().for_each(|&label| word(&mut bytes, label));
                    }
                    Targets::Values(values) => values.iter().for_each(|v| word(&mut bytes, v.to_bits())),
                }
                features.iter().for_each(|x| word(&mut bytes, x.to_bits()));
            }
            Self::Text(Text { tokens, vocabulary, window }) => {
                bytes.reserve(32 + 4 * (tokens.len() + vocabulary.len()));
                word(&mut bytes, TEXT);
                bytes.extend_from_slice(&(tokens.len() as u64).to_le_bytes());
                word(&mut bytes, *window);
                word(&mut bytes, vocabulary.len() as u32);
                vocabulary.iter().for_each(|&c| word(&mut bytes, u32::from(c)));
                tokens.iter().for_each(|&token| word(&mut bytes, token));
            }
        }
        bytes
    }

    /// Reads what [`Part::encode`] wrote.
    ///
    /// # Errors
    /// [`DataError::Part`] with the offset.
    pub fn decode(bytes: &[u8]) -> Result<Self, DataError> {
        if !bytes.starts_with(MAGIC) {
            return Err(bad(0, "another magic number"));
        }
        let mut reader = Reader { bytes, at: MAGIC.len() };
        match reader.word()? {
            TEXT => text(reader).map(Self::Text),
            kind @ (CLASSES | VALUES) => examples(reader, kind).map(Self::Examples),
            _ => Err(bad(MAGIC.len(), "an unknown kind")),
        }
    }
}

fn bad(offset: usize, reason: &'static str) -> DataError {
    DataError::Part { offset, reason }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn word(&mut self) -> Result<u32, DataError> {
        let word = self.bytes[self.at..].first_chunk::<4>();
        let word = word.ok_or_else(|| bad(self.bytes.len(), "it ends within its header"))?;
        self.at += 4;
        Ok(u32::from_le_bytes(*word))
    }

    fn long(&mut self) -> Result<u64, DataError> {
        Ok(u64::from(self.word()?) | u64::from(self.word()?) << 32)
    }

    /// The next words, whose number was held against what is left, and where they begin.
    fn words(&mut self, number: usize) -> (usize, impl Iterator<Item = u32> + 'a) {
        let (start, end) = (self.at, self.at + 4 * number);
        self.at = end;
        let words = self.bytes[start..end].chunks_exact(4);
        (start, words.map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])))
    }

    /// Words that all fit.
    fn checked<T>(
        &mut self,
        number: usize,
        reason: &'static str,
        read: impl Fn(u32) -> Option<T>,
    ) -> Result<Vec<T>, DataError> {
        let (start, words) = self.words(number);
        let mut values = Vec::with_capacity(number);
        for (i, word) in words.enumerate() {
            values.push(read(word).ok_or_else(|| bad(start + 4 * i, reason))?);
        }
        Ok(values)
    }

    /// Whether exactly `words` are left.
    fn left_are(&self, words: Option<u64>) -> bool {
        let left = (self.bytes.len() - self.at) as u64;
        words.and_then(|words| words.checked_mul(4)) == Some(left)
    }
}

fn finite(word: u32) -> Option<f32> {
    Some(f32::from_bits(word)).filter(|x| x.is_finite())
}

fn examples(mut reader: Reader<'_>, kind: u32) -> Result<Examples, DataError> {
    let start = reader.at;
    let rows = reader.long()?;
    let axes = reader.word()? as usize;
    if !(1..=MAX_AXES).contains(&axes) {
        return Err(bad(start + 8, "an example has from 1 to 4 axes"));
    }
    let mut shape = Vec::with_capacity(axes);
    let mut columns = 1;
    for _ in 0..axes {
        let axis = u64::from(reader.word()?);
        // Each factor is below 2³², and what was multiplied before is at most the limit.
        columns *= axis;
        if axis == 0 || columns > MAX_FEATURES {
            return Err(bad(reader.at - 4, "an example has no numbers, or too many"));
        }
        shape.push(axis as usize);
    }
    let classes = if kind == CLASSES { Some(reader.word()?) } else { None };
    let words = rows.checked_mul(columns + 1);
    if !reader.left_are(words) {
        return Err(bad(start, "its rows and shape do not fit its length"));
    }
    let rows = rows as usize;
    let targets = match classes {
        Some(classes) => {
            let class = |label| (label < classes).then_some(label);
            let reason = "a label is not below the number of classes";
            Targets::Classes { labels: reader.checked(rows, reason, class)?, classes }
        }
        None => Targets::Values(reader.checked(rows, "a value is not finite", finite)?),
    };
    let columns = columns as usize;
    let features = reader.checked(rows * columns, "a feature is not finite", finite)?;
    let features = Array2::from_shape_vec((rows, columns), features)
        .map_err(|_| bad(start, "its rows and shape do not fit its length"))?;
    Ok(Examples { shape, features, targets })
}

fn text(mut reader: Reader<'_>) -> Result<Text, DataError> {
    let start = reader.at;
    let characters = reader.long()?;
    let window = reader.word()?;
    if window == 0 {
        return Err(bad(start + 8, "a window of no characters"));
    }
    let size = reader.word()?;
    if !reader.left_are(characters.checked_add(size.into())) {
        return Err(bad(start, "its characters and vocabulary do not fit its length"));
    }
    let vocabulary_at = reader.at;
    let vocabulary = reader.checked(size as usize, "a number that is no character", char::from_u32)?;
    if let Some(i) = vocabulary.windows(2).position(|pair| pair[0] >= pair[1]) {
        return Err(bad(vocabulary_at + 4 * (i + 1), "the vocabulary is not ascending"));
    }
    let token = |token| (token < size).then_some(token);
    let tokens = reader.checked(characters as usize, "a token is not in the vocabulary", token)?;
    Ok(Text { tokens, vocabulary, window })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn samples() -> [Part; 4] {
        let features = array![[1.0, -0.0], [0.5, 2.0]];
        let classes = Targets::Classes { labels: vec![1, 0], classes: 2 };
        let values = Targets::Values(vec![-1.5, 3.0]);
        let text = Text { tokens: vec![1, 0, 2, 1, 1], vocabulary: vec!['\n', 'a', 'ü'], window: 2 };
        [
            Part::Examples(Examples { shape: vec![2], features: features.clone(), targets: classes.clone() }),
            Part::Examples(Examples { shape: vec![1, 2, 1], features: features.clone(), targets: classes }),
            Part::Examples(Examples { shape: vec![1, 1, 1, 2], features, targets: values }),
            Part::Text(text),
        ]
    }

    #[test]
    fn bytes_round_trip_and_damage_is_refused() {
        for sample in samples() {
            let bytes = sample.encode();
            assert_eq!(Part::decode(&bytes).unwrap(), sample);
            for end in 0..bytes.len() {
                assert!(matches!(Part::decode(&bytes[..end]), Err(DataError::Part { .. })), "prefix {end}");
            }
            assert!(Part::decode(&[&bytes[..], &[0]].concat()).is_err());
            for i in 0..bytes.len() {
                for bit in 0..8 {
                    let mut other = bytes.clone();
                    other[i] ^= 1 << bit;
                    // What is taken has one encoding: it says nothing but what it is.
                    if let Ok(part) = Part::decode(&other) {
                        assert_eq!(part.encode(), other, "byte {i}, bit {bit}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_what_a_model_can_be_given() {
        let [table, _, _, text] = samples();
        assert_eq!((table.rows(), text.rows()), (2, 3));
        let short = |characters| {
            Part::Text(Text { tokens: vec![0; characters], vocabulary: vec!['a'], window: 4 }).rows()
        };
        assert_eq!((short(0), short(4), short(5)), (0, 0, 1));
    }

    #[test]
    fn each_promise_is_checked_at_its_byte() {
        let [table, _, values, text] = samples().map(|part| part.encode());
        let nan = f32::NAN.to_bits();
        let changed = |bytes: &[u8], at: usize, word: u32| {
            let mut bytes = bytes.to_vec();
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            Part::decode(&bytes)
        };
        for (what, got, offset) in [
            ("another magic", changed(&table, 0, 0), 0),
            ("another kind", changed(&table, 8, 3), 8),
            ("more rows", changed(&table, 12, 3), 12),
            ("more rows than can be", changed(&table, 16, u32::MAX), 12),
            ("no axes", changed(&table, 20, 0), 20),
            ("too many axes", changed(&table, 20, 5), 20),
            ("an empty axis", changed(&table, 24, 0), 24),
            ("a huge axis", changed(&table, 24, u32::MAX), 24),
            ("a class beyond", changed(&table, 32, 2), 32),
            ("no number", changed(&table, 40 + 4, nan), 44),
            ("a value that is none", changed(&values, 40, nan), 40),
            ("no window", changed(&text, 20, 0), 20),
            ("more characters", changed(&text, 12, 6), 12),
            ("no character", changed(&text, 28, 0xd800), 28),
            ("a vocabulary out of order", changed(&text, 32, 0), 32),
            ("a token beyond", changed(&text, 40, 3), 40),
        ] {
            assert!(
                matches!(got, Err(DataError::Part { offset: at, .. }) if at == offset),
                "{what}: {got:?}"
            );
        }
    }
}

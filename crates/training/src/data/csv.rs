//! CSV, plain or gzip: a label column and numbers.

use std::collections::BTreeSet;
use std::io::Read;

use csv::{ByteRecord, ReaderBuilder};
use flate2::read::MultiGzDecoder;
use ndarray::Array2;

use super::DataError;
use crate::pipeline::LabelColumn;

/// The most bytes that a compressed file may unpack to.
pub const MAX_UNPACKED_BYTES: u64 = 1 << 30;
/// The most rows.
pub const MAX_ROWS: u64 = 1 << 28;
/// The most columns.
pub const MAX_COLUMNS: u64 = 1 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];
const MAX_LABEL_BYTES: usize = 256;

/// How a file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsvOptions {
    /// Whether the first row names the columns.
    pub header: bool,
    /// What separates columns; when absent, the one of `,` `;` tab `|` that is most frequent in the first line.
    pub separator: Option<char>,
    /// Which column holds the label.
    pub label: LabelColumn,
}

/// A file as numbers and class labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// (rows, columns without the label's); each cell parsed straight to f32, round to nearest even.
    pub features: Array2<f32>,
    /// The class of each row: an index into `classes`.
    pub labels: Vec<u32>,
    /// The labels: ascending as numbers if all are whole numbers, else as texts.
    pub classes: Vec<String>,
    /// The names of the feature columns: the header's, or `0`, `1`, …
    pub columns: Vec<String>,
}

/// Reads a file. Quotes, CRLF, a byte-order mark and a trailing 0x1A are coped with.
///
/// # Errors
/// [`DataError`] with line and column.
pub fn read_csv(bytes: &[u8], options: &CsvOptions) -> Result<Table, DataError> {
    let unpacked;
    let text = if bytes.starts_with(&GZIP_MAGIC) {
        unpacked = unpack(bytes)?;
        &unpacked
    } else {
        bytes
    };
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = text.strip_suffix(b"\x1a").unwrap_or(text);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(DataError::Empty);
    }
    let separator = options.separator.map_or_else(|| find_separator(text), |c| c as u8);
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text);
    let mut rows = Rows::new(options);
    let mut record = ByteRecord::new();
    loop {
        let more = reader.read_byte_record(&mut record).map_err(|e| DataError::Malformed {
            line: e.position().map_or(0, csv::Position::line),
            reason: e.to_string(),
        })?;
        if !more {
            return rows.finish();
        }
        rows.push(&record)?;
    }
}

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, DataError> {
    let mut text = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(MAX_UNPACKED_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|e| DataError::Compression { reason: e.to_string() })?;
    if text.len() as u64 > MAX_UNPACKED_BYTES {
        return Err(DataError::TooLarge { what: "unpacked bytes", limit: MAX_UNPACKED_BYTES });
    }
    Ok(text)
}

fn find_separator(text: &[u8]) -> u8 {
    let line = text.split(|&b| b == b'\n').next().unwrap_or(text);
    let count = |s: u8| line.iter().filter(|&&b| b == s).count();
    // The last of equal maxima wins, so the list is walked backwards: a comma is preferred.
    SEPARATORS.into_iter().rev().max_by_key(|&s| count(s)).unwrap_or(b',')
}

struct Rows<'a> {
    options: &'a CsvOptions,
    header: Option<Vec<String>>,
    /// Columns of a row, and which of them is the label's; known from the first row.
    layout: Option<(usize, usize)>,
    features: Vec<f32>,
    labels: Vec<String>,
}

impl<'a> Rows<'a> {
    fn new(options: &'a CsvOptions) -> Self {
        Self { options, header: None, layout: None, features: Vec::new(), labels: Vec::new() }
    }

    fn push(&mut self, record: &ByteRecord) -> Result<(), DataError> {
        let line = record.position().map_or(0, csv::Position::line);
        if self.options.header && self.header.is_none() {
            let names = record.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned());
            self.header = Some(names.collect());
        }
        let (columns, label) = match self.layout {
            Some(layout) => layout,
            None => {
                let layout = (record.len(), self.label_index(record.len())?);
                self.layout = Some(layout);
                if self.header.is_some() {
                    return Ok(());
                }
                layout
            }
        };
        if record.len() != columns {
            return Err(DataError::Ragged { line, expected: columns, got: record.len() });
        }
        if self.labels.len() as u64 >= MAX_ROWS {
            return Err(DataError::TooLarge { what: "rows", limit: MAX_ROWS });
        }
        for (i, cell) in record.iter().enumerate() {
            let column = i + 1;
            if i == label {
                self.labels.push(label_cell(cell, line, column)?);
            } else {
                self.features.push(number_cell(cell, line, column)?);
            }
        }
        Ok(())
    }

    fn label_index(&self, columns: usize) -> Result<usize, DataError> {
        if columns as u64 > MAX_COLUMNS {
            return Err(DataError::TooLarge { what: "columns", limit: MAX_COLUMNS });
        }
        let (wanted, index) = match &self.options.label {
            LabelColumn::First => return Ok(0),
            LabelColumn::Last => return Ok(columns - 1),
            LabelColumn::Index(index) => (index.to_string(), Some(*index).filter(|&i| i < columns)),
            LabelColumn::Name(name) => {
                let position = self.header.iter().flatten().position(|column| column == name);
                (format!("{name:?}"), position)
            }
        };
        index.ok_or_else(|| {
            let names = self.header.as_ref().map_or(String::new(), |h| format!(": {}", h.join(", ")));
            DataError::LabelColumn { wanted, columns, names }
        })
    }

    fn finish(self) -> Result<Table, DataError> {
        let Some((columns, label)) = self.layout else { return Err(DataError::Empty) };
        if self.labels.is_empty() {
            return Err(DataError::NoRows);
        }
        if columns == 1 {
            return Err(DataError::NoFeatures);
        }
        let classes = classes(&self.labels);
        if let [label] = classes.as_slice() {
            return Err(DataError::OneClass { label: label.clone() });
        }
        let index_of: std::collections::BTreeMap<&str, u32> =
            classes.iter().enumerate().map(|(i, c)| (c.as_str(), i as u32)).collect();
        let labels = self.labels.iter().map(|l| index_of[l.as_str()]).collect();
        let names = self.header.unwrap_or_else(|| (0..columns).map(|i| i.to_string()).collect());
        let feature_names = names.into_iter().enumerate().filter(|(i, _)| *i != label).map(|(_, name)| name);
        let features = Array2::from_shape_vec((self.labels.len(), columns - 1), self.features)
            .expect("every row has the same number of columns");
        Ok(Table { features, labels, columns: feature_names.collect(), classes })
    }
}

fn shown(cell: &[u8]) -> String {
    String::from_utf8_lossy(cell).chars().take(40).collect()
}

fn number_cell(cell: &[u8], line: u64, column: usize) -> Result<f32, DataError> {
    let text = std::str::from_utf8(cell).unwrap_or("").trim();
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(_) => Err(DataError::NotFinite { line, column, cell: shown(cell) }),
        Err(_) => Err(DataError::NotANumber { line, column, cell: shown(cell) }),
    }
}

fn label_cell(cell: &[u8], line: u64, column: usize) -> Result<String, DataError> {
    let bad = || DataError::Label { line, column, cell: shown(cell) };
    let text = std::str::from_utf8(cell).map_err(|_| bad())?.trim();
    // A label that is a number must be a class number: whole and not negative.
    let number_but_no_class = text.parse::<f64>().is_ok() && text.parse::<u32>().is_err();
    if text.is_empty()
        || text.len() > MAX_LABEL_BYTES
        || number_but_no_class
        || text.chars().any(char::is_control)
    {
        return Err(bad());
    }
    Ok(text.to_owned())
}

/// The distinct labels: ascending as numbers if all are, else as texts.
fn classes(labels: &[String]) -> Vec<String> {
    let distinct: BTreeSet<&String> = labels.iter().collect();
    let mut classes: Vec<String> = distinct.into_iter().cloned().collect();
    let numbers: Option<Vec<u32>> = classes.iter().map(|c| c.parse().ok()).collect();
    if numbers.is_some() {
        classes.sort_by_key(|c| (c.parse::<u32>().unwrap_or(u32::MAX), c.clone()));
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(header: bool, label: LabelColumn) -> CsvOptions {
        CsvOptions { header, separator: None, label }
    }

    #[test]
    fn real_world_files_are_read() {
        let plain = read_csv(b"1,2,0\n3,4,10\n5,6,2\n", &options(false, LabelColumn::Last)).unwrap();
        assert_eq!(plain.classes, ["0", "2", "10"], "whole numbers are ordered as numbers");
        assert_eq!((plain.labels, plain.columns), (vec![0, 2, 1], vec!["0".to_owned(), "1".to_owned()]));
        let odd = "\u{feff}\"kind\";\"a;b\"\r\ncat;1.5\r\n\"dog\";-2e-3\r\n\u{1a}".as_bytes();
        let odd = read_csv(odd, &options(true, LabelColumn::Name("kind".to_owned()))).unwrap();
        assert_eq!(
            (odd.columns, odd.classes),
            (vec!["a;b".to_owned()], vec!["cat".to_owned(), "dog".to_owned()])
        );
        assert_eq!(odd.features.as_slice().unwrap(), [1.5, -2e-3]);
    }

    #[test]
    fn the_digits_are_read() {
        let bytes =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits/data/digits.csv.gz"));
        let table = read_csv(&bytes.unwrap(), &options(false, LabelColumn::Last)).unwrap();
        assert_eq!((table.features.dim(), table.classes.len()), ((1797, 64), 10));
        assert_eq!(table.features.iter().map(|&x| x as u64).sum::<u64>(), 561_718);
    }

    #[test]
    fn bad_files_are_refused_with_line_and_column() {
        let error = |text: &[u8]| read_csv(text, &options(false, LabelColumn::Last)).unwrap_err().to_string();
        assert_eq!(error(b""), "the file is empty");
        assert_eq!(error(b" \r\n"), "the file is empty");
        assert_eq!(error(b"1,0\n1,2,1\n"), "line 2, column 3: the row has 3 columns, the first has 2");
        assert_eq!(error(b"1,0\nx,1\n"), "line 2, column 1: \"x\" is not a number");
        assert_eq!(error(b"1,0\nNaN,1\n"), "line 2, column 1: \"NaN\" is not a finite number");
        assert_eq!(error(b"1,0\n1e99,1\n"), "line 2, column 1: \"1e99\" is not a finite number");
        assert_eq!(error(b"1,0\n1,-1\n"), "line 2, column 2: \"-1\" cannot be a label");
        assert_eq!(error(b"1,0\n1,\n"), "line 2, column 2: \"\" cannot be a label");
        assert_eq!(error(b"1,0\n1,0\n"), "every row has the label \"0\"; there is nothing to tell apart");
        assert_eq!(error(b"1\n2\n"), "there is no column besides the label's");
        assert!(error(b"\x1f\x8b\x08nonsense").starts_with("the compressed file is damaged"));
        let named = read_csv(b"a,b\n1,2\n", &options(true, LabelColumn::Name("c".to_owned()))).unwrap_err();
        assert_eq!(named.to_string(), "there is no label column \"c\"; the file has 2 columns: a, b");
        assert_eq!(read_csv(b"a,b\n", &options(true, LabelColumn::Last)).unwrap_err(), DataError::NoRows);
        let index = read_csv(b"1,0\n", &options(false, LabelColumn::Index(2))).unwrap_err();
        assert_eq!(index.to_string(), "there is no label column 2; the file has 2 columns");
    }
}

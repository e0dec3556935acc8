//! CSV, plain or gzip: a label column, numbers, and categories.

use std::collections::BTreeMap;

use csv::{ByteRecord, ReaderBuilder};
use ndarray::Array2;

use super::categories::{classes, Categories};
use super::gzip::unpack;
use super::{DataError, Examples, Table, TargetKind, Targets, MAX_COLUMNS, MAX_ELEMENTS, MAX_ROWS};
use crate::pipeline::{ColumnRef, LabelColumn};

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
    /// Columns of categories: each becomes a column a category, in their place, with 1 where a row has it and else 0.
    pub one_hot: Vec<ColumnRef>,
}

/// Reads a file. Quotes, CRLF, a byte-order mark and a trailing 0x1A are coped with.
///
/// Each number is parsed straight to f32, round to nearest even. Labels of classes are ascending as numbers if all are whole numbers, else
/// as texts; so are categories, which give columns named `column=category`. The columns are named as in the header, or `0`, `1`, …
///
/// # Errors
/// [`DataError`] with line and column.
pub fn read_csv(bytes: &[u8], options: &CsvOptions, targets: TargetKind) -> Result<Table, DataError> {
    let text = unpack(bytes)?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let text = text.strip_suffix(b"\x1a").unwrap_or(text);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(DataError::Empty);
    }
    let separator = options.separator.map_or_else(|| find_separator(text), |c| c as u8);
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).delimiter(separator).from_reader(text);
    let mut rows = Rows::new(options, targets);
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

fn find_separator(text: &[u8]) -> u8 {
    let line = text.split(|&b| b == b'\n').next().unwrap_or(text);
    let count = |s: u8| line.iter().filter(|&&b| b == s).count();
    // The last of equal maxima wins, so the list is walked backwards: a comma is preferred.
    SEPARATORS.into_iter().rev().max_by_key(|&s| count(s)).unwrap_or(b',')
}

/// What a column of the file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Label,
    Number,
    /// Categories, by their place among such columns.
    Category(usize),
}

struct Rows<'a> {
    options: &'a CsvOptions,
    header: Option<Vec<String>>,
    /// What each column holds; known from the first row.
    layout: Option<Vec<Holds>>,
    numbers: Vec<f32>,
    categories: Categories,
    targets: Column,
}

/// The label's column.
enum Column {
    Classes(Vec<String>),
    Values(Vec<f32>),
}

impl<'a> Rows<'a> {
    fn new(options: &'a CsvOptions, targets: TargetKind) -> Self {
        let targets = match targets {
            TargetKind::Classes => Column::Classes(Vec::new()),
            TargetKind::Values => Column::Values(Vec::new()),
        };
        let categories = Categories::new(options.one_hot.len());
        Self { options, header: None, layout: None, numbers: Vec::new(), categories, targets }
    }

    fn rows(&self) -> usize {
        match &self.targets {
            Column::Classes(labels) => labels.len(),
            Column::Values(values) => values.len(),
        }
    }

    fn push(&mut self, record: &ByteRecord) -> Result<(), DataError> {
        let line = record.position().map_or(0, csv::Position::line);
        if self.layout.is_none() {
            if self.options.header {
                let names = record.iter().map(|cell| String::from_utf8_lossy(cell).trim().to_owned());
                self.header = Some(names.collect());
            }
            self.layout = Some(self.lay_out(record.len())?);
            if self.options.header {
                return Ok(());
            }
        }
        let layout = self.layout.as_deref().unwrap_or_default();
        if record.len() != layout.len() {
            return Err(DataError::Ragged { line, expected: layout.len(), got: record.len() });
        }
        if self.rows() as u64 >= MAX_ROWS {
            return Err(DataError::TooLarge { what: "rows", limit: MAX_ROWS });
        }
        for ((i, cell), holds) in record.iter().enumerate().zip(layout) {
            let column = i + 1;
            match (holds, &mut self.targets) {
                (Holds::Number, _) => self.numbers.push(number_cell(cell, line, column)?),
                (Holds::Category(at), _) => {
                    let name = name_cell(cell).ok_or_else(|| DataError::Category {
                        line,
                        column,
                        cell: shown(cell),
                    })?;
                    self.categories.push(*at, name);
                }
                (Holds::Label, Column::Classes(labels)) => labels.push(label_cell(cell, line, column)?),
                (Holds::Label, Column::Values(values)) => values.push(number_cell(cell, line, column)?),
            }
        }
        Ok(())
    }

    fn lay_out(&self, columns: usize) -> Result<Vec<Holds>, DataError> {
        if columns as u64 > MAX_COLUMNS {
            return Err(DataError::TooLarge { what: "columns", limit: MAX_COLUMNS });
        }
        if columns == 1 {
            return Err(DataError::NoFeatures);
        }
        let mut layout = vec![Holds::Number; columns];
        let label = match &self.options.label {
            LabelColumn::First => 0,
            LabelColumn::Last => columns - 1,
            LabelColumn::Column(column) => self.index("label", column, columns)?,
        };
        layout[label] = Holds::Label;
        for (at, column) in self.options.one_hot.iter().enumerate() {
            let index = self.index("one_hot", column, columns)?;
            if layout[index] != Holds::Number {
                let other = if index == label { "the label's" } else { "named twice" };
                return Err(DataError::OneHotColumn { column: column.to_string(), other });
            }
            layout[index] = Holds::Category(at);
        }
        Ok(layout)
    }

    fn index(&self, what: &'static str, wanted: &ColumnRef, columns: usize) -> Result<usize, DataError> {
        let index = match wanted {
            ColumnRef::Index(index) => Some(*index).filter(|&i| i < columns),
            ColumnRef::Name(name) => self.header.iter().flatten().position(|column| column == name),
        };
        index.ok_or_else(|| {
            let names = self.header.as_ref().map_or(String::new(), |h| format!(": {}", h.join(", ")));
            DataError::NoColumn { what, wanted: wanted.to_string(), columns, names }
        })
    }

    fn finish(mut self) -> Result<Table, DataError> {
        let Some(layout) = self.layout.take() else { return Err(DataError::Empty) };
        let rows = self.rows();
        if rows == 0 {
            return Err(DataError::NoRows);
        }
        let names = self.header.take().unwrap_or_else(|| (0..layout.len()).map(|i| i.to_string()).collect());
        let (targets, class_names) = self.targets.finish()?;
        let ordered = self.categories.finish();
        let mut columns = Vec::new();
        for (name, holds) in names.into_iter().zip(&layout) {
            match holds {
                Holds::Label => (),
                Holds::Number => columns.push(name),
                Holds::Category(at) => {
                    columns.extend(ordered[*at].names.iter().map(|c| format!("{name}={c}")))
                }
            }
        }
        if columns.len() as u64 > MAX_COLUMNS {
            return Err(DataError::TooLarge { what: "columns", limit: MAX_COLUMNS });
        }
        if (rows as u64).saturating_mul(columns.len() as u64) > MAX_ELEMENTS {
            return Err(DataError::TooLarge { what: "numbers", limit: MAX_ELEMENTS });
        }
        let features = if ordered.is_empty() {
            self.numbers
        } else {
            let mut features = Vec::with_capacity(rows * columns.len());
            let mut numbers = self.numbers.into_iter();
            for row in 0..rows {
                for holds in &layout {
                    match holds {
                        Holds::Label => (),
                        Holds::Number => features.extend(numbers.next()),
                        Holds::Category(at) => ordered[*at].extend_one_hot(row, &mut features),
                    }
                }
            }
            features
        };
        let shape = vec![columns.len()];
        let features = Array2::from_shape_vec((rows, columns.len()), features)
            .expect("every row has the same number of columns");
        let examples = Examples { shape, features, targets };
        Ok(Table { examples, columns, classes: class_names, own_test: 0 })
    }
}

impl Column {
    /// The targets, and the names of the classes.
    fn finish(self) -> Result<(Targets, Vec<String>), DataError> {
        let labels = match self {
            Self::Values(values) => return Ok((Targets::Values(values), Vec::new())),
            Self::Classes(labels) => labels,
        };
        let names = classes(labels.iter().cloned().collect());
        if let [label] = names.as_slice() {
            return Err(DataError::OneClass { label: label.clone() });
        }
        let index_of: BTreeMap<&str, u32> =
            names.iter().enumerate().map(|(i, c)| (c.as_str(), i as u32)).collect();
        let labels = labels.iter().map(|l| index_of[l.as_str()]).collect();
        Ok((Targets::Classes { labels, classes: names.len() as u32 }, names))
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

/// What can name a class or a category.
fn name_cell(cell: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(cell).ok()?.trim();
    let plain = !text.is_empty() && text.len() <= MAX_LABEL_BYTES && !text.chars().any(char::is_control);
    plain.then_some(text)
}

fn label_cell(cell: &[u8], line: u64, column: usize) -> Result<String, DataError> {
    // A label that is a number must be a class number: whole and not negative.
    let is_class = |text: &&str| text.parse::<f64>().is_err() || text.parse::<u32>().is_ok();
    let label = name_cell(cell).filter(is_class);
    label.map(str::to_owned).ok_or_else(|| DataError::Label { line, column, cell: shown(cell) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], options: &CsvOptions) -> Result<Table, DataError> {
        read_csv(bytes, options, TargetKind::Classes)
    }

    fn named(column: &str) -> LabelColumn {
        LabelColumn::Column(ColumnRef::Name(column.to_owned()))
    }

    fn labels(table: &Table) -> &[u32] {
        match &table.examples.targets {
            Targets::Classes { labels, .. } => labels,
            Targets::Values(_) => panic!("classes were asked for"),
        }
    }

    fn options(header: bool, label: LabelColumn) -> CsvOptions {
        CsvOptions { header, separator: None, label, one_hot: Vec::new() }
    }

    #[test]
    fn real_world_files_are_read() {
        let plain = read(b"1,2,0\n3,4,10\n5,6,2\n", &options(false, LabelColumn::Last)).unwrap();
        assert_eq!(plain.classes, ["0", "2", "10"], "whole numbers are ordered as numbers");
        assert_eq!(
            (labels(&plain), plain.columns.as_slice()),
            (&[0, 2, 1][..], &["0".to_owned(), "1".to_owned()][..])
        );
        let odd = "\u{feff}\"kind\";\"a;b\"\r\ncat;1.5\r\n\"dog\";-2e-3\r\n\u{1a}".as_bytes();
        let odd = read(odd, &options(true, named("kind"))).unwrap();
        assert_eq!(
            (odd.columns, odd.classes),
            (vec!["a;b".to_owned()], vec!["cat".to_owned(), "dog".to_owned()])
        );
        assert_eq!(odd.examples.features.as_slice().unwrap(), [1.5, -2e-3]);
    }

    #[test]
    fn the_digits_are_read() {
        let bytes =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/digits/data/digits.csv.gz"));
        let table = read(&bytes.unwrap(), &options(false, LabelColumn::Last)).unwrap();
        assert_eq!((table.examples.features.dim(), table.classes.len()), ((1797, 64), 10));
        assert_eq!(table.examples.features.iter().map(|&x| x as u64).sum::<u64>(), 561_718);
    }

    #[test]
    fn bad_files_are_refused_with_line_and_column() {
        let error = |text: &[u8]| read(text, &options(false, LabelColumn::Last)).unwrap_err().to_string();
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
        let named = read(b"a,b\n1,2\n", &options(true, named("c"))).unwrap_err();
        assert_eq!(named.to_string(), "there is no label column \"c\"; the file has 2 columns: a, b");
        assert_eq!(read(b"a,b\n", &options(true, LabelColumn::Last)).unwrap_err(), DataError::NoRows);
        let index = read(b"1,0\n", &options(false, LabelColumn::Column(ColumnRef::Index(2)))).unwrap_err();
        assert_eq!(index.to_string(), "there is no label column 2; the file has 2 columns");
    }
}

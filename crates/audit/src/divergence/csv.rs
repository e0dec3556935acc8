//! CSV: text in rows of equally many cells, some of which are numbers.

use csv::{ReaderBuilder, StringRecord};

use super::tolerance::{Judged, Tally};
use super::{Number, Place, Side};

/// In the order in which they are tried. A comma comes after those that a decimal comma may stand beside.
const SEPARATORS: [u8; 4] = [b'\t', b';', b',', b' '];

pub(super) fn compare(recorded: &[u8], replayed: &[u8], tally: &mut Tally) -> Option<Judged> {
    let (a, b) = (std::str::from_utf8(recorded).ok()?, std::str::from_utf8(replayed).ok()?);
    let tables = |separator| {
        let table = Table::read(a, separator)?;
        let same_shape = Table::read(b, separator)
            .is_some_and(|other| (other.rows, other.columns) == (table.rows, table.columns));
        same_shape.then_some(table)
    };
    let mut tried = SEPARATORS.iter().filter_map(|&separator| tables(separator));
    let table = tried.find(|table| table.columns > 1).or_else(|| tables(b','))?;
    table.numeric.then(|| compare_cells(a, b, &table, tally))
}

/// What is known of a text as a table.
struct Table {
    separator: u8,
    rows: u64,
    columns: usize,
    numeric: bool,
    /// The names of the columns, when the first row is one of names.
    header: Option<StringRecord>,
}

impl Table {
    /// `None` when the rows are not of one length.
    fn read(text: &str, separator: u8) -> Option<Self> {
        let mut table = Self { separator, rows: 0, columns: 0, numeric: false, header: None };
        for record in records(text, separator) {
            let record = record.ok()?;
            let numeric = record.iter().any(|cell| number(cell).is_some());
            if table.rows == 0 {
                table.columns = record.len();
                table.header = (!numeric).then(|| record.clone());
            }
            table.rows += 1;
            table.numeric |= numeric;
        }
        (table.rows > 0).then_some(table)
    }

    fn place(&self, row: u64, column: usize) -> Place {
        let name = self.header.as_ref().and_then(|names| names.get(column)).map(str::to_owned);
        Place::Cell { row, column: column as u64 + 1, name }
    }
}

/// Fails at a row that is longer or shorter than the first.
fn records(text: &str, separator: u8) -> impl Iterator<Item = csv::Result<StringRecord>> + use<'_> {
    let reader = ReaderBuilder::new().has_headers(false).delimiter(separator).from_reader(text.as_bytes());
    reader.into_records()
}

fn compare_cells(a: &str, b: &str, table: &Table, tally: &mut Tally) -> Judged {
    let both = records(a, table.separator).flatten().zip(records(b, table.separator).flatten());
    for (row, (then, now)) in (1..).zip(both) {
        let cells = then.iter().zip(&now).enumerate();
        for (column, (then, now)) in cells.filter(|(_, (then, now))| then != now) {
            let place = || table.place(row, column);
            let close = match (number(then), number(now)) {
                (Some(x), Some(y)) => tally.accepts(x, y, place),
                _ => false,
            };
            if !close {
                return tally.value(place(), Some(side(then)), Some(side(now)));
            }
        }
    }
    Ok(())
}

/// A number as Rust reads it, `nan` and `inf` too, with spaces around it.
fn number(cell: &str) -> Option<Number> {
    let cell = cell.trim();
    if let Ok(n) = cell.parse() {
        return Some(Number::Int(n));
    }
    let x: f64 = cell.parse().ok()?;
    // Digits that overflow, as in 12e999, would be equal to all others that do.
    let overflown = x.is_infinite() && cell.contains(|c: char| c.is_ascii_digit());
    (!overflown).then_some(Number::Float(x))
}

fn side(cell: &str) -> Side {
    match number(cell) {
        Some(number) => Side::written(cell.trim(), Some(number)),
        None => Side::written(&format!("{cell:?}"), None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_bytes, bits, tolerance, value, within};
    use super::super::{compare, Comparison, Place};

    fn diverged(then: &str, now: &str, rtol: f64, atol: f64) -> String {
        match compare(then.as_bytes(), now.as_bytes(), &tolerance(rtol, atol)) {
            Comparison::Diverged(difference) => difference.to_string(),
            other => panic!("{then} {now}: {other:?}"),
        }
    }

    #[test]
    fn equal_within_and_beyond() {
        let then = "name,loss\na,0.5\nb,4\n";
        let now = "name,loss\r\n\"a\",0.75\r\nb,4.0\r\n";
        let found = within(then.as_bytes(), now.as_bytes(), 0.0, 0.25);
        assert_eq!(found.numbers, 2, "4 and 4.0 are other numbers, without a deviation");
        let place = Place::Cell { row: 2, column: 2, name: Some("loss".to_owned()) };
        assert_eq!(found.absolute.unwrap().place, place);
        assert!(
            diverged(then, now, 0.0, 0.2).starts_with("row 2, column 2 (loss): 0.5 then, 0.75 now; byte 9 ")
        );
        assert_eq!(value(bits(then.as_bytes(), now.as_bytes())), place);
    }

    #[test]
    fn the_separator_is_found() {
        for separator in [",", ";", "\t", " "] {
            let [then, now] = ["1", "2"].map(|x| ["5", "5", "7\n5", x, "7"].join(separator));
            let found = diverged(&then, &now, 0.0, 0.0);
            assert!(found.starts_with("row 2, column 2: 1 then, 2 now; "), "{separator:?}: {found}");
        }
        let column = diverged("loss\n0.5\n0.25\n", "loss\n0.5\n0.75\n", 0.0, 0.0);
        assert!(column.starts_with("row 3, column 1 (loss): 0.25 then, 0.75 now; "), "{column}");
        let decimal_comma = diverged("1,500;7\n", "1,501;7\n", 0.0, 5.0);
        assert!(
            decimal_comma.contains("\"1,500\" then, \"1,501\" now"),
            "no number in this language: {decimal_comma}"
        );
    }

    #[test]
    fn what_is_no_number_must_be_equal() {
        for (then, now, expected) in [
            ("a,1\n", "b,1\n", "row 1, column 1: \"a\" then, \"b\" now; "),
            ("x,y\n1,2\n", "x,z\n1,2\n", "row 1, column 2 (y): \"y\" then, \"z\" now; "),
            ("1,2\n", "1,\n", "row 1, column 2: 2 then, \"\" now; "),
            ("1,12e999\n", "1,13e999\n", "row 1, column 2: \"12e999\" then, \"13e999\" now; "),
            ("1,inf\n", "1,-inf\n", "row 1, column 2: inf then, -inf now; "),
            ("1,nan\n", "1,0\n", "row 1, column 2: nan then, 0 now; "),
        ] {
            let found = diverged(then, now, 9.0, 9.0);
            assert!(found.starts_with(expected), "{found}");
        }
        assert_eq!(within(b"1,nan\n", b"1, NaN\n", 0.0, 0.0).numbers, 0);
    }

    #[test]
    fn another_shape_is_bytes_and_so_is_prose() {
        for (what, then, now) in [
            ("a row more", "1,2\n3,4\n", "1,2\n3,4\n5,6\n"),
            ("a column more", "1,2\n", "1,2,3\n"),
            ("ragged", "1,2\n3\n", "1,2\n4\n"),
            ("no number", "a,b\n", "a,c\n"),
            ("nothing", "", "1\n"),
            ("no text", "1,2", "\u{1}"),
        ] {
            let found = compare(then.as_bytes(), now.as_bytes(), &tolerance(9.0, 9.0));
            assert_bytes(found, what);
        }
        assert_bytes(compare(b"1,2,\xff", b"1,3,\xff", &tolerance(9.0, 9.0)), "not UTF-8");
    }
}

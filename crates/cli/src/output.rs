//! What people see: numbers with units, aligned tables, colour.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use bitproof_core_ledger::files::Files;

use crate::args::Color;
use crate::exit::Failure;

/// Standard output with or without colour.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    pub(crate) fn new(color: Color, no_color: bool) -> Self {
        let on = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !no_color && io::stdout().is_terminal(),
        };
        Self { on }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    /// Green, yellow or red by what the word says.
    pub(crate) fn verdict(self, word: &str) -> String {
        let code = match word {
            "pass" | "passed" | "identical" | "ok" => "32",
            "fail" | "failed" | "diverged" | "differs" | "damaged" => "31",
            _ => "33",
        };
        self.wrap(code, word)
    }
}

/// Writes to standard output; a reader that went away is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a text to a file that must not exist yet.
pub(crate) fn write_new(text: &str, path: &Path) -> Result<(), Failure> {
    Files::on_disk().write_new(path, text.as_bytes()).map_err(|e| match e.source.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::usage(format!("{} exists already\n  hint: name a new file", path.display()))
        }
        _ => Failure::from(anyhow::Error::from(e)),
    })
}

/// A text from outside without what would steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// A duration with three significant digits: `1.23 ms`.
pub(crate) fn duration(ns: i128) -> String {
    let (value, unit) = match ns.abs() {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A signed number of bytes: `+1.25 MiB`.
pub(crate) fn bytes_delta(bytes: i64) -> String {
    let sign = if bytes < 0 { '-' } else { '+' };
    format!("{sign}{}", bytes_amount(bytes.unsigned_abs()))
}

/// A number of bytes: `1.25 MiB`.
pub(crate) fn bytes_amount(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..0x10_0000 => format!("{} KiB", three_digits(bytes as f64 / 1024.0)),
        0x10_0000..0x4000_0000 => format!("{} MiB", three_digits(bytes as f64 / 1_048_576.0)),
        _ => format!("{} GiB", three_digits(bytes as f64 / 1_073_741_824.0)),
    }
}

fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Rows as aligned columns, each line indented by two spaces.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|cell| visible(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - visible(cell)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How many columns a text takes, colour left out.
fn visible(text: &str) -> usize {
    let mut inside = false;
    text.chars()
        .filter(|&c| {
            let counts = !inside && c != '\u{1b}';
            inside = (inside || c == '\u{1b}') && c != 'm';
            counts
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(1_234_567), "1.23 ms");
        assert_eq!(duration(99_960_000_000), "100 s");
        assert_eq!(bytes_delta(-1536), "-1.50 KiB");
        assert_eq!(bytes_amount(5 << 20), "5.00 MiB");
    }

    #[test]
    fn columns_align_with_and_without_colour() {
        let paint = Paint { on: true };
        let rows =
            vec![vec![paint.verdict("pass"), "x".to_owned()], vec!["longer".to_owned(), "y".to_owned()]];
        let text = table(&rows);
        assert_eq!(text, "  \u{1b}[32mpass\u{1b}[0m    x\n  longer  y\n");
    }
}

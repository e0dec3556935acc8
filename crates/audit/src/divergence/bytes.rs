//! Where bytes part, and where that is in a text.

use std::fmt;

/// Where two contents part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteDifference {
    /// The first byte that differs; the length of the shorter when the longer begins with it.
    pub byte: u64,
    /// How many bytes were recorded.
    pub recorded_len: u64,
    /// How many bytes there are now.
    pub replayed_len: u64,
}

impl ByteDifference {
    /// Where two contents part; `None` when they are equal.
    pub(super) fn between(recorded: &[u8], replayed: &[u8]) -> Option<Self> {
        if recorded == replayed {
            return None;
        }
        let shorter = recorded.len().min(replayed.len());
        let byte = recorded.iter().zip(replayed).position(|(a, b)| a != b).unwrap_or(shorter);
        Some(Self {
            byte: byte as u64,
            recorded_len: recorded.len() as u64,
            replayed_len: replayed.len() as u64,
        })
    }

    /// The same place as line and column, when both are text.
    pub(super) fn in_text(self, recorded: &[u8], replayed: &[u8]) -> Option<TextPosition> {
        let (recorded, replayed) = (std::str::from_utf8(recorded).ok()?, std::str::from_utf8(replayed).ok()?);
        // What stands before the byte is in both texts; the byte may lie within a character of the one and not of the other.
        let mut end = self.byte as usize;
        while !recorded.is_char_boundary(end) || !replayed.is_char_boundary(end) {
            end -= 1;
        }
        let before = &recorded[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|&b| b == b'\n').count() as u64 + 1;
        Some(TextPosition { line, column: before[line_start..].chars().count() as u64 + 1 })
    }
}

impl fmt::Display for ByteDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { byte, recorded_len, replayed_len } = self;
        write!(f, "byte {byte} is the first that differs")?;
        if recorded_len != replayed_len {
            write!(f, " ({recorded_len} bytes then, {replayed_len} now)")?;
        }
        Ok(())
    }
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPosition {
    /// From 1.
    pub line: u64,
    /// In characters, from 1.
    pub column: u64,
}

impl fmt::Display for TextPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_is_found_and_its_place_in_a_text() {
        assert_eq!(ByteDifference::between(b"same", b"same"), None);
        for (a, b, byte, place) in [
            ("same", "sam", 3, (1, 4)),
            ("a\nbc", "a\nbd", 3, (2, 2)),
            ("", "x", 0, (1, 1)),
            // Two characters that begin with the same byte.
            ("x\né", "x\nè", 3, (2, 1)),
        ] {
            let at = ByteDifference::between(a.as_bytes(), b.as_bytes()).unwrap();
            assert_eq!(at.byte, byte, "{a:?} {b:?}");
            let text = at.in_text(a.as_bytes(), b.as_bytes()).unwrap();
            assert_eq!((text.line, text.column), place, "{a:?} {b:?}");
        }
        let at = ByteDifference::between(b"\xff\n1", b"\xff\n2").unwrap();
        assert_eq!(at.in_text(b"\xff\n1", b"\xff\n2"), None, "no text");
    }
}

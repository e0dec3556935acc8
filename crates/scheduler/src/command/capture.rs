//! What a program prints, kept within bounds.

use std::fmt;

/// How much is kept of the beginning, and how much of the end.
pub const KEPT_BYTES: usize = 1 << 20;
/// What a message shows at most of the end.
const SHOWN_LINES: usize = 10;
const SHOWN_CHARS: usize = 400;

/// A stream's first and last bytes, at most [`KEPT_BYTES`] of each; what was between them was dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    head: Vec<u8>,
    /// At most twice as much as is kept, so that a byte is moved once for each that is kept.
    tail: Vec<u8>,
    dropped: u64,
}

impl Captured {
    /// The first bytes.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The last bytes, without those that are in the head.
    pub fn tail(&self) -> &[u8] {
        &self.tail[self.tail.len().saturating_sub(KEPT_BYTES)..]
    }

    /// How many bytes between them are gone.
    pub fn dropped(&self) -> u64 {
        self.dropped + (self.tail.len() - self.tail().len()) as u64
    }

    /// Whether it holds `text`. What was dropped is not looked at.
    pub(super) fn contains(&self, text: &str) -> bool {
        let within = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        within(&self.head) || within(self.tail())
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let (first, rest) = bytes.split_at(bytes.len().min(KEPT_BYTES - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend_from_slice(rest);
        if self.tail.len() > 2 * KEPT_BYTES {
            let over = self.tail.len() - KEPT_BYTES;
            self.tail.drain(..over);
            self.dropped += over as u64;
        }
    }

    /// Its last lines, for a message: few, short, and with nothing in them that a terminal would obey.
    pub fn last_lines(&self) -> LastLines<'_> {
        LastLines(self)
    }
}

/// See [`Captured::last_lines`].
#[derive(Debug)]
pub struct LastLines<'a>(&'a Captured);

impl fmt::Display for LastLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(captured) = self;
        // Several characters of output may be one byte each, and no line that is shown needs more than its characters do.
        let end = if captured.tail().is_empty() { captured.head() } else { captured.tail() };
        let end = &end[end.len().saturating_sub(SHOWN_LINES * SHOWN_CHARS * 4)..];
        let text = String::from_utf8_lossy(end);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        for (i, line) in lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str("  | ")?;
            harmless(f, line)?;
        }
        Ok(())
    }
}

/// Control characters and those that turn the direction of text are shown as escapes; a long line is cut.
fn harmless(f: &mut fmt::Formatter<'_>, line: &str) -> fmt::Result {
    let turns =
        |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    for c in line.chars().take(SHOWN_CHARS) {
        match c {
            '\t' => f.write_str("    ")?,
            c if c.is_control() || turns(c) => write!(f, "{}", c.escape_default())?,
            c => write!(f, "{c}")?,
        }
    }
    if line.chars().nth(SHOWN_CHARS).is_some() {
        f.write_str("…")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes whose places can be told apart.
    fn stream(len: usize) -> Vec<u8> {
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn captured(bytes: &[u8], piece: usize) -> Captured {
        let mut captured = Captured::default();
        bytes.chunks(piece).for_each(|piece| captured.push(piece));
        captured
    }

    #[test]
    fn head_and_tail_are_exact_and_the_rest_is_counted() {
        let lengths = [0, 1, KEPT_BYTES - 1, KEPT_BYTES, KEPT_BYTES + 1, 2 * KEPT_BYTES].into_iter().chain([
            2 * KEPT_BYTES + 1,
            3 * KEPT_BYTES,
            3 * KEPT_BYTES + 1,
            7 * KEPT_BYTES + 13,
        ]);
        for len in lengths {
            let bytes = stream(len);
            for piece in [4093, 1 << 16, 5 * KEPT_BYTES] {
                let captured = captured(&bytes, piece);
                assert_eq!(captured.head(), &bytes[..len.min(KEPT_BYTES)], "{len} in pieces of {piece}");
                let tail = (len - captured.head().len()).min(KEPT_BYTES);
                assert_eq!(captured.tail(), &bytes[len - tail..], "{len} in pieces of {piece}");
                let kept = captured.head().len() + tail;
                assert_eq!(captured.dropped(), (len - kept) as u64, "{len} in pieces of {piece}");
                assert!(captured.tail.capacity() <= 8 * KEPT_BYTES);
            }
        }
    }

    #[test]
    fn a_message_shows_the_last_lines_and_nothing_that_a_terminal_obeys() {
        let mut text: String = (0..50).map(|i| format!("line {i}\n")).collect();
        text.push_str("\u{1b}[2Jred\t\u{202e}x\r\n\n");
        let shown = captured(text.as_bytes(), 7).last_lines().to_string();
        assert_eq!(shown.lines().count(), SHOWN_LINES);
        assert!(shown.starts_with("  | line 41\n"), "{shown}");
        assert!(shown.ends_with("  | \\u{1b}[2Jred    \\u{202e}x"), "{shown}");
        let long = captured(&[b'a'; 5000], 5000).last_lines().to_string();
        assert_eq!(long.chars().count(), "  | ".len() + SHOWN_CHARS + 1);
        assert_eq!(captured(b"", 1).last_lines().to_string(), "");
    }
}

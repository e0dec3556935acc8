//! Text: UTF-8, character by character.

use std::collections::BTreeMap;

use super::gzip::unpack;
use super::{DataError, MAX_CHARACTERS};

/// A text as indices into the characters that it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Characters {
    /// Each below the length of `vocabulary`.
    pub tokens: Vec<u32>,
    /// The characters that occur, ascending.
    pub vocabulary: Vec<char>,
}

/// Reads a text that may be compressed. `\r\n` counts as `\n`; a byte-order mark and a trailing 0x1A go, every other character stays.
///
/// # Errors
/// [`DataError`], with line and column where it is not UTF-8.
pub fn read_text(bytes: &[u8]) -> Result<Characters, DataError> {
    let bytes = unpack(bytes)?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let bytes = bytes.strip_suffix(b"\x1a").unwrap_or(bytes);
    if bytes.is_empty() {
        return Err(DataError::Empty);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.rsplit('\n').next().unwrap_or_default();
        DataError::NotUtf8 {
            line: before.matches('\n').count() as u64 + 1,
            column: line.chars().count() + 1,
            byte: bytes[error.valid_up_to()],
        }
    })?;
    let mut tokens = 0u64;
    let mut index: BTreeMap<char, u32> = BTreeMap::new();
    for character in characters(text) {
        index.insert(character, 0);
        tokens += 1;
        if tokens > MAX_CHARACTERS {
            return Err(DataError::TooLarge { what: "characters", limit: MAX_CHARACTERS });
        }
    }
    if let (1, Some((&character, _))) = (index.len(), index.first_key_value()) {
        return Err(DataError::OneCharacter { character });
    }
    index.values_mut().zip(0..).for_each(|(at, i)| *at = i);
    let vocabulary = index.keys().copied().collect();
    Ok(Characters { tokens: characters(text).map(|character| index[&character]).collect(), vocabulary })
}

fn characters(text: &str) -> impl Iterator<Item = char> + '_ {
    let bytes = text.as_bytes();
    let in_line_end = move |at: usize| bytes[at] == b'\r' && bytes.get(at + 1) == Some(&b'\n');
    text.char_indices().filter(move |&(at, _)| !in_line_end(at)).map(|(_, character)| character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &Characters) -> String {
        text.tokens.iter().map(|&token| text.vocabulary[token as usize]).collect()
    }

    #[test]
    fn characters_are_told_apart_and_line_ends_are_one() {
        let text = read_text("\u{feff}béta\r\n\ra\tz\u{1a}".as_bytes()).unwrap();
        assert_eq!(shown(&text), "béta\n\ra\tz");
        assert_eq!(text.vocabulary, ['\t', '\n', '\r', 'a', 'b', 't', 'z', 'é']);
        assert_eq!(
            shown(&read_text("a\u{1a}\u{feff}b".as_bytes()).unwrap()),
            "a\u{1a}\u{feff}b",
            "only at the ends"
        );
    }

    #[test]
    fn the_play_is_read() {
        let bytes = std::fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../examples/shakespeare/data/asyoulik.txt"
        ))
        .unwrap();
        let text = read_text(&bytes).unwrap();
        assert_eq!((text.tokens.len(), text.vocabulary.len()), (125_179, 68));
        assert_eq!(shown(&text).as_bytes(), bytes);
    }

    #[test]
    fn what_is_no_text_is_refused_with_line_and_column() {
        let error = |bytes: &[u8]| read_text(bytes).unwrap_err().to_string();
        assert_eq!(error(b""), "the file is empty");
        assert_eq!(error(b"\xef\xbb\xbf\x1a"), "the file is empty");
        assert_eq!(error(b"aaa"), "every character is 'a'; there is nothing to tell apart");
        assert_eq!(
            error("ab\ncé".as_bytes().strip_suffix(b"\xa9").unwrap()),
            "line 2, column 2: the byte 0xc3 is not UTF-8"
        );
        assert_eq!(error(b"\xff"), "line 1, column 1: the byte 0xff is not UTF-8");
        assert_eq!(error(b"\xc3\xa9\r\nz\x80"), "line 2, column 2: the byte 0x80 is not UTF-8");
    }
}

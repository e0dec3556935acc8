//! Rust source without what is no code, so that a rule about code is not set off by a comment or a string.

/// The text with comments and the contents of strings and characters blanked. Every byte keeps its place.
pub(super) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => at + length_until(&bytes[at..], b"\n"),
            b'/' if bytes[at..].starts_with(b"/*") => at + block_comment(&bytes[at..]),
            b'"' => at + quoted(&bytes[at..], b'"'),
            b'r' if !continues_a_name(bytes, at) => at + raw_string(&bytes[at..]).unwrap_or(0),
            b'\'' => at + character(&text[at..]).unwrap_or(0),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("whole characters were blanked")
}

/// Whether the `r` at this place belongs to an identifier. A `b` or `c` before it may be the prefix of a raw string.
fn continues_a_name(bytes: &[u8], at: usize) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    match at.checked_sub(1).map(|before| bytes[before]) {
        Some(b'b' | b'c') => at >= 2 && is_name(bytes[at - 2]),
        Some(byte) => is_name(byte),
        None => false,
    }
}

/// How far it is to `end`, which does not count, or to the end of the text.
fn length_until(bytes: &[u8], end: &[u8]) -> usize {
    bytes.windows(end.len()).position(|window| window == end).unwrap_or(bytes.len())
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// `r"…"` or `r#"…"#`; `None` for a raw identifier.
fn raw_string(bytes: &[u8]) -> Option<usize> {
    let hashes = bytes[1..].iter().take_while(|byte| **byte == b'#').count();
    let start = 1 + hashes;
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let end = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let length = start + 1 + length_until(&bytes[start + 1..], &end) + end.len();
    Some(length.min(bytes.len()))
}

/// `'x'` or `'\n'`; `None` for a lifetime or a label.
fn character(text: &str) -> Option<usize> {
    let mut rest = text.chars().skip(1);
    let first = rest.next()?;
    if first == '\\' {
        return Some(quoted(text.as_bytes(), b'\''));
    }
    (rest.next()? == '\'').then(|| 2 + first.len_utf8())
}

/// An attribute, `#[…]` or `#![…]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    /// Where it begins, in bytes.
    pub(super) at: usize,
    /// Its text without strings.
    pub(super) code: &'a str,
    /// Its text.
    pub(super) text: &'a str,
}

/// Every attribute. `code` is [`code_only`] of `text`.
pub(super) fn attributes<'a>(code: &'a str, text: &'a str) -> Vec<Attribute<'a>> {
    let starts = code.match_indices('#').map(|(at, _)| at);
    let opened = starts.filter(|at| code[*at..].starts_with("#[") || code[*at..].starts_with("#!["));
    opened
        .map(|at| {
            let mut depth = 0;
            let end = code[at..].find(|c| {
                depth += i32::from(c == '[') - i32::from(c == ']');
                c == ']' && depth == 0
            });
            let end = end.map_or(code.len(), |length| at + length + 1);
            Attribute { at, code: &code[at..end], text: &text[at..end] }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_in_place() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("x \" y", z)"#, "f(        , z)"),
            ("r\"a\\\" b", "      b"),
            ("br#\"a\"b\"# c", "b         c"),
            ("for r in x", "for r in x"),
            ("r#type + r#\"s\"#", "r#type +       "),
            ("'a' 'b: '\\'' x", "    'b:      x"),
            ("<'a>('é')", "<'a>(    )"),
            ("\"open", "     "),
        ];
        for (text, expected) in cases {
            assert_eq!(code_only(text), expected, "{text}");
        }
    }

    #[test]
    fn attributes_end_at_their_own_bracket() {
        let text = "#![expect(a, reason = \"]\")]\n#[cfg(x)] fn f() { v[0] }";
        let code = code_only(text);
        let found: Vec<&str> = attributes(&code, text).iter().map(|a| a.text).collect();
        assert_eq!(found, ["#![expect(a, reason = \"]\")]", "#[cfg(x)]"]);
    }
}

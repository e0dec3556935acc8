//! npy: one array, after a header that is a Python dictionary. Versions 1 to 3.
//!
//! See <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use super::{error, ArrayError, RawArray};

const MAGIC: &[u8] = b"\x93NUMPY";
/// NumPy's own bound.
const MAX_AXES: usize = 64;

/// The array of a file.
///
/// # Errors
/// [`ArrayError`] for what is not an npy file, or one of records.
pub fn read_npy(bytes: &[u8]) -> Result<RawArray<'_>, ArrayError> {
    let after_magic =
        bytes.strip_prefix(MAGIC).ok_or_else(|| error(0, "it does not begin as an npy file"))?;
    let short = || error(bytes.len(), "it ends within its header");
    let ([major, minor], rest) = after_magic.split_first_chunk::<2>().ok_or_else(short)?;
    let (length, rest) = match major {
        1 => {
            let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
            (u32::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            (u32::from_le_bytes(*length), rest)
        }
        _ => return Err(error(MAGIC.len(), format!("it has version {major}.{minor}, not 1 to 3"))),
    };
    let start = bytes.len() - rest.len();
    let fits = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
    let (header, data) = fits.ok_or_else(|| {
        error(MAGIC.len() + 2, format!("its header of {length} bytes does not fit a file of {}", bytes.len()))
    })?;
    let text =
        std::str::from_utf8(header).map_err(|e| error(start + e.valid_up_to(), "its header is not UTF-8"))?;
    let header = Header::parse(text).map_err(|at| {
        let reason = "its header is not a dictionary of descr (a text), fortran_order and shape, each once";
        error(start + at, reason)
    })?;
    Ok(RawArray {
        dtype: header.descr.to_owned(),
        shape: header.shape,
        fortran_order: header.fortran_order,
        data,
        offset: bytes.len() - data.len(),
    })
}

struct Header<'a> {
    descr: &'a str,
    fortran_order: bool,
    shape: Vec<u64>,
}

impl<'a> Header<'a> {
    /// Each key once, in any order; else where it stops to be so.
    fn parse(text: &'a str) -> Result<Self, usize> {
        let mut literal = Literal(text);
        Self::read(&mut literal).ok_or(text.len() - literal.0.len())
    }

    fn read(literal: &mut Literal<'a>) -> Option<Self> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        literal.token("{")?;
        while literal.token("}").is_none() {
            let key = literal.string()?;
            literal.token(":")?;
            let again = match key {
                "descr" => descr.replace(literal.string()?).is_some(),
                "fortran_order" => fortran_order.replace(literal.boolean()?).is_some(),
                "shape" => shape.replace(literal.tuple()?).is_some(),
                _ => return None,
            };
            if again || (literal.token(",").is_none() && !literal.0.trim_start().starts_with('}')) {
                return None;
            }
        }
        let rest_is_padding = literal.0.trim().is_empty();
        rest_is_padding.then_some(Self { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }
}

/// What is left to read of a Python literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn token(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    /// A string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (string, rest) = text[1..].split_once(quote)?;
        self.0 = rest;
        (!string.contains('\\')).then_some(string)
    }

    fn boolean(&mut self) -> Option<bool> {
        let is_true = self.token("True").is_some();
        (is_true || self.token("False").is_some()).then_some(is_true)
    }

    fn tuple(&mut self) -> Option<Vec<u64>> {
        self.token("(")?;
        let mut items = Vec::new();
        while self.token(")").is_none() {
            let text = self.0.trim_start();
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (digits, rest) = text.split_at(end);
            items.push(digits.parse().ok()?);
            self.0 = rest;
            if items.len() > MAX_AXES || (self.token(",").is_none() && !rest.trim_start().starts_with(')')) {
                return None;
            }
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_at_which_byte() {
        let file = |version: u8, header: &str| {
            let length = (header.len() as u16).to_le_bytes();
            [b"\x93NUMPY", &[version, 0][..], &length, header.as_bytes(), b"data"].concat()
        };
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}";
        let bytes = file(1, header);
        let array = read_npy(&bytes).unwrap();
        assert_eq!(
            (array.dtype.as_str(), array.shape.as_slice(), array.data),
            ("<f4", &[1][..], &b"data"[..])
        );
        assert_eq!(array.offset, 10 + header.len());
        let error = |bytes: &[u8]| read_npy(bytes).unwrap_err().to_string();
        assert_eq!(error(b"PK"), "byte 0: it does not begin as an npy file");
        assert_eq!(error(b"\x93NUMPY\x01\x00\x10"), "byte 9: it ends within its header");
        assert_eq!(error(&file(4, header)), "byte 6: it has version 4.0, not 1 to 3");
        assert_eq!(
            error(b"\x93NUMPY\x02\x00\xff\xff\x00\x00{}"),
            "byte 8: its header of 65535 bytes does not fit a file of 14"
        );
        let record = error(&file(1, &header.replace("'<f4'", "[('a', '<f4')]")));
        assert!(record.starts_with("byte 19: its header is not a dictionary of descr (a text)"), "{record}");
    }
}

//! Which segments of a training an auditor executes again: a draw that nobody foresees who fixed the root of the step tree before the
//! nonce was chosen.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bitproof_core_ledger::digest::{Digest, SampleKind};
use bitproof_core_ledger::store::hex;
use bitproof_kernels::{Stream, StreamKey};

use crate::step_roots::TreeRoot;

/// The most bytes of a nonce.
pub const MAX_NONCE_BYTES: usize = 64;
/// The fewest bytes that nobody guesses.
pub const SAFE_NONCE_BYTES: usize = 16;

/// Bytes that an auditor chose at random after the root was fixed; shown in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce(Vec<u8>);

/// A text that is no nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NonceError {
    /// There is half a byte too much.
    #[error("a nonce has two hex digits a byte; {digits} digits are an odd number")]
    Odd {
        /// How many digits there are.
        digits: usize,
    },
    /// It is empty or too long.
    #[error("a nonce has 1 to {MAX_NONCE_BYTES} bytes, got {bytes}")]
    Length {
        /// How many bytes it has.
        bytes: usize,
    },
    /// A character is no hex digit.
    #[error("character {position} is {character:?}, which is no hex digit")]
    Digit {
        /// Which character, from 1.
        position: usize,
        /// What it is.
        character: char,
    },
}

impl Nonce {
    /// Whether somebody might guess it, and so foresee the draw.
    pub fn is_short(&self) -> bool {
        self.0.len() < SAFE_NONCE_BYTES
    }

    /// `count` of the numbers `0..of`, ascending, each set of them equally likely: Floyd's algorithm over the Philox stream that is keyed by
    /// the first eight bytes of a derived digest of the nonce and the root. `O(count log count)`.
    ///
    /// # Panics
    /// When there are fewer numbers than are wanted.
    pub fn draw(&self, root: &TreeRoot, of: u64, count: u64) -> BTreeSet<u64> {
        assert!(count <= of, "{count} of {of} cannot be drawn");
        let digest = Digest::<SampleKind>::of(&(self.0.as_slice(), root.0));
        let key = digest.as_bytes().first_chunk().expect("a digest has 32 bytes");
        let mut stream = Stream::new(StreamKey::from_bytes(*key));
        let mut drawn = BTreeSet::new();
        for last in of - count..of {
            let number = stream.bounded(last + 1);
            if !drawn.insert(number) {
                drawn.insert(last);
            }
        }
        drawn
    }
}

impl FromStr for Nonce {
    type Err = NonceError;

    fn from_str(text: &str) -> Result<Self, NonceError> {
        let digit = |(index, character): (usize, char)| {
            let value = character.to_digit(16).map(|digit| digit as u8);
            value.ok_or(NonceError::Digit { position: index + 1, character })
        };
        let digits = text.chars().take(2 * MAX_NONCE_BYTES + 1).enumerate().map(digit);
        let digits = digits.collect::<Result<Vec<u8>, _>>()?;
        match digits.len() {
            0 => Err(NonceError::Length { bytes: 0 }),
            n if n > 2 * MAX_NONCE_BYTES => Err(NonceError::Length { bytes: text.len().div_ceil(2) }),
            n if n % 2 == 1 => Err(NonceError::Odd { digits: n }),
            _ => Ok(Self(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())),
        }
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(text: &str) -> Nonce {
        text.parse().unwrap()
    }

    #[test]
    fn a_draw_is_a_function_of_nonce_and_root_and_of_nothing_else() {
        let (root, other) = (TreeRoot([1; 32]), TreeRoot([2; 32]));
        let drawn = nonce("00ff").draw(&root, 1000, 20);
        assert_eq!(drawn.len(), 20);
        assert!(drawn.iter().all(|&n| n < 1000));
        assert_eq!(drawn, nonce("00FF").draw(&root, 1000, 20));
        assert_ne!(drawn, nonce("00fe").draw(&root, 1000, 20));
        assert_ne!(drawn, nonce("00ff00").draw(&root, 1000, 20));
        assert_ne!(drawn, nonce("00ff").draw(&other, 1000, 20));
        assert_eq!(nonce("07").draw(&root, 5, 5), (0..5).collect());
        assert_eq!(nonce("07").draw(&root, 5, 0), BTreeSet::new());
    }

    #[test]
    fn every_pair_is_drawn_equally_often() {
        let draws = 20_000u32;
        let mut counts = std::collections::BTreeMap::new();
        for i in 0..draws {
            let drawn = nonce(&format!("{i:08x}")).draw(&TreeRoot([3; 32]), 5, 2);
            *counts.entry(drawn.into_iter().collect::<Vec<_>>()).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 10);
        // Chi-squared with 9 degrees of freedom: above 33.7 in one of 10,000.
        let expected = f64::from(draws) / 10.0;
        let chi: f64 =
            counts.values().map(|&n| (f64::from(n) - expected) * (f64::from(n) - expected) / expected).sum();
        assert!(chi < 33.7, "{chi}: {counts:?}");
    }

    #[test]
    fn what_is_no_nonce_is_refused_with_its_place() {
        let refused = |text: &str| text.parse::<Nonce>().unwrap_err();
        assert_eq!(refused(""), NonceError::Length { bytes: 0 });
        assert_eq!(refused("abc"), NonceError::Odd { digits: 3 });
        assert_eq!(refused("0g"), NonceError::Digit { position: 2, character: 'g' });
        assert_eq!(refused("+1"), NonceError::Digit { position: 1, character: '+' });
        assert_eq!(refused(&"00".repeat(65)), NonceError::Length { bytes: 65 });
        assert_eq!(nonce(&"00".repeat(64)).to_string(), "00".repeat(64));
        assert!(nonce(&"00".repeat(15)).is_short() && !nonce(&"00".repeat(16)).is_short());
    }
}

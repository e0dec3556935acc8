//! Random streams: Philox4x32-10 in counter mode (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
//! SC'11). A number is a function of key and position alone.

/// Names one stream: eight bytes, derived by the caller from all that the stream depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey([u8; 8]);

impl StreamKey {
    /// The key of these bytes. Philox takes them as two little-endian words.
    pub fn from_bytes(bytes: [u8; 8]) -> StreamKey {
        StreamKey(bytes)
    }

    /// The eight bytes.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }

    fn words(self) -> [u32; 2] {
        let key = u64::from_le_bytes(self.0);
        [key as u32, (key >> 32) as u32]
    }
}

impl std::fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamKey({:016x})", u64::from_be_bytes(self.0))
    }
}

/// A sequence of 2⁶⁴ random 32-bit words. Word `n` is element `n mod 4` of `philox(key, counter = ⌊n/4⌋)`, so a stream
/// resumes anywhere by its position.
///
/// ```
/// use bitproof_kernels::{Stream, StreamKey};
/// let key = StreamKey::from_bytes(*b"dropout7");
/// let mut stream = Stream::new(key);
/// let (first, second) = (stream.next_u32(), stream.next_u32());
/// assert_ne!(first, second);
/// assert_eq!(Stream::at(key, 1).next_u32(), second);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    key: StreamKey,
    /// Words taken so far, modulo 2⁶⁴.
    position: u64,
    /// The block that holds the word at `position`, except at a block's start, where it is not yet computed.
    block: [u32; 4],
}

impl Stream {
    /// The stream of this key, from its beginning.
    pub fn new(key: StreamKey) -> Stream {
        Stream::at(key, 0)
    }

    /// The stream of this key after `position` words.
    pub fn at(key: StreamKey, position: u64) -> Stream {
        let block = if position.is_multiple_of(4) { [0; 4] } else { block(key, position / 4) };
        Stream { key, position, block }
    }

    /// How many words were taken: what [`Stream::at`] needs to go on from here.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// This stream after `words` more words, which are not drawn.
    pub(crate) fn ahead(&self, words: u64) -> Stream {
        Stream::at(self.key, self.position.wrapping_add(words))
    }

    /// The next word.
    pub fn next_u32(&mut self) -> u32 {
        let word = (self.position % 4) as usize;
        if word == 0 {
            self.block = block(self.key, self.position / 4);
        }
        self.position = self.position.wrapping_add(1);
        self.block[word]
    }

    /// The next two words, the first as the low half.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// A number in `0..n`, each equally likely: the high half of `next_u64() · n`, rejected while the low half is below
    /// `2⁶⁴ mod n` (Lemire, "Fast random integer generation in an interval", 2019).
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn bounded(&mut self, n: u64) -> u64 {
        assert!(n > 0, "no number lies in 0..0");
        let rejected_below = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= rejected_below {
                return (product >> 64) as u64;
            }
        }
    }

    /// A multiple of 2⁻²⁴ in `[0, 1)`: the upper 24 bits of the next word.
    pub fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }
}

/// The words of blocks `first, first + 1, …` (modulo 2⁶²) of the stream: element `w` of all blocks lies in array `w`.
///
/// The same as block after block, but side by side, so that compiled for an instruction set it runs in lanes.
#[inline(always)]
pub(crate) fn blocks<const N: usize>(key: StreamKey, first: u64) -> [[u32; N]; 4] {
    let counters: [u64; N] = std::array::from_fn(|index| first.wrapping_add(index as u64) & (u64::MAX >> 2));
    let mut key = key.words();
    let mut words = [
        counters.map(|counter| counter as u32),
        counters.map(|counter| (counter >> 32) as u32),
        [0; N],
        [0; N],
    ];
    for _ in 0..10 {
        #[expect(clippy::needless_range_loop, reason = "four arrays go side by side")]
        for block in 0..N {
            let left = u64::from(MULTIPLIERS[0]) * u64::from(words[0][block]);
            let right = u64::from(MULTIPLIERS[1]) * u64::from(words[2][block]);
            words[0][block] = (right >> 32) as u32 ^ words[1][block] ^ key[0];
            words[1][block] = right as u32;
            words[2][block] = (left >> 32) as u32 ^ words[3][block] ^ key[1];
            words[3][block] = left as u32;
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    words
}

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// The golden ratio and √3 − 1, as in the paper.
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

fn block(key: StreamKey, counter: u64) -> [u32; 4] {
    philox4x32_10(key.words(), [counter as u32, (counter >> 32) as u32, 0, 0])
}

fn philox4x32_10(mut key: [u32; 2], mut counter: [u32; 4]) -> [u32; 4] {
    for _ in 0..10 {
        let left = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let right = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            (right >> 32) as u32 ^ counter[1] ^ key[0],
            right as u32,
            (left >> 32) as u32 ^ counter[3] ^ key[1],
            left as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: StreamKey = StreamKey([1, 2, 3, 4, 5, 6, 7, 8]);

    /// `kat_vectors` of Random123: counter, key, result of philox4x32 with 10 rounds.
    #[test]
    fn known_answers_of_random123() {
        let vectors = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in vectors {
            assert_eq!(philox4x32_10(key, counter), expected);
            let mut other = counter;
            other[3] ^= 1;
            assert_ne!(philox4x32_10(key, other), expected);
        }
    }

    #[test]
    fn a_stream_is_its_blocks_and_resumes_anywhere() {
        assert_eq!(KEY.words(), [0x0403_0201, 0x0807_0605]);
        let mut stream = Stream::new(KEY);
        let words: Vec<u32> = (0..23).map(|_| stream.next_u32()).collect();
        for (position, &word) in words.iter().enumerate() {
            assert_eq!(word, philox4x32_10(KEY.words(), [position as u32 / 4, 0, 0, 0])[position % 4]);
            let mut resumed = Stream::at(KEY, position as u64);
            assert_eq!((resumed.next_u32(), resumed.position()), (word, position as u64 + 1));
        }
        let mut pairs = Stream::at(KEY, 1);
        assert_eq!(pairs.next_u64(), u64::from(words[1]) | u64::from(words[2]) << 32);
        let mut far = Stream::at(KEY, u64::MAX);
        let last = philox4x32_10(KEY.words(), [u32::MAX, u32::MAX >> 2, 0, 0])[3];
        assert_eq!((far.next_u32(), far.position(), far.next_u32()), (last, 0, words[0]));
        assert_ne!(Stream::new(StreamKey([0; 8])).next_u32(), words[0]);
    }

    #[test]
    fn blocks_side_by_side_are_the_stream() {
        for first in [0, 1, 77, u64::from(u32::MAX) - 2, (u64::MAX >> 2) - 1] {
            let words: [[u32; 4]; 4] = blocks(KEY, first);
            let mut stream = Stream::at(KEY, first.wrapping_mul(4));
            for block in 0..4 {
                for word in words {
                    assert_eq!(word[block], stream.next_u32(), "block {block} from {first}");
                }
            }
        }
    }

    #[test]
    fn bounded_numbers_cover_their_range_evenly() {
        let mut stream = Stream::new(KEY);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[stream.bounded(7) as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (9_600..10_400).contains(&count)), "{counts:?}");
        assert_eq!(Stream::new(KEY).bounded(1), 0);
        // Just above 2^63 almost half of the draws are rejected, so more words are used than numbers given.
        let mut stream = Stream::new(KEY);
        let n = (1 << 63) + 1;
        assert!((0..1000).all(|_| stream.bounded(n) < n));
        assert!((3_600..4_400).contains(&stream.position()), "{}", stream.position());
    }

    #[test]
    fn uniform_numbers_stay_below_one() {
        let mut stream = Stream::new(KEY);
        let values: Vec<f32> = (0..10_000).map(|_| stream.uniform_f32()).collect();
        assert!(values.iter().all(|&value| (0.0..1.0).contains(&value)));
        assert!(values.iter().all(|&value| (value * 16_777_216.0).fract() == 0.0));
        assert!((crate::mean(&values) - 0.5).abs() < 0.01);
    }
}

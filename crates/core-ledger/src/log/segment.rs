//! The bytes of one segment.
//!
//! ```text
//! segment = "BPLOG\x02" kind[10] number: u32 first: u64 crc32c(the 28 bytes before): u32 record*
//! record  = length: u32 | crc32c(length): u32 | crc32c(payload): u32 | payload
//! ```
//! Integers are little-endian. `first` is the index of the segment's first record in the log.

use std::io::{self, Read as _};

use super::{Acknowledged, LogKind};
use crate::limits::{GROUP_BYTES, RECORD_BYTES, SEGMENT_BYTES};
use crate::storage::{Reading, StoredFile};

const MAGIC: &[u8; 6] = b"BPLOG\x02";
/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 32;
/// Bytes before a payload.
const FRAME_BYTES: usize = 12;

/// Bytes of a segment's file: a group may be appended to one that is almost full.
pub(super) const MAX_SEGMENT_BYTES: u64 = SEGMENT_BYTES + GROUP_BYTES as u64;
/// Bytes that are read at once: they stay in a processor's own cache until they are hashed.
const WINDOW_BYTES: usize = 1 << 18;

const BAD_PAYLOAD: &str = "the checksum of a record does not match";

/// What the bytes of a segment hold.
#[derive(Debug)]
pub(super) struct Parsed<'a> {
    /// The complete records with the offsets of their frames.
    pub(super) records: Vec<(u64, &'a [u8])>,
    /// Where the last complete record ends; 0 when the header is torn.
    pub(super) end: u64,
    /// How many bytes follow.
    pub(super) torn_bytes: u64,
}

pub(super) fn header(kind: LogKind, number: u32, first: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0u8; HEADER_BYTES];
    header[..6].copy_from_slice(MAGIC);
    header[6..16].copy_from_slice(kind.0);
    header[16..20].copy_from_slice(&number.to_le_bytes());
    header[20..28].copy_from_slice(&first.to_le_bytes());
    let crc = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(super) fn frame_into(group: &mut Vec<u8>, payload: &[u8]) {
    let len = (payload.len() as u32).to_le_bytes();
    group.extend_from_slice(&len);
    group.extend_from_slice(&crc32c::crc32c(&len).to_le_bytes());
    group.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    group.extend_from_slice(payload);
}

/// Reads a segment of this number whose first record has this index; an error is an offset and what is wrong there.
pub(super) fn parse(
    bytes: &[u8],
    kind: LogKind,
    number: u32,
    first: u64,
    acknowledged: Acknowledged,
) -> Result<Parsed<'_>, (u64, &'static str)> {
    let expected = header(kind, number, first);
    if bytes.len() < HEADER_BYTES || bytes[..HEADER_BYTES] != expected {
        // The segment was being made: its header is synced before its first record.
        let whole_sectors_or_prefix =
            bytes.len() <= HEADER_BYTES && (expected.starts_with(bytes) || bytes.iter().all(|&b| b == 0));
        return if whole_sectors_or_prefix {
            Ok(Parsed { records: Vec::new(), end: 0, torn_bytes: bytes.len() as u64 })
        } else {
            Err((0, "not the header of this segment of a log of this kind"))
        };
    }
    let mut records = Vec::new();
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        match frame(bytes, at) {
            Ok(payload) => {
                records.push((at as u64, payload));
                at += FRAME_BYTES + payload.len();
            }
            Err(what) => {
                let damaged = match acknowledged {
                    Acknowledged::Records(n) => first + (records.len() as u64) < n,
                    Acknowledged::Unknown => a_whole_record_follows(bytes, at),
                };
                if damaged {
                    return Err((at as u64, what));
                }
                break;
            }
        }
    }
    Ok(Parsed { records, end: at as u64, torn_bytes: (bytes.len() - at) as u64 })
}

/// Shows every record of a segment that holds nothing else, in little memory; gives where it ends and how many there were.
/// `None` when there is anything but whole records: what that is takes the whole segment to tell, which [`parse`] does. The
/// records that were shown are whole all the same.
pub(super) fn stream(
    file: &dyn StoredFile,
    kind: LogKind,
    number: u32,
    first: u64,
    mut record: impl FnMut(u64, &[u8]),
) -> io::Result<(Option<u64>, u64)> {
    let mut window = Window { reading: Reading::new(file), buffer: vec![0; WINDOW_BYTES], start: 0, end: 0 };
    while window.bytes().len() < HEADER_BYTES {
        if !window.more()? {
            return Ok((None, 0));
        }
    }
    if window.bytes()[..HEADER_BYTES] != header(kind, number, first) {
        return Ok((None, 0));
    }
    window.start = HEADER_BYTES;
    let (mut at, mut shown) = (HEADER_BYTES as u64, 0);
    loop {
        if let Ok(payload) = frame(window.bytes(), 0) {
            record(at, payload);
            let len = FRAME_BYTES + payload.len();
            window.start += len;
            at += len as u64;
            shown += 1;
        } else if at > MAX_SEGMENT_BYTES || !window.more()? {
            let end = window.bytes().is_empty().then_some(at);
            return Ok((end, shown));
        }
    }
}

/// Some bytes of a file that is read from its beginning to its end.
struct Window<'a> {
    reading: Reading<'a>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Window<'_> {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads on; `false` when there is nothing more, or more in the window than a record can have.
    fn more(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end == self.buffer.len() {
            if self.end >= FRAME_BYTES + RECORD_BYTES {
                return Ok(false);
            }
            self.buffer.resize(FRAME_BYTES + RECORD_BYTES, 0);
        }
        let n = self.reading.read(&mut self.buffer[self.end..])?;
        self.end += n;
        Ok(n > 0)
    }
}

/// The payload of the record whose frame begins at `at`.
fn frame(bytes: &[u8], at: usize) -> Result<&[u8], &'static str> {
    let Some((head, payload)) = bytes[at..].split_at_checked(FRAME_BYTES) else {
        return Err("the file ends within a record's frame");
    };
    let word = |i: usize| u32::from_le_bytes(head[i..i + 4].try_into().expect("four bytes"));
    if crc32c::crc32c(&head[..4]) != word(4) {
        return Err("the checksum of a record's length does not match");
    }
    let len = word(0) as usize;
    if len > RECORD_BYTES {
        return Err("a record's length is above the limit");
    }
    let Some(payload) = payload.get(..len) else { return Err("the file ends within a record") };
    if crc32c::crc32c(payload) != word(8) {
        return Err(BAD_PAYLOAD);
    }
    Ok(payload)
}

/// Whether anything after `bad` is a whole record: then the file was longer than a write that stopped at `bad`.
///
/// Frames may be made so that each claims a long payload: after a bounded amount of work the answer is the safe one.
fn a_whole_record_follows(bytes: &[u8], bad: usize) -> bool {
    let last = bytes.len().saturating_sub(FRAME_BYTES);
    let mut work = bytes.len().max(1 << 20) * 4;
    for at in bad + 1..=last {
        match frame(bytes, at) {
            Ok(_) => return true,
            Err(BAD_PAYLOAD) => {
                let len = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
                let Some(left) = work.checked_sub(len as usize) else { return true };
                work = left;
            }
            Err(_) => {}
        }
    }
    false
}

//! An append-only file of framed records. `docs/formats/log-file.md` is normative.
//!
//! ```text
//! file   = "BPLOG\x01" kind[10] record*
//! record = length: u32 | crc32c(length): u32 | crc32c(payload): u32 | payload
//! ```
//! Integers are little-endian. A record that was being written when the machine stopped is a *torn tail* and
//! may be cut; anything else that does not parse is *damage* and never is.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};
use crate::limits::{LOG_FILE_BYTES, RECORD_BYTES};

const MAGIC: &[u8; 6] = b"BPLOG\x01";
/// Bytes before the first record.
pub const HEADER_BYTES: usize = 16;
const FRAME_BYTES: usize = 12;

/// What a log file holds: part of its header, so that one kind is never read as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogKind(&'static [u8; 10]);

impl LogKind {
    /// A run's ledger.
    pub const LEDGER: Self = Self(b"ledger\0\0\0\0");
    /// A store's audit log.
    pub const AUDIT: Self = Self(b"audit\0\0\0\0\0");
}

/// A log file that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what was written: it is damaged before its tail.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the bad record (or the header) starts.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A payload above the limit was to be appended.
    #[error("a record of {len} bytes is above the limit of {RECORD_BYTES}")]
    TooLarge {
        /// Its length.
        len: usize,
    },
}

/// One record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where its frame starts in the file.
    pub offset: u64,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// What a log file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The complete records, in order.
    pub records: Vec<Record>,
    /// Where the last complete record ends.
    pub end: u64,
    /// Bytes after `end` that a stopped write left behind.
    pub torn_bytes: u64,
}

/// Reads every record of the file at `path`.
///
/// # Errors
/// [`LogError::Damaged`] with the offset when the header, or a record that is not the torn tail, does not parse.
pub fn read(path: &Path, kind: LogKind) -> Result<Contents, LogError> {
    let bytes = files::read_bounded(path, LOG_FILE_BYTES)?;
    parse(&bytes, kind).map_err(|(offset, what)| LogError::Damaged { path: path.to_owned(), offset, what })
}

/// As [`read`], on bytes in memory; an error is the offset and what is wrong there.
///
/// # Errors
/// The offset of the damage and a description.
pub fn parse(bytes: &[u8], kind: LogKind) -> Result<Contents, (u64, &'static str)> {
    if bytes.len() < HEADER_BYTES {
        // The file was being made: its header is written and synced before the first record.
        let full = header(kind);
        return if full.starts_with(bytes) {
            Ok(Contents { records: Vec::new(), end: 0, torn_bytes: bytes.len() as u64 })
        } else {
            Err((0, "not the header of a log file"))
        };
    }
    if bytes[..HEADER_BYTES] != header(kind) {
        return Err((0, "not the header of a log file of this kind"));
    }
    let mut records = Vec::new();
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        match frame(&bytes[at..]) {
            Frame::Whole(payload) => {
                records.push(Record { offset: at as u64, payload: payload.to_vec() });
                at += FRAME_BYTES + payload.len();
            }
            Frame::Torn => break,
            Frame::Damaged(what) => return Err((at as u64, what)),
        }
    }
    Ok(Contents { records, end: at as u64, torn_bytes: (bytes.len() - at) as u64 })
}

enum Frame<'a> {
    Whole(&'a [u8]),
    Torn,
    Damaged(&'static str),
}

fn frame(rest: &[u8]) -> Frame<'_> {
    if rest.len() < FRAME_BYTES || rest.iter().all(|&b| b == 0) {
        return Frame::Torn;
    }
    let word = |i: usize| u32::from_le_bytes(rest[i..i + 4].try_into().expect("four bytes"));
    if crc32c::crc32c(&rest[..4]) != word(4) {
        return Frame::Damaged("the checksum of a record's length does not match");
    }
    let len = word(0) as usize;
    if len > RECORD_BYTES {
        return Frame::Damaged("a record's length is above the limit");
    }
    let end = FRAME_BYTES + len;
    if rest.len() < end {
        return Frame::Torn;
    }
    let payload = &rest[FRAME_BYTES..end];
    if crc32c::crc32c(payload) == word(8) {
        Frame::Whole(payload)
    } else if rest.len() == end {
        Frame::Torn
    } else {
        Frame::Damaged("the checksum of a record does not match")
    }
}

fn header(kind: LogKind) -> [u8; HEADER_BYTES] {
    let mut header = [0u8; HEADER_BYTES];
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header[MAGIC.len()..].copy_from_slice(kind.0);
    header
}

/// An open log file to append to. One writer at a time: the caller holds the lock.
#[derive(Debug)]
pub struct LogWriter {
    file: File,
    path: PathBuf,
}

impl LogWriter {
    /// Opens the log at `path`, or makes it; cuts a torn tail after the last complete record.
    ///
    /// # Errors
    /// [`LogError::Damaged`] for damage before the tail: nothing is cut then.
    pub fn open(path: &Path, kind: LogKind) -> Result<(Self, Vec<Record>), LogError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(FileError::at("open", path))?;
        let mut writer = Self { file, path: path.to_owned() };
        let contents = read(path, kind)?;
        if contents.end == 0 {
            writer.file.set_len(0).map_err(FileError::at("write", path))?;
            writer.write_synced(&header(kind))?;
            if let Some(dir) = path.parent() {
                files::sync_dir(dir)?;
            }
        } else if contents.torn_bytes > 0 {
            tracing::warn!(path = %path.display(), bytes = contents.torn_bytes, "cut a torn tail");
            writer.file.set_len(contents.end).map_err(FileError::at("truncate", path))?;
            writer.file.sync_data().map_err(FileError::at("sync", path))?;
        }
        writer.file.seek(SeekFrom::End(0)).map_err(FileError::at("seek", path))?;
        Ok((writer, contents.records))
    }

    /// Appends the payloads in order and returns when all are durable: one sync for the group.
    ///
    /// # Errors
    /// [`LogError::TooLarge`] before anything is written; [`LogError::File`] when writing or syncing fails:
    /// then none of the group is acknowledged and the log must be opened again.
    pub fn append<P: AsRef<[u8]>>(&mut self, payloads: &[P]) -> Result<(), LogError> {
        let mut group = Vec::new();
        for payload in payloads {
            let payload = payload.as_ref();
            if payload.len() > RECORD_BYTES {
                return Err(LogError::TooLarge { len: payload.len() });
            }
            let len = (payload.len() as u32).to_le_bytes();
            group.extend_from_slice(&len);
            group.extend_from_slice(&crc32c::crc32c(&len).to_le_bytes());
            group.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
            group.extend_from_slice(payload);
        }
        self.write_synced(&group)
    }

    fn write_synced(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        self.file.write_all(bytes).map_err(FileError::at("write", &self.path))?;
        self.file.sync_data().map_err(FileError::at("sync", &self.path))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut writer, old) = LogWriter::open(&path, LogKind::LEDGER).unwrap();
        assert!(old.is_empty());
        writer.append(&[b"one".as_slice(), b"", b"three"]).unwrap();
        writer.append(&[b"four"]).unwrap();
        std::fs::read(&path).unwrap()
    }

    fn payloads(contents: &Contents) -> Vec<&[u8]> {
        contents.records.iter().map(|r| r.payload.as_slice()).collect()
    }

    #[test]
    fn every_prefix_is_a_clean_prefix_of_the_records_and_a_torn_tail() {
        let bytes = sample();
        let whole = parse(&bytes, LogKind::LEDGER).unwrap();
        assert_eq!(payloads(&whole), [b"one".as_slice(), b"", b"three", b"four"]);
        for end in 0..bytes.len() {
            let cut = parse(&bytes[..end], LogKind::LEDGER).unwrap();
            assert_eq!(cut.records, whole.records[..cut.records.len()]);
            assert_eq!(cut.end + cut.torn_bytes, end as u64);
        }
    }

    #[test]
    fn a_flipped_bit_never_goes_unnoticed() {
        let bytes = sample();
        for i in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[i] ^= 1 << bit;
                match parse(&bad, LogKind::LEDGER) {
                    Err((offset, _)) => assert!(offset <= i as u64),
                    // Only the last record can pass for a torn write.
                    Ok(c) => {
                        assert!(c.torn_bytes > 0 && c.end as usize <= i && c.records.len() == 3, "byte {i}")
                    }
                }
            }
        }
        assert_eq!(parse(&bytes, LogKind::AUDIT).unwrap_err().0, 0);
    }

    #[test]
    fn a_torn_tail_is_cut_and_writing_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let bytes = sample();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        let (mut writer, old) = LogWriter::open(&path, LogKind::LEDGER).unwrap();
        assert_eq!(old.len(), 3);
        writer.append(&[b"again"]).unwrap();
        let contents = read(&path, LogKind::LEDGER).unwrap();
        assert_eq!(payloads(&contents), [b"one".as_slice(), b"", b"three", b"again"]);
        assert_eq!(contents.torn_bytes, 0);
    }

    #[test]
    fn damage_before_the_tail_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut bytes = sample();
        bytes[HEADER_BYTES + 13] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(LogWriter::open(&path, LogKind::LEDGER), Err(LogError::Damaged { offset: 16, .. })));
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

//! An append-only log of framed records in segment files. `docs/formats/log-file.md` is normative.
//!
//! What was being written when the machine stopped is a *torn tail* and may be cut; anything else that does not parse is
//! *damage* and never is. Which is which depends on what was acknowledged ([`Acknowledged`]).

use std::path::{Path, PathBuf};

use crate::files::{FileError, Files};
use crate::limits::{GROUP_BYTES, RECORD_BYTES, SEGMENTS, SEGMENT_BYTES};
use crate::storage::StoredFile;

mod segment;

use segment::{frame_into, header, Parsed};

/// What a log holds: part of its header, so that one kind is never read as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogKind(&'static [u8; 10]);

impl LogKind {
    /// A run's ledger.
    pub const LEDGER: Self = Self(b"ledger\0\0\0\0");
    /// What the controls of a run said.
    pub const GOVERNANCE: Self = Self(b"governance");
    /// A store's audit log.
    pub const AUDIT: Self = Self(b"audit\0\0\0\0\0");
}

/// A log that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what was written: it is damaged before its tail.
    #[error("{} is damaged at byte {offset}: {what}", path.display())]
    Damaged {
        /// The segment's file.
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
    /// More was to be appended at once than one group may hold.
    #[error("a group of {len} bytes is above the limit of {GROUP_BYTES}")]
    GroupTooLarge {
        /// Its length with frames.
        len: usize,
    },
    /// An append failed before: what is in the file is unknown until it is opened again.
    #[error("{} has failed before and must be opened again", path.display())]
    Failed {
        /// The log's first file.
        path: PathBuf,
    },
}

/// What the caller knows of the records that were acknowledged, from elsewhere: a signed head, a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// This many. A bad record among them is damage; one after them is a torn tail, since a disk may have
    /// written the sectors of an unfinished group in any order.
    Records(u64),
    /// Unknown. A bad record is damage when a whole record follows it anywhere in its file, else a torn tail.
    Unknown,
}

/// One record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The number of its segment, from 0.
    pub segment: u32,
    /// Where its frame starts in its segment's file.
    pub offset: u64,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// The complete records, in order.
    pub records: Vec<Record>,
    /// Bytes that a stopped write left behind the last complete record.
    pub torn_bytes: u64,
}

/// The file of a log's segment: `PATH` for the first, then `PATH.1`, `PATH.2`, …
pub fn segment_path(path: &Path, segment: u32) -> PathBuf {
    if segment == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{segment}"));
    name.into()
}

/// Reads every record of the log whose first file is at `path`.
///
/// # Errors
/// [`LogError::Damaged`] with file and offset when a header, or a record that is not in the torn tail, does not parse.
pub fn read(
    files: &Files,
    path: &Path,
    kind: LogKind,
    acknowledged: Acknowledged,
) -> Result<Contents, LogError> {
    let mut contents = Contents::default();
    let end = visit(files, path, kind, acknowledged, |segment, offset, payload| {
        contents.records.push(Record { segment, offset, payload: payload.to_vec() });
    })?;
    contents.torn_bytes = end.torn_bytes;
    Ok(contents)
}

/// Where a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// How many records there are.
    pub records: u64,
    /// The number of the last segment.
    pub segment: u32,
    /// Where its last complete record ends; 0 when even its header is torn.
    pub offset: u64,
    /// How many bytes a stopped write left after it.
    pub torn_bytes: u64,
}

/// Shows every record, in order, with its segment and offset. Memory does not grow with the log; where it ends within a
/// record, it is that of one segment.
///
/// # Errors
/// As [`read`]. Records before the damage may have been shown then.
pub fn visit(
    files: &Files,
    path: &Path,
    kind: LogKind,
    acknowledged: Acknowledged,
    mut record: impl FnMut(u32, u64, &[u8]),
) -> Result<End, LogError> {
    let mut end = End { records: 0, segment: 0, offset: 0, torn_bytes: 0 };
    loop {
        let at = segment_path(path, end.segment);
        let is_last = !files.exists(&segment_path(path, end.segment + 1));
        let file = files.open(&at)?;
        let show = |offset, payload: &[u8]| record(end.segment, offset, payload);
        let (whole, shown) = segment::stream(&*file, kind, end.segment, end.records, show)
            .map_err(FileError::at("read", &at))?;
        let damaged = |(offset, what)| LogError::Damaged { path: at.clone(), offset, what };
        if let Some(offset) = whole {
            end.records += shown;
            (end.offset, end.torn_bytes) = (offset, 0);
        } else {
            let bytes = files.read_bounded(&at, segment::MAX_SEGMENT_BYTES)?;
            let Parsed { records, end: offset, torn_bytes } =
                segment::parse(&bytes, kind, end.segment, end.records, acknowledged).map_err(damaged)?;
            if torn_bytes > 0 && !is_last {
                return Err(damaged((offset, "it ends within a record, and another segment follows")));
            }
            end.records += records.len() as u64;
            for (offset, payload) in records.into_iter().skip(shown as usize) {
                record(end.segment, offset, payload);
            }
            (end.offset, end.torn_bytes) = (offset, torn_bytes);
        }
        if is_last {
            return Ok(end);
        }
        if end.segment + 1 == SEGMENTS {
            return Err(damaged((0, "too many segments follow it")));
        }
        end.segment += 1;
    }
}

/// Reads the bytes of a log's first segment, as of a log that has no other and of which no more is known.
///
/// # Errors
/// The offset of the damage and a description.
pub fn parse(bytes: &[u8], kind: LogKind) -> Result<Contents, (u64, &'static str)> {
    let parsed = segment::parse(bytes, kind, 0, 0, Acknowledged::Unknown)?;
    let record = |(offset, payload): (u64, &[u8])| Record { segment: 0, offset, payload: payload.to_vec() };
    Ok(Contents { records: parsed.records.into_iter().map(record).collect(), torn_bytes: parsed.torn_bytes })
}

/// An open log to append to. One writer at a time: the caller holds the lock.
#[derive(Debug)]
pub struct LogWriter {
    files: Files,
    path: PathBuf,
    kind: LogKind,
    file: Box<dyn StoredFile>,
    segment: u32,
    records: u64,
    /// The length of the last segment; all of it is durable.
    len: u64,
    failed: bool,
}

impl LogWriter {
    /// Opens the log at `path`, or makes it; cuts a torn tail after the last complete record.
    ///
    /// # Errors
    /// [`LogError::Damaged`] for damage before the tail: nothing is cut then.
    pub fn open(
        files: &Files,
        path: &Path,
        kind: LogKind,
        acknowledged: Acknowledged,
    ) -> Result<(Self, Vec<Record>), LogError> {
        let mut records = Vec::new();
        let end = if files.exists(path) {
            visit(files, path, kind, acknowledged, |segment, offset, payload| {
                records.push(Record { segment, offset, payload: payload.to_vec() });
            })?
        } else {
            End { records: 0, segment: 0, offset: 0, torn_bytes: 0 }
        };
        let at = segment_path(path, end.segment);
        let file = files.open_or_create(&at)?;
        let mut writer = Self {
            files: files.clone(),
            path: path.to_owned(),
            kind,
            file,
            segment: end.segment,
            records: end.records,
            len: end.offset,
            failed: false,
        };
        if end.torn_bytes > 0 {
            tracing::warn!(path = %at.display(), bytes = end.torn_bytes, "cut a torn tail");
            writer.file.truncate(end.offset).map_err(FileError::at("truncate", &at))?;
        }
        let acknowledged = matches!(acknowledged, Acknowledged::Records(n) if n > 0 && n == end.records);
        if acknowledged && end.torn_bytes == 0 {
            // Whoever acknowledged them had synced all of it, with its name.
            return Ok((writer, records));
        }
        if end.offset == 0 {
            writer.begin()?;
        } else {
            // What was read may lie in memory only, left by a writer that was killed before its sync.
            writer.file.sync().map_err(FileError::at("sync", &at))?;
        }
        // Its name may not be durable either.
        files.sync_parent(&at)?;
        Ok((writer, records))
    }

    /// Cuts the log after its first `keep` records, which `records` lists as [`LogWriter::open`] returned them.
    ///
    /// # Errors
    /// [`LogError::File`]; then the log must be opened again.
    pub fn cut(&mut self, records: &[Record], keep: u64) -> Result<(), LogError> {
        let Some(first) = usize::try_from(keep).ok().and_then(|keep| records.get(keep)) else {
            return Ok(());
        };
        self.failed = true;
        // From the end, so that a stop in between leaves a shorter log and no gap.
        for segment in (first.segment + 1..=self.segment).rev() {
            self.files.remove(&segment_path(&self.path, segment))?;
        }
        let at = segment_path(&self.path, first.segment);
        self.files.sync_parent(&at)?;
        self.file = self.files.open_or_create(&at)?;
        self.file.truncate(first.offset).map_err(FileError::at("truncate", &at))?;
        self.file.sync().map_err(FileError::at("sync", &at))?;
        (self.segment, self.records, self.len, self.failed) = (first.segment, keep, first.offset, false);
        Ok(())
    }

    /// Writes the header of the last segment, which is empty.
    fn begin(&mut self) -> Result<(), LogError> {
        let header = header(self.kind, self.segment, self.records);
        self.write_synced(&header)
    }

    /// Appends the payloads in order and returns when all are durable: one sync for the group.
    ///
    /// # Errors
    /// [`LogError::TooLarge`] and [`LogError::GroupTooLarge`] before anything is written; [`LogError::File`] when writing
    /// or syncing fails: then none of the group is acknowledged and the log must be opened again.
    pub fn append<P: AsRef<[u8]>>(&mut self, payloads: &[P]) -> Result<(), LogError> {
        if self.failed {
            return Err(LogError::Failed { path: self.path.clone() });
        }
        if self.len >= SEGMENT_BYTES {
            self.next_segment()?;
        }
        let mut group = Vec::new();
        for payload in payloads {
            let payload = payload.as_ref();
            if payload.len() > RECORD_BYTES {
                return Err(LogError::TooLarge { len: payload.len() });
            }
            frame_into(&mut group, payload);
        }
        if group.len() > GROUP_BYTES {
            return Err(LogError::GroupTooLarge { len: group.len() });
        }
        self.write_synced(&group)?;
        self.records += payloads.len() as u64;
        Ok(())
    }

    fn next_segment(&mut self) -> Result<(), LogError> {
        let at = segment_path(&self.path, self.segment + 1);
        self.failed = true;
        self.file = self.files.open_or_create(&at)?;
        self.files.sync_parent(&at)?;
        self.failed = false;
        (self.segment, self.len) = (self.segment + 1, 0);
        self.begin()
    }

    fn write_synced(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let at = segment_path(&self.path, self.segment);
        self.failed = true;
        self.file.append(bytes).map_err(FileError::at("write", &at))?;
        self.file.sync().map_err(FileError::at("sync", &at))?;
        self.failed = false;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

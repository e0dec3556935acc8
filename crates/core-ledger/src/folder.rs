//! A folder of files as one object. `docs/formats/folder.md` is normative.
//!
//! A folder is packed into one sequence of bytes: a listing, then the contents. So what knows objects by their name, an
//! inventory or a collection of garbage, knows folders too. One folder has one encoding: times, owners, other bits of the
//! mode, links and empty folders are no part of it.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;

use crate::files::FileError;
use crate::inventory::is_plain_relative;
use crate::limits::{FOLDER_BYTES, FOLDER_DEPTH, FOLDER_FILES, FOLDER_LISTING_BYTES, FOLDER_PATH_BYTES};

mod at;
mod pack;
mod unpack;

pub use pack::{Folder, FolderReader};
pub use unpack::unpack;

const MAGIC: &[u8; 8] = b"BPFOLD1\0";
/// The bytes of a file in the listing, without its path.
const ENTRY_BYTES: u64 = 2 + 1 + 8;
/// What is read at once.
const PIECE_BYTES: usize = 1 << 17;

/// A file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderFile {
    /// Its path relative to the folder, `/`-separated.
    pub path: String,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A folder that cannot be packed, or bytes that are not a packed one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The packed folder cannot be read.
    #[error("cannot read the packed folder: {0}")]
    Source(#[source] io::Error),
    /// Something in the folder is neither a file nor a folder.
    #[error("{} is {kind}: a folder that is recorded holds regular files and folders only", path.display())]
    NotPlain {
        /// Where it is.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// A name cannot be recorded.
    #[error("the name {path:?} is not UTF-8, or holds a back-slash or a control character; rename it")]
    Name {
        /// Where it is.
        path: PathBuf,
    },
    /// A file changed between the listing and the reading.
    #[error("{} changed while its folder was read; let whoever writes it end first", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// There is more than a packed folder may hold.
    #[error("a folder that is recorded has at most {limit} {what}: {path:?} is past that")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: u64,
        /// The path at which it was noticed.
        path: String,
    },
    /// The bytes are not a listing.
    #[error("not a packed folder at byte {offset}: {reason}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A path is not relative, plain and in order.
    #[error("the packed folder's path {path:?} is not a plain relative path in ascending order")]
    Path {
        /// The path.
        path: String,
    },
    /// A path leads through a file.
    #[error("the packed folder's path {path:?} leads through the file {file:?}")]
    Inside {
        /// The path.
        path: String,
        /// The file.
        file: String,
    },
    /// The bytes end before the contents do.
    #[error("the packed folder ends {missing} bytes before the end of {path:?}")]
    Truncated {
        /// The file whose contents are cut.
        path: String,
        /// How many of its bytes are missing.
        missing: u64,
    },
    /// There are bytes after the contents.
    #[error("there are bytes after the packed folder, which ends at byte {end}")]
    Trailing {
        /// Where it ends.
        end: u64,
    },
}

impl From<FolderError> for io::Error {
    fn from(error: FolderError) -> Self {
        Self::other(error)
    }
}

impl FolderError {
    /// What a reader of folders wrapped, or an error of the bytes' source.
    fn of(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Source)
    }
}

/// The listing of a packed folder. What comes after it in `source` is not looked at.
///
/// # Errors
/// [`FolderError`] when it is not a well-formed listing within the limits.
pub fn listing(source: &mut impl Read) -> Result<Vec<FolderFile>, FolderError> {
    Listing::decode(&mut BufReader::new(source)).map(|listing| listing.files)
}

/// Reads a packed folder in constant memory but for its listing, which is returned: each file in turn with its contents.
/// What `each` leaves unread is passed over.
///
/// # Errors
/// [`FolderError`] when the bytes are not a packed folder to their end, and what `each` returns.
pub fn read(
    source: &mut impl Read,
    mut each: impl FnMut(&FolderFile, &mut dyn BufRead) -> Result<(), FolderError>,
) -> Result<Vec<FolderFile>, FolderError> {
    let mut source = BufReader::with_capacity(PIECE_BYTES, source);
    let Listing { files, end } = Listing::decode(&mut source)?;
    for file in &files {
        let mut contents = source.by_ref().take(file.bytes);
        each(file, &mut contents)?;
        io::copy(&mut contents, &mut io::sink()).map_err(FolderError::of)?;
        if contents.limit() > 0 {
            return Err(FolderError::Truncated { path: file.path.clone(), missing: contents.limit() });
        }
    }
    if !source.fill_buf().map_err(FolderError::of)?.is_empty() {
        return Err(FolderError::Trailing { end });
    }
    Ok(files)
}

/// The listing of these files: what a packed folder begins with.
///
/// # Errors
/// [`FolderError`] when they are out of order or past the limits.
pub fn encode_listing(files: &[FolderFile]) -> Result<Vec<u8>, FolderError> {
    let mut order = Order::default();
    for file in files {
        order.take(file)?;
    }
    let mut bytes = Vec::with_capacity(order.listing as usize);
    bytes.extend(MAGIC);
    // The limits are below what the integers hold.
    bytes.extend((files.len() as u32).to_le_bytes());
    for file in files {
        bytes.extend((file.path.len() as u16).to_le_bytes());
        bytes.extend(file.path.as_bytes());
        bytes.push(file.executable.into());
        bytes.extend(file.bytes.to_le_bytes());
    }
    Ok(bytes)
}

/// A listing that was read, and where the contents after it end.
struct Listing {
    files: Vec<FolderFile>,
    end: u64,
}

impl Listing {
    fn decode(source: &mut impl Read) -> Result<Self, FolderError> {
        let mut source = Fields { source, offset: 0 };
        if source.take::<8>()? != *MAGIC {
            return Err(FolderError::Malformed { offset: 0, reason: "it does not begin with BPFOLD1" });
        }
        let count = u32::from_le_bytes(source.take()?);
        if count > FOLDER_FILES {
            let reason = "it lists more files than a folder may have";
            return Err(FolderError::Malformed { offset: 8, reason });
        }
        let (mut files, mut order) = (Vec::new(), Order::default());
        for _ in 0..count {
            let path = source.path()?;
            let offset = source.offset;
            let executable = match source.take()? {
                [0] => false,
                [1] => true,
                _ => return Err(FolderError::Malformed { offset, reason: "neither executable nor not" }),
            };
            let file = FolderFile { path, executable, bytes: u64::from_le_bytes(source.take()?) };
            order.take(&file)?;
            files.push(file);
        }
        Ok(Self { files, end: order.listing + order.contents })
    }
}

/// Fields of a listing, one after the other.
struct Fields<'a, R> {
    source: &'a mut R,
    offset: u64,
}

impl<R: Read> Fields<'_, R> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], FolderError> {
        let mut field = [0; N];
        self.fill(&mut field)?;
        Ok(field)
    }

    fn path(&mut self) -> Result<String, FolderError> {
        let offset = self.offset;
        let len = usize::from(u16::from_le_bytes(self.take()?));
        if len > FOLDER_PATH_BYTES {
            return Err(FolderError::Malformed { offset, reason: "a path is longer than it may be" });
        }
        let mut path = vec![0; len];
        self.fill(&mut path)?;
        String::from_utf8(path).map_err(|_| FolderError::Malformed { offset, reason: "a path is not UTF-8" })
    }

    fn fill(&mut self, field: &mut [u8]) -> Result<(), FolderError> {
        match self.source.read_exact(field) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                let reason = "the bytes end in the listing";
                return Err(FolderError::Malformed { offset: self.offset, reason });
            }
            read => read.map_err(FolderError::of)?,
        }
        self.offset += field.len() as u64;
        Ok(())
    }
}

/// Holds the files of a listing to their order and to the limits, one after the other.
struct Order {
    files: u32,
    /// How many bytes the listing has so far.
    listing: u64,
    /// How many bytes are listed so far.
    contents: u64,
    previous: String,
    /// Files whose paths the previous one begins with, with its own; shortest first.
    prefixes: Vec<usize>,
}

impl Default for Order {
    fn default() -> Self {
        let listing = MAGIC.len() as u64 + 4;
        Self { files: 0, listing, contents: 0, previous: String::new(), prefixes: Vec::new() }
    }
}

impl Order {
    fn take(&mut self, file: &FolderFile) -> Result<(), FolderError> {
        let path = &file.path;
        // An empty path is not plain, so that the first is above the empty text that stands for none.
        if !is_plain_relative(path) || *path <= self.previous {
            return Err(FolderError::Path { path: path.clone() });
        }
        self.files += 1;
        self.listing += ENTRY_BYTES + path.len() as u64;
        self.contents = self.contents.saturating_add(file.bytes);
        for (what, got, limit) in [
            ("files", u64::from(self.files), u64::from(FOLDER_FILES)),
            ("bytes in a path", path.len() as u64, FOLDER_PATH_BYTES as u64),
            ("folders within each other", path.matches('/').count() as u64, FOLDER_DEPTH as u64),
            ("bytes of listing", self.listing, FOLDER_LISTING_BYTES),
            ("bytes", self.contents, FOLDER_BYTES),
        ] {
            if got > limit {
                return Err(FolderError::Limit { what, limit, path: path.clone() });
            }
        }
        let (new, old) = (path.as_bytes(), self.previous.as_bytes());
        let common = new.iter().zip(old).take_while(|(a, b)| a == b).count();
        self.prefixes.retain(|len| *len <= common);
        // Between a file and what is in a folder of its name lie others (`a`, `a-b`, `a/b`), so all are looked at.
        if let Some(len) = self.prefixes.iter().find(|len| new.get(**len) == Some(&b'/')) {
            return Err(FolderError::Inside { path: path.clone(), file: path[..*len].to_owned() });
        }
        self.prefixes.push(path.len());
        self.previous.clone_from(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests;

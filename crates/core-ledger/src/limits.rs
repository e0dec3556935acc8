//! Every named maximum of the formats in this crate, asserted on write and on read.

/// Bytes of one canonical value.
pub const CANON_BYTES: usize = 64 << 20;
/// Bytes of one record's payload in a log file.
pub const RECORD_BYTES: usize = 1 << 20;
/// Bytes of a leaf of the audit log. RFC 6962 has no bound; C2SP tiles have this one.
pub const LEAF_BYTES: usize = 65_535;
/// Bytes of a signed note.
pub const NOTE_BYTES: usize = 1 << 20;
/// Signature lines of a signed note.
pub const NOTE_SIGNATURES: usize = 64;
/// Bytes of a key file.
pub const KEY_FILE_BYTES: u64 = 16 << 10;
/// Bytes of `store.toml`.
pub const STORE_TOML_BYTES: u64 = 16 << 10;
/// Bytes of an object that is read into memory whole.
pub const OBJECT_IN_MEMORY_BYTES: u64 = 4 << 30;
/// Bytes after which a log goes on in another segment file.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes, with frames, that are appended to a log at once.
pub const GROUP_BYTES: usize = 64 << 20;
/// Segments of a log.
pub const SEGMENTS: u32 = 1 << 16;
/// Bytes of an attestation: a file with an envelope.
pub const ATTESTATION_BYTES: u64 = 16 << 20;
/// Bytes of a public key in PEM.
pub const PUBLIC_KEY_BYTES: u64 = 16 << 10;
/// Values, names of fields included, of a JSON text from outside.
pub const JSON_VALUES: usize = 1 << 20;
/// How deep a JSON text from outside may be nested.
pub const JSON_DEPTH: usize = 32;
/// Files of a folder that is one object: ImageNet has 1.28 million.
pub const FOLDER_FILES: u32 = 1 << 21;
/// Bytes of the path of a file in such a folder.
pub const FOLDER_PATH_BYTES: usize = 4096;
/// Folders within each other in such a folder; one file is open for each while it is read.
pub const FOLDER_DEPTH: usize = 128;
/// Bytes before the contents of such a folder.
pub const FOLDER_LISTING_BYTES: u64 = 64 << 20;
/// Bytes of the contents of such a folder: more than there are, so that places in it are numbers of 64 bits.
pub const FOLDER_BYTES: u64 = 1 << 62;

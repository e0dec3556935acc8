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

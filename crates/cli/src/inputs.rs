//! Files that the user names: keys, tree heads, proofs.

use std::io::ErrorKind;
use std::path::Path;

use bitproof_audit::{read_head, AnchorError};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::note::{NoteKey, TreeHead};

use crate::exit::{Exit, Failure};

const VKEY_BYTES: u64 = 4 << 10;

/// A key in its text form, or the file that holds it.
pub(crate) fn vkey(text: &str) -> Result<NoteKey, Failure> {
    let path = Path::new(text);
    let content = if path.is_file() {
        String::from_utf8_lossy(&file(path, VKEY_BYTES)?).into_owned()
    } else {
        text.to_owned()
    };
    content.trim().parse().map_err(|e| {
        Failure::usage(format!(
            "{text}: {e}\n  hint: `bitproof key show log` prints the key of a store, `verify` the key that signed it"
        ))
    })
}

/// A tree head that somebody kept.
pub(crate) fn head(path: &Path) -> Result<TreeHead, Failure> {
    read_head(&Files::on_disk(), path).map_err(anchor)
}

/// What is wrong with a file of the auditor's.
pub(crate) fn anchor(error: AnchorError) -> Failure {
    Failure::usage(error)
}

/// The bytes of a proof. One that is too large does not hold, as any other that is malformed.
pub(crate) fn proof(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    Files::on_disk().read_bounded(path, limit).map_err(|e| match e.source.kind() {
        ErrorKind::FileTooLarge => Failure { exit: Exit::No, error: e.into() },
        _ => Failure::usage(e),
    })
}

/// The bytes of a file of at most that many.
fn file(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    Files::on_disk().read_bounded(path, limit).map_err(Failure::usage)
}

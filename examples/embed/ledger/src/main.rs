//! A tamper-evident log with `core-ledger` alone: `cargo run -p bitproof-embed-ledger -- DIR "a line" "another"`.
#![expect(clippy::print_stdout, reason = "it shows what it did")]

use std::path::Path;

use anyhow::{Context as _, Result};
use bitproof_core_ledger::files::Files;
use bitproof_core_ledger::keys::{KeyFolder, KeyRole};
use bitproof_core_ledger::note::NoteKey;
use bitproof_core_ledger::signed_log::{SignedLog, SignedView};
use bitproof_core_ledger::tlog_proof::TlogProof;

/// Who signs: it names the log for everybody who ever checks it.
const ORIGIN: &str = "example.org/orders";

/// Appends lines to the log in `dir` and proves the first of them: what to give to somebody who has only the key.
fn record(dir: &Path, lines: &[String]) -> Result<(String, NoteKey)> {
    // Open: the key lies beside the log, 0600; everything that was signed before is checked, a stopped write is cut.
    let (key, _) = KeyFolder::new(dir.join("keys")).load_or_create(KeyRole::Log)?;
    let public = key.note_key(ORIGIN)?;
    let mut log =
        SignedLog::open(&Files::on_disk(), &dir.join("log"), ORIGIN, std::slice::from_ref(&public))?;
    // Append: one sync for all of them. Sign: from here on nobody takes them back unnoticed.
    let first = log.size();
    log.append(lines)?;
    log.publish(&key)?;
    // Prove: a text, which the C2SP tools read too.
    let view = SignedView::read(&Files::on_disk(), &dir.join("log"), ORIGIN, std::slice::from_ref(&public))?;
    let proof = view.prove(first).context("no line was given")?;
    Ok((proof.to_text(), public))
}

/// Checks a proof on a machine without the log; returns the line that it is about.
fn check(proof: &str, public: &NoteKey) -> Result<String> {
    let proof = TlogProof::parse(proof.as_bytes())?;
    proof.check(public)?;
    Ok(String::from_utf8(proof.leaf)?)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().context("usage: bitproof-embed-ledger DIR LINE...")?;
    let (proof, public) = record(Path::new(&dir), &arguments.collect::<Vec<_>>())?;
    println!("{proof}\nkey: {public}\nit proves: {}", check(&proof, &public)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_proved_and_what_was_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        record(dir.path(), &["one".to_owned(), "two".to_owned()]).unwrap();
        let (proof, public) = record(dir.path(), &["three".to_owned(), "four".to_owned()]).unwrap();
        assert_eq!(check(&proof, &public).unwrap(), "three");
        assert!(check(&proof.replace("index 2", "index 3"), &public).is_err());
        let log = dir.path().join("log/events.log");
        let mut bytes = std::fs::read(&log).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&log, bytes).unwrap();
        assert!(record(dir.path(), &["five".to_owned()]).is_err());
    }
}

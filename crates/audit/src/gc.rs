//! Collection: what no run and no event reaches is removed.

use bitproof_core_ledger::files::{FileError, Files};
use bitproof_core_ledger::storage::EntryKind;
use bitproof_core_ledger::Store;
use bitproof_training::run_folder::{RunError, RunFolder, RunIndex};

use crate::anchors::Anchors;
use crate::reach::{object_id, Reach};
use crate::report::Finding;
use crate::verify::{check_log, damaged, VerifyError};

/// Whether what is found goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collect {
    /// It is removed.
    Remove,
    /// It is listed.
    DryRun,
}

/// Something that nothing reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// Where it is, relative to the store.
    pub path: String,
    /// How many bytes it takes.
    pub bytes: u64,
}

/// What was collected, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcReport {
    /// What nothing reaches: objects, other files among them, and what killed writers left; sorted by path in each folder.
    pub unreached: Vec<Unreached>,
    /// How many objects stay.
    pub kept_objects: u64,
    /// How many bytes they take.
    pub kept_bytes: u64,
}

impl GcReport {
    /// How many bytes nothing reaches.
    pub fn unreached_bytes(&self) -> u64 {
        self.unreached.iter().map(|u| u.bytes).sum()
    }
}

/// A store that was not collected; nothing was removed, unless removing itself failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// Another process is writing: what it keeps may not be reached yet.
    #[error("another process is writing to the store\n  hint: run `bitproof gc` when it has ended")]
    Busy,
    /// It cannot be told what is reached.
    #[error("the evidence is damaged, and what it reaches cannot be told: {}\n  hint: nothing was removed; `bitproof verify --all` says more", findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("; "))]
    Damaged {
        /// What is wrong.
        findings: Vec<Finding>,
    },
    /// The log could not be checked.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The file system failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Removes what no run, sealed or not, and no event under the signed head reaches. No writer lives while it works, and a
/// writer that comes waits.
///
/// The audit log must verify and continue what is in `anchors`; each run's plan and ledger and each sealed run's inventory
/// must be what the log says. A stop at any point leaves a store in which less is unreached and all else as it was.
///
/// # Errors
/// [`GcError`].
#[tracing::instrument(level = "info", skip_all)]
pub fn gc(store: &Store, anchors: &Anchors, collect: Collect) -> Result<GcReport, GcError> {
    let _alone = store.only_writer()?.ok_or(GcError::Busy)?;
    let files = store.files();
    let there = files.files_below(store.objects().dir())?;
    // A store that has kept nothing yet has no log either.
    let nothing_yet = there.is_empty() && RunFolder::names(store)?.is_empty();
    let reach = if nothing_yet { Reach::default() } else { reached(store, anchors)? };
    let mut report = GcReport { unreached: Vec::new(), kept_objects: 0, kept_bytes: 0 };
    for (file, kind) in there {
        let path = format!("objects/{file}");
        let bytes = size(kind);
        if object_id(&path).is_some_and(|id| reach.objects.contains(&id)) {
            report.kept_objects += 1;
            report.kept_bytes += bytes;
        } else {
            report.unreached.push(Unreached { path, bytes });
        }
    }
    let staging = store.staging();
    for (name, kind) in files.list(&staging)? {
        let bytes = match kind {
            EntryKind::Folder => files.files_below(&staging.join(&name))?.iter().map(|(_, k)| size(*k)).sum(),
            kind => size(kind),
        };
        report.unreached.push(Unreached { path: format!("tmp/{name}"), bytes });
    }
    if collect == Collect::Remove {
        remove(files, store, &report.unreached)?;
    }
    tracing::info!(
        unreached = report.unreached.len(),
        bytes = report.unreached_bytes(),
        kept = report.kept_objects,
        removed = collect == Collect::Remove,
        "collected"
    );
    Ok(report)
}

/// All that is reached, when it can be told.
fn reached(store: &Store, anchors: &Anchors) -> Result<Reach, GcError> {
    let audit = check_log(store, anchors)?.map_err(|findings| GcError::Damaged { findings })?;
    if audit.head.is_none() {
        // A store has a head before it has its first object.
        let missing =
            damaged("audit/head", "a signed tree head".to_owned(), "none, but objects or runs".to_owned());
        return Err(GcError::Damaged { findings: vec![missing] });
    }
    let reach = Reach::of(store, &audit, &RunIndex::new(&audit))?;
    if reach.unread.is_empty() {
        return Ok(reach);
    }
    let finding = |(run, error): &(String, RunError)| {
        let expected = "a run of which it can be told what it reaches".to_owned();
        damaged(&format!("runs/{run}"), expected, error.to_string())
    };
    Err(GcError::Damaged { findings: reach.unread.iter().map(finding).collect() })
}

fn size(kind: EntryKind) -> u64 {
    match kind {
        EntryKind::File(bytes) => bytes,
        EntryKind::Folder | EntryKind::Special => 0,
    }
}

/// The space is free when the names are gone for good: each folder is synced once.
fn remove(files: &Files, store: &Store, unreached: &[Unreached]) -> Result<(), FileError> {
    let mut changed = None;
    for item in unreached {
        let path = store.root().join(&item.path);
        let folder = path.parent().map(ToOwned::to_owned);
        if folder != changed {
            if let Some(before) = &changed {
                files.sync_dir(before)?;
            }
            changed = folder;
        }
        files.remove(&path)?;
    }
    match &changed {
        Some(last) => files.sync_dir(last),
        None => Ok(()),
    }
}

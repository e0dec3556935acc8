//! What runs and events reach: what `verify` does not list as unreferenced, and what `gc` keeps.

use std::collections::BTreeSet;

use bitproof_core_ledger::events::{AuditView, EventBody};
use bitproof_core_ledger::files::FileError;
use bitproof_core_ledger::objects::{ObjectId, Objects};
use bitproof_core_ledger::Store;
use bitproof_scheduler::ledger::Entry;
use bitproof_training::run_folder::{RunError, RunFolder, RunIndex, RunRow};
use bitproof_training::workflow::closure;

/// Everything that is reached, as far as it could be read.
#[derive(Debug, Default)]
pub(crate) struct Reach {
    /// Objects that a plan, a ledger, an inventory or an event names.
    pub(crate) objects: BTreeSet<ObjectId>,
    /// Runs of which it cannot be told what they reach, each with the reason.
    pub(crate) unread: Vec<(String, RunError)>,
}

impl Reach {
    /// Follows every event under the signed head, every run that the log holds, and every folder of a run, sealed or not.
    ///
    /// # Errors
    /// [`FileError`] when the folder of runs cannot be listed. What is wrong with a run is part of the answer.
    pub(crate) fn of(store: &Store, audit: &AuditView, index: &RunIndex) -> Result<Self, FileError> {
        let mut reach = Self::default();
        reach.objects.extend(audit.events().filter_map(EventBody::object));
        let objects = store.objects();
        let names = RunFolder::names(store)?;
        for row in index.rows.iter().filter(|row| row.seal.is_some()) {
            let reached = sealed(store, &objects, row);
            reach.take(&row.run, reached);
        }
        for name in names {
            let row = index.rows.iter().find(|row| row.run == name);
            if row.is_some_and(|row| row.seal.is_some()) {
                continue;
            }
            let reached = unsealed(store, &objects, &name, row);
            reach.take(&name, reached);
        }
        Ok(reach)
    }

    fn take(&mut self, run: &str, reached: Result<BTreeSet<ObjectId>, RunError>) {
        match reached {
            Ok(objects) => self.objects.extend(objects),
            Err(error) => self.unread.push((run.to_owned(), error)),
        }
    }
}

fn sealed(store: &Store, objects: &Objects, row: &RunRow) -> Result<BTreeSet<ObjectId>, RunError> {
    let folder = RunFolder::open_recorded(store, row)?;
    let ledger = folder.sealed_ledger(row)?;
    let mut reached = closure(&folder, &ledger.entries, objects);
    let inventory = folder.sealed_inventory(row)?;
    reached.extend(inventory.entries().iter().filter_map(|entry| object_id(&entry.path)));
    Ok(reached)
}

/// A run that is not sealed is taken up where it stopped: it needs what it has committed, also before any event names it.
fn unsealed(
    store: &Store,
    objects: &Objects,
    name: &str,
    row: Option<&RunRow>,
) -> Result<BTreeSet<ObjectId>, RunError> {
    let folder = match row {
        Some(row) => RunFolder::open_recorded(store, row)?,
        None => RunFolder::open(store, name)?,
    };
    let committed: Vec<Entry> = folder.committed()?;
    Ok(closure(&folder, &committed, objects))
}

/// Where an object is, relative to the store.
pub(crate) fn object_path(id: &ObjectId) -> String {
    format!("objects/{}", Objects::relative_path(id))
}

/// The object that a path relative to the store stands for.
pub(crate) fn object_id(path: &str) -> Option<ObjectId> {
    let (first, rest) = path.strip_prefix("objects/")?.split_once('/')?;
    if first.len() != 2 {
        None
    } else {
        format!("{first}{rest}").parse().ok()
    }
}

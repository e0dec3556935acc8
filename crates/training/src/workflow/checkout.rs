//! What commands made, out of the store and where they made it.

use std::fs;
use std::path::Path;

use bitproof_core_ledger::files::FileError;
use bitproof_core_ledger::store::{hex, random_id};
use bitproof_core_ledger::Store;

use super::WorkflowError;
use crate::run_folder::RunFolder;

/// Writes the outputs of every command of a run below `folder`, at the paths that they were made at, as the commands themselves
/// would have: over files that are there, and beside others of a folder.
///
/// # Errors
/// [`WorkflowError`] when an output is damaged or cannot be written.
pub fn check_out(store: &Store, run: &str, folder: &Path) -> Result<(), WorkflowError> {
    let run = RunFolder::open(store, run)?;
    let objects = store.objects();
    for (task, entry) in run.plan.tasks().zip(run.committed()?) {
        let Some(command) = task.spec.code.command() else { continue };
        for output in &command.outputs {
            let Some(id) = entry.output(&output.name) else { continue };
            let target = folder.join(&output.path);
            if let Some(above) = target.parent() {
                fs::create_dir_all(above).map_err(FileError::at("create", above))?;
            }
            // Beside it, so that it can be renamed.
            let name = format!(".{}-{}", output.name, hex(&random_id()?));
            let staged = target.with_file_name(name);
            if output.folder {
                let files = objects.unpack_to(&id, &staged)?;
                for file in &files {
                    let to = target.join(&file.path);
                    if let Some(above) = to.parent() {
                        fs::create_dir_all(above).map_err(FileError::at("create", above))?;
                    }
                    fs::rename(staged.join(&file.path), &to).map_err(FileError::at("write", &to))?;
                }
                fs::create_dir_all(&target).map_err(FileError::at("create", &target))?;
                fs::remove_dir_all(&staged).map_err(FileError::at("remove", &staged))?;
            } else {
                objects.copy_to(&id, &staged)?;
                fs::rename(&staged, &target).map_err(FileError::at("write", &target))?;
            }
        }
    }
    Ok(())
}

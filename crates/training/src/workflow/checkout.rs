//! What commands made, out of the store and where they made it.

use std::fs;
use std::path::{Path, PathBuf};

use bitproof_core_ledger::files::FileError;
use bitproof_core_ledger::store::{hex, random_id};
use bitproof_core_ledger::Store;

use super::WorkflowError;
use crate::run_folder::RunFolder;

/// Writes the outputs of every command of a run below `folder`, at the paths that they were made at, as the commands themselves
/// would have: over files that are there, and beside others of a folder. No link on the way is followed.
///
/// # Errors
/// [`WorkflowError`] when an output is damaged or cannot be written, or a link is in its way.
pub fn check_out(store: &Store, run: &str, folder: &Path) -> Result<(), WorkflowError> {
    let run = RunFolder::open(store, run)?;
    let objects = store.objects();
    for (task, entry) in run.plan.tasks().zip(run.committed()?) {
        let Some(command) = task.spec.code.command() else { continue };
        for output in &command.outputs {
            let Some(id) = entry.output(&output.name) else { continue };
            let above = make_folders(folder, output.path.rsplit_once('/').map_or("", |(above, _)| above))?;
            // Beside it, so that it can be renamed.
            let staged = Staged(above.join(format!(".bitproof-{}", hex(&random_id()?))));
            if output.folder {
                let target = make_folders(folder, &output.path)?;
                for file in objects.unpack_to(&id, &staged.0)? {
                    let inner = file.path.rsplit_once('/').map_or("", |(above, _)| above);
                    make_folders(&target, inner)?;
                    rename(&staged.0.join(&file.path), &target.join(&file.path))?;
                }
            } else {
                objects.copy_to(&id, &staged.0)?;
                rename(&staged.0, &folder.join(&output.path))?;
            }
        }
    }
    Ok(())
}

/// What is on its way to its place, and gone when this is dropped.
struct Staged(PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0).or_else(|_| fs::remove_dir_all(&self.0));
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), WorkflowError> {
    // A link that has the name is replaced, not followed.
    Ok(fs::rename(from, to).map_err(FileError::at("write", to))?)
}

/// Makes the folders of a path below `folder` where they are absent, through no link.
fn make_folders(folder: &Path, path: &str) -> Result<PathBuf, WorkflowError> {
    let mut at = folder.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        at.push(part);
        match fs::symlink_metadata(&at) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(WorkflowError::InTheWay { path: at }),
            Err(_) => fs::create_dir(&at).map_err(FileError::at("create", &at))?,
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_on_the_way_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (project, outside) = (dir.path().join("project"), dir.path().join("outside"));
        fs::create_dir_all(project.join("a")).unwrap();
        fs::create_dir(&outside).unwrap();
        assert_eq!(make_folders(&project, "a/b").unwrap(), project.join("a/b"));
        symlink(&outside, project.join("a/link")).unwrap();
        for path in ["a/link", "a/link/c"] {
            let refused = make_folders(&project, path);
            assert!(matches!(refused, Err(WorkflowError::InTheWay { .. })), "{refused:?}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}

//! Which files of the pipeline's folder are a command's code.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use glob::{MatchOptions, Pattern};

/// The most files of one command.
const MAX_FILES: usize = 65_536;
/// Folders that hold no code: what tools leave beside it.
const PASSED_OVER: [&str; 4] = [".git", ".bitproof", "__pycache__", ".venv"];

/// A pattern that names no code.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodeError {
    /// Nothing is there.
    #[error("there is no file {0:?}")]
    Nothing(String),
    /// It is not a pattern.
    #[error("{pattern:?} is not a pattern: {reason}")]
    Pattern { pattern: String, reason: &'static str },
    /// It is no regular file.
    #[error("{0:?} is a link or no regular file")]
    Special(String),
    /// Its name is not UTF-8.
    #[error("{0:?} is not UTF-8")]
    Name(String),
    /// There are too many.
    #[error("there are more than {MAX_FILES} files")]
    TooMany,
    /// The file system failed.
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
}

/// The files below `folder` that a path, a folder or a pattern names, by their path with `/` between its parts; for each whether
/// it may be executed.
///
/// A pattern has `*` and `?` within one part of a path, `**` for any number of parts, and `[…]`. Links are not followed.
pub(super) fn find(folder: &Path, pattern: &str) -> Result<BTreeMap<String, bool>, CodeError> {
    let mut found = BTreeMap::new();
    let literal = pattern.trim_end_matches('/');
    match metadata(folder, literal) {
        Some(meta) if meta.is_file() => insert(&mut found, literal, is_executable(&meta))?,
        Some(meta) if meta.is_dir() => {
            below(folder, literal, &mut |path, executable| insert(&mut found, path, executable))?;
        }
        Some(_) => return Err(CodeError::Special(literal.to_owned())),
        None => matching(folder, pattern, &mut found)?,
    }
    if found.is_empty() {
        return Err(CodeError::Nothing(pattern.to_owned()));
    }
    Ok(found)
}

fn matching(folder: &Path, pattern: &str, found: &mut BTreeMap<String, bool>) -> Result<(), CodeError> {
    let matcher = Pattern::new(pattern)
        .map_err(|e| CodeError::Pattern { pattern: pattern.to_owned(), reason: e.msg })?;
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    // What stands before the first part with a wild card need not be searched.
    let wild = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    let start = pattern[..wild].rfind('/').map_or("", |end| &pattern[..end]);
    if !start.is_empty() && metadata(folder, start).is_none_or(|meta| !meta.is_dir()) {
        return Ok(());
    }
    below(folder, start, &mut |path, executable| match matcher.matches_with(path, options) {
        true => insert(found, path, executable),
        false => Ok(()),
    })
}

/// Of what lies at a path below `folder`, or of the first link on the way to it.
fn metadata(folder: &Path, path: &str) -> Option<fs::Metadata> {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    let mut met = None;
    for end in ends {
        let meta = fs::symlink_metadata(folder.join(&path[..end])).ok()?;
        let link = meta.is_symlink();
        met = Some(meta);
        if link {
            break;
        }
    }
    met
}

fn insert(found: &mut BTreeMap<String, bool>, path: &str, executable: bool) -> Result<(), CodeError> {
    if found.len() == MAX_FILES {
        return Err(CodeError::TooMany);
    }
    found.insert(path.to_owned(), executable);
    Ok(())
}

pub(super) fn is_executable(meta: &fs::Metadata) -> bool {
    meta.permissions().mode() & 0o100 != 0
}

/// Calls `each` with every regular file below `start`, which is below `folder`.
fn below(
    folder: &Path,
    start: &str,
    each: &mut dyn FnMut(&str, bool) -> Result<(), CodeError>,
) -> Result<(), CodeError> {
    let mut open = vec![start.to_owned()];
    while let Some(dir) = open.pop() {
        let failed = |source| CodeError::File { path: dir.clone(), source };
        let at = folder.join(&dir);
        // The folder of a pipeline file that is named without one.
        let at = if at.as_os_str().is_empty() { Path::new(".") } else { &at };
        for entry in fs::read_dir(at).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let name =
                name.to_str().ok_or_else(|| CodeError::Name(entry.path().to_string_lossy().into_owned()))?;
            let path = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
            // Of a link this is the link's own.
            let meta = entry.metadata().map_err(failed)?;
            if meta.is_file() {
                each(&path, is_executable(&meta))?;
            } else if meta.is_dir() && !PASSED_OVER.contains(&name) {
                open.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_folders_and_patterns_name_files_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for path in ["train.py", "run.sh", "src/a.py", "src/b.txt", "src/deep/c.py", "src/__pycache__/a.pyc"]
        {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), path).unwrap();
        }
        fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("/etc/passwd", root.join("src/secret.py")).unwrap();
        symlink("/etc", root.join("outside")).unwrap();
        let names = |pattern: &str| {
            find(root, pattern).map(|found| found.into_keys().collect::<Vec<_>>()).map_err(|e| e.to_string())
        };
        assert_eq!(names("train.py").unwrap(), ["train.py"]);
        assert!(find(root, "run.sh").unwrap()["run.sh"]);
        assert_eq!(names("src/").unwrap(), ["src/a.py", "src/b.txt", "src/deep/c.py"]);
        assert_eq!(names("src/*.py").unwrap(), ["src/a.py"]);
        assert_eq!(names("**/*.py").unwrap(), ["src/a.py", "src/deep/c.py", "train.py"]);
        assert_eq!(names("src/[ab].*").unwrap(), ["src/a.py", "src/b.txt"]);
        assert!(names("src/secret.py").unwrap_err().contains("is a link"));
        assert!(names("outside").unwrap_err().contains("is a link"));
        assert!(names("outside/passwd").unwrap_err().contains("is a link"));
        assert!(names("outside/*").unwrap_err().contains("is a link"), "and is told");
        assert!(names("nothing/**/*.py").unwrap_err().contains("no file"));
        assert!(names("src/***").unwrap_err().contains("not a pattern"));
    }
}

//! What the compiler cannot check. Each check is a function over texts and names that returns findings, and is tested with
//! an example that it must refuse and one that it must not.

mod architecture;
mod formats;
mod layers;
mod licences;
mod manifests;
mod rust_code;
mod sources;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::workspace::{relative, Workspace};
use crate::Verdict;

/// Prints every finding.
pub(crate) fn run(workspace: &Workspace) -> Result<Verdict> {
    let files = files(&workspace.root)?;
    let mut findings = Vec::new();
    findings.extend(layers::check_workspace(workspace, &files));
    findings.extend(manifests::check_workspace(workspace, &files));
    findings.extend(architecture::check_workspace(workspace, &files));
    findings.extend(formats::check(&files));
    findings.extend(files.iter().flat_map(sources::check));
    findings.extend(licences::check_workspace(workspace, &files)?);
    findings.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: {} files, nothing to say", files.len()),
        count => println!("tidy: {} files, {count} findings", files.len()),
    }
    Ok(Verdict::of(findings.is_empty()))
}

/// Something that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    file: String,
    /// From 1; 1 too for what a file lacks.
    line: usize,
    what: String,
    instead: String,
}

impl Finding {
    fn new(file: &str, line: usize, what: impl Into<String>, instead: impl Into<String>) -> Finding {
        Finding { file: file.to_owned(), line, what: what.into(), instead: instead.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    instead: {}", self.file, self.line, self.what, self.instead)
    }
}

/// A text file of the tree.
#[derive(Debug)]
struct SourceFile {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

/// Folders whose names begin with a dot and which are sources all the same.
const DOTTED_SOURCES: [&str; 3] = [".cargo", ".ci", ".github"];
/// Folders that hold no sources.
const NO_SOURCES: [&str; 2] = ["target", "__pycache__"];

/// The text files of the tree, sorted by path.
fn files(root: &Path) -> Result<Vec<SourceFile>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type()?;
            if kind.is_dir() {
                let hidden = name.starts_with('.') && !DOTTED_SOURCES.contains(&name.as_str());
                if !hidden && !NO_SOURCES.contains(&name.as_str()) {
                    folders.push(entry.path());
                }
            } else if kind.is_file() {
                let bytes =
                    fs::read(entry.path()).with_context(|| format!("reading {}", entry.path().display()))?;
                // What is not text (data, images) is no source.
                if let Ok(text) = String::from_utf8(bytes) {
                    found.push(SourceFile { path: relative(root, &entry.path())?, text });
                }
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn text_of<'a>(files: &'a [SourceFile], path: &str) -> Option<&'a str> {
    files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
}

/// The first line that begins with `start`, indentation aside; 1 if there is none.
fn line_beginning(text: &str, start: &str) -> usize {
    text.lines().position(|line| line.trim_start().starts_with(start)).map_or(1, |index| index + 1)
}

/// The places at which `word` stands alone, in bytes.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !text[..at].ends_with(inside) && !text[at + word.len()..].starts_with(inside))
}

/// The line, from 1, of a place in a text.
fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_says_where_what_and_what_instead() {
        let finding = Finding::new("a/b.rs", 7, "this", "that");
        assert_eq!(finding.to_string(), "a/b.rs:7: this\n    instead: that");
    }

    #[test]
    fn words_stand_alone() {
        let text = "use serde_json; serde::x;\nserde";
        assert_eq!(words(text, "serde").collect::<Vec<_>>(), [16, 26]);
        assert_eq!(line_at(text, 26), 2);
        assert_eq!(words("serde_json", "serde").count(), 0);
    }

    #[test]
    fn files_are_text_and_no_build_output() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["target", ".git", ".ci", "crates/x"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
            fs::write(root.path().join(folder).join("file"), "text").unwrap();
        }
        fs::write(root.path().join("crates/x/data.gz"), [0x1f, 0x8b, 0xff]).unwrap();
        let paths: Vec<String> = files(root.path()).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, [".ci/file", "crates/x/file"]);
    }
}

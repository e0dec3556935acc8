//! Folders, file by file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bitproof_scheduler::command::ReplayMode;

use super::{compare, Comparison, Difference, Within};

/// The files of a folder by path, each with whether it may be executed and its content.
pub type FolderFiles<'a> = BTreeMap<String, (bool, &'a [u8])>;

/// How a file of a folder differs.
#[derive(Debug, Clone, PartialEq)]
pub enum FileDifference {
    /// It was recorded and is not there.
    Missing,
    /// It is there and was not recorded.
    Added,
    /// One may be executed and the other not.
    Mode {
        /// Whether the recorded one may.
        recorded_executable: bool,
    },
    /// The contents differ.
    Content(Box<Difference>),
}

impl fmt::Display for FileDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it was recorded and is missing now"),
            Self::Added => f.write_str("it was not recorded and is there now"),
            Self::Mode { recorded_executable: true } => f.write_str("it was executable and is not now"),
            Self::Mode { recorded_executable: false } => f.write_str("it was not executable and is now"),
            Self::Content(difference) => write!(f, "{difference}"),
        }
    }
}

/// Compares two folders file by file: the same paths and modes, and contents as [`compare`] holds them. What differs first is told
/// in the order of the paths.
pub fn compare_folders(
    recorded: &FolderFiles<'_>,
    replayed: &FolderFiles<'_>,
    mode: &ReplayMode,
) -> Comparison {
    let diverged =
        |path: &str, difference| Comparison::Diverged(Difference::File { path: path.to_owned(), difference });
    let mut within: Option<Within> = None;
    for path in recorded.keys().chain(replayed.keys()).collect::<BTreeSet<_>>() {
        let (then, now) = match (recorded.get(path), replayed.get(path)) {
            (Some(then), Some(now)) => (then, now),
            (Some(_), None) => return diverged(path, FileDifference::Missing),
            (None, _) => return diverged(path, FileDifference::Added),
        };
        if then.0 != now.0 {
            return diverged(path, FileDifference::Mode { recorded_executable: then.0 });
        }
        match compare(then.1, now.1, mode) {
            Comparison::Identical => {}
            Comparison::Within(found) => within.get_or_insert_default().merge(path, found),
            Comparison::Diverged(difference) => {
                return diverged(path, FileDifference::Content(Box::new(difference)))
            }
        }
    }
    within.map_or(Comparison::Identical, Comparison::Within)
}

#[cfg(test)]
mod tests {
    use super::super::tests::tolerance;
    use super::*;

    fn folder<'a>(files: &[(&str, bool, &'a [u8])]) -> FolderFiles<'a> {
        files.iter().map(|&(path, executable, content)| (path.to_owned(), (executable, content))).collect()
    }

    #[test]
    fn the_first_file_that_differs_is_named_with_what_does() {
        let then = folder(&[("a.json", false, b"[1,2]"), ("b/run", true, b"#!")]);
        assert_eq!(compare_folders(&then, &then.clone(), &ReplayMode::Bits), Comparison::Identical);
        for (now, expected) in [
            (folder(&[("b/run", true, b"#!")]), "file a.json: it was recorded and is missing now"),
            (
                folder(&[("a", false, b""), ("a.json", false, b"[1,2]")]),
                "file a: it was not recorded and is there now",
            ),
            (folder(&[("a.json", true, b"[1,2]")]), "file a.json: it was not executable and is now"),
            (
                folder(&[("a.json", false, b"[1,2]"), ("b/run", false, b"")]),
                "file b/run: it was executable and is not now",
            ),
            (
                folder(&[("a.json", false, b"[1,9]"), ("b/run", true, b"#!")]),
                "file a.json: /1: 2 then, 9 now; byte 3 is the first that differs",
            ),
        ] {
            for mode in [ReplayMode::Bits, tolerance(0.0, 1.0)] {
                let Comparison::Diverged(difference) = compare_folders(&then, &now, &mode) else {
                    panic!("{expected}")
                };
                assert_eq!(difference.to_string(), expected);
            }
        }
    }

    #[test]
    fn what_is_within_in_all_files_is_summed_up() {
        let then = folder(&[("a", false, b"[1,2]"), ("b", false, b"[8]"), ("c", false, b"same")]);
        let now = folder(&[("a", false, b"[1.5,2.5]"), ("b", false, b"[9]"), ("c", false, b"same")]);
        let Comparison::Within(found) = compare_folders(&then, &now, &tolerance(0.0, 1.0)) else {
            panic!("all are close")
        };
        assert_eq!(found.numbers, 3);
        let text = "3 numbers differ, by at most 1e0 (file b, /0); relative to what was recorded by at most 5e-1 (file a, /0)";
        assert_eq!(found.to_string(), text);
        let at = |d: Option<crate::Deviation>| d.map(|d| (d.value, d.path.unwrap(), d.place.to_string()));
        assert_eq!(at(found.absolute), Some((1.0, "b".to_owned(), "/0".to_owned())));
        assert_eq!(at(found.relative), Some((0.5, "a".to_owned(), "/0".to_owned())));
    }
}

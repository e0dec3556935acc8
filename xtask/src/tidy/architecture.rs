//! `docs/ARCHITECTURE.md` has one section for each crate and none without a crate, and each section says what must never
//! be true: absences cannot be read from code.

use super::{text_of, Finding, SourceFile};
use crate::workspace::Workspace;

/// The code map.
const PAGE: &str = "docs/ARCHITECTURE.md";
/// How the heading of a crate's section begins.
const HEADING: &str = "### `crates/";

pub(super) fn check_workspace(workspace: &Workspace, files: &[SourceFile]) -> Vec<Finding> {
    let crates = workspace.members.iter().filter_map(|member| member.folder.strip_prefix("crates/"));
    match text_of(files, PAGE) {
        Some(page) => check(&crates.collect::<Vec<_>>(), page),
        None => {
            vec![Finding::new(PAGE, 1, "there is no code map", "write it, with a section for each crate")]
        }
    }
}

fn check(crates: &[&str], page: &str) -> Vec<Finding> {
    let sections = sections(page);
    let mut findings = Vec::new();
    for folder in crates.iter().filter(|folder| !sections.iter().any(|s| s.folder == **folder)) {
        let what = format!("crates/{folder} has no section");
        findings.push(Finding::new(
            PAGE,
            1,
            what,
            format!("{HEADING}{folder}` with an *Invariants* paragraph"),
        ));
    }
    for (index, section) in sections.iter().enumerate() {
        let folder = section.folder;
        let mut refuse = |what: String, instead: &str| {
            findings.push(Finding::new(PAGE, section.line, what, instead));
        };
        if !crates.contains(&folder) {
            refuse(
                format!("there is no crate crates/{folder}"),
                "take the section out, or name the crate's folder",
            );
        }
        if sections[..index].iter().any(|earlier| earlier.folder == folder) {
            refuse(format!("a second section about crates/{folder}"), "join the two");
        }
        if !section.has_invariants {
            let what = format!("the section of crates/{folder} does not say what must never be true");
            refuse(what, "a paragraph that begins with *Invariants*");
        }
    }
    findings
}

struct Section<'a> {
    line: usize,
    folder: &'a str,
    has_invariants: bool,
}

fn sections(page: &str) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let mut inside = false;
    for (index, line) in page.lines().enumerate() {
        if let Some(folder) =
            line.strip_prefix(HEADING).and_then(|rest| rest.split_once('`')).map(|(name, _)| name)
        {
            sections.push(Section { line: index + 1, folder, has_invariants: false });
            inside = true;
        } else if ["# ", "## ", "### "].iter().any(|heading| line.starts_with(heading)) {
            inside = false;
        } else if inside && is_invariants(line) {
            sections.last_mut().expect("inside a section").has_invariants = true;
        }
    }
    sections
}

/// `*Invariants*`, `*Invariants:*` or `*Invariants.*`, with something after it.
fn is_invariants(line: &str) -> bool {
    let Some((mark, rest)) = line.strip_prefix('*').and_then(|line| line.split_once('*')) else {
        return false;
    };
    mark.trim_end_matches([':', '.']) == "Invariants" && rest.chars().any(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# Code map\n### `crates/a`: bytes\nText.\n\n*Invariants*: knows no tasks.\n\n\
                        ### `crates/b`\n*Invariants.* Reads no clock.\n## Beside them\n";

    fn findings(crates: &[&str], page: &str) -> Vec<(usize, String)> {
        check(crates, page).into_iter().map(|f| (f.line, f.what)).collect()
    }

    #[test]
    fn one_section_for_each_crate_passes() {
        assert_eq!(findings(&["a", "b"], GOOD), []);
    }

    #[test]
    fn crates_and_sections_belong_together() {
        assert_eq!(findings(&["a", "b", "c"], GOOD), [(1, "crates/c has no section".to_owned())]);
        assert_eq!(findings(&["a"], GOOD), [(7, "there is no crate crates/b".to_owned())]);
        let twice = GOOD.replace("crates/b", "crates/a");
        assert_eq!(findings(&["a"], &twice), [(7, "a second section about crates/a".to_owned())]);
    }

    #[test]
    fn a_section_without_invariants_is_refused() {
        let unsaid = "the section of crates/b does not say what must never be true".to_owned();
        for bad in ["", "*Invariants*", "Invariants: none", "## *Invariants*: elsewhere"] {
            let page = GOOD.replace("*Invariants.* Reads no clock.", bad);
            assert_eq!(findings(&["a", "b"], &page), [(7, unsaid.clone())], "{bad:?}");
        }
    }
}

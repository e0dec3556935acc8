//! Code and pages name the same schemas with the same versions, and each page about a format is cited by the code that
//! writes or reads it. What a page says of bytes is held against golden vectors by the tests.

use std::collections::BTreeMap;

use super::{line_at, Finding, SourceFile};

/// The pages about bytes on disk, and the one about JSON on standard output.
const FORMATS: &str = "docs/formats/";
const REFERENCE: &str = "docs/reference/";
const INDEX: &str = "docs/formats/README.md";
const SCHEMA_START: &str = "bitproof/";

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let is_page = |file: &&SourceFile| file.path.ends_with(".md") && file.path.starts_with(FORMATS);
    let is_reference = |file: &&SourceFile| file.path.ends_with(".md") && file.path.starts_with(REFERENCE);
    let is_code = |file: &&SourceFile| file.path.ends_with(".rs") && file.path.starts_with("crates/");
    let code: Vec<&SourceFile> = files.iter().filter(is_code).collect();
    let pages: Vec<&SourceFile> = files.iter().filter(is_page).collect();
    let documented: Vec<&SourceFile> =
        pages.iter().copied().chain(files.iter().filter(is_reference)).collect();

    let in_code = named(&code, schemas);
    let in_pages = named(&documented, schemas);
    let mut findings = Vec::new();
    for (schema, (file, line)) in in_code.iter().filter(|(schema, _)| !in_pages.contains_key(*schema)) {
        let instead = format!("say in {FORMATS} or {REFERENCE} what it holds");
        findings.push(Finding::new(file, *line, format!("no page knows the schema {schema}"), instead));
    }
    for (schema, (file, line)) in in_pages.iter().filter(|(schema, _)| !in_code.contains_key(*schema)) {
        let what = format!("no crate writes or reads the schema {schema}");
        findings.push(Finding::new(file, *line, what, "the version that the code has, or nothing"));
    }
    let cited = named(&code, citations);
    for page in pages.iter().filter(|page| page.path != INDEX && !cited.contains_key(&page.path)) {
        let instead = format!("name {} where the code writes or reads it", page.path);
        findings.push(Finding::new(&page.path, 1, "no crate cites this page", instead));
    }
    for (path, (file, line)) in cited.iter().filter(|(path, _)| !pages.iter().any(|page| page.path == **path))
    {
        findings.push(Finding::new(file, *line, format!("there is no {path}"), "the page's name"));
    }
    findings
}

/// What the files name, with the place where each stands first.
fn named(files: &[&SourceFile], find: fn(&str) -> Vec<(usize, String)>) -> BTreeMap<String, (String, usize)> {
    let mut names = BTreeMap::new();
    for file in files {
        for (at, name) in find(&file.text) {
            names.entry(name).or_insert_with(|| (file.path.clone(), line_at(&file.text, at)));
        }
    }
    names
}

/// Every `bitproof/<name>/v<number>`.
fn schemas(text: &str) -> Vec<(usize, String)> {
    let schema = |at: usize| {
        let name = &text[at + SCHEMA_START.len()..];
        let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '-')?;
        let digits = name[end..].strip_prefix("/v")?;
        let count = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        (end > 0 && count > 0).then(|| format!("{SCHEMA_START}{}/v{}", &name[..end], &digits[..count]))
    };
    text.match_indices(SCHEMA_START).filter_map(|(at, _)| Some((at, schema(at)?))).collect()
}

/// Every page that is named.
fn citations(text: &str) -> Vec<(usize, String)> {
    let page = |at: usize| {
        let end = text[at..].find(".md")? + ".md".len();
        let path = &text[at..at + end];
        (!path.contains(char::is_whitespace)).then(|| path.to_owned())
    };
    text.match_indices(FORMATS).filter_map(|(at, _)| Some((at, page(at)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let file =
            |(path, text): &(&str, &str)| SourceFile { path: (*path).to_owned(), text: (*text).to_owned() };
        check(&files.iter().map(file).collect::<Vec<_>>())
            .into_iter()
            .map(|finding| format!("{}:{}: {}", finding.file, finding.line, finding.what))
            .collect()
    }

    const CODE: (&str, &str) = (
        "crates/x/src/lib.rs",
        "//! docs/formats/plan.md is normative.\nconst S: &str = \"bitproof/plan/v1\";\n",
    );
    const PAGE: (&str, &str) = ("docs/formats/plan.md", "# Plan\nSchema `bitproof/plan/v1`.\n");

    #[test]
    fn pages_and_code_that_agree_pass() {
        assert_eq!(found(&[CODE, PAGE, ("docs/formats/README.md", "the index")]), [""; 0]);
        // A crate's folder and a store's path are no schemas.
        assert_eq!(
            schemas("bitproof/heads/ bitproof/x bitproof//v1 bitproof/x/v bitproof/x/v2"),
            [(53, "bitproof/x/v2".to_owned())]
        );
    }

    #[test]
    fn what_only_one_side_knows_is_refused() {
        let newer = ("crates/x/src/lib.rs", "// docs/formats/plan.md\n\"bitproof/plan/v2\"");
        assert_eq!(
            found(&[newer, PAGE]),
            [
                "crates/x/src/lib.rs:2: no page knows the schema bitproof/plan/v2",
                "docs/formats/plan.md:2: no crate writes or reads the schema bitproof/plan/v1"
            ]
        );
    }

    #[test]
    fn citations_and_pages_are_one_to_one() {
        let other = ("crates/x/src/y.rs", "\n// docs/formats/plans.md");
        assert_eq!(found(&[CODE, PAGE, other]), ["crates/x/src/y.rs:2: there is no docs/formats/plans.md"]);
        let uncited = ("docs/formats/note.md", "# Note\n");
        assert_eq!(found(&[CODE, PAGE, uncited]), ["docs/formats/note.md:1: no crate cites this page"]);
    }
}

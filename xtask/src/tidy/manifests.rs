//! Every member takes its lints, edition, licence and dependencies from the workspace, and declares only what it uses.

use super::{line_beginning, text_of, words, Finding, SourceFile};
use crate::workspace::{Edge, Member, Workspace};

pub(super) fn check_workspace(workspace: &Workspace, files: &[SourceFile]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = files.iter().filter_map(|file| check_clippy_toml(&file.path)).collect();
    for member in &workspace.members {
        let path = member.manifest();
        let text = text_of(files, &path).unwrap_or_default();
        findings.extend(check(&path, text));
        findings.extend(check_use(member, text, &sources_of(member, files)));
    }
    findings
}

/// What every member says.
const INHERITED: [(&str, &str, &str); 5] = [
    ("lints", "workspace", "[lints] with workspace = true: a member without it is not linted"),
    ("package", "version.workspace", "version.workspace = true"),
    ("package", "edition.workspace", "edition.workspace = true"),
    ("package", "rust-version.workspace", "rust-version.workspace = true"),
    ("package", "license.workspace", "license.workspace = true"),
];

fn check(path: &str, text: &str) -> Vec<Finding> {
    let entries = entries(text);
    let mut findings = Vec::new();
    for (section, key, instead) in INHERITED {
        let inherited =
            |entry: &Entry<'_>| entry.section == section && entry.key == key && entry.value == "true";
        if !entries.iter().any(inherited) {
            let what = format!(
                "[{section}] does not take {} from the workspace",
                key.trim_end_matches(".workspace")
            );
            findings.push(Finding::new(path, line_beginning(text, &format!("[{section}]")), what, instead));
        }
    }
    for entry in &entries {
        let Some(name) = dependency(entry) else { continue };
        if !takes_from_workspace(entry) {
            let what = format!("the dependency {name} is not taken from the workspace");
            let instead =
                format!("{name}.workspace = true, with its version in the root's [workspace.dependencies]");
            findings.push(Finding::new(path, entry.line, what, instead));
        }
    }
    findings
}

/// The dependency that a line is about.
fn dependency<'a>(entry: &Entry<'a>) -> Option<&'a str> {
    const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
    let is_table = |section: &str| {
        let table = if section.starts_with("target.") { section.rsplit('.').next() } else { Some(section) };
        table.is_some_and(|table| TABLES.contains(&table))
    };
    if is_table(entry.section) {
        return entry.key.split('.').next();
    }
    let (table, name) = entry.section.rsplit_once('.')?;
    is_table(table).then_some(name)
}

/// The line that declares a dependency; 1 if none does.
pub(super) fn declaration(manifest: &str, name: &str) -> usize {
    entries(manifest).iter().find(|entry| dependency(entry) == Some(name)).map_or(1, |entry| entry.line)
}

fn takes_from_workspace(entry: &Entry<'_>) -> bool {
    let inline: String = entry.value.split_whitespace().collect();
    (entry.key.ends_with(".workspace") && entry.value == "true")
        || inline.starts_with("{workspace=true,")
        || inline == "{workspace=true}"
}

fn check_clippy_toml(path: &str) -> Option<Finding> {
    let crate_local =
        path.ends_with("/clippy.toml") || path.ends_with("/.clippy.toml") || path == ".clippy.toml";
    crate_local.then(|| {
        let what = "a clippy.toml beside the root's silently replaces it";
        Finding::new(path, 1, what, "put the setting into the root's clippy.toml")
    })
}

/// `sources` is the text of all Rust files of the member.
fn check_use(member: &Member, manifest: &str, sources: &[&str]) -> Vec<Finding> {
    let unused = |edge: &&Edge| !sources.iter().any(|text| words(text, &edge.ident).next().is_some());
    let finding = |edge: &Edge| {
        let what = format!(
            "{} is declared (a {} dependency), but no source names {}",
            edge.to, edge.kind, edge.ident
        );
        let line = declaration(manifest, &edge.to);
        Finding::new(&member.manifest(), line, what, "take the line out of the manifest")
    };
    member.dependencies.iter().filter(unused).map(finding).collect()
}

fn sources_of<'a>(member: &Member, files: &'a [SourceFile]) -> Vec<&'a str> {
    let folder = format!("{}/", member.folder);
    let own = files.iter().filter(|file| file.path.starts_with(&folder) && file.path.ends_with(".rs"));
    own.map(|file| file.text.as_str()).collect()
}

/// One `key = value` line of a TOML file. Enough for manifests, where what matters stands on one line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) line: usize,
    pub(super) section: &'a str,
    pub(super) key: &'a str,
    pub(super) value: &'a str,
}

pub(super) fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut section = "";
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = without_comment(line).trim();
        if line.starts_with('[') && line.ends_with(']') {
            section = line.trim_matches(['[', ']']).trim();
        } else if let Some((key, value)) = line.split_once('=') {
            found.push(Entry { line: index + 1, section, key: key.trim(), value: value.trim() });
        }
    }
    found
}

/// The line up to a `#` that stands outside quotes.
pub(super) fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' if !quoted => return &line[..at],
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]
name = \"x\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true

[lints]
workspace = true

[dependencies]
serde.workspace = true
clap = { workspace = true, optional = true } # its derive
[target.'cfg(unix)'.dev-dependencies]
tempfile = { workspace = true }
";

    fn lines(text: &str) -> Vec<(usize, String)> {
        check("x/Cargo.toml", text).into_iter().map(|f| (f.line, f.what)).collect()
    }

    #[test]
    fn a_manifest_that_inherits_passes() {
        assert_eq!(lines(GOOD), []);
    }

    #[test]
    fn each_line_that_is_not_inherited_is_refused() {
        for (section, key, _) in INHERITED {
            let bad = GOOD.replacen(&format!("\n{key} = true\n"), "\n", 1);
            let key = key.trim_end_matches(".workspace");
            let found = lines(&bad);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].1, format!("[{section}] does not take {key} from the workspace"));
        }
        let local = GOOD.replace("edition.workspace = true", "edition = \"2021\"");
        assert_eq!(lines(&local).len(), 1);
    }

    #[test]
    fn own_versions_are_refused_in_every_form() {
        let cases = [
            ("serde.workspace = true", "serde = \"1\"", 12),
            ("serde.workspace = true", "serde = { version = \"1\" }", 12),
            ("serde.workspace = true", "serde.path = \"../serde\"", 12),
            ("tempfile = { workspace = true }", "tempfile = \"3\"", 15),
        ];
        for (good, bad, line) in cases {
            let found = lines(&GOOD.replace(good, bad));
            assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [line], "{bad}");
        }
        let table = format!("{GOOD}[dev-dependencies.insta]\nversion = \"1\"\n");
        assert_eq!(lines(&table), [(17, "the dependency insta is not taken from the workspace".to_owned())]);
    }

    #[test]
    fn only_the_root_has_a_clippy_toml() {
        assert_eq!(check_clippy_toml("clippy.toml"), None);
        for path in ["crates/x/clippy.toml", "crates/x/.clippy.toml", ".clippy.toml"] {
            assert!(check_clippy_toml(path).is_some_and(|f| f.file == path), "{path}");
        }
    }

    #[test]
    fn a_dependency_that_no_source_names_is_refused() {
        let edge = |to: &str| Edge {
            from: "x".to_owned(),
            to: to.to_owned(),
            ident: to.replace('-', "_"),
            kind: "normal",
        };
        let member = Member {
            name: "x".to_owned(),
            folder: "crates/x".to_owned(),
            published: true,
            dependencies: vec![edge("serde"), edge("tracing-subscriber")],
        };
        let manifest = "[dependencies]\nserde.workspace = true\ntracing-subscriber.workspace = true\n";
        let used = ["use serde::Serialize;", "fn f() { tracing_subscriber::fmt() }"];
        assert_eq!(check_use(&member, manifest, &used), []);
        assert_eq!(declaration("[dependencies]\nx-y.workspace = true\nx.workspace = true", "x"), 3);
        let found = check_use(&member, manifest, &["use serde_json::Value; tracing_subscriber::fmt()"]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].file.as_str()), (2, "crates/x/Cargo.toml"));
    }
}

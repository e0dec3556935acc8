//! What must not stand in a source file, and the few files that may lift a ban.

use super::rust_code::{attributes, code_only, Attribute};
use super::{line_at, words, Finding, SourceFile};

/// Longer files have a seam.
const MAX_LINES: usize = 800;
/// The files of one instruction set, the one that starts programs, the counting allocator, and peers that have no other interface
/// than pointers: the only ones with unsafe code.
const UNSAFE_PLACES: [&str; 5] = [
    "crates/kernels/src/x86/",
    "crates/kernels/src/arm/",
    "crates/scheduler/src/command/spawn.rs",
    "crates/telemetry/src/allocator.rs",
    "benches/src/peers/products.rs",
];
/// The files that may expect a disallowed method or type, or folders of them: where clocks and the environment are read.
const BANS_LIFTED_IN: [&str; 7] = [
    "crates/core-ledger/src/clock.rs",
    "crates/telemetry/src/clock.rs",
    "crates/kernels/src/isa.rs",
    "crates/cli/src/",
    "xtask/",
    "tests/",
    "benches/",
];
/// Names that say nothing about what a module holds.
const EMPTY_NAMES: [&str; 6] = ["utils", "util", "common", "helpers", "helper", "misc"];
/// Put together here, so that this file does not refuse itself.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/", "home/"), concat!("/", "root/"), concat!("/", "work/"), concat!("/", "Users/")];

pub(super) fn check(file: &SourceFile) -> Vec<Finding> {
    let mut findings = machine_paths(file);
    if file.path.ends_with(".rs") {
        let code = code_only(&file.text);
        findings.extend(unfinished(file, &code));
        findings.extend(unsafe_code(file, &code));
        findings.extend(attributes(&code, &file.text).iter().flat_map(|a| check_attribute(file, a)));
        findings.extend(names(file, &code));
        findings.extend(length(file));
    }
    findings
}

fn machine_paths(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in MACHINE_PATHS {
        for (at, _) in file.text.match_indices(path) {
            // After one of these the slash goes on with a relative path, a variable or an address.
            let goes_on = |c: char| c.is_alphanumeric() || "_-.~}$*>)".contains(c);
            if !file.text[..at].ends_with(goes_on) {
                let what = format!("{path} is a path of one machine");
                let instead = "a path relative to the repository, or one that is passed in";
                findings.push(Finding::new(&file.path, line_at(&file.text, at), what, instead));
            }
        }
    }
    findings
}

fn unfinished(file: &SourceFile, code: &str) -> Vec<Finding> {
    let macros = [
        ("todo", "finish it, or leave the feature out until it works"),
        ("unimplemented", "finish it, or leave the feature out until it works"),
        ("dbg", "tracing::debug!, or nothing"),
    ];
    let found = macros.iter().flat_map(|(name, instead)| {
        let called = words(code, name).filter(|at| code[at + name.len()..].starts_with('!'));
        called.map(move |at| Finding::new(&file.path, line_at(code, at), format!("{name}!"), *instead))
    });
    found.collect()
}

fn unsafe_code(file: &SourceFile, code: &str) -> Vec<Finding> {
    if UNSAFE_PLACES.iter().any(|folder| file.path.starts_with(folder)) {
        return Vec::new();
    }
    let instead = format!("safe code, or a file in {}", UNSAFE_PLACES.join(" or "));
    let found = words(code, "unsafe");
    found.map(|at| Finding::new(&file.path, line_at(code, at), "unsafe code", instead.as_str())).collect()
}

fn check_attribute(file: &SourceFile, attribute: &Attribute<'_>) -> Option<Finding> {
    let refuse = |what: &str, instead: &str| {
        Some(Finding::new(&file.path, line_at(&file.text, attribute.at), what, instead))
    };
    let has = |word: &str| words(attribute.code, word).next().is_some();
    if attribute.code.starts_with("#[ignore") && !attribute.text.contains("cargo ") {
        return refuse(
            "a test that is ignored without saying how to run it",
            "#[ignore = \"why: cargo test …\"]",
        );
    }
    let lifts = (has("allow") || has("expect")) && !attribute.code.starts_with("#[cfg(");
    let lifts_a_ban = has("disallowed_methods") || has("disallowed_types");
    if lifts && lifts_a_ban && !BANS_LIFTED_IN.iter().any(|place| file.path.starts_with(place)) {
        return refuse(
            "a ban of clippy.toml is lifted here",
            "what the ban names as its replacement; the places that may lift one are in xtask/src/tidy/sources.rs",
        );
    }
    if lifts && !has("reason") {
        return refuse("a lint is lifted without a reason", "#[expect(…, reason = \"…\")]");
    }
    None
}

fn names(file: &SourceFile, code: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let name = file.path.rsplit('/').next().unwrap_or_default();
    if name == "mod.rs" {
        findings.push(Finding::new(&file.path, 1, "a mod.rs", "name.rs beside the folder name/"));
    }
    let instead = "the name of what it holds";
    for empty in EMPTY_NAMES {
        if name.strip_suffix(".rs") == Some(empty) {
            findings.push(Finding::new(&file.path, 1, format!("a module named {empty}"), instead));
        }
        let inline = words(code, empty).filter(|at| {
            let is_module = code[..*at].trim_end().ends_with("mod");
            is_module && code[at + empty.len()..].trim_start().starts_with('{')
        });
        findings.extend(inline.map(|at| {
            Finding::new(&file.path, line_at(code, at), format!("a module named {empty}"), instead)
        }));
    }
    findings
}

fn length(file: &SourceFile) -> Option<Finding> {
    let lines = file.text.lines().count();
    let what = format!("{lines} lines, and {MAX_LINES} are the most");
    (lines > MAX_LINES).then(|| Finding::new(&file.path, MAX_LINES + 1, what, "two files, cut at the seam"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str, text: &str) -> Vec<(usize, String)> {
        let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
        check(&file).into_iter().map(|finding| (finding.line, finding.what)).collect()
    }

    /// One refusal, on this line.
    fn assert_refused(path: &str, text: &str, line: usize, what: &str) {
        assert_eq!(refused(path, text), [(line, what.to_owned())], "{path}: {text}");
    }

    fn assert_passes(path: &str, text: &str) {
        assert_eq!(refused(path, text), [], "{path}: {text}");
    }

    const ANY: &str = "crates/x/src/lib.rs";

    #[test]
    fn unfinished_code() {
        assert_refused(ANY, "fn f() {\n    todo!()\n}", 2, "todo!");
        assert_refused(ANY, "unimplemented!(\"later\")", 1, "unimplemented!");
        assert_refused(ANY, "let x = dbg!(y);", 1, "dbg!");
        assert_passes(ANY, "// todo! is refused\nlet s = \"dbg!\"; let todo = 1; todo_list!();");
    }

    #[test]
    fn unsafe_stays_in_its_files() {
        assert_refused(ANY, "\nunsafe { f() }", 2, "unsafe code");
        assert_refused("crates/kernels/src/matmul.rs", "unsafe fn f() {}", 1, "unsafe code");
        assert_passes("crates/kernels/src/x86/avx2.rs", "unsafe { f() }");
        assert_passes("crates/kernels/src/arm/neon.rs", "unsafe { f() }");
        assert_passes(ANY, "#![deny(unsafe_code)]\n// unsafe\n");
    }

    #[test]
    fn ignored_tests_say_how_to_run_them() {
        let what = "a test that is ignored without saying how to run it";
        assert_refused(ANY, "#[test]\n#[ignore]\nfn f() {}", 2, what);
        assert_refused(ANY, "#[ignore = \"slow\"]", 1, what);
        assert_passes(ANY, "#[ignore = \"an hour: cargo test --release -- --ignored exhaustive\"]");
    }

    #[test]
    fn bans_are_lifted_only_where_clocks_and_the_environment_are_read() {
        let lifted = "#[expect(\n    clippy::disallowed_methods,\n    reason = \"the clock\"\n)]\nfn f() {}";
        assert_refused(ANY, lifted, 1, "a ban of clippy.toml is lifted here");
        assert_refused("crates/kernels/src/isa2.rs", lifted, 1, "a ban of clippy.toml is lifted here");
        for place in ["crates/core-ledger/src/clock.rs", "crates/cli/src/context.rs", "xtask/src/main.rs"] {
            assert_passes(place, lifted);
        }
        let types = "#![allow(clippy::disallowed_types, reason = \"speed\")]";
        assert_refused(ANY, types, 1, "a ban of clippy.toml is lifted here");
        assert_passes(ANY, "let x = y.expect(\"disallowed_methods\");");
    }

    #[test]
    fn a_lifted_lint_has_a_reason() {
        assert_refused(ANY, "\n#[allow(dead_code)]", 2, "a lint is lifted without a reason");
        assert_refused(ANY, "#[cfg_attr(test, expect(dead_code))]", 1, "a lint is lifted without a reason");
        assert_passes(ANY, "#[expect(dead_code, reason = \"the layout is the format's\")]");
    }

    #[test]
    fn paths_of_a_machine() {
        for path in MACHINE_PATHS {
            let what = format!("{path} is a path of one machine");
            assert_refused("docs/page.md", &format!("see\n`{path}x`"), 2, &what);
            assert_refused(ANY, &format!("let p = \"{path}x\";"), 1, &what);
            assert_passes(
                "docs/page.md",
                &format!("https://example.org{path} $HOME{path} ~{path} src{path}"),
            );
        }
    }

    #[test]
    fn modules_are_named_for_what_they_hold() {
        assert_refused("crates/x/src/log/mod.rs", "", 1, "a mod.rs");
        assert_refused("crates/x/src/utils.rs", "", 1, "a module named utils");
        assert_refused(ANY, "\nmod helpers {\n}", 2, "a module named helpers");
        assert_passes("crates/x/src/model.rs", "let common = 1; let helpers = [common];");
    }

    #[test]
    fn files_have_an_end() {
        assert_passes(ANY, &"\n".repeat(MAX_LINES));
        assert_refused(ANY, &"\n".repeat(MAX_LINES + 1), MAX_LINES + 1, "801 lines, and 800 are the most");
        assert_passes("docs/page.md", &"\n".repeat(MAX_LINES + 1));
    }
}

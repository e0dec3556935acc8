//! Licences and origins of the dependencies against `deny.toml`, read from `cargo metadata`: so they are checked on every
//! machine, also where cargo-deny is not installed.

use anyhow::{bail, Context as _, Result};
use cargo_metadata::MetadataCommand;

use super::manifests::{entries, without_comment};
use super::{line_at, text_of, Finding, SourceFile};
use crate::workspace::Workspace;

/// The platforms that the project supports; what only others need is not judged.
const PLATFORMS: [&str; 4] =
    ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-apple-darwin", "aarch64-apple-darwin"];
const DENY: &str = "deny.toml";
const LOCK: &str = "Cargo.lock";

pub(super) fn check_workspace(workspace: &Workspace, files: &[SourceFile]) -> Result<Vec<Finding>> {
    let Some(deny) = text_of(files, DENY) else {
        return Ok(vec![Finding::new(
            DENY,
            1,
            "there is no list of licences",
            "[licenses] with allow = […]",
        )]);
    };
    let platforms = PLATFORMS.iter().flat_map(|platform| ["--filter-platform", platform]);
    let options: Vec<String> = platforms.map(str::to_owned).collect();
    let metadata = MetadataCommand::new()
        .current_dir(&workspace.root)
        .other_options(options)
        .exec()
        .context("asking cargo for the dependencies and their licences")?;
    let packages: Vec<Package> = metadata
        .packages
        .into_iter()
        .map(|package| Package {
            name: package.name.to_string(),
            licence: package.license,
            foreign_origin: package.source.filter(|source| !source.is_crates_io()).map(|source| source.repr),
        })
        .collect();
    let lock = text_of(files, LOCK).unwrap_or_default();
    Ok(check(&allowed(deny)?, &packages, lock))
}

struct Package {
    name: String,
    /// An SPDX expression.
    licence: Option<String>,
    /// `None` for members of the workspace and for what crates.io serves.
    foreign_origin: Option<String>,
}

struct Allowed {
    licence: String,
    line: usize,
}

fn check(allowed: &[Allowed], packages: &[Package], lock: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut used = vec![false; allowed.len()];
    for package in packages {
        let line = lock.find(&format!("name = \"{}\"\n", package.name)).map_or(1, |at| line_at(lock, at));
        let mut refuse = |what: String, instead: &str| findings.push(Finding::new(LOCK, line, what, instead));
        if let Some(origin) = &package.foreign_origin {
            refuse(format!("{} comes from {origin}", package.name), "a release on crates.io");
        }
        let Some(licence) = &package.licence else {
            refuse(format!("{} names no licence", package.name), "a crate whose licence is known");
            continue;
        };
        let mut permits = |one: &str| {
            let found = allowed.iter().position(|entry| entry.licence == one);
            found.inspect(|index| used[*index] = true).is_some()
        };
        match Expression::of(licence).permitted(&mut permits) {
            Ok(true) => {}
            Ok(false) => refuse(
                format!("{} has the licence {licence}", package.name),
                "another crate, or the licence in [licenses] allow of deny.toml after reading it",
            ),
            Err(error) => {
                refuse(format!("{} has the licence {licence:?}: {error}", package.name), "an SPDX expression")
            }
        }
    }
    for (entry, _) in allowed.iter().zip(used).filter(|(_, used)| !used) {
        let what = format!("no dependency has the licence {}", entry.licence);
        findings.push(Finding::new(DENY, entry.line, what, "take it out of the list until one needs it"));
    }
    findings
}

/// The array `allow` of `[licenses]`.
fn allowed(deny: &str) -> Result<Vec<Allowed>> {
    let entries = entries(deny);
    let Some(entry) = entries.iter().find(|e| e.section == "licenses" && e.key == "allow") else {
        bail!("{DENY} has no [licenses] with allow = […]");
    };
    let mut found = Vec::new();
    for (index, line) in deny.lines().enumerate().skip(entry.line - 1) {
        let line = without_comment(line);
        let quoted = line.split('"').skip(1).step_by(2);
        found.extend(quoted.map(|licence| Allowed { licence: licence.to_owned(), line: index + 1 }));
        if line.trim_end().ends_with(']') {
            return Ok(found);
        }
    }
    bail!("{DENY}:{}: the list of licences has no end", entry.line)
}

/// An SPDX licence expression, read from the left: `OR` (also written `/`) binds least, then `AND`, then `WITH`.
struct Expression {
    tokens: Vec<String>,
    at: usize,
}

impl Expression {
    fn of(text: &str) -> Expression {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        Expression { tokens: spaced.split_whitespace().map(str::to_owned).collect(), at: 0 }
    }

    /// Whether `permits` says yes to enough of the licences. It is asked about all of them.
    fn permitted(mut self, permits: &mut dyn FnMut(&str) -> bool) -> Result<bool> {
        let permitted = self.alternatives(permits)?;
        match self.next() {
            None => Ok(permitted),
            Some(token) => bail!("{token:?} was not expected"),
        }
    }

    fn alternatives(&mut self, permits: &mut dyn FnMut(&str) -> bool) -> Result<bool> {
        let mut permitted = self.conjunction(permits)?;
        while self.take("OR") {
            permitted |= self.conjunction(permits)?;
        }
        Ok(permitted)
    }

    fn conjunction(&mut self, permits: &mut dyn FnMut(&str) -> bool) -> Result<bool> {
        let mut permitted = self.licence(permits)?;
        while self.take("AND") {
            permitted &= self.licence(permits)?;
        }
        Ok(permitted)
    }

    fn licence(&mut self, permits: &mut dyn FnMut(&str) -> bool) -> Result<bool> {
        if self.take("(") {
            let permitted = self.alternatives(permits)?;
            if !self.take(")") {
                bail!("a bracket is not closed");
            }
            return Ok(permitted);
        }
        let mut name = match self.next() {
            Some(token) if !["OR", "AND", "WITH", ")"].contains(&token.as_str()) => token,
            _ => bail!("a licence is missing"),
        };
        if self.take("WITH") {
            let exception = self.next().context("the exception is missing")?;
            name = format!("{name} WITH {exception}");
        }
        Ok(permits(&name))
    }

    fn next(&mut self) -> Option<String> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn take(&mut self, expected: &str) -> bool {
        let taken = self.tokens.get(self.at).is_some_and(|token| token == expected);
        self.at += usize::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(expression: &str) -> Result<bool> {
        Expression::of(expression).permitted(&mut |one| ["MIT", "Unicode-3.0", "A WITH E"].contains(&one))
    }

    #[test]
    fn expressions() {
        for good in
            ["MIT", "Apache-2.0 OR MIT", "Unlicense/MIT", "(GPL-3.0 OR MIT) AND Unicode-3.0", "A WITH E"]
        {
            assert!(permitted(good).unwrap(), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "A", "MIT WITH E", "MIT AND (GPL-3.0 OR BSD-3-Clause)"] {
            assert!(!permitted(bad).unwrap(), "{bad}");
        }
        for broken in ["", "MIT OR", "(MIT", "MIT MIT", "WITH E", "MIT)"] {
            assert!(permitted(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_list_of_deny_toml() {
        let text = "[advisories]\nignore = [\"X\"]\n[licenses]\nallow = [\n  \"MIT\", # \"not this\"\n  \"BSD\",\n]\n[bans]\n";
        let found: Vec<_> = allowed(text).unwrap().into_iter().map(|a| (a.licence, a.line)).collect();
        assert_eq!(found, [("MIT".to_owned(), 5), ("BSD".to_owned(), 6)]);
        let one_line = allowed("[licenses]\nallow = [\"MIT\"]\n").unwrap();
        assert_eq!((one_line.len(), one_line[0].line), (1, 2));
        assert!(allowed("[licenses]\nallow = [\n\"MIT\",\n").is_err());
        assert!(allowed("[bans]\nallow = [\"MIT\"]").is_err());
    }

    #[test]
    fn licences_and_origins() {
        let package = |name: &str, licence: Option<&str>, origin: Option<&str>| Package {
            name: name.to_owned(),
            licence: licence.map(str::to_owned),
            foreign_origin: origin.map(str::to_owned),
        };
        let allowed = |names: &[&str]| -> Vec<Allowed> {
            names.iter().zip(5..).map(|(name, line)| Allowed { licence: (*name).to_owned(), line }).collect()
        };
        let lock = "[[package]]\nname = \"own\"\n\n[[package]]\nname = \"far\"\n";
        let good = [package("own", Some("MIT"), None), package("far", Some("MIT OR GPL-3.0"), None)];
        assert_eq!(check(&allowed(&["MIT"]), &good, lock), []);

        let bad = |packages: &[Package], names: &[&str]| -> Vec<String> {
            let found = check(&allowed(names), packages, lock);
            found.iter().map(|f| format!("{}:{}: {}", f.file, f.line, f.what)).collect()
        };
        let gpl = [package("own", Some("MIT"), None), package("far", Some("GPL-3.0"), None)];
        assert_eq!(bad(&gpl, &["MIT"]), ["Cargo.lock:5: far has the licence GPL-3.0"]);
        let unnamed = [package("own", Some("MIT"), None), package("far", None, None)];
        assert_eq!(bad(&unnamed, &["MIT"]), ["Cargo.lock:5: far names no licence"]);
        let git = [package("far", Some("MIT"), Some("git+https://example.org/far"))];
        assert_eq!(bad(&git, &["MIT"]), ["Cargo.lock:5: far comes from git+https://example.org/far"]);
        assert_eq!(bad(&good, &["MIT", "ISC"]), ["deny.toml:6: no dependency has the licence ISC"]);
    }
}

//! What a verification checked and found.

use std::fmt;

use serde_json::{json, Value};

/// What is to be verified. The audit log always is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// One run, by name or selector.
    Run(String),
    /// Every run and every object.
    All,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; verification still holds.
    Note,
    /// Evidence is not what was signed.
    Error,
}

impl Severity {
    /// `note` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Error => "error",
        }
    }
}

/// One thing that verification has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// How grave it is.
    pub severity: Severity,
    /// The file, relative to the store.
    pub path: String,
    /// Where in the file, as near as the evidence tells.
    pub offset: Option<u64>,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub got: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}: expected {}, got {}", self.check, self.expected, self.got)
    }
}

/// What was verified and what was found.
#[derive(Debug, Clone)]
pub struct VerifyReport {
    /// The runs that were verified.
    pub runs: Vec<String>,
    /// How many bytes were hashed.
    pub bytes_hashed: u64,
    /// How many files and objects were hashed.
    pub files_hashed: u64,
    /// The size of the audit log under its signed head.
    pub tree_size: u64,
    /// The root of the audit log in base64; empty when there is no valid head.
    pub tree_root: String,
    /// The key that signed the head, in its text form; empty when there is no valid head.
    pub signed_by: String,
    /// What is wrong or worth knowing.
    pub findings: Vec<Finding>,
    /// Files that no run and no event reaches; only looked for with [`Scope::All`].
    pub unreferenced: Vec<String>,
    /// What the store alone cannot show.
    pub not_provable_here: Vec<String>,
}

impl VerifyReport {
    /// Whether everything that was checked holds.
    pub fn ok(&self) -> bool {
        self.findings.iter().all(|f| f.severity < Severity::Error)
    }

    /// The report as it is printed with `--json` and recorded with `--record`: `bitproof/verify/v1`.
    pub fn to_json(&self) -> Value {
        let finding = |f: &Finding| {
            json!({ "check": f.check, "severity": f.severity.name(), "path": f.path, "offset": f.offset,
                    "expected": f.expected, "got": f.got, "hint": f.hint })
        };
        json!({
            "schema": "bitproof/verify/v1",
            "ok": self.ok(), "runs": self.runs,
            "bytes_hashed": self.bytes_hashed, "files_hashed": self.files_hashed,
            "tree_size": self.tree_size, "tree_root": self.tree_root, "signed_by": self.signed_by,
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
            "unreferenced": self.unreferenced, "not_provable_here": self.not_provable_here,
        })
    }
}

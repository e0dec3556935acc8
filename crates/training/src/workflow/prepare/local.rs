//! `bitproof.local.toml`: where data and tools lie on this machine. It is not committed, and nothing of it is recorded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::workflow::WorkflowError;

const FILE: &str = "bitproof.local.toml";

/// Paths of this machine, relative to the pipeline's folder or absolute.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Local {
    /// Data inputs by name.
    pub(super) data: BTreeMap<String, PathBuf>,
    /// Tools by name.
    pub(super) tools: BTreeMap<String, PathBuf>,
}

impl Local {
    /// Reads the file in `folder`; empty where there is none.
    pub(super) fn read(folder: &Path) -> Result<Self, WorkflowError> {
        let path = folder.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => {
                let hint = "correct its permissions, or remove it".to_owned();
                return Err(WorkflowError::Unreadable { place: String::new(), path, source, hint });
            }
        };
        let mut local: Self = toml::from_str(&text).map_err(|source| WorkflowError::Local {
            path: path.clone(),
            reason: source.to_string().trim_end().to_owned(),
        })?;
        local.data.values_mut().chain(local.tools.values_mut()).for_each(|p| *p = folder.join(&*p));
        Ok(local)
    }
}

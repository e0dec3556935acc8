//! The members of the workspace, as `cargo metadata` tells.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use cargo_metadata::{Dependency, DependencyKind, MetadataCommand};

/// The workspace around the current folder.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// Sorted by name.
    pub(crate) members: Vec<Member>,
}

/// A package of the workspace.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Relative to the root, with `/`: `crates/audit`.
    pub(crate) folder: String,
    /// Whether `publish = false` is absent.
    pub(crate) published: bool,
    pub(crate) dependencies: Vec<Edge>,
}

/// What one member declares about one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    /// The name that sources use.
    pub(crate) ident: String,
    pub(crate) kind: &'static str,
}

impl Workspace {
    /// Reads the manifests; needs no network.
    pub(crate) fn load() -> Result<Workspace> {
        let metadata =
            MetadataCommand::new().no_deps().exec().context("reading the workspace's manifests")?;
        let root = metadata.workspace_root.into_std_path_buf();
        let mut members = Vec::new();
        for package in metadata.packages {
            let folder = package.manifest_path.parent().context("a manifest lies in a folder")?;
            let dependencies = package.dependencies.iter().map(|d| edge(&package.name, d)).collect();
            members.push(Member {
                folder: relative(&root, folder.as_std_path())?,
                published: package.publish.as_ref().is_none_or(|registries| !registries.is_empty()),
                dependencies,
                name: package.name.to_string(),
            });
        }
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Workspace { root, target: metadata.target_directory.into_std_path_buf(), members })
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

impl Member {
    /// The manifest's path, relative to the root.
    pub(crate) fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.folder)
    }
}

/// `path` as seen from `root`, with `/`.
pub(crate) fn relative(root: &Path, path: &Path) -> Result<String> {
    let path =
        path.strip_prefix(root).with_context(|| format!("{} is outside the workspace", path.display()))?;
    Ok(path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"))
}

fn edge(from: &str, dependency: &Dependency) -> Edge {
    let ident = dependency.rename.as_ref().unwrap_or(&dependency.name).replace('-', "_");
    let kind = match dependency.kind {
        DependencyKind::Development => "dev",
        DependencyKind::Build => "build",
        _ => "normal",
    };
    Edge { from: from.to_owned(), to: dependency.name.clone(), ident, kind }
}

//! The packages of a workspace, what they depend on, and where their sources begin: what `cargo metadata` tells.

use crate::modules::{Target, TargetKind};
use serde_json::Value;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a dependency is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyKind {
    /// What is shipped, or its build script.
    Normal,
    /// Tests, benchmarks, examples.
    Development,
}

/// One line of a manifest's dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The package.
    pub name: String,
    /// What it is for.
    pub kind: DependencyKind,
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// The folder of its manifest.
    pub folder: PathBuf,
    /// What it depends on.
    pub dependencies: Vec<Dependency>,
    /// What is built of it.
    pub targets: Vec<Target>,
}

/// The workspace cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// No cargo.
    #[error("cargo metadata does not start: {0}")]
    Start(#[from] io::Error),
    /// It failed.
    #[error("cargo metadata for {manifest}: {text}")]
    Cargo {
        /// Of which manifest.
        manifest: PathBuf,
        /// What it wrote.
        text: String,
    },
    /// Something else than it promises.
    #[error("cargo metadata: {0}")]
    Json(#[from] serde_json::Error),
}

/// The members of the workspace of a manifest.
pub fn read_workspace(manifest: &Path) -> Result<Vec<Package>, WorkspaceError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    // Without dependencies nothing is resolved: no lock file, no registry.
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path"])
        .arg(manifest)
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(WorkspaceError::Cargo { manifest: manifest.to_owned(), text });
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(list(&metadata["packages"]).map(package).collect())
}

fn package(value: &Value) -> Package {
    let folder = Path::new(text(&value["manifest_path"])).parent().unwrap_or(Path::new("")).to_owned();
    Package {
        name: text(&value["name"]).to_owned(),
        folder,
        dependencies: list(&value["dependencies"]).map(dependency).collect(),
        targets: list(&value["targets"]).map(target).collect(),
    }
}

fn dependency(value: &Value) -> Dependency {
    let development = value["kind"] == "dev";
    let kind = if development { DependencyKind::Development } else { DependencyKind::Normal };
    Dependency { name: text(&value["name"]).to_owned(), kind }
}

fn target(value: &Value) -> Target {
    let is = |kinds: &[&str]| list(&value["kind"]).any(|kind| kinds.contains(&text(kind)));
    let kind = if is(&["test", "bench", "example"]) {
        TargetKind::Development
    } else if is(&["custom-build"]) {
        TargetKind::Build
    } else {
        TargetKind::Shipped
    };
    Target { root: text(&value["src_path"]).into(), kind }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

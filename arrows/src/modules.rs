//! The modules of one target: from its root file along every `mod`, by the compiler's rules of where a module's file lies.

use crate::names::{self, Child, Names};
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use syn::ext::IdentExt;
use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta};

/// What a target is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    /// A library or a binary: what is shipped.
    Shipped,
    /// A test, benchmark or example: may use development dependencies.
    Development,
    /// A build script.
    Build,
}

/// What is compiled as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its first file.
    pub root: PathBuf,
    /// What it is built for.
    pub kind: TargetKind,
}

/// A source that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not there, or not readable.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No Rust.
    #[error("{path}: {error}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        error: syn::Error,
    },
}

/// Index of a module in [`Modules`].
pub(crate) type Id = usize;

/// One module.
pub(crate) struct Module {
    pub file: PathBuf,
    pub parent: Option<Id>,
    /// By name; several where a module has a file for each of some configurations.
    pub children: BTreeMap<String, Vec<Id>>,
    pub names: Names,
    /// Only there when tests are built.
    pub test: bool,
}

/// All modules of a target; the root is the first.
pub(crate) struct Modules(pub Vec<Module>);

/// Gives the text of a file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

/// Where a module's text lies, and where the files of its modules do.
struct Place {
    file: PathBuf,
    /// The folder for `mod name;`.
    folder: PathBuf,
    /// The folder for `#[path]`.
    beside: PathBuf,
}

impl Modules {
    pub(crate) fn read(root: &Path, read: ReadFile<'_>) -> Result<Self, ReadError> {
        let mut modules = Self(Vec::new());
        modules.file(root.to_owned(), folder_of(root), None, false, read)?;
        Ok(modules)
    }

    fn file(
        &mut self,
        path: PathBuf,
        folder: PathBuf,
        parent: Option<Id>,
        test: bool,
        read: ReadFile<'_>,
    ) -> Result<Id, ReadError> {
        let text = read(&path).map_err(|error| ReadError::Io { path: path.clone(), error })?;
        let parsed =
            syn::parse_file(&text).map_err(|error| ReadError::Syntax { path: path.clone(), error })?;
        let test = test || names::only_in_tests(&parsed.attrs);
        let beside = folder_of(&path);
        self.module(&parsed.items, &Place { file: path, folder, beside }, parent, test, read)
    }

    fn module(
        &mut self,
        items: &[Item],
        place: &Place,
        parent: Option<Id>,
        test: bool,
        read: ReadFile<'_>,
    ) -> Result<Id, ReadError> {
        let (names, children) = names::read(items);
        let id = self.0.len();
        self.0.push(Module { file: place.file.clone(), parent, children: BTreeMap::new(), names, test });
        for child in children {
            let name = child.item.ident.to_string();
            let module = self.child(&child, place, id, test || child.test, read)?;
            self.0[id].children.entry(name).or_default().push(module);
        }
        Ok(id)
    }

    fn child(
        &mut self,
        child: &Child<'_>,
        place: &Place,
        parent: Id,
        test: bool,
        read: ReadFile<'_>,
    ) -> Result<Id, ReadError> {
        let name = child.item.ident.unraw().to_string();
        if let Some((_, items)) = &child.item.content {
            let folder = place.folder.join(&name);
            let inside = Place { file: place.file.clone(), beside: folder.clone(), folder };
            return self.module(items, &inside, Some(parent), test, read);
        }
        if let Some(path) = path_attribute(&child.item.attrs) {
            let path = normal(&place.beside.join(path));
            let folder = folder_of(&path);
            return self.file(path, folder, Some(parent), test, read);
        }
        let (folder, flat) = (place.folder.join(&name), place.folder.join(format!("{name}.rs")));
        match self.file(flat, folder.clone(), Some(parent), test, read) {
            Err(ReadError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                self.file(folder.join("mod.rs"), folder, Some(parent), test, read)
            }
            other => other,
        }
    }
}

/// The folder that a file lies in.
fn folder_of(file: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).to_owned()
}

/// The file of `#[path = "…"]`.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    })
}

/// The path without `..`, so that a file has one name.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if normal.file_name().is_some() => {
                normal.pop();
            }
            part => normal.push(part),
        }
    }
    normal
}

//! From a name in one module to the file that defines it, through imports and re-exports.

use crate::circles::Arrow;
use crate::modules::{Id, Modules, ReadError, ReadFile, Target, TargetKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Module(Id),
    /// An item, by the module that defines it.
    Item(Id),
    /// Perhaps another crate: the path begins with a name that nothing here has.
    Outside(String),
}

/// A file that names another crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CrateUse {
    /// The file.
    pub file: PathBuf,
    /// The other crate, as code spells it.
    pub name: String,
    /// Only in tests, benchmarks or examples.
    pub development: bool,
}

/// Names that are being looked for, so that imports in a ring end.
type Seen = Vec<(Id, String)>;

impl Modules {
    /// Follows a path from a module. Several ends where a name has a meaning for each of some configurations.
    fn follow(&self, from: Id, path: &[String], seen: &mut Seen) -> Vec<Found> {
        let Some((first, mut rest)) = path.split_first() else { return Vec::new() };
        let parent = |module: Id| Vec::from_iter(self.0[module].parent.map(Found::Module));
        let mut ends = match first.as_str() {
            "" => return Vec::from_iter(rest.first().cloned().map(Found::Outside)),
            "Self" => return Vec::new(),
            "crate" => vec![Found::Module(0)],
            "self" => vec![Found::Module(from)],
            "super" => parent(from),
            name => match self.look(from, name, rest.is_empty(), seen) {
                found if found.is_empty() => vec![Found::Outside(name.to_owned())],
                found => found,
            },
        };
        while let Some((name, left)) = rest.split_first() {
            let step = |end| match (end, name.as_str()) {
                (Found::Module(module), "super") => parent(module),
                (Found::Module(module), "self") => vec![Found::Module(module)],
                (Found::Module(module), name) => match self.look(module, name, left.is_empty(), seen) {
                    found if found.is_empty() => self.unknown(module, seen),
                    found => found,
                },
                (end, _) => vec![end],
            };
            ends = ends.into_iter().flat_map(step).collect();
            rest = left;
        }
        ends
    }

    /// What a name means in a module; as the last name of a path it is an item rather than a module.
    fn look(&self, module: Id, name: &str, last: bool, seen: &mut Seen) -> Vec<Found> {
        let key = (module, name.to_owned());
        if seen.contains(&key) {
            return Vec::new();
        }
        seen.push(key);
        let found = self.look_once(module, name, last, seen);
        seen.pop();
        found
    }

    fn look_once(&self, module: Id, name: &str, last: bool, seen: &mut Seen) -> Vec<Found> {
        let here = &self.0[module];
        let children = || here.children.get(name).into_iter().flatten().copied().map(Found::Module);
        if !last && here.children.contains_key(name) {
            return children().collect();
        }
        if here.names.items.contains(name) {
            return vec![Found::Item(module)];
        }
        let imports = here.names.imports.iter().filter(|import| import.name.as_deref() == Some(name));
        let mut found: Vec<_> = imports.flat_map(|import| self.follow(module, &import.path, seen)).collect();
        found.extend(children());
        if found.is_empty() {
            let globs = here.names.globs.iter().flat_map(|path| self.follow(module, path, seen));
            for glob in globs.collect::<Vec<_>>() {
                if let Found::Module(other) = glob {
                    found.extend(self.look(other, name, last, seen));
                }
            }
        }
        found
    }

    /// Where a name may come from that is not found in a module: from an enum or another crate all of whose names it imports; else a
    /// macro made it there.
    fn unknown(&self, module: Id, seen: &mut Seen) -> Vec<Found> {
        let key = (module, "*".to_owned());
        if seen.contains(&key) {
            return Vec::new();
        }
        seen.push(key);
        let globs = self.0[module].names.globs.iter().flat_map(|path| self.follow(module, path, seen));
        let beyond: Vec<_> = globs.filter(|found| !matches!(found, Found::Module(_))).collect();
        seen.pop();
        if beyond.is_empty() { vec![Found::Item(module)] } else { beyond }
    }

    /// What the code of a module uses, each with the path that says so.
    fn used(&self, module: Id) -> impl Iterator<Item = (Found, &[String])> {
        let names = &self.0[module].names;
        let imports = names.imports.iter().filter(|import| !import.handed_on).map(|import| &import.path);
        // A single name that nothing here has is a local one, or the language's.
        let is_local = |found: &Found, path: &[String]| matches!(found, Found::Outside(_)) && path.len() == 1;
        let imported = imports.flat_map(move |path| self.ends(module, path));
        let named = names.paths.iter().flat_map(move |path| self.ends(module, path));
        imported.chain(named.filter(move |(found, path)| !is_local(found, path)))
    }

    fn ends<'a>(
        &self,
        module: Id,
        path: &'a [String],
    ) -> impl Iterator<Item = (Found, &'a [String])> + use<'a> {
        self.follow(module, path, &mut Vec::new()).into_iter().map(move |found| (found, path))
    }
}

/// Every arrow from a file to another of the same target; tests inside files are left out.
pub fn arrows_of(target: &Target, read: ReadFile<'_>) -> Result<Vec<Arrow>, ReadError> {
    let modules = Modules::read(&target.root, read)?;
    let mut arrows = BTreeMap::new();
    for (id, module) in modules.0.iter().enumerate().filter(|(_, module)| !module.test) {
        for (found, path) in modules.used(id) {
            let Found::Item(of) = found else { continue };
            let to = &modules.0[of];
            if to.file != module.file {
                arrows.entry((module.file.clone(), to.file.clone())).or_insert_with(|| path.join("::"));
            }
        }
    }
    Ok(arrows.into_iter().map(|((from, to), path)| Arrow { from, to, path }).collect())
}

/// Every crate that a target's files name, known or not.
pub fn crates_named(target: &Target, read: ReadFile<'_>) -> Result<BTreeSet<CrateUse>, ReadError> {
    let modules = Modules::read(&target.root, read)?;
    let mut uses = BTreeSet::new();
    for (id, module) in modules.0.iter().enumerate() {
        let handed_on = module.names.imports.iter().filter(|import| import.handed_on);
        let handed_on = handed_on.map(|import| &import.path).chain(&module.names.globs);
        let handed_on = handed_on.flat_map(|path| modules.ends(id, path));
        for (found, _) in modules.used(id).chain(handed_on) {
            if let Found::Outside(name) = found {
                let development = module.test || target.kind == TargetKind::Development;
                uses.insert(CrateUse { file: module.file.clone(), name, development });
            }
        }
    }
    Ok(uses)
}

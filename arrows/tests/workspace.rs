//! The workspace's own sources and manifests: arrows point downwards only.

use arrows::{
    Arrow, DependencyKind, Package, SEATS, arrows_of, circles_among, crates_named, is_in_circle,
    read_workspace, refusal,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file that others use although it uses them, itself or by way of others.
struct Known {
    file: &'static str,
    /// In `folder`, without `.rs`.
    used_by: &'static [&'static str],
    folder: &'static str,
    reason: &'static str,
}

/// Circles that are still to be broken: what both files need goes into one of its own. None is to be added.
const KNOWN: &[Known] = &[
];

impl Known {
    /// The arrows, from and to.
    fn arrows(&self) -> impl Iterator<Item = (PathBuf, PathBuf)> {
        let from = |name: &&str| PathBuf::from(format!("{}{name}.rs", self.folder));
        self.used_by.iter().map(move |name| (from(name), PathBuf::from(self.file)))
    }
}

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the crate lies in the repository")
}

/// All crates; those of `fuzz` are a workspace of their own.
fn packages() -> Vec<Package> {
    let manifests = [root().join("Cargo.toml"), root().join("fuzz/Cargo.toml")];
    manifests.iter().flat_map(|manifest| read_workspace(manifest).expect("cargo lists them")).collect()
}

/// A path as the repository names it.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// Arrows among the files of each target, with files as the repository names them.
fn arrows_by_target() -> Vec<Vec<Arrow>> {
    let packages = packages();
    let targets = packages.iter().flat_map(|package| &package.targets);
    let relative = |arrow: Arrow| {
        let (from, to) = (shown(&arrow.from).into(), shown(&arrow.to).into());
        Arrow { from, to, path: arrow.path }
    };
    targets
        .map(|target| {
            let arrows = arrows_of(target, &|path| fs::read_to_string(path)).expect("the sources compile");
            arrows.into_iter().map(relative).collect()
        })
        .collect()
}

fn is_known(arrow: &Arrow) -> bool {
    KNOWN.iter().flat_map(Known::arrows).any(|(from, to)| arrow.from == from && arrow.to == to)
}

#[test]
fn no_files_import_each_other() {
    let mut circles = BTreeSet::new();
    for arrows in arrows_by_target() {
        let arrows: Vec<_> = arrows.into_iter().filter(|arrow| !is_known(arrow)).collect();
        circles.extend(circles_among(&arrows).iter().map(ToString::to_string));
    }
    let circles = Vec::from_iter(circles);
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn known_circles_are_still_there_and_only_in_roles() {
    let targets = arrows_by_target();
    let mut gone = Vec::new();
    for known in KNOWN {
        assert!(known.file.starts_with("roles/"), "{}: elsewhere there are no circles", known.file);
        for (from, to) in known.arrows() {
            if !targets.iter().any(|arrows| is_in_circle(arrows, &from, &to)) {
                gone.push(format!("{} and {} ({})", from.display(), to.display(), known.reason));
            }
        }
    }
    assert!(gone.is_empty(), "in no circle any more, so strike them from KNOWN:\n{}", gone.join("\n"));
}

#[test]
fn crates_stand_on_what_is_below_them() {
    let packages = packages();
    let ours: Vec<_> = packages.iter().map(|package| package.name.clone()).collect();
    let mut wrong = BTreeSet::new();
    for package in &packages {
        for dependency in &package.dependencies {
            let in_tests = dependency.kind == DependencyKind::Development;
            let reason = refusal(&package.name, &dependency.name, in_tests, &ours);
            wrong.extend(
                reason.map(|reason| format!("{}: {reason}", shown(&package.folder.join("Cargo.toml")))),
            );
        }
        for target in &package.targets {
            for named in crates_named(target, &|path| fs::read_to_string(path)).expect("the sources compile")
            {
                let reason = refusal(&package.name, &named.name, named.development, &ours);
                wrong.extend(reason.map(|reason| format!("{}: {reason}", shown(&named.file))));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", Vec::from_iter(wrong).join("\n"));
}

#[test]
fn every_crate_has_a_seat_and_every_seat_a_crate() {
    let packages: BTreeSet<_> = packages().into_iter().map(|package| package.name).collect();
    let seats: BTreeSet<_> = SEATS.iter().map(|seat| seat.name.to_owned()).collect();
    assert_eq!(packages, seats);
}

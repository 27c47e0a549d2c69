//! The workspace's own sources and manifests: arrows point downwards only.

use arrows::{
    Arrow, DependencyKind, Package, SEATS, arrows_of, circles_among, crates_named, read_workspace, refusal,
};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

#[test]
fn no_files_import_each_other() {
    let mut circles = BTreeSet::new();
    for arrows in arrows_by_target() {
        circles.extend(circles_among(&arrows).iter().map(ToString::to_string));
    }
    let circles = Vec::from_iter(circles);
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
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

//! What the reader finds in sources that are planted for it.

use arrows::{Target, TargetKind, arrows_of, circles_among, crates_named, refusal};
use std::io;
use std::path::Path;

/// Reads one of these files.
fn reader(files: &[(&str, &str)]) -> impl Fn(&Path) -> io::Result<String> {
    |path: &Path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn target(kind: TargetKind) -> Target {
    Target { root: "src/lib.rs".into(), kind }
}

/// `from > to` for every arrow.
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    let arrows = arrows_of(&target(TargetKind::Shipped), &reader(files)).expect("they are Rust");
    let short = |path: &Path| path.strip_prefix("src").unwrap_or(path).display().to_string();
    arrows.iter().map(|arrow| format!("{} > {}", short(&arrow.from), short(&arrow.to))).collect()
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let arrows = arrows_of(&target(TargetKind::Shipped), &reader(files)).expect("they are Rust");
    circles_among(&arrows).iter().map(ToString::to_string).collect()
}

/// Crates that are named; in tests alone with a mark.
fn crates(files: &[(&str, &str)], kind: TargetKind) -> Vec<String> {
    let named = crates_named(&target(kind), &reader(files)).expect("they are Rust");
    named.into_iter().map(|named| named.name + if named.development { "?" } else { "" }).collect()
}

#[test]
fn two_files_that_import_each_other_are_a_circle() {
    let files = [
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "use crate::b::B; pub struct A(B);"),
        ("src/b.rs", "pub struct B; fn f() { let _ = super::a::A::new(); }"),
    ];
    let found = circles(&files);
    assert_eq!(found, ["src/a.rs uses crate::b::B of src/b.rs, src/b.rs uses super::a::A::new of src/a.rs"]);
}

#[test]
fn a_longer_circle_is_one_too() {
    let files = [
        ("src/lib.rs", "mod a; mod b; mod c;"),
        ("src/a.rs", "use crate::b::B; pub struct A;"),
        ("src/b.rs", "use crate::c::C; pub struct B;"),
        ("src/c.rs", "use crate::a::A; pub struct C;"),
    ];
    let found = circles(&files);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].matches(" uses ").count(), 3);
}

#[test]
fn a_child_that_uses_what_its_parent_defines_closes_a_circle() {
    let files = [
        ("src/lib.rs", "mod child; pub struct Shared; fn f() { child::run() }"),
        ("src/child.rs", "use super::Shared; pub fn run() { Shared; }"),
    ];
    assert_eq!(circles(&files).len(), 1);
    let declared_alone = [("src/lib.rs", "mod child; pub struct Shared;"), files[1]];
    assert_eq!(arrows(&declared_alone), ["child.rs > lib.rs"]);
}

#[test]
fn a_facade_that_hands_on_is_no_end_of_an_arrow() {
    let files = [
        ("src/lib.rs", "mod a; mod b; pub use a::A; pub(crate) use b::{B, b};"),
        ("src/a.rs", "pub struct A;"),
        ("src/b.rs", "use crate::A; pub struct B(A); pub fn b() {}"),
    ];
    assert_eq!(arrows(&files), ["b.rs > a.rs"]);
}

#[test]
fn a_facade_that_uses_what_it_hands_on_is_one() {
    let files = [
        ("src/lib.rs", "mod a; pub use a::A; pub struct Shared; pub fn f() -> A { A }"),
        ("src/a.rs", "use super::Shared; pub struct A;"),
    ];
    assert_eq!(circles(&files).len(), 1);
}

#[test]
fn re_exports_are_followed_through_aliases_and_globs() {
    let files = [
        ("src/lib.rs", "mod a; mod facade; mod c; mod d;"),
        ("src/a.rs", "pub struct A; pub enum Kind { One }"),
        ("src/facade.rs", "pub use crate::a::A as Renamed; pub use super::a::*;"),
        ("src/c.rs", "use crate::facade::Renamed as Again; fn f(_: Again) {}"),
        ("src/d.rs", "use crate::facade as door; fn f() { door::Kind::One; }"),
    ];
    assert_eq!(arrows(&files), ["c.rs > a.rs", "d.rs > a.rs"]);
}

#[test]
fn grouped_uses_lead_to_each_of_their_names() {
    let files = [
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", "use crate::{b::{self, B, c::{C as D, e}}, b::c::f::F as _};"),
        ("src/b/mod.rs", "pub mod c; pub struct B;"),
        ("src/b/c.rs", "pub mod f; pub struct C; pub fn e() {}"),
        ("src/b/c/f.rs", "pub trait F {}"),
    ];
    assert_eq!(arrows(&files), ["a.rs > b/c/f.rs", "a.rs > b/c.rs", "a.rs > b/mod.rs"]);
}

#[test]
fn a_name_of_a_module_is_no_arrow_before_something_in_it_is_used() {
    let files = [
        ("src/lib.rs", "mod a; mod b; pub struct S;"),
        ("src/a.rs", "use crate::b; use super::S;"),
        ("src/b.rs", "pub fn f() {}"),
    ];
    assert_eq!(arrows(&files), ["a.rs > lib.rs"]);
    let used = [files[0], ("src/a.rs", "use crate::b; fn g() { b::f() }"), files[2]];
    assert_eq!(arrows(&used), ["a.rs > b.rs"]);
}

#[test]
fn tests_may_look_anywhere() {
    let in_tests = [
        "#[cfg(test)] mod tests { use super::*; use crate::b::B; }",
        "#[cfg(all(test, not(loom)))] mod tests { use crate::b::B; }",
        "#[cfg(any(test))] use crate::b::B;",
        "impl A { #[cfg(test)] fn f() { crate::b::f() } }",
        "#[test] fn f() { crate::b::f() }",
    ];
    let files = |text| [("src/lib.rs", "mod a; mod b;"), ("src/a.rs", text), ("src/b.rs", "pub struct B;")];
    for text in in_tests {
        assert!(arrows(&files(text)).is_empty(), "{text}");
    }
    for text in ["#[cfg(not(test))] use crate::b::B;", "#[cfg(any(test, unix))] mod c { use crate::b::B; }"] {
        assert_eq!(arrows(&files(text)), ["a.rs > b.rs"], "{text}");
    }
    let file_of_its_own = [
        ("src/lib.rs", "#[cfg(test)] mod tests; mod b;"),
        ("src/tests.rs", "mod inner; use crate::b::B;"),
        ("src/tests/inner.rs", "use crate::b::B;"),
        ("src/b.rs", "pub struct B;"),
    ];
    assert!(arrows(&file_of_its_own).is_empty());
}

#[test]
fn paths_in_macros_count() {
    let files = [
        ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("src/a.rs", "fn f(b: u8) { assert!(b == crate::b::LIMIT, \"{}\", x.b::<u8>()); }"),
        ("src/b.rs", "pub const LIMIT: u8 = 1; macro_rules! m { ($x:expr) => { $crate::c::C } }"),
        ("src/c.rs", "use crate::d::D; pub struct C; fn f() { vec![D] }"),
        ("src/d.rs", "made! { pub struct D; }"),
    ];
    assert_eq!(arrows(&files), ["a.rs > b.rs", "b.rs > c.rs", "c.rs > d.rs"]);
}

#[test]
fn files_lie_where_the_compiler_looks_for_them() {
    let files = [
        ("src/lib.rs", "mod outer { mod inner; } #[path = \"../shared/other.rs\"] mod odd; pub struct S;"),
        ("src/outer/inner.rs", "use super::super::odd::deep::O;"),
        ("shared/other.rs", "pub mod deep;"),
        ("shared/deep.rs", "pub struct O;"),
    ];
    let arrows = arrows_of(&target(TargetKind::Shipped), &reader(&files)).unwrap();
    let [arrow] = &arrows[..] else { panic!("{arrows:?}") };
    assert_eq!(
        (arrow.from.as_path(), arrow.to.as_path()),
        (Path::new("src/outer/inner.rs"), Path::new("shared/deep.rs"))
    );
    let missing = arrows_of(&target(TargetKind::Shipped), &reader(&files[..1])).unwrap_err().to_string();
    assert!(missing.starts_with("src/outer/inner/mod.rs"), "{missing}");
}

#[test]
fn a_name_with_two_meanings_leads_to_both() {
    let files = [
        ("src/lib.rs", "mod a; mod door;"),
        ("src/a.rs", "use crate::door::Thing;"),
        (
            "src/door/mod.rs",
            "#[cfg(unix)] mod x; #[cfg(windows)] mod y; #[cfg(unix)] pub use x::Thing; #[cfg(windows)] pub use y::Thing;",
        ),
        ("src/door/x.rs", "pub struct Thing;"),
        ("src/door/y.rs", "pub struct Thing;"),
    ];
    assert_eq!(arrows(&files), ["a.rs > door/x.rs", "a.rs > door/y.rs"]);
}

#[test]
fn names_behind_globs_that_cannot_be_listed_are_not_the_facades() {
    let files = [
        ("src/lib.rs", "mod a; mod door; mod kind;"),
        ("src/a.rs", "use crate::door::{One, Elsewhere};"),
        ("src/door.rs", "pub use crate::kind::Kind::*; pub use blake3::*;"),
        ("src/kind.rs", "pub enum Kind { One }"),
    ];
    assert_eq!(arrows(&files), ["a.rs > kind.rs"]);
}

#[test]
fn imports_in_a_ring_end() {
    let files = [
        ("src/lib.rs", "mod a; mod b; use a::X; use wire::wire;"),
        ("src/a.rs", "pub use crate::b::*; pub use crate::b::none::*;"),
        ("src/b.rs", "pub use crate::a::*; pub use crate::b::X; pub use crate::a::none::*;"),
    ];
    // Nobody defines it: what is reported does not matter, that it ends does.
    arrows(&files);
}

#[test]
fn other_crates_are_seen_wherever_they_are_named() {
    let files = [
        ("src/lib.rs", "mod a; pub use engine::Ring; #[cfg(test)] mod tests { use tokio::main; }"),
        (
            "src/a.rs",
            "use ::glommio as runtime; use gpu::*; fn f(transport: u8) { info!(bus::X); node::call() }",
        ),
    ];
    assert_eq!(crates(&files, TargetKind::Shipped), ["bus", "glommio", "gpu", "node", "engine", "tokio?"]);
    assert_eq!(crates(&[("src/lib.rs", "use gpu::Prover;")], TargetKind::Development), ["gpu?"]);
}

#[test]
fn an_arrow_upwards_is_refused() {
    let ours =
        ["consensus", "engine", "gpu", "transport", "control", "cluster", "devnet", "bus"].map(String::from);
    let refused = |from, to, in_tests| refusal(from, to, in_tests, &ours).is_some();
    for (from, to) in [
        ("consensus", "engine"),
        ("engine", "transport"),
        ("gpu", "transport"),
        ("transport", "gpu"),
        ("control", "engine"),
        ("bus", "cluster"),
        ("cluster", "devnet"),
        ("transport", "glommio"),
        ("control", "tokio"),
        ("control", "async-nats"),
        ("control", "futures_util"),
        ("nobody", "consensus"),
    ] {
        assert!(refused(from, to, false), "{from} {to}");
    }
    for (from, to) in [
        ("engine", "consensus"),
        ("engine", "glommio"),
        ("engine", "engine"),
        ("bus", "control"),
        ("bus", "async-nats"),
        ("control", "thiserror"),
        ("nobody", "serde"),
    ] {
        assert!(!refused(from, to, false), "{from} {to}");
    }
    assert!(!refused("cluster", "devnet", true));
}

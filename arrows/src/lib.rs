//! Which file imports which, read from the sources alone.
//!
//! ```text
//!   cargo metadata ─▶ workspace ─▶ rules: which crate may depend on which
//!                        │ roots of targets
//!                        ▼
//!   *.rs ─▶ names ─▶ modules ─▶ resolve ─▶ circles: files that import each other
//!           (one file)  (one target)
//! ```
//! Owns: the order of the crates (`rules`) and what counts as an import (`names`). Never: what the compiler says better;
//! a name that cannot be found here is passed over.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod circles;
mod modules;
mod names;
mod resolve;
mod rules;
mod workspace;

pub use self::{
    circles::{Arrow, Circle, circles_among},
    modules::{ReadError, ReadFile, Target, TargetKind},
    resolve::{CrateUse, arrows_of, crates_named},
    rules::{SEATS, Seat, refusal},
    workspace::{Dependency, DependencyKind, Package, WorkspaceError, read_workspace},
};

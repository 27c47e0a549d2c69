//! What the machine looks like, and which threads belong on which of its cores.
//!
//! ```text
//! hwloc: this machine, an XML file, a description ─┐
//! /sys, where hwloc is not built in ───────────────┴─▶ Machine ─▶ placement::plan(machine, what runs here) ─▶ Plan ─▶ table, SVG, JSON
//! ```
//!
//! - [`Machine`] is plain data. How it was found out stays in [`detect`], and hwloc's types in one module there.
//! - [`placement::plan`] is a pure function: the same machine and the same roles give the same plan, on every machine and in every
//!   process, which is how processes on one host come to divide its cores without talking to each other.
//! - [`checks`] looks at settings of the running system that cost speed; [`show`] draws machine and plan.
//!
//! Nothing here starts, binds or moves a thread.

pub mod checks;
pub mod cpus;
pub mod cuda;
pub mod detect;
pub mod machine;
pub mod placement;
pub mod show;

pub use cpus::Cpus;
pub use detect::MachineError;
pub use machine::Machine;
pub use placement::{Plan, Request, Role, plan};

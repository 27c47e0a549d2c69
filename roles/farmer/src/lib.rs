//! What the command `autonomys-farmer` does beside running roles: a whole cluster in one process, benchmarks, golden vectors, scrubbing, looking at farms
//! and removing them.
#![deny(missing_docs)]

pub mod benchmark;
pub mod conformance;
pub mod dev;
pub mod info;
pub mod scrub;
pub mod wipe;

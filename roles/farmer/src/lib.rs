//! What the command `autonomys-farmer` does beside running roles: a whole cluster in one process, benchmarks, golden vectors, scrubbing.
#![deny(missing_docs)]

pub mod benchmark;
pub mod conformance;
pub mod dev;
pub mod scrub;

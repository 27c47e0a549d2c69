//! What operators do with a cluster, as clients of its bus.

pub mod cache_benchmark;
pub mod farms;
pub mod presence;
pub mod reinitialize;

//! The development node over real WebSockets, with real segments and real solutions.
//!
//! All tests share one stored chain: archiving its segment takes half a minute. Each works on a copy of its own (the segment
//! hard-linked, so that a copy costs nothing).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod chain;
mod client;
mod farm;

mod farming;
mod methods;
mod process;
mod strict;

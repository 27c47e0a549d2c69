//! The development node over real WebSockets, with real segments and real solutions.
//!
//! All tests share one stored chain, each works on a copy of its own.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod chain;
mod client;
mod farm;
#[path = "../shared/stored_chain.rs"]
mod stored_chain;

mod farming;
mod methods;
mod process;
mod strict;

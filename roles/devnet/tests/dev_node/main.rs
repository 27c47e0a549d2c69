//! The development node over real WebSockets, with real segments and real solutions.
//!
//! All tests share one stored chain, each works on a copy of its own.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../shared_tests/chain.rs"]
mod chain;
mod client;
mod farm;
mod fast;
#[path = "../../../shared_tests/stored_chain.rs"]
mod stored_chain;

mod farming;
mod methods;
mod on_request;
mod peers;
mod strict;

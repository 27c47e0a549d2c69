//! Members of one cluster in one process, on the in-process bus, over real sockets.

#![allow(clippy::unwrap_used, reason = "tests")]

mod caches;
mod house;
mod members;
mod pieces;
mod proof_server;
mod refill;
#[path = "../../../shared_tests/settings.rs"]
mod settings;
mod wrong;
